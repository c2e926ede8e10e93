package importer

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
)

// What a plan promises and how it copies comes back from the document that was
// rendered from it, in every style.
func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range append(files, "../render/testdata/plan.yaml", "../testdata/everything.yaml") {
		p, err := plan.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		styles := []render.Style{render.StyleGeneral}
		if strings.HasSuffix(f, "small-company.yaml") {
			styles = render.Styles()
		}
		for _, style := range styles {
			text := render.Make(p, render.Options{Style: style}).Markdown()
			got, err := Import("policy.md", []byte(text), today)
			if err != nil {
				t.Fatal(err)
			}
			q, err := plan.Parse("plan.yaml", got.Plan)
			if err != nil {
				t.Fatal(err)
			}
			same(t, filepath.Base(f)+" "+string(style), p, q)
		}
	}
}

// same compares the objectives, schedules, roles and dependencies of two plans.
func same(t *testing.T, name string, p, q *plan.Plan) {
	t.Helper()
	differ := func(what string, a, b any) {
		if a != b {
			t.Errorf("%s: %s is %v and comes back as %v", name, what, a, b)
		}
	}
	promise := func(what string, a, b plan.Objective) {
		a.Terms, b.Terms = nil, nil // who agreed stands in the list below the tables
		if len(a.Stages) > 0 {
			return // stages are shown, and are not read back yet
		}
		if a.String() != b.String() {
			t.Errorf("%s: %s is %s and comes back as %s", name, what, a, b)
		}
	}
	differ("owner", p.Plan.Owner, q.Plan.Owner)
	differ("version", p.Plan.Version, q.Plan.Version)
	differ("review", p.Plan.Review.Every, q.Plan.Review.Every)
	differ("organisation", p.Org.Name, q.Org.Name)
	differ("time zone", p.Location().String(), q.Location().String())
	for id, a := range p.Tiers {
		b := q.Tiers[id]
		promise("rto of "+id, a.RTO, b.RTO)
		promise("rpo of "+id, a.RPO, b.RPO)
		differ("mtd of "+id, a.MTD, b.MTD)
		for sc, s := range a.Scenarios {
			promise("rto of "+id+" in "+sc, s.RTO, b.Scenarios[sc].RTO)
			promise("rpo of "+id+" in "+sc, s.RPO, b.Scenarios[sc].RPO)
		}
	}
	for id, a := range p.Severities {
		promise("rto of "+id, a.RTO, q.Severities[id].RTO)
		promise("rpo of "+id, a.RPO, q.Severities[id].RPO)
	}
	for id, a := range p.Scenarios {
		promise("rto of "+id, a.RTO, q.Scenarios[id].RTO)
		promise("rpo of "+id, a.RPO, q.Scenarios[id].RPO)
		differ("delay of "+id, a.DetectionDelay, q.Scenarios[id].DetectionDelay)
	}
	for id, a := range p.Backups {
		b := q.Backups[id]
		differ("schedule of "+id, a.Every.String(), b.Every.String())
		differ("keep of "+id, a.Keep, b.Keep)
		differ("takes of "+id, a.Takes, b.Takes)
		if a.Log != nil && (b.Log == nil || a.Log.MaxLag != b.Log.MaxLag) || a.Log == nil && b.Log != nil {
			t.Errorf("%s: the log of %s is %+v and comes back as %+v", name, id, a.Log, b.Log)
		}
		for l, c := range a.Copies {
			other, ok := b.Copies[l]
			if !ok || other.Every != c.Every {
				t.Errorf("%s: the copy of %s in %s is %v and comes back as %v, %t", name, id, l, c, other, ok)
			}
		}
	}
	for id, a := range p.Drills {
		b := q.Drills[id]
		differ("frequency of "+id, a.Every.String(), b.Every.String())
		differ("stores of "+id, strings.Join(a.Of, " "), strings.Join(b.Of, " "))
		differ("pick of "+id, a.PickOr(), b.PickOr())
		differ("proof of "+id, a.Fresh(), b.Fresh())
	}
	for id, a := range p.Roles {
		differ("holder of "+id, a.Holder, q.Roles[id].Holder)
		differ("deputy of "+id, a.Deputy, q.Roles[id].Deputy)
	}
	for id, a := range p.Services {
		b := q.Services[id]
		differ("tier of "+id, a.Tier, b.Tier)
		differ("needs of "+id, len(a.Needs), len(b.Needs))
		for n, need := range a.Needs {
			differ("need of "+id, need, b.Needs[n])
		}
	}
	differ("stores", len(p.Stores), len(q.Stores))
	differ("services", len(p.Services), len(q.Services))
	differ("backups", len(p.Backups), len(q.Backups))
	differ("locations", len(p.Locations), len(q.Locations))
	for id, a := range p.Stores {
		b := q.Stores[id]
		differ("kind of "+id, a.Kind, b.Kind)
		differ("tier of "+id, a.Tier, b.Tier)
		differ("protection of "+id, a.Protect, b.Protect)
	}
	differ("activation", strings.Join(p.Activation.By, " "), strings.Join(q.Activation.By, " "))
	differ("controls", strings.Join(slices.Sorted(maps.Keys(p.Controls)), " "), strings.Join(slices.Sorted(maps.Keys(q.Controls)), " "))
}

// Texts that were cut, doubled and overgrown at random still give plans that load,
// and no sentence of them is lost.
func TestMangled(t *testing.T) {
	files, err := filepath.Glob("testdata/policies/*.*")
	if err != nil {
		t.Fatal(err)
	}
	var texts [][]byte
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && !strings.HasSuffix(f, ".want") {
			texts = append(texts, b)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		b := slices.Clone(texts[rnd.IntN(len(texts))])
		for range rnd.IntN(8) {
			i := rnd.IntN(len(b))
			j := i + rnd.IntN(len(b)-i)
			switch rnd.IntN(4) {
			case 0:
				b = slices.Delete(b, i, j)
			case 1:
				b = slices.Insert(b, i, slices.Clone(b[i:j])...)
			case 2:
				b[i] = byte(1 + rnd.IntN(127))
			default:
				mark := "|-# \n>*1.:"[rnd.IntN(10):][:1]
				b = slices.Insert(b, i, []byte(strings.Repeat(mark, rnd.IntN(200)))...)
			}
			if len(b) == 0 {
				b = []byte("x")
			}
		}
		p, err := Import("policy.md", b, today)
		if err != nil {
			if strings.Contains(err.Error(), "does not load") {
				t.Fatalf("%v\n%q", err, b)
			}
			continue // it became something that is no text
		}
		if p.Covered+len(p.Uncovered) != p.Sentences {
			t.Fatalf("%d covered and %d listed of %d\n%q", p.Covered, len(p.Uncovered), p.Sentences, b)
		}
	}
}
