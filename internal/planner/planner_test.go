package planner

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
	in := Input{Now: noon, Disruption: noon.Add(-time.Minute), Stores: map[string]Store{}, Services: map[string]Service{}, Runbooks: map[string][]RunStep{}, Away: map[string]string{}}
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
		svc.Runbook = fmt.Sprintf("r%d", rapid.IntRange(0, 4).Draw(t, "runbook"))
		in.Services[id], all = svc, append(all, id)
	}
	for i := range 4 { // r4 is not there
		var book []RunStep
		for k := range rapid.IntRange(0, 4).Draw(t, "steps") {
			rs := RunStep{ID: fmt.Sprintf("h%d", k), Title: "do it", Estimate: time.Duration(rapid.IntRange(0, 40).Draw(t, "takes")) * time.Second}
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				rs.Restore = rapid.SampledFrom(stores).Draw(t, "restores")
			case 1:
				rs.Check = fmt.Sprintf("v%d", rapid.IntRange(0, 7).Draw(t, "checks"))
			default:
				rs.Roles = rapid.SampledFrom([][]string{{"lead"}, {"ops"}, {"lead", "ops"}, {"anybody"}}).Draw(t, "roles")
			}
			for n := range k {
				if rapid.Bool().Draw(t, "after") {
					rs.After = append(rs.After, fmt.Sprintf("h%d", n))
				}
			}
			book = append(book, rs)
		}
		in.Runbooks[fmt.Sprintf("r%d", i)] = book
	}
	in.People = map[string][]string{"lead": {"anna", "ben"}, "ops": {"ben"}}
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
			for _, rs := range in.Runbooks[in.Services[id].Runbook] {
				if _, ok := at[in.Services[id].Runbook+"-"+rs.ID]; ok != (len(rs.Roles) > 0) {
					t.Fatalf("service %s: step %s of its runbook is there: %t", id, rs.ID, ok)
				}
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
			if !slices.Contains(offers, Offer{Location: s.Location, Until: best, Received: signed}) {
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
		if alone := rapid.Bool().Draw(t, "enough people"); alone {
			in.People = nil
		}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		steps := map[string]Step{}
		for _, s := range p.Steps {
			steps[s.ID] = s
			if s.Kind != StepProtect && s.End-s.Begin != s.Estimate {
				t.Fatalf("%s takes from %s to %s, and its estimate is %s", s.ID, s.Begin, s.End, s.Estimate)
			}
		}
		at := time.Duration(0)
		for i, id := range p.Critical {
			s := steps[id]
			if s.Begin != at {
				t.Fatalf("critical path %v: %s begins at %s, not at %s", p.Critical, id, s.Begin, at)
			}
			if i > 0 && !slices.Contains(s.After, p.Critical[i-1]) && !slices.ContainsFunc(s.By, func(who string) bool { return s.Held == who+" is busy with "+p.Critical[i-1] }) {
				t.Fatalf("critical path %v: %s follows neither %s nor somebody who did it: %q", p.Critical, id, p.Critical[i-1], s.Held)
			}
			at = s.End
		}
		if at != p.Time {
			t.Fatalf("the critical path takes %s, the plan %s", at, p.Time)
		}
		// The naive longest path is what it takes with people enough, and never less.
		ends := map[string]time.Duration{}
		for _, s := range p.Steps {
			var begin time.Duration
			for _, a := range s.After {
				begin = max(begin, ends[a])
			}
			ends[s.ID] = begin + s.Estimate
		}
		longest := time.Duration(0)
		for _, pr := range p.Predictions {
			var back func(id string) time.Duration
			back = func(id string) time.Duration {
				want := ends["check-"+id]
				book := in.Services[id].Runbook
				for _, rs := range in.Runbooks[book] {
					want = max(want, ends[book+"-"+rs.ID])
				}
				for _, n := range in.Services[id].Needs {
					if _, hit := ends["check-"+n]; hit {
						want = max(want, back(n))
					}
				}
				return want
			}
			want := back(pr.Service)
			if pr.Time < want || in.People == nil && pr.Time != want {
				t.Fatalf("service %s is predicted after %s, its longest chain takes %s", pr.Service, pr.Time, want)
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
		for _, s := range p.Steps {
			if s.Kind == StepRestore {
				longest = max(longest, s.End)
			}
		}
		if longest != p.Time {
			t.Fatalf("the last that people wait for is there after %s, the plan says %s", longest, p.Time)
		}
	})
}

func world() Input {
	return Input{Now: noon, Disruption: noon, Lost: []string{"db"},
		Stores:   map[string]Store{"db": {Offers: []Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}},
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
	t.Run("blocked in part", func(t *testing.T) {
		in := world()
		in.Lost = []string{"db", "uploads"}
		in.Stores["uploads"] = Store{Locked: "no key is left"}
		in.Services = map[string]Service{"api": {Needs: []string{"db"}}, "files": {Needs: []string{"uploads"}}, "web": {Needs: []string{"api", "files"}}}
		in.Down = []string{"api", "web"} // they were seen to be down, too
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Lost, []string{"db"}) || !slices.Equal(p.Blocked, []string{"uploads"}) || !slices.Equal(p.Down, []string{"files", "web"}) {
			t.Errorf("recovers %q, blocked %q, down %q", p.Lost, p.Blocked, p.Down)
		}
		var steps []string
		for _, s := range p.Steps {
			steps = append(steps, s.ID)
		}
		slices.Sort(steps)
		if want := []string{"check-api", "protect-db", "restore-db"}; !slices.Equal(steps, want) {
			t.Errorf("steps %q, want %q", steps, want)
		}
		if notes := strings.Join(p.Notes, "\n"); !strings.Contains(notes, `"web" stays down`) || !strings.Contains(notes, `"uploads" cannot be recovered: no key is left`) {
			t.Errorf("the notes do not say what stays down:\n%s", notes)
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
		"a":     {Needs: []string{"db"}, Runbook: "a"},
		"a-b":   {Needs: []string{"db"}, Runbook: "a-b"},
		"check": {Needs: []string{"db"}, Runbook: "check"},
	}
	in.Runbooks = map[string][]RunStep{"a": {{ID: "b-c"}}, "a-b": {{ID: "c"}}, "check": {{ID: "a"}}}
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
	in.Stores["db"] = Store{Offers: []Offer{{Location: "near", Until: noon.Add(-2 * time.Hour), Received: true}, {Location: "near", Until: noon.Add(-3 * time.Hour), Received: true}, {Location: "offsite", Until: noon, Received: false}}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `store "db" comes from "near": its data there reaches 2026-11-22 10:00:00.0Z, the newest that the vault has countersigned; "offsite" claims 2026-11-22 12:00:00.0Z without a receipt`; p.Notes[0] != want {
		t.Errorf("%s\nwant:\n%s", p.Notes[0], want)
	}
	in.Stores["db"] = Store{Offers: []Offer{{Location: "near", Until: noon, Received: true}, {Location: "near", Until: noon.Add(-time.Hour), Received: true}}}
	if p, err = Make(in); err != nil || !strings.HasSuffix(p.Notes[0], "the only location within reach") {
		t.Errorf("%v, %v", p.Notes, err)
	}
}

func step(t *testing.T, p Plan, id string) Step {
	t.Helper()
	s, ok := p.Step(id)
	if !ok {
		t.Fatalf("no step %q: %+v", id, p.Steps)
	}
	return s
}

// A runbook is followed as it is written: credentials before the restore, the check after
// somebody has reconnected, the approval last.
func TestPlanFollowsTheRunbook(t *testing.T) {
	in := world()
	in.Services["api"] = Service{Needs: []string{"db"}, Checked: true, Runbook: "rebuild"}
	in.Services["web"] = Service{Needs: []string{"api"}, Runbook: "rebuild"}
	in.Runbooks = map[string][]RunStep{"rebuild": {
		{ID: "declare", Roles: []string{"ic"}, Estimate: 15 * time.Minute},
		{ID: "creds", After: []string{"declare"}, Roles: []string{"lead"}, Estimate: 10 * time.Minute},
		{ID: "db", After: []string{"creds"}, Restore: "db"}, {ID: "start", After: []string{"db"}, Restore: "db"},
		{ID: "reconnect", After: []string{"start"}, Roles: []string{"lead"}, Estimate: 5 * time.Minute},
		{ID: "smoke", After: []string{"reconnect"}, Check: "api"},
		{ID: "go-live", After: []string{"smoke"}, Roles: []string{"lead", "ic"}, Estimate: 10 * time.Minute},
	}}
	in.People = map[string][]string{"ic": {"anna"}, "lead": {"anna", "ben"}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, s := range p.Steps {
		order = append(order, s.ID)
	}
	if got := strings.Join(order, " "); got != "rebuild-declare rebuild-creds restore-db protect-db rebuild-reconnect check-api check-web rebuild-go-live" {
		t.Error(got)
	}
	if s := step(t, p, "rebuild-go-live"); !slices.Equal(s.By, []string{"ben", "anna"}) || s.Begin != 31*time.Minute+checkTime {
		t.Errorf("two people approve: %+v", s)
	}
	if p.Time != 41*time.Minute+checkTime || p.Predictions[0].Time != p.Time {
		t.Errorf("%s: %v", p.Time, p.Critical)
	}

	// Anna is lost: nobody commands, and nothing that waits for the command happens.
	in.People = map[string][]string{"ic": {}, "lead": {"ben"}}
	in.Missing = map[string]string{"ic": "anna is lost, and no deputy is named"}
	if p, err = Make(in); err != nil {
		t.Fatal(err)
	}
	if s := step(t, p, "restore-db"); s.Blocked != `nobody is left for "ic": anna is lost, and no deputy is named` {
		t.Errorf("%+v", s)
	}
	if p.Predictions[0].Blocked == "" || len(p.Choices) != 1 || p.Choices[0].Of != "roles.ic" {
		t.Errorf("%+v %+v", p.Predictions, p.Choices)
	}

	// Both roles are Ben's: he cannot be two people at the end, but all before is done.
	in.People = map[string][]string{"ic": {"ben"}, "lead": {"ben"}}
	if p, err = Make(in); err != nil {
		t.Fatal(err)
	}
	if step(t, p, "check-api").Blocked != "" || !strings.Contains(step(t, p, "rebuild-go-live").Blocked, "different people") {
		t.Errorf("%+v", p.Steps)
	}
}

// Runbooks that contradict what the services need must not keep a recovery from beginning.
func TestContradictingRunbooks(t *testing.T) {
	in := world()
	in.Services["api"] = Service{Needs: []string{"db"}, Runbook: "rebuild"}
	in.Services["web"] = Service{Needs: []string{"api"}, Runbook: "rebuild"}
	in.Runbooks = map[string][]RunStep{"rebuild": {
		{ID: "web", Check: "web"}, {ID: "call", After: []string{"web"}, Roles: []string{"lead"}}, {ID: "api", After: []string{"call"}, Check: "api"},
	}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) != 5 || !strings.Contains(strings.Join(p.Notes, " "), "cannot be followed") {
		t.Errorf("%v: %+v", p.Notes, p.Steps)
	}
}

func TestPlanAnyhow(t *testing.T) {
	in := world()
	in.Lost, in.Anyhow = []string{"db", "files"}, true
	in.Stores["files"] = Store{Offers: []Offer{{Location: "near", Until: noon, Received: true}}, Locked: "no key is left"}
	in.Services["web"] = Service{Needs: []string{"files", "api"}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if step(t, p, "check-api").Blocked != "" || !strings.Contains(step(t, p, "check-web").Blocked, "no key is left") || p.Time != time.Minute {
		t.Errorf("%s %+v", p.Time, p.Steps)
	}
	in.Anyhow = false
	if p, err = Make(in); err != nil || !slices.Equal(p.Lost, []string{"db"}) {
		t.Errorf("a real recovery leaves the files out, and brings back %q: %v", p.Lost, err)
	}
	in.Lost, in.Down = nil, []string{"api"}
	if p, err = Make(in); err != nil || len(p.Steps) != 2 || len(p.Predictions) != 2 {
		t.Errorf("a service alone: %v, %+v", err, p)
	}
}

// Restores that read from one location share it; playing the plan with its own times gives
// its own answer.
func TestLocationIsShared(t *testing.T) {
	in := world()
	in.Lost = []string{"db", "files"}
	in.Stores["db"] = Store{Offers: []Offer{{Location: "near", Until: noon, Received: true}}, Estimate: 10 * time.Minute, Fetch: 8 * time.Minute}
	in.Stores["files"] = Store{Offers: []Offer{{Location: "near", Until: noon, Received: true}}, Estimate: 8 * time.Minute, Fetch: 8 * time.Minute}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if p.Time != 18*time.Minute {
		t.Errorf("two transfers of 8 minutes, then 2: %s", p.Time)
	}
	tm, err := in.Timing(p)
	if err != nil {
		t.Fatal(err)
	}
	for n, s := range tm.Order.Play(nil) {
		if want := p.Steps[tm.Steps[n]]; s.Begin != want.Begin || s.End != want.End {
			t.Errorf("%s: %+v", want.ID, s)
		}
	}
}

// The level that a first stage asks for is measured as soon as the service is usable, that of a
// later one when people are done; neither takes part in the time that is foreseen.
func TestLevelsAreMeasuredInTheirTurn(t *testing.T) {
	in := world()
	in.Services["api"] = Service{Needs: []string{"db"}, Checked: true, Runbook: "rebuild", Levels: []Level{{Stage: "back", Share: "90%", First: true}, {Stage: "normal", Share: "100%"}}}
	in.Runbooks = map[string][]RunStep{"rebuild": {{ID: "smoke", Check: "api"}, {ID: "tell", After: []string{"smoke"}, Roles: []string{"ic"}, Estimate: time.Minute}}}
	p, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if s := step(t, p, "level~api~back"); s.Kind != StepLevel || s.Level != "90%" || s.Stage != "back" || !slices.Equal(s.After, []string{"check-api"}) {
		t.Errorf("%+v", s)
	}
	if s := step(t, p, "level~api~normal"); !slices.Equal(s.After, []string{"check-api", "rebuild-tell"}) || s.End != 0 {
		t.Errorf("%+v", s)
	}
	if p.Time != 2*time.Minute+checkTime {
		t.Errorf("%s are foreseen", p.Time)
	}
}

// What is left is not the newest state: people hear what it costs, and nothing is restored
// before one of them takes it.
func TestLossIsAsked(t *testing.T) {
	base := noon.Add(-8 * time.Hour)
	for _, tt := range []struct {
		name   string
		offer  Offer
		target holdfast.Target
	}{
		{"log up to a hole", Offer{Location: "near", Until: base.Add(time.Hour), Received: true, Hole: "log is missing"}, holdfast.Target{Kind: holdfast.TargetTime, Time: base.Add(time.Hour)}},
		{"no log", Offer{Location: "near", Until: base, Received: true, Hole: "log is missing", Base: true}, holdfast.Target{Kind: holdfast.TargetImmediate}},
	} {
		in := Input{Now: noon, Disruption: noon, Lost: []string{"db"}, Stores: map[string]Store{"db": {Offers: []Offer{tt.offer}, Estimate: time.Minute}},
			People: map[string][]string{"lead": {"ann"}}, Deciders: []string{"lead"}}
		p, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		take, ok := p.Step("take-loss-db")
		restore, _ := p.Step("restore-db")
		if !ok || take.Kind != StepHuman || take.Role != "lead" || !slices.Contains(restore.After, take.ID) || restore.Target != tt.target || restore.Begin < take.End {
			t.Errorf("%s: %+v, then %+v", tt.name, take, restore)
		}
		if len(p.Choices) != 1 || !strings.Contains(p.Choices[0].What, "log is missing") || !strings.Contains(p.Choices[0].What, "is lost, up to") {
			t.Errorf("%s: the choices are %+v", tt.name, p.Choices)
		}
		in.Stores["db"] = Store{Offers: []Offer{{Location: "near", Until: noon, Received: true}}, Estimate: time.Minute}
		if p, err := Make(in); err != nil || len(p.Choices) != 0 {
			t.Errorf("nothing is lost, and the choices are %+v, %v", p.Choices, err)
		}
	}
}
