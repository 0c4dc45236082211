package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/simnet"
	"bittern/peer/wire"
)

var (
	hash   = [20]byte{1, 2, 3}
	ourID  = [20]byte{'o'}
	peerID = [20]byte{'p'}
)

func isOurs(h [20]byte) bool { return h == hash }

// pair returns two ends of a connection that, as a socket does, takes what is written to it.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	n := simnet.New(1)
	l, err := n.Listen(netip.MustParseAddrPort("10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = n.Dial(t.Context(), netip.MustParseAddrPort("10.0.0.2:0"), netip.MustParseAddrPort("10.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

type shaken struct {
	r   Remote
	err error
}

func TestHandshake(t *testing.T) { synctest.Test(t, testHandshake) }
func testHandshake(t *testing.T) {
	a, b := pair(t)
	out := make(chan shaken, 1)
	go func() {
		r, err := Initiate(t.Context(), a, hash, Greeting{ID: ourID, DHT: true})
		out <- shaken{r, err}
	}()
	in, err := Accept(t.Context(), b, isOurs, Greeting{ID: peerID})
	got := <-out
	if err != nil || got.err != nil {
		t.Fatalf("handshake failed: %v, %v", err, got.err)
	}
	if want := (Remote{ID: ourID, Hash: hash, Reserved: wire.OurReserved().WithDHT(), Addr: addrOf(b)}); in != want {
		t.Errorf("accepted %+v, want %+v", in, want)
	}
	if want := (Remote{ID: peerID, Hash: hash, Reserved: wire.OurReserved(), Addr: addrOf(a), Outgoing: true}); got.r != want {
		t.Errorf("initiated %+v, want %+v", got.r, want)
	}
	if !in.Fast() || !in.Ext() || !in.DHT() || got.r.DHT() || in.Limits(9) != (wire.Limits{Pieces: 9, Fast: true, Ext: true}) {
		t.Errorf("two of us agree on %+v", in.Limits(9))
	}
	// The time limit is over with the handshake.
	time.Sleep(time.Hour)
	go a.Write([]byte("x"))
	if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// An initiator sends its handshake and nothing behind it before the answer has come.
func TestInitiatorWaits(t *testing.T) { synctest.Test(t, testInitiatorWaits) }
func testInitiatorWaits(t *testing.T) {
	a, b := net.Pipe()
	out := make(chan shaken, 1)
	go func() {
		r, err := Initiate(t.Context(), a, hash, Greeting{ID: ourID})
		out <- shaken{r, err}
	}()
	raw := make([]byte, 68)
	if _, err := io.ReadFull(b, raw); err != nil {
		t.Fatal(err)
	}
	if h, err := wire.ParseHandshake(raw); err != nil || h.InfoHash != hash || h.PeerID != ourID {
		t.Errorf("sent %+v, %v", h, err)
	}
	if err := b.SetReadDeadline(time.Now().Add(9 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(raw); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came behind the handshake, %v", n, err)
	}
	answer := wire.AppendHandshake(nil, wire.Handshake{InfoHash: hash, PeerID: peerID})
	go b.Write(append(answer, "next"...))
	if got := <-out; got.err != nil || got.r.ID != peerID || got.r.Fast() || got.r.Ext() {
		t.Errorf("got %+v", got)
	}
	// Not a byte of what follows was swallowed.
	next := make([]byte, 4)
	if _, err := io.ReadFull(a, next); err != nil || string(next) != "next" {
		t.Errorf("behind the handshake came %q, %v", next, err)
	}
}

// The accepting end answers before the peer id has come (BEP 3), since some wait for that.
func TestAcceptAnswersEarly(t *testing.T) { synctest.Test(t, testAcceptAnswersEarly) }
func testAcceptAnswersEarly(t *testing.T) {
	a, b := net.Pipe()
	in := make(chan shaken, 1)
	go func() {
		r, err := Accept(t.Context(), b, isOurs, Greeting{ID: ourID})
		in <- shaken{r, err}
	}()
	raw := wire.AppendHandshake(nil, wire.Handshake{InfoHash: hash, PeerID: peerID})
	if _, err := a.Write(raw[:48]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 68)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write(raw[48:]); err != nil {
		t.Fatal(err)
	}
	if got := <-in; got.err != nil || got.r.ID != peerID {
		t.Errorf("got %+v", got)
	}
}

func TestHandshakeFails(t *testing.T) { synctest.Test(t, testHandshakeFails) }
func testHandshakeFails(t *testing.T) {
	other := wire.AppendHandshake(nil, wire.Handshake{InfoHash: [20]byte{9}})
	good := wire.AppendHandshake(nil, wire.Handshake{InfoHash: hash})
	for _, tt := range []struct {
		name  string
		raw   []byte        // what the other end says
		every time.Duration // between two bytes of it
		close bool          // and then closes
		err   error
		after time.Duration
	}{
		{"silence", nil, 0, false, os.ErrDeadlineExceeded, 10 * time.Second},
		{"half", good[:40], 0, false, os.ErrDeadlineExceeded, 10 * time.Second},
		{"no peer id", good[:48], 0, false, os.ErrDeadlineExceeded, 10 * time.Second},
		{"drip", good, time.Second, false, os.ErrDeadlineExceeded, 10 * time.Second},
		{"another torrent", other, 0, false, ErrHash, 0},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost"), 0, false, wire.ErrHandshake, 0},
		{"closed at once", nil, 0, true, io.EOF, 0},
		{"closed in the middle", good[:30], 0, true, io.ErrUnexpectedEOF, 0},
	} {
		for _, side := range []string{"initiate", "accept"} {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			if side == "initiate" || !tt.close {
				go func() { // net.Pipe is unbuffered
					for i := range tt.raw {
						if _, err := theirs.Write(tt.raw[i : i+1]); err != nil {
							return
						}
						time.Sleep(tt.every)
					}
					if tt.close {
						synctest.Wait()
						_ = theirs.Close()
					}
				}()
			} else {
				go func() { theirs.Write(tt.raw); _ = theirs.Close() }()
			}
			start := time.Now()
			var err error
			if side == "initiate" {
				_, err = Initiate(t.Context(), ours, hash, Greeting{ID: ourID})
			} else {
				_, err = Accept(t.Context(), ours, isOurs, Greeting{ID: ourID})
			}
			if d := time.Since(start); !errors.Is(err, tt.err) || d != tt.after {
				t.Errorf("%s, %s: %v after %v, want %v after %v", side, tt.name, err, d, tt.err, tt.after)
			}
			if errors.Is(err, wire.ErrProtocol) {
				t.Errorf("%s, %s: nobody is banned for a handshake", side, tt.name)
			}
			if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%s, %s: the connection is left open", side, tt.name)
			}
			_ = theirs.Close()
		}
	}
	time.Sleep(time.Minute) // until those who drip have noticed
}

func TestHandshakeCancelled(t *testing.T) { synctest.Test(t, testHandshakeCancelled) }
func testHandshakeCancelled(t *testing.T) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	out := make(chan shaken, 1)
	go func() {
		r, err := Initiate(ctx, ours, hash, Greeting{ID: ourID})
		out <- shaken{r, err}
	}()
	synctest.Wait()
	cancel(errSnubbed)
	if got := <-out; !errors.Is(got.err, errSnubbed) {
		t.Errorf("got %v, want the cause", got.err)
	}
	_ = theirs.Close()
}

func TestAddrOf(t *testing.T) {
	for _, tt := range []struct {
		addr net.Addr
		want netip.AddrPort
	}{
		{&net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5}, netip.MustParseAddrPort("1.2.3.4:5")},
		{&net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5}, netip.MustParseAddrPort("[2001:db8::1]:5")},
		{&net.UnixAddr{Name: "x"}, netip.AddrPort{}},
	} {
		if got := addrOf(addressed{addr: tt.addr}); got != tt.want {
			t.Errorf("%v became %v, want %v", tt.addr, got, tt.want)
		}
	}
}

type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }
