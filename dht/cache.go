package dht

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"bittern/bencode"
	"bittern/dht/krpc"
	"bittern/peer/compact"
)

// The cache is a bencoded dictionary of two lists of nodes, "nodes" and "nodes6", as the DHT's own packets have them (BEP 5
// "Contact Encoding", BEP 32). Whoever writes last wins, which costs nothing: any of the processes that share the file knows
// nodes that live. Nobody ever sees a file that is half written.

// maxCache bounds what is read of the file, in bytes: more than two times 400 nodes need.
const maxCache = 64 << 10

// maxOthers bounds the nodes that are kept of a network that a run takes no part in.
const maxOthers = 400

const (
	nodeSize  = 20 + compact.Size4
	nodeSize6 = 20 + compact.Size6
)

// load returns the nodes in the cache. A file that is missing or junk holds none.
func (n *Node) load() []krpc.Contact {
	if n.cfg.Cache == "" {
		return nil
	}
	nodes, err := readCache(n.cfg.Cache)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.cfg.Log.Debug("no DHT nodes from the last run", "error", err)
	}
	return nodes
}

func readCache(name string) ([]krpc.Contact, error) {
	switch info, err := os.Stat(name); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(): // a pipe would keep us waiting
		return nil, errors.New("not a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCache))
	if err != nil {
		return nil, err
	}
	return decodeNodes(data)
}

// decodeNodes reads a cache; nodes with an address that none can have are left out.
func decodeNodes(data []byte) ([]krpc.Contact, error) {
	d, err := bencode.DecodeTolerant(data, bencode.Limits{})
	if err != nil {
		return nil, err
	}
	nodes, _ := d.Get("nodes").Bytes()
	nodes6, _ := d.Get("nodes6").Bytes()
	var out []krpc.Contact
	for ; len(nodes) >= nodeSize; nodes = nodes[nodeSize:] {
		out = appendUsable(out, nodes[:20], compact.Parse4(nodes[20:nodeSize]))
	}
	for ; len(nodes6) >= nodeSize6; nodes6 = nodes6[nodeSize6:] {
		out = appendUsable(out, nodes6[:20], compact.Parse6(nodes6[20:nodeSize6]))
	}
	return out, nil
}

func appendUsable(dst []krpc.Contact, id []byte, addrs []netip.AddrPort) []krpc.Contact {
	for _, a := range addrs {
		if compact.Usable(a) {
			dst = append(dst, krpc.Contact{ID: krpc.ID(id), Addr: a})
		}
	}
	return dst
}

// encodeNodes returns what decodeNodes reads.
func encodeNodes(nodes []krpc.Contact) []byte {
	var four, six []byte
	for _, c := range nodes {
		if c.Addr.Addr().Is4() {
			four = compact.Append4(append(four, c.ID[:]...), c.Addr)
		} else {
			six = compact.Append6(append(six, c.ID[:]...), c.Addr)
		}
	}
	return bencode.Append(nil, map[string]any{"nodes": four, "nodes6": six})
}

// toKeep returns the nodes for the cache; loop only. A run that knows no living node knows nothing worth keeping. One without
// IPv6, say, leaves what others know of it.
func (n *Node) toKeep(now time.Time) []krpc.Contact {
	if ipv4, ipv6 := n.node.Nodes(now); ipv4+ipv6 == 0 {
		return nil
	}
	return append(n.node.Save(now), n.others[:min(len(n.others), maxOthers)]...)
}

// save writes nodes to the cache; if there are none, what is there stays.
func (n *Node) save(nodes []krpc.Contact) {
	if n.cfg.Cache == "" || len(nodes) == 0 {
		return
	}
	if err := writeCache(n.cfg.Cache, encodeNodes(nodes)); err != nil {
		n.cfg.Log.Debug("DHT nodes not kept for the next run", "error", err)
	}
}

// writeCache replaces the file at once.
func writeCache(name string, data []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
