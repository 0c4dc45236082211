package app

import "log/slog"

// handles is what the system leaves to a run of this kind.
func (n Network) handles() handleBudget {
	return shareHandles(handleLimit(), n.MaxPeers, n.ServesTracker)
}

// warnOfHandles says, once for a command, that there will be fewer peers than the user wants.
func (n Network) warnOfHandles(log *slog.Logger) {
	if b := n.handles(); b.peers < n.MaxPeers {
		log.Warn("few open files are allowed: fewer peers", "files", handleLimit(), "peers", b.peers, "wanted", n.MaxPeers)
	}
}

// A handleBudget shares out the files and sockets that the system lets this process have open, so that
// with few of them there are fewer peers, and never too few handles for the content.
type handleBudget struct {
	files   int // open at once by the storage
	peers   int // connections
	pending int // inbound connections that have not shaken hands
	tracker int // connections to a tracker that runs beside
}

const (
	// ownHandles are those that a run needs besides content and peers: the standard streams, the
	// log, the runtime's poller, listeners, the DHT, trackers, folders and the lock.
	ownHandles = 22

	maxFiles   = 32  // that the storage keeps open
	maxTracker = 256 // connections to a tracker that runs beside
	maxPending = 256 // inbound connections that have not shaken hands: an office may come all at once
)

// shareHandles divides a limit on open handles; 0 or less means no limit. At most peers connections are
// wanted. Whether a tracker runs beside makes a difference to them.
func shareHandles(limit, peers int, tracker bool) handleBudget {
	b := handleBudget{files: maxFiles, peers: peers, pending: maxPending}
	if tracker {
		b.tracker = maxTracker
	}
	if limit <= 0 {
		return b
	}
	left := max(0, limit-ownHandles)
	b.files = min(b.files, max(2, left/3))
	left = max(0, left-b.files)
	b.pending = min(b.pending, max(1, left/4))
	if tracker {
		b.tracker = min(b.tracker, max(1, left/4))
	}
	b.peers = min(b.peers, max(1, left-b.pending-b.tracker))
	return b
}
