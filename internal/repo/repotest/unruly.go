package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"holdfast/internal/repo"
)

// ErrKept is why an Unruly store does not delete.
var ErrKept = errors.New("locked until next year")

// Unruly is a store that does not keep the contract of repo.Store, in the ways that its
// fields say, without a word where the field does not say otherwise. Set them while no
// call is made.
type Unruly struct {
	repo.Store

	// Before is called before every call takes effect, with its number from 1.
	Before func(call int, verb, name string)

	Hides func(name string) bool       // these are not listed
	Keeps func(name string) bool       // deletes of these are refused with ErrKept
	Lies  bool                         // deletes are acknowledged and not done
	Sizes func(size int64) int64       // listings show these sizes
	Shift time.Duration                // the place's clock is ahead by this
	Ends  int                          // a listing ends after so many objects; 0: never
	Short func(name string) (cut bool) // the content of these ends in the middle
	Tears func(name string) bool       // a put of these leaves half of the content under the name, and fails

	// Lag is for how many calls a new object is seen by no get and no listing, though its
	// name is taken.
	Lag int

	mu    sync.Mutex
	calls int
	fresh map[string]int // until which call
}

// Calls returns how many calls were made.
func (u *Unruly) Calls() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls
}

func (u *Unruly) begin(verb, name string) {
	u.mu.Lock()
	u.calls++
	n := u.calls
	u.mu.Unlock()
	if u.Before != nil {
		u.Before(n, verb, name)
	}
}

func (u *Unruly) unseen(name string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls < u.fresh[name]
}

// Put implements repo.Store.
func (u *Unruly) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	u.begin("put", name)
	if u.Tears != nil && u.Tears(name) {
		half, err := io.ReadAll(io.LimitReader(body, size/2))
		if err == nil {
			err = u.Store.Put(ctx, name, int64(len(half)), bytes.NewReader(half))
		}
		return errors.Join(fmt.Errorf("put %q: %w", name, ErrInjected), err)
	}
	err := u.Store.Put(ctx, name, size, body)
	if err == nil && u.Lag > 0 {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.fresh == nil {
			u.fresh = map[string]int{}
		}
		u.fresh[name] = u.calls + u.Lag
	}
	return err
}

// Get implements repo.Store.
func (u *Unruly) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	u.begin("get", name)
	if u.unseen(name) {
		return nil, &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist}
	}
	rc, err := u.Store.Get(ctx, name, off, n)
	if err != nil || u.Short == nil || !u.Short(name) {
		return rc, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return io.NopCloser(bytes.NewReader(b[:len(b)/2])), err
}

// List implements repo.Store.
func (u *Unruly) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	u.begin("list", prefix)
	n := 0
	return u.Store.List(ctx, prefix, func(o repo.Object) error {
		if n++; u.Ends > 0 && n > u.Ends || u.Hides != nil && u.Hides(o.Name) || u.unseen(o.Name) {
			return nil
		}
		if u.Sizes != nil {
			o.Size = u.Sizes(o.Size)
		}
		o.Modified = o.Modified.Add(u.Shift)
		return fn(o)
	})
}

// Delete implements repo.Store.
func (u *Unruly) Delete(ctx context.Context, name string) error {
	u.begin("delete", name)
	switch {
	case u.Keeps != nil && u.Keeps(name):
		return fmt.Errorf("delete %q: %w", name, ErrKept)
	case u.Lies:
		return nil
	}
	return u.Store.Delete(ctx, name)
}
