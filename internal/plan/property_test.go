package plan

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/calendar"
)

// The arithmetic of the schedule lint equals what a minute-by-minute simulation of
// snapshots and copies sees at worst.
func TestWorstLossAgainstSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := rapid.IntRange(1, 40).Draw(t, "every")
		takes := rapid.IntRange(0, every).Draw(t, "takes")
		cycle := rapid.IntRange(0, 60).Draw(t, "cycle")
		minutes := func(n int) Period { return Period{Duration: time.Duration(n) * time.Minute} }
		rec, err := calendar.ParseRecurrence(fmt.Sprintf("every %dm", every))
		if err != nil {
			t.Fatal(err)
		}
		b := Backup{Every: rec, Takes: minutes(takes), Copies: Copies{"a": Copy{Every: minutes(cycle)}}}
		bound := worstLoss(b, "a").total

		// A snapshot captured at c is complete at c+takes, and reaches the location in
		// the first cycle that begins then or later. The phase of the cycle is arbitrary.
		phase := 0
		if cycle > 0 {
			phase = rapid.IntRange(0, cycle-1).Draw(t, "phase")
		}
		worst, newest := 0, -1
		for now := range 6 * (every + cycle + 1) {
			arrives := now
			if cycle > 0 && (now-phase)%cycle != 0 {
				arrives = -1
			}
			// Until just before this minute's arrivals, the loss is counted to this minute.
			if newest >= 0 {
				worst = max(worst, now-newest)
			}
			if arrives >= 0 {
				for c := 0; c+takes <= now; c += every {
					newest = max(newest, c)
				}
			}
		}
		if got := time.Duration(worst) * time.Minute; got > bound {
			t.Fatalf("the simulation lost %s, the lint allows for %s", got, bound)
		}
		if cycle == 0 && time.Duration(worst)*time.Minute != bound {
			t.Fatalf("the simulation lost %dm at worst, the lint says %s", worst, bound)
		}
	})
}

// Any graph: the waves hold every node once and after its needs, or there is a cycle.
func TestWavesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "n")
		var nodes []string
		for i := range n {
			nodes = append(nodes, fmt.Sprint("n", i))
		}
		needs := map[string][]string{}
		for _, a := range nodes {
			for _, b := range nodes {
				if rapid.IntRange(0, 4).Draw(t, "edge") == 0 {
					needs[a] = append(needs[a], b)
				}
			}
		}
		order, cycle := waves(nodes, func(id string) []string { return needs[id] })

		// The model: who can reach itself?
		var reach func(from, to string, seen map[string]bool) bool
		reach = func(from, to string, seen map[string]bool) bool {
			for _, x := range needs[from] {
				if x == to {
					return true
				}
				if !seen[x] {
					seen[x] = true
					if reach(x, to, seen) {
						return true
					}
				}
			}
			return false
		}
		circular := slices.ContainsFunc(nodes, func(id string) bool { return reach(id, id, map[string]bool{}) })
		if circular != (cycle != nil) {
			t.Fatalf("circular %t, cycle %v", circular, cycle)
		}
		if circular {
			if cycle[0] != cycle[len(cycle)-1] {
				t.Fatalf("not a circle: %v", cycle)
			}
			for i := range len(cycle) - 1 {
				if !slices.Contains(needs[cycle[i]], cycle[i+1]) {
					t.Fatalf("%v: %s does not need %s", cycle, cycle[i], cycle[i+1])
				}
			}
			return
		}
		wave := map[string]int{}
		for i, w := range order {
			for _, id := range w {
				wave[id] = i + 1
			}
		}
		if len(wave) != n {
			t.Fatalf("%d of %d nodes are in waves", len(wave), n)
		}
		for a, bs := range needs {
			for _, b := range bs {
				if wave[b] >= wave[a] {
					t.Fatalf("%s needs %s, and comes back no later", a, b)
				}
			}
		}
	})
}

// The critical path and the tails equal the longest chain that enumeration finds.
func TestCriticalPathAgainstEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "n")
		var r Runbook
		for i := range n {
			st := Step{ID: fmt.Sprint("s", i), Est: Estimate{Period: Period{Duration: time.Duration(rapid.IntRange(0, 5).Draw(t, "est")) * time.Minute}}}
			for j := range i {
				if rapid.Bool().Draw(t, "after") {
					st.After = append(st.After, fmt.Sprint("s", j))
				}
			}
			r.Steps = append(r.Steps, st)
		}
		r.Steps = rapid.Permutation(r.Steps).Draw(t, "order")
		var longest func(id string) time.Duration
		longest = func(id string) time.Duration {
			st, _ := r.Steps.Get(id)
			var before time.Duration
			for _, a := range st.After {
				before = max(before, longest(a))
			}
			return before + st.Estimated()
		}
		var want time.Duration
		for _, st := range r.Steps {
			want = max(want, longest(st.ID))
		}
		path, got := r.CriticalPath(Step.Estimated)
		var along time.Duration
		for i, id := range path {
			st, _ := r.Steps.Get(id)
			along += st.Estimated()
			if i > 0 && !slices.Contains(st.After, path[i-1]) {
				t.Fatalf("%v is not a chain", path)
			}
		}
		if got != want || along != want {
			t.Fatalf("critical path %v takes %s (along it %s), want %s", path, got, along, want)
		}
		// A step's own chain before it, itself and its tail is never beyond the whole,
		// and for the steps on the path it is the whole.
		tails := r.Tails(Step.Estimated)
		for _, st := range r.Steps {
			whole := longest(st.ID) + tails[st.ID]
			if whole > want || slices.Contains(path, st.ID) && whole != want {
				t.Fatalf("step %s: %s before and with it, tail %s, whole %s", st.ID, longest(st.ID), tails[st.ID], want)
			}
		}
	})
}

func TestMatchAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		people := []string{"a", "b", "c", "d"}
		var choices [][]string
		for range rapid.IntRange(0, 5).Draw(t, "seats") {
			var who []string
			for _, p := range people {
				if rapid.Bool().Draw(t, p) {
					who = append(who, p)
				}
			}
			choices = append(choices, who)
		}
		var brute func(seat int, taken map[string]bool) int
		brute = func(seat int, taken map[string]bool) int {
			if seat == len(choices) {
				return 0
			}
			best := brute(seat+1, taken)
			for _, p := range choices[seat] {
				if !taken[p] {
					taken[p] = true
					best = max(best, 1+brute(seat+1, taken))
					delete(taken, p)
				}
			}
			return best
		}
		if got, want := match(choices), brute(0, map[string]bool{}); got != want {
			t.Fatalf("%v: %d seats filled, %d can be", choices, got, want)
		}
	})
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	whole := clean()
	at := bytes.Index([]byte(whole), []byte("people:\n"))
	to := bytes.Index([]byte(whole), []byte("roles:\n"))
	write("people.yaml", whole[at:to])
	write("plan.yml", whole[:at]+whole[to:])
	write("notes.txt", "not a plan")
	p, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.People) != 2 || len(p.Files()) != 2 {
		t.Errorf("people %v, files %v", p.People, p.Files())
	}
	if got := p.Stores["db"].Recover.To; got != filepath.Join(dir, "recovered/db") {
		t.Errorf("a path is %q, want it below the folder of the plan", got)
	}
	if pos := p.Position("people.founder-b"); pos.File != filepath.Join(dir, "people.yaml") || pos.Line != 3 {
		t.Errorf("position %+v", pos)
	}
	if got := Check(p, checkTime); len(got) > 0 {
		t.Errorf("findings: %s", render(got))
	}
	again, err := Parse(dir, p.Source())
	if err != nil || again.Digest() != p.Digest() || len(again.People) != 2 || again.Position("people.founder-b") != p.Position("people.founder-b") {
		t.Errorf("the source does not give the same plan: %v", err)
	}

	// A section may continue in another file, an id may not.
	write("more.yaml", "people: {founder-c: {name: C}, founder-a: {name: A}}\n")
	_, err = Load(dir)
	fs := FindingsOf(err)
	if len(fs) != 1 || fs[0].Code != codeDuplicate || fs[0].Subject != "people.founder-a" {
		t.Errorf("an id in two files: %v %s", err, render(fs))
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); holdfast.ExitStatus(err) != holdfast.ExitUsage || holdfast.Hint(err) == "" {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir); holdfast.ExitStatus(err) != holdfast.ExitUsage || holdfast.Hint(err) == "" {
		t.Errorf("empty folder: %v", err)
	}
	for name, text := range map[string][]byte{
		"empty":     nil,
		"comment":   []byte("# nothing\n"),
		"scalar":    []byte("hello\n"),
		"list":      []byte("- a\n"),
		"deep":      bytes.Repeat([]byte("["), 5000),
		"deep-maps": append(bytes.Repeat([]byte("{a: "), 200), bytes.Repeat([]byte("}"), 200)...),
		"large":     bytes.Repeat([]byte("# filler\n"), MaxFileBytes/9+1),
	} {
		path := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if holdfast.ExitStatus(err) != holdfast.ExitUsage || len(FindingsOf(err)) == 0 || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Wherever a plan is read from, its paths mean the same places, and joining them
// again changes nothing.
func TestPathsAreRelativeToThePlan(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "company"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "company", "plan.yaml"), []byte(clean()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, path := range []string{"company/plan.yaml", "company", filepath.Join(dir, "company/plan.yaml")} {
		p, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := filepath.EvalSymlinks(filepath.Join(dir, "company"))
		if err != nil {
			t.Fatal(err)
		}
		near := p.Locations["near"].Path
		if got, err := filepath.EvalSymlinks(filepath.Dir(filepath.Dir(near))); err != nil || got != want || !filepath.IsAbs(near) || p.Resolve(near) != near {
			t.Errorf("read as %q, the location is %q, and joined again %q", path, near, p.Resolve(near))
		}
		if p.Stores["uploads"].Files.Path != "/srv/app/uploads" || p.Stores["db"].Postgres.PasswordFile != "" {
			t.Errorf("read as %q: %+v", path, p.Stores["uploads"].Files)
		}
	}
}
