package pool

import (
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

func TestLimitAndReuse(t *testing.T) {
	p := New(8, 2)
	a, b := p.TryGet(), p.TryGet()
	if a == nil || b == nil || p.TryGet() != nil {
		t.Fatal("a pool of two does not lend exactly two")
	}
	if len(a.Bytes()) != 8 || p.Size() != 8 || p.Outstanding() != 2 {
		t.Errorf("%d bytes, size %d, %d lent", len(a.Bytes()), p.Size(), p.Outstanding())
	}
	a.Release()
	b.Release()
	if got := p.TryGet(); got != b {
		t.Error("the buffer used last is not the first to be lent again")
	}
	if p.TryGet() != a || p.TryGet() != nil {
		t.Error("buffers were made beyond the limit")
	}
}

func TestReleaseTwicePanics(t *testing.T) {
	p := New(8, 2)
	b := p.TryGet()
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
		if p.Outstanding() != 0 || p.TryGet() == nil {
			t.Error("the pool is unusable afterwards")
		}
	}()
	b.Release()
}

func TestNewPanicsOnNothing(t *testing.T) {
	for _, a := range [][2]int{{0, 1}, {1, 0}, {-1, 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%d, %d) did not panic", a[0], a[1])
				}
			}()
			New(a[0], a[1])
		}()
	}
}

func TestGetWaitsInOrder(t *testing.T) { synctest.Test(t, testGetWaitsInOrder) }
func testGetWaitsInOrder(t *testing.T) {
	p := New(8, 1)
	held := p.Get(nil)
	order := make(chan int, 3)
	for i := range 3 {
		go func() {
			b := p.Get(nil)
			order <- i
			b.Release()
		}()
		synctest.Wait() // until it waits
	}
	if len(order) != 0 {
		t.Fatal("a buffer was lent beyond the limit")
	}
	held.Release()
	synctest.Wait()
	for want := range 3 {
		if got := <-order; got != want {
			t.Errorf("number %d was served as number %d", got, want)
		}
	}
	if p.Outstanding() != 0 {
		t.Errorf("%d lent at the end", p.Outstanding())
	}
}

func TestGetGivesUp(t *testing.T) { synctest.Test(t, testGetGivesUp) }
func testGetGivesUp(t *testing.T) {
	p := New(8, 1)
	held := p.Get(nil)
	done, got := make(chan struct{}), make(chan *Buffer)
	go func() { got <- p.Get(done) }()
	synctest.Wait()
	close(done)
	if b := <-got; b != nil {
		t.Fatal("a buffer came from nowhere")
	}
	held.Release()
	if p.Outstanding() != 0 || p.TryGet() != held {
		t.Error("the buffer went to somebody who had left")
	}
}

// A buffer that is handed over at the moment of giving up is neither lost nor lent twice.
func TestGiveUpRace(t *testing.T) {
	p := New(8, 4)
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 2000 {
				done := make(chan struct{})
				if rng.UintN(2) == 0 {
					go close(done)
				}
				if b := p.Get(done); b != nil {
					b.Bytes()[0]++ // the race detector tells if it has two owners
					b.Release()
				}
			}
		})
	}
	wg.Wait()
	if p.Outstanding() != 0 || len(p.free) > 4 {
		t.Errorf("%d lent, %d free of at most 4", p.Outstanding(), len(p.free))
	}
}

func BenchmarkGetRelease(b *testing.B) {
	p := New(16<<10, 4)
	b.ReportAllocs()
	for b.Loop() {
		p.Get(nil).Release()
	}
}
