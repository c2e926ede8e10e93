package pace_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/pace"
)

func TestPaceHoldsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.PerSecond(1 << 20)
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 { // together, not each
			wg.Go(func() {
				n, err := io.Copy(io.Discard, p.Reader(t.Context(), bytes.NewReader(make([]byte, 3<<20))))
				if n != 3<<20 || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began).Round(time.Second); took != 12*time.Second {
			t.Errorf("12 MiB at 1 MiB/s took %s", took)
		}
		<-time.After(time.Hour) // nothing is saved up
		began = time.Now()
		if err := p.Wait(t.Context(), 5<<20); err != nil {
			t.Error(err)
		}
		if took := time.Since(began).Round(time.Second); took != 5*time.Second {
			t.Errorf("5 MiB after a pause took %s", took)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := pace.PerSecond(1).Wait(ctx, 1000); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
}

func TestNoPace(t *testing.T) {
	for _, p := range []*pace.Pace{nil, pace.PerSecond(0), pace.PerSecond(-1)} {
		if err := p.Wait(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, p.Reader(t.Context(), bytes.NewReader(make([]byte, 1<<20)))); err != nil {
			t.Error(err)
		}
	}
}
