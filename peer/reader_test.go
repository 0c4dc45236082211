package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bittern/peer/pool"
	"bittern/peer/wire"
)

// Whatever the messages, the sizes of the reads and the hurry of the owner: each message is
// delivered once, whole and in order, with few buffers and none left over.
func TestEveryMessageOnce(t *testing.T) { synctest.Test(t, testEveryMessageOnce) }
func testEveryMessageOnce(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 1))
		want, raw := randomMessages(rng, 200)
		r := newRig(t, func(c *Config) {
			c.Blocks = pool.New(wire.MaxBlock, 1+rng.IntN(4))
			c.Limits.Pieces = 80_000 // a bitfield of 10,000 bytes
		})
		go func() {
			for len(raw) > 0 {
				n := min(len(raw), 1+rng.IntN(1<<rng.IntN(18)))
				r.write(raw[:n])
				raw = raw[n:]
			}
			_ = r.theirs.Close()
		}()
		var held []Received
		drop := func() {
			for _, m := range held {
				m.Buf.Release()
			}
			held = held[:0]
		}
		for {
			var b *Batch
			if len(held) == 0 {
				b = <-r.in
			} else {
				select {
				case b = <-r.in:
				case <-time.After(time.Second): // the reader waits for what we hold
					drop()
					continue
				}
			}
			if len(b.Msgs)+b.Idle == 0 && b.IdleBytes < idleBytes && b.Err == nil || len(b.Msgs) > MaxBatch || b.Conn != r.c {
				t.Fatalf("seed %d: odd batch %+v", seed, b)
			}
			for _, m := range b.Msgs {
				if len(want) == 0 || !same(m, want[0]) {
					t.Fatalf("seed %d: got %v, want %v", seed, m, want[:min(1, len(want))])
				}
				want = want[1:]
				if m.Buf != nil {
					held = append(held, m)
				}
			}
			if b.Err != nil {
				if !errors.Is(b.Err, io.EOF) || len(want) > 0 {
					t.Errorf("seed %d: ended with %v, %d messages missing", seed, b.Err, len(want))
				}
				b.Recycle()
				break
			}
			b.Recycle()
		}
		drop()
		r.idle()
	}
}

type expected struct {
	wire.Message
	data []byte
}

func same(got Received, want expected) bool {
	m := got.Message
	if (got.Buf != nil) != (want.data != nil) || got.Buf != nil && !bytes.Equal(got.Buf.Bytes()[:m.Length], want.data) {
		return false
	}
	return m.ID == want.ID && m.ExtID == want.ExtID && m.Index == want.Index && m.Begin == want.Begin &&
		m.Length == want.Length && bytes.Equal(m.Payload, want.Payload)
}

// randomMessages returns messages and their encoding, with keep-alives and unknown ones among them.
func randomMessages(rng *rand.Rand, n int) (want []expected, raw []byte) {
	for range n {
		m := wire.Message{Index: rng.Uint32(), Begin: rng.Uint32()}
		switch rng.IntN(8) {
		case 0:
			raw = append(raw, 0, 0, 0, 0)
			continue
		case 1:
			size := rng.IntN(40_000)
			raw = binary.BigEndian.AppendUint32(raw, uint32(size)+1)
			raw = append(append(raw, 0x77), make([]byte, size)...)
			continue
		case 2, 3:
			m.ID, m.Length = wire.Piece, uint32(1+rng.IntN(wire.MaxBlock))
			data := randomBytes(rng, int(m.Length))
			raw = append(wire.Append(raw, m), data...)
			want = append(want, expected{m, data})
			continue
		case 4:
			m = wire.Message{ID: wire.Bitfield, Payload: randomBytes(rng, 10_000)}
		case 5:
			m = wire.Message{ID: wire.Extended, ExtID: byte(rng.Uint32()), Payload: randomBytes(rng, rng.IntN(wire.MaxExtended))}
		case 6:
			m.ID, m.Length = wire.Request, rng.Uint32()
		case 7:
			m = wire.Message{ID: wire.Have, Index: rng.Uint32()}
		}
		raw = wire.Append(raw, m)
		want = append(want, expected{m, nil})
	}
	return want, raw
}

// noise is where random bytes are cut from: making them anew is slow under the race detector.
var noise = func() []byte {
	b := make([]byte, 1<<18)
	if _, err := rand.NewChaCha8([32]byte{}).Read(b); err != nil {
		panic(err)
	}
	return b
}()

// randomBytes returns bytes that the caller must not change.
func randomBytes(rng *rand.Rand, n int) []byte {
	at := rng.IntN(len(noise) - n)
	return noise[at : at+n : at+n]
}

// All that one read brought goes out in one batch.
func TestOneBatchARead(t *testing.T) { synctest.Test(t, testOneBatchARead) }
func testOneBatchARead(t *testing.T) {
	r := newRig(t, nil)
	var raw []byte
	for i := range uint32(40) {
		raw = wire.Append(raw, wire.Message{ID: wire.Have, Index: i})
	}
	go r.write(raw)
	if b := <-r.in; len(b.Msgs) != 40 {
		t.Errorf("first batch has %d messages, want 40", len(b.Msgs))
	}
	r.c.Close(nil)
	r.end()
}

func TestSilence(t *testing.T) { synctest.Test(t, testSilence) }
func testSilence(t *testing.T) {
	r := newRig(t, nil)
	r.drain()
	start := time.Now()
	time.Sleep(2 * time.Minute)
	r.write(msg(wire.Message{ID: wire.KeepAlive})) // is enough to stay
	err := r.end()
	if d := time.Since(start); !errors.Is(err, ErrSilent) || d != 5*time.Minute {
		t.Errorf("dropped after %v by %v, want exactly 3 min after the keep-alive", d, err)
	}
}

// A message that has begun must come in whole within a minute, however steadily it drips. It
// holds no buffer of the pool meanwhile.
func TestBodyStall(t *testing.T) { synctest.Test(t, testBodyStall) }
func testBodyStall(t *testing.T) {
	piece, _ := block(1, 0, wire.MaxBlock)
	for name, raw := range map[string][]byte{
		"piece":    piece,
		"extended": msg(wire.Message{ID: wire.Extended, Payload: make([]byte, 1000)}),
		"unknown":  append([]byte{0, 1, 0, 0, 99}, make([]byte, 1000)...),
		"prefix":   {0, 0},
	} {
		r := newRig(t, nil)
		start := time.Now()
		go func() {
			for i := range raw {
				if _, err := r.theirs.Write(raw[i : i+1]); err != nil {
					return
				}
				if r.pool.Outstanding() != 0 {
					t.Errorf("%s: a buffer is held by a block that is not in", name)
				}
				time.Sleep(time.Second)
			}
		}()
		err := r.end()
		if d := time.Since(start); !errors.Is(err, ErrStalled) || d != time.Minute {
			t.Errorf("%s: dropped after %v by %v, want exactly a minute", name, d, err)
		}
	}
	time.Sleep(time.Minute) // until those who drip have noticed
}

// A peer that is slow but does complete its messages in time stays.
func TestSlowIsNotStalled(t *testing.T) { synctest.Test(t, testSlowIsNotStalled) }
func testSlowIsNotStalled(t *testing.T) {
	r := newRig(t, nil)
	r.drain()
	got := make(chan int)
	go func() {
		n := 0
		for b := range r.in {
			n += len(b.Msgs)
			b.ReleaseAll()
			if b.Err != nil {
				got <- n
				return
			}
		}
	}()
	for range 5 {
		raw, _ := block(1, 0, wire.MaxBlock)
		for part := range slices.Chunk(raw, 400) { // in 41 s
			r.write(part)
			time.Sleep(time.Second)
		}
	}
	r.c.Close(nil)
	if n := <-got; n != 5 {
		t.Errorf("%d blocks, want 5", n)
	}
	r.idle()
}

// With one buffer in the pool, a read of three blocks is delivered one by one, each as soon as
// the owner has released the one before: the reader does not sit on what others wait for.
func TestPoolExhaustion(t *testing.T) { synctest.Test(t, testPoolExhaustion) }
func testPoolExhaustion(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Blocks = pool.New(wire.MaxBlock, 1) })
	r.drain()
	var raw []byte
	for i := range uint32(3) {
		m, _ := block(i, 0, 100)
		raw = append(raw, m...)
	}
	go r.write(raw)
	for i := range uint32(3) {
		b := <-r.in
		if len(b.Msgs) != 1 || b.Msgs[0].Index != i {
			t.Fatalf("batch %d is %+v", i, b.Msgs)
		}
		synctest.Wait()
		select {
		case b := <-r.in:
			t.Fatalf("a batch came without a buffer: %+v", b.Msgs)
		default:
		}
		if i < 2 {
			time.Sleep(time.Hour) // that the reader waits for us is not the peer's silence
		}
		b.ReleaseAll()
		b.Recycle()
	}
	r.c.Close(nil)
	if err := r.end(); !errors.Is(err, ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

// What was right before a violation is delivered, and the violation with it.
func TestProtocolError(t *testing.T) { synctest.Test(t, testProtocolError) }
func testProtocolError(t *testing.T) {
	for name, bad := range map[string][]byte{
		"length 4 GiB":    {0xff, 0xff, 0xff, 0xff, 7},
		"length alone":    {0xff, 0xff, 0xff, 0xff},
		"choke with body": {0, 0, 0, 2, 0, 0},
		"long bitfield":   {0, 0, 0, 99, 5},
		"unknown, 2 MiB":  {0, 0x20, 0, 0, 99},
	} {
		r := newRig(t, nil)
		go r.theirs.Write(append(msg(wire.Message{ID: wire.Have, Index: 3}), bad...))
		b := <-r.in
		if len(b.Msgs) != 1 || b.Msgs[0].Index != 3 {
			t.Errorf("%s: before the error came %+v", name, b.Msgs)
		}
		if !errors.Is(b.Err, wire.ErrProtocol) {
			t.Errorf("%s: ended with %v", name, b.Err)
		}
		_ = r.theirs.Close()
	}
}

// Floods of small messages are handed on in full batches, or not at all.
func TestFlood(t *testing.T) { synctest.Test(t, testFlood) }
func testFlood(t *testing.T) {
	r := newRig(t, nil)
	batches, msgs, idle, size := 0, 0, 0, 0
	ended := make(chan error)
	go func() {
		for b := range r.in {
			batches++
			msgs += len(b.Msgs)
			idle += b.Idle
			size += b.IdleBytes
			err := b.Err
			b.Recycle()
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	r.write(bytes.Repeat(msg(wire.Message{ID: wire.KeepAlive}), 500_000))
	synctest.Wait()
	if idle != 500_000 || size != 4*idle || batches > 200 { // one a read, and the buffer grows
		t.Errorf("%d keep-alives of %d bytes made %d batches", idle, size, batches)
	}
	idle, size = 0, 0
	r.write([]byte{0, 1, 0, 0, 99}) // a message of 64 KiB is announced
	synctest.Wait()
	if idle != 1 || size != 5 {
		t.Errorf("%d unknown messages of which %d bytes came, want one and five", idle, size)
	}
	r.write(make([]byte, 1<<16-1))
	synctest.Wait()
	if idle != 1 || size < 4+1<<16-idleBytes {
		t.Errorf("%d unknown messages of which %d bytes came, want one and all", idle, size)
	}
	batches = 0
	r.write(bytes.Repeat(msg(wire.Message{ID: wire.Have}), 100_000))
	_ = r.theirs.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if msgs != 100_000 || batches > 2*msgs/MaxBatch {
		t.Errorf("%d haves in %d batches", msgs, batches)
	}
}

// The read buffer grows while reads fill it, and shrinks again when they no longer do.
func TestReadBufferFollows(t *testing.T) {
	src := &script{}
	r := &reader{c: &Conn{nc: src, cfg: Config{}.withDefaults()}, buf: make([]byte, minRead)}
	ask := func(n, times int) {
		for range times {
			src.n = n
			if err := r.fill(); err != nil {
				t.Fatal(err)
			}
			r.from, r.to = 0, 0 // as if all had been parsed
		}
	}
	ask(1<<30, 10)
	if len(r.buf) != maxRead {
		t.Errorf("full reads made the buffer %d bytes, want %d", len(r.buf), maxRead)
	}
	ask(maxRead/2, 10*maxSmall)
	if len(r.buf) != maxRead {
		t.Errorf("half full reads made the buffer %d bytes", len(r.buf))
	}
	ask(100, 10*maxSmall)
	if len(r.buf) != minRead {
		t.Errorf("small reads left the buffer at %d bytes, want %d", len(r.buf), minRead)
	}
}

// The buffers of several connections grow as far as their budget goes, and beyond it only for a message that does not fit.
func TestReadBuffersShareABudget(t *testing.T) {
	budget := NewBudget(3 * minRead)
	newReader := func() *reader {
		return &reader{c: &Conn{nc: &script{n: 1 << 30}, cfg: Config{Reads: budget}.withDefaults()}, buf: make([]byte, minRead)}
	}
	fill := func(r *reader, parsed bool) {
		t.Helper()
		for range 10 {
			if err := r.fill(); err != nil {
				t.Fatal(err)
			}
			if parsed {
				r.from, r.to = 0, 0
			}
		}
	}
	a, b := newReader(), newReader()
	fill(a, true)
	fill(b, true)
	if len(a.buf) != 4*minRead || len(b.buf) != minRead {
		t.Errorf("buffers of %d and %d bytes, want all of the budget for the first", len(a.buf), len(b.buf))
	}
	fill(b, false)
	if len(b.buf) != maxRead {
		t.Errorf("a large message finds a buffer of %d bytes, want %d", len(b.buf), maxRead)
	}
	for _, r := range []*reader{a, b} {
		r.c.nc = &script{n: 1}
		r.from, r.to = 0, 0
		for range 10 * maxSmall {
			fill(r, true)
		}
	}
	if left := budget.left.Load(); left != 3*minRead {
		t.Errorf("%d bytes left when all have shrunk, want %d", left, 3*minRead)
	}
}

// A script is a connection that has n bytes to be read.
type script struct {
	net.Conn
	n int
}

func (s *script) Read(b []byte) (int, error)      { return min(s.n, len(b)), nil }
func (s *script) SetReadDeadline(time.Time) error { return nil }

// FuzzReader: any bytes, cut anywhere, give the same messages as when they come at once, and the
// same verdict; buffers are never lost.
func FuzzReader(f *testing.F) {
	_, raw := randomMessages(rand.New(rand.NewPCG(1, 1)), 4)
	f.Add(raw[:min(len(raw), 2000)], uint16(7))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 5, 4, 0, 0, 0, 1}, uint16(1))
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		whole, wholeErr := parseAll(t, raw, len(raw))
		parts, partsErr := parseAll(t, raw, int(cut))
		if !slices.Equal(whole, parts) || (wholeErr == nil) != (partsErr == nil) {
			t.Errorf("%x: at once %d messages, %v; in parts %d, %v", raw, len(whole), wholeErr, len(parts), partsErr)
		}
	})
}

// parseAll runs the reader's parser over raw, that comes in parts of cut bytes.
func parseAll(t *testing.T, raw []byte, cut int) (out []string, err error) {
	blocks := pool.New(wire.MaxBlock, 2)
	c := &Conn{cfg: Config{Limits: plain, Blocks: blocks, Deliver: func(b *Batch) {
		for _, m := range b.Msgs {
			s := string(wire.Append(nil, m.Message))
			if m.Buf != nil {
				s += string(m.Buf.Bytes()[:m.Length])
			}
			out = append(out, s)
		}
		b.ReleaseAll()
		b.Recycle()
	}}}
	r := &reader{c: c, buf: make([]byte, minRead)}
	for len(raw) > 0 && err == nil {
		r.fit()
		n := copy(r.buf[r.to:], raw[:min(len(raw), max(cut, 1))])
		r.to += n
		r.full = r.to == len(r.buf)
		raw = raw[n:]
		_, err = r.parse()
		r.flush()
	}
	if blocks.Outstanding() != 0 {
		t.Errorf("%d buffers lost", blocks.Outstanding())
	}
	if err != nil && !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("unexpected kind of error: %v", err)
	}
	return out, err
}

func TestReadErrorIsTheNetworks(t *testing.T) { synctest.Test(t, testReadErrorIsTheNetworks) }
func testReadErrorIsTheNetworks(t *testing.T) {
	r := newRig(t, nil)
	_ = r.theirs.Close()
	if err := r.end(); !errors.Is(err, io.EOF) || errors.Is(err, wire.ErrProtocol) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended with %v, want EOF", err)
	}
}
