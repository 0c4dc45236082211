//go:build unix

package cli

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bittern/cmd/internal/app"
)

// timeout(1) signals its child and then the group that the child is in: those are one signal. What
// comes later is the user's impatience.
func TestEndOnSignal(t *testing.T) { synctest.Test(t, testEndOnSignal) }
func testEndOnSignal(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	signals, returned := make(chan os.Signal, 2), make(chan time.Duration, 1)
	start := time.Now()
	go func() {
		endOnSignal(signals, end)
		returned <- time.Since(start)
	}()
	signals <- syscall.SIGTERM
	synctest.Wait()
	if sig, ok := errors.AsType[app.SignalError](context.Cause(ctx)); !ok || sig.Sig != syscall.SIGTERM {
		t.Fatalf("cause %v, want SIGTERM", context.Cause(ctx))
	}
	signals <- syscall.SIGTERM
	signals <- syscall.SIGCONT
	if took := <-returned; took != oneSignal {
		t.Errorf("returned after %v, want exactly %v", took, oneSignal)
	}
}
