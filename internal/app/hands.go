package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
	"holdfast/internal/sandbox"
	"holdfast/internal/source"
)

// hands carries out what a recovery plan says, on this machine.
type hands struct{ a *App }

// Restore brings a store back at the place that the plan names for it.
//
// What it finds there is moved aside, never overwritten. Beside the place it keeps
// a note of how far it is, for the attempt after a crash. A note without an outcome
// says that what lies there is half done: it is ended, removed and begun again. One
// with an outcome says that all is back and that people may work with it already:
// from then on nothing there is touched, and only the engine is started if it does
// not run. The note goes when the step is known to be settled (Protected).
func (h hands) Restore(ctx context.Context, run string, s recovery.Step, progress func(holdfast.Progress)) (recovery.Outcome, error) {
	a := h.a
	began := a.opt.Clock()
	st := a.Plan().Stores[s.Store]
	if st.Recover == nil {
		return recovery.Outcome{}, holdfast.WithHint(fmt.Errorf("store %q: the plan does not say where to recover it: %w", s.Store, holdfast.ErrRefused),
			"add \"recover: {to: …}\" to stores.%s, or bring it back by hand with \"holdfast restore %s --to DIR\"", s.Store, s.Store)
	}
	src, err := a.source(s.Store)
	if err != nil {
		return recovery.Outcome{}, err
	}
	account, err := sandbox.Unprivileged(ctx, "")
	if err != nil {
		return recovery.Outcome{}, err
	}
	to := a.Plan().Resolve(st.Recover.To)
	req := source.Request{Target: s.Target, Dir: to, Runner: account.Outliving(), Progress: progress}
	if st.Recover.Start != nil {
		req.Serve = &source.Serve{Listen: st.Recover.Start.Listen, Port: st.Recover.Start.Port, Options: st.Recover.Start.Options}
	}
	if out, done, err := resume(ctx, src, req, run, s.ID); done || err != nil {
		return out, err
	}
	if req.Repo, err = a.Places.Open(ctx, s.Location); err != nil {
		return recovery.Outcome{}, fmt.Errorf("location %q: %w", s.Location, err)
	}
	if err := clearWay(ctx, to, run, src); err != nil {
		return recovery.Outcome{}, err
	}
	if req.Identities, err = a.identities(ctx, "recovery "+run+", step "+s.ID); err != nil {
		return recovery.Outcome{}, err
	}
	var out recovery.Outcome
	provision := a.opt.Clock().Sub(began)
	ready := func(rep source.Report) error {
		for _, c := range rep.Checks {
			if c.Outcome == holdfast.Failed {
				return fmt.Errorf("store %q came back, but %s failed: %s", s.Store, c.Name, c.Detail)
			}
		}
		out = recovery.Outcome{Snapshot: rep.Snapshot, Location: s.Location, Reached: rep.Reached, DataUntil: rep.Until(), Provision: provision,
			Fetch: rep.Fetch, Replay: rep.Replay, Verify: rep.Verify, Bytes: rep.Bytes, Checks: rep.Checks, Address: rep.Address}
		if seen, ok, err := a.Backups.AtSource(ctx, s.Store); err != nil {
			return err
		} else if ok && !seen.LastCommit.IsZero() {
			lost := max(0, seen.LastCommit.Sub(out.DataUntil))
			out.SourceCommit, out.SourceSeen, out.Lost = seen.LastCommit, seen.CaughtUp, &lost
		}
		return writeNote(to, note{Run: run, Step: s.ID, Outcome: &out})
	}
	if req.Serve != nil {
		req.Serve.Ready = ready
	}
	got, err := src.Restore(ctx, req)
	if err != nil {
		return recovery.Outcome{}, unreadable(s.Store, s.Location, "", err)
	}
	if req.Serve == nil || out.Snapshot == "" { // no engine to take over
		if err := ready(got.Report()); err != nil {
			return recovery.Outcome{}, errors.Join(err, got.Close(ctx))
		}
	}
	return out, got.Close(ctx) // leaves an engine that serves
}

// A note lies beside a place to which a store is being restored.
type note struct {
	Run     string            `json:"run"`
	Step    string            `json:"step"`
	Outcome *recovery.Outcome `json:"outcome,omitempty"` // nil: half done
}

func noteOf(to string) string { return filepath.Clean(to) + ".holdfast-recovering" }

func writeNote(to string, n note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, noteOf(to), append(b, '\n'), 0o600)
}

// readNote returns the note beside to; the zero note and false if there is none.
func readNote(to string) (n note, ok bool, err error) {
	b, err := os.ReadFile(noteOf(to))
	if errors.Is(err, os.ErrNotExist) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, false, holdfast.WithHint(fmt.Errorf("%s is not a note of ours: %w", noteOf(to), err),
			"look at what lies in %s: if nothing of it is needed, remove both; the recovery goes on by itself", to)
	}
	return n, true, nil
}

// resume ends a step that an earlier attempt did and could not record. It does
// nothing if that attempt was cut off earlier, or if what it brought back is gone.
func resume(ctx context.Context, src source.Store, req source.Request, run, step string) (recovery.Outcome, bool, error) {
	n, ok, err := readNote(req.Dir)
	if err != nil || !ok || n.Outcome == nil || n.Run != run || n.Step != step {
		return recovery.Outcome{}, false, err
	}
	if _, err := os.Stat(req.Dir); errors.Is(err, os.ErrNotExist) {
		return recovery.Outcome{}, false, nil // lost once more
	}
	if srv, ok := src.(source.Server); ok && req.Serve != nil {
		if err := srv.Resume(ctx, req); err != nil {
			return recovery.Outcome{}, false, fmt.Errorf("start what recovery %s brought back into %s: %w", run, req.Dir, err)
		}
	}
	return *n.Outcome, true, nil
}

// A stopper ends an engine that an interrupted restore left running in dir.
type stopper interface {
	StopLeftover(ctx context.Context, dir string) error
}

// clearWay makes place for a restore at to.
func clearWay(ctx context.Context, to, run string, src source.Store) error {
	old, ok, err := readNote(to)
	switch {
	case err != nil:
		return err
	case ok && old.Outcome == nil:
		// An earlier attempt began here and did not end: nothing of it counts.
		if st, ok := src.(stopper); ok {
			if err := st.StopLeftover(ctx, to); err != nil {
				return fmt.Errorf("end what the interrupted restore %s left running in %s: %w", old.Run, to, err)
			}
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	default:
		if err := moveAside(to, run, src); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return writeNote(to, note{Run: run})
}

// moveAside renames what stands at path; an empty directory is removed. Files on
// which a server works stay: it does not answer, but it may be writing, and it
// would go on writing wherever they are moved.
func moveAside(path, run string, src source.Store) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if srv, ok := src.(source.Server); ok {
		pid, err := srv.Serving(path)
		if err != nil {
			return err
		}
		if pid != 0 {
			return holdfast.WithHint(fmt.Errorf("a server still works in %s, process %d, although the store does not answer", path, pid),
				"find out what keeps it from answering (full, locked, cut off, another password); if it is to be replaced, stop it and \"holdfast recover activate INCIDENT --by PERSON\"")
		}
	}
	if err := os.Remove(path); err == nil { // only an empty directory can be
		return nil
	}
	aside := filepath.Clean(path) + ".before-" + run
	if err := os.Rename(path, aside); err != nil {
		return holdfast.WithHint(fmt.Errorf("%s is in the way: %w", path, err), "move it away by hand; the recovery goes on by itself")
	}
	return nil
}

// Usable asks a service's probe. Where the service declares the share of requests that must succeed
// before it counts as back, that is measured too.
func (h hands) Usable(ctx context.Context, service string) (string, error) {
	s := h.a.Plan().Services[service]
	if s.Probe == nil {
		return "no probe declared: usable as far as what it needs is back", nil
	}
	seen, err := probeService(ctx, *s.Probe)
	if _, share := plan.Share(s.Level); err != nil || !share {
		return seen, err
	}
	return h.Level(ctx, service, s.Level)
}

// Limits of a service probe.
const (
	probeTimeout  = 10 * time.Second
	maxProbeBytes = 64 << 10
)

func probeService(ctx context.Context, p plan.Probe) (string, error) {
	timeout := probeTimeout
	if d := p.Timeout.Approx(); d > 0 {
		timeout = d
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if len(p.Command) > 0 {
		out, err := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("probe %q: %w: %s", p.Command[0], err, firstLine(out))
		}
		return "probe passed: " + firstLine(out), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxProbeBytes))
	if err != nil {
		return "", err
	}
	want := p.Status
	if want == 0 {
		want = http.StatusOK
	}
	if res.StatusCode != want {
		return "", fmt.Errorf("probe %s: status %d, want %d: %s", p.URL, res.StatusCode, want, firstLine(body))
	}
	return fmt.Sprintf("%s answered %d", p.URL, res.StatusCode), nil
}

// measuring bounds how many levels are measured at once: each takes a worker for the whole of
// its window, and recoveries need workers.
var measuring = make(chan struct{}, 2)

// Level asks a service's probe over a whole window. What a probe answers well is counted, and
// the share of it is the level. A process that ends in the middle has measured
// nothing: the window begins anew.
func (h hands) Level(ctx context.Context, service, level string) (string, error) {
	p := h.a.Plan().Services[service].Probe
	want, ok := plan.Share(level)
	if p == nil || !ok {
		return "", fmt.Errorf("%s of %q cannot be measured: the plan has no probe of it any more: %w", level, service, holdfast.ErrRefused)
	}
	select {
	case measuring <- struct{}{}:
		defer func() { <-measuring }()
	default:
		return "", errors.New("other levels of service are measured first")
	}
	return levelOf(ctx, level, want, *p, probeService)
}

// levelOf asks as often as the window of a probe says and compares the share of good answers
// with the share that is wanted.
func levelOf(ctx context.Context, level string, want float64, p plan.Probe, ask func(context.Context, plan.Probe) (string, error)) (string, error) {
	n, every := p.Questions()
	tick := time.NewTicker(every)
	defer tick.Stop()
	good, last := 0, ""
	for i := range n {
		if i > 0 {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		_, err := ask(ctx, p)
		if ctx.Err() != nil {
			return "", ctx.Err() // nothing was measured
		}
		if err == nil {
			good++
		} else {
			last = holdfast.Tell(err).Error()
		}
	}
	seen := fmt.Sprintf("%d of %d questions were answered well (%s), %s asked for", good, n, percent(good, n), level)
	const rounding = 1e-9
	if float64(good)+rounding < want*float64(n) {
		return "", fmt.Errorf("%s; the last that was not: %s", seen, last)
	}
	return seen, nil
}

// percent writes a share, rounded down: what is not all is never shown as all.
func percent(part, whole int) string {
	tenths := part * 1000 / whole
	if tenths%10 == 0 {
		return fmt.Sprintf("%d%%", tenths/10)
	}
	return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
}

func firstLine(b []byte) string {
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if len(s) > 200 {
		s = s[:200]
	}
	return s
}

// Protected asks whether a complete, countersigned copy made since then is
// somewhere, and whether the log flows again. It asks for a backup if not.
//
// It runs after the restore of the store is recorded as done, so the note beside it
// has no use any more.
func (h hands) Protected(ctx context.Context, store string, since time.Time) (string, error) {
	if r := h.a.Plan().Stores[store].Recover; r != nil {
		if err := os.Remove(noteOf(h.a.Plan().Resolve(r.To))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	ok, why, err := h.a.protectedSince(ctx, store, since)
	switch {
	case err != nil:
		return "", err
	case ok:
		return why, nil
	case why != noBackupYet:
		return "", errors.New(why) // there is a backup: what is missing comes by itself
	}
	if err := h.a.DB.Tx(ctx, func(tx *db.Tx) error {
		_, err := h.a.Jobs.Enqueue(ctx, tx, snapshotJob(store, "protect again after recovery"))
		return err
	}); err != nil {
		return "", err
	}
	return "", errors.New(why)
}

const noBackupYet = "no complete backup since the recovery yet"

// protectedSince reports whether store has a new complete backup since then.
func (a *App) protectedSince(ctx context.Context, store string, since time.Time) (ok bool, why string, err error) {
	copies, err := a.Backups.Copies(ctx, store)
	if err != nil {
		return false, "", err
	}
	var at []string
	for _, c := range copies {
		if c.State == "complete" && c.Created.After(since) && !c.Received.IsZero() {
			at = append(at, c.Location)
		}
	}
	if len(at) == 0 {
		return false, noBackupYet, nil
	}
	why = "new backup countersigned at " + strings.Join(at, ", ")
	policy := a.Plan().Backups[a.Plan().Stores[store].Protect]
	if policy.Log == nil {
		return true, why, nil
	}
	fs, err := a.Backups.Frontiers(ctx, store)
	if err != nil {
		return false, "", err
	}
	for _, f := range fs {
		if f.Err == "" && f.CaughtUp.After(since) {
			return true, why + "; the log flows to " + f.Place, nil
		}
	}
	return false, "a new backup is complete, but the log does not flow yet", nil
}
