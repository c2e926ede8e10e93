package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// Copies are kept for their time and no longer, whatever the location got late; what
// nothing needs is deleted a day and a half later, and what is left restores.
func TestPrune(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		ms := r.days(29)
		if rep := r.prune(PruneRequest{Apply: true}); r.listed("near") != 29 || rep.Shelves[0].Going() != 0 {
			t.Fatalf("%d are left on day 29", r.listed("near"))
		}
		r.days(4)
		before := len(r.places["near"].Names())
		if rep := r.prune(PruneRequest{}); rep.Shelves[0].Going() != 4 || r.listed("near") != 33 {
			t.Fatalf("a look changed something, or sees %d go: %+v", rep.Shelves[0].Going(), rep.Shelves[0].Vetoes)
		}
		r.away["far"] = errors.New("not mounted")
		rep := r.prune(PruneRequest{Apply: true})
		if r.listed("near") != 29 || len(rep.Garbage) != 1 {
			t.Fatalf("%d are left, %+v", r.listed("near"), rep.Findings)
		}
		r.away = map[string]error{}
		r.days(2)
		rep = r.prune(PruneRequest{Apply: true})
		if near, far := r.listed("near"), r.listed("far"); near != 29 || far != 29 || rep.Garbage["near"].Deleted == 0 || len(rep.Findings) > 0 {
			t.Fatalf("%d and %d are left: %+v", near, far, rep.Garbage)
		}
		if n := len(r.places["near"].Names()); n >= before {
			t.Errorf("%d objects, and %d before", n, before)
		}
		if r.facts(FactRemoved) == 0 || r.facts(FactCollected) == 0 || r.facts(FactVeto) != 0 {
			t.Error("what happened is not on record")
		}
		if slices.ContainsFunc(rep.Shelves[1].Decided, func(d Decision) bool { return d.Snapshot == ms[0].ID }) {
			t.Error("the oldest is still decided about")
		}
	})
}

// A hold beats the term, and ends only by signatures.
func TestHold(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		hold := "holds:\n  case-7: {of: [db], why: \"a claim\", by: ana}\n"
		r.declare("", hold)
		r.days(40)
		r.prune(PruneRequest{Apply: true})
		if n := r.listed("near"); n != 40 {
			t.Fatalf("%d of 40 are left under a hold", n)
		}
		r.declare("", "")
		rep := r.prune(PruneRequest{Apply: true})
		if n := r.listed("near"); n != 40 || len(rep.Findings) != 1 || !strings.Contains(rep.Findings[0].Message, "released") {
			t.Fatalf("%d are left after a release that nobody signed: %+v", n, rep.Findings)
		}
		rs, err := r.m.Requests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"ana", "ben"} {
			if _, err := r.sign(rs[0], p, p); err != nil {
				t.Fatal(err)
			}
		}
		r.prune(PruneRequest{Apply: true})
		if n := r.listed("near"); n != 29 {
			t.Errorf("%d are left after the release", n)
		}
	})
}

// One snapshot goes early, or the guard is overruled, by two people and for exactly
// what they signed.
// Retention counts from the first receipt that the vault itself signed, for a snapshot that a
// writer signed. What others sign moves nothing and makes nothing go.
func TestOnlyTrueReceiptsCount(t *testing.T) {
	r := oneRig(t)
	ctx := t.Context()
	forger, err := seal.GenerateSigningKey("vault")
	if err != nil {
		t.Fatal(err)
	}
	ms := r.days(3)
	put := func(location string, m *repo.Manifest, at time.Time, key seal.SigningKey) {
		t.Helper()
		p, err := r.place(ctx, location)
		if err != nil {
			t.Fatal(err)
		}
		r.places[location].Set("receipts/db/"+m.ID, nil)
		if err := p.PutReceipt(ctx, repo.Receipt{Scope: "db", Snapshot: m.ID, Manifest: m.Hash(), Place: location, Received: at, Vault: "vault"}, key); err != nil {
			t.Fatal(err)
		}
	}
	long := noon.Add(-90 * 24 * time.Hour)
	put("near", ms[0], long, forger)                     // a forged receipt of long ago
	put("far", ms[1], noon.Add(5*24*time.Hour), r.vault) // and a true one that came later
	seen := func() (out []string) {
		for _, s := range r.prune(PruneRequest{}).Shelves {
			for _, d := range s.Decided {
				if !d.Keep {
					t.Errorf("%s goes at %s: %s", d.Snapshot, s.Location, d.Why)
				}
				out = append(out, fmt.Sprintf("%s %s %s", s.Location, d.Snapshot[:8], d.Received.Format("02")))
			}
		}
		slices.Sort(out)
		return out
	}
	want := []string{}
	for _, l := range []string{"far", "near"} {
		for i, m := range ms {
			day := m.Created.Format("02")
			if l == "near" && i == 0 {
				day = time.Time{}.Format("02") // no receipt of ours lies there
			}
			want = append(want, fmt.Sprintf("%s %s %s", l, m.ID[:8], day))
		}
	}
	slices.Sort(want)
	if got := seen(); !slices.Equal(got, want) {
		t.Errorf("received\n%q, want\n%q", got, want)
	}
	// A snapshot that a stranger signed has no time either, whoever countersigned it.
	stranger := r.keys
	r.keys.Signer = forger
	r.places["far"].Set("snapshots/db/"+ms[2].ID, nil)
	w := r.backup(100)
	r.keys = stranger
	for _, s := range r.prune(PruneRequest{}).Shelves {
		for _, d := range s.Decided {
			if d.Snapshot == w.ID && !d.Received.IsZero() {
				t.Errorf("a stranger's snapshot counts at %s since %s", s.Location, d.Received)
			}
		}
	}
}

func TestEarly(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		ms := r.days(3)
		q := PruneRequest{Store: "db", Snapshot: ms[1].ID, By: "ana", Why: "holds data of a customer who left"}
		newest := q
		newest.Snapshot = ms[2].ID
		if _, err := r.m.run(t.Context(), newest); !errors.Is(err, holdfast.ErrRefused) {
			t.Error("the newest may be asked for:", err)
		}
		rep := r.prune(q)
		if rep.Request == nil || r.listed("near") != 3 {
			t.Fatal(rep.Request)
		}
		q.Apply = true
		if _, err := r.m.run(t.Context(), q); err == nil {
			t.Fatal("deleted with no signature")
		}
		for _, p := range []string{"ben", "cid"} {
			if _, err := r.sign(*rep.Request, p, p); err != nil {
				t.Fatal(err)
			}
		}
		other := q
		other.Snapshot = ms[0].ID
		if _, err := r.m.run(t.Context(), other); err == nil || r.listed("near") != 3 {
			t.Fatal("another one was deleted than was signed for:", err)
		}
		r.prune(q)
		if r.listed("near") != 2 || r.listed("far") != 2 {
			t.Error(r.listed("near"), r.listed("far"))
		}
		if _, err := r.m.run(t.Context(), q); err == nil {
			t.Error("a second time")
		}
	})
}

// A listing that lacks a snapshot which the state remembers is not believed: nothing of that
// location is collected, and it is said. What a snapshot needs elsewhere is not garbage here.
func TestCollectionAsksTheState(t *testing.T) {
	r := oneRig(t)
	ms := r.days(3)
	last := ms[len(ms)-1]
	for _, kind := range []string{"snapshots", "receipts"} {
		r.places["near"].Set(kind+"/db/"+last.ID, nil)
	}
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) != 0 || rep.Garbage["near"].Marked != 0 {
		t.Fatalf("what is needed at the other location is garbage, or a stop: %+v", rep)
	}
	r.m.cfg.Copies = func(context.Context, string) ([]Copy, error) {
		return []Copy{{Snapshot: last.ID, Location: "near", Complete: true, Received: noon}}, nil
	}
	rep := r.prune(PruneRequest{Apply: true})
	if len(rep.Findings) != 1 || rep.Findings[0].Code != CodeGarbage || !strings.Contains(rep.Findings[0].Message, last.ID) {
		t.Errorf("a listing that lacks %s is believed: %+v", last.ID, rep.Findings)
	}
}

// A hold forbids what two people would sign for.
func TestHoldRefusesAnEarlyDeletion(t *testing.T) {
	r := oneRig(t)
	ms := r.days(3)
	r.declare("", "holds:\n  case-7: {of: [db], why: \"a claim\", by: ana}\n")
	_, err := r.m.run(t.Context(), PruneRequest{Store: "db", Snapshot: ms[1].ID, By: "ana", Why: "asked for"})
	refusedWith(t, err, "held: case-7")
}

// An attacker who fills the window with empty copies gets nothing deleted.
func TestGuardStopsAttack(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		for range 40 {
			r.backup(3 << 20)
			r.pass(24 * time.Hour)
			if err := r.m.Watch(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			r.backup(10)
			r.pass(time.Minute)
		}
		rep := r.prune(PruneRequest{Apply: true})
		if r.listed("near") != 43 || len(rep.Shelves[0].Vetoes) == 0 || r.facts(FactVeto) != 2 || len(r.told) != 2 {
			t.Errorf("%d are left: %+v, %v", r.listed("near"), rep.Shelves[0].Vetoes, r.told)
		}
	})
}

// Flipped, missing, cut and omitted: each is found and named at its location alone,
// and mended from the other; what grows, or was found, is read again.
func TestVerifyAndRepair(t *testing.T) {
	eachRig(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		ms := r.days(4)
		verify := func(l string) Verified {
			t.Helper()
			v, err := r.m.verifyAt(ctx, l, true, func(holdfast.Progress) {})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if v := verify("near"); len(v.Damage) != 0 || v.Reading.Unread != 0 || v.Bytes == 0 {
			t.Fatalf("%+v", v)
		}
		verify("far")
		s := r.places["far"]
		object := func(m *repo.Manifest) string { return "packs/" + m.Packs[0].ID[:2] + "/" + m.Packs[0].ID }
		flip := s.Bytes(object(ms[0]))
		flip[100] ^= 1
		s.Set(object(ms[0]), flip)
		s.Set(object(ms[1]), nil)
		s.Set(object(ms[2]), s.Bytes(object(ms[2]))[:1000])
		s.Set("snapshots/db/"+ms[3].ID, nil)
		receipt := s.Bytes("receipts/db/" + ms[0].ID)
		receipt[200] ^= 1
		s.Set("receipts/db/"+ms[0].ID, receipt)
		v := verify("far")
		var got []string
		for _, d := range v.Damage {
			got = append(got, d.What+" "+d.Object)
			if d.Found.IsZero() || len(d.Snapshots) == 0 || d.Store != "db" || d.Location != "far" {
				t.Errorf("%+v", d)
			}
		}
		slices.Sort(got)
		want := []string{"damaged " + object(ms[0]), "damaged " + object(ms[2]), "missing " + object(ms[1]), "omitted snapshots/db/" + ms[3].ID, "damaged receipts/db/" + ms[0].ID}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
		if len(r.told) != 5 || r.facts(FactDamage) != 5 {
			t.Errorf("told %q", r.told)
		}
		if v := verify("near"); len(v.Damage) != 0 {
			t.Errorf("the other location: %+v", v.Damage)
		}
		if verify("far"); r.facts(FactDamage) != 5 {
			t.Error("the same damage was reported twice")
		}
		// Nothing may be deleted where a listing is not complete.
		if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) != 1 || rep.Findings[0].Code != CodeGarbage {
			t.Errorf("%+v", rep.Findings)
		}
		places := r.m.places(ctx, r.plan)
		look, err := r.m.mendAt(ctx, "far", places, false)
		if err != nil || len(look) != 5 || slices.ContainsFunc(look, func(x Repair) bool { return x.Done || x.From == "" }) {
			t.Fatalf("%+v, %v", look, err)
		}
		before := len(s.Names())
		done, err := r.m.mendAt(ctx, "far", places, true)
		if err != nil || len(done) != 5 || slices.ContainsFunc(done, func(x Repair) bool { return !x.Done }) || len(s.Names()) != before+5 {
			t.Fatalf("%+v, %v", done, err)
		}
		if v := verify("far"); len(v.Damage) != 0 {
			t.Errorf("after the repair: %+v", v.Damage)
		}
		if rep := r.prune(PruneRequest{}); slices.ContainsFunc(rep.Shelves[0].Decided, func(d Decision) bool { return d.Received.IsZero() }) {
			t.Error("a mended receipt does not count")
		}
		if r.listed("far") != 4 {
			t.Error("not all is listed and complete")
		}
		// What no other location has is said to be lost.
		r.away["near"] = errors.New("burned down")
		s.Set(object(ms[1]), nil)
		verify("far")
		if done, err := r.m.mendAt(ctx, "far", r.m.places(ctx, r.plan), true); err != nil || len(done) != 1 || done[0].Done || done[0].From != "" || done[0].Why == "" {
			t.Errorf("%+v, %v", done, err)
		}
	})
}

// A run reads what was read longest ago, up to its share, so that all is read in time.
func TestRollingRead(t *testing.T) {
	within := 30 * 24 * time.Hour
	now := noon
	var ts []*target
	for i := range 300 {
		ts = append(ts, &target{object: strings.Repeat("x", i+1), size: 64 << 20})
	}
	last := map[string]time.Time{}
	for day := range 60 {
		for _, d := range dueNow(ts, false, within, now) {
			d.at, last[d.object] = now, now
		}
		now = now.Add(24 * time.Hour)
		if day < 30 {
			continue
		}
		for _, x := range ts {
			if now.Sub(last[x.object]) > within {
				t.Fatalf("day %d: %d objects were read, and one is %s old", day, len(last), now.Sub(last[x.object]))
			}
		}
	}
	if n := len(dueNow(ts, false, within, now)); n == 0 || n > 40 {
		t.Errorf("%d of 300 are read in one run", n)
	}
}

// A run that died between the deletion and the state is caught up by the next, from
// the signed record at the location; and one that dies anywhere costs nothing.
func TestPruneIsInterrupted(t *testing.T) {
	for n := 1; ; n++ {
		tripped := false
		for _, landed := range []bool{false, true} {
			r := oneRig(t, "keep: 30d", "keep: 3d")
			r.days(5)
			faulty := &repotest.Faulty{Store: r.places["near"], Landed: landed, Forever: true}
			r.stores = map[string]repo.Store{"near": faulty}
			faulty.N = faulty.Calls() + n
			_, _ = r.m.run(t.Context(), PruneRequest{Apply: true}) // it is loud or says so on the shelf; what counts is below
			tripped = tripped || faulty.Tripped()
			r.stores = nil
			// The process dies before it tells the state.
			r.gone = map[string]bool{}
			r.listed("near")
			if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) > 0 {
				t.Fatalf("call %d, landed %t: %+v", n, landed, rep.Findings)
			}
			if near, far := r.listed("near"), r.listed("far"); near != 2 || far != 2 {
				t.Errorf("call %d, landed %t: %d and %d are left", n, landed, near, far)
			}
			cs, err := r.m.cfg.Copies(t.Context(), "db")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cs {
				if p, err := r.place(t.Context(), c.Location); err != nil {
					t.Fatal(err)
				} else if _, err := p.Manifest(t.Context(), "db", c.Snapshot); err != nil {
					t.Errorf("call %d, landed %t: the state still counts %s at %s", n, landed, c.Snapshot, c.Location)
				}
			}
		}
		if !tripped {
			if n < 20 {
				t.Fatalf("only %d calls were broken", n)
			}
			return
		}
	}
}

// lockable is a place whose objects can be locked.
type lockable struct {
	*repotest.Memory
	until map[string]time.Time
	calls int
	err   error
}

func (l *lockable) Extend(_ context.Context, name string, until time.Time) error {
	l.calls++
	if l.err == nil && l.until[name].Before(until) {
		l.until[name] = until
	}
	return l.err
}

// A pack that a newer snapshot uses is locked for as long as that one; what is not
// used any more is left to its lock; and a night costs no request where nothing is due.
func TestLocksAreRenewed(t *testing.T) {
	r := oneRig(t, "far: {kind: dir, path: /far, domain: far}", "far: {kind: s3, s3: {endpoint: \"http://127.0.0.1:1\", insecure: true, bucket: far, lock: 30d}, domain: far}")
	l := &lockable{Memory: r.places["far"], until: map[string]time.Time{}}
	r.stores = map[string]repo.Store{"far": l}
	ms := r.days(2)
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) > 0 || l.calls != len(l.until) || r.facts(FactLocked) != 1 {
		t.Fatalf("%d calls for %d objects: %+v", l.calls, len(l.until), rep.Findings)
	}
	for _, m := range ms {
		for _, p := range m.Packs {
			if until := l.until["packs/"+p.ID[:2]+"/"+p.ID]; until.Before(m.Created.Add(29 * 24 * time.Hour)) {
				t.Errorf("a pack of %s is locked until %s", m.ID, until)
			}
		}
	}
	calls := l.calls
	if r.prune(PruneRequest{Apply: true}); l.calls != calls {
		t.Error("what is locked was locked again")
	}
	// The same content ten days later: its pack is an old one.
	object := "packs/" + ms[1].Packs[0].ID[:2] + "/" + ms[1].Packs[0].ID
	was := l.until[object]
	r.pass(10 * 24 * time.Hour)
	r.again(ms[1])
	r.prune(PruneRequest{Apply: true})
	if !l.until[object].After(was.Add(9 * 24 * time.Hour)) {
		t.Errorf("a pack that a newer snapshot uses is locked until %s, as before", l.until[object])
	}
	l.err = errors.New("not allowed")
	r.pass(10 * 24 * time.Hour)
	r.again(ms[1])
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) != 1 || rep.Findings[0].Code != CodeLock {
		t.Errorf("a lock that was not renewed is not reported: %+v", rep.Findings)
	}
	// The next night tries again what was refused.
	l.err, was = nil, l.until[object]
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) > 0 || !l.until[object].After(was.Add(9*24*time.Hour)) {
		t.Errorf("what was refused is locked until %s: %+v", l.until[object], rep.Findings)
	}
	// A whole copy beside the damaged pack is locked for as long as the pack.
	if _, err := r.m.verifyAt(t.Context(), "far", true, func(holdfast.Progress) {}); err != nil {
		t.Fatal(err)
	}
	b := l.Bytes(object)
	b[len(b)/2] ^= 1
	l.Set(object, b)
	if _, err := r.m.verifyAt(t.Context(), "far", true, func(holdfast.Progress) {}); err != nil {
		t.Fatal(err)
	}
	if done, err := r.m.mendAt(t.Context(), "far", r.m.places(t.Context(), r.plan), true); err != nil || len(done) != 1 || !done[0].Done {
		t.Fatalf("%+v, %v", done, err)
	}
	if r.prune(PruneRequest{Apply: true}); !l.until["repairs/01/"+object].Equal(l.until[object]) {
		t.Errorf("the pack is locked until %s, its whole copy until %s", l.until[object], l.until["repairs/01/"+object])
	}
	// A place that cannot lock at all is told of, and the other location is looked after.
	r.stores = nil
	r.again(ms[1])
	r.pass(10 * 24 * time.Hour)
	r.again(ms[1])
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) != 1 || rep.Findings[0].Code != CodeLock || len(rep.Garbage) != 2 {
		t.Errorf("a place that cannot lock: %+v", rep)
	}
}

// untidy is a place in which killed writers left something.
type untidy struct {
	*repotest.Memory
	left   int
	before time.Time
	err    error
}

func (u *untidy) RemoveTemps(_ context.Context, before time.Time) (int, error) {
	n := u.left
	if u.before = before; u.err == nil {
		u.left = 0
	}
	return n, u.err
}

// What killed writers left goes each night, and is told; but not while the clock may have
// stepped, and a place that refuses keeps nothing else from being done.
func TestPruneTidies(t *testing.T) {
	r := oneRig(t)
	u := &untidy{Memory: r.places["far"], left: 3}
	r.stores = map[string]repo.Store{"far": u}
	if r.prune(PruneRequest{Apply: true}); u.left != 3 {
		t.Error("files went before the clock was seen to run steadily")
	}
	r.days(3)
	if rep := r.prune(PruneRequest{Apply: true}); rep.Garbage["far"].Temps != 3 || r.facts(FactCollected) == 0 || !u.before.Equal(r.now().Add(-repo.GarbageWait)) {
		t.Errorf("%+v, before %s", rep.Garbage, u.before)
	}
	u.left, u.err = 0, errors.New("not allowed")
	if rep := r.prune(PruneRequest{Apply: true}); rep.Garbage["far"].Why == "" {
		t.Errorf("a place that refuses is not told of: %+v", rep.Garbage)
	}
}
