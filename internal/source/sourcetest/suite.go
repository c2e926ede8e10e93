// Package sourcetest is the suite that every kind of store passes.
//
// It holds an adapter to the contract of package source: a restore has an explicit
// target and reaches it or says why not; the store is only read; what was started is
// ended; somebody's files are never replaced; an error tells people what to do.
package sourcetest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// A Bed is one store with what the suite must know about it.
type Bed struct {
	Store source.Store
	Scope string // the store's name in the plan
	Kind  string // of its snapshots

	// Gone is a store of the same kind that is not there.
	Gone source.Store

	// Write changes the store, so that State says something new. If the store is
	// followed, it returns when the change can be restored.
	Write func(t *testing.T)

	// State says what the store holds. A Value that depends on more than the content, such
	// as a place or a time, must not be part of it.
	State func(t *testing.T) string

	// Restored says what a restored store holds, in the same words.
	Restored func(t *testing.T, r source.Restored, dir string) string

	// Runner runs engines; nil for kinds that have none.
	Runner source.Runner

	// Folder returns a new path where a restore may go: absent, and within reach of
	// the Runner's account.
	Folder func(t *testing.T) string

	// Running lists engines that restores started and that still run.
	Running func(t *testing.T) []string
}

// A Place is where the suite keeps snapshots of one bed.
type Place struct {
	Repo  *repo.Repository
	Keys  repotest.Keys
	Store *repotest.Memory
}

// Run holds a kind of store to its contract. open makes one store, protected at the
// given place; the suite uses it for all of its cases, in order.
func Run(t *testing.T, open func(t *testing.T, p Place) Bed) {
	p := Place{Keys: repotest.NewKeys(t), Store: repotest.NewMemory()}
	p.Repo = repotest.Init(t.Context(), t, p.Store, "sourcetest")
	s := &suite{Bed: open(t, p), place: p}
	if s.Running == nil {
		s.Running = func(*testing.T) []string { return nil }
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"empty place", s.empty},
		{"check and probe", s.checkAndProbe},
		{"cancelled snapshot", s.cancelledSnapshot},
		{"round trip", s.roundTrip},
		{"explicit target", s.explicitTarget},
		{"time", s.instants},
		{"only read", s.onlyRead},
		{"somebody's files", s.somebodysFiles},
		{"named snapshot", s.namedSnapshot},
		{"stranger's key", s.strangersKey},
		{"files only", s.filesOnly},
		{"cancelled restore", s.cancelledRestore},
		{"damaged place", s.damagedPlace},
		{"side by side", s.sideBySide},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t)
			if left := s.Running(t); len(left) > 0 {
				t.Errorf("left running: %q", left)
			}
		})
	}
}

type suite struct {
	Bed
	place Place

	first, second state // set by roundTrip
}

// A state is what the store held, when, and in which snapshot.
type state struct {
	text     string
	at       time.Time // between the writes before and after it
	snapshot string
}

var latest = holdfast.Target{Kind: holdfast.TargetLatest}

func (s *suite) writer(t *testing.T) *repo.Writer {
	t.Helper()
	w, err := repo.NewWriter(t.Context(), repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: s.place.Repo}}, Scope: s.Scope, Kind: s.Kind, Recipients: s.place.Keys.Recipients(),
		Signer: s.place.Keys.Signer, MAC: s.place.Keys.MAC, CacheDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (s *suite) snapshot(t *testing.T) string {
	t.Helper()
	w := s.writer(t)
	defer w.Abort()
	var last holdfast.Progress
	if err := s.Store.Snapshot(t.Context(), w, func(p holdfast.Progress) { last = p }); err != nil {
		t.Fatalf("%v (%s)", err, holdfast.Hint(err))
	}
	if last.Done > last.Total && last.Total > 0 {
		t.Errorf("the last progress was %+v", last)
	}
	m, copies, err := w.Finish(t.Context())
	if err != nil || len(copies) != 1 || copies[0].Err != nil {
		t.Fatal(copies, err)
	}
	return m.ID
}

func (s *suite) request(t *testing.T, target holdfast.Target) source.Request {
	t.Helper()
	return source.Request{Repo: s.place.Repo, Identities: []seal.Identity{s.place.Keys.Identity}, Target: target, Dir: s.Folder(t), Runner: s.Runner}
}

// restore must succeed, and prove what it says.
func (s *suite) restore(t *testing.T, req source.Request) string {
	t.Helper()
	r, err := s.Store.Restore(t.Context(), req)
	if err != nil {
		t.Fatalf("restore to %s: %v (%s)", req.Target, err, holdfast.Hint(err))
	}
	text := s.Restored(t, r, req.Dir)
	s.report(t, r, req)
	for range 2 { // it may be called again
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	return text
}

func (s *suite) report(t *testing.T, r source.Restored, req source.Request) {
	t.Helper()
	rep := r.Report()
	if rep.Snapshot == "" || rep.Reached == "" || rep.Asked != req.Target || rep.DataUntil.IsZero() || rep.Files == 0 || rep.Bytes == 0 {
		t.Errorf("report %+v", rep)
	}
	if rep.DataUntil.After(time.Now()) {
		t.Errorf("data until %s, which is to come", rep.DataUntil)
	}
	proved := map[holdfast.Rung]bool{}
	for _, c := range append(slices.Clone(rep.Checks), r.Integrity(t.Context())...) {
		if c.Outcome == holdfast.Failed || c.Name == "" || c.Detail == "" {
			t.Errorf("%s %q: %s: %s", c.Rung, c.Name, c.Outcome, c.Detail)
		}
		if c.Outcome == holdfast.Passed {
			proved[c.Rung] = true
		}
	}
	for _, rung := range []holdfast.Rung{holdfast.L1, holdfast.L3, holdfast.L4} {
		if !proved[rung] {
			t.Errorf("%s is not proved: %+v", rung, rep.Checks)
		}
	}
}

// refused must fail, leave nothing running, and say what to do if hinted.
func (s *suite) refused(t *testing.T, what string, req source.Request, hinted bool) error {
	t.Helper()
	r, err := s.Store.Restore(t.Context(), req)
	if err == nil {
		t.Errorf("%s: the restore succeeded: %+v", what, r.Report())
		_ = r.Close(t.Context())
		return nil
	}
	if r != nil {
		t.Errorf("%s: a failed restore gives something back", what)
	}
	if hinted && holdfast.Hint(err) == "" {
		t.Errorf("%s: the error does not say what to do: %v", what, err)
	}
	return err
}

// Nothing held is no window, and no restore.
func (s *suite) empty(t *testing.T) {
	p := repotest.Init(t.Context(), t, repotest.NewMemory(), "empty")
	if ws, err := s.Store.Windows(t.Context(), p); err != nil || len(ws) != 0 {
		t.Errorf("windows of an empty place: %+v, %v", ws, err)
	}
	req := s.request(t, latest)
	req.Repo = p
	s.refused(t, "an empty place", req, true)
	if _, err := os.Lstat(req.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused restore left a folder")
	}
}

func (s *suite) checkAndProbe(t *testing.T) {
	for _, f := range s.Store.Check(t.Context()) {
		if f.Severity == holdfast.SeverityError {
			t.Errorf("a healthy store: %s %s", f.Code, f.Message)
		}
		if f.Code == "" || f.Message == "" || f.Subject == "" || f.Hint == "" {
			t.Errorf("finding %+v", f)
		}
	}
	if err := s.Store.Probe(t.Context()); err != nil {
		t.Errorf("a healthy store: %v", err)
	}
	bad := s.Gone.Check(t.Context())
	if !holdfast.AnyErrors(bad) {
		t.Errorf("a store that is not there: findings %+v", bad)
	}
	for _, f := range bad {
		if f.Code == "" || f.Message == "" || f.Subject == "" || f.Hint == "" {
			t.Errorf("finding %+v", f)
		}
	}
	if err := s.Gone.Probe(t.Context()); err == nil {
		t.Error("a store that is not there answers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Store.Probe(ctx); err == nil {
		t.Error("a cancelled probe says that the store answers")
	}
}

// What was broken off is no snapshot.
func (s *suite) cancelledSnapshot(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := s.writer(t)
	err := s.Store.Snapshot(ctx, w, nil)
	w.Abort()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if ms, err := s.place.Repo.Manifests(t.Context(), s.Scope); err != nil || len(ms) != 0 {
		t.Errorf("%d snapshots, %v", len(ms), err)
	}
}

func (s *suite) roundTrip(t *testing.T) {
	keep := func() state {
		t.Helper()
		s.Write(t)
		st := state{text: s.State(t), snapshot: s.snapshot(t)}
		st.at = time.Now()
		return st
	}
	s.first = keep()
	s.second = keep()
	if s.first.text == s.second.text {
		t.Fatal("the store did not change: the suite proves nothing")
	}
	if got := s.restore(t, s.request(t, latest)); got != s.second.text {
		t.Errorf("latest: got %q, want %q", got, s.second.text)
	}
	ws, err := s.Store.Windows(t.Context(), s.place.Repo)
	if err != nil || len(ws) == 0 {
		t.Fatalf("windows %+v, %v", ws, err)
	}
	for _, w := range ws {
		if w.Store != s.Scope || w.Snapshot == "" || w.From.IsZero() || w.To.Before(w.From) || w.Bases == 0 || w.To.After(time.Now()) {
			t.Errorf("window %+v", w)
		}
	}
}

// There is no default target, for no kind of store and for no snapshot.
func (s *suite) explicitTarget(t *testing.T) {
	for _, target := range []holdfast.Target{{}, {Kind: holdfast.TargetTime}, {Kind: "someday"}, {Kind: holdfast.TargetLSN}} {
		for _, snapshot := range []string{"", s.first.snapshot} {
			req := s.request(t, target)
			req.Snapshot = snapshot
			if err := s.refused(t, "target "+string(target.Kind), req, false); err != nil && !errors.Is(err, holdfast.ErrUsage) {
				t.Errorf("target %+v, snapshot %q: %v is no error of use", target, snapshot, err)
			}
			if _, err := os.Lstat(req.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("target %+v: a refused restore left a folder", target)
			}
		}
	}
}

func (s *suite) instants(t *testing.T) {
	at := holdfast.Target{Kind: holdfast.TargetTime, Time: s.first.at}
	if got := s.restore(t, s.request(t, at)); got != s.first.text {
		t.Errorf("%s: got %q, want %q", at, got, s.first.text)
	}
	ws, err := s.Store.Windows(t.Context(), s.place.Repo)
	if err != nil || len(ws) == 0 {
		t.Fatalf("windows %+v, %v", ws, err)
	}
	// The edges of a window are part of it, and an instant before all of them is not.
	for _, at := range []time.Time{ws[0].From, ws[len(ws)-1].To} {
		s.restore(t, s.request(t, holdfast.Target{Kind: holdfast.TargetTime, Time: at}))
	}
	s.refused(t, "before everything", s.request(t, holdfast.Target{Kind: holdfast.TargetTime, Time: ws[0].From.Add(-time.Hour)}), true)
}

// Neither looking nor copying nor restoring changes the store.
func (s *suite) onlyRead(t *testing.T) {
	before := s.State(t)
	s.Store.Check(t.Context())
	if err := s.Store.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	s.snapshot(t)
	s.restore(t, s.request(t, latest))
	if after := s.State(t); after != before {
		t.Errorf("the store changed: %q, was %q", after, before)
	}
}

// A folder with anything in it is refused, and stays as it is.
func (s *suite) somebodysFiles(t *testing.T) {
	req := s.request(t, latest)
	if err := os.MkdirAll(req.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(req.Dir, "holiday pictures")
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused(t, "a folder in use", req, true)
	entries, err := os.ReadDir(req.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "mine" {
		t.Errorf("somebody's file: %q, %v", b, err)
	}
	// An empty one is as good as none.
	req = s.request(t, latest)
	if err := os.MkdirAll(req.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.restore(t, req)
}

func (s *suite) namedSnapshot(t *testing.T) {
	req := s.request(t, holdfast.Target{Kind: holdfast.TargetImmediate})
	req.Snapshot = s.first.snapshot
	if got := s.restore(t, req); got != s.first.text {
		t.Errorf("snapshot %s: got %q, want %q", req.Snapshot, got, s.first.text)
	}
	req = s.request(t, holdfast.Target{Kind: holdfast.TargetTime, Time: s.first.at})
	req.Snapshot = s.second.snapshot
	s.refused(t, "a snapshot that is newer than the target", req, true)
	req = s.request(t, latest)
	req.Snapshot = "20200101T000000Z-00000000"
	s.refused(t, "an unknown snapshot", req, false)
}

func (s *suite) strangersKey(t *testing.T) {
	stranger, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	req := s.request(t, latest)
	req.Identities = []seal.Identity{stranger}
	if err := s.refused(t, "a stranger's key", req, false); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(req.Dir); err == nil && len(entries) > 0 {
		t.Errorf("a stranger's key left %v", entries)
	}
}

// FilesOnly brings the content and starts nothing.
func (s *suite) filesOnly(t *testing.T) {
	req := s.request(t, latest)
	req.FilesOnly = true
	r, err := s.Store.Restore(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if left := s.Running(t); len(left) > 0 {
		t.Errorf("running: %q", left)
	}
	content := false
	for _, c := range r.Report().Checks {
		content = content || c.Rung == holdfast.L3 && c.Outcome == holdfast.Passed
	}
	if !content {
		t.Errorf("checks %+v", r.Report().Checks)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A restore that is broken off at any stage leaves nothing running.
func (s *suite) cancelledRestore(t *testing.T) {
	stages := map[string]bool{}
	req := s.request(t, latest)
	var mu sync.Mutex
	req.Progress = func(p holdfast.Progress) {
		mu.Lock()
		defer mu.Unlock()
		stages[p.Stage] = true
	}
	s.restore(t, req)
	if len(stages) == 0 {
		t.Error("a restore tells no progress")
	}
	for stage := range stages {
		ctx, cancel := context.WithCancel(t.Context())
		req := s.request(t, latest)
		req.Progress = func(p holdfast.Progress) {
			if p.Stage == stage {
				cancel()
			}
		}
		r, err := s.Store.Restore(ctx, req)
		cancel()
		if err == nil { // it may have been over by then
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled in stage %q: %v", stage, err)
		}
		if left := s.Running(t); len(left) > 0 {
			t.Errorf("cancelled in stage %q: running: %q", stage, left)
		}
	}
}

// Damage is never a success: an error, or a check that failed.
func (s *suite) damagedPlace(t *testing.T) {
	broken := s.place.Store.Clone()
	for _, name := range broken.Names() {
		if b := broken.Bytes(name); strings.HasPrefix(name, "packs/") {
			for i := len(b) / 8; i < len(b); i += 61 { // some of it lies in no file
				b[i] ^= 1
			}
			broken.Set(name, b)
		}
	}
	r, err := repo.Open(t.Context(), broken)
	if err != nil {
		t.Fatal(err)
	}
	req := s.request(t, latest)
	req.Repo = r
	got, err := s.Store.Restore(t.Context(), req)
	if err != nil {
		return
	}
	failed := false
	for _, c := range got.Report().Checks {
		failed = failed || c.Outcome == holdfast.Failed
	}
	if !failed {
		t.Errorf("damage went unnoticed: %+v", got.Report().Checks)
	}
	if err := got.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Everything but two snapshots of one store may run at the same time.
func (s *suite) sideBySide(t *testing.T) {
	var wg sync.WaitGroup
	want := s.State(t)
	for range 2 {
		req := s.request(t, latest)
		wg.Go(func() {
			r, err := s.Store.Restore(t.Context(), req)
			if err != nil {
				t.Errorf("restore: %v", err)
				return
			}
			if got := s.Restored(t, r, req.Dir); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { s.Store.Check(t.Context()) })
		wg.Go(func() {
			if err := s.Store.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if ws, err := s.Store.Windows(t.Context(), s.place.Repo); err != nil || len(ws) == 0 {
				t.Error(ws, err)
			}
		})
	}
	wg.Wait()
}
