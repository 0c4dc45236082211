package core

import (
	"net/netip"
	"time"

	"bittern/peer/wire"
	"bittern/piece"
)

// A LinkID names one connection for the whole run. The shell numbers its connections and never
// uses a number twice, so that a late event of a closed connection cannot hit a new one.
type LinkID uint32

// An EventOp says what an [Event] tells the core.
type EventOp uint8

// What can happen to a swarm. The comment names the fields of [Event] that count.
const (
	Joined     EventOp = iota // a connection has shaken hands: Link, Remote
	Message                   // a message came in, other than a block's data: Link, Msg
	Idle                      // messages came in that say nothing, such as keep-alives: Link, N (how many), Bytes (of them all)
	BlockIn                   // a block came in, its data held by the shell: Link, Msg (a Piece)
	Left                      // the connection is closed: Link, Err (why)
	Verified                  // a piece's hash is known: Piece, OK, Sums
	Stored                    // every wanted file stands complete under its final name
	Sent                      // block data was handed to the kernel: Link, N (bytes)
	DialFailed                // a Dial effect came to nothing: Addr, Local, Err
	Found                     // a source gave addresses: Addrs, Source
	Sources                   // what is left of the sources: OK = some still hope for peers
	Checked                   // a copy of the metadata was hashed: Piece (the number of the copy), OK, Sums (of its pieces)
	Supplied                  // the metadata was found elsewhere: no peer need give it
	Tick                      // Next() has come
)

// An Event is something that happened outside the core. It is one flat struct for all of them so
// that handing one over allocates nothing.
type Event struct {
	Op     EventOp
	Source Source
	OK     bool
	Local  bool // a dial failed on this side (no network, no file handle): it says nothing of the address
	Link   LinkID
	Msg    wire.Message
	Remote *Remote
	Addr   netip.AddrPort
	Addrs  []netip.AddrPort // the core keeps no reference to it
	Piece  int
	N      int
	Bytes  int
	// Sums are the SHA-1 sums of the blocks of a piece that failed, and of the next good
	// version of it. Nil otherwise.
	Sums [][20]byte
	Err  error
}

// A Remote is what the handshake told about the other end of a connection.
type Remote struct {
	ID       [20]byte
	Addr     netip.AddrPort
	Outgoing bool // we dialed
	Fast     bool // both ends speak the fast extension (BEP 6)
	Ext      bool // both ends speak the extension protocol (BEP 10)
	DHT      bool // it runs a DHT node (BEP 5)
}

// A Source says where an address came from.
type Source uint8

// The sources of addresses, the most trusted first.
const (
	SourceStatic       Source = iota // named by the user: never forgotten, retried soon
	SourceLocalTracker               // a tracker on this machine: may name loopback addresses
	SourceLSD                        // the local network: may name loopback addresses
	SourceTracker                    // a tracker elsewhere
	SourceMagnet                     // the magnet link itself
	SourceLocalDHT                   // a DHT of this machine alone: may name loopback addresses
	SourceDHT                        // the DHT, where anyone may say anything
	SourcePEX                        // a peer: within the core only, which judges by the peer's own address
)

func (s Source) String() string {
	return [...]string{"the user", "a local tracker", "the local network", "a tracker", "the magnet link", "a local DHT", "the DHT", "a peer"}[s]
}

// nearby reports whether a source may name loopback addresses. What peers say has been judged before.
func (s Source) nearby() bool {
	return s == SourceStatic || s == SourceLocalTracker || s == SourceLocalDHT || s == SourceLSD || s == SourcePEX
}

// An EffectOp says what an [Effect] wants done.
type EffectOp uint8

// What the core can ask for. The comment names the fields of [Effect] that count.
const (
	Send      EffectOp = iota // queue a message for a peer: Link, Msg
	Write                     // store the block that came with this very event: Block
	Forget                    // a stored block is not to be trusted, and will come again: Block
	Release                   // let go of the block that came with this very event
	ReadBlock                 // read a block and queue it for a peer: Link, Block
	Dial                      // connect: Addr
	Drop                      // close a connection, which the core has already forgotten: Link, Err
	Done                      // the swarm has ended: Outcome
	Completed                 // every wanted piece is verified; seeding goes on
	Node                      // a peer says that its DHT node is there: Addr
	Check                     // hash a copy of the metadata: Number, Parts
	Explain                   // a decision was made that may go into a log: Note
	Resolved                  // the copy that was last found good is the metadata
)

// An Effect is something the shell is to do. Effects are values: they carry no buffers, because
// only the block of the event being handled can be meant.
type Effect struct {
	Op      EffectOp
	Outcome Outcome
	Link    LinkID
	Msg     wire.Message
	Block   piece.Block
	Addr    netip.AddrPort
	Number  int      // of a copy; of Done, how many pieces a super-seed has got to nobody
	Parts   [][]byte // of a copy, in order; they do not change
	Note    *Note
	Err     error
}

// An Outcome is why a swarm ended.
type Outcome uint8

// The ways a swarm ends by its own decision.
const (
	Running       Outcome = iota // it has not
	Complete                     // every wanted piece is verified, and seeding was not asked for
	NoPeers                      // a time limit passed, or all sources failed, and nobody ever shook hands
	Stalled                      // no content byte came for the stall time-out
	OutOfTime                    // not complete within the time limit
	NoneUsable                   // every source has failed three times and no peer is left
	NoMetadata                   // there were peers, but none gave the metadata in time
	RatioReached                 // it was complete, and seeded as much as [Seeding] says,
	SeedTimeOver                 // as long,
	CopiesReached                // or until there were as many copies;
	SeedOutOfTime                // or until the time limit of everything
)

// Succeeded reports whether every wanted piece was verified when it ended.
func (o Outcome) Succeeded() bool {
	switch o {
	case Complete, RatioReached, SeedTimeOver, CopiesReached, SeedOutOfTime:
		return true
	}
	return false
}

func (o Outcome) String() string {
	return [...]string{"running", "complete", "no peers", "stalled", "out of time", "no source left", "no metadata",
		"ratio reached", "seed time over", "copies reached", "time limit reached"}[o]
}

// A Snapshot is the state of a swarm for people and scripts to look at.
type Snapshot struct {
	Done, Total int64 // bytes of wanted content: verified, in all
	Left        int64 // bytes of wanted pieces not yet verified
	Missing     int64 // bytes not yet verified, wanted or not: what trackers are told is left, lest they take a partial seed for complete (BEP 21)
	Received    int64 // block bytes received, wasted ones included
	Uploaded    int64 // block bytes sent
	Wasted      int64 // block bytes thrown away: not asked for, twice, or of failed pieces
	DownRate    int64 // bytes/s
	UpRate      int64 // bytes/s
	Peers       int   // connected
	Seeds       int   // of them, those that have everything
	Liars       int   // peers banned for corrupt data
	Copies      int   // other complete copies known: peers that said in this run that they have everything
	Dialing     int
	Known       int  // addresses we could try
	Met         int  // handshakes completed in this run
	Fetching    bool // the metadata is not there yet: nothing is known of the content
	Asked       int  // peers that owe us metadata
	Seeding     bool
	Since       time.Time // of the last content byte; zero before the first
}
