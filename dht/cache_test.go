package dht

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"bittern/dht/krpc"
)

// Nodes that one run knew are where the next begins, with no bootstrap node left.
func TestCache(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		cache := filepath.Join(t.TempDir(), "new", "folder", "nodes")
		nodes := w.crowd(10)
		if _, _, err := search(t.Context(), nodes[3], Announce{Port: 4000}); err != nil {
			t.Fatal(err)
		}
		n, stop := w.run(hostAt(100), Config{Bootstrap: []string{hostAt(0).String()}, Cache: cache})
		if _, _, err := search(t.Context(), n, Announce{}); err != nil {
			t.Fatal(err)
		}
		self := selfOf(t, w)
		stop()
		kept, err := readCache(cache)
		if err != nil || len(kept) < 5 {
			t.Fatalf("kept %v, %v", kept, err)
		}
		for _, c := range kept {
			if c.ID == self || c.Addr == hostAt(100) {
				t.Errorf("it keeps itself: %v", c)
			}
		}
		again, _ := w.run(hostAt(101), Config{Cache: cache})
		begun := time.Now()
		found, _, err := search(t.Context(), again, Announce{})
		if took := time.Since(begun); err != nil || len(found) != 1 || took > time.Second {
			t.Errorf("the next run found %v after %v, %v", found, took, err)
		}
	})
}

// selfOf returns the id under which the node at hostAt(100) answers.
func selfOf(t *testing.T, w *world) krpc.ID {
	s := w.stranger(hostAt(200))
	m, ok := s.query(hostAt(100), krpc.Message{ReadOnly: true, Query: krpc.Query{Method: krpc.Ping}})
	if !ok {
		t.Fatal("no answer")
	}
	return m.Reply.ID
}

// A run that ends in the middle of its first search keeps the nodes that this has met.
func TestCacheShortRun(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		cache := filepath.Join(t.TempDir(), "nodes")
		nodes := w.crowd(10)
		if _, _, err := search(t.Context(), nodes[3], Announce{Port: 4000}); err != nil {
			t.Fatal(err)
		}
		n, stop := w.run(hostAt(100), Config{Bootstrap: []string{hostAt(0).String()}, Cache: cache})
		go search(t.Context(), n, Announce{})
		time.Sleep(45 * time.Millisecond) // two steps of 20 each
		stop()
		if kept, err := readCache(cache); err != nil || len(kept) < 3 {
			t.Errorf("kept %v, %v", kept, err)
		}
	})
}

// A long run keeps its nodes before it ends, for it may not end in order.
func TestCacheMeanwhile(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		cache := filepath.Join(t.TempDir(), "nodes")
		w.run(hostAt(0), Config{})
		n, _ := w.run(hostAt(1), Config{Cache: cache})
		n.Ping(hostAt(0))
		time.Sleep(saveEvery + 2*time.Second)
		n.saves.Wait()
		if kept, err := readCache(cache); err != nil || len(kept) != 1 || kept[0].Addr != hostAt(0) {
			t.Errorf("kept %v, %v", kept, err)
		}
	})
}

// A run without IPv6 leaves the nodes that others know there.
func TestCacheOfOthers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		cache := filepath.Join(t.TempDir(), "nodes")
		six := krpc.Contact{ID: id, Addr: netip.MustParseAddrPort("[2001:db8::1]:6")}
		if err := os.WriteFile(cache, encodeNodes([]krpc.Contact{six, {ID: id, Addr: hostAt(7)}}), 0o600); err != nil {
			t.Fatal(err)
		}
		w.run(hostAt(0), Config{})
		n, stop := w.run(hostAt(1), Config{Cache: cache})
		n.Ping(hostAt(0))
		time.Sleep(time.Minute)
		stop()
		kept, err := readCache(cache)
		if err != nil || len(kept) != 2 || kept[0].Addr != hostAt(0) || kept[1] != six {
			t.Errorf("kept %v, %v", kept, err)
		}
	})
}

// A run that met nobody, with the network away perhaps, leaves what is there.
func TestCacheLeftAlone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		cache := filepath.Join(t.TempDir(), "nodes")
		was := encodeNodes([]krpc.Contact{{ID: id, Addr: hostAt(7)}})
		if err := os.WriteFile(cache, was, 0o600); err != nil {
			t.Fatal(err)
		}
		n, stop := w.run(hostAt(1), Config{Cache: cache})
		if _, r, err := search(t.Context(), n, Announce{}); err != nil || r.Answered != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		time.Sleep(2 * saveEvery)
		stop()
		if got, err := os.ReadFile(cache); err != nil || !bytes.Equal(got, was) {
			t.Errorf("it now holds %q, %v", got, err)
		}
	})
}

// Nobody minds a cache that cannot be written, or read.
func TestCacheUnusable(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w.run(hostAt(0), Config{})
		for i, cache := range []string{filepath.Join(file, "nodes"), dir} {
			n, stop := w.run(hostAt(i+1), Config{Cache: cache})
			n.Ping(hostAt(0))
			time.Sleep(time.Second)
			stop()
		}
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || !slices.Equal(left, []string{file}) {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// What stands in the file is believed only so far as it makes sense.
func TestCacheJunk(t *testing.T) {
	four, six := netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("[2001:db8::1]:6")
	nodes := []krpc.Contact{{ID: id, Addr: four}, {ID: krpc.ID(hash), Addr: six}}
	good := encodeNodes(nodes)
	for _, tt := range []struct {
		name string
		data []byte
		want []krpc.Contact
	}{
		{"as written", good, nodes},
		{"empty", nil, nil},
		{"cut short", good[:len(good)-1], nil},
		{"another kind", []byte("le"), nil},
		{"nothing in it", []byte("de"), nil},
		{"of the wrong kind", []byte("d5:nodesi1e6:nodes6lee"), nil},
		{"part of a node", []byte("d5:nodes25:" + string(make([]byte, 25)) + "e"), nil},
		{"no port", encodeNodes([]krpc.Contact{{ID: id, Addr: netip.AddrPortFrom(four.Addr(), 0)}}), nil},
		{"not one host", encodeNodes([]krpc.Contact{{ID: id, Addr: netip.MustParseAddrPort("224.0.0.1:5")}}), nil},
		{"deep", bytes.Repeat([]byte("l"), 1<<20), nil},
	} {
		if got, err := decodeNodes(tt.data); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	file := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 4*maxCache), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readCache(file); got != nil || err == nil {
		t.Errorf("a large file: %v, %v", got, err)
	}
}

// Processes that write and read at once see whole files only.
func TestCacheShared(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nodes")
	var wg sync.WaitGroup
	for writer := range 4 {
		var nodes []krpc.Contact
		for i := range 100 + writer*50 {
			nodes = append(nodes, krpc.Contact{ID: krpc.ID{byte(writer)}, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, 3, byte(i)}), 1)})
		}
		wg.Go(func() {
			for range 50 {
				if err := writeCache(file, encodeNodes(nodes)); err != nil {
					t.Error(err)
				}
				got, err := readCache(file)
				if err != nil || len(got) == 0 || len(got) != 100+int(got[0].ID[0])*50 {
					t.Errorf("read %d nodes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// FuzzCache: what is read of a file can be written, and read back the same.
func FuzzCache(f *testing.F) {
	f.Add(encodeNodes([]krpc.Contact{{ID: id, Addr: netip.MustParseAddrPort("1.2.3.4:5")}, {ID: id, Addr: netip.MustParseAddrPort("[2001:db8::1]:6")}}))
	f.Add([]byte(fmt.Sprintf("d5:nodes52:%se", make([]byte, 52))))
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, err := decodeNodes(data)
		if err != nil {
			return
		}
		if again, err := decodeNodes(encodeNodes(nodes)); err != nil || !slices.Equal(again, nodes) {
			t.Errorf("%v became %v, %v", nodes, again, err)
		}
	})
}
