package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// run carries one drill out.
//
// A crash anywhere before Done leaves the drill running in the table; the job is
// given out again and begins again in a new sandbox, at most drillAttempts times.
// After that the drill is settled as failed. The engine of the first attempt died
// with its process; its files go when the state is next opened.
func (m *Module) run(ctx context.Context, w *job.Work) error {
	var a runArgs
	if err := w.Decode(&a); err != nil {
		return job.Permanent(err)
	}
	d, err := m.begin(ctx, a.ID)
	if err != nil {
		return err
	}
	c := &climb{m: m, d: &d, w: w}
	switch {
	case d.Ended():
		return nil // Settle was faster
	case d.Attempt > drillAttempts:
		d.Attempt, d.Error = drillAttempts, fmt.Sprintf("given up: it was begun %d times, and each time the process that ran it ended", drillAttempts)
	default:
		if err := c.all(ctx); err != nil {
			d.Error = bounded(holdfast.Tell(err).Error())
		}
	}
	if errors.Is(context.Cause(ctx), job.ErrCancelled) && d.Error != "" {
		d.Error = bounded("the drill was cancelled: " + d.Error)
	} else if errors.Is(ctx.Err(), context.Canceled) && d.verdict() != StatePassed {
		// We are being stopped, or lost the job: what failed now says nothing
		// of the backup. The drill goes on after the restart, or elsewhere.
		return fmt.Errorf("drill %s was interrupted: %w", d.ID, context.Cause(ctx))
	}
	for i := range d.Checks {
		d.Checks[i].Detail = bounded(d.Checks[i].Detail)
	}
	ctx = context.WithoutCancel(ctx)
	d.Finished = m.cfg.Clock().UTC()
	d.Rung = min(d.Goal, holdfast.HighestRung(d.Checks))
	d.State = d.verdict()
	d.Parts = c.parts()
	d.Verdicts = d.verdicts(c.promise)
	return w.Done(ctx, Ran{d.ID, d.State, d.Location, d.Rung, d.Report.Bytes, d.Report.Snapshot, d.why()}, func(tx *db.Tx) error {
		if err := c.recordReads(ctx, tx); err != nil {
			return err
		}
		return m.end(ctx, tx, d)
	})
}

// why says in one line why a drill did not pass; "" if it did.
func (d Drill) why() string {
	if d.State == StatePassed || d.Error != "" {
		return d.Error
	}
	for _, c := range d.Checks {
		if c.Outcome == holdfast.Failed {
			return c.Name + ": " + c.Detail
		}
	}
	if d.State == StateShort {
		return fmt.Sprintf("it reached %s and was to reach %s", d.Rung, d.Goal)
	}
	return ""
}

// verdict judges a drill whose climb has ended.
func (d Drill) verdict() string {
	d.Rung = min(d.Goal, holdfast.HighestRung(d.Checks))
	switch {
	case d.Error != "" || d.failedCheck():
		return StateFailed
	case d.Rung < d.Goal && !d.Awaits():
		return StateShort
	}
	return StatePassed
}

func (m *Module) begin(ctx context.Context, id string) (d Drill, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if d, err = m.get(ctx, tx, id); err != nil {
			return job.Permanent(err)
		}
		if d.Ended() {
			return nil
		}
		d.State, d.Started, d.Checks, d.Error = StateRunning, m.cfg.Clock().UTC(), nil, ""
		d.Attempt++
		return m.save(ctx, tx, d)
	})
	return d, err
}

// climb is one attempt at a drill.
type climb struct {
	m         *Module
	d         *Drill
	w         *job.Work
	provision time.Duration
	verify    time.Duration
	reads     []string // packs read back
	promise   holdfast.Objective
}

func (c *climb) add(r holdfast.Rung, name string, o holdfast.Outcome, began time.Time, format string, args ...any) {
	c.d.Checks = append(c.d.Checks, holdfast.Check{Rung: r, Name: name, Outcome: o, Grade: holdfast.Proved,
		Detail: bounded(fmt.Sprintf(format, args...)), Duration: c.m.cfg.Clock().Sub(began)})
}

// progressEvery bounds how often a restore's progress is written down: the
// database is not a progress bar.
const progressEvery = 500 * time.Millisecond

func (c *climb) progress(ctx context.Context) func(holdfast.Progress) {
	var mu sync.Mutex
	var last time.Time
	return func(p holdfast.Progress) {
		mu.Lock()
		defer mu.Unlock()
		now := c.m.cfg.Clock()
		if d := now.Sub(last); d >= 0 && d < progressEvery {
			return
		}
		last = now
		_ = c.w.Progress(ctx, p) // as in say
	}
}

func (c *climb) say(stage string) {
	_ = c.w.Progress(context.Background(), holdfast.Progress{Stage: stage}) // a drill does not fail because nobody could be told how far it is
}

// all climbs as far as the goal. An error is why the climb could not go on; what
// was seen until then stands in the checks.
func (c *climb) all(ctx context.Context) (err error) {
	sub, err := c.m.cfg.Subject(c.d.Store)
	if err != nil {
		return err
	}
	c.promise = sub.Promise
	if sub.Foreign != nil {
		return c.foreign(ctx, sub)
	}
	r, err := c.m.cfg.Place(ctx, c.d.Location)
	if err != nil {
		return fmt.Errorf("location %q: %w", c.d.Location, err)
	}
	if c.m.cfg.Line != nil {
		c.d.Line = c.m.cfg.Line(c.d.Location) // it was asked just now
		defer func() { c.d.Line = c.m.cfg.Line(c.d.Location) }()
	}
	ids, err := c.m.cfg.Identities(ctx, "drill "+c.d.ID)
	if err != nil {
		return err
	}
	c.say("objects and chains")
	ms, err := c.objects(ctx, r, sub)
	if err != nil {
		return err
	}
	if err := c.newestOpens(ctx, r, ms, ids); err != nil {
		return err
	}
	c.say("reading everything back")
	if err := c.readBack(ctx, r, ms, ids); err != nil {
		return err
	}
	if c.d.Goal < holdfast.L3 {
		return nil
	}
	c.say("sandbox")
	began := c.m.cfg.Clock()
	box, err := c.m.cfg.Box(ctx)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	c.provision = c.m.cfg.Clock().Sub(began)
	c.d.Isolation = box.Isolation()
	defer func() {
		// What stays behind is a finding of its own, whatever the restore proved.
		if cerr := box.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("the drill left something behind: %w", cerr))
		}
	}()
	return c.restored(ctx, r, sub, ids, box)
}

// restored brings the store back in the sandbox and asks it questions.
func (c *climb) restored(ctx context.Context, r *repo.Repository, sub Subject, ids []seal.Identity, box Box) error {
	got, err := sub.Restorer.Restore(ctx, source.Request{
		Repo: r, Identities: ids, Target: c.d.Target, Dir: filepath.Join(box.Dir(), "data"), Runner: box, FilesOnly: c.d.Goal < holdfast.L4, ReadBack: true,
		Progress: c.progress(ctx),
	})
	if err != nil {
		return err
	}
	defer got.Close(context.WithoutCancel(ctx))
	c.d.Report = got.Report()
	c.d.Checks = append(c.d.Checks, c.d.Report.Checks...)
	c.d.Report.Checks = nil // they stand in the drill's own list
	began := c.m.cfg.Clock()
	if c.d.Goal >= holdfast.L5 {
		c.say("integrity")
		c.d.Checks = append(c.d.Checks, got.Integrity(ctx)...)
	}
	if c.d.Goal >= holdfast.L6 {
		c.say("invariants")
		c.invariants(ctx, sub, got)
	}
	if c.d.Goal > holdfast.L6 {
		c.add(holdfast.L7, holdfast.L7.Proves(), holdfast.NotProven, c.m.cfg.Clock(), "a drill of one store alone cannot prove it")
	}
	c.verify = c.m.cfg.Clock().Sub(began)
	return got.Close(context.WithoutCancel(ctx))
}

// damaged reports whether err says what is wrong with the objects of a location,
// not that the location could not be asked.
func damaged(err error) bool {
	for _, e := range []error{fs.ErrNotExist, repo.ErrDamaged, repo.ErrSubstituted, repo.ErrKind, repo.ErrForeign, repo.ErrFormat, repo.ErrUntrusted, repo.ErrLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// objects checks L0 and the manifests' part of L1, and returns the manifests that
// are ours.
func (c *climb) objects(ctx context.Context, r *repo.Repository, sub Subject) ([]*repo.Manifest, error) {
	began := c.m.cfg.Clock()
	ms, bad := r.Manifests(ctx, c.d.Store)
	if bad != nil && !damaged(bad) {
		return nil, bad
	}
	rs, err := r.Receipts(ctx, c.d.Store)
	if err != nil && !damaged(err) {
		return nil, err
	}
	bad = errors.Join(bad, err)
	if len(ms) == 0 {
		c.add(holdfast.L0, "snapshots listed", holdfast.Failed, began, "location %q lists no snapshot of %q", c.d.Location, c.d.Store)
	}
	var ours []*repo.Manifest
	check, err := r.Checker(ctx) // listed behind the manifests: what they name is there by now
	if err != nil {
		return nil, err
	}
	for _, man := range ms {
		err := man.Verify(c.m.cfg.Trusted()...)
		if err == nil {
			ours = append(ours, man)
			err = check(ctx, man)
		}
		switch {
		case err == nil:
		case damaged(err):
			bad = errors.Join(bad, fmt.Errorf("snapshot %s: %w", man.ID, err))
		default:
			return nil, err
		}
	}
	if bad != nil {
		c.add(holdfast.L0, "objects exist and are authentic", holdfast.Failed, began, "%v", bad)
	} else {
		c.add(holdfast.L0, "objects exist and are authentic", holdfast.Passed, began, "%d snapshots, every pack there with its size, every signature ours", len(ms))
	}
	received := map[string]repo.Receipt{}
	for _, rc := range rs {
		if rc.Verify(c.m.cfg.Vault()...) == nil {
			received[rc.Snapshot] = rc
		}
	}
	c.fresh(ours, received, sub)
	began = c.m.cfg.Clock()
	removals, err := r.Removals(ctx, c.d.Store)
	if err != nil && !damaged(err) {
		return nil, err
	}
	removals = slices.DeleteFunc(removals, func(x repo.Removal) bool { return x.Verify(c.m.cfg.Vault()...) != nil })
	for _, x := range removals {
		for _, id := range x.IDs() {
			delete(received, id) // the vault took it away itself
		}
	}
	if err := errors.Join(chainOf(ours, removals), gone(ours, received)); err != nil {
		c.add(holdfast.L1, "snapshot chain", holdfast.Failed, began, "%v", err)
	} else {
		c.add(holdfast.L1, "snapshot chain", holdfast.Passed, began, "%d snapshots, each naming the one before it", len(ours))
	}
	return ours, nil
}

// CheckNewest is the name of the check that what was written last opens.
const CheckNewest = "what was written last opens with the drill's key"

// newestOpens opens what was written last with the drill's key, whatever the point that was drawn.
// A writer cannot try that itself, and what it says in the clear of its recipients may not
// be so: sealed to others it would be found on the bad day.
func (c *climb) newestOpens(ctx context.Context, r *repo.Repository, ms []*repo.Manifest, ids []seal.Identity) error {
	if len(ms) == 0 {
		return nil // which is said
	}
	began, last := c.m.cfg.Clock(), ms[len(ms)-1]
	what := "snapshot " + last.ID
	_, err := r.Snapshot(ctx, last, ids...)
	if err == nil {
		var ls []repo.LogInfo
		if ls, err = r.Logs(ctx, c.d.Store); err == nil && len(ls) > 0 {
			piece := slices.MaxFunc(ls, func(a, b repo.LogInfo) int {
				return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.End, b.End))
			})
			what += ", log " + piece.Name
			_, _, err = r.ReadLog(ctx, piece, ids...)
		}
	}
	switch {
	case err == nil:
		c.add(holdfast.L2, CheckNewest, holdfast.Passed, began, "%s", what)
	case errors.Is(err, seal.ErrNoIdentity) || damaged(err):
		c.add(holdfast.L2, CheckNewest, holdfast.Failed, began, "%s: %v", what, err)
	default:
		return err
	}
	return nil
}

// fresh judges age by the vault's time of arrival, never by the writer's clock:
// of what is here, not of what once was.
func (c *climb) fresh(ms []*repo.Manifest, received map[string]repo.Receipt, sub Subject) {
	began := c.m.cfg.Clock()
	var newest time.Time
	for _, m := range ms {
		if rc, ok := received[m.ID]; ok && rc.Manifest == m.Hash() && rc.Received.After(newest) {
			newest = rc.Received
		}
	}
	age := began.Sub(newest)
	var within time.Duration
	if sub.FreshFor != nil {
		within = sub.FreshFor(c.d.Location)
	}
	switch {
	case newest.IsZero():
		c.add(holdfast.L0, "fresh by observed time", holdfast.NotProven, began, "the vault has countersigned nothing that is at %q", c.d.Location)
	case within > 0 && age > within:
		c.add(holdfast.L0, "fresh by observed time", holdfast.Failed, began, "the newest receipt is %s old, promised %s", holdfast.FormatDuration(age), holdfast.FormatDuration(within))
	default:
		c.add(holdfast.L0, "fresh by observed time", holdfast.Passed, began, "the newest receipt is %s old", holdfast.FormatDuration(age))
	}
}

// gone finds what the chain cannot show: a snapshot newer than the oldest one that
// the vault has countersigned here and that is not here any more. Who cuts the end
// of a chain off leaves a whole chain.
func gone(ms []*repo.Manifest, received map[string]repo.Receipt) error {
	if len(ms) == 0 {
		return nil
	}
	var err error
	for _, id := range slices.Sorted(maps.Keys(received)) {
		if id > ms[0].ID && !slices.ContainsFunc(ms, func(m *repo.Manifest) bool { return m.ID == id }) {
			err = errors.Join(err, fmt.Errorf("snapshot %s was countersigned here on %s and is gone", id, received[id].Received.UTC().Format(time.RFC3339)))
		}
	}
	return err
}

// chainOf finds a snapshot that names a predecessor that is not there and that the
// vault did not remove. A chain has one loose end: where this location begins.
func chainOf(ms []*repo.Manifest, removals []repo.Removal) error {
	hashes := map[string]bool{}
	for _, r := range removals {
		for _, s := range r.Snapshots {
			hashes[s.Manifest] = true
		}
	}
	for _, m := range ms {
		hashes[m.Hash()] = true
	}
	loose := 0
	for i, m := range ms {
		if m.Previous == "" || hashes[m.Previous] {
			continue
		}
		if loose++; i > 0 || loose > 1 {
			return fmt.Errorf("snapshot %s names a predecessor %.12s that is not here: one was removed or never arrived", m.ID, m.Previous)
		}
	}
	return nil
}

// readBack reads, opens and compares stored bytes until everything was read
// within the promised time or the budget of this drill is spent.
//
// A snapshot is read as a whole, so what counts against the budget is all of it,
// also packs that another snapshot shares.
func (c *climb) readBack(ctx context.Context, r *repo.Repository, ms []*repo.Manifest, ids []seal.Identity) error {
	began := c.m.cfg.Clock()
	recent, err := c.m.readSince(ctx, c.d.Location, began.Add(-c.m.cfg.ReadWithin))
	if err != nil {
		return err
	}
	var total, read, unread int64
	var bad error
	seen := map[string]bool{}
	for _, man := range slices.Backward(ms) { // newest first: they are needed first
		var size, whole int64
		var todo []string
		for _, p := range man.Packs {
			whole += p.Size
			if seen[p.ID] {
				continue
			}
			seen[p.ID] = true
			total += p.Size
			if !recent[p.ID] {
				size, todo = size+p.Size, append(todo, p.ID)
			}
		}
		switch {
		case len(todo) == 0:
			continue
		case read > 0 && read+whole > c.m.cfg.ReadBudget:
			unread += size
			continue
		}
		read += whole
		damage, err := verify(ctx, r, man, ids)
		if err != nil {
			if ctx.Err() != nil || !damaged(err) {
				return err
			}
			bad = errors.Join(bad, err)
			continue
		}
		if len(damage) > 0 {
			for _, d := range damage {
				bad = errors.Join(bad, errors.New(d.String()))
			}
			continue
		}
		c.reads = append(c.reads, todo...)
	}
	if total > 0 {
		c.d.Unread = float64(unread) / float64(total)
	}
	within := holdfast.FormatDuration(c.m.cfg.ReadWithin)
	switch {
	case total == 0:
		c.add(holdfast.L2, "all bytes read back", holdfast.NotProven, began, "there is nothing to read")
	case bad != nil:
		c.add(holdfast.L2, "all bytes read back", holdfast.Failed, began, "%v", bad)
	case unread > 0:
		c.add(holdfast.L2, "all bytes read back", holdfast.NotProven, began, "%.1f %% of %d bytes were not read back within %s", 100*c.d.Unread, total, within)
	default:
		c.add(holdfast.L2, "all bytes read back", holdfast.Passed, began, "%d bytes are stored, %d packs were read now, the rest within %s", total, len(c.reads), within)
	}
	return nil
}

func verify(ctx context.Context, r *repo.Repository, man *repo.Manifest, ids []seal.Identity) ([]repo.Damage, error) {
	snap, err := r.Snapshot(ctx, man, ids...)
	if errors.Is(err, seal.ErrNoIdentity) {
		to, _ := r.SealedTo(ctx, man) // who can open it, if that can be told
		return nil, fmt.Errorf("snapshot %s is sealed to %s, and the key of the drills is none of them: %w", man.ID, cmp.Or(strings.Join(to, " and "), "nobody that it names"), err)
	}
	if err != nil {
		return nil, err
	}
	return snap.Verify(ctx, nil)
}

func (c *climb) invariants(ctx context.Context, sub Subject, got source.Restored) {
	if len(sub.Invariants) == 0 {
		c.add(holdfast.L6, "invariants", holdfast.NotProven, c.m.cfg.Clock(), "the plan declares no invariant for %q", c.d.Store)
	}
	c.asked(ctx, sub, got)
	c.d.Checks = append(c.d.Checks, holdfast.Check{Rung: holdfast.L6, Name: ownerConfirms, Outcome: holdfast.NotProven, Grade: holdfast.Attested,
		Detail: "\"holdfast drill confirm " + c.d.ID + "\" by the owner"})
}

// asked asks the owner's questions.
func (c *climb) asked(ctx context.Context, sub Subject, got interface {
	Value(ctx context.Context, question string) (any, error)
}) {
	target := c.d.Report.DataUntil
	for _, inv := range sub.Invariants {
		began := c.m.cfg.Clock()
		value, err := got.Value(ctx, inv.Question)
		if errors.Is(err, source.ErrWanting) {
			c.add(holdfast.L6, inv.Name, holdfast.Failed, began, "%v", err)
			continue
		}
		if err != nil {
			c.add(holdfast.L6, inv.Name, holdfast.NotProven, began, "%v", err)
			continue
		}
		if c.d.Answers == nil {
			c.d.Answers = map[string]any{}
		}
		c.d.Answers[inv.Name] = recordable(value)
		ok, err := inv.Holds(value, target)
		switch {
		case err != nil:
			c.add(holdfast.L6, inv.Name, holdfast.NotProven, began, "answer %v: %v", value, err)
		case !ok:
			c.add(holdfast.L6, inv.Name, holdfast.Failed, began, "answer %v", value)
		default:
			c.add(holdfast.L6, inv.Name, holdfast.Passed, began, "answer %v", value)
		}
	}
}

// recordable is an answer as it can be written down: JSON knows neither NaN nor
// infinity, and a long answer must not keep the drill from being recorded.
func recordable(value any) any {
	if b, err := json.Marshal(value); err == nil && len(b) <= maxDetail {
		return value
	}
	return bounded(fmt.Sprint(value))
}

// parts says how long what was done would take of a recovery. What a drill
// cannot measure is left out, not guessed.
func (c *climb) parts() holdfast.Parts {
	if c.d.Report.Snapshot == "" {
		return nil
	}
	return holdfast.Parts{
		{Name: "provision", Duration: c.provision, Basis: holdfast.Measured},
		{Name: "fetch", Duration: c.d.Report.Fetch, Basis: holdfast.Measured},
		{Name: "replay", Duration: c.d.Report.Replay, Basis: holdfast.Measured},
		{Name: "verify", Duration: c.d.Report.Verify + c.verify, Basis: holdfast.Measured},
	}
}

func (c *climb) recordReads(ctx context.Context, tx *db.Tx) error {
	now := db.Micros(c.m.cfg.Clock())
	for _, p := range c.reads {
		if _, err := tx.Exec(ctx, `INSERT INTO drill_reads (location, pack, at) VALUES (?, ?, ?) ON CONFLICT (location, pack) DO UPDATE SET at = excluded.at`, c.d.Location, p, now); err != nil {
			return err
		}
	}
	return nil
}
