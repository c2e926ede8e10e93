package govern

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/ledger"
)

// A plan that changes makes every copy of it owed again; the code of a new one ends that,
// and no word does (PER-02).
func TestOfflineCopiesAreOwed(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.declare("cid: {}", "cid: {offline_copy: 90d}")
		d := r.state("offline.cid", Expected)
		if !d.Due.Equal(noon.Add(copyDue)) || d.Owner != "cid" || d.EndsWith() == "" {
			t.Fatalf("without a copy: %+v", d)
		}
		r.refused("offline.cid", "cid", "", "closed by")
		r.now = noon.Add(copyDue)
		r.state("offline.cid", Overdue)

		one := r.plan.Digest()
		opened := func(digest string) {
			r.obs.Copies = map[string][]Opened{"cid": append(r.obs.Copies["cid"], Opened{Copy: "oc-" + digest[7:11], Plan: digest, At: r.now})}
		}
		opened(one)
		if d := r.state("offline.cid", Expected); !d.Due.Equal(r.now.AddDate(0, 0, 90)) {
			t.Fatalf("after a copy: %+v", d)
		}
		before := len(r.facts(FactExpected)) + len(r.facts(FactChanged))
		r.list()
		if n := len(r.facts(FactExpected)) + len(r.facts(FactChanged)); n != before {
			t.Errorf("a second look wrote %d facts", n-before)
		}

		r.now = r.now.Add(day)
		r.declare("cid: {}", "cid: {offline_copy: 90d}", `version: "1"`, `version: "2"`)
		if d := r.state("offline.cid", Expected); !d.Due.Equal(r.now.Add(copyDue)) || !strings.Contains(d.Cause, "version 2") {
			t.Fatalf("another plan is in force: %+v", d)
		}
		r.now = r.now.Add(day)
		r.declare("cid: {}", "cid: {offline_copy: 90d}") // and is taken back
		if d := r.state("offline.cid", Expected); d.Due.Before(r.now.Add(80 * day)) {
			t.Fatalf("the copy is of the plan in force again: %+v", d)
		}
		r.now = noon.Add(copyDue).AddDate(0, 0, 90)
		r.state("offline.cid", Overdue)
		opened(one)
		r.state("offline.cid", Expected)
		r.declare()
		if _, ok := r.list()["offline.cid"]; ok {
			t.Error("a person without offline copies owes one")
		}
	})
}

// What rests on somebody who has left is owed until a plan in force gives it to somebody
// else (ACC-12).
// Copies that stay past their maximum are somebody's duty: by their word it rests for a
// quarter and comes again; it ends by itself when nothing is past its maximum any more.
func TestKeepingIsDecided(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.obs.Kept = map[string]string{"db": "held: case-7", "gone": "of a store that the plan does not have"}
		d := r.state("keeping.stores.db", Expected)
		if !d.Due.Equal(noon.Add(keepingDue)) || !strings.Contains(d.Cause, "case-7") {
			t.Fatalf("%+v", d)
		}
		if _, there := r.list()["keeping.stores.gone"]; there {
			t.Error("a duty about a store that nobody declares")
		}
		r.now = noon.Add(keepingDue)
		r.state("keeping.stores.db", Overdue)
		if _, err := r.word("keeping.stores.db", d.Owner, d.Owner, "the case goes on"); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(keepingAgain - time.Hour)
		if _, there := r.list()["keeping.stores.db"]; there {
			t.Error("asked again at once")
		}
		r.now = r.now.Add(2 * time.Hour)
		r.state("keeping.stores.db", Expected)
		r.obs.Kept = nil
		if _, there := r.list()["keeping.stores.db"]; there {
			t.Error("it did not end by itself")
		}
	})
}

func TestHandovers(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.obs.Left = map[string][]Rests{"ana": {{Path: "keys.a", What: "holds it; name another holder"}}}
		d := r.state("left.ana.keys.a", Expected)
		if d.Owner != "ana" && d.Owner != "ben" || !d.Due.Equal(noon.Add(handoverDue)) {
			t.Fatalf("%+v", d)
		}
		r.refused("left.ana.keys.a", "ben", "ben", "closed by")
		r.now = noon.Add(handoverDue)
		r.state("left.ana.keys.a", Overdue)
		r.obs.Left["ana"] = nil
		r.list()
		ended := func(f ledger.Fact) bool {
			return f.Subject == "keys.a" && strings.Contains(string(f.Data), "rests on nobody")
		}
		n := 0
		for _, f := range r.facts(FactDone) {
			if ended(f) {
				n++
			}
		}
		if _, open := r.list()["left.ana.keys.a"]; open || n != 1 {
			t.Errorf("open %t, ended %d times", open, n)
		}
	})
}
