package survive

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/calendar"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// A rig is the module on a real ledger and a real engine, with two keys: "whole" of mia
// and jon, and "split" of which ana and bob keep a share each.
type rig struct {
	t      *testing.T
	d      *db.DB
	m      *Module
	log    *ledger.Log
	jobs   *job.Engine
	us     *atomic.Int64
	keys   *[]Key
	whole  seal.Identity
	shares map[string]seal.Identity
}

type facts struct{ log *ledger.Log }

func (f facts) Append(ctx context.Context, tx *db.Tx, fact ledger.Fact) (int64, error) {
	return f.log.Append(ctx, tx, fact)
}

func eachRig(t *testing.T, f func(t *testing.T, r rig)) {
	dbtest.Each(t, []db.Module{job.Module, ledger.Tables()}, func(t *testing.T, d *db.DB) {
		r := rig{t: t, d: d, us: new(atomic.Int64), keys: new([]Key), shares: map[string]seal.Identity{}}
		r.us.Store(db.Micros(noon))
		k, err := seal.GenerateSigningKey("log")
		must(t, err)
		signer, err := seal.NoteSigner(k)
		must(t, err)
		r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: r.now})
		must(t, err)
		r.whole, err = seal.GenerateIdentity()
		must(t, err)
		split, err := seal.GenerateIdentity()
		must(t, err)
		shares, err := seal.Split(split, 2, 2, []string{"ana", "bob"}, noon)
		must(t, err)
		two := Key{ID: "split", Recipient: split.Recipient().String(), Needed: 2, Seals: true, Every: 90 * 24 * time.Hour}
		for _, s := range shares {
			own, err := s.Identity()
			must(t, err)
			r.shares[s.Holder] = own
			two.Holders = append(two.Holders, Holder{s.Holder, own.Recipient().String(), true})
		}
		to := r.whole.Recipient().String()
		*r.keys = []Key{two, {ID: "whole", Recipient: to, Holders: []Holder{{Name: "jon", Recipient: to}, {Name: "mia", Recipient: to}}, Within: time.Hour}}
		r.jobs = job.New(d, job.Config{Owner: "test", Clock: r.now})
		r.m = New(Config{DB: d, Jobs: r.jobs, Ledger: facts{r.log}, Facts: r.log, Keys: func() []Key { return *r.keys }, Clock: r.now})
		f(t, r)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r rig) now() time.Time        { return db.Time(r.us.Load()) }
func (r rig) pass(d time.Duration)  { r.us.Add(d.Microseconds()) }
func (r rig) count(kind string) int { r.t.Helper(); return len(r.facts(kind)) }
func (r rig) facts(kind string) []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	must(r.t, err)
	return fs
}

func (r rig) ask(key, holder string) []Challenge {
	r.t.Helper()
	cs, err := r.m.Ask(r.t.Context(), key, holder)
	must(r.t, err)
	return cs
}

func (r rig) answer(c Challenge, with seal.Identity) string {
	r.t.Helper()
	a, err := seal.Answer(c.ID, c.Sealed, with)
	must(r.t, err)
	return a
}

func (r rig) posture(key, holder string) holdfast.Posture {
	r.t.Helper()
	ss, err := r.m.Standings(r.t.Context())
	must(r.t, err)
	for _, s := range ss {
		if s.Key == key && s.Holder == holder {
			return s.Posture
		}
	}
	r.t.Fatalf("no standing of %s, %s", key, holder)
	return ""
}

func TestChallengeLife(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		ctx := t.Context()
		want := func(holder string, p holdfast.Posture) {
			t.Helper()
			if got := r.posture("split", holder); got != p {
				t.Errorf("%s: %s, want %s", holder, got, p)
			}
		}
		want("ana", holdfast.PostureUnknown)
		cs := r.ask("split", "")
		if len(cs) != 2 || cs[0].Holder != "ana" || !cs[0].Share {
			t.Fatalf("%+v", cs)
		}
		if again := r.ask("split", "ana"); len(again) != 1 || again[0].ID != cs[0].ID || r.count(FactAsked) != 2 {
			t.Errorf("an open challenge was made anew: %+v", again)
		}
		// One holder's share does not answer for the other's, nor does the key itself.
		if _, err := seal.Answer(cs[0].ID, cs[0].Sealed, r.shares["bob"]); !errors.Is(err, seal.ErrNoIdentity) {
			t.Errorf("bob opened ana's challenge: %v", err)
		}
		if _, err := r.m.Answer(ctx, cs[0].ID, r.answer(cs[1], r.shares["bob"]), "bob"); !errors.Is(err, holdfast.ErrRefused) {
			t.Errorf("bob answered for ana: %v", err)
		}
		r.pass(time.Hour)
		right := r.answer(cs[0], r.shares["ana"])
		c, err := r.m.Answer(ctx, cs[0].ID, right, "ana")
		if err != nil || c.Holder != "ana" {
			t.Fatal(err)
		}
		want("ana", holdfast.PostureProved)
		want("bob", holdfast.PostureUnknown)
		if _, err := r.m.Answer(ctx, cs[0].ID, right, "ana"); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), "answered already") {
			t.Errorf("twice: %v", err)
		}
		if got := r.count(FactRefused); got != 2 {
			t.Errorf("%d refusals are facts, want 2", got)
		}
		// Bob lets it pass, and is overdue until he answers a later one.
		r.pass(DefaultWithin)
		want("bob", holdfast.PostureOverdue)
		if _, err := r.m.Answer(ctx, cs[1].ID, r.answer(cs[1], r.shares["bob"]), "bob"); !errors.Is(err, holdfast.ErrRefused) || !strings.Contains(err.Error(), "due on") {
			t.Errorf("too late: %v", err)
		}
		want("bob", holdfast.PostureOverdue)
		late := r.ask("split", "bob")[0]
		if late.ID == cs[1].ID {
			t.Error("a challenge that is over was given again")
		}
		if _, err := r.m.Answer(ctx, late.ID, r.answer(late, r.shares["bob"]), "bob"); err != nil {
			t.Fatal(err)
		}
		want("bob", holdfast.PostureProved)
		// A proof grows old, also if nobody asks any more.
		r.pass(90*24*time.Hour - 2*time.Hour)
		want("ana", holdfast.PostureProved)
		r.pass(2*time.Hour + time.Minute)
		want("ana", holdfast.PostureOverdue)
		ss, err := r.m.Standings(ctx)
		must(t, err)
		fs := Findings(ss, func(key string) bool { return key == "split" })
		if len(fs) != 1 || fs[0].Code != codeOverdue || !strings.Contains(fs[0].Message, "ana") {
			t.Errorf("findings: %+v", fs)
		}
		// A new share has shown nothing yet.
		(*r.keys)[0].Holders[0].Recipient = r.whole.Recipient().String()
		want("ana", holdfast.PostureUnknown)
	})
}

func TestAnswerRefuses(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		c := r.ask("whole", "mia")[0]
		if !c.Due.Equal(noon.Add(time.Hour)) {
			t.Errorf("due %v", c.Due)
		}
		for _, tt := range []struct {
			id, answer string
			want       error
		}{
			{"c0000000000", r.answer(c, r.whole), holdfast.ErrUsage},
			{c.ID, "nonsense", seal.ErrKey},
			{c.ID, "", seal.ErrKey},
		} {
			if _, err := r.m.Answer(t.Context(), tt.id, tt.answer, "mia"); !errors.Is(err, tt.want) || holdfast.Hint(err) == "" {
				t.Errorf("%q to %q: %v, want %v", tt.answer, tt.id, err, tt.want)
			}
		}
		if r.count(FactRefused) != 0 {
			t.Error("a mistyped answer was recorded as a refusal")
		}
		for _, bad := range [][2]string{{"none", ""}, {"whole", "ana"}} {
			if _, err := r.m.Ask(t.Context(), bad[0], bad[1]); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
				t.Errorf("ask %v: %v", bad, err)
			}
		}
		(*r.keys)[1].Holders[0].Recipient = "age1nonsense"
		if _, err := r.m.Ask(t.Context(), "whole", "jon"); !errors.Is(err, seal.ErrKey) {
			t.Errorf("a bad recipient: %v", err)
		}
		// Of two who bring the same answer at once, one is right.
		right := r.answer(c, r.whole)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _, _ = r.m.Answer(t.Context(), c.ID, right, "mia") })
		}
		wg.Wait()
		if r.count(FactAnswered) != 1 || r.count(FactRefused) != 3 {
			t.Errorf("%d answered, %d refused", r.count(FactAnswered), r.count(FactRefused))
		}
	})
}

// The slot's job asks everybody once, also if it runs twice.
func TestScheduleAsks(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		every, err := calendar.ParseRecurrence("every 1h")
		must(t, err)
		must(t, r.d.Tx(t.Context(), func(tx *db.Tx) error {
			return r.jobs.SetSchedules(t.Context(), tx, []job.Schedule{{Name: "challenge:split", Kind: KindAsk, Args: AskArgs{Key: "split"}, Every: every}})
		}))
		r.pass(time.Hour + time.Second)
		must(t, r.jobs.Start(t.Context()))
		defer func() { must(t, r.jobs.Stop(context.Background())) }()
		for r.count(FactAsked) < 2 {
			if t.Context().Err() != nil {
				t.Fatal("nobody was asked")
			}
		}
		cs, err := r.m.Open(t.Context())
		if err != nil || len(cs) != 2 {
			t.Errorf("open: %d, %v", len(cs), err)
		}
	})
}

func TestSheetPage(t *testing.T) {
	id, err := seal.GenerateIdentity()
	must(t, err)
	text, err := id.Sheet(`<b>"Mia"</b>`, noon)
	must(t, err)
	page, err := SheetPage(text)
	must(t, err)
	_, groups, _ := strings.Cut(text, "\n\n")
	for _, g := range strings.Fields(groups) {
		if !strings.Contains(string(page), "<td>"+g+"</td>") {
			t.Errorf("group %s is not on the page", g)
		}
	}
	if strings.Contains(string(page), "<b>") || strings.Contains(string(page), "http") {
		t.Error("the page takes a name for markup, or loads something")
	}
}

func FuzzParseChallenge(f *testing.F) {
	c := Challenge{Question: seal.Question{ID: "c1", Sealed: strings.Repeat("QUJD", 60)}, Key: "k", Holder: "mia", Due: noon}
	for _, s := range []string{c.Text(), "", "challenge: x\nAA", "due: never\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := ParseChallenge(in)
		if err != nil {
			if !errors.Is(err, seal.ErrKey) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		if again, err := ParseChallenge(got.Text()); err != nil || again.ID != got.ID || again.Sealed != got.Sealed {
			t.Errorf("a challenge does not survive its text: %v", err)
		}
	})
}
