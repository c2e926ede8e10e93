// Package probe finds out what a place for backups really guarantees.
//
// It works in an empty place of its own beside the repository, never in it, with
// the credentials and the code that backups use: writers race for names, other
// connections read and list at once what was just written, bodies break in the
// middle. What it made it removes, and it says what it could not remove.
//
// # What it does not prove
//
// A place that kept its promises for half a minute may break them tomorrow: the
// drills are what proves a backup. How durable a place is can be asked of nobody
// but its operator.
package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/repo"
)

// An Outcome says what was found about one promise.
type Outcome string

// The outcomes.
const (
	Holds   Outcome = "holds"
	Missing Outcome = "missing" // and Holdfast needs it
	Open    Outcome = "open"    // it is not there, and could be
	Unknown Outcome = "unknown" // it could not be found out
	Told    Outcome = "told"    // a measurement
)

// A Check is one promise and what was found about it.
type Check struct {
	Name        string  `json:"name"`
	Outcome     Outcome `json:"outcome"`
	Detail      string  `json:"detail"`
	Consequence string  `json:"consequence,omitempty"` // of what is missing or open
	Hint        string  `json:"hint,omitempty"`
}

// A Place is an empty place to try things in.
type Place struct {
	Store repo.Store // as backups use it
	Again repo.Store // the same place over other connections
	// Traits says what only this kind of place has, once things were put there.
	// It may be nil.
	Traits func(ctx context.Context) []Check
	// Remove takes away what a place leaves that is no object. It may be nil.
	Remove func(ctx context.Context) error
}

// A Report is what was found.
type Report struct {
	Location string  `json:"location"`
	Address  string  `json:"address"`
	Kind     string  `json:"kind"`
	Seconds  float64 `json:"seconds"`
	Checks   []Check `json:"checks"`
	// Left is what could not be removed, and why.
	Left []string `json:"left,omitempty"`
	// Up and Down are bytes in a second over one connection; 0 is not measured.
	Up   float64 `json:"up_bytes_per_second"`
	Down float64 `json:"down_bytes_per_second"`
}

// Sufficient reports whether the place has everything that is needed.
func (r Report) Sufficient() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Outcome == Missing })
}

// Limits of one probe.
const (
	Budget      = 25 * time.Second // for all checks together
	cleanBudget = 15 * time.Second
	speedBudget = 3 * time.Second // for each direction
	speedBytes  = 64 << 20        // at most, in each direction
	speedObject = 8 << 20
	writers     = 8
	rounds      = 3
	listed      = 24
	drifted     = time.Minute // of clocks that still count as equal
	maxLeft     = 10          // names that are told
)

type prober struct {
	place  Place
	clock  func() time.Time
	report *Report
}

// Run tries a place. It returns within about Budget and the time of cleaning up.
func Run(ctx context.Context, p Place, clock func() time.Time) Report {
	began := clock()
	r := Report{}
	b := &prober{place: p, clock: clock, report: &r}
	func() {
		ctx, cancel := context.WithTimeout(ctx, Budget)
		defer cancel()
		if !b.step(ctx, "reachable", b.reach) {
			return
		}
		b.step(ctx, "put if absent", b.race)
		b.step(ctx, "no overwrite", b.overwrite)
		b.step(ctx, "whole or not at all", b.half)
		b.step(ctx, "read after write", b.readAfterWrite)
		b.step(ctx, "complete listing", b.listing)
		b.step(ctx, "range reads", b.ranges)
		b.step(ctx, "clock", b.drift)
		b.step(ctx, "speed", b.speed)
		b.step(ctx, "deletion", b.deletion)
		if p.Traits != nil {
			r.Checks = append(r.Checks, p.Traits(ctx)...)
		}
	}()
	// Also when the person at the terminal gave up: nothing is left without a word.
	cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanBudget)
	defer cancel()
	r.Left = b.clean(cctx)
	r.Seconds = clock().Sub(began).Seconds()
	return r
}

// step runs one check and records it. An error that is none of the place's promises
// makes it unknown.
func (b *prober) step(ctx context.Context, name string, f func(ctx context.Context) Check) bool {
	c := f(ctx)
	c.Name = name
	if c.Outcome == Missing && ctx.Err() != nil {
		c = Check{Name: name, Outcome: Unknown, Detail: "there was no time left for it: the place is slow"}
	}
	b.report.Checks = append(b.report.Checks, c)
	return c.Outcome != Missing && c.Outcome != Unknown
}

func missing(err error, consequence string) Check {
	return Check{Outcome: Missing, Detail: err.Error(), Consequence: consequence, Hint: holdfast.Hint(err)}
}

func put(ctx context.Context, s repo.Store, name string, b []byte) error {
	return s.Put(ctx, name, int64(len(b)), bytes.NewReader(b))
}

func get(ctx context.Context, s repo.Store, name string, off, n int64) ([]byte, error) {
	r, err := s.Get(ctx, name, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// content is different for every seed, and does not shrink.
func content(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func (b *prober) reach(ctx context.Context) Check {
	if err := put(ctx, b.place.Store, location.Marker, []byte("{\"probe\": true}\n")); err != nil {
		return missing(err, "nothing can be backed up there")
	}
	if _, err := get(ctx, b.place.Again, location.Marker, 0, -1); err != nil {
		return missing(err, "what is written there cannot be read back, so no backup there can be checked or restored")
	}
	return Check{Outcome: Holds, Detail: "it can be written and read with these credentials"}
}

// race lets writers on two connections run for the same names.
func (b *prober) race(ctx context.Context) Check {
	const consequence = "two writers can destroy each other's backups, and a thief with the writer's credentials can replace old ones"
	for round := range rounds {
		name := fmt.Sprintf("race/%d", round)
		errs := make([]error, writers)
		var all sync.WaitGroup
		for i := range writers {
			s := b.place.Store
			if i%2 == 1 {
				s = b.place.Again
			}
			all.Go(func() { errs[i] = put(ctx, s, name, content(uint64(i), 20_000+i)) })
		}
		all.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return missing(fmt.Errorf("two of %d writers were told that they were first", writers), consequence)
			case err == nil:
				winner = i
			case !errors.Is(err, fs.ErrExist):
				return missing(err, consequence)
			}
		}
		if winner < 0 {
			return missing(fmt.Errorf("none of %d writers was told that it was first", writers), consequence)
		}
		got, err := get(ctx, b.place.Again, name, 0, -1)
		if err == nil && !bytes.Equal(got, content(uint64(winner), 20_000+winner)) {
			err = errors.New("one writer was told that it was first, and another one's bytes are there")
		}
		if err != nil {
			return missing(err, consequence)
		}
	}
	return Check{Outcome: Holds, Detail: fmt.Sprintf("%d writers at the same moment, %d times: one was first each time", writers, rounds)}
}

func (b *prober) overwrite(ctx context.Context) Check {
	const consequence = "a backup can be replaced by its writer or by who has the writer's credentials"
	err := put(ctx, b.place.Store, "once", []byte("first"))
	if err == nil {
		if err = put(ctx, b.place.Again, "once", []byte("second")); errors.Is(err, fs.ErrExist) {
			err = nil
		} else if err == nil {
			err = errors.New("an object was overwritten")
		}
	}
	if err == nil {
		var got []byte
		if got, err = get(ctx, b.place.Store, "once", 0, -1); err == nil && string(got) != "first" {
			err = errors.New("an object was changed by a write that was refused")
		}
	}
	if err != nil {
		return missing(err, consequence)
	}
	return Check{Outcome: Holds, Detail: "a second write to a name is refused, and changes nothing"}
}

// broken is a source that cannot be read.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// half breaks a body in the middle.
func (b *prober) half(ctx context.Context) Check {
	boom := errors.New("broken on purpose")
	err := b.place.Store.Put(ctx, "half", 200_000, io.MultiReader(bytes.NewReader(content(0, 100_000)), broken{boom}))
	switch _, gerr := get(ctx, b.place.Again, "half", 0, -1); {
	case !errors.Is(err, boom):
		return missing(fmt.Errorf("a write whose source broke ended with: %v", err), "half a backup can look like a whole one")
	case gerr == nil:
		return missing(errors.New("half an object is there"), "half a backup can look like a whole one")
	case !errors.Is(gerr, fs.ErrNotExist):
		return missing(gerr, "half a backup can look like a whole one")
	}
	return Check{Outcome: Holds, Detail: "a write that breaks leaves no object"}
}

func (b *prober) readAfterWrite(ctx context.Context) Check {
	const consequence = "a backup that was reported complete may not be found when it is needed"
	for i := range 8 {
		name := fmt.Sprintf("fresh/%d", i)
		// Who asked before must not be answered from memory.
		if _, err := get(ctx, b.place.Again, name, 0, -1); !errors.Is(err, fs.ErrNotExist) {
			return missing(fmt.Errorf("an object that is not there: %v", err), consequence)
		}
		want := content(uint64(i), 5000)
		if err := put(ctx, b.place.Store, name, want); err != nil {
			return missing(err, consequence)
		}
		if got, err := get(ctx, b.place.Again, name, 0, -1); err != nil || !bytes.Equal(got, want) {
			return missing(fmt.Errorf("read at once over another connection: %d of %d bytes, %v", len(got), len(want), err), consequence)
		}
		found, err := names(ctx, b.place.Again, name)
		if err != nil || !slices.Contains(found, name) {
			return missing(fmt.Errorf("listed at once over another connection: %d objects, %v", len(found), err), consequence)
		}
	}
	return Check{Outcome: Holds, Detail: "what was written is read and listed at once over another connection"}
}

func names(ctx context.Context, s repo.Store, prefix string) ([]string, error) {
	var out []string
	err := s.List(ctx, prefix, func(o repo.Object) error { out = append(out, o.Name); return nil })
	return out, err
}

func (b *prober) listing(ctx context.Context) Check {
	const consequence = "objects that a listing leaves out look lost, and cannot be cleaned up"
	var want []string
	errs := make([]error, writers)
	var all sync.WaitGroup
	for i := range listed {
		want = append(want, fmt.Sprintf("listed/%c-%d/%d", "az-."[i%2], i%5, i))
	}
	for w := range writers {
		all.Go(func() {
			for i := w; i < len(want); i += writers {
				if err := put(ctx, b.place.Store, want[i], []byte{byte(i)}); err != nil {
					errs[w] = err
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return missing(err, consequence)
	}
	slices.Sort(want)
	for range 3 {
		got, err := names(ctx, b.place.Again, "listed/")
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("%d of %d objects are listed, or not in order", len(got), len(want))
		}
		if err != nil {
			return missing(err, consequence)
		}
	}
	return Check{Outcome: Holds, Detail: fmt.Sprintf("%d objects are listed three times, all of them and in order", listed)}
}

func (b *prober) ranges(ctx context.Context) Check {
	const consequence = "single files and pages cannot be fetched without the whole pack, and damage may go unnoticed"
	whole := content(7, 1<<20)
	if err := put(ctx, b.place.Store, "range", whole); err != nil {
		return missing(err, consequence)
	}
	for _, r := range [][2]int{{0, 1}, {0, 1 << 20}, {12345, 54321}, {1<<20 - 1, 1}} {
		got, err := get(ctx, b.place.Again, "range", int64(r[0]), int64(r[1]))
		if err == nil && !bytes.Equal(got, whole[r[0]:r[0]+r[1]]) {
			err = fmt.Errorf("%d bytes from %d on are not those that were written", r[1], r[0])
		}
		if err != nil {
			return missing(err, consequence)
		}
	}
	if got, err := get(ctx, b.place.Again, "range", 1<<20-10, 20); err == nil {
		return missing(fmt.Errorf("a range behind the end gave %d bytes and no error", len(got)), consequence)
	}
	return Check{Outcome: Holds, Detail: "any part of an object can be read, and nothing behind its end"}
}

// drift compares the place's clock with ours, by the time of an object.
func (b *prober) drift(ctx context.Context) Check {
	before := b.clock()
	if err := put(ctx, b.place.Store, "now", []byte("now")); err != nil {
		return Check{Outcome: Unknown, Detail: err.Error()}
	}
	after := b.clock()
	var at time.Time
	err := b.place.Store.List(ctx, "now", func(o repo.Object) error { at = o.Modified; return nil })
	if err != nil || at.IsZero() {
		return Check{Outcome: Unknown, Detail: fmt.Sprintf("it gives objects no time: %v", err)}
	}
	// Places tell whole seconds.
	var off time.Duration
	switch {
	case at.Before(before.Add(-time.Second)):
		off = at.Sub(before)
	case at.After(after.Add(time.Second)):
		off = at.Sub(after)
	}
	c := Check{Outcome: Holds, Detail: "its clock agrees with ours to a second or two"}
	if off != 0 {
		way := "ahead of"
		if off < 0 {
			way = "behind"
		}
		c.Detail = fmt.Sprintf("its clock is about %s %s ours", off.Abs().Round(time.Second), way)
	}
	if off.Abs() > drifted {
		c.Outcome = Open
		c.Consequence = "locks end earlier or later than the plan says; some object stores refuse requests when clocks differ by minutes"
		c.Hint = "let this machine and the place follow the same time servers"
	}
	return c
}

// speed measures one connection in each direction.
func (b *prober) speed(ctx context.Context) Check {
	var sent []string
	measure := func(f func(i int) error) (float64, error) {
		began, total := b.clock(), 0
		for i := 0; total < speedBytes; i++ {
			if err := f(i); err != nil {
				return 0, err
			}
			total += speedObject
			if b.clock().Sub(began) >= speedBudget || ctx.Err() != nil {
				break
			}
		}
		return float64(total) / max(b.clock().Sub(began).Seconds(), 0.001), nil
	}
	body := content(99, speedObject)
	up, err := measure(func(i int) error {
		sent = append(sent, fmt.Sprintf("speed/%d", i))
		return put(ctx, b.place.Store, sent[i], body)
	})
	if err != nil {
		return Check{Outcome: Unknown, Detail: err.Error(), Hint: holdfast.Hint(err)}
	}
	down, err := measure(func(i int) error {
		r, err := b.place.Again.Get(ctx, sent[i%len(sent)], 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	})
	if err != nil {
		return Check{Outcome: Unknown, Detail: err.Error(), Hint: holdfast.Hint(err)}
	}
	b.report.Up, b.report.Down = up, down
	return Check{Outcome: Told, Detail: fmt.Sprintf("%.1f MB/s up, %.1f MB/s down over one connection", up/1e6, down/1e6)}
}

// deletion finds out what a thief of the credentials could do.
func (b *prober) deletion(ctx context.Context) Check {
	err := b.place.Store.Delete(ctx, "once")
	switch {
	case err == nil:
		if _, gerr := get(ctx, b.place.Again, "once", 0, -1); !errors.Is(gerr, fs.ErrNotExist) {
			return Check{Outcome: Open, Detail: fmt.Sprintf("a deletion was accepted, and the object is answered with: %v", gerr), Consequence: "space may not become free"}
		}
		return Check{Outcome: Open, Detail: "these credentials may delete objects", Consequence: "who takes over this machine can destroy the backups that are not locked there",
			Hint: "deny deletion to the writer by the bucket's policy, lock objects, or keep another copy where this machine cannot delete"}
	case errors.Is(err, location.ErrLocked):
		return Check{Outcome: Holds, Detail: "a deletion is refused: the object is locked"}
	case errors.Is(err, location.ErrDenied):
		return Check{Outcome: Holds, Detail: "a deletion is refused: these credentials cannot destroy backups"}
	}
	return Check{Outcome: Unknown, Detail: err.Error(), Hint: holdfast.Hint(err)}
}

// clean removes everything, the marker last, and returns what is left.
func (b *prober) clean(ctx context.Context) []string {
	var left []string
	var why error
	found, err := names(ctx, b.place.Store, "")
	if err != nil {
		if !errors.Is(err, location.ErrUnreachable) { // without the marker nothing was ever put
			why = err
		}
	}
	slices.SortFunc(found, func(x, y string) int {
		if (x == location.Marker) != (y == location.Marker) {
			if x == location.Marker {
				return 1
			}
			return -1
		}
		return strings.Compare(x, y)
	})
	for _, name := range found {
		if name == location.Marker && len(left) > 0 {
			left = append(left, name)
			break
		}
		if err := b.place.Store.Delete(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			left, why = append(left, name), err
		}
	}
	if len(left) == 0 && b.place.Remove != nil {
		if err := b.place.Remove(ctx); err != nil {
			why = err
		}
	}
	if why == nil {
		return nil
	}
	if n := len(left); n > maxLeft {
		left = append(left[:maxLeft:maxLeft], fmt.Sprintf("and %d more", n-maxLeft))
	}
	return append(left, "because: "+why.Error())
}
