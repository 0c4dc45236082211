package piece

// A Reason says why blocks of a piece were given to be asked for, for a log.
type Reason uint8

// The reasons. Those before Own opened the piece.
const (
	Random    Reason = iota + 1 // any that nobody has begun, because we have little to trade yet
	Rarest                      // the rarest that nobody has begun
	Suggested                   // the peer suggests it, and it is no less rare
	InOrder                     // the lowest that nobody has begun
	Early                       // before its turn, because few have it
	Allowed                     // the peer chokes us, and serves it all the same
	Again                       // it has failed
	Own                         // the peer goes on with it
	Adopted                     // it was nobody's, or a slow peer's that may be shared
	Taken                       // it was a slow peer's
	Helped                      // it is another peer's, and nothing else is to be had
	Endgame                     // all that is left is asked of others
)

func (r Reason) String() string {
	return [...]string{
		"", "random first", "rarest first", "suggested", "in order", "early, for trade", "allowed fast", "failed before",
		"its own", "nobody's", "taken over", "helps its owner", "endgame",
	}[r]
}

// claimReasons says why free blocks of a piece that was open before are given.
var claimReasons = [...]Reason{owns: Own, adopts: Adopted, takes: Taken, helps: Helped}

// found returns r if ok is true, else no reason.
func found(r Reason, ok bool) Reason {
	if ok {
		return r
	}
	return 0
}

// Reason returns why the blocks of piece i that Next gave last were given; 0 if the piece is not open.
func (s *Scheduler) Reason(i int) Reason {
	s.layout.check(i)
	if o := s.opened(i); o != nil {
		return o.reason
	}
	return 0
}
