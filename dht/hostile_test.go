package dht

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"bittern/dht/krpc"
	"bittern/dht/node"
)

// Junk, packets of 64 kB and answers that nobody asked for change nothing: the node knows nobody afterwards, has said
// nothing, and serves.
func TestJunk(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		n, _ := w.run(hostAt(0), Config{})
		bad := w.stranger(hostAt(1))
		random := rand.New(rand.NewPCG(1, 1))
		answer := krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: []byte("aa"), Reply: krpc.Reply{
			ID: id, Nodes: []krpc.Contact{{ID: id, Addr: hostAt(2)}}, Values: []netip.AddrPort{hostAt(3)},
		}})
		for _, packet := range [][]byte{
			nil, []byte("x"), []byte("de"), []byte("d1:y1:qe"), bytes.Repeat([]byte("l"), 1400), bytes.Repeat([]byte("d1:a"), 400),
			bytes.Repeat([]byte{'x'}, 65507), append(bytes.Repeat([]byte{'l'}, 32000), bytes.Repeat([]byte{'e'}, 32000)...),
			append([]byte("d1:x5000:"), make([]byte, 5100)...), []byte("d1:t2:aa1:y1:r1:rd2:id99999999999:"), answer,
		} {
			bad.send(hostAt(0), packet)
		}
		for range 500 {
			packet := bytes.Clone(answer)
			for range 1 + random.IntN(4) {
				packet[random.IntN(len(packet))] = byte(random.Uint32())
			}
			bad.send(hostAt(0), packet)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		if s := n.Status(); s.IPv4+s.IPv6 != 0 {
			t.Errorf("knows %+v", s)
		}
		if !w.stranger(hostAt(4)).answers(hostAt(0)) {
			t.Error("it has stopped to answer")
		}
	})
}

// An answer counts only from the address that was asked, and with the transaction of the query.
func TestForgedAnswer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		from  netip.AddrPort
		t     byte // how far the transaction is off
		taken bool
	}{{"as it should be", hostAt(1), 0, true}, {"from another", hostAt(2), 0, false}, {"another transaction", hostAt(1), 1, false}} {
		in(t, func(t *testing.T, w *world) {
			asked := w.stranger(hostAt(1))
			n, _ := w.run(hostAt(0), Config{})
			n.Ping(hostAt(1))
			buf := make([]byte, krpc.MaxReceived)
			size, _, err := asked.c.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatal(err)
			}
			m, err := krpc.Parse(buf[:size])
			if err != nil || len(m.T) < 2 {
				t.Fatalf("asked %q, %v", buf[:size], err)
			}
			m.T[0] += tt.t
			answerer := asked
			if tt.from != hostAt(1) {
				answerer = w.stranger(tt.from)
			}
			answerer.send(hostAt(0), krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: krpc.Reply{ID: id}}))
			time.Sleep(3 * time.Second)
			if got := n.Status().IPv4 == 1; got != tt.taken {
				t.Errorf("%s: taken %v", tt.name, got)
			}
		})
	}
}

// One who asks without end is not answered for a while, and does not keep others from being answered.
func TestFlood(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		public := netip.MustParseAddrPort("20.1.2.3:6881") // of the networks where each address is a host
		w.run(hostAt(0), Config{})
		bad, good := w.stranger(public), w.stranger(netip.MustParseAddrPort("20.9.9.9:1"))
		ping := krpc.Append(nil, &krpc.Message{Kind: krpc.IsQuery, T: []byte("zz"), Query: krpc.Query{Method: krpc.Ping, ID: id}})
		for range 3000 {
			bad.send(hostAt(0), ping)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if bad.answers(hostAt(0)) {
			t.Error("who floods is answered")
		}
		if !good.answers(hostAt(0)) {
			t.Error("another is not answered")
		}
		time.Sleep(6 * time.Minute)
		if !bad.answers(hostAt(0)) {
			t.Error("who has stopped to flood is still not answered")
		}
	})
}

// Without a round trip an answer is at most three times as large as the query, on the wire.
func TestAmplification(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.crowd(20)
		s := w.stranger(hostAt(100))
		for _, method := range []krpc.Method{krpc.Ping, krpc.FindNode, krpc.GetPeers, krpc.SampleInfohashes, "x"} {
			query := krpc.Append(nil, &krpc.Message{Kind: krpc.IsQuery, ReadOnly: true, T: []byte("t"), Query: krpc.Query{
				Method: method, ID: id, Target: krpc.ID(hash), Want: krpc.Want{N4: true, N6: true}, Scrape: true,
			}})
			s.send(hostAt(0), query)
			if err := s.c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			size, _, err := s.c.ReadFromUDPAddrPort(make([]byte, 65536))
			if err != nil || size > 3*len(query) {
				t.Errorf("%s: %d bytes to %d, %v", method, size, len(query), err)
			}
		}
	})
}

// An announce needs the token that was given to the same address; port 0 is no peer.
func TestForgedAnnounce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(hostAt(0), Config{})
		honest, forger := w.stranger(hostAt(1)), w.stranger(hostAt(2))
		m, ok := honest.query(hostAt(0), krpc.Message{Query: krpc.Query{Method: krpc.GetPeers, Target: krpc.ID(hash)}})
		if !ok || len(m.Reply.Token) == 0 {
			t.Fatalf("no token: %+v", m)
		}
		announce := krpc.Query{Method: krpc.AnnouncePeer, Target: krpc.ID(hash), Port: 7, Token: bytes.Clone(m.Reply.Token)}
		if m, ok := forger.query(hostAt(0), krpc.Message{Query: announce}); !ok || m.Kind != krpc.IsError {
			t.Errorf("another's token: %+v", m)
		}
		none := announce
		none.Token = nil
		if m, ok := honest.query(hostAt(0), krpc.Message{Query: none}); !ok || m.Kind != krpc.IsError {
			t.Errorf("no token: %+v", m)
		}
		zero := announce
		zero.Port = 0
		if m, ok := honest.query(hostAt(0), krpc.Message{Query: zero}); !ok || m.Kind != krpc.IsError {
			t.Errorf("port 0: %+v", m)
		}
		if m, ok := honest.query(hostAt(0), krpc.Message{Query: announce}); !ok || m.Kind != krpc.IsReply {
			t.Errorf("its own token: %+v", m)
		}
		time.Sleep(11 * time.Minute)
		if m, ok := honest.query(hostAt(0), krpc.Message{Query: announce}); !ok || m.Kind != krpc.IsError {
			t.Errorf("an old token: %+v", m)
		}
	})
}

// Nodes of one network fill neither the table nor what is kept for the next run, whatever they are called.
func TestOneNetwork(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		random := rand.New(rand.NewPCG(2, 2))
		n, _ := w.run(hostAt(0), Config{})
		for i := range 60 {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 1, 1, byte(i + 1)}), 6881)
			c := w.socket(at)
			named := krpc.IDFor(at.Addr(), random)
			if i%2 == 1 {
				named = krpc.RandomID(random) // does not fit its address
			}
			go answerPings(c, named)
			t.Cleanup(func() { c.Close() })
			n.Ping(at)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if s := n.Status(); s.IPv4 == 0 || s.IPv4 > 8 {
			t.Errorf("%d of 60 nodes of one network are in the table", s.IPv4)
		}
	})
}

// answerPings answers every query until the socket is closed.
func answerPings(c interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
}, self krpc.ID) {
	buf := make([]byte, krpc.MaxReceived)
	for {
		size, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if m, err := krpc.Parse(buf[:size]); err == nil && m.Kind == krpc.IsQuery {
			_, _ = c.WriteToUDPAddrPort(krpc.Append(nil, &krpc.Message{Kind: krpc.IsReply, T: m.T, Reply: krpc.Reply{ID: self}}), from)
		}
	}
}

// FuzzNode feeds datagrams to a whole node that others have just filled: whatever comes, it answers only who asked, within
// the limits of size, and keeps no more than it may.
func FuzzNode(f *testing.F) {
	seed := func(ms ...krpc.Message) {
		var in []byte
		for i := range ms {
			packet := krpc.Append(nil, &ms[i])
			in = append(binary.BigEndian.AppendUint16(in, uint16(len(packet))), packet...)
		}
		f.Add(in)
	}
	query := func(q krpc.Query) krpc.Message {
		q.ID = id
		return krpc.Message{Kind: krpc.IsQuery, T: []byte("aa"), Query: q}
	}
	seed(query(krpc.Query{Method: krpc.Ping}), query(krpc.Query{Method: krpc.FindNode, Want: krpc.Want{N4: true, N6: true}}))
	seed(query(krpc.Query{Method: krpc.GetPeers, Scrape: true, NoSeed: true}), query(krpc.Query{Method: krpc.AnnouncePeer, Port: 1, Token: []byte("t")}))
	seed(query(krpc.Query{Method: krpc.SampleInfohashes}), query(krpc.Query{Method: "vote"}))
	seed(krpc.Message{Kind: krpc.IsReply, T: []byte{0, 0}, Reply: krpc.Reply{
		ID: id, Nodes: []krpc.Contact{{ID: id, Addr: hostAt(3)}}, Values: []netip.AddrPort{hostAt(4)}, Token: []byte("t"),
	}}, krpc.Message{Kind: krpc.IsError, T: []byte{0, 0}, Error: krpc.Error{Code: 203, Text: "no"}})
	f.Fuzz(func(t *testing.T, in []byte) {
		n := node.New(node.Options{IPv4: true, IPv6: true, Wide: true, Random: rand.New(rand.NewPCG(1, 1))})
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		froms := []netip.AddrPort{hostAt(1), netip.MustParseAddrPort("[2001:db8::1]:5"), netip.MustParseAddrPort("20.1.1.1:6")}
		for _, from := range froms {
			n.Router(now, from)
		}
		n.Search(now, krpc.ID(hash), node.Announce{Port: 7})
		n.Take()
		for i := 0; len(in) >= 2; i++ {
			head := int(binary.BigEndian.Uint16(in)) // the upper four bits let time pass
			size := min(head&0xfff, len(in)-2)
			packet := in[2 : 2+size]
			in = in[2+size:]
			from := froms[i%len(froms)]
			now = now.Add(50*time.Millisecond + time.Duration(head>>12)*3*time.Minute)
			n.Tick(now)
			n.Receive(now, from, packet)
			if n.Next(now).Before(now) {
				t.Fatal("it wants to be called in the past")
			}
			for _, p := range n.Take().Packets {
				m, err := krpc.Parse(p.Data)
				switch {
				case err != nil:
					t.Errorf("it sent %q: %v", p.Data, err)
				case len(p.Data) > krpc.MaxPacket:
					t.Errorf("it sent %d bytes", len(p.Data))
				case m.Kind != krpc.IsQuery && (p.To != from || !bytes.Equal(transaction(packet), m.T)):
					t.Errorf("%q from %v was answered with %q to %v", packet, from, p.Data, p.To)
				}
			}
			if kept := n.Save(now); len(kept) > 1000 {
				t.Errorf("it remembers %d nodes", len(kept))
			}
		}
		n.Tick(now.Add(time.Hour))
	})
}

func transaction(packet []byte) []byte {
	m, _ := krpc.Parse(packet) // of a query that lacks something too
	return m.T
}

// A flood of nodes and of announces, each from another address, leaves memory bounded.
func TestFloodMemory(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		before := inUse()
		w.run(hostAt(0), Config{IPv4: &flood{PacketConn: w.socket(hostAt(0)), left: 20_000}})
		time.Sleep(time.Second)
		if !w.stranger(hostAt(1)).answers(hostAt(0)) {
			t.Error("it has stopped to answer")
		}
		if grown := int64(inUse()) - int64(before); grown > 4<<20 {
			t.Errorf("%d KiB more are in use", grown>>10)
		}
	})
}

// A flood is a socket with many packets to be read before those that others send.
type flood struct {
	net.PacketConn
	left int
}

func (f *flood) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.left == 0 {
		return f.PacketConn.ReadFrom(b)
	}
	f.left--
	i := f.left
	m := krpc.Message{Kind: krpc.IsQuery, T: []byte("aa"), Query: krpc.Query{
		Method: krpc.AnnouncePeer, ID: krpc.ID{byte(i), byte(i >> 8)}, Target: krpc.ID{byte(i), byte(i >> 8)}, Port: 1, Token: []byte("12345678"),
	}}
	if i%2 == 0 {
		m.Query.Method = krpc.GetPeers
	}
	from := netip.AddrFrom4([4]byte{30, byte(i >> 16), byte(i >> 8), byte(i)})
	return len(krpc.Append(b[:0], &m)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 1)), nil
}

// inUse returns the bytes that are in use.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
