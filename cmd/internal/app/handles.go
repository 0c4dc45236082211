package app

// A handleBudget shares out the files and sockets that the system lets this process have open, so that
// with few of them there are fewer peers, and never too few handles for the content.
type handleBudget struct {
	files   int // open at once by the storage
	peers   int // connections
	pending int // inbound connections that have not shaken hands
}

const (
	// ownHandles are those that a run needs besides content and peers: the standard streams, the
	// log, the runtime's poller, listeners, the DHT, trackers, folders and the lock.
	ownHandles = 22

	maxFiles   = 32  // that the storage keeps open
	maxPending = 256 // inbound connections that have not shaken hands: an office may come all at once
)

// shareHandles divides a limit on open handles; 0 or less means no limit. At most peers connections are
// wanted.
func shareHandles(limit, peers int) handleBudget {
	b := handleBudget{files: maxFiles, peers: peers, pending: maxPending}
	if limit <= 0 {
		return b
	}
	left := max(0, limit-ownHandles)
	b.files = min(b.files, max(2, left/3))
	left = max(0, left-b.files)
	b.pending = min(b.pending, max(1, left/4))
	b.peers = min(b.peers, max(1, left-b.pending))
	return b
}
