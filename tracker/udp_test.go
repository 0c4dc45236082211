package tracker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/compact"
)

// packets serves each connection of the returned dialer packet by packet, in memory: net.Pipe keeps the bounds of writes that
// are read whole. The function returns the answers, in order; nil for none. It is told when, since the first packet, it was asked.
func packets(answer func(at time.Duration, packet []byte) [][]byte) DialFunc {
	start := time.Now()
	return pipeTracker(func(nc net.Conn) {
		in := make([]byte, 2048)
		for {
			n, err := nc.Read(in)
			if err != nil {
				return
			}
			for _, out := range answer(time.Since(start), in[:n]) {
				if _, err := nc.Write(out); err != nil {
					return
				}
			}
		}
	})
}

// head returns the eight bytes in front of an answer to packet.
func head(action uint32, packet []byte) []byte {
	return be.AppendUint32(be.AppendUint32(nil, action), be.Uint32(packet[12:]))
}

func connected(packet []byte, id uint64) []byte {
	return be.AppendUint64(head(actionConnect, packet), id)
}

func announced(packet []byte, peers ...byte) []byte {
	out := be.AppendUint32(head(actionAnnounce, packet), 1800)
	out = be.AppendUint32(be.AppendUint32(out, 3), 4)
	return append(out, peers...)
}

// friendly answers as a good tracker does.
func friendly(_ time.Duration, p []byte) [][]byte {
	switch be.Uint32(p[8:]) {
	case actionConnect:
		return [][]byte{connected(p, 77)}
	case actionAnnounce:
		return [][]byte{announced(p, 1, 2, 3, 4, 0, 5)}
	}
	return [][]byte{append(head(actionScrape, p), 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3)}
}

// log notes "seconds action" of each packet, then answers.
func logged(log *[]string, answer func(time.Duration, []byte) [][]byte) func(time.Duration, []byte) [][]byte {
	return func(at time.Duration, p []byte) [][]byte {
		*log = append(*log, fmt.Sprintf("%d %d", int(at.Seconds()), be.Uint32(p[8:])))
		return answer(at, p)
	}
}

func inBubble(t *testing.T, f func(*testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		f(t)
		synctest.Wait()
	})
}

const udpURL = "udp://tracker.test:80/announce?k=1"

func TestUDPAnnouncePacket(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var got []byte
		c := &Client{NoIPv6: true, DialUDP: packets(func(at time.Duration, p []byte) [][]byte {
			got = slices.Clone(p)
			return friendly(at, p)
		})}
		defer c.Close()
		r, err := c.Announce(t.Context(), udpURL, request)
		if err != nil || r.Interval != 30*time.Minute || r.Leechers != 3 || r.Seeders != 4 || !slices.Equal(r.Peers, addrs("1.2.3.4:5")) {
			t.Fatalf("got %+v, %v", r, err)
		}
		synctest.Wait()
		want := be.AppendUint64(nil, 77)
		want = append(be.AppendUint32(want, 1), got[12:16]...)
		want = append(append(want, hashA[:]...), request.PeerID[:]...)
		for _, n := range []uint64{2, 3, 1} { // downloaded, left, uploaded
			want = be.AppendUint64(want, n)
		}
		for _, n := range []uint32{2, 0, 0xbeef, 80} { // event, address, key, wanted
			want = be.AppendUint32(want, n)
		}
		want = append(be.AppendUint16(want, 6881), "\x02\x0d/announce?k=1"...)
		if !bytes.Equal(got, want) {
			t.Errorf("sent %x\nwant %x", got, want)
		}
	})
}

func TestUDPURLData(t *testing.T) {
	long := strings.Repeat("0123456789", 60)
	p := appendAnnounce(nil, 1, 2, request, long)[announceLen:]
	var joined []byte
	for len(p) > 0 {
		if p[0] != optionURL || int(p[1])+2 > len(p) {
			t.Fatalf("bad option at %q", p)
		}
		n := 2 + int(p[1])
		joined, p = append(joined, p[2:n]...), p[n:]
	}
	if string(joined) != long {
		t.Errorf("options hold %q", joined)
	}
	if n := len(appendAnnounce(nil, 1, 2, request, "")); n != announceLen {
		t.Errorf("%d bytes without a path, want %d", n, announceLen)
	}
}

// The examples of BEP 15, "Time outs", with its times.
func TestUDPBackoff(t *testing.T) {
	connectThenSilence := func(at time.Duration, p []byte) [][]byte {
		if be.Uint32(p[8:]) == actionConnect && at < time.Minute {
			return [][]byte{connected(p, 1)}
		}
		return nil
	}
	silence := func(time.Duration, []byte) [][]byte { return nil }
	for _, tt := range []struct {
		name   string
		answer func(time.Duration, []byte) [][]byte
		limit  time.Duration
		want   []string // seconds and action
	}{
		{"connect times out", silence, 120 * time.Second, []string{"0 0", "15 0", "45 0", "105 0"}},
		{"announce times out", connectThenSilence, 230 * time.Second, []string{"0 0", "0 1", "15 1", "45 1", "105 0", "225 0"}},
		{"our own limit", silence, 0, []string{"0 0", "15 0"}},
		{"the wait stops growing", silence, 5 * 3840 * time.Second, []string{
			"0 0", "15 0", "45 0", "105 0", "225 0", "465 0", "945 0", "1905 0", "3825 0", "7665 0", "11505 0", "15345 0", "19185 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log []string
				c := &Client{NoIPv6: true, Timeout: tt.limit, DialUDP: packets(logged(&log, tt.answer))}
				defer c.Close()
				_, err := c.Announce(t.Context(), udpURL, request)
				synctest.Wait()
				if !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(log, tt.want) {
					t.Errorf("%v; sent %v, want %v", err, log, tt.want)
				}
			})
		})
	}
}

func TestUDPConnectionIDIsReused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log []string
		c := &Client{NoIPv6: true, DialUDP: packets(logged(&log, friendly))}
		defer c.Close()
		announce := func() {
			if _, err := c.Announce(t.Context(), udpURL, request); err != nil {
				t.Error(err)
			}
		}
		announce()
		time.Sleep(59 * time.Second)
		announce()
		got, err := c.Scrape(t.Context(), udpURL, hashA, hashB)
		if err != nil || len(got) != 1 || got[hashA] != (Counts{1, 3, 2}) {
			t.Errorf("scrape: %v, %v", got, err)
		}
		time.Sleep(time.Second) // a minute old: no longer good
		announce()
		synctest.Wait()
		if want := []string{"0 0", "0 1", "59 1", "59 2", "60 0", "60 1"}; !slices.Equal(log, want) {
			t.Errorf("sent %v, want %v", log, want)
		}
	})
}

func TestUDPRefusal(t *testing.T) {
	refuse := func(p []byte) [][]byte { return [][]byte{append(head(actionError, p), "go\x1baway"...)} }
	inBubble(t, func(t *testing.T) {
		c := &Client{NoIPv6: true, DialUDP: packets(func(_ time.Duration, p []byte) [][]byte { return refuse(p) })}
		defer c.Close()
		_, err := c.Announce(t.Context(), udpURL, request)
		if f, ok := errors.AsType[*FailureError](err); !ok || f.Reason != `go\x1baway` {
			t.Errorf("err = %v", err)
		}
	})
	// A refusal of an id from an earlier announce may mean no more than that the tracker was restarted.
	inBubble(t, func(t *testing.T) {
		var log []string
		good := uint64(1)
		c := &Client{NoIPv6: true, DialUDP: packets(logged(&log, func(_ time.Duration, p []byte) [][]byte {
			switch {
			case be.Uint32(p[8:]) == actionConnect:
				return [][]byte{connected(p, good)}
			case be.Uint64(p) != good:
				return refuse(p)
			}
			return [][]byte{announced(p)}
		}))}
		defer c.Close()
		for range 2 {
			if _, err := c.Announce(t.Context(), udpURL, request); err != nil {
				t.Error(err)
			}
			good++
		}
		synctest.Wait()
		if want := []string{"0 0", "0 1", "0 1", "0 0", "0 1"}; !slices.Equal(log, want) {
			t.Errorf("sent %v, want %v", log, want)
		}
	})
}

// Packets that are not the answer are ignored, and the answer behind them is taken.
func TestUDPIgnores(t *testing.T) {
	noise := func(p []byte) [][]byte {
		wrongID := slices.Clone(announced(p, 9, 9, 9, 9, 9, 9))
		wrongID[7] ^= 1
		wrongError := append(slices.Clone(wrongID[:8]), "x"...)
		wrongError[3] = actionError
		return [][]byte{{}, {1}, head(actionAnnounce, p), head(actionConnect, p), announced(p)[:19], wrongID, wrongError,
			append(head(actionScrape, p), make([]byte, 12)...), append(head(99, p), make([]byte, 90)...), make([]byte, 1500)}
	}
	inBubble(t, func(t *testing.T) {
		c := &Client{NoIPv6: true, DialUDP: packets(func(at time.Duration, p []byte) [][]byte {
			out := noise(p)
			if be.Uint32(p[8:]) == actionConnect { // what would be an early announce answer is not one to a connect
				out = append(out, connected(p, 5)[:15])
			}
			return append(out[1:], friendly(at, p)...)
		})}
		defer c.Close()
		r, err := c.Announce(t.Context(), udpURL, request)
		if err != nil || !slices.Equal(r.Peers, addrs("1.2.3.4:5")) {
			t.Errorf("got %+v, %v", r, err)
		}
	})
}

func TestUDPCancel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := &Client{NoIPv6: true, DialUDP: packets(func(time.Duration, []byte) [][]byte { return nil })}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := c.Announce(ctx, udpURL, request); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// One exchange at a time uses a tracker's socket; others wait their turn, and give up with their context.
func TestUDPTurns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := &Client{NoIPv6: true, DialUDP: packets(func(time.Duration, []byte) [][]byte { return nil })}
		defer c.Close()
		errs := make(chan error, 2)
		start := time.Now()
		for _, limit := range []time.Duration{20 * time.Second, 5 * time.Second} {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				_, err := c.Announce(ctx, udpURL, request)
				errs <- err
			}()
			synctest.Wait()
		}
		if err := <-errs; !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("second: %v after %v", err, time.Since(start))
		}
		<-errs
	})
}

func TestUDPSocketsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		open := 0
		c := &Client{NoIPv6: true}
		c.DialUDP = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := packets(friendly)(ctx, network, address)
			open++
			return &counted{nc, &open}, err
		}
		for i := range 3 * maxSessions {
			if _, err := c.Announce(t.Context(), fmt.Sprintf("udp://h%d:80", i), request); err != nil {
				t.Fatal(err)
			}
			if open > maxSessions {
				t.Fatalf("%d sockets are open", open)
			}
		}
		time.Sleep(time.Minute) // the ids are old: another announce closes what they were kept for
		if _, err := c.Announce(t.Context(), "udp://last:80", request); err != nil || open > 1 {
			t.Errorf("%d sockets are open, %v", open, err)
		}
		if c.Close(); open != 0 {
			t.Errorf("%d sockets are open after Close", open)
		}
	})
}

type counted struct {
	net.Conn
	open *int
}

func (c *counted) Close() error { *c.open--; return c.Conn.Close() }

// A real socket: only the tracker's own address is listened to, and the family decides the format.
func TestUDPOverLoopback(t *testing.T) {
	for _, tt := range []struct{ family, ip, peer string }{{"4", "127.0.0.1", "1.2.3.4:5"}, {"6", "::1", "[2001:db8::1]:6"}} {
		srv, err := net.ListenPacket("udp"+tt.family, net.JoinHostPort(tt.ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := net.ListenPacket("udp"+tt.family, net.JoinHostPort(tt.ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		peer := netip.MustParseAddrPort(tt.peer)
		entry := compact.Append6(compact.Append4(nil, peer), peer)
		done := make(chan struct{})
		go func() {
			defer close(done)
			in := make([]byte, 2048)
			for {
				n, from, err := srv.ReadFrom(in)
				if err != nil {
					return
				}
				p := in[:n]
				if be.Uint32(p[8:]) == actionConnect {
					srv.WriteTo(connected(p, 1), from)
					continue
				}
				stranger.WriteTo(announced(p, make([]byte, len(entry))...), from)
				srv.WriteTo(announced(p, append(entry, 1, 2, 3)...), from)
			}
		}()
		var c Client
		r, err := c.Announce(t.Context(), "udp://"+srv.LocalAddr().String(), request)
		if err != nil || !slices.Equal(r.Peers, addrs(tt.peer)) {
			t.Errorf("IPv%s: got %+v, %v", tt.family, r, err)
		}
		c.Close()
		srv.Close()
		stranger.Close()
		<-done
	}
}

func TestUDPRefusedPort(t *testing.T) {
	srv, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Close()
	start := time.Now()
	if _, err := new(Client).Announce(t.Context(), "udp://"+srv.LocalAddr().String(), request); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("%v after %v; want the refusal at once", err, time.Since(start))
	}
}

// FuzzUDPAnswer: only a packet with our transaction and action is an answer, and what comes out is within its bounds.
func FuzzUDPAnswer(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00\x3c\x00\x00\x00\x01\x00\x00\x00\x02\x01\x02\x03\x04\x05\x06"), false)
	f.Add([]byte("\x00\x00\x00\x03\x00\x00\x00\x07no"), true)
	f.Fuzz(func(t *testing.T, in []byte, six bool) {
		body, refused, ok := match{actionAnnounce, 7, 20}.answer(in)
		if ok && be.Uint32(in[4:]) != 7 {
			t.Errorf("%x was taken for an answer", in)
		}
		if refused != nil {
			checkText(t, refused.Reason)
		} else if ok {
			r := parseUDPAnnounce(body, six)
			if r.Interval < minInterval || r.Interval > maxInterval || len(r.Peers) > maxPeers || r.Seeders < 0 || r.Leechers < 0 {
				t.Errorf("%+v", r)
			}
			for _, a := range r.Peers {
				if !compact.Usable(a) {
					t.Errorf("peer %v", a)
				}
			}
		}
		got := make(map[[20]byte]Counts)
		if parseUDPScrape(in, [][20]byte{hashA, hashB}, got); len(got) > len(in)/12 {
			t.Errorf("%d entries of %d bytes", len(got), len(in))
		}
	})
}
