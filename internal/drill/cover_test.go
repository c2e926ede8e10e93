package drill

import (
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
)

// Every part that aim returns lies in its window and in the class of age that was drawn,
// and one seed draws the same again.
func TestAimStaysInItsCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon.Add(time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(t, "now")))
		offers := drawOffers(t)
		done := map[Cell]bool{}
		for _, a := range Ages {
			if rapid.Bool().Draw(t, "done") {
				done[Cell{"files", "near", a.Name}] = true
			}
		}
		seed := rapid.Uint64().Draw(t, "seed")
		again := func() Drill {
			d := Drill{Kind: "files", Seed: seed, Pick: "random", Planned: now}
			r := mathrand.New(mathrand.NewPCG(seed, 0))
			parts, open := aim("files", slices.Clone(offers), done, now, r)
			d.Aim = &Aim{Open: open}
			return draw(d, parts, r)
		}
		d := again()
		if !reflect.DeepEqual(d, again()) {
			t.Fatal("two draws of one seed differ")
		}
		if !within(d, offers) {
			t.Fatalf("%s at %s is in none of %+v", d.Target, d.Location, offers)
		}
		if len(d.Aim.Open) > 0 && !slices.Contains(d.Aim.Open, *d.Cell) {
			t.Fatalf("drawn %v, open were %v", *d.Cell, d.Aim.Open)
		}
		if slices.ContainsFunc(d.Aim.Open, func(c Cell) bool { return done[c] }) {
			t.Fatalf("open are %v, done are %v", d.Aim.Open, done)
		}
	})
}

// As many draws as there are cells reach all of them, whatever the seeds are.
func TestAimFillsThePeriod(t *testing.T) {
	now := noon
	offers := []holdfast.Window{
		{Location: "near", From: now.Add(-40 * 24 * time.Hour), To: now}, // a log: every instant
		{Location: "offsite", From: now.Add(-3 * 24 * time.Hour), To: now.Add(-3 * 24 * time.Hour)},
		{Location: "offsite", From: now.Add(-24 * time.Hour), To: now.Add(-24 * time.Hour)}, // on the edge: it is a day old
	}
	for seed := range uint64(200) {
		done := map[Cell]bool{}
		for n := range uint64(5) {
			r := mathrand.New(mathrand.NewPCG(seed, n))
			parts, open := aim("postgres", slices.Clone(offers), done, now, r)
			if want := 5 - int(n); len(open) != want {
				t.Fatalf("seed %d, draw %d: %d cells are open: %v", seed, n, len(open), open)
			}
			done[*draw(Drill{Kind: "postgres", Pick: "random", Planned: now}, parts, r).Cell] = true
		}
		if len(done) != 5 {
			t.Fatalf("seed %d: %v", seed, done)
		}
		r := mathrand.New(mathrand.NewPCG(seed, 9))
		if parts, open := aim("postgres", offers, done, now, r); len(open) != 0 || len(parts) == 0 {
			t.Fatalf("seed %d: with nothing open: %v of %v", seed, parts, open)
		}
	}
}

// The draws of one module, one after the other, go to cell after cell; what is on record
// is enough to draw again.
func TestScheduledDrawsGoRound(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 100)
		r.snapshot("near")
		r.m.cfg.Period = func(at time.Time) (time.Time, time.Time) {
			from := at.Truncate(100 * 24 * time.Hour)
			return from, from.Add(100 * 24 * time.Hour)
		}
		d := r.get(r.plan(Request{Goal: holdfast.L3}).ID)
		if d.Cell == nil || d.Aim == nil || !reflect.DeepEqual(d.Aim.Open, []Cell{*d.Cell}) {
			t.Fatalf("the first draw: %+v, %+v", d.Aim, d.Cell)
		}
		e := r.get(r.plan(Request{Goal: holdfast.L3}).ID)
		if e.Cell == nil || *e.Cell != *d.Cell || len(e.Aim.Open) != 0 {
			t.Fatalf("the second draw: %+v, %+v", e.Aim, e.Cell)
		}
	})
}

func TestCover(t *testing.T) {
	from, to := noon, noon.Add(90*24*time.Hour)
	cell := func(l, age string) *Cell { return &Cell{"files", l, age} }
	there := map[Cell]bool{*cell("near", "under 1d"): true, *cell("near", "1d to 7d"): true, *cell("offsite", "under 1d"): true, *cell("offsite", "1d to 7d"): false}
	ds := []Drill{
		{ID: "1", Cell: cell("near", "under 1d"), State: StateFailed, Goal: holdfast.L3, Finished: noon},
		{ID: "2", Cell: cell("near", "under 1d"), State: StatePassed, Goal: holdfast.L3, Finished: noon},
		{ID: "3", Cell: cell("near", "1d to 7d"), State: StateShort, Goal: holdfast.L6, Finished: noon},
		{ID: "4", Cell: cell("offsite", "under 1d"), State: StatePassed, Goal: holdfast.L2, Finished: noon}, // nothing was restored
		{ID: "5", Cell: cell("offsite", "under 1d"), State: StateRunning, Goal: holdfast.L3},
		{ID: "6", Cell: cell("gone", "over 30d"), State: StatePassed, Goal: holdfast.L3, Finished: noon},
		{ID: "7", State: StatePassed, Goal: holdfast.L3},
	}
	var got []string
	c := Cover(ds, there, from, to, to)
	for _, x := range c.Cells {
		got = append(got, x.Cell.String()+": "+x.State)
	}
	want := []string{"files at gone, over 30d old: proved", "files at near, under 1d old: proved", "files at near, 1d to 7d old: failed", "files at offsite, under 1d old: empty", "files at offsite, 1d to 7d old: absent"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if fs := c.Findings(); len(fs) != 1 || fs[0].Subject != "locations.offsite" {
		t.Errorf("at the end of the period: %v", fs)
	}
	if fs := Cover(ds, there, from, to, to.Add(-1)).Findings(); len(fs) != 0 {
		t.Errorf("before its end: %v", fs)
	}
}
