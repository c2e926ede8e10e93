package oncall

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/ledger"
)

var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

const within = 15 * time.Minute

// A rig is a module with its world: a clock, the messages that it wrote, and facts.
type rig struct {
	t         *testing.T
	m         *Module
	d         *db.DB
	now       time.Time
	sent      []Draft
	withdrawn []string
	facts     []string
	quiet     map[string]time.Time
}

func each(t *testing.T, f func(r *rig)) {
	dbtest.Each(t, []db.Module{Tables()}, func(t *testing.T, d *db.DB) {
		r := &rig{t: t, d: d, now: noon, quiet: map[string]time.Time{}}
		r.m = New(Config{DB: d, Ledger: r, Clock: func() time.Time { return r.now }, Gather: func() time.Duration { return 5 * time.Minute },
			Send: func(_ context.Context, tx *db.Tx, x Draft) error {
				tx.AfterCommit(func() { r.sent = append(r.sent, x) })
				return nil
			},
			Withdraw: func(_ context.Context, tx *db.Tx, cause, person, why string) error {
				tx.AfterCommit(func() { r.withdrawn = append(r.withdrawn, person) })
				return nil
			},
			Quiet: func(person string, now time.Time) time.Time {
				if until := r.quiet[person]; now.Before(until) {
					return until
				}
				return time.Time{}
			}})
		f(r)
	})
}

func (r *rig) Append(_ context.Context, tx *db.Tx, f ledger.Fact) (int64, error) {
	tx.AfterCommit(func() { r.facts = append(r.facts, strings.TrimPrefix(f.Type, "call.")) })
	return 0, nil
}

func (r *rig) do(f func(tx *db.Tx) error) {
	r.t.Helper()
	if err := r.d.Tx(r.t.Context(), f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) raise(c Call) {
	r.t.Helper()
	if c.Ladder == nil {
		c.Ladder = []string{"ann", "ben", "cid"}
	}
	c.Within, c.Title = within, "trouble "+c.Key
	r.do(func(tx *db.Tx) error { return r.m.Raise(r.t.Context(), tx, c) })
}

func (r *rig) end(key string) {
	r.t.Helper()
	r.do(func(tx *db.Tx) error { return r.m.End(r.t.Context(), tx, key, "mended") })
}

// after lets time go by and looks, twice, as the second look must do nothing. It returns
// who was written to.
func (r *rig) after(d time.Duration) (who []string) {
	r.t.Helper()
	r.now = r.now.Add(d)
	n := len(r.sent)
	for range 2 {
		if err := r.m.Settle(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		if who == nil {
			for _, d := range r.sent[n:] {
				who = append(who, d.Person)
			}
			n = len(r.sent)
		}
	}
	if len(r.sent) != n {
		r.t.Fatalf("a second look at the same instant writes %+v", r.sent[n:])
	}
	return who
}

func (r *rig) told(d time.Duration, want ...string) {
	r.t.Helper()
	if got := r.after(d); !slices.Equal(got, want) {
		r.t.Fatalf("at %s: told %q, want %q", r.now.Sub(noon), got, want)
	}
}

func (r *rig) is(id int64, state string) Call {
	r.t.Helper()
	c, err := r.m.Get(r.t.Context(), id)
	if err != nil || c.State != state {
		r.t.Fatalf("want %s: %v: %+v", state, err, c)
	}
	return c
}

// Nobody answers: everybody is called in turn, three times, and then it stands there as
// unanswered.
func TestTheLadder(t *testing.T) {
	each(t, func(r *rig) {
		r.raise(Call{Key: "a"})
		r.raise(Call{Key: "a"}) // it lasts
		r.told(0, "ann")
		r.told(within - time.Second)
		for range 2 {
			r.told(time.Second, "ben")
			r.told(within, "cid")
			r.told(within, "ann")
			r.told(within - time.Second)
		}
		r.told(time.Second, "ben")
		r.told(within, "cid")
		r.told(within)
		r.told(24 * time.Hour)
		c := r.is(1, Unanswered)
		if !reflect.DeepEqual(c.Told, []string{"ann", "ben", "cid"}) || !slices.Contains(r.facts, "unanswered") {
			r.t.Errorf("%+v, facts %v", c, r.facts)
		}
		// An answer still counts, and the end is told to all.
		if _, err := r.m.Answer(r.t.Context(), 1, "cid", "late"); err != nil {
			r.t.Fatal(err)
		}
		r.end("a")
		r.told(time.Hour, "ann", "ben", "cid")
		r.told(time.Hour)
		// The same trouble again is another call.
		r.raise(Call{Key: "a"})
		r.told(0, "ann")
		r.is(2, Open)
	})
}

func TestAnAnswerEndsTheCalling(t *testing.T) {
	each(t, func(r *rig) {
		r.raise(Call{Key: "a"})
		r.raise(Call{Key: "b"})
		r.told(0, "ann")
		if len(r.sent[0].Calls) != 2 || !strings.Contains(r.sent[0].Text, "oncall ack CALL-1 CALL-2 --by ann") {
			r.t.Fatalf("%+v", r.sent)
		}
		for range 2 { // the second word changes nothing
			c, err := r.m.Answer(r.t.Context(), 1, "ann", "mine")
			if err != nil || c.By != "ann" {
				r.t.Fatal(c, err)
			}
		}
		if len(r.withdrawn) != 0 {
			r.t.Error("a message was withdrawn that is about another call too")
		}
		if c, err := r.m.Answer(r.t.Context(), 1, "ben", "me too"); err != nil || c.By != "ann" {
			r.t.Errorf("%+v %v", c, err)
		}
		r.told(within, "ben")
		if cs := r.sent[1].Calls; len(cs) != 1 || cs[0].Key != "b" {
			r.t.Errorf("called for what is answered: %+v", cs)
		}
		r.end("b")
		if !reflect.DeepEqual(r.withdrawn, []string{"ben"}) {
			r.t.Errorf("withdrawn %v", r.withdrawn)
		}
		if _, err := r.m.Answer(r.t.Context(), 2, "ben", ""); !errors.Is(err, holdfast.ErrRefused) {
			r.t.Error(err)
		}
		if _, err := r.m.Answer(r.t.Context(), 99, "ben", ""); !errors.Is(err, ErrNotFound) {
			r.t.Error(err)
		}
		if n := strings.Count(strings.Join(r.facts, " "), "answered"); n != 1 {
			r.t.Errorf("%d answers on record", n)
		}
	})
}

// Two hundred failures are two mails to each person: the first at once.
func TestTwoHundredFailures(t *testing.T) {
	each(t, func(r *rig) {
		r.raise(Call{Key: "0"})
		r.told(0, "ann")
		for i := 1; i < 200; i++ {
			r.raise(Call{Key: fmt.Sprint(i)})
		}
		r.told(4 * time.Minute)
		r.told(time.Minute, "ann")
		x := r.sent[1]
		if len(x.Calls) != 199 || !strings.Contains(x.Subject, "and 198 more") || strings.Count(x.Text, "CALL-") > 50 || !strings.Contains(x.Text, "ack --all") {
			r.t.Errorf("%s\n%s", x.Subject, x.Text)
		}
		// The one that was told first is due first; the others go together.
		r.told(10*time.Minute, "ben")
		r.told(5*time.Minute, "ben")
		for i := range 200 {
			r.end(fmt.Sprint(i))
		}
		r.told(5*time.Minute, "ann", "ben")
		r.told(5 * time.Minute)
	})
}

// At night people are told what is urgent, at once, and the rest in the morning.
func TestQuietHours(t *testing.T) {
	each(t, func(r *rig) {
		r.quiet["ann"] = noon.Add(8 * time.Hour)
		r.raise(Call{Key: "a"})
		r.told(0)
		r.told(2 * time.Hour) // nobody is skipped for not having answered what they were not told
		r.raise(Call{Key: "b", Urgent: true})
		r.told(0, "ann")
		if x := r.sent[0]; !x.Urgent || !strings.HasPrefix(x.Subject, "URGENT: trouble b (and 1 more)") {
			r.t.Errorf("%+v", x)
		}
		r.raise(Call{Key: "c", Urgent: true})
		r.told(UrgentGather-time.Second, []string{}...)
		r.told(time.Second, "ann")
		r.raise(Call{Key: "d", Notice: true, Ladder: []string{"ann", "ben"}})
		r.end("a")
		r.end("b")
		r.end("c")
		r.told(time.Hour, "ben")
		r.told(5*time.Hour, "ann") // in the morning
		r.told(time.Hour)
		r.is(4, Told)
		if _, err := r.m.Answer(r.t.Context(), 4, "ann", ""); !errors.Is(err, holdfast.ErrRefused) {
			r.t.Error("a notice was answered")
		}
	})
}

// Nobody can be reached: that is shown at once.
func TestNobody(t *testing.T) {
	each(t, func(r *rig) {
		r.raise(Call{Key: "a", Ladder: []string{}})
		r.told(0)
		r.is(1, Unanswered)
		r.end("a")
		r.told(time.Hour)
		r.is(1, Over)
		if l, err := r.m.List(r.t.Context(), false); err != nil || len(l) != 0 {
			r.t.Errorf("%v %v", l, err)
		}
		if l, err := r.m.List(r.t.Context(), true); err != nil || len(l) != 1 {
			r.t.Errorf("%v %v", l, err)
		}
	})
}

// Three hours of our own absence are no answer that was missed three times: the next
// person is called, and has their own time.
func TestAfterAnOutageOfOurOwn(t *testing.T) {
	each(t, func(r *rig) {
		r.raise(Call{Key: "a"})
		r.told(0, "ann")
		r.told(3*time.Hour, "ben")
		r.told(within - time.Second)
		r.told(time.Second, "cid")
		// A clock that comes back from ahead neither calls again nor stops the calling.
		r.now = r.now.Add(-time.Hour)
		r.raise(Call{Key: "b", Ladder: []string{"cid"}})
		r.told(0, "cid")
	})
}
