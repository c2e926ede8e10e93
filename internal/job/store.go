package job

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/internal/db"
)

const jobColumns = "id, kind, key, queue, priority, args, state, attempt, max_attempts, run_at, created_at, started_at, finished_at, error, result, progress, slot, fence"

type scanner interface{ Scan(...any) error }

func scanJob(r scanner) (Job, error) {
	var j Job
	var runAt, created, started, finished int64
	var args, result, progress string
	err := r.Scan(&j.ID, &j.Kind, &j.Key, &j.Queue, &j.Priority, &args, &j.State, &j.Attempt, &j.MaxAttempts,
		&runAt, &created, &started, &finished, &j.Error, &result, &progress, &j.Slot, &j.fence)
	j.RunAt, j.CreatedAt, j.StartedAt, j.FinishedAt = db.Time(runAt), db.Time(created), db.Time(started), db.Time(finished)
	j.Args, j.Result, j.Progress = raw(args), raw(result), raw(progress)
	return j, err
}

func scanJobs(r *sql.Rows) (Job, error) { return scanJob(r) }

func raw(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	return json.RawMessage(s)
}

// encode returns v as JSON of at most limit bytes, and "" for nil.
func encode(v any, limit int) (string, error) {
	if v == nil {
		return "", nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if len(b) > limit {
		return "", fmt.Errorf("%d bytes of JSON are more than %d", len(b), limit)
	}
	return string(b), nil
}

// errorText is what is kept of an error: PostgreSQL stores neither zero bytes nor
// broken UTF-8, and output of a program may hold both.
func errorText(err error) string {
	s := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= MaxError {
		return s
	}
	s = s[:MaxError]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

func randomOwner() string { return "unnamed-" + rand.Text() }

// insertJob inserts, or finds the unfinished job of the same kind and key.
func insertJob(ctx context.Context, tx *db.Tx, in Insert, args string, now time.Time, slot int64) (id int64, err error) {
	// The other job may finish between the two statements where the
	// transaction sees that; then the key is free again.
	for range 3 {
		err = tx.QueryRow(ctx, `
			INSERT INTO job_jobs (kind, key, queue, priority, args, state, attempt, max_attempts, losses, run_at, created_at,
				started_at, finished_at, owner, fence, lease_until, cancel, error, result, progress, slot)
			VALUES (?, ?, ?, ?, ?, 'waiting', 0, ?, 0, ?, ?, 0, 0, '', 0, 0, 0, '', '', '', ?)
			ON CONFLICT (kind, key) WHERE key <> '' AND state IN ('waiting', 'running') DO NOTHING
			RETURNING id`,
			in.Kind, in.Key, in.Queue, in.Priority, args, in.MaxAttempts, in.RunAt, now, slot).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
		err = tx.QueryRow(ctx, `
			UPDATE job_jobs SET
				run_at = CASE WHEN state = 'waiting' AND run_at > ? THEN ? ELSE run_at END,
				priority = CASE WHEN priority < ? THEN ? ELSE priority END
			WHERE kind = ? AND key = ? AND state IN ('waiting', 'running')
			RETURNING id`, in.RunAt, in.RunAt, in.Priority, in.Priority, in.Kind, in.Key).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err
		}
	}
	return 0, fmt.Errorf("key %q changes too fast", in.Key)
}

func readJob(ctx context.Context, tx *db.Tx, id int64) (Job, error) {
	j, err := scanJob(tx.QueryRow(ctx, "SELECT "+jobColumns+" FROM job_jobs WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return j, fmt.Errorf("job %d: %w", id, ErrNotFound)
	}
	return j, err
}

func listJobs(ctx context.Context, tx *db.Tx, f Filter) ([]Job, error) {
	var where []string
	var args []any
	add := func(column, value string) {
		if value != "" {
			where = append(where, column+" = ?")
			args = append(args, value)
		}
	}
	add("kind", f.Kind)
	add("state", string(f.State))
	add("key", f.Key)
	q := "SELECT " + jobColumns + " FROM job_jobs"
	if len(where) > 0 {
		q += " WHERE " + strings.Join(where, " AND ")
	}
	if f.Limit <= 0 || f.Limit > MaxList {
		f.Limit = MaxList
	}
	return db.Collect(scanJobs)(tx.Query(ctx, q+" ORDER BY id DESC LIMIT ?", append(args, f.Limit)...))
}

// claimLock is the key of the advisory lock under which claims count queues.
const claimLock = 0x6a6f62717565

// claim takes the first due job that this engine handles and whose queue has
// room. One statement takes it, so two workers never get the same; a crash after
// it leaves a job with a lease that runs out.
func (e *Engine) claim(ctx context.Context) (j Job, ok bool, err error) {
	now := e.config.Clock()
	kinds := slices.Collect(maps.Keys(e.handlers))
	if only := e.config.Only; only != nil {
		kinds = slices.DeleteFunc(kinds, func(k string) bool { return !slices.Contains(only, k) })
	}
	if len(kinds) == 0 {
		return j, false, nil
	}
	due := "state = 'waiting' AND run_at <= ? AND kind IN (" + marks(len(kinds)) + ")"
	dueArgs := append([]any{now}, anys(kinds)...)

	// Look before taking: on SQLite this keeps the idle engine from taking the
	// write lock every second.
	err = e.db.View(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, "SELECT 1 FROM job_jobs WHERE "+due+" LIMIT 1", dueArgs...).Scan(new(int))
		ok = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil || !ok {
		return j, false, err
	}
	// Not cut off by the end of ctx: a claim that took effect unseen would keep
	// the job from everybody until its lease runs out.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer stop()
	err = e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		where, args := due, slices.Clone(dueArgs)
		full, err := e.fullQueues(ctx, tx)
		if err != nil {
			return err
		}
		if len(full) > 0 {
			where += " AND queue NOT IN (" + marks(len(full)) + ")"
			args = append(args, anys(full)...)
		}
		skip := ""
		if e.db.Dialect() == db.Postgres {
			skip = "FOR UPDATE SKIP LOCKED"
		}
		args = append([]any{e.config.Owner, now, now.Add(e.config.Lease)}, args...)
		j, err = scanJob(tx.QueryRow(ctx, `
			UPDATE job_jobs SET state = 'running', owner = ?, started_at = ?, lease_until = ?,
				fence = fence + 1, attempt = attempt + 1, progress = '', cancel = 0
			WHERE id = (SELECT id FROM job_jobs WHERE `+where+` ORDER BY priority DESC, run_at, id LIMIT 1 `+skip+`)
			RETURNING `+jobColumns, args...))
		ok = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return e.begun(ctx, tx, j)
	})
	if j.MaxAttempts == 0 {
		j.MaxAttempts = e.handlers[j.Kind].MaxAttempts
	}
	return j, ok && err == nil, err
}

// fullQueues returns the queues at their limit. Where there are limits, claims of
// all processes wait for each other, or two could take the last place.
func (e *Engine) fullQueues(ctx context.Context, tx *db.Tx) ([]string, error) {
	if len(e.config.Queues) == 0 {
		return nil, nil
	}
	if e.db.Dialect() == db.Postgres {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(?)", int64(claimLock)); err != nil {
			return nil, err
		}
	}
	type count struct {
		queue string
		n     int
	}
	counts, err := db.Collect(func(r *sql.Rows) (c count, err error) {
		return c, r.Scan(&c.queue, &c.n)
	})(tx.Query(ctx, "SELECT queue, count(*) FROM job_jobs WHERE state = 'running' GROUP BY queue"))
	if err != nil {
		return nil, err
	}
	running := map[string]int{}
	for _, c := range counts {
		running[c.queue] = c.n
	}
	var full []string
	for queue, limit := range e.config.Queues {
		if running[queue] >= limit {
			full = append(full, queue)
		}
	}
	return full, nil
}

// heartbeat renews the lease, and returns whether somebody asked for the job's
// end. ErrLost says that the job is no longer ours.
func (e *Engine) heartbeat(ctx context.Context, j Job) (cancel bool, err error) {
	err = e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, "UPDATE job_jobs SET lease_until = ? WHERE id = ? AND fence = ? AND state = 'running' RETURNING cancel = 1",
			e.config.Clock().Add(e.config.Lease), j.ID, j.fence).Scan(&cancel)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrLost
		}
		return err
	})
	return cancel, err
}

// progress stores a report.
func (e *Engine) progress(ctx context.Context, j Job, report string) error {
	return e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE job_jobs SET progress = ? WHERE id = ? AND fence = ? AND state = 'running'", report, j.ID, j.fence)
		if err == nil && n == 0 {
			err = ErrLost
		}
		return err
	})
}

// An outcome is how an attempt, or a job that waits, ends.
type outcome struct {
	state  State // Waiting: it will run again
	err    error
	result string
	runAt  time.Time // for Waiting
	back   int       // attempts that do not count after all
	losses int       // in a row

	short    string // of a done job: what its result says that it lacks
	vanished bool   // nobody settles it: its worker is gone
}

// settle writes the outcome of j if the caller still holds it: the fence is that
// of the claim, and while a job waits, that of the last one. It returns false if
// another has taken it. A crash before the commit leaves the job as it was.
//
// A job whose end was asked for does not run again, whoever settles it.
func (e *Engine) settle(ctx context.Context, tx *db.Tx, j Job, o outcome) (bool, error) {
	now := e.config.Clock()
	text := ""
	if o.err != nil {
		text = errorText(o.err)
	}
	var finished time.Time
	if o.state.Finished() {
		finished = now
	}
	var state State
	err := tx.QueryRow(ctx, `
		UPDATE job_jobs SET
			state = CASE WHEN cancel = 1 AND ? = 'waiting' THEN 'cancelled' ELSE ? END,
			finished_at = CASE WHEN cancel = 1 THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END,
			run_at = CASE WHEN ? = 'waiting' THEN ? ELSE run_at END,
			attempt = attempt - ?, losses = ?, error = ?, result = ?,
			owner = '', lease_until = 0
		WHERE id = ? AND fence = ? AND state = ?
		RETURNING state`,
		o.state, o.state, now, finished, o.state, o.runAt, o.back, o.losses, text, o.result, j.ID, j.fence, j.State).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := e.ended(ctx, tx, j, o, state, text); err != nil {
		return false, err
	}
	e.db.Notify(ctx, tx, wakeWork) // it waits again, or left room in its queue
	if !state.Finished() {
		return true, nil
	}
	e.db.Notify(ctx, tx, wakeSettled)
	if j.Slot == 0 {
		return true, nil
	}
	return true, settleSlot(ctx, tx, j.ID, state, text, now)
}

// sweep takes jobs away from workers that are gone: those of one owner, or those
// whose lease has run out. Each is settled under its fence, so a worker that
// comes back meanwhile keeps its job or loses it, never half.
func (e *Engine) sweep(ctx context.Context, where string, args ...any) error {
	type lost struct {
		Job
		losses int
		lease  time.Time
	}
	for {
		now := e.config.Clock()
		var all []lost
		err := e.db.View(ctx, func(tx *db.Tx) (err error) {
			all, err = db.Collect(func(r *sql.Rows) (l lost, err error) {
				var started, lease int64
				l.State = Running
				err = r.Scan(&l.ID, &l.Kind, &l.fence, &l.Slot, &l.losses, &started, &lease)
				l.StartedAt, l.lease = db.Time(started), db.Time(lease)
				return l, err
			})(tx.Query(ctx, "SELECT id, kind, fence, slot, losses, started_at, lease_until FROM job_jobs WHERE state = 'running' AND "+where+" LIMIT ?", append(slices.Clone(args), batch)...))
			return err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		for _, l := range all {
			// Only losses in quick succession accuse the job.
			if l.lease.Sub(l.StartedAt) > 10*time.Minute+e.config.Lease {
				l.losses = 0
			}
			l.losses++
			o := outcome{state: Waiting, err: errors.New("the worker was lost"), runAt: now, back: 1, losses: l.losses, vanished: true}
			if l.losses > quickLosses {
				o.runAt = now.Add(min(time.Second<<min(l.losses-quickLosses, 20), 5*time.Minute))
			}
			if l.losses > MaxLosses {
				o.state, o.err = Failed, fmt.Errorf("the worker was lost %d times in a row while it ran this job", l.losses)
			}
			err := e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
				_, err := e.settle(ctx, tx, l.Job, o)
				return err
			})
			if err != nil {
				return fmt.Errorf("take back job %d: %w", l.ID, err)
			}
		}
		if len(all) < batch {
			return nil
		}
	}
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func anys[T any](s []T) []any {
	out := make([]any, len(s))
	for i, v := range s {
		out[i] = v
	}
	return out
}
