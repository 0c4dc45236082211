package discover

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bittern/dht"
	"bittern/peer/simnet"
)

// lone is a resolver for nodes that know their bootstrap nodes by number.
func lone(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("no names here")
}

// dhtNode returns a node on a network in memory, at the i-th address of a range that is for tests (RFC 2544), which begins from
// the first.
func dhtNode(t *testing.T, network *simnet.Network, i byte) *dht.Node {
	at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, i}), 6881) }
	c, err := network.ListenPacket(at(i))
	if err != nil {
		t.Fatal(err)
	}
	return dht.New(dht.Config{IPv4: c, Bootstrap: []string{at(0).String()}, Lookup: lone})
}

// crowd runs DHT nodes 0 to n-1 until the test ends.
func crowd(t *testing.T, network *simnet.Network, n byte) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range n {
		node := dhtNode(t, network, i)
		wg.Go(func() { node.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	time.Sleep(time.Minute)
}

// A peer that announces is found by one that looks; it announces again in time, and looks again, sooner if it needs peers.
func TestDHT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		crowd(t, network, 10)
		var mu sync.Mutex
		var at []time.Duration
		begun := time.Now()
		source := func(i byte, port uint16, e *emitted) *DHT {
			return NewDHT(DHTConfig{
				Node: dhtNode(t, network, i), InfoHash: [20]byte{7}, Loopback: true, Emit: e.emit,
				Announce: func() dht.Announce {
					mu.Lock()
					defer mu.Unlock()
					if i == 100 {
						at = append(at, time.Since(begun).Truncate(time.Second))
					}
					return dht.Announce{Port: port}
				},
			})
		}
		var e, other emitted
		d := source(100, 4000, &e)
		d.watch = watch{addrs: func() ([]string, error) {
			if time.Since(begun) > 90*time.Minute {
				return []string{"192.0.2.2"}, nil
			}
			return []string{"192.0.2.1"}, nil
		}, wall: time.Now}
		stop := running(t, d)
		time.Sleep(2 * time.Second)
		stopOther := running(t, source(101, 0, &other))
		time.Sleep(58 * time.Second)
		stopOther()
		if want := []string{"DHT[198.18.0.100:4000]"}; !slices.Equal(other.got, want) {
			t.Errorf("found %v, want %v", other.got, want)
		}
		time.Sleep(39 * time.Minute) // it is due at 0, 15 and 30 minutes
		for range 14 {               // from minute 40 on it needs peers for a while
			d.NeedPeers()
			time.Sleep(45 * time.Second)
		}
		time.Sleep(50 * time.Minute)
		stop()
		mu.Lock()
		defer mu.Unlock()
		var minutes []float64
		for _, a := range at {
			minutes = append(minutes, a.Round(time.Minute).Minutes())
		}
		// While it is hungry at least 30 s, 1, 2 and 4 minutes pass; then it is 15 again, until the network changes.
		want := []float64{0, 15, 30, 40, 41, 42, 45, 49, 64, 79, 90}
		if !slices.Equal(minutes, want) {
			t.Errorf("searched at minutes %v, want %v", minutes, want)
		}
	})
}

// Where the DHT knows nobody but ourselves, hope ends with the third search; it comes back with a peer.
func TestDHTFindsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		crowd(t, network, 10)
		patient := false
		source := func(i byte, port uint16) *DHT {
			var e emitted
			return NewDHT(DHTConfig{
				Node: dhtNode(t, network, i), InfoHash: [20]byte{7}, Loopback: true, Emit: e.emit,
				Patient:  func() bool { return patient },
				Announce: func() dht.Announce { return dht.Announce{Port: port} },
			})
		}
		d := source(100, 4000)
		defer running(t, d)()
		begun := time.Now()
		hopes := func() bool {
			time.Sleep(time.Second)
			d.NeedPeers()
			synctest.Wait()
			return !d.Exhausted()
		}
		for hopes() && time.Since(begun) < time.Hour {
		}
		if got := time.Since(begun); got < 45*time.Second || got > time.Minute {
			t.Errorf("hope ended after %v", got)
		}
		patient = true
		if d.Exhausted() {
			t.Error("exhausted for one who waits")
		}
		patient = false
		defer running(t, source(101, 5000))()
		for begun = time.Now(); !hopes() && time.Since(begun) < time.Hour; {
		}
		if got := time.Since(begun); got > lastHungry {
			t.Errorf("hope came back after %v", got)
		}
	})
}

// Where no node answers, hope ends after the third try; it comes back with a node.
func TestDHTWithoutNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		var e emitted
		d := NewDHT(DHTConfig{
			Node: dhtNode(t, network, 100), InfoHash: [20]byte{7}, Emit: e.emit, Announce: func() dht.Announce { return dht.Announce{} },
		})
		stop := running(t, d)
		time.Sleep(30 * time.Second)
		if synctest.Wait(); d.Exhausted() {
			t.Error("no hope after two failures")
		}
		time.Sleep(10 * time.Second)
		if synctest.Wait(); !d.Exhausted() {
			t.Error("still hope after three failures")
		}
		crowd(t, network, 5)
		time.Sleep(2 * time.Minute)
		if synctest.Wait(); d.Exhausted() {
			t.Error("no hope, with nodes")
		}
		stop()
		if e.got != nil {
			t.Errorf("found %v", e.got)
		}
	})
}
