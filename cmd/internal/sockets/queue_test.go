//go:build linux

package sockets

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// TestLittleWaitsInTheKernel: of what a peer does not read, the kernel takes what fills the peer's own buffer and little
// more, whoever opened the connection.
func TestLittleWaitsInTheKernel(t *testing.T) {
	l, err := Listen(Policy{Interface: netip.AddrFrom4([4]byte{127, 0, 0, 1})}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	accepted, done := make(chan net.Conn), make(chan struct{})
	go func() {
		defer close(done)
		l.Serve(ctx, 1, func(ctx context.Context, nc net.Conn) {
			defer nc.Close()
			accepted <- nc
			<-ctx.Done()
		})
	}()
	defer func() { stop(); <-done }()
	dialed, err := Policy{}.Dial(ctx, l.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	other := <-accepted
	for _, tt := range []struct {
		name     string
		from, to net.Conn
	}{{"dialed", dialed, other}, {"accepted", other, dialed}} {
		const window = 64 << 10
		if err := tt.to.(*net.TCPConn).SetReadBuffer(window); err != nil {
			t.Fatal(err)
		}
		if err := tt.from.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := tt.from.Write(make([]byte, 16<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: wrote %d bytes that nobody read: %v", tt.name, n, err)
		}
		// The kernel doubles the peer's window, and takes whole packets of 64 KiB.
		if most := 4*window + unsentBytes + 128<<10; n > most {
			t.Errorf("%s: the kernel took %d bytes, want %d at most", tt.name, n, most)
		}
		t.Logf("%s: the kernel took %d KiB", tt.name, n>>10)
	}
}
