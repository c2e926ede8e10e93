package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"golang.org/x/mod/sumdb/note"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// A rig is the module on a database, with a clock that the test moves.
type rig struct {
	*Module
	t     *testing.T
	db    *db.DB
	log   *ledger.Log
	small bool
	told  []Grant
	names []string
	mu    sync.Mutex
	at    time.Time
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

func newRig(t *testing.T, d *db.DB) *rig {
	t.Helper()
	r := &rig{t: t, db: d, at: time.Date(2026, 11, 22, 12, 0, 10, 0, time.UTC), names: []string{"anna", "bo", "carl", "dora", "eva", "finn", "gus"}}
	key, _, err := note.GenerateKey(nil, "test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	if r.log, err = ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	secret := seal.NewSecretKey()
	r.Module = New(Config{DB: d, Ledger: r.log, Facts: r.log, Secret: func() (seal.SecretKey, error) { return secret, nil }, Names: func() []string { return r.names },
		Duties: func(string) []string { return []string{"oncall.primary: takes turns"} }, Small: func() bool { return r.small },
		Announce:    func(_ context.Context, _ *db.Tx, g Grant) error { r.told = append(r.told, g); return nil },
		ReviewEvery: func() time.Duration { return 90 * 24 * time.Hour }, Clock: r.clock})
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

const word = "correct horse battery"

func (r *rig) code(seed string) string {
	r.t.Helper()
	c, err := hotp.GenerateCodeCustom(seed, uint64(r.clock().Unix()/codeStep), hotp.ValidateOpts{Digits: codeDigits, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// enrol lets somebody in and returns their seed and recovery codes.
func (r *rig) enrol(id string, roles ...Role) (seed string, codes []string) {
	r.t.Helper()
	inv, err := r.Invite(r.t.Context(), id, roles, time.Time{}, "test")
	if err != nil {
		r.t.Fatal(err)
	}
	secret := strings.TrimPrefix(inv.Path, "/enrol/")
	if err := r.ChoosePassword(r.t.Context(), secret, id, word, "a"); err != nil {
		r.t.Fatal(err)
	}
	e, err := r.Enrolment(r.t.Context(), secret)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, codes, err = r.EnrolCode(r.t.Context(), secret, r.code(e.Seed), "a", "test"); err != nil {
		r.t.Fatal(err)
	}
	r.pass(codeStep * time.Second)
	return e.Seed, codes
}

func (r *rig) as(id string) context.Context {
	r.t.Helper()
	var p Principal
	err := r.db.View(r.t.Context(), func(tx *db.Tx) (err error) {
		p, err = r.principal(r.t.Context(), tx, id, r.clock())
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	p.Way = BySession
	return With(r.t.Context(), p)
}

func (r *rig) facts(kind string) []ledger.Fact {
	r.t.Helper()
	fs, err := r.log.Find(r.t.Context(), ledger.Query{Type: kind})
	if err != nil {
		r.t.Fatal(err)
	}
	return fs
}

func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, holdfast.ErrRefused) || holdfast.Hint(err) == "" {
		t.Errorf("not refused with a hint: %v", err)
	}
}

// Every cell of the table: what it allows passes, what it does not is refused and kept.
func TestEveryCell(t *testing.T) {
	dbtest.Each(t, []db.Module{ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		for i, role := range Roles {
			id := r.names[i]
			r.enrol(id, role)
			ctx := r.as(id)
			for _, a := range Actions {
				object := fmt.Sprintf("POST /%s/%s", role, a)
				done, err := r.Enter(ctx, a, object)
				kind := FactRefused
				if role.Allows(a) {
					kind = FactDone
					if err != nil {
						t.Errorf("%s, %s: %v", role, a, err)
						continue
					}
					done(200)
				} else {
					refused(t, err)
				}
				if !slices.ContainsFunc(r.facts(kind), func(f ledger.Fact) bool { return f.Subject == object && f.Actor == id }) {
					t.Errorf("%s, %s: no %s", role, a, kind)
				}
			}
		}
		if _, err := r.Enter(t.Context(), View, "GET /"); !errors.Is(err, ErrLogin) {
			t.Errorf("a stranger: %v", err)
		}
	})
}

func TestLogIn(t *testing.T) {
	dbtest.Each(t, []db.Module{ledger.Tables(), Tables()}, func(t *testing.T, d *db.DB) {
		r := newRig(t, d)
		seed, codes := r.enrol("anna", Operator)
		in := func(password, code string) (Entry, error) {
			return r.LogIn(t.Context(), Login{Person: "anna", Password: password, Code: code, Address: "b", Agent: "test"})
		}
		_, err := in(word, "")
		refused(t, err)
		_, err = in("wrong", r.code(seed))
		refused(t, err)
		now := r.code(seed)
		e, err := in(word, now)
		if err != nil {
			t.Fatal(err)
		}
		_, err = in(word, now)
		refused(t, err) // replayed
		p, err := r.BySession(t.Context(), e.Secret)
		if err != nil || p.Name != "anna" || !p.May(Run) || p.May(Restore) {
			t.Errorf("session: %+v, %v", p, err)
		}
		if _, err := in(word, codes[0]); err != nil {
			t.Errorf("recovery code: %v", err)
		}
		_, err = in(word, codes[0])
		refused(t, err)

		// The clock goes back an hour: nothing of it is believed; forward a year: it ended.
		r.pass(-time.Hour)
		if p, err := r.BySession(t.Context(), e.Secret); err != nil || p.Way != Nobody || !strings.Contains(p.Why, "clock") {
			t.Errorf("after a step back: %+v, %v", p, err)
		}
		_, err = in(word, r.code(seed))
		refused(t, err)
		r.pass(366 * 24 * time.Hour)
		if p, err := r.BySession(t.Context(), e.Secret); err != nil || p.Way != Nobody {
			t.Errorf("after a year: %+v, %v", p, err)
		}
		if p, err := r.BySession(t.Context(), "stolen"); err != nil || p.Way != Nobody {
			t.Errorf("a session of nobody: %+v, %v", p, err)
		}
		if len(r.facts(FactDenied)) == 0 || len(r.facts(FactLogin)) < 2 {
			t.Error("log-ins are not recorded")
		}
	})
}

// Guessing is slow: after five wrong tries even the right one waits.
func TestGuessingWaits(t *testing.T) {
	r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
	seed, _ := r.enrol("anna", Operator)
	in := func(password string) error {
		_, err := r.LogIn(t.Context(), Login{Person: "anna", Password: password, Code: r.code(seed), Address: "b"})
		return err
	}
	for range freeFailures {
		refused(t, in("wrong"))
	}
	if err := in(word); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("the right password at once: %v", err)
	}
	r.pass(lockFirst + time.Second)
	if err := in(word); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// Whatever strangers send, memory stays bounded.
	for i := range 3 * maxAddresses {
		r.tries.over(fmt.Sprint(i), r.clock())
	}
	if n := len(r.tries.by); n > maxAddresses+1 {
		t.Errorf("%d addresses are remembered", n)
	}
	over := false
	for range maxTries + 1 {
		over = r.tries.over("b", r.clock())
	}
	if !over {
		t.Error("one address may try for ever")
	}
}

func TestFirstLinkAdmitsOnce(t *testing.T) {
	r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
	inv, ok, err := r.First(t.Context())
	if err != nil || !ok {
		t.Fatal(err)
	}
	secret := strings.TrimPrefix(inv.Path, "/enrol/")
	if err := r.ChoosePassword(t.Context(), secret, "mallory", word, "a"); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("somebody who is not in the plan: %v", err)
	}
	if err := r.ChoosePassword(t.Context(), secret, "anna", "short", "a"); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a short password: %v", err)
	}
	if r.Known() {
		t.Error("a link alone makes nobody known")
	}
	if err := r.ChoosePassword(t.Context(), secret, "anna", word, "a"); err != nil {
		t.Fatal(err)
	}
	e, err := r.Enrolment(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.EnrolCode(t.Context(), secret, r.code(e.Seed), "a", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enrolment(t.Context(), secret); !errors.Is(err, ErrNotFound) {
		t.Errorf("the link admits again: %v", err)
	}
	if _, ok, _ := r.First(t.Context()); ok {
		t.Error("there is a second first link")
	}
	l, err := r.List(t.Context())
	if err != nil || len(l.People) != 1 || !slices.Equal(l.People[0].Roles, []Role{Administrator}) {
		t.Errorf("people: %+v, %v", l.People, err)
	}
	// What is stored opens nothing.
	b, err := json.Marshal(l)
	if err != nil || strings.Contains(string(b), e.Seed) || strings.Contains(string(b), "argon2") {
		t.Errorf("the list shows secrets: %v", err)
	}
}

func TestLeaving(t *testing.T) {
	r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
	r.enrol("anna", Administrator)
	seed, _ := r.enrol("bo", Operator, Responder)
	e, err := r.LogIn(t.Context(), Login{Person: "bo", Password: word, Code: r.code(seed), Address: "b"})
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := r.NewToken(t.Context(), "bo", "report", []Action{View}, r.clock().Add(time.Hour), "anna")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.ByToken(t.Context(), token, "b"); err != nil || !p.May(View) || p.May(Run) {
		t.Errorf("token: %+v, %v", p, err)
	}
	_, _, err = r.NewToken(t.Context(), "bo", "x", []Action{Audit}, r.clock().Add(time.Hour), "anna")
	refused(t, err)
	_, _, err = r.NewToken(t.Context(), "anna", "x", []Action{People}, r.clock().Add(time.Hour), "anna")
	refused(t, err)
	_, err = r.Leave(t.Context(), "anna", "bo", "")
	refused(t, err) // the last administrator
	d, err := r.Leave(t.Context(), "bo", "anna", "left")
	if err != nil || d.Tokens != 1 || d.Sessions < 1 || len(d.Duties) == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if p, err := r.ByToken(t.Context(), token, "b"); err != nil || p.Way != Nobody {
		t.Errorf("the token lives: %+v, %v", p, err)
	}
	if p, err := r.BySession(t.Context(), e.Secret); err != nil || p.Way != Nobody {
		t.Errorf("the session lives: %+v, %v", p, err)
	}
	r.pass(time.Minute)
	_, err = r.LogIn(t.Context(), Login{Person: "bo", Password: word, Code: r.code(seed), Address: "b"})
	refused(t, err)
}

func TestEmergency(t *testing.T) {
	r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
	r.enrol("anna", Administrator)
	r.enrol("bo", Approver)
	if From(r.as("anna")).May(Restore) {
		t.Fatal("an administrator restores without a reason")
	}
	g, err := r.AskEmergency(t.Context(), Emergency{Person: "anna", Reason: "forensics", Minutes: 60}, "anna")
	if err != nil || From(r.as("anna")).May(Restore) {
		t.Fatalf("asking is enough: %v", err)
	}
	_, err = r.DecideEmergency(t.Context(), g.ID, true, "anna")
	refused(t, err)
	if _, err := r.DecideEmergency(t.Context(), g.ID, true, "bo"); err != nil {
		t.Fatal(err)
	}
	done, err := r.Enter(r.as("anna"), Restore, "POST /damage")
	if err != nil {
		t.Fatal(err)
	}
	done(200)
	_, err = r.ReviewEmergency(t.Context(), g.ID, "fine", "bo")
	refused(t, err) // it goes on
	r.pass(61 * time.Minute)
	if From(r.as("anna")).May(Restore) {
		t.Error("it does not end by itself")
	}
	if err := r.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = r.ReviewEmergency(t.Context(), g.ID, "fine", "anna")
	refused(t, err)
	if _, err := r.ReviewEmergency(t.Context(), g.ID, "fine", "bo"); err != nil {
		t.Error(err)
	}
	u, err := r.Emergency(t.Context(), g.ID)
	if err != nil || len(u.Done) != 1 || u.Done[0].Subject != "POST /damage" || u.State != GrantReviewed {
		t.Errorf("%+v, %v", u, err)
	}

	// Glass: at once, loud, and looked at.
	if g, err = r.AskEmergency(t.Context(), Emergency{Person: "anna", Reason: "nobody answers", Minutes: 30, Glass: true}, "anna"); err != nil || len(r.told) != 1 || !From(r.as("anna")).May(Restore) {
		t.Errorf("%+v, told %d, %v", g, len(r.told), err)
	}
	r.pass(ReviewGlass + time.Hour)
	if l, err := r.List(t.Context()); err != nil || !slices.ContainsFunc(l.Findings, func(f holdfast.Finding) bool { return f.Code == codeToReview }) {
		t.Errorf("nobody looked, and nobody says so: %v", err)
	}
	// A small team approves its own, and looks afterwards.
	r.small = true
	if g, err = r.AskEmergency(t.Context(), Emergency{Person: "anna", Reason: "again", Minutes: 1}, "anna"); err != nil {
		t.Fatal(err)
	}
	if g, err = r.DecideEmergency(t.Context(), g.ID, true, "anna"); err != nil || g.ReviewDue.IsZero() {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestReviews(t *testing.T) {
	r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
	r.enrol("anna", Administrator)
	r.enrol("bo", Viewer)
	if err := r.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, _ := r.List(t.Context()); len(l.Reviews) != 0 {
		t.Error("a review before its time")
	}
	r.pass(91 * 24 * time.Hour)
	for range 2 { // once, whatever how often it looks
		if err := r.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	l, err := r.List(t.Context())
	if err != nil || len(l.Reviews) != 2 {
		t.Fatalf("%+v, %v", l.Reviews, err)
	}
	i := slices.IndexFunc(l.Reviews, func(x ReviewItem) bool { return x.Person == "bo" })
	_, err = r.Decide(t.Context(), l.Reviews[1-i].ID, Keep, "", "anna")
	refused(t, err)
	r.pass(DecideWithin + time.Hour)
	if l, _ := r.List(t.Context()); !slices.ContainsFunc(l.Findings, func(f holdfast.Finding) bool { return f.Code == codeUndecided }) {
		t.Error("undecided, and nobody says so")
	}
	if _, err := r.Decide(t.Context(), l.Reviews[i].ID, Remove, "gone", "anna"); err != nil {
		t.Fatal(err)
	}
	if From(r.as("bo")).May(View) {
		t.Error("removed access goes on")
	}
}

// What arrives from strangers is anything.
func FuzzStrangers(f *testing.F) {
	f.Add("hft_x", "anna", "pass", "123456", []byte(`{"id":"x","rawId":"eA","type":"public-key","response":{}}`))
	f.Add("", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, token, person, password, code string, answer []byte) {
		r := newRig(t, dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables(), Tables()))
		if p, err := r.ByToken(t.Context(), token, "a"); err != nil || p.Way != Nobody {
			t.Errorf("token %q: %+v, %v", token, p, err)
		}
		if p, err := r.BySession(t.Context(), token); err != nil || p.Way != Nobody {
			t.Errorf("session %q: %+v, %v", token, p, err)
		}
		if _, err := r.LogIn(t.Context(), Login{Person: person, Password: password, Code: code, Address: "a"}); err == nil {
			t.Errorf("%q got in", person)
		}
		c, err := r.BeginKeyLogin(t.Context(), "a", Site{"localhost", "http://localhost"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.FinishKeyLogin(t.Context(), c.ID, answer, Site{"localhost", "http://localhost"}, "a", ""); err == nil {
			t.Error("a made-up passkey got in")
		}
	})
}
