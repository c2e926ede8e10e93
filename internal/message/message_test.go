package message

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/notify"
	"holdfast/internal/notify/mail"
	"holdfast/internal/notify/notifytest"
)

var noon = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// A rig is a module with its world: a clock, channels, and what was recorded.
type rig struct {
	t        *testing.T
	d        *db.DB
	m        *Module
	jobs     *job.Engine
	now      time.Time
	channels map[string]Channel
	facts    []ledger.Fact
}

func newRig(t *testing.T, d *db.DB) *rig {
	r := &rig{t: t, d: d, now: noon, channels: map[string]Channel{}}
	r.restart()
	return r
}

// restart is another process on the same state.
func (r *rig) restart() {
	clock := func() time.Time { return r.now }
	r.jobs = job.New(r.d, job.Config{Owner: "test", Clock: clock})
	r.m = New(Config{DB: r.d, Jobs: r.jobs, Ledger: r, Clock: clock,
		Channel: func(name string) (Channel, error) {
			if c, ok := r.channels[name]; ok {
				return c, nil
			}
			return nil, errors.New("its password file is missing")
		},
		Receiver: func(person, _ string) (string, string, error) {
			if person == "nobody" {
				return "", "", notify.Permanent(errors.New("no address"))
			}
			return person + "@example.com", person, nil
		}})
	if err := r.jobs.TakeBack(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) Append(_ context.Context, tx *db.Tx, f ledger.Fact) (int64, error) {
	tx.AfterCommit(func() { r.facts = append(r.facts, f) })
	return 0, nil
}

func (r *rig) send(d Draft) (id string) {
	r.t.Helper()
	if d.Kind == "" {
		d.Kind = "call"
	}
	if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) (err error) {
		id, err = r.m.Send(r.t.Context(), tx, d)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// work runs everything that is due.
func (r *rig) work() {
	r.t.Helper()
	for range 1000 {
		ran, err := r.jobs.RunOnce(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		if !ran {
			return
		}
	}
	r.t.Fatal("there is no end of work")
}

// pass lets time go by in small steps, with work in each.
func (r *rig) pass(d time.Duration) {
	step := max(time.Minute, d/60)
	for until := r.now.Add(d); r.now.Before(until); r.now = r.now.Add(step) {
		r.work()
	}
	r.work()
}

func (r *rig) is(id, state string) Message {
	r.t.Helper()
	x, err := r.m.Get(r.t.Context(), id)
	if err != nil || x.State != state {
		r.t.Fatalf("want %s: %v: %+v", state, err, x)
	}
	return x
}

// types are the facts about one message, in order.
func (r *rig) types(id string) (out []string) {
	for _, f := range r.facts {
		if f.Subject == "messages."+id {
			out = append(out, strings.TrimPrefix(f.Type, Prefix))
		}
	}
	return out
}

// scripted is a receiver that ends its attempts as it is told, then takes everything.
type scripted struct {
	ends []error
	got  []notify.Message
}

func (s *scripted) Send(_ context.Context, m notify.Message) (string, error) {
	s.got = append(s.got, m)
	if len(s.ends) > 0 {
		err := s.ends[0]
		s.ends = s.ends[1:]
		return "", err
	}
	return "taken", nil
}

func each(t *testing.T, f func(r *rig)) {
	dbtest.Each(t, []db.Module{job.Module, Tables()}, func(t *testing.T, d *db.DB) { f(newRig(t, d)) })
}

// A mail server that is away for half an hour, then greylists, then cuts the line before
// its answer, gets the message in the end, with one id at each attempt.
func TestTheServerWasAway(t *testing.T) {
	each(t, func(r *rig) {
		port := func() int { // of a server that is gone
			s := notifytest.Start(r.t, notifytest.Options{TLS: "starttls"})
			s.Stop()
			return s.Port
		}()
		open := func(s *notifytest.Sink) {
			cfg := mail.Config{Host: "127.0.0.1", Port: port, TLS: mail.STARTTLS, From: "holdfast@example.com"}
			if s != nil {
				cfg.Port, cfg.CAFile = s.Port, s.CAFile
			}
			c, err := mail.New(cfg)
			if err != nil {
				r.t.Fatal(err)
			}
			r.channels["mail"] = c
		}
		open(nil)
		id := r.send(Draft{Cause: "a", Person: "ann", Channels: []string{"mail"}, Subject: "Backup of db failed", Text: "see to it"})
		r.pass(30 * time.Minute)
		if x := r.is(id, Waiting); x.Tries < 5 || !strings.Contains(x.Said, "refused") {
			r.t.Fatalf("%+v", x)
		}
		s := notifytest.Start(r.t, notifytest.Options{TLS: "starttls", Behave: func(moment string, n int) error {
			switch {
			case moment == notifytest.Rcpt && n == 0:
				return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
			case moment == notifytest.Taken && n == 0:
				return notifytest.ErrCut
			}
			return nil
		}})
		open(s)
		r.pass(time.Hour)
		r.is(id, Handed)
		got := s.Mails()
		if len(got) != 2 || got[0].Header.Get("Message-ID") != got[1].Header.Get("Message-ID") || got[0].Header.Get("Message-ID") != "<"+id+"@example.com>" {
			r.t.Errorf("%d mails: %v", len(got), got)
		}
		types := r.types(id)
		if n := len(types); types[0] != "queued" || types[n-1] != "handed" || slices.ContainsFunc(types[1:n-1], func(s string) bool { return s != "attempt" }) {
			r.t.Errorf("facts %v", types)
		}
		for _, f := range r.facts {
			if strings.Contains(string(f.Data), "@example.com") || strings.Contains(string(f.Data), "see to it") {
				r.t.Errorf("the ledger keeps the address or the text: %s", f.Data)
			}
		}
	})
}

// A process that dies before the attempt, in it or after it was taken leaves a message
// that is handed over by the next one, never lost, and with the same id.
func TestKilledAnywhere(t *testing.T) {
	each(t, func(r *rig) {
		for i, taken := range []bool{false, true} {
			c := &scripted{}
			r.channels["c"] = c
			id := r.send(Draft{Cause: fmt.Sprint(i), Person: "ann", Channels: []string{"c"}})
			died := errors.New("the process dies here")
			ctx, cancel := context.WithCancelCause(r.t.Context())
			r.channels["c"] = channelFunc(func(x context.Context, m notify.Message) (string, error) {
				if taken {
					_, _ = c.Send(x, m)
				}
				cancel(died)
				return "", died
			})
			_, _ = r.jobs.RunOnce(ctx)
			r.channels["c"] = c
			r.restart()
			r.pass(20 * time.Minute)
			r.is(id, Handed)
			for _, m := range c.got {
				if m.ID != id {
					t.Errorf("another id: %s", m.ID)
				}
			}
			if want := 1 + i; len(c.got) != want {
				t.Errorf("taken before the end %t: sent %d times, want %d", taken, len(c.got), want)
			}
		}
	})
}

type channelFunc func(context.Context, notify.Message) (string, error)

func (f channelFunc) Send(ctx context.Context, m notify.Message) (string, error) { return f(ctx, m) }

// A cause that is rolled back leaves no message; one that is written twice leaves one.
func TestInTheTransactionOfItsCause(t *testing.T) {
	each(t, func(r *rig) {
		c := &scripted{}
		r.channels["c"] = c
		undone := errors.New("undone")
		if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) error {
			if _, err := r.m.Send(r.t.Context(), tx, Draft{Cause: "gone", Kind: "x", Channels: []string{"c"}}); err != nil {
				return err
			}
			return undone
		}); !errors.Is(err, undone) {
			r.t.Fatal(err)
		}
		d := Draft{Cause: "a", Person: "ann", Channels: []string{"c"}, Data: map[string]int{"n": 1}}
		id := r.send(d)
		if other := r.send(d); other != id {
			r.t.Errorf("another id %s", other)
		}
		r.work()
		r.send(d)
		r.work()
		if len(c.got) != 1 || c.got[0].To != "ann@example.com" || string(c.got[0].Data) != `{"n":1}` {
			r.t.Errorf("%+v", c.got)
		}
		if got := strings.Join(r.types(id), " "); got != "queued handed" {
			r.t.Errorf("facts %s", got)
		}
	})
}

// A refusal for good goes to the next channel at once; one for now does so only if it is
// urgent, and the first channel is tried on.
func TestTheNextChannel(t *testing.T) {
	each(t, func(r *rig) {
		for _, tt := range []struct {
			name   string
			urgent bool
			end    error
			second int // messages on the second channel at once
			state  string
		}{
			{"for good", false, notify.Permanent(errors.New("no such user")), 1, Failed},
			{"for now", false, errors.New("busy"), 0, Waiting},
			{"urgent and for now", true, errors.New("busy"), 1, Waiting},
		} {
			first, second := &scripted{ends: []error{tt.end, errors.New("still busy")}}, &scripted{}
			r.channels["first"], r.channels["second"] = first, second
			id := r.send(Draft{Cause: tt.name, Person: "ann", Channels: []string{"first", "second"}, Urgent: tt.urgent})
			r.work()
			r.is(id, tt.state)
			if len(second.got) != tt.second {
				t.Errorf("%s: %d on the second channel", tt.name, len(second.got))
			}
			r.pass(time.Hour)
			if tt.state == Waiting {
				r.is(id, Handed)
			}
			if len(second.got) != tt.second {
				t.Errorf("%s: %d on the second channel in the end", tt.name, len(second.got))
			}
		}
		// Somebody without an address is no reason to wait.
		id := r.send(Draft{Cause: "n", Person: "nobody", Channels: []string{"first"}})
		r.work()
		r.is(id, Failed)
	})
}

// What nobody takes is given up and shown, and a person can send it again.
func TestGivenUpAndSentAgain(t *testing.T) {
	each(t, func(r *rig) {
		id := r.send(Draft{Cause: "a", Channels: []string{"absent"}})
		r.pass(Patience - time.Hour)
		x := r.is(id, Waiting)
		if !strings.Contains(x.Said, "password file") || x.Tries > 500 {
			r.t.Fatalf("%+v", x)
		}
		if c, err := r.m.Counts(r.t.Context(), noon); err != nil || c.Waiting != 1 || !c.Oldest.Equal(noon) {
			r.t.Errorf("%v %+v", err, c)
		}
		r.pass(2 * time.Hour)
		r.is(id, Failed)
		if c, err := r.m.Counts(r.t.Context(), noon); err != nil || c.Waiting != 0 || c.Failed != 1 {
			r.t.Errorf("%v %+v", err, c)
		}
		c := &scripted{}
		r.channels["absent"] = c
		if _, err := r.m.Resend(r.t.Context(), id, "ann"); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.m.Resend(r.t.Context(), id, "ann"); err == nil {
			r.t.Error("sent again while it waits")
		}
		r.work()
		r.is(id, Handed)
		if len(c.got) != 1 || c.got[0].ID != id {
			r.t.Errorf("%+v", c.got)
		}
		if l, err := r.m.List(r.t.Context(), Handed); err != nil || len(l) != 1 {
			r.t.Errorf("%v %v", err, l)
		}
		if _, err := r.m.List(r.t.Context(), "sent"); err == nil {
			r.t.Error("listed a state that does not exist")
		}
	})
}

// What is not needed any more is not sent.
func TestWithdrawn(t *testing.T) {
	each(t, func(r *rig) {
		c := &scripted{ends: []error{errors.New("busy")}}
		r.channels["c"] = c
		id := r.send(Draft{Cause: "a", Person: "ann", Channels: []string{"c"}})
		r.work()
		if err := r.d.Tx(r.t.Context(), func(tx *db.Tx) error { return r.m.Withdraw(r.t.Context(), tx, "a", "ann", "it is over") }); err != nil {
			r.t.Fatal(err)
		}
		r.pass(time.Hour)
		if x := r.is(id, Withdrawn); x.Said != "it is over" || len(c.got) != 1 {
			r.t.Errorf("%+v, sent %d times", x, len(c.got))
		}
		if _, err := json.Marshal(r.is(id, Withdrawn)); err != nil {
			r.t.Error(err)
		}
	})
}
