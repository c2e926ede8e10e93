package app

import (
	"context"
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
// What it finds there is moved aside, never overwritten. Beside the place it
// writes a note with the run's id first: a crash after that makes the next
// attempt end what the first one started and begin again, and only there.
func (h hands) Restore(ctx context.Context, run string, s recovery.Step, progress func(holdfast.Progress)) (recovery.Outcome, error) {
	a := h.a
	began := a.opt.Clock()
	st := a.Plan.Stores[s.Store]
	if st.Recover == nil {
		return recovery.Outcome{}, holdfast.WithHint(fmt.Errorf("store %q: the plan does not say where to recover it: %w", s.Store, holdfast.ErrRefused),
			"add \"recover: {to: …}\" to stores.%s, or bring it back by hand with \"holdfast restore %s --to DIR\"", s.Store, s.Store)
	}
	src, err := a.source(s.Store)
	if err != nil {
		return recovery.Outcome{}, err
	}
	r, err := a.Places.Open(ctx, s.Location)
	if err != nil {
		return recovery.Outcome{}, fmt.Errorf("location %q: %w", s.Location, err)
	}
	to := a.Plan.Resolve(st.Recover.To)
	if err := clearWay(ctx, to, run, src); err != nil {
		return recovery.Outcome{}, err
	}
	ids, err := a.identities(ctx, "recovery "+run+", step "+s.ID)
	if err != nil {
		return recovery.Outcome{}, err
	}
	account, err := sandbox.Unprivileged(ctx, "")
	if err != nil {
		return recovery.Outcome{}, err
	}
	req := source.Request{Repo: r, Identities: ids, Target: s.Target, Dir: to, Runner: account.Outliving(), Progress: progress}
	if st.Recover.Start != nil {
		req.Serve = &source.Serve{Listen: st.Recover.Start.Listen, Port: st.Recover.Start.Port, Options: st.Recover.Start.Options}
	}
	provision := a.opt.Clock().Sub(began)
	got, err := src.Restore(ctx, req)
	if err != nil {
		return recovery.Outcome{}, err
	}
	rep := got.Report()
	for _, c := range rep.Checks {
		if c.Outcome == holdfast.Failed {
			return recovery.Outcome{}, errors.Join(fmt.Errorf("store %q came back, but %s failed: %s", s.Store, c.Name, c.Detail), got.Close(ctx))
		}
	}
	if err := got.Close(ctx); err != nil { // leaves an engine that serves
		return recovery.Outcome{}, err
	}
	if err := os.Remove(noteOf(to)); err != nil {
		return recovery.Outcome{}, err
	}
	return recovery.Outcome{Snapshot: rep.Snapshot, Location: s.Location, Reached: rep.Reached, DataUntil: rep.DataUntil, Provision: provision,
		Fetch: rep.Fetch, Replay: rep.Replay, Verify: rep.Verify, Bytes: rep.Bytes, Checks: rep.Checks, Address: rep.Address}, nil
}

func noteOf(to string) string { return filepath.Clean(to) + ".holdfast-recovering" }

// A stopper ends an engine that an interrupted restore left running in dir.
type stopper interface {
	StopLeftover(ctx context.Context, dir string) error
}

// clearWay makes place for a restore at to.
func clearWay(ctx context.Context, to, run string, src source.Store) error {
	old, err := os.ReadFile(noteOf(to))
	switch {
	case err == nil:
		// An earlier attempt began here and did not end: nothing of it counts.
		if st, ok := src.(stopper); ok {
			if err := st.StopLeftover(ctx, to); err != nil {
				return fmt.Errorf("end what the interrupted restore %s left running in %s: %w", strings.TrimSpace(string(old)), to, err)
			}
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	default:
		if err := moveAside(to, run); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, noteOf(to), []byte(run+"\n"), 0o600)
}

// moveAside renames what stands at path; an empty directory is removed.
func moveAside(path, run string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
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

// Usable asks a service's probe.
func (h hands) Usable(ctx context.Context, service string) (string, error) {
	p := h.a.Plan.Services[service].Probe
	if p == nil {
		return "no probe declared: usable as far as what it needs is back", nil
	}
	return probeService(ctx, *p)
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

func firstLine(b []byte) string {
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if len(s) > 200 {
		s = s[:200]
	}
	return s
}

// Protected asks whether a complete, countersigned copy made since then is
// somewhere, and whether the log flows again. It asks for a backup if not.
func (h hands) Protected(ctx context.Context, store string, since time.Time) (string, error) {
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
	policy := a.Plan.Backups[a.Plan.Stores[store].Protect]
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
