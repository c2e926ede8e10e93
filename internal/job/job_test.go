package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
)

var modules = []db.Module{Module}

// A clock that tests set.
type clock struct{ us atomic.Int64 }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.set(t)
	return c
}

func (c *clock) now() time.Time          { return db.Time(c.us.Load()) }
func (c *clock) set(t time.Time)         { c.us.Store(db.Micros(t)) }
func (c *clock) advance(d time.Duration) { c.us.Add(d.Microseconds()) }

var monday = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// each runs f on both databases with a clock that stands still.
func each(t *testing.T, f func(t *testing.T, d *db.DB, c *clock)) {
	dbtest.Each(t, modules, func(t *testing.T, d *db.DB) { f(t, d, newClock(monday)) })
}

func engine(d *db.DB, c *clock, owner string) *Engine {
	return New(d, Config{Owner: owner, Clock: c.now, Lease: time.Minute})
}

func enqueue(t *testing.T, e *Engine, in Insert) (id int64) {
	t.Helper()
	if err := e.db.Tx(t.Context(), func(tx *db.Tx) (err error) {
		id, err = e.Enqueue(t.Context(), tx, in)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func get(t *testing.T, e *Engine, id int64) Job {
	t.Helper()
	j, err := e.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func runOnce(t *testing.T, e *Engine) bool {
	t.Helper()
	ran, err := e.RunOnce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ran
}

// claimed returns the next job as a worker holds it, without running a handler.
func claimed(t *testing.T, e *Engine) *Work {
	t.Helper()
	j, ok, err := e.claim(t.Context())
	if err != nil || !ok {
		t.Fatalf("claim: %t, %v", ok, err)
	}
	return &Work{engine: e, job: j}
}

func nothing(context.Context, *Work) error { return nil }

func TestJobRunsOnceAndKeepsItsResult(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("copy", func(ctx context.Context, w *Work) error {
			var args struct{ Store string }
			if err := w.Decode(&args); err != nil {
				return err
			}
			if err := w.Progress(ctx, map[string]int{"percent": 50}); err != nil {
				return err
			}
			return w.Done(ctx, map[string]string{"copied": args.Store}, nil)
		}, HandlerOptions{})
		id := enqueue(t, e, Insert{Kind: "copy", Args: map[string]string{"Store": "it's ?"}})
		if j := get(t, e, id); j.State != Waiting || j.Attempt != 0 || !j.RunAt.Equal(monday) {
			t.Errorf("before: %+v", j)
		}
		if !runOnce(t, e) || runOnce(t, e) {
			t.Error("want exactly one run")
		}
		j := get(t, e, id)
		if j.State != Done || j.Attempt != 1 || string(j.Result) != `{"copied":"it's ?"}` || string(j.Progress) != `{"percent":50}` || !j.FinishedAt.Equal(monday) {
			t.Errorf("after: %+v", j)
		}
	})
}

// The job and the fact that causes it, and the fact that it results in, are there
// together or not at all.
func TestEnqueueAndDoneAreOneWithTheCallersFacts(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx, boom := t.Context(), errors.New("boom")
		e := engine(d, c, "a")
		e.Handle("next", nothing, HandlerOptions{})
		fail := true
		e.Handle("first", func(ctx context.Context, w *Work) error {
			return w.Done(ctx, nil, func(tx *db.Tx) error {
				if _, err := e.Enqueue(ctx, tx, Insert{Kind: "next"}); err != nil {
					return err
				}
				if fail {
					return boom
				}
				return nil
			})
		}, HandlerOptions{})
		err := d.Tx(ctx, func(tx *db.Tx) error {
			if _, err := e.Enqueue(ctx, tx, Insert{Kind: "first"}); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) || runOnce(t, e) {
			t.Fatalf("a job of a failed transaction ran (%v)", err)
		}
		id := enqueue(t, e, Insert{Kind: "first"})
		runOnce(t, e)
		if j := get(t, e, id); j.State != Waiting || j.Error != "boom" {
			t.Errorf("after a failed Done: %+v", j)
		}
		if runOnce(t, e) {
			t.Error("the failed Done left a job, or there was no backoff")
		}
		fail = false
		c.advance(time.Hour)
		ran := 0
		for runOnce(t, e) {
			ran++
		}
		if ran != 2 {
			t.Errorf("%d jobs ran, want the first and its successor, once each", ran)
		}
	})
}

func TestRetriesEnd(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		runs := 0
		e.Handle("flaky", func(context.Context, *Work) error { runs++; return fmt.Errorf("try %d\x00\xff", runs) },
			HandlerOptions{MaxAttempts: 3, Backoff: func(n int) time.Duration { return time.Duration(n) * time.Hour }})
		e.Handle("hopeless", func(context.Context, *Work) error { runs++; return Permanent(errors.New("never")) }, HandlerOptions{})
		e.Handle("panics", func(context.Context, *Work) error { runs++; panic("oh") }, HandlerOptions{MaxAttempts: 1})
		e.Handle("long", func(context.Context, *Work) error { return errors.New(strings.Repeat("é", MaxError)) }, HandlerOptions{MaxAttempts: 1})

		id := enqueue(t, e, Insert{Kind: "flaky"})
		for _, wait := range []time.Duration{0, time.Hour, 2 * time.Hour} {
			c.advance(wait - 1)
			if wait > 0 && runOnce(t, e) {
				t.Errorf("ran before its backoff of %s was over", wait)
			}
			c.advance(time.Microsecond)
			if !runOnce(t, e) {
				t.Errorf("did not run after %s", wait)
			}
		}
		if j := get(t, e, id); j.State != Failed || j.Attempt != 3 || runs != 3 || j.Error != "try 3\uFFFD\uFFFD" {
			t.Errorf("flaky ran %d times: %+v", runs, j)
		}
		for kind, want := range map[string]string{"hopeless": "never", "panics": "the handler panicked: oh", "long": "ééé"} {
			id := enqueue(t, e, Insert{Kind: kind})
			runOnce(t, e)
			if j := get(t, e, id); j.State != Failed || !strings.HasPrefix(j.Error, want) || len(j.Error) > MaxError {
				t.Errorf("%s: %.80v", kind, j)
			}
		}
		id = enqueue(t, e, Insert{Kind: "flaky", MaxAttempts: 1})
		runOnce(t, e)
		if j := get(t, e, id); j.State != Failed {
			t.Errorf("MaxAttempts 1: %+v", j)
		}
	})
}

func TestOneUnfinishedJobPerKey(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("backup", nothing, HandlerOptions{})
		later := enqueue(t, e, Insert{Kind: "backup", Key: "db", RunAt: monday.Add(time.Hour)})
		if id := enqueue(t, e, Insert{Kind: "drill", Key: "db"}); id == later {
			t.Error("another kind got the same job")
		}
		if runOnce(t, e) {
			t.Error("ran before its time")
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if id := enqueue(t, e, Insert{Kind: "backup", Key: "db"}); id != later {
					t.Errorf("a second unfinished job %d beside %d", id, later)
				}
			})
		}
		wg.Wait()
		if !runOnce(t, e) || runOnce(t, e) {
			t.Error("want one run, now")
		}
		if id := enqueue(t, e, Insert{Kind: "backup", Key: "db"}); id == later {
			t.Error("the finished job keeps the key")
		}
		if a, b := enqueue(t, e, Insert{Kind: "backup"}), enqueue(t, e, Insert{Kind: "backup"}); a == b {
			t.Error("jobs without key are one")
		}
	})
}

func TestOrderPriorityAndQueueLimits(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := New(d, Config{Owner: "a", Clock: c.now, Queues: map[string]int{"narrow": 1}})
		e.Handle("k", nothing, HandlerOptions{})
		enqueue(t, e, Insert{Kind: "k", Key: "3", Queue: "narrow"})
		enqueue(t, e, Insert{Kind: "k", Key: "4"})
		enqueue(t, e, Insert{Kind: "k", Key: "1", Priority: 2, Queue: "narrow"})
		enqueue(t, e, Insert{Kind: "k", Key: "2", Priority: 1, Queue: "wide"})
		enqueue(t, e, Insert{Kind: "k", Key: "5", RunAt: monday.Add(time.Microsecond)})
		enqueue(t, e, Insert{Kind: "unknown", Key: "-", Priority: 9})
		c.advance(time.Second)
		var got []string
		var first *Work
		for {
			j, ok, err := e.claim(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if first == nil {
				first = &Work{engine: e, job: j}
			}
			got = append(got, j.Key)
		}
		if want := []string{"1", "2", "4", "5"}; !slices.Equal(got, want) {
			t.Errorf("claimed %v, want %v", got, want)
		}
		if err := first.Done(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		if w := claimed(t, e); w.job.Key != "3" {
			t.Errorf("with room in its queue: claimed %q, want 3", w.job.Key)
		}
	})
}

// Many workers claim at once: each job goes to one.
func TestClaimsNeverShare(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		const jobs, workers = 40, 8
		a := engine(d, c, "a")
		for range jobs {
			enqueue(t, a, Insert{Kind: "k"})
		}
		var mu sync.Mutex
		got := map[int64]int{}
		var wg sync.WaitGroup
		for n := range workers {
			e := engine(d, c, fmt.Sprint("worker", n))
			e.Handle("k", nothing, HandlerOptions{})
			wg.Go(func() {
				for {
					j, ok, err := e.claim(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						// Nothing free, or others hold the rows just now.
						all, err := e.List(t.Context(), Filter{State: Waiting, Limit: 1})
						if err != nil || len(all) == 0 {
							return
						}
						continue
					}
					mu.Lock()
					got[j.ID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(got) != jobs {
			t.Errorf("%d jobs were claimed, want %d", len(got), jobs)
		}
		for id, n := range got {
			if n != 1 {
				t.Errorf("job %d was claimed %d times", id, n)
			}
		}
	})
}

// A worker whose lease has passed on can do nothing any more, not even when the
// job has come back to the same owner.
func TestLostLeaseCannotSettle(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx := t.Context()
		a, b := engine(d, c, "a"), engine(d, c, "b")
		for _, e := range []*Engine{a, b} {
			e.Handle("k", nothing, HandlerOptions{})
		}
		id := enqueue(t, a, Insert{Kind: "k", MaxAttempts: 1})
		stale := []*Work{claimed(t, a)}
		c.advance(time.Minute) // the lease ends now
		if err := b.Tick(ctx); err != nil {
			t.Fatal(err)
		}
		if j := get(t, b, id); j.State != Waiting || j.Attempt != 0 {
			t.Errorf("after the loss: %+v", j)
		}
		check := func() {
			t.Helper()
			for i, w := range stale {
				if err := w.Progress(ctx, 1); !errors.Is(err, ErrLost) {
					t.Errorf("stale %d: Progress: %v", i, err)
				}
				if _, err := w.renew(ctx); !errors.Is(err, ErrLost) {
					t.Errorf("stale %d: heartbeat: %v", i, err)
				}
				ran := false
				if err := w.Done(ctx, "stale", func(*db.Tx) error { ran = true; return nil }); !errors.Is(err, ErrLost) || ran {
					t.Errorf("stale %d: Done: %v, ran %t", i, err, ran)
				}
			}
		}
		check()
		stale = append(stale, claimed(t, b))
		if err := b.TakeBack(ctx); err != nil { // as b starting again would
			t.Fatal(err)
		}
		check()
		w := claimed(t, b)
		check()
		if err := w.Done(ctx, "fresh", nil); err != nil {
			t.Fatal(err)
		}
		check()
		if j := get(t, a, id); string(j.Result) != `"fresh"` || j.Attempt != 1 {
			t.Errorf("at the end: %+v", j)
		}
	})
}

func TestHeartbeatKeepsTheLease(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		a, b := engine(d, c, "a"), engine(d, c, "b")
		a.Handle("k", nothing, HandlerOptions{})
		b.Handle("k", nothing, HandlerOptions{})
		id := enqueue(t, a, Insert{Kind: "k"})
		w := claimed(t, a)
		for range 5 {
			c.advance(40 * time.Second)
			if _, err := w.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if runOnce(t, b) {
				t.Fatal("b took a living worker's job")
			}
		}
		if err := w.Done(t.Context(), nil, nil); err != nil {
			t.Error(err)
		}
		if j := get(t, a, id); j.State != Done {
			t.Errorf("job: %+v", j)
		}
	})
}

// A job that kills its process each time ends some day, and slowly; one whose
// process ends now and then does not.
func TestJobThatKillsItsWorker(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		id := enqueue(t, e, Insert{Kind: "k"})
		start := c.now()
		for n := 1; get(t, e, id).State != Failed; n++ {
			if n > MaxLosses+1 {
				t.Fatal("it runs for ever")
			}
			c.set(get(t, e, id).RunAt)
			claimed(t, e)
			if err := e.TakeBack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := c.now().Sub(start); took < time.Hour {
			t.Errorf("%d losses in %s", MaxLosses, took)
		}
		id = enqueue(t, e, Insert{Kind: "k"})
		for range MaxLosses + 5 {
			c.set(get(t, e, id).RunAt)
			w := claimed(t, e)
			c.advance(20 * time.Minute)
			if _, err := w.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := e.TakeBack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if j := get(t, e, id); j.State != Waiting || j.Attempt != 0 {
			t.Errorf("a long job after many restarts: %+v", j)
		}
	})
}

func TestCancel(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx := t.Context()
		e := engine(d, c, "a")
		started := make(chan struct{})
		var cause error
		e.Handle("k", func(ctx context.Context, w *Work) error {
			close(started)
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}, HandlerOptions{})
		waiting := enqueue(t, e, Insert{Kind: "k"})
		for range 2 {
			if err := e.Cancel(ctx, waiting); err != nil {
				t.Error(err)
			}
		}
		if j := get(t, e, waiting); j.State != Cancelled || runOnce(t, e) {
			t.Errorf("cancelled while waiting: %+v", j)
		}
		id := enqueue(t, e, Insert{Kind: "k"})
		var wg sync.WaitGroup
		wg.Go(func() { runOnce(t, e) })
		<-started
		if err := e.Cancel(ctx, id); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if j := get(t, e, id); j.State != Cancelled || !errors.Is(cause, ErrCancelled) {
			t.Errorf("cancelled while running (cause %v): %+v", cause, j)
		}
		// Its worker is gone before it learns of the cancelling.
		id = enqueue(t, e, Insert{Kind: "k"})
		claimed(t, e)
		if err := e.Cancel(ctx, id); err != nil {
			t.Error(err)
		}
		if err := e.TakeBack(ctx); err != nil {
			t.Error(err)
		}
		if j := get(t, e, id); j.State != Cancelled || j.FinishedAt.IsZero() {
			t.Errorf("cancelled and lost: %+v", j)
		}
		if err := e.Cancel(ctx, 999999); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such job: %v", err)
		}
		id = enqueue(t, e, Insert{Kind: "k"})
		if err := claimed(t, e).Done(ctx, nil, nil); err != nil {
			t.Error(err)
		}
		if err := e.Cancel(ctx, id); !errors.Is(err, ErrFinished) {
			t.Errorf("a done job: %v", err)
		}
	})
}

func TestTimeout(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("k", func(ctx context.Context, w *Work) error { <-ctx.Done(); return ctx.Err() },
			HandlerOptions{Timeout: time.Millisecond, MaxAttempts: 1})
		id := enqueue(t, e, Insert{Kind: "k"})
		runOnce(t, e)
		if j := get(t, e, id); j.State != Failed || !strings.Contains(j.Error, "longer than") {
			t.Errorf("job: %+v", j)
		}
	})
}

// Done whose answer was lost on the way may be called again, and says the truth.
func TestDoneAfterUnknownOutcome(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx := t.Context()
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		enqueue(t, e, Insert{Kind: "k"})
		w := claimed(t, e)
		again := &Work{engine: e, job: w.job} // knows nothing of the first call
		if err := w.Done(ctx, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := again.Done(ctx, 2, func(*db.Tx) error { t.Error("fn ran twice"); return nil }); err != nil {
			t.Error(err)
		}
		if err := w.Done(ctx, 3, nil); err == nil {
			t.Error("a handler settled twice and was not told")
		}
		if j := get(t, e, w.job.ID); string(j.Result) != "1" {
			t.Errorf("job: %+v", j)
		}
	})
}

func TestStartWakeWaitStop(t *testing.T) {
	dbtest.Each(t, modules, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		block := make(chan struct{})
		handle := func(e *Engine) *Engine {
			e.Handle("quick", func(ctx context.Context, w *Work) error { return w.Done(ctx, "ok", nil) }, HandlerOptions{})
			e.Handle("slow", func(ctx context.Context, w *Work) error {
				if w.Job().Attempt != 1 {
					return Permanent(errors.New("an interruption was counted"))
				}
				select {
				case <-block:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}, HandlerOptions{})
			return e
		}
		e := handle(New(d, Config{Owner: "a", Workers: 2}))
		lost := enqueue(t, e, Insert{Kind: "quick"})
		claimed(t, e) // by a process that died at once
		if err := e.Start(ctx); err != nil {
			t.Fatal(err)
		}
		slow := enqueue(t, e, Insert{Kind: "slow"})
		for _, id := range []int64{lost, enqueue(t, e, Insert{Kind: "quick"}), enqueue(t, e, Insert{Kind: "quick"})} {
			if j, err := e.Wait(ctx, id); err != nil || j.State != Done {
				t.Errorf("%+v, %v", j, err)
			}
		}
		for get(t, e, slow).State != Running { // another worker has it by now, or will
			if ctx.Err() != nil {
				t.Fatal("the slow job does not start")
			}
		}
		if err := e.Stop(ctx); err != nil {
			t.Error(err)
		}
		if j := get(t, e, slow); j.State != Waiting || j.Attempt != 0 {
			t.Errorf("after Stop: %+v", j)
		}
		close(block)
		e = handle(New(d, Config{Owner: "a"}))
		if err := e.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if j, err := e.Wait(ctx, slow); err != nil || j.State != Done {
			t.Errorf("%+v, %v", j, err)
		}
		if err := e.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestListPruneAndLimits(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx := t.Context()
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		a := enqueue(t, e, Insert{Kind: "k", Key: "x"})
		runOnce(t, e)
		b := enqueue(t, e, Insert{Kind: "k", Key: "x"})
		other := enqueue(t, e, Insert{Kind: "l"})
		for _, tt := range []struct {
			f    Filter
			want []int64
		}{
			{Filter{}, []int64{other, b, a}},
			{Filter{Kind: "k"}, []int64{b, a}},
			{Filter{Kind: "k", State: Done}, []int64{a}},
			{Filter{Key: "x", Limit: 1}, []int64{b}},
		} {
			jobs, err := e.List(ctx, tt.f)
			var got []int64
			for _, j := range jobs {
				got = append(got, j.ID)
			}
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("List(%+v) = %v, %v, want %v", tt.f, got, err, tt.want)
			}
		}
		c.advance(time.Hour)
		if n, err := e.Prune(ctx, c.now()); n != 1 || err != nil {
			t.Errorf("Prune = %d, %v, want 1", n, err)
		}
		err := d.Tx(ctx, func(tx *db.Tx) error {
			_, err := e.Enqueue(ctx, tx, Insert{Kind: "k", Args: json.RawMessage(`"` + strings.Repeat("x", MaxArgs) + `"`)})
			return err
		})
		if err == nil {
			t.Error("arguments of any size")
		}
	})
}
