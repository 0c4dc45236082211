package app

import (
	"net/netip"
	"time"

	"bittern/cmd/internal/sockets"
	"bittern/cmd/internal/swarm/core"
	"bittern/cmd/internal/ui"
)

// A Shown says how much a long-running command tells, and where.
type Shown struct {
	Mode    ui.Mode // how progress is shown
	JSON    bool    // events on stdout instead of the result
	Quiet   int     // 1: only errors, 2: nothing
	Verbose int     // 1: what happens, 2: to every peer
	Log     string  // a file that gets the log too, in full; "" for none
}

// A Network says how to reach peers, and how to be reached.
type Network struct {
	Version      string        // of this program, as peers and trackers are told
	Ports        sockets.Ports // to listen on, the first that is free; the zero value means any
	Interface    netip.Addr    // listen on it and connect from it; the zero Addr means any
	Only4, Only6 bool          // one address family only; not both
	MaxPeers     int           // connections, at most; fewer where the system allows few open files
	MaxDownload  int64         // bytes/s of all of them; 0 means no limit
	MaxUpload    int64         // likewise; [NoUpload] means none at all
	Trackers     []string      // more announce URLs, each a tier of its own
	NoTrackers   bool          // not even the torrent's
	// MetadataTimeout is how long the metadata of a magnet link is looked for; 0 means for ever.
	MetadataTimeout time.Duration
	Peers           []string // HOST:PORT to connect to
	DHT             bool     // find peers through the DHT, unless the torrent is private
	LSD             bool     // on the local network, likewise
	PEX             bool     // by asking peers, likewise
	ServesTracker   bool     // a tracker runs beside, which needs sockets too
	DHTBootstrap    []string // HOST:PORT of the nodes to begin from; none means those of the public DHT
}

// NoUpload as Network.MaxUpload means that nothing is uploaded.
const NoUpload = core.NoUpload

// private is n for a private torrent, whose peers come from its trackers and the user only: clients "must only announce
// themselves to the private tracker" (BEP 27).
func (n Network) private() Network {
	n.DHT, n.LSD, n.PEX = false, false, false
	return n
}

// policy is what n says about sockets, all of them.
func (n Network) policy() sockets.Policy {
	return sockets.Policy{Interface: n.Interface, Only4: n.Only4, Only6: n.Only6}
}

// A SeedUntil says how long to upload after completion; the first condition that is met counts.
type SeedUntil struct {
	Forever bool
	Ratio   float64       // uploaded / size; 0 means no such condition
	Time    time.Duration // 0 means no such condition
	Copies  int           // other complete copies that are known, at most [MaxCopies]; 0 means no such condition
}

// MaxCopies is the most other copies that can be waited for.
const MaxCopies = core.MaxCopies

// A SuperSeeding says when to show each peer a piece at a time (BEP 16); the zero value leaves that to the swarm.
type SuperSeeding = core.SuperSeeding

// The values of a SuperSeeding.
const (
	SuperAuto   = core.SuperAuto
	SuperAlways = core.SuperAlways
	SuperNever  = core.SuperNever
)

// GetOptions are what `get` can be told.
type GetOptions struct {
	Source     string // path, "-", http(s) URL of a .torrent, magnet link or info-hash
	Dir        string // target folder; "" means the current one
	Output     string // new name of the file or root folder; "" keeps the torrent's
	Select     string // files to download, as metainfo.Select reads it; "" means all
	Exclude    string // files not to download
	List       bool   // list the files and end
	Overwrite  bool   // adopt files in the way
	Sequential bool   // pieces in order

	SaveTorrent  string // where to keep the .torrent; "" means nowhere
	MetadataOnly bool   // end then

	MaxTime      time.Duration // give up; 0 means never
	StallTimeout time.Duration // give up when no content byte came for so long; 0 means never

	SuperSeed SuperSeeding // once all is there

	Network
	SeedUntil
	Shown
}

// SeedOptions are what `seed` can be told.
type SeedOptions struct {
	Source       string // as for get, or a file or folder to make a torrent of
	Dir          string // where the content is; "" means the current folder
	Output       string // its name there, if it is not the torrent's
	ServeTracker string // address for the embedded tracker; "" means none
	SuperSeed    SuperSeeding

	Network
	SeedUntil
	Shown
}
