package job

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/db"
)

// Start takes back the jobs that this owner was running when it ended, and runs
// jobs and schedules until Stop. ctx bounds only the start itself.
func (e *Engine) Start(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stop != nil {
		return errors.New("start jobs: already started")
	}
	if err := e.TakeBack(ctx); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	run, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	e.stop, e.stopped = stop, make(chan struct{})
	go func() {
		defer close(e.stopped)
		e.loop(run)
	}()
	return nil
}

// Stop ends the handlers' contexts with [ErrStopping] and waits until they have
// returned and their jobs wait again, or until ctx ends. Jobs that still run then
// are taken back at the next start. Stop may be called without Start, and twice;
// a stopped engine does not start again.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	stop, stopped := e.stop, e.stopped
	e.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop(ErrStopping)
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop jobs: some are still running: %w", context.Cause(ctx))
	}
}

// TakeBack puts the running jobs of this owner back into the queue. It must not
// be called while this owner runs jobs, here or in another process; Start calls
// it.
func (e *Engine) TakeBack(ctx context.Context) error {
	return e.sweep(ctx, "owner = ?", e.config.Owner)
}

// Tick does what time alone causes: it writes slots ahead, starts the jobs of due
// slots, marks slots as missed, and takes jobs from workers whose lease has run
// out. The loop and RunOnce call it; any number of processes may.
func (e *Engine) Tick(ctx context.Context) error {
	now := e.config.Clock()
	if err := e.sweep(ctx, "(lease_until <= ? OR lease_until > ?)", now, now.Add(e.config.Lease+clockSlack)); err != nil {
		return err
	}
	if err := e.afterClockJump(ctx, now); err != nil {
		return err
	}
	if e.config.Only != nil {
		return nil
	}
	return e.tickSchedules(ctx, now)
}

// afterClockJump makes jobs due that were put off by a clock that was ahead and
// has come back: a retry after a minute must not wait for a year.
func (e *Engine) afterClockJump(ctx context.Context, now time.Time) error {
	const put = "state = 'waiting' AND run_at > ? AND (created_at > ? OR started_at > ?)"
	args := []any{now, now.Add(clockSlack), now.Add(clockSlack)}
	err := e.db.View(ctx, func(tx *db.Tx) error {
		return tx.QueryRow(ctx, "SELECT 1 FROM job_jobs WHERE "+put+" LIMIT 1", args...).Scan(new(int))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		// The wrong times go too, or the next backoff would be void as well.
		_, err := tx.Exec(ctx, `
			UPDATE job_jobs SET run_at = ?,
				created_at = CASE WHEN created_at > ? THEN ? ELSE created_at END,
				started_at = CASE WHEN started_at > ? THEN ? ELSE started_at END
			WHERE `+put, append([]any{now, now, now, now, now}, args...)...)
		return err
	})
}

// RunOnce does one [Engine.Tick], then claims and runs one due job. It returns
// whether there was one; that the job failed is no error.
func (e *Engine) RunOnce(ctx context.Context) (ran bool, err error) {
	if err := e.Tick(ctx); err != nil {
		return false, err
	}
	j, ok, err := e.claim(ctx)
	if err != nil || !ok {
		return false, err
	}
	e.execute(ctx, j)
	return true, nil
}

// loop claims jobs while there are free workers. It alone starts workers, and
// waits for them at the end.
func (e *Engine) loop(ctx context.Context) {
	wake, unlisten := e.db.Listen(wakeWork)
	defer unlisten()
	var workers sync.WaitGroup
	defer workers.Wait()
	var busy atomic.Int64
	finished := make(chan struct{}, 1)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		err := e.Tick(ctx)
		for err == nil && ctx.Err() == nil && busy.Load() < int64(e.config.Workers) {
			var j Job
			var ok bool
			if j, ok, err = e.claim(ctx); !ok {
				break
			}
			busy.Add(1)
			workers.Go(func() {
				e.execute(ctx, j)
				busy.Add(-1)
				select {
				case finished <- struct{}{}:
				default:
				}
			})
		}
		if err != nil && ctx.Err() == nil {
			e.config.Log.Error("jobs: looking for work", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-finished:
		case <-poll.C:
		}
	}
}

var errTimeout = errors.New("the attempt took longer than its kind may")

// execute runs the handler of a claimed job and settles it.
func (e *Engine) execute(ctx context.Context, j Job) {
	log := e.config.Log.With("job", j.ID, "kind", j.Kind, "attempt", j.Attempt)
	h := e.handlers[j.Kind]
	hctx, cancel := context.WithCancelCause(ctx)
	if h.Timeout > 0 {
		var stop context.CancelFunc
		hctx, stop = context.WithTimeoutCause(hctx, h.Timeout, errTimeout)
		defer stop()
	}
	w := &Work{engine: e, job: j}
	var beats sync.WaitGroup
	done := make(chan struct{})
	beats.Go(func() { w.beat(context.WithoutCancel(ctx), done, cancel) })
	err := context.Cause(ctx) // the end may have come during the claim
	if err == nil {
		err = call(hctx, h.run, w)
	}
	cause := context.Cause(hctx)
	close(done)
	beats.Wait()
	cancel(nil)

	if w.settled {
		if err != nil {
			log.Error("jobs: handler failed after it had settled its job", "error", err)
		}
		return
	}
	if err != nil && errors.Is(cause, ErrLost) {
		log.Warn("jobs: lost the job to another worker", "error", err)
		return
	}
	o := e.judge(h, j, err, cause)
	sctx, stop := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer stop()
	var held bool
	serr := e.db.TxReadCommitted(sctx, func(tx *db.Tx) (err error) {
		held, err = e.settle(sctx, tx, j, o)
		return err
	})
	switch {
	case serr != nil:
		// Nothing is lost: the lease runs out and the job runs again.
		log.Error("jobs: writing the outcome", "outcome", o.state, "error", serr)
	case !held:
		log.Warn("jobs: lost the job before its outcome was written", "outcome", o.state)
	case o.state == Failed:
		log.Error("jobs: failed", "error", o.err)
	case err != nil:
		log.Warn("jobs: attempt ended", "outcome", o.state, "error", o.err)
	}
}

// judge decides what an attempt's error means.
func (e *Engine) judge(h handler, j Job, err, cause error) outcome {
	now := e.config.Clock()
	var p permanent
	switch {
	case err == nil:
		return outcome{state: Done}
	case errors.Is(cause, ErrCancelled):
		return outcome{state: Cancelled, err: ErrCancelled}
	case errors.As(err, &p):
		return outcome{state: Failed, err: err}
	case cause != nil && !errors.Is(cause, errTimeout):
		return outcome{state: Waiting, err: err, runAt: now, back: 1} // the engine stops
	case errors.Is(cause, errTimeout):
		err = fmt.Errorf("%w (%s): %w", errTimeout, h.Timeout, err)
	}
	if j.Attempt >= j.MaxAttempts {
		return outcome{state: Failed, err: err}
	}
	return outcome{state: Waiting, err: err, runAt: now.Add(h.Backoff(j.Attempt))}
}

// call turns a handler's panic into an error: one kind of work must not end the
// server and with it all others.
func call(ctx context.Context, h Handler, w *Work) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return h(ctx, w)
}

// Work is one claim of a job, for its handler.
type Work struct {
	engine *Engine
	job    Job

	mu      sync.Mutex // held while Done settles, so that no heartbeat meets it
	settled bool
}

// Job returns the job as it was claimed.
func (w *Work) Job() Job { return w.job }

// Decode reads the arguments into v. Arguments that do not fit are a permanent
// error: they would not fit next time.
func (w *Work) Decode(v any) error {
	if err := json.Unmarshal(w.job.Args, v); err != nil {
		return Permanent(fmt.Errorf("arguments of job %d (%s): %w", w.job.ID, w.job.Kind, err))
	}
	return nil
}

// Progress stores a report for those who look at the job; the last one counts. It
// returns ErrLost if the job is no longer ours.
func (w *Work) Progress(ctx context.Context, v any) error {
	report, err := encode(v, MaxProgress)
	if err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	return w.engine.progress(ctx, w.job, report)
}

// Done settles the job and runs fn in one transaction: either the job is done and
// what fn wrote is there, or neither. fn may run again after a conflict, as in
// [db.DB.Tx], and may be nil. If the job has passed to another worker, fn does not
// run and Done returns ErrLost.
//
// After an error that wraps db.ErrUnknownOutcome, Done may be called again: if the
// first call took effect, it says so by returning nil, and does not run fn.
func (w *Work) Done(ctx context.Context, result any, fn func(tx *db.Tx) error) error {
	text, err := encode(result, MaxArgs)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	short := ""
	if r, ok := result.(Judged); ok {
		short = r.Short()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settled {
		return fmt.Errorf("job %d was settled twice by its handler", w.job.ID)
	}
	err = w.engine.db.Tx(ctx, func(tx *db.Tx) error {
		// First our row: if it is gone, nothing else is touched, and while we
		// hold it nobody can take the job.
		held, err := w.engine.settle(ctx, tx, w.job, outcome{state: Done, result: text, short: short})
		if err != nil {
			return err
		}
		if !held {
			now, err := readJob(ctx, tx, w.job.ID)
			if err == nil && now.State == Done && now.fence == w.job.fence {
				return nil // an earlier call of ours, whose outcome was unknown
			}
			return errors.Join(ErrLost, err)
		}
		if fn == nil {
			return nil
		}
		return fn(tx)
	})
	w.settled = err == nil
	return err
}

// beat renews the lease until done is closed, and ends the handler when the job
// shall end or is lost.
func (w *Work) beat(ctx context.Context, done <-chan struct{}, end context.CancelCauseFunc) {
	e := w.engine
	asked, unlisten := e.db.Listen(wakeCancel)
	defer unlisten()
	tick := time.NewTicker(e.config.Lease / 3)
	defer tick.Stop()
	until := e.config.Clock().Add(e.config.Lease)
	for {
		select {
		case <-done:
			return
		case <-asked:
		case <-tick.C:
		}
		cancel, err := w.renew(ctx)
		switch {
		case err == nil:
			until = e.config.Clock().Add(e.config.Lease)
		case errors.Is(err, ErrLost), !e.config.Clock().Before(until):
			// Without a heartbeat for a whole lease another worker may have
			// the job: better stop than do it twice at the same time.
			end(ErrLost)
			return
		default:
			e.config.Log.Warn("jobs: heartbeat", "job", w.job.ID, "error", err)
		}
		if cancel {
			end(ErrCancelled)
		}
	}
}

// renew sends one heartbeat, unless the handler has settled the job.
func (w *Work) renew(ctx context.Context) (cancel bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settled {
		return false, nil
	}
	ctx, stop := context.WithTimeout(ctx, w.engine.config.Lease)
	defer stop()
	return w.engine.heartbeat(ctx, w.job)
}
