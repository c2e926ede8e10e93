package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
	"holdfast/internal/job"
	"holdfast/internal/recovery"
	"holdfast/internal/vault"
)

// Limits of the records of work.
const (
	defaultRuns = 1000
	// runsLooked is how many records one question reads at most: it looks for words that
	// no index knows.
	runsLooked = 200_000
	// runsKept is how long a record is kept, and jobsKept a job that has finished: the
	// evidence of two years, and what somebody who asks a job by its number still wants.
	runsKept = 2 * 366 * 24 * time.Hour
	jobsKept = 30 * 24 * time.Hour
	// messagesKept is how long messages that have ended are kept where the plan says nothing.
	messagesKept = 90 * 24 * time.Hour
	// sweepEvery is how often a server deletes what is older.
	sweepEvery = time.Hour
)

// Runs returns the records of work that a question asks for, the newest first.
func (a *App) Runs(ctx context.Context, q api.RunQuery) ([]api.Run, error) {
	if q.Limit <= 0 {
		q.Limit = defaultRuns
	}
	f := job.RunFilter{Job: q.Job, From: q.From, Until: q.Until, Limit: q.Limit}
	if f.Item = q.Item; f.Item != "" && !strings.Contains(f.Item, ".") && f.Item != "locations" {
		f.Item = "stores." + f.Item
	}
	out := []api.Run{}
	for looked := 0; len(out) < q.Limit && looked < runsLooked; {
		page, err := a.Jobs.Runs(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, x := range page {
			if r := a.runOf(x); matches(r, q) && len(out) < q.Limit {
				out = append(out, r)
			}
		}
		if len(page) < f.Limit {
			break
		}
		looked, f.Before = looked+len(page), page[len(page)-1]
	}
	return out, nil
}

// matches reports whether a record is one of those that are asked for.
func matches(r api.Run, q api.RunQuery) bool {
	if q.Location != "" {
		if _, ok := r.Locations[q.Location]; !ok && r.Item != "locations."+q.Location {
			return false
		}
	}
	return (q.Kind == "" || r.Kind == q.Kind || strings.HasPrefix(r.Kind, q.Kind+".")) &&
		(q.Result == "" || r.Result == q.Result) &&
		(q.Digest == "" || strings.HasPrefix(r.Digest, q.Digest) || r.Snapshot == q.Digest) &&
		(q.Program == "" || r.Program == q.Program) &&
		strings.Contains(strings.ToLower(r.Error), strings.ToLower(q.Error)) &&
		(q.Ended.IsZero() || !r.Ended.IsZero() && !r.Ended.Before(q.Ended)) &&
		r.Bytes >= q.Bytes && r.Seconds >= q.Seconds
}

// results are the words of people for how the engine saw a run end.
var results = map[job.RunState]string{job.RunRunning: api.RunRunning, job.RunDone: api.RunSucceeded, job.RunShort: api.RunFailed, job.RunFailed: api.RunFailed,
	job.RunCancelled: api.RunCancelled, job.RunLost: api.RunCrashed, job.RunStopped: api.RunStopped}

// runOf says in the words of the product what the engine wrote down of an attempt.
func (a *App) runOf(x job.Run) api.Run {
	r := api.Run{ID: fmt.Sprintf("%d.%d", x.Job, x.Claim), Job: x.Job, Item: x.Item, Kind: x.Kind, Began: x.Started, Ended: x.Ended, Attempt: x.Attempt, Scheduled: x.Slot != 0, Program: x.Program, Owner: x.Owner}
	r.Error, _ = holdfast.Heard(x.Error)
	r.Result = results[x.State]
	if x.State == job.RunShort && x.Kind == backup.KindSnapshot {
		r.Result = api.RunIncomplete
	}
	if x.State == job.RunRunning && x.Owner == owner(a.opt.Workspace) && a.opt.Work.Asked && len(a.opt.Work.Jobs) == 0 {
		// This process runs none, and no other works on this workspace.
		r.Result, r.Error = api.RunCrashed, "the process that ran it ended without a word; the next server begins it again"
	}
	if x.State == job.RunLost {
		r.Ended = time.Time{} // when somebody found out is not when it ended
		r.Error = "the process that ran it ended without a word"
	}
	if !r.Ended.IsZero() {
		r.Seconds = r.Ended.Sub(r.Began).Seconds()
	}
	a.resultOf(x, &r)
	return r
}

// resultOf reads what the work itself left. What cannot be read was written by another
// version, and the record stands without it.
func (a *App) resultOf(x job.Run, r *api.Run) {
	var args struct{ Store, Location, Snapshot, Reason string }
	if json.Unmarshal(x.Args, &args) == nil {
		r.Reason, r.Snapshot = args.Reason, args.Snapshot
		if args.Location != "" {
			r.Locations = map[string]string{args.Location: ""}
		}
	}
	switch x.Kind {
	case backup.KindSnapshot:
		var f backup.SnapshotFact
		if json.Unmarshal(x.Result, &f) != nil {
			return
		}
		r.Bytes, r.Stored, r.Digest, r.Snapshot, r.Locations = f.Bytes, f.Stored, f.Manifest, f.Snapshot, f.Locations
	case backup.KindCopy:
		if r.Result == api.RunSucceeded {
			r.Locations = map[string]string{args.Location: "complete"}
		}
	case drill.KindRun:
		var d drill.Ran
		if json.Unmarshal(x.Result, &d) != nil {
			return
		}
		r.Drill, r.Bytes, r.Snapshot, r.Locations = d.Drill, d.Bytes, d.Snapshot, map[string]string{d.Location: d.Rung.String()}
	case vault.KindVerify:
		var vs vault.Readings
		if json.Unmarshal(x.Result, &vs) != nil {
			return
		}
		r.Locations = map[string]string{}
		for _, v := range vs {
			r.Bytes += v.Bytes
			r.Locations[v.Location] = fmt.Sprintf("%d objects read, %d damaged", v.Objects, len(v.Damage))
		}
	}
}

// FactCancelled is that a person ended a piece of work.
const FactCancelled = "job.cancelled"

// CancelJob ends a piece of work that waits or runs: at once, or as soon as its worker
// hears of it.
func (a *App) CancelJob(ctx context.Context, id int64, by string) (job.Job, error) {
	if err := a.person(by); err != nil {
		return job.Job{}, err
	}
	j, err := a.Jobs.Get(ctx, id)
	switch {
	case errors.Is(err, job.ErrNotFound):
		return j, holdfast.WithHint(fmt.Errorf("job %d: there is no such job: %w", id, holdfast.ErrUsage), "\"holdfast job list\" lists them")
	case err != nil:
		return j, err
	case j.Kind == recovery.KindRestore || j.Kind == recovery.KindStep || j.Kind == kindActivate:
		return j, holdfast.WithHint(fmt.Errorf("job %d is a step of a recovery: %w", id, holdfast.ErrRefused), "\"holdfast recover show\" says what can be done about it")
	case j.State.Finished():
		return j, holdfast.WithHint(fmt.Errorf("job %d has ended: it is %s: %w", id, j.State, holdfast.ErrRefused), "\"holdfast job list --job %d\" shows how", id)
	}
	if err := a.Jobs.Cancel(ctx, id); err != nil && !errors.Is(err, job.ErrFinished) {
		return j, err
	}
	// It may have ended meanwhile; then the record of the run says how, and this one that
	// somebody wanted it ended.
	if err := a.DB.Tx(ctx, func(tx *db.Tx) error {
		return a.factBy(ctx, tx, FactCancelled, "jobs."+strconv.FormatInt(id, 10), by, map[string]any{"job": id, "kind": j.Kind})
	}); err != nil {
		return j, err
	}
	return a.Jobs.Get(ctx, id)
}

// sweep deletes what nobody needs any more, now and then: a server that runs for years
// must not grow with every minute.
func (a *App) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := a.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("old records not deleted", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) sweepOnce(ctx context.Context) error {
	now := a.opt.Clock()
	keep := messagesKept
	if m := a.Plan().Messages; m != nil && !m.Keep.IsZero() {
		keep = m.Keep.Approx()
	}
	_, err := a.Jobs.Prune(ctx, now.Add(-jobsKept))
	_, rerr := a.Jobs.PruneRuns(ctx, now.Add(-runsKept))
	_, merr := a.Messages.Prune(ctx, now.Add(-keep))
	_, lerr := a.Calls.PruneLinks(ctx)
	return errors.Join(err, rerr, merr, lerr, a.thinCheckpoints(ctx))
}

// runRows are the records of work of a period.
func (a *App) runRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "runs", Query: fmt.Sprintf("every attempt of every backup, copy, drill, reading back, deletion, repair and restore that began in the period, however it ended; at most %d", job.MaxRuns),
		Columns: []string{"run", "item", "kind", "began", "ended", "result", "bytes", "stored", "digest", "snapshot", "locations", "attempt", "program", "error"}}
	rs, err := a.Runs(ctx, api.RunQuery{From: from, Until: to, Limit: job.MaxRuns})
	for _, r := range rs {
		var places []string
		for _, l := range sortedKeys(r.Locations) {
			places = append(places, l+": "+r.Locations[l])
		}
		p.Rows = append(p.Rows, []string{r.ID, r.Item, r.Kind, stamp(r.Began), stamp(r.Ended), r.Result, strconv.FormatInt(r.Bytes, 10), strconv.FormatInt(r.Stored, 10), r.Digest, r.Snapshot,
			strings.Join(places, "; "), strconv.Itoa(r.Attempt), r.Program, r.Error})
	}
	return p, err
}
