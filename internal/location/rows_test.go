package location_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

const year = 365 * 24 * time.Hour

func nothing(t *testing.T, m *matrix) {
	h := m.begin(t, "nothing")
	if err := h.disturbed(); err != nil {
		t.Errorf("the run: %v", err)
	}
	if h.spot.faulty.Calls() < 30 {
		t.Errorf("the faults see only %d calls", h.spot.faulty.Calls())
	}
	h.holds(nil)
	h.converges()
}

// Every call to the place fails, before and after it took effect.
func eachCall(t *testing.T, m *matrix) {
	h := m.begin(t, "counting")
	must(t, h.disturbed())
	calls := h.spot.faulty.Calls()
	for _, landed := range []bool{false, true} {
		loud := 0
		for _, n := range m.positions(calls, 4) {
			h := m.begin(t, "call %d of %d, landed %t", n, calls, landed)
			h.fail(n, landed)
			err := h.disturbed()
			if !h.spot.faulty.Tripped() {
				t.Errorf("%s: was not broken", h.what)
			}
			if err != nil {
				loud++
			}
			h.holds(nil)
			h.converges()
		}
		if loud == 0 {
			t.Errorf("landed %t: no run was loud", landed)
		}
	}
}

// The connection breaks after so many bytes of either side, once or until it is mended.
func lineBreaks(t *testing.T, m *matrix) {
	h := m.begin(t, "counting")
	if h.spot.line == nil {
		return // a directory has none; its calls fail above
	}
	must(t, h.disturbed())
	ofClients, ofServer := h.spot.line.Took()
	for _, side := range []string{"client", "server"} {
		// For good takes long: each kind's client tries again for a while.
		for _, forGood := range []bool{false, true} {
			if forGood && !m.all && side == "server" {
				continue
			}
			// No two runs are of one length to the byte: keys and signatures are not.
			at := m.rng.Int64N(map[string]int64{"client": ofClients, "server": ofServer}[side] * 9 / 10)
			h := m.begin(t, "cut after %d bytes of the %s, for good %t", at, side, forGood)
			if side == "client" {
				h.spot.line.Cut(at, -1, forGood)
			} else {
				h.spot.line.Cut(-1, at, forGood)
			}
			err := h.disturbed()
			if h.spot.line.Cuts() == 0 {
				t.Errorf("%s: the line did not break", h.what)
			}
			if forGood && err == nil {
				t.Errorf("%s: the run was silent", h.what)
			}
			h.holds(nil)
			h.converges()
		}
	}
}

// A place leaves half an object under its name, which none may. What is named like a
// snapshot is told as damaged, and nothing is built on it.
func tears(t *testing.T, m *matrix) {
	for _, prefix := range []string{"packs/", "logs/", "snapshots/"} {
		h := m.begin(t, "a torn put of %s", prefix)
		torn := ""
		var mu sync.Mutex
		h.misbehave(func(u *repotest.Unruly) {
			u.Tears = func(name string) bool {
				mu.Lock()
				defer mu.Unlock()
				if torn == "" && strings.HasPrefix(name, prefix) {
					torn = name
					return true
				}
				return false
			}
		})
		if err := h.disturbed(); err == nil {
			t.Errorf("%s: the run was silent", h.what)
		}
		named := func(err error) bool { return strings.Contains(err.Error(), torn) && repo.IsDamage(err) }
		h.holds(named)
		// Nobody else knows what it was: a person takes it away, and everything goes on.
		must(t, h.spot.honest().Delete(t.Context(), torn))
		h.converges()
	}
}

func shortReads(t *testing.T, m *matrix) {
	for _, prefix := range []string{"packs/", "snapshots/", "receipts/", "tombstones/", location.Marker} {
		h := m.begin(t, "short reads of %s", prefix)
		h.misbehave(func(u *repotest.Unruly) { u.Short = func(name string) bool { return strings.HasPrefix(name, prefix) } })
		// A receipt that cannot be read costs nothing here: its name keeps the snapshot.
		if err := h.disturbed(); err == nil && prefix != "receipts/" {
			t.Errorf("%s: the run was silent", h.what)
		}
		h.holds(nil)
		h.converges()
	}
}

func lags(t *testing.T, m *matrix) {
	for _, lag := range []int{1, 3, 10, 30, 1000} {
		h := m.begin(t, "new objects unseen for %d calls", lag)
		h.misbehave(func(u *repotest.Unruly) { u.Lag = lag })
		_ = h.disturbed() // loud where it looked too early; what counts is what lies there
		h.holds(nil)
		h.converges()
	}
}

func listingsEnd(t *testing.T, m *matrix) {
	loud := 0
	for _, n := range []int{1, 2, 3} {
		h := m.begin(t, "listings end after %d objects", n)
		h.misbehave(func(u *repotest.Unruly) { u.Ends = n })
		if h.disturbed() != nil {
			loud++
		}
		h.holds(nil)
		h.converges()
	}
	if loud == 0 {
		t.Error("no run was loud")
	}
}

// A size that a listing shows decides nothing alone: where it does not fit, the object
// is read, or nothing is built on it.
func wrongSizes(t *testing.T, m *matrix) {
	for name, size := range map[string]func(int64) int64{
		"none": func(int64) int64 { return 0 }, "less": func(n int64) int64 { return n - 1 }, "more": func(n int64) int64 { return n + 1 },
		"huge": func(int64) int64 { return 1 << 62 }, "negative": func(int64) int64 { return -1 },
	} {
		h := m.begin(t, "wrong sizes: %s", name)
		h.misbehave(func(u *repotest.Unruly) { u.Sizes = size })
		_ = h.disturbed() // loud, or complete all the same
		h.holds(nil)
		h.converges()
	}
}

// Whose clock is wrong, and in which direction, nothing is lost. That it is wrong is told
// where times are compared: at the receipt, and by the guard of deletion.
func clocks(t *testing.T, m *matrix) {
	for _, off := range []time.Duration{-year, year} {
		for who, set := range map[string]func(*history){
			"writer": func(h *history) { h.write = off },
			"vault":  func(h *history) { h.vault = off },
			"place":  func(h *history) { h.misbehave(func(u *repotest.Unruly) { u.Shift = off }) },
		} {
			h := m.begin(t, "the %s's clock is off by %s", who, off)
			set(h)
			if err := h.disturbed(); err != nil {
				t.Errorf("%s: the run: %v", h.what, err)
			}
			h.holds(nil)
			if who != "vault" || off < 0 {
				h.converges()
				continue
			}
			// What a vault of next year published is due next year: it waits, and hurts nobody.
			h.vault = 0
			must(t, h.run(h.spot.open(), 8))
			h.holds(nil)
		}
	}
}

// The disk has room for so much, and no more.
func fullDisk(t *testing.T, m *matrix) {
	sizes := []int64{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 20 << 10, 28 << 10, 36 << 10, 48 << 10, 64 << 10}
	picked := sizes[:0:0]
	for _, i := range m.positions(len(sizes), 4) {
		picked = append(picked, sizes[i-1])
	}
	loud := 0
	for _, leave := range picked {
		h := m.begin(t, "%d bytes are free", leave)
		free := m.fill(t, leave)
		err := h.disturbed()
		if err != nil {
			loud++
		}
		if leave == 0 && !errors.Is(err, location.ErrFull) && m.kind.name != "S3" { // whose server does not say why
			t.Errorf("%s: %v, want ErrFull", h.what, err)
		}
		h.holds(nil)
		free()
		h.converges()
	}
	if loud == 0 {
		t.Error("no run was loud")
	}
}

// From one call on, the place refuses the credentials.
func revoked(t *testing.T, m *matrix) {
	for _, n := range m.positions(20, 3) {
		h := m.begin(t, "credentials are revoked at call %d", n)
		at := h.spot.unruly.Calls() + n
		var once sync.Once
		h.misbehave(func(u *repotest.Unruly) {
			u.Before = func(call int, _, _ string) {
				if call >= at {
					once.Do(func() { h.spot.revoke(true) })
				}
			}
		})
		if err := h.disturbed(); err == nil {
			t.Errorf("%s: the run was silent", h.what)
		}
		h.spot.revoke(false)
		h.holds(nil)
		h.converges()
	}
}

// Two hosts believe that they are the writer of one source. Both snapshots are whole; of
// two different pieces of log for one position one is refused, loudly.
func twoWriters(t *testing.T, m *matrix) {
	h := m.begin(t, "two writers")
	ctx := t.Context()
	var all sync.WaitGroup
	var mu sync.Mutex
	errs := make([]error, 2)
	for i := range 2 {
		// Each has its own process, client, memory and clock.
		own := *h
		own.truth, own.cache, own.now = map[string]tree{}, t.TempDir(), h.now.Add(time.Duration(i)*time.Millisecond)
		s := h.spot.open()
		all.Go(func() {
			r, err := own.opened(ctx, s)
			if err != nil {
				errs[i] = err
				return
			}
			man, err := own.snapshot(ctx, r, tree{"a": content(1, 20_000), "b": content(uint64(40+i), 15_000)}, own.cache)
			log := content(uint64(50+i), 3000)
			lerr := r.PutLog(ctx, piece(3000, log), log, own.keys.LogKeys())
			mu.Lock()
			defer mu.Unlock()
			for id, files := range own.truth {
				h.truth[id] = files
			}
			if err == nil {
				h.acked[man.ID] = true
			}
			if lerr == nil {
				h.logs[3000] = log
			}
			errs[i] = errors.Join(err, lerr)
		})
	}
	all.Wait()
	switch first, second := errs[0], errs[1]; {
	case first == nil && second == nil:
		t.Error("both pieces of log were taken for one position")
	case first != nil && second != nil:
		t.Errorf("nobody won: %v; %v", first, second)
	case !errors.Is(errors.Join(first, second), repo.ErrConflict):
		t.Errorf("the other one: %v", errors.Join(first, second))
	}
	if len(h.acked) != 4 {
		t.Errorf("%d snapshots, want 4", len(h.acked))
	}
	h.holds(nil)
	h.now = h.now.Add(time.Minute)
	h.converges()
}

// A place that does not delete keeps everything, says so, and is not waited for.
func refused(t *testing.T, m *matrix) {
	for _, prefix := range []string{"snapshots/", "packs/"} {
		h := m.begin(t, "deletes of %s are refused", prefix)
		// Something that is garbage from the first run on.
		must(t, h.disturbed())
		h.misbehave(func(u *repotest.Unruly) { u.Keeps = func(name string) bool { return strings.HasPrefix(name, prefix) } })
		err := h.run(h.spot.open(), 5)
		if prefix == "snapshots/" && err == nil {
			t.Errorf("%s: the run was silent", h.what)
		}
		r, oerr := h.opened(t.Context(), h.spot.open())
		must(t, oerr)
		out, cerr := h.collector(r).Collect(t.Context())
		if cerr != nil {
			t.Errorf("%s: %v", h.what, cerr)
		}
		if prefix == "packs/" && (out.Deleted > 0 || out.Refused == 0 || out.Why == "") {
			t.Errorf("%s: %+v", h.what, out)
		}
		h.now = h.now.Add(repo.GarbageWait + time.Hour)
		h.holds(nil)
		h.converges()
	}
}

// A place that says that it deleted, and did not: what it still lists is complete, and
// the next honest deletion takes it.
func liedTo(t *testing.T, m *matrix) {
	h := m.begin(t, "deletes are acknowledged and not done")
	h.misbehave(func(u *repotest.Unruly) { u.Lies = true })
	for i := range 2 {
		_ = h.run(h.spot.open(), uint64(4+i)) // loud as soon as what was removed is listed again
		h.holds(nil)
	}
	h.converges()
	if len(h.gone) == 0 {
		t.Error(fmt.Sprint("nothing was removed: ", h.truth))
	}
}
