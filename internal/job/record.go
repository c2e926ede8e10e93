package job

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"holdfast/internal/db"
)

// A Run is the record of one attempt of a job whose kind keeps records
// ([HandlerOptions].Item). It is begun in the transaction of the claim and ended in that
// of the outcome, so a process that vanishes leaves a record that says so.
type Run struct {
	Job     int64
	Claim   int64 // which claim of the job, counted from 1; 0: it was cancelled before the first
	Kind    string
	Item    string
	Attempt int
	Slot    int64 // that it fulfils, or 0
	Owner   string
	Program string // the version that ran it
	State   RunState
	Started time.Time
	Ended   time.Time // zero while it runs
	Error   string
	Args    json.RawMessage
	Result  json.RawMessage
}

// About makes the Item of a kind of its arguments. Arguments that do not fit are about
// nothing.
func About[T any](item func(args T) string) func(json.RawMessage) string {
	return func(args json.RawMessage) string {
		var a T
		if json.Unmarshal(args, &a) != nil {
			return ""
		}
		return item(a)
	}
}

// A RunState is how a run ended.
type RunState string

// States of a run.
const (
	RunRunning   RunState = "running"
	RunDone      RunState = "done"
	RunShort     RunState = "short" // its job is done, and its result says what it lacks ([Judged])
	RunFailed    RunState = "failed"
	RunCancelled RunState = "cancelled"
	RunLost      RunState = "lost"    // its process vanished, or lost the job to another
	RunStopped   RunState = "stopped" // its engine stopped in good order; the job runs again
)

// RunStates lists the states, in the order in which they are shown.
var RunStates = []RunState{RunRunning, RunDone, RunShort, RunFailed, RunCancelled, RunLost, RunStopped}

// A Judged result of [Work.Done] says itself what the work fell short of: a copy that lacks
// something, a drill that did not pass. The job is done all the same, and its run is short.
type Judged interface {
	Short() string // "" if nothing is missing
}

// MaxRuns is how many records one Runs returns.
const MaxRuns = 10_000

// A RunFilter selects records; its zero fields select all.
type RunFilter struct {
	Kind   string
	Item   string
	State  RunState
	Job    int64
	From   time.Time // started at or after
	Until  time.Time // started before
	Before Run       // the last record of the page before
	Limit  int       // zero or more than MaxRuns: MaxRuns
}

const runColumns = "job, fence, kind, item, attempt, slot, owner, program, state, started_at, ended_at, error, args, result"

func scanRun(r *sql.Rows) (x Run, err error) {
	var args, result string
	err = r.Scan(&x.Job, &x.Claim, &x.Kind, &x.Item, &x.Attempt, &x.Slot, &x.Owner, &x.Program, &x.State, (*micros)(&x.Started), (*micros)(&x.Ended), &x.Error, &args, &result)
	x.Args, x.Result = raw(args), raw(result)
	return x, err
}

// Runs returns records, the newest first.
func (e *Engine) Runs(ctx context.Context, f RunFilter) (out []Run, err error) {
	var where []string
	var args []any
	add := func(condition string, values ...any) { where, args = append(where, condition), append(args, values...) }
	if f.Kind != "" {
		add("kind = ?", f.Kind)
	}
	if f.Item != "" {
		add("item = ?", f.Item)
	}
	if f.State != "" {
		add("state = ?", f.State)
	}
	if f.Job != 0 {
		add("job = ?", f.Job)
	}
	if !f.From.IsZero() {
		add("started_at >= ?", f.From)
	}
	if !f.Until.IsZero() {
		add("started_at < ?", f.Until)
	}
	if b := f.Before; b.Job != 0 {
		add("(started_at < ? OR started_at = ? AND (job < ? OR job = ? AND fence < ?))", b.Started, b.Started, b.Job, b.Job, b.Claim)
	}
	q := "SELECT " + runColumns + " FROM job_runs"
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Limit <= 0 || f.Limit > MaxRuns {
		f.Limit = MaxRuns
	}
	err = e.db.View(ctx, func(tx *db.Tx) error {
		out, err = db.Collect(scanRun)(tx.Query(ctx, q+" ORDER BY started_at DESC, job DESC, fence DESC LIMIT ?", append(args, f.Limit)...))
		return err
	})
	return out, err
}

// A RunCount is how many runs about one item ended alike on one day in UTC.
type RunCount struct {
	Item  string
	State RunState
	Day   time.Time
	N     int
}

// RunCounts counts the runs that began since an instant.
func (e *Engine) RunCounts(ctx context.Context, since time.Time) (out []RunCount, err error) {
	const day = int64(24 * time.Hour / time.Microsecond)
	err = e.db.View(ctx, func(tx *db.Tx) error {
		out, err = db.Collect(func(r *sql.Rows) (c RunCount, err error) {
			var days int64
			err = r.Scan(&c.Item, &c.State, &days, &c.N)
			c.Day = db.Time(days * day)
			return c, err
		})(tx.Query(ctx, "SELECT item, state, started_at / 86400000000 AS day, COUNT(*) FROM job_runs WHERE started_at >= ? GROUP BY item, state, started_at / 86400000000 ORDER BY item, day, state LIMIT ?", since, MaxSlots))
		return err
	})
	return out, err
}

// PruneRuns deletes records of runs that ended before the given time and returns how many.
func (e *Engine) PruneRuns(ctx context.Context, before time.Time) (n int64, err error) {
	err = e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM job_runs WHERE started_at < ? AND ended_at <> 0", before)
		return err
	})
	return n, err
}

// begun writes the record of a claim, in its transaction.
func (e *Engine) begun(ctx context.Context, tx *db.Tx, j Job) error {
	h := e.handlers[j.Kind]
	if h.Item == nil {
		return nil
	}
	return insertRun(ctx, tx, j, h.Item(j.Args), e.config, RunRunning, j.StartedAt, time.Time{}, "")
}

func insertRun(ctx context.Context, tx *db.Tx, j Job, item string, c Config, state RunState, started, ended time.Time, text string) error {
	_, err := tx.Exec(ctx, "INSERT INTO job_runs ("+runColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '') ON CONFLICT (job, fence) DO NOTHING",
		j.ID, j.fence, j.Kind, db.Text(item), j.Attempt, j.Slot, c.Owner, c.Program, state, db.Micros(started), db.Micros(ended), text, string(j.Args))
	return err
}

// ended closes the record of a claim that is being settled, in the transaction of the
// outcome. A job that nobody claimed yet has none: its cancelling is one.
func (e *Engine) ended(ctx context.Context, tx *db.Tx, j Job, o outcome, final State, text string) error {
	h, known := e.handlers[j.Kind]
	if known && h.Item == nil {
		return nil
	}
	now := e.config.Clock()
	if j.State == Waiting {
		if final != Cancelled || h.Item == nil || j.fence != 0 {
			return nil
		}
		return insertRun(ctx, tx, j, h.Item(j.Args), e.config, RunCancelled, now, now, text)
	}
	state := RunFailed
	switch {
	case o.vanished:
		state = RunLost
	case final == Done && o.short != "":
		state, text = RunShort, errorText(errors.New(o.short))
	case final == Done:
		state = RunDone
	case final == Cancelled:
		state = RunCancelled
	case final == Waiting && o.back > 0:
		state = RunStopped
	}
	_, err := tx.Exec(ctx, "UPDATE job_runs SET state = ?, ended_at = ?, error = ?, result = ? WHERE job = ? AND fence = ? AND state = 'running'",
		state, now, text, o.result, j.ID, j.fence)
	return err
}
