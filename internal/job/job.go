// Package job runs work that must not be forgotten.
//
// A job is a row. Whoever causes work enqueues it in the transaction that records
// the cause ([Engine.Enqueue]); a worker claims it under a lease, runs the handler
// of its kind, and settles it in the transaction that records the result
// ([Work.Done]). A schedule writes the instants at which work is expected (slots)
// ahead of time, so that work that did not happen is a row too.
//
// Any number of processes may share one database; there is no leader. The engine
// knows nothing of what the jobs mean.
//
// # Promises
//
//   - A committed job runs at least once and is settled exactly once. A handler
//     may be cut off anywhere and begin again, so its effects outside the
//     database must bear repetition; those inside go into Done.
//   - Each claim has a fencing token, larger than all before it. A worker whose
//     lease has passed to another can neither settle the job nor report progress
//     ([ErrLost]), whatever its clock and its network do.
//   - A process that died and starts again under the same owner takes its jobs
//     back at once. Others take them when the lease has run out.
//   - Per kind and non-empty key at most one job is unfinished.
//   - A slot fires at most once, and one schedule never overlaps with itself.
//   - A slot that is not finished at its deadline is missed, and stays so when it
//     is finished late.
//   - A clock that jumps ahead makes work early or late, and when it has come back
//     everything goes on: nothing waits for the time that it showed.
//
// # What it does not promise
//
// The clocks of the processes must agree better than the lease is long; otherwise
// work is taken from the living, which costs repetition and nothing else. Two
// processes that run at the same time must not have the same owner.
package job

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"holdfast/internal/db"
)

//go:embed migrations
var migrations embed.FS

// Module holds the tables job_jobs, job_runs, job_schedules and job_slots.
var Module = db.Module{Name: "job", Migrations: sub(migrations, "migrations")}

func sub(fsys fs.FS, dir string) fs.FS {
	s, err := fs.Sub(fsys, dir)
	if err != nil {
		panic(err) // the name is a constant
	}
	return s
}

// Limits.
const (
	MaxArgs     = 1 << 20  // bytes of JSON in arguments and results
	MaxProgress = 64 << 10 // bytes of JSON in one report of progress
	MaxError    = 4 << 10  // bytes of an error's text that are kept
	MaxList     = 10_000   // jobs that one List returns
	MaxSlots    = 100_000  // slots that one Slots returns

	// MaxLosses is how many times in a row the worker of a job may disappear
	// before the job fails: such a job may well be what kills it. From
	// quickLosses on, it waits longer each time.
	MaxLosses   = 100
	quickLosses = 5

	defaultAttempts = 5
	defaultLease    = 30 * time.Second
	defaultWorkers  = 4
	defaultQueue    = "default"

	// pollEvery is how often the engine looks without being woken: it bounds
	// the delay of a job whose time comes and of a lost wake-up.
	pollEvery   = time.Second
	settleLimit = 30 * time.Second // for writing an outcome while the engine stops
	// clockSlack is how far the clocks of the servers may part, and one clock
	// go back, before that is taken as the end of a jump.
	clockSlack = 10 * time.Minute

	batch = 100 // rows that one pass of a sweep changes
)

// The channels of db.Notify.
const (
	wakeWork    = "job_work"    // something may be claimed
	wakeSettled = "job_settled" // a job has finished
	wakeCancel  = "job_cancel"  // a running job shall end
)

var (
	// ErrLost marks work that has passed to another worker. What the handler
	// still does is in vain; it should return.
	ErrLost = errors.New("the lease of the job is lost")
	// ErrCancelled is the cause of a handler's cancelled context after Cancel.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrStopping is the cause of a handler's cancelled context during Stop.
	// The job will be run again.
	ErrStopping = errors.New("the server is stopping")
	// ErrNotFound marks a job that does not exist.
	ErrNotFound = errors.New("no such job")
	// ErrFinished marks an act on a job that is already done or failed.
	ErrFinished = errors.New("the job has finished")
)

// A State is where a job stands.
type State string

// States. The last three are final.
const (
	Waiting   State = "waiting"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Finished reports whether the state is final.
func (s State) Finished() bool { return s == Done || s == Failed || s == Cancelled }

// A Job is what is known of one piece of work.
type Job struct {
	ID          int64
	Kind        string
	Key         string
	Queue       string
	Priority    int
	Args        json.RawMessage
	State       State
	Attempt     int // attempts that ended or run; one that was lost with its process does not count
	MaxAttempts int // 0: what the handler says
	RunAt       time.Time
	CreatedAt   time.Time
	StartedAt   time.Time // of the last attempt
	FinishedAt  time.Time
	Error       string // of the last attempt
	Result      json.RawMessage
	Progress    json.RawMessage
	Slot        int64 // that it fulfils, or 0

	fence int64
}

// An Insert describes a job to enqueue.
type Insert struct {
	Kind string
	// Key makes the job unique among the unfinished ones of its kind. While one
	// is unfinished, inserting another returns the id of the first, and makes
	// it due no later than the other would have been.
	Key      string
	Args     any       // JSON
	RunAt    time.Time // not before; zero: now
	Queue    string    // empty: "default"
	Priority int       // larger runs first
	// MaxAttempts is after how many failed attempts the job has failed. Zero:
	// what the handler says.
	MaxAttempts int
}

// A Handler does the work of one kind. Returning nil without [Work.Done] settles
// the job without a result. An error makes it run again later, unless it is
// [Permanent] or the attempts are used up. The context ends when the job is
// cancelled, lost, too slow, or the engine stops; context.Cause says which.
type Handler func(ctx context.Context, w *Work) error

// HandlerOptions belong to a kind.
type HandlerOptions struct {
	Timeout     time.Duration                   // of one attempt; zero: none
	MaxAttempts int                             // zero: 5
	Backoff     func(attempt int) time.Duration // after the failed attempt; nil: 5s, 20s, 80s … up to 1h
	// Item says what a job of the kind is about, from its arguments. With it each attempt
	// is kept as a record ([Run]) that outlives the job.
	Item func(args json.RawMessage) string
}

type handler struct {
	run Handler
	HandlerOptions
}

// Config is what an engine needs to know.
type Config struct {
	// Owner names this process in the database. It should be the same after a
	// restart (one per data directory), so that the process takes its own jobs
	// back at once. Empty: a random name, and a restart waits for the leases.
	Owner string
	// Workers is how many jobs run at a time in this process. Zero: 4.
	Workers int
	// Queues limits how many jobs of a queue run at a time in all processes
	// together, which must agree on it. A queue that is not named has no limit.
	Queues map[string]int
	// Program is the version of the program, for the records of runs.
	Program string
	Clock   func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
	// Lease is how long a job stays with a worker that gives no sign of life.
	// Zero: 30s.
	Lease time.Duration
	// Only names the kinds that this engine runs, of those that it handles, and
	// keeps it from starting the jobs of schedules. It is for a process that was
	// asked for one thing and ends after it. Nil: all.
	Only []string
}

// An Engine enqueues and runs jobs. Enqueue and the reading methods work without
// Start, and an engine without handlers runs nothing.
type Engine struct {
	db     *db.DB
	config Config

	mu       sync.Mutex
	handlers map[string]handler // written before the first claim, then only read
	stop     context.CancelCauseFunc
	stopped  chan struct{} // closed when the loop and all workers have ended
}

// New returns an engine on d, which must have been migrated with [Module].
func New(d *db.DB, c Config) *Engine {
	if c.Owner == "" {
		c.Owner = randomOwner()
	}
	if c.Workers <= 0 {
		c.Workers = defaultWorkers
	}
	if c.Lease <= 0 {
		c.Lease = defaultLease
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{db: d, config: c, handlers: map[string]handler{}}
}

// Handle has h run the jobs of kind. An engine claims only kinds that it handles,
// so jobs of a kind that nobody handles wait. Call it before Start; a second
// handler of a kind is a programming error and panics.
func (e *Engine) Handle(kind string, h Handler, o HandlerOptions) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, dup := e.handlers[kind]; dup {
		panic("job: second handler of " + kind)
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = defaultAttempts
	}
	if o.Backoff == nil {
		o.Backoff = defaultBackoff
	}
	e.handlers[kind] = handler{h, o}
}

func defaultBackoff(attempt int) time.Duration {
	d := 5 * time.Second
	for i := 1; i < attempt && d < time.Hour; i++ {
		d *= 4
	}
	return min(d, time.Hour)
}

// permanent marks an error that another attempt would meet again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err so that the job fails without another attempt. A nil err
// stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// Enqueue inserts a job in the caller's transaction and returns its id. Before
// the commit nobody sees it; a crash there leaves neither the job nor its cause.
func (e *Engine) Enqueue(ctx context.Context, tx *db.Tx, in Insert) (int64, error) {
	if in.Kind == "" {
		return 0, errors.New("enqueue: a job needs a kind")
	}
	args, err := encode(in.Args, MaxArgs)
	if err != nil {
		return 0, fmt.Errorf("enqueue %s: arguments: %w", in.Kind, err)
	}
	now := e.config.Clock()
	if in.RunAt.IsZero() {
		in.RunAt = now
	}
	if in.Queue == "" {
		in.Queue = defaultQueue
	}
	id, err := insertJob(ctx, tx, in, args, now, 0)
	if err != nil {
		return 0, fmt.Errorf("enqueue %s: %w", in.Kind, err)
	}
	e.db.Notify(ctx, tx, wakeWork)
	return id, nil
}

// Get returns one job.
func (e *Engine) Get(ctx context.Context, id int64) (Job, error) {
	var j Job
	err := e.db.View(ctx, func(tx *db.Tx) (err error) {
		j, err = readJob(ctx, tx, id)
		return err
	})
	return j, err
}

// A Filter selects jobs; its zero fields select all.
type Filter struct {
	Kind  string
	State State
	Key   string
	Limit int // zero or more than MaxList: MaxList
}

// List returns jobs, the newest first.
func (e *Engine) List(ctx context.Context, f Filter) ([]Job, error) {
	var jobs []Job
	err := e.db.View(ctx, func(tx *db.Tx) (err error) {
		jobs, err = listJobs(ctx, tx, f)
		return err
	})
	return jobs, err
}

// Cancel ends a job: one that waits at once, one that runs when its worker
// learns of it, which is soon. Then the handler's context ends; if the handler
// finishes all the same, the job is done. Cancelling twice is the same as once.
func (e *Engine) Cancel(ctx context.Context, id int64) error {
	return e.db.Tx(ctx, func(tx *db.Tx) error {
		j, err := readJob(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case j.State == Cancelled:
			return nil
		case j.State.Finished():
			return fmt.Errorf("cancel job %d: %w", id, ErrFinished)
		case j.State == Waiting:
			_, err := e.settle(ctx, tx, j, outcome{state: Cancelled, err: ErrCancelled})
			return err
		}
		e.db.Notify(ctx, tx, wakeCancel)
		_, err = tx.Exec(ctx, "UPDATE job_jobs SET cancel = 1 WHERE id = ?", id)
		return err
	})
}

// Wake has all engines look for work as soon as tx is committed, and not only when
// they look by themselves: after a step of the clock.
func (e *Engine) Wake(ctx context.Context, tx *db.Tx) { e.db.Notify(ctx, tx, wakeWork) }

// Wait returns the job when it has finished.
func (e *Engine) Wait(ctx context.Context, id int64) (Job, error) {
	settled, stop := e.db.Listen(wakeSettled)
	defer stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		j, err := e.Get(ctx, id)
		if err != nil || j.State.Finished() {
			return j, err
		}
		select {
		case <-settled:
		case <-poll.C:
		case <-ctx.Done():
			return j, context.Cause(ctx)
		}
	}
}

// Prune deletes jobs that finished before the given time and returns how many.
// Slots and the records of runs stay: they say what was expected, and what came of it.
func (e *Engine) Prune(ctx context.Context, before time.Time) (n int64, err error) {
	err = e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		n, err = tx.Exec(ctx, "DELETE FROM job_jobs WHERE finished_at <> 0 AND finished_at < ?", before)
		return err
	})
	return n, err
}
