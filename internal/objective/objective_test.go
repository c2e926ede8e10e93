package objective

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/plan"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func parse(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) *plan.Plan {
	t.Helper()
	p, err := plan.Parse("plan.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

func template(t *testing.T) *plan.Plan {
	return parse(t, string(plan.Template(plan.Values{Unattended: true})))
}

// healthy are facts of the template plan on a good day.
func healthy() Facts {
	f := Facts{Now: noon, Locations: []LocationFact{{Location: "near", Reachable: true, Seen: noon}, {Location: "offsite", Reachable: true, Seen: noon}}}
	for _, loc := range []string{"near", "offsite"} {
		f.Copies = append(f.Copies,
			Copy{Store: "db", Location: loc, Received: ago(time.Hour),
				Windows:  []holdfast.Window{{From: ago(3 * 24 * time.Hour), To: ago(time.Minute), Lineage: "7", Timeline: 1}},
				Frontier: &Frontier{Lineage: "7", Timeline: 1, CaughtUp: ago(2 * time.Second), LastCommit: ago(10 * time.Second), At: ago(time.Second)}},
			Copy{Store: "uploads", Location: loc, Received: ago(2 * time.Minute),
				Windows: []holdfast.Window{{From: ago(8 * time.Minute), To: ago(8 * time.Minute)}, {From: ago(3 * time.Minute), To: ago(3 * time.Minute)}}})
	}
	parts := func(fetch, replay, verify time.Duration) holdfast.Parts {
		return holdfast.Parts{{Name: "provision", Duration: time.Second, Basis: holdfast.Measured}, {Name: "fetch", Duration: fetch, Basis: holdfast.Measured},
			{Name: "replay", Duration: replay, Basis: holdfast.Measured}, {Name: "verify", Duration: verify, Basis: holdfast.Measured}}
	}
	f.Proofs = []Proof{
		{Kind: ProofDrill, ID: "1", Name: "db-drill", Store: "db", At: ago(3 * 24 * time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L6, Parts: parts(2*time.Minute, time.Minute, 5*time.Second), DataAge: 4 * time.Second, DataAgeKnown: true},
		{Kind: ProofDrill, ID: "2", Name: "uploads-drill", Store: "uploads", At: ago(2 * 24 * time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L3, Parts: parts(time.Minute, 0, time.Second), DataAge: 5 * time.Minute, DataAgeKnown: true},
	}
	return f
}

func TestLookOnAGoodDay(t *testing.T) {
	o := Look(template(t), healthy())
	if want := "If this host burned down now: 3m of uploads would be lost, api would be back after about 4m 36s."; o.Sentence != want {
		t.Errorf("%s\nwant:\n%s", o.Sentence, want)
	}
	db := o.Stores[0]
	if db.Losses[0].Age.Duration() != 2*time.Second || db.Losses[0].Verdict != Within || db.RPO.Posture != holdfast.PostureProved || !db.Exposures[0].Streaming {
		t.Errorf("db: %+v\n%+v", db.Losses[0], db.RPO)
	}
	// The drill did not measure how long it takes to notice: the RTO is not proven.
	if db.RTO.Posture != holdfast.PostureUnknown || !strings.Contains(db.RTO.Why, "detect") {
		t.Errorf("db RTO: %+v", db.RTO)
	}
	if len(o.Order) != 3 || o.Services[0].ID != "api" || o.Services[1].ID != "web" {
		t.Errorf("order %v", o.Order)
	}
	// web shares the runbook of api: the steps count once.
	if o.Services[1].Outage.Total != o.Services[0].Outage.Total {
		t.Errorf("web is back after %s, api after %s", o.Services[1].Outage.Total, o.Services[0].Outage.Total)
	}
	if o.Services[1].RPO.Posture != holdfast.PostureNA {
		t.Errorf("web holds no data: %+v", o.Services[1].RPO)
	}
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"loss_seconds":180`) || strings.Contains(string(b), ":null") {
		t.Errorf("JSON: %s", b)
	}
	var again Overview
	if err := json.Unmarshal(b, &again); err != nil || again.Stores[0].Losses[0].Age != db.Losses[0].Age {
		t.Errorf("read again: %v", err)
	}
}

func TestLookOnBadDays(t *testing.T) {
	incident := Proof{Kind: ProofIncident, ID: "9", Service: "api", At: ago(24 * time.Hour), Outcome: holdfast.Passed,
		Parts: holdfast.Parts{{Name: "detect", Duration: 30 * time.Second, Basis: holdfast.Measured}, {Name: "decide", Duration: 10 * time.Second, Basis: holdfast.Measured}, {Name: "fetch", Duration: time.Minute, Basis: holdfast.Measured}}}
	tests := []struct {
		name string
		harm func(f *Facts)
		want func(o Overview) string // "" if as it should be
	}{
		{"nobody looked", func(f *Facts) { *f = Facts{Now: noon} }, func(o Overview) string {
			return all(o.Posture != holdfast.PostureProved, o.Stores[0].Losses[0].State == LossUnknown, o.Services[0].RPO.Posture == holdfast.PostureUnknown)
		}},
		{"location cut off", func(f *Facts) { f.Locations[0].Reachable = false }, func(o Overview) string {
			return all(o.Stores[0].Losses[0].Location == "offsite", o.Stores[0].Losses[2].State == LossUnknown, o.Stores[0].Losses[2].Verdict == CannotSay,
				len(o.Findings) == 1 && o.Findings[0].Code == "HF-O01" && o.Findings[0].Subject == "locations.near")
		}},
		{"only the copy on this host is fresh", func(f *Facts) {
			for i := range f.Copies {
				if c := &f.Copies[i]; c.Location == "offsite" && c.Frontier != nil {
					c.Windows[0].To = ago(20 * time.Minute)
					c.Frontier.CaughtUp, c.Frontier.LastCommit = ago(20*time.Minute), ago(20*time.Minute)
				}
			}
		}, func(o Overview) string {
			return all(o.Stores[0].Losses[0].Verdict == Within, o.Stores[0].Losses[1].Verdict == Over, o.Stores[0].RPO.Posture == holdfast.PostureFailed,
				strings.HasPrefix(o.Stores[0].RPO.Why, "if this host burned down now, 20m of data would be lost"))
		}},
		{"a drill that was not enough", func(f *Facts) {
			f.Proofs = []Proof{{Kind: ProofDrill, ID: "7", Store: "db", At: ago(time.Hour), Outcome: holdfast.NotProven, Rung: holdfast.L5, Note: "the owner has not confirmed it"}}
		}, func(o Overview) string {
			return all(o.Stores[0].RPO.Why == "never proven; the last attempt was not enough: the owner has not confirmed it")
		}},
		{"stream stopped", func(f *Facts) {
			for i := range f.Copies {
				if f.Copies[i].Frontier != nil {
					f.Copies[i].Frontier.CaughtUp, f.Copies[i].Frontier.LastCommit = ago(20*time.Minute), ago(20*time.Minute)
					f.Copies[i].Windows[0].To = ago(20 * time.Minute)
				}
			}
		}, func(o Overview) string {
			return all(o.Stores[0].Losses[0].Age.Duration() == 20*time.Minute, o.Stores[0].RPO.Posture == holdfast.PostureFailed, o.Services[0].RPO.Posture == holdfast.PostureFailed)
		}},
		{"idle store", func(f *Facts) {
			for i := range f.Copies {
				if f.Copies[i].Frontier != nil {
					f.Copies[i].Frontier.LastCommit = ago(5 * 24 * time.Hour)
				}
			}
		}, func(o Overview) string { return all(o.Stores[0].Losses[0].Age.Duration() == 2*time.Second) }},
		{"other lineage", func(f *Facts) {
			for i := range f.Copies {
				if f.Copies[i].Frontier != nil {
					f.Copies[i].Frontier.Lineage = "8"
				}
			}
		}, func(o Overview) string {
			return all(o.Stores[0].Losses[0].Age.Duration() == time.Minute, !o.Stores[0].Exposures[0].Streaming)
		}},
		{"no receipt", func(f *Facts) {
			for i := range f.Copies {
				f.Copies[i].Received = time.Time{}
			}
		}, func(o Overview) string { return all(o.Stores[0].Losses[0].State == LossUnknown) }},
		{"damaged everywhere", func(f *Facts) {
			for i := range f.Copies {
				f.Copies[i].Damage = "pack 12 does not authenticate"
			}
		}, func(o Overview) string {
			return all(o.Stores[0].Losses[0].State == LossEverything, o.Stores[0].Losses[0].Verdict == Over, o.Stores[0].Posture == holdfast.PostureFailed)
		}},
		{"clock ahead", func(f *Facts) {
			for i := range f.Copies {
				if f.Copies[i].Frontier != nil {
					f.Copies[i].Frontier.CaughtUp = noon.Add(time.Hour)
				}
			}
		}, func(o Overview) string { return all(o.Stores[0].Losses[0].Age == 0) }},
		{"proof ended", func(f *Facts) { f.Proofs[0].At = ago(11 * 24 * time.Hour) }, func(o Overview) string {
			return all(o.Stores[0].RPO.Posture == holdfast.PostureOverdue, o.Stores[0].RTO.Posture == holdfast.PostureOverdue, o.Services[0].RTO.Posture == holdfast.PostureOverdue)
		}},
		{"next is due", func(f *Facts) { f.Proofs[0].At = ago(8 * 24 * time.Hour) }, func(o Overview) string {
			return all(o.Stores[0].RPO.Posture == holdfast.PostureDue)
		}},
		{"rung not reached", func(f *Facts) { f.Proofs[0].Rung = holdfast.L4 }, func(o Overview) string {
			return all(o.Stores[0].RPO.Posture == holdfast.PostureUnknown, o.Stores[0].LastDrill.Goal == holdfast.L6)
		}},
		{"drill failed", func(f *Facts) { f.Proofs[0].Outcome = holdfast.Failed }, func(o Overview) string {
			return all(o.Stores[0].RPO.Posture == holdfast.PostureFailed, o.Stores[0].RTO.Posture == holdfast.PostureFailed, o.Posture == holdfast.PostureFailed)
		}},
		{"restore too slow", func(f *Facts) { f.Proofs[0].Parts[1].Duration = 5 * time.Hour }, func(o Overview) string {
			return all(o.Services[0].Outage.Verdict == Over, o.Services[0].RTO.Posture == holdfast.PostureFailed)
		}},
		{"incident measured all", func(f *Facts) { f.Proofs = append(f.Proofs, incident) }, func(o Overview) string {
			return all(o.Services[0].RTO.Posture == holdfast.PostureProved, o.Services[0].RTO.Latest.Duration() == 100*time.Second,
				o.Services[0].Outage.State == TimeProven, o.Services[0].Outage.Total.Duration() == 40*time.Second+3*time.Minute+time.Second+5*time.Second)
		}},
		{"incident measured the loss", func(f *Facts) {
			incident.DataAge, incident.DataAgeKnown = 7*time.Second, true
			f.Proofs = []Proof{incident}
		}, func(o Overview) string {
			return all(o.Services[0].RPO.Posture == holdfast.PostureProved, o.Services[0].RPO.Latest.Duration() == 7*time.Second,
				o.Stores[0].RPO.Posture == holdfast.PostureUnknown, o.Stores[0].Restore.Parts[0].Basis == holdfast.Measured)
		}},
		{"incident lost too much", func(f *Facts) {
			incident.DataAge, incident.DataAgeKnown = time.Hour, true
			f.Proofs = append(f.Proofs, incident)
		}, func(o Overview) string { return all(o.Services[0].RPO.Posture == holdfast.PostureFailed) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := healthy()
			tt.harm(&f)
			o := Look(template(t), f)
			if wrong := tt.want(o); wrong != "" {
				b, _ := json.MarshalIndent(o, "", " ")
				t.Errorf("condition %s does not hold:\n%s", wrong, b)
			}
		})
	}
}

// all names the first condition that does not hold.
func all(conditions ...bool) string {
	for i, c := range conditions {
		if !c {
			return fmt.Sprint(i + 1)
		}
	}
	return ""
}

// The loss equals what a search through every second finds: the newest instant that
// some surviving location gives back.
func TestLossAgainstSearch(t *testing.T) {
	const horizon = 60
	at := func(s int) time.Time { return noon.Add(time.Duration(s-horizon) * time.Second) } // at(horizon) is now
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c"}
		var exposures []Exposure
		gives := map[string]func(int) bool{}
		unknown := map[string]bool{}
		for _, n := range names {
			c := &Copy{Location: n}
			reachable := rapid.IntRange(0, 4).Draw(t, "reachable") > 0
			for range rapid.IntRange(0, 3).Draw(t, "windows") {
				from := rapid.IntRange(0, horizon).Draw(t, "from")
				to := rapid.IntRange(from, horizon).Draw(t, "to")
				c.Windows = append(c.Windows, holdfast.Window{From: at(from), To: at(to), Lineage: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "lineage"), Timeline: 1})
			}
			if rapid.Bool().Draw(t, "streams") {
				c.Frontier = &Frontier{Lineage: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "lineage"), Timeline: 1,
					CaughtUp: at(rapid.IntRange(0, horizon).Draw(t, "caught up")), LastCommit: at(rapid.IntRange(0, horizon).Draw(t, "commit"))}
				if rapid.IntRange(0, 4).Draw(t, "gap") == 0 {
					c.Frontier.Gap = "hole"
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "received") > 0 {
				c.Received = noon
			}
			if rapid.IntRange(0, 5).Draw(t, "damage") == 0 {
				c.Damage = "bits"
			}
			exposures = append(exposures, Expose(c, LocationFact{Location: n, Reachable: reachable}, n, noon))
			unknown[n] = !reachable || c.Damage == "" && len(c.Windows) > 0 && c.Received.IsZero()
			gives[n] = func(s int) bool {
				if !reachable || c.Damage != "" || c.Received.IsZero() {
					return false
				}
				for _, w := range c.Windows {
					if !at(s).Before(w.From) && !at(s).After(w.To) {
						return true
					}
					if f := c.Frontier; f != nil && f.Gap == "" && f.Lineage == w.Lineage && !at(s).Before(w.From) && (!at(s).After(f.CaughtUp) || !at(s).After(f.LastCommit)) {
						return true
					}
				}
				return false
			}
		}
		var previous *Loss
		for lost := range len(names) + 1 { // none, a, a+b, all
			sc := Scenario{ID: "s", LostLocations: names[:lost]}
			got := LossIn(sc, exposures, 0, 30*time.Second)
			found, cannotSay := -1, false
			for _, n := range names[lost:] {
				cannotSay = cannotSay || unknown[n]
				for s := range horizon + 1 {
					if gives[n](s) {
						found = max(found, s)
					}
				}
			}
			want, age := LossBounded, time.Duration(horizon-found)*time.Second
			switch {
			case found < 0 && cannotSay:
				want, age = LossUnknown, 0
			case found < 0:
				want, age = LossEverything, 0
			}
			if got.State != want || got.Age.Duration() != age {
				t.Fatalf("lost %v: %s %s, want %s %s\n%+v", sc.LostLocations, got.State, got.Age, want, Seconds(age), exposures)
			}
			if want == LossBounded && (got.Verdict == Over) != (age > 30*time.Second) {
				t.Fatalf("%s is %s", age, got.Verdict)
			}
			if previous != nil && got.State == LossBounded && worseLoss(*previous, got) {
				t.Fatalf("with more lost, less is lost: %+v then %+v", *previous, got)
			}
			previous = &got
		}
	})
}

// Without a new measurement a posture never gets better.
func TestPostureNeverImprovesByWaiting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hours := func(label string, lo, hi int) time.Duration {
			return time.Duration(rapid.IntRange(lo, hi).Draw(t, label)) * time.Hour
		}
		var ms []Measurement
		for range rapid.IntRange(0, 4).Draw(t, "n") {
			ms = append(ms, Measurement{At: ago(hours("at", 0, 50)), Value: hours("value", 0, 8), Known: rapid.Bool().Draw(t, "known"),
				Outcome: rapid.SampledFrom([]holdfast.Outcome{holdfast.Passed, holdfast.Failed, holdfast.NotProven}).Draw(t, "outcome"), Source: "drill"})
		}
		o := parse(t, "apiVersion: holdfast/v1\nplan: {id: x}\ntiers: {a: {rto: 4h}}\n").Tiers["a"].RTO
		term := Term{Fresh: hours("fresh", 1, 40), Interval: hours("interval", 0, 40)}
		first := Assess(o, "", ms, term, noon)
		later := Assess(o, "", ms, term, noon.Add(hours("wait", 0, 80)))
		if badness[later.Posture] < badness[first.Posture] {
			t.Fatalf("%s (%s) became %s (%s)", first.Posture, first.Why, later.Posture, later.Why)
		}
		// The naive rule: the newest that passed or failed decides.
		var newest *Measurement
		for i := range ms {
			if ms[i].Outcome != holdfast.NotProven && (newest == nil || !ms[i].At.Before(newest.At)) {
				newest = &ms[i]
			}
		}
		proved := newest != nil && newest.Outcome == holdfast.Passed && newest.Known && newest.Value <= 4*time.Hour && noon.Sub(newest.At) <= term.Fresh
		if got := first.Posture == holdfast.PostureProved || first.Posture == holdfast.PostureDue; got != proved {
			t.Fatalf("%s (%s), want proved or due: %t", first.Posture, first.Why, proved)
		}
	})
}

// world is a random plan without circles, in which no two services share a runbook.
type world struct {
	text     strings.Builder
	stores   []string
	services []string
	needs    map[string][]string
	est      map[string][]int // minutes of a service's own steps, one after the other
	restores map[string][]string
	rto      map[string]int
}

func drawWorld(t *rapid.T) *world {
	w := &world{needs: map[string][]string{}, est: map[string][]int{}, restores: map[string][]string{}, rto: map[string]int{}}
	for i := range rapid.IntRange(1, 3).Draw(t, "stores") {
		w.stores = append(w.stores, fmt.Sprint("db", i))
	}
	for i := range rapid.IntRange(1, 5).Draw(t, "services") {
		id := fmt.Sprint("svc", i)
		for _, other := range slices.Concat(w.stores, w.services) {
			if rapid.IntRange(0, 2).Draw(t, "need") == 0 {
				w.needs[id] = append(w.needs[id], other)
			}
		}
		if rapid.Bool().Draw(t, "runbook") {
			for range rapid.IntRange(1, 3).Draw(t, "steps") {
				w.est[id] = append(w.est[id], rapid.IntRange(1, 30).Draw(t, "est"))
			}
			for _, n := range w.needs[id] {
				if slices.Contains(w.stores, n) && rapid.Bool().Draw(t, "restores") {
					w.restores[id] = append(w.restores[id], n)
				}
			}
		}
		w.rto[id] = rapid.IntRange(1, 300).Draw(t, "rto")
		w.services = append(w.services, id)
	}
	b := &w.text
	b.WriteString("apiVersion: holdfast/v1\nplan: {id: x}\nactivation: {automatic: [store-lost]}\nstores:\n")
	for _, id := range w.stores {
		fmt.Fprintf(b, "  %s: {kind: files, files: {path: /x/%s}}\n", id, id)
	}
	b.WriteString("tiers:\n")
	for _, id := range w.services {
		fmt.Fprintf(b, "  t-%s: {rto: %dm}\n", id, w.rto[id])
	}
	b.WriteString("services:\n")
	for _, id := range w.services {
		fmt.Fprintf(b, "  %s:\n    tier: t-%s\n", id, id)
		if len(w.needs[id]) > 0 {
			fmt.Fprintf(b, "    needs: {%s: hard}\n", strings.Join(w.needs[id], ": hard, "))
		}
		if len(w.est[id]) > 0 {
			fmt.Fprintf(b, "    runbook: r-%s\n", id)
		}
	}
	if len(w.est) > 0 {
		b.WriteString("runbooks:\n")
	}
	for _, id := range w.services {
		if len(w.est[id]) == 0 {
			continue
		}
		fmt.Fprintf(b, "  r-%s:\n    steps:\n", id)
		var after []string
		for _, s := range w.restores[id] {
			fmt.Fprintf(b, "      restore-%s: {restore: %s, est: measured}\n", s, s)
			after = append(after, "restore-"+s)
		}
		for i, est := range w.est[id] {
			fmt.Fprintf(b, "      own-%d: {run: [x], est: %dm, after: [%s]}\n", i, est, strings.Join(after, ", "))
			after = []string{fmt.Sprint("own-", i)}
		}
	}
	return w
}

func restoreProof(store string, minutes int) Proof {
	return Proof{Kind: ProofDrill, ID: "1", Store: store, At: ago(time.Hour), Outcome: holdfast.Passed,
		Parts: holdfast.Parts{{Name: "fetch", Duration: time.Duration(minutes) * time.Minute, Basis: holdfast.Measured}}}
}

// The predicted time equals what a minute-by-minute simulation of the whole recovery
// takes: a thing begins when what it needs is there.
func TestPredictionAgainstSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := parse(t, w.text.String())
		minutes := map[string]int{}
		var proofs []Proof
		for _, s := range w.stores {
			minutes[s] = rapid.IntRange(0, 60).Draw(t, "restore")
			proofs = append(proofs, restoreProof(s, minutes[s]))
		}
		// Restores begin at once. A service's own steps begin when its restores and its
		// other needs are there.
		done := map[string]int{} // minute at which a node is back
		for _, s := range w.stores {
			done[s] = minutes[s]
		}
		for len(done) < len(w.stores)+len(w.services) {
			for _, id := range w.services {
				begin, ready := 0, true
				for _, n := range w.needs[id] {
					if slices.Contains(w.restores[id], n) {
						continue
					}
					at, ok := done[n]
					ready = ready && ok
					begin = max(begin, at)
				}
				if !ready {
					continue
				}
				for _, s := range w.restores[id] {
					begin = max(begin, minutes[s])
				}
				own := 0
				for _, e := range w.est[id] {
					own += e
				}
				done[id] = begin + own
			}
		}
		for _, id := range w.services {
			got := PredictService(p, id, proofs, noon)
			if got.Total.Duration() != time.Duration(done[id])*time.Minute {
				t.Fatalf("%s: predicted %s, simulated %dm\n%s", id, got.Total, done[id], w.text.String())
			}
			var sum Seconds
			for _, x := range got.Parts {
				sum += x.Time
			}
			if sum != got.Total {
				t.Fatalf("%s: the parts sum to %s of %s", id, sum, got.Total)
			}
			if !slices.Contains(got.Missing, "detect") {
				t.Fatalf("%s: nobody knows how long it takes to notice, and nothing says so", id)
			}
		}
	})
}

// The required time of a store, computed backwards from its consumers, is the exact
// border: with it every promise holds, with a minute more one breaks.
func TestRequiredAgainstPrediction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		p := parse(t, w.text.String())
		store := w.stores[0]
		kept := func(minutes int) bool {
			proofs := []Proof{restoreProof(store, minutes)}
			for _, s := range w.stores[1:] {
				proofs = append(proofs, restoreProof(s, 0))
			}
			for _, id := range p.ServicesOf(store) {
				if PredictService(p, id, proofs, noon).Total.Duration() > time.Duration(w.rto[id])*time.Minute {
					return false
				}
			}
			return true
		}
		if len(p.ServicesOf(store)) == 0 {
			if d, by := Required(p, store, nil, noon); d != 0 || by != "" {
				t.Fatalf("nobody needs it, and %s by %q is required", d, by)
			}
			return
		}
		if !kept(0) {
			return // a promise that breaks without the store
		}
		var others []Proof
		for _, s := range w.stores[1:] {
			others = append(others, restoreProof(s, 0))
		}
		d, by := Required(p, store, others, noon)
		border := int(d / time.Minute)
		if border < 0 || by == "" {
			t.Fatalf("required %s by %q, and a restore in no time keeps every promise\n%s", d, by, w.text.String())
		}
		if !kept(border) || kept(border+1) {
			t.Fatalf("required %dm by %s: kept with it %t, with a minute more %t\n%s", border, by, kept(border), kept(border+1), w.text.String())
		}
	})
}

// The example of three stores, credentials and network: the longest part alone is 70
// minutes, the way along the critical path 155.
func TestCriticalPathOfTheExample(t *testing.T) {
	p := parse(t, `apiVersion: holdfast/v1
plan: {id: x}
tiers: {a: {rto: 2h}}
activation: {automatic: [store-lost]}
stores:
  s1: {kind: files, files: {path: /x/1}}
  s2: {kind: files, files: {path: /x/2}}
  s3: {kind: files, files: {path: /x/3}}
services:
  api: {tier: a, needs: {s1: hard, s2: hard, s3: hard}, runbook: r}
runbooks:
  r:
    detect: 15m
    steps:
      creds: {human: x, est: 10m}
      net: {run: [net], est: 25m, after: [creds]}
      s1: {restore: s1, est: 70m, after: [net]}
      s2: {restore: s2, est: 70m, after: [net]}
      s3: {restore: s3, est: 70m, after: [net]}
      api: {run: [api], est: 20m, after: [s1, s2, s3]}
      verify: {check: api, est: 15m, after: [api]}
      updates: {human: x, est: 45m}
`)
	got := PredictService(p, "api", nil, noon)
	if got.Total.Duration() != 155*time.Minute || got.State != TimeEstimated || got.Verdict != Over {
		t.Errorf("%+v", got)
	}
	if want := []string{"creds", "net", "s1", "api", "verify"}; len(got.Path) != len(want) || got.Path[0] != "creds" || got.Path[4] != "verify" {
		t.Errorf("path %v, want %v", got.Path, want)
	}
	if d, by := Required(p, "s1", nil, noon); d != 85*time.Minute || by != "api" {
		t.Errorf("s1 must be back within %s for %s, want 1h 25m for api", d, by)
	}
}

// A store without a backup is not green, and with an approved exception it is
// excepted until the last day.
func TestUnprotected(t *testing.T) {
	p := parse(t, `apiVersion: holdfast/v1
plan: {id: x}
people: {alice: {name: A}, bob: {name: B}}
stores: {cache: {kind: files, files: {path: /x}}, orders: {kind: files, files: {path: /y}}}
exceptions:
  ex-7: {rule: HF-L11, of: stores.cache, why: rebuilt, by: alice, approved_by: [bob], until: "2026-11-22"}
`)
	for _, tt := range []struct {
		now           time.Time
		cache, orders holdfast.Posture
	}{
		{noon, holdfast.PostureExcepted, holdfast.PostureFailed},
		{noon.Add(11*time.Hour + 59*time.Minute), holdfast.PostureExcepted, holdfast.PostureFailed},
		{noon.Add(12 * time.Hour), holdfast.PostureFailed, holdfast.PostureFailed},
	} {
		o := Look(p, Facts{Now: tt.now})
		if o.Stores[0].Posture != tt.cache || o.Stores[1].Posture != tt.orders || o.Posture != holdfast.PostureFailed {
			t.Errorf("at %s: cache %s, orders %s, all %s", tt.now, o.Stores[0].Posture, o.Stores[1].Posture, o.Posture)
		}
	}
}

// A circle of needs ends in an answer, not in a loop.
func TestCircle(t *testing.T) {
	p := parse(t, "apiVersion: holdfast/v1\nplan: {id: x}\ntiers: {a: {rto: 2h, rpo: 1h}}\nservices: {one: {tier: a, needs: {two: hard}}, two: {tier: a, needs: {one: hard}}}\n")
	o := Look(p, Facts{Now: noon})
	if len(o.Findings) != 1 || o.Services[0].Outage.State != TimeUnknown || len(o.Order) != 0 {
		t.Errorf("%+v", o)
	}
	Required(p, "one", nil, noon)
}
