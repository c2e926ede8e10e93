package job

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/internal/db"
)

type lacking struct{ What string }

func (l lacking) Short() string { return l.What }

// Whatever becomes of an attempt, its record says it: also of one whose process vanished,
// and of a job that was cancelled before anybody began it.
func TestEveryAttemptHasARecord(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		ctx := t.Context()
		e := engine(d, c, "a")
		e.config.Program = "1.2"
		ends := map[string]func(ctx context.Context, w *Work) error{
			"good":   func(ctx context.Context, w *Work) error { return w.Done(ctx, map[string]int{"n": 1}, nil) },
			"short":  func(ctx context.Context, w *Work) error { return w.Done(ctx, lacking{"a file"}, nil) },
			"bad":    func(context.Context, *Work) error { return Permanent(errors.New("no space")) },
			"silent": nothing,
			"retry": func(ctx context.Context, w *Work) error {
				if w.Job().Attempt == 1 {
					return errors.New("once more")
				}
				return nil
			},
		}
		about := About(func(a struct{ Store string }) string { return "stores." + a.Store })
		for kind, run := range ends {
			e.Handle(kind, run, HandlerOptions{Item: about})
		}
		e.Handle("vanish", nothing, HandlerOptions{Item: about})
		e.Handle("unkept", nothing, HandlerOptions{})
		in := func(kind string) Insert { return Insert{Kind: kind, Args: map[string]string{"Store": "db"}} }
		last := func() Run {
			t.Helper()
			rs, err := e.Runs(ctx, RunFilter{Limit: 1})
			if err != nil || len(rs) != 1 {
				t.Fatal(rs, err)
			}
			return rs[0]
		}
		for _, tt := range []struct {
			kind  string
			state RunState
			err   string
		}{{"good", RunDone, ""}, {"short", RunShort, "a file"}, {"bad", RunFailed, "no space"}, {"silent", RunDone, ""}} {
			id := enqueue(t, e, in(tt.kind))
			c.advance(time.Second)
			runOnce(t, e)
			r := last()
			if r.Job != id || r.Kind != tt.kind || r.State != tt.state || r.Error != tt.err || r.Item != "stores.db" || r.Program != "1.2" || r.Owner != "a" || r.Started.IsZero() || r.Ended.IsZero() || r.Claim != 1 || r.Attempt != 1 {
				t.Errorf("%s: %+v", tt.kind, r)
			}
		}
		if r, err := e.Runs(ctx, RunFilter{Kind: "good"}); err != nil || string(r[0].Result) != `{"n":1}` {
			t.Errorf("%+v, %v", r, err)
		}

		// A retry has two records.
		id := enqueue(t, e, in("retry"))
		runOnce(t, e)
		c.advance(time.Hour)
		runOnce(t, e)
		if rs, err := e.Runs(ctx, RunFilter{Job: id}); err != nil || len(rs) != 2 || rs[0].State != RunDone || rs[1].State != RunFailed || rs[1].Error != "once more" {
			t.Errorf("%+v, %v", rs, err)
		}

		// A worker vanishes: its record ends when somebody finds out, and the next attempt
		// has one of its own.
		id = enqueue(t, e, in("vanish"))
		claimed(t, e)
		if r := last(); r.State != RunRunning || !r.Ended.IsZero() {
			t.Errorf("while it runs: %+v", r)
		}
		c.advance(2 * time.Minute)
		runOnce(t, e)
		if rs, err := e.Runs(ctx, RunFilter{Job: id}); err != nil || len(rs) != 2 || rs[1].State != RunLost || rs[0].State != RunDone || rs[0].Claim != 2 {
			t.Errorf("%+v, %v", rs, err)
		}

		// Cancelled before it began.
		wait := in("good")
		wait.RunAt = c.now().Add(time.Hour)
		id = enqueue(t, e, wait)
		if err := e.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if rs, err := e.Runs(ctx, RunFilter{Job: id}); err != nil || len(rs) != 1 || rs[0].State != RunCancelled || rs[0].Claim != 0 {
			t.Errorf("%+v, %v", rs, err)
		}

		// What keeps no records has none; pages follow each other without loss.
		enqueue(t, e, in("unkept"))
		runOnce(t, e)
		all, err := e.Runs(ctx, RunFilter{})
		if err != nil || len(all) != 9 {
			t.Fatalf("%d records, %v", len(all), err)
		}
		var paged []Run
		for f := (RunFilter{Limit: 2}); ; {
			rs, err := e.Runs(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			if paged = append(paged, rs...); len(rs) < 2 {
				break
			}
			f.Before = rs[1]
		}
		for i := range all {
			if paged[i].Job != all[i].Job || paged[i].Claim != all[i].Claim {
				t.Errorf("page: %+v, want %+v", paged[i], all[i])
			}
		}
		n := 0
		counts, err := e.RunCounts(ctx, monday)
		for _, x := range counts {
			n += x.N
		}
		if err != nil || n != 9 || counts[0].Day.Hour() != 0 {
			t.Errorf("%+v, %v", counts, err)
		}
		if n, err := e.PruneRuns(ctx, c.now().Add(time.Second)); n != 9 || err != nil {
			t.Errorf("%d deleted, %v", n, err)
		}
	})
}
