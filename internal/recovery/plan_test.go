package recovery

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// drawInput draws a world without circles: services need stores and services of a
// lower number.
func drawInput(t *rapid.T) Input {
	in := Input{Now: noon, Disruption: noon.Add(-time.Minute), Stores: map[string]Store{}, Services: map[string]Service{}, Away: map[string]string{}}
	var stores []string
	for i := range rapid.IntRange(1, 6).Draw(t, "stores") {
		id := fmt.Sprintf("s%d", i)
		st := Store{Estimate: time.Duration(rapid.IntRange(0, 90).Draw(t, "estimate")) * time.Second, Basis: holdfast.Measured}
		for range rapid.IntRange(1, 5).Draw(t, "offers") {
			st.Offers = append(st.Offers, Offer{
				Location: rapid.SampledFrom([]string{"near", "offsite", "vault"}).Draw(t, "location"),
				Until:    noon.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Hour),
				Received: rapid.Bool().Draw(t, "received"),
			})
		}
		in.Stores[id], stores = st, append(stores, id)
	}
	all := slices.Clone(stores)
	for i := range rapid.IntRange(0, 8).Draw(t, "services") {
		id := fmt.Sprintf("v%d", i)
		svc := Service{Checked: rapid.Bool().Draw(t, "checked"), RTO: time.Hour, RPO: time.Minute}
		for range rapid.IntRange(0, 3).Draw(t, "needs") {
			svc.Needs = append(svc.Needs, rapid.SampledFrom(all).Draw(t, "need"))
		}
		for k := range rapid.IntRange(0, 2).Draw(t, "human") {
			svc.Human = append(svc.Human, Step{ID: fmt.Sprintf("h%d", k), Title: "tell them", Role: "lead"})
		}
		in.Services[id], all = svc, append(all, id)
	}
	in.Lost = rapid.SliceOfN(rapid.SampledFrom(stores), 1, 6).Draw(t, "lost")
	return in
}

// reaches is the naive model: does id need a lost store?
func reaches(in Input, id string) map[string]bool {
	out := map[string]bool{}
	if slices.Contains(in.Lost, id) {
		out[id] = true
		return out
	}
	for _, n := range in.Services[id].Needs {
		maps.Copy(out, reaches(in, n))
	}
	return out
}

func TestPlansOrderWhatTheyContain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]int{}
		for i, s := range p.Steps {
			if _, twice := at[s.ID]; twice {
				t.Fatalf("step %q stands twice", s.ID)
			}
			at[s.ID] = i
			for _, a := range s.After {
				if k, ok := at[a]; !ok || k >= i {
					t.Fatalf("step %q comes before %q, which it follows", s.ID, a)
				}
			}
		}
		for id := range in.Services {
			hit := len(reaches(in, id)) > 0
			i, ok := at["check-"+id]
			if ok != hit {
				t.Fatalf("service %s needs a lost store: %t; is checked: %t", id, hit, ok)
			}
			if !ok {
				continue
			}
			for st := range reaches(in, id) {
				if at["restore-"+st] > i {
					t.Fatalf("service %s is checked before store %s is back", id, st)
				}
			}
			humans := 0
			for _, s := range p.Steps {
				if s.Kind == StepHuman && s.Service == id {
					humans++
				}
			}
			if humans != len(in.Services[id].Human) {
				t.Fatalf("service %s: %d steps for people of %d", id, humans, len(in.Services[id].Human))
			}
		}
		for id := range in.Stores {
			_, restored := at["restore-"+id]
			_, protected := at["protect-"+id]
			if lost := slices.Contains(in.Lost, id); restored != lost || protected != lost {
				t.Fatalf("store %s: lost %t, restored %t, protected %t", id, lost, restored, protected)
			}
		}
	})
}

func TestPlansAreDeterministicAndLeaveTheirInputAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		before := fmt.Sprintf("%+v", in)
		a, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if after := fmt.Sprintf("%+v", in); after != before {
			t.Fatalf("the planner changed its input:\n%s\n%s", before, after)
		}
		// The same facts in another order are the same facts.
		slices.Reverse(in.Lost)
		for id, s := range in.Services {
			s.Needs = slices.Clone(s.Needs)
			slices.Reverse(s.Needs)
			in.Services[id] = s
		}
		for id, s := range in.Stores {
			s.Offers = slices.Clone(s.Offers)
			slices.Reverse(s.Offers)
			in.Stores[id] = s
		}
		b, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if a.Digest() != b.Digest() {
			t.Fatalf("two plans of one situation:\n%+v\n%+v", a, b)
		}
	})
}

func TestPlansChooseTheNewestCountersignedData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps {
			if s.Kind != StepRestore {
				continue
			}
			offers := in.Stores[s.Store].Offers
			signed := slices.ContainsFunc(offers, func(o Offer) bool { return o.Received })
			var best time.Time
			for _, o := range offers {
				if o.Received == signed && o.Until.After(best) {
					best = o.Until
				}
			}
			if !slices.Contains(offers, Offer{s.Location, best, signed}) {
				t.Fatalf("%s comes from %s, which does not hold the newest data (%s, countersigned %t): %+v", s.Store, s.Location, best, signed, offers)
			}
			if s.Target.Kind != holdfast.TargetLatest {
				t.Fatalf("target %v is not explicit", s.Target)
			}
		}
	})
}

func TestTheCriticalPathSumsToThePrediction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		steps := map[string]Step{}
		for _, s := range p.Steps {
			steps[s.ID] = s
		}
		var sum time.Duration
		for i, id := range p.Critical {
			sum += steps[id].Estimate
			if i > 0 && !slices.Contains(steps[id].After, p.Critical[i-1]) {
				t.Fatalf("critical path %v: %s does not follow %s", p.Critical, id, p.Critical[i-1])
			}
		}
		if sum != p.Time {
			t.Fatalf("the critical path takes %s, the plan %s", sum, p.Time)
		}
		// Nothing that somebody waits for ends later than the plan says, and the
		// predictions are those of a naive longest path.
		var ends func(id string) time.Duration
		ends = func(id string) time.Duration {
			var begin time.Duration
			for _, a := range steps[id].After {
				begin = max(begin, ends(a))
			}
			return begin + steps[id].Estimate
		}
		var longest time.Duration
		for _, pr := range p.Predictions {
			if pr.Time != ends("check-"+pr.Service) {
				t.Fatalf("service %s is predicted after %s, the steps say %s", pr.Service, pr.Time, ends("check-"+pr.Service))
			}
			longest = max(longest, pr.Time)
			var loss time.Duration
			for st := range reaches(in, pr.Service) {
				i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.ID == "restore-"+st })
				o := slices.IndexFunc(in.Stores[st].Offers, func(o Offer) bool {
					return o.Location == p.Steps[i].Location && strings.HasPrefix(p.Steps[i].Why, "its data there reaches "+o.Until.Format("2006-01-02 15:04:05"))
				})
				loss = max(loss, in.Disruption.Sub(in.Stores[st].Offers[o].Until))
			}
			if pr.Loss != loss {
				t.Fatalf("service %s loses %s, predicted %s", pr.Service, loss, pr.Loss)
			}
		}
		if len(p.Predictions) > 0 && longest != p.Time {
			t.Fatalf("the last service is usable after %s, the plan says %s", longest, p.Time)
		}
		if len(p.Predictions) == 0 && len(p.Critical) != 1 {
			t.Fatalf("no service needs what is lost: the critical path is %v, not the longest restore", p.Critical)
		}
	})
}

func world() Input {
	return Input{Now: noon, Disruption: noon, Lost: []string{"db"},
		Stores:   map[string]Store{"db": {Offers: []Offer{{"near", noon, true}}, Estimate: time.Minute}},
		Services: map[string]Service{"api": {Needs: []string{"db"}}}}
}

func TestPlansThatCannotBeMade(t *testing.T) {
	t.Run("nothing lost", func(t *testing.T) {
		in := world()
		in.Lost = nil
		if _, err := Make(in); !errors.Is(err, holdfast.ErrUsage) {
			t.Error(err)
		}
	})
	t.Run("unknown store", func(t *testing.T) {
		in := world()
		in.Lost = []string{"db", "dc"}
		if _, err := Make(in); err == nil || !strings.Contains(err.Error(), `"dc"`) {
			t.Error(err)
		}
	})
	t.Run("blocked", func(t *testing.T) {
		in := world()
		in.Stores["db"] = Store{}
		in.Away = map[string]string{"near": "not mounted", "offsite": "connection refused"}
		_, err := Make(in)
		var blocked *Blocked
		if !errors.As(err, &blocked) || blocked.Store != "db" || holdfast.Hint(err) == "" {
			t.Fatal(err)
		}
		for _, want := range []string{`"db"`, `location "near": not mounted`, `location "offsite": connection refused`, "no location within reach holds"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %s", err, want)
			}
		}
	})
	t.Run("circle", func(t *testing.T) {
		in := world()
		in.Services = map[string]Service{"a": {Needs: []string{"b"}}, "b": {Needs: []string{"c"}}, "c": {Needs: []string{"db", "b"}}}
		if _, err := Make(in); err == nil || !strings.HasSuffix(err.Error(), ": b needs c needs b") {
			t.Error(err)
		}
	})
}

func TestStoreThatWasReportedTwiceComesBackOnce(t *testing.T) {
	in := world()
	once, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Lost = []string{"db", "db"}
	twice, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(once, twice) {
		t.Errorf("%+v\n%+v", once, twice)
	}
}

func TestIdsOfStepsDifferWhateverThePlanCallsThings(t *testing.T) {
	in := world()
	in.Services = map[string]Service{
		"a":     {Needs: []string{"db"}, Human: []Step{{ID: "b-c"}}},
		"a-b":   {Needs: []string{"db"}, Human: []Step{{ID: "c"}}},
		"check": {Needs: []string{"db"}, Human: []Step{{ID: "a"}}},
	}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, s := range p.Steps {
		ids[s.ID] = true
	}
	if len(p.Steps) != 8 || len(ids) != 8 {
		t.Errorf("%d steps, %d ids: %v", len(p.Steps), len(ids), ids)
	}
}

func TestPlanTellsWhatPeopleMayWantToDecideOtherwise(t *testing.T) {
	in := world()
	in.Stores["db"] = Store{Offers: []Offer{{"near", noon.Add(-2 * time.Hour), true}, {"near", noon.Add(-3 * time.Hour), true}, {"offsite", noon, false}}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `store "db" comes from "near": its data there reaches 2026-11-22 10:00:00.0Z, the newest that the vault has countersigned; "offsite" claims 2026-11-22 12:00:00.0Z without a receipt`; p.Notes[0] != want {
		t.Errorf("%s\nwant:\n%s", p.Notes[0], want)
	}
	in.Stores["db"] = Store{Offers: []Offer{{"near", noon, true}, {"near", noon.Add(-time.Hour), true}}}
	if p, err = Make(in); err != nil || !strings.HasSuffix(p.Notes[0], "the only location within reach") {
		t.Errorf("%v, %v", p.Notes, err)
	}
}
