// Package pace holds work back to a rate, so that a backup leaves room on a disk or a
// line for those whose day it is.
package pace

import (
	"context"
	"io"
	"sync"
	"time"
)

// A Pace is a rate that several workers share. A nil Pace holds nobody back.
type Pace struct {
	rate int64 // bytes per second

	mu   sync.Mutex
	free time.Time // when all that was let through is paid for
}

// atOnce bounds what is let through in one piece, so that work flows.
const atOnce = 256 << 10

// PerSecond is a rate in bytes; of 0 or less there is none.
func PerSecond(bytes int64) *Pace {
	if bytes <= 0 {
		return nil
	}
	return &Pace{rate: bytes}
}

// Wait returns when n bytes more may pass, or with the error of ctx. Time in which
// nobody came is not saved up.
func (p *Pace) Wait(ctx context.Context, n int) error {
	if p == nil || n <= 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	wait := p.free.Sub(now)
	p.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reader is r at this pace.
func (p *Pace) Reader(ctx context.Context, r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &reader{ctx, p, r}
}

type reader struct {
	ctx context.Context
	p   *Pace
	r   io.Reader
}

func (r *reader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), atOnce)])
	if werr := r.p.Wait(r.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}
