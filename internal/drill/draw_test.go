package drill

import (
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
)

func drawOffers(t *rapid.T) []holdfast.Window {
	var out []holdfast.Window
	for i := range rapid.IntRange(1, 8).Draw(t, "windows") {
		from := noon.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "from")))
		out = append(out, holdfast.Window{Location: rapid.SampledFrom([]string{"near", "offsite"}).Draw(t, "location"), Snapshot: fmt.Sprint(i),
			From: from, To: from.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "span")))})
	}
	return out
}

func within(d Drill, offers []holdfast.Window) bool {
	return slices.ContainsFunc(offers, func(w holdfast.Window) bool {
		return w.Location == d.Location && !d.Target.Time.Before(w.From) && !d.Target.Time.After(w.To)
	})
}

func TestDrawIsReproducibleAndWithinTheWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offers := drawOffers(t)
		seed := rapid.Uint64().Draw(t, "seed")
		pick := rapid.SampledFrom([]string{"random", "latest", "oldest", "chosen"}).Draw(t, "pick")
		again := func() Drill {
			return draw(Drill{Seed: seed, Pick: pick}, slices.Clone(offers), mathrand.New(mathrand.NewPCG(seed, 0)))
		}
		d := again()
		if !reflect.DeepEqual(d, again()) {
			t.Fatalf("two draws of one seed differ: %+v, %+v", d, again())
		}
		newest, oldest := offers[0], offers[0]
		for _, w := range offers {
			if w.To.After(newest.To) {
				newest = w
			}
			if w.From.Before(oldest.From) {
				oldest = w
			}
		}
		switch pick {
		case "latest":
			if d.Target.Kind != holdfast.TargetLatest || !slices.ContainsFunc(offers, func(w holdfast.Window) bool { return w.Location == d.Location && w.To.Equal(newest.To) }) {
				t.Fatalf("%+v of %+v", d.Target, offers)
			}
		case "oldest":
			if !d.Target.Time.Equal(oldest.From) || !within(d, offers) {
				t.Fatalf("%+v of %+v", d.Target, offers)
			}
		default:
			if d.Target.Kind != holdfast.TargetTime || !within(d, offers) {
				t.Fatalf("%s at %s is in none of %+v", d.Target, d.Location, offers)
			}
		}
		// An instant that was asked for decides the location.
		at := rapid.SampledFrom(offers).Draw(t, "asked").To
		d = draw(Drill{Pick: "chosen", Target: holdfast.Target{Kind: holdfast.TargetTime, Time: at}}, offers, mathrand.New(mathrand.NewPCG(seed, 0)))
		if !within(d, offers) || !d.Target.Time.Equal(at) {
			t.Fatalf("%s was asked for, %s at %s drawn", at, d.Target, d.Location)
		}
	})
}

// Each window is drawn about as often as each other, and each part of a window as
// each other part. The seeds are fixed, so the test cannot fail by chance.
func TestDrawIsUniform(t *testing.T) {
	const draws, windows, parts = 20_000, 7, 5
	var offers []holdfast.Window
	for i := range windows {
		from := noon.Add(time.Duration(i) * 24 * time.Hour)
		offers = append(offers, holdfast.Window{Location: fmt.Sprint(i), From: from, To: from.Add(time.Duration(1+i*i) * time.Minute)})
	}
	var byWindow [windows]int
	var byPart [parts]int
	for seed := range uint64(draws) {
		d := draw(Drill{Seed: seed, Pick: "random"}, offers, mathrand.New(mathrand.NewPCG(seed, 0)))
		i := slices.IndexFunc(offers, func(w holdfast.Window) bool { return w.Location == d.Location })
		byWindow[i]++
		w := offers[i]
		byPart[min(parts-1, int(parts*d.Target.Time.Sub(w.From)/w.To.Sub(w.From)))]++
	}
	chi := func(counts []int) float64 {
		want := float64(draws) / float64(len(counts))
		sum := 0.0
		for _, n := range counts {
			sum += (float64(n) - want) * (float64(n) - want) / want
		}
		return sum
	}
	// The 99.9 % quantiles of chi-square for 6 and 4 degrees of freedom.
	if c := chi(byWindow[:]); c > 22.46 {
		t.Errorf("windows are drawn %v, chi-square %f", byWindow, c)
	}
	if c := chi(byPart[:]); c > 18.47 {
		t.Errorf("parts of windows are drawn %v, chi-square %f", byPart, c)
	}
}

func TestSeedsDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for range 1000 {
		s := newSeed()
		if seen[s] {
			t.Fatal("a seed was drawn twice")
		}
		seen[s] = true
	}
}

// Whoever has the seed on record and the windows can draw again what was drawn.
func TestDrawOnRecordCanBeRepeated(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		for range 6 {
			r.write("a", 100)
			r.snapshot("near")
		}
		p, err := r.place(t.Context(), "near")
		if err != nil {
			t.Fatal(err)
		}
		ws, err := r.store.Windows(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ws {
			ws[i].Location = "near"
		}
		for range 10 {
			d := r.get(r.plan(Request{Goal: holdfast.L3}).ID)
			if again := draw(Drill{Seed: d.Seed, Pick: d.Pick}, ws, mathrand.New(mathrand.NewPCG(d.Seed, 0))); again.Target != d.Target || again.Location != d.Location {
				t.Errorf("drawn %s at %s, again %s at %s", d.Target, d.Location, again.Target, again.Location)
			}
		}
	})
}

// A location that a person names takes nothing from how the instant is picked.
func TestPickWithinALocation(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.write("a", 100)
		r.snapshot("near")
		for pick, want := range map[string]string{"latest": "latest", "oldest": "oldest", "random": "chosen", "": "chosen"} {
			d := r.get(r.plan(Request{Goal: holdfast.L3, Pick: pick, Location: "near"}).ID)
			if d.Pick != want || d.Location != "near" {
				t.Errorf("pick %q at near: drawn as %q at %q, want %q", pick, d.Pick, d.Location, want)
			}
			if latest := d.Target.Kind == holdfast.TargetLatest; latest != (want == "latest") {
				t.Errorf("pick %q at near: target %s", pick, d.Target)
			}
		}
	})
}

// A drill of the plan restores from the one location that the plan names, and what is drawn
// there counts as drawn.
func TestDeclaredLocation(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.hooks.sub.Locations = []string{"near", "offsite"}
		r.write("a", 100)
		r.snapshot("offsite")
		r.pass(time.Hour)
		r.write("a", 200)
		r.snapshot("near")
		r.hooks.from = "offsite"
		for _, pick := range []string{"latest", "random"} {
			if d := r.get(r.plan(Request{Name: "weekly", Goal: holdfast.L3, Pick: pick}).ID); d.Location != "offsite" || d.Pick != pick {
				t.Errorf("pick %s: %s at %q", pick, d.Pick, d.Location)
			}
		}
		if d := r.get(r.plan(Request{Name: "weekly", Goal: holdfast.L3, Pick: "latest", Location: "near"}).ID); d.Location != "near" {
			t.Errorf("a person asked for near, and it went to %q", d.Location)
		}
	})
}
