package sequence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const minute = time.Minute

// call is a recovery of three stores: minutes of hands and of machine. Telling the
// customers needs only that somebody has noticed.
func call(people ...string) []Task {
	task := func(id string, hands, machine int, after ...string) Task {
		return Task{ID: id, After: after, Hands: time.Duration(hands) * minute, By: [][]string{people}, Machine: time.Duration(machine) * minute}
	}
	return []Task{
		task("detect", 15, 0), task("creds", 10, 0, "detect"), task("updates", 45, 0, "detect"), task("net", 10, 15, "creds"),
		task("store-a", 25, 45, "net"), task("store-b", 25, 45, "net"), task("store-c", 25, 45, "net"),
		task("api", 8, 12, "store-a", "store-b", "store-c"), task("verify", 15, 0, "api"),
	}
}

// readyOrder is what a team does without a planner: whoever is free takes what became
// ready first.
func readyOrder(tasks []Task, people []string) time.Duration {
	end, free, ready := map[string]time.Duration{}, map[string]time.Duration{}, map[string]time.Duration{}
	left := slices.Clone(tasks)
	var last time.Duration
	for len(left) > 0 {
		best := -1
		for i, t := range left {
			at, ok := time.Duration(0), true
			for _, a := range t.After {
				e, done := end[a]
				ok, at = ok && done, max(at, e)
			}
			if !ok {
				continue
			}
			ready[t.ID] = at
			if best < 0 || at < ready[left[best].ID] {
				best = i
			}
		}
		t := left[best]
		left = slices.Delete(left, best, best+1)
		who := slices.MinFunc(people, func(a, b string) int { return int(free[a] - free[b]) })
		begin := max(ready[t.ID], free[who])
		free[who] = begin + t.Hands
		end[t.ID] = begin + t.Hands + t.Machine
		last = max(last, end[t.ID])
	}
	return last
}

func TestPeopleDecideHowLongItTakes(t *testing.T) {
	for _, tt := range []struct {
		people              []string
		planned, unplanned  int // minutes
		updates, chainAlone int
	}{
		{[]string{"a", "b", "c"}, 155, 165, 120, 155},
		{[]string{"a", "b"}, 180, 180, 120, 155},
		{[]string{"a"}, 205, 250, 170, 155},
	} {
		tasks := call(tt.people...)
		o, err := Arrange(tasks)
		if err != nil {
			t.Fatal(err)
		}
		slots := o.Play(nil)
		if got := Length(slots); got != time.Duration(tt.planned)*minute {
			t.Errorf("%d people need %s, want %dm", len(tt.people), got, tt.planned)
		}
		if got := o.Chain(); got != time.Duration(tt.chainAlone)*minute {
			t.Errorf("the longest chain is %s", got)
		}
		if got := slots[2].End; got != time.Duration(tt.updates)*minute {
			t.Errorf("with %d people the customers hear at %s, want %dm", len(tt.people), got, tt.updates)
		}
		if got := readyOrder(tasks, tt.people); got != time.Duration(tt.unplanned)*minute {
			t.Errorf("without a plan %d people need %s, want %dm", len(tt.people), got, tt.unplanned)
		}
		last := slices.IndexFunc(slots, func(s Slot) bool { return s.End == Length(slots) })
		if path := Path(slots, last); slots[path[0]].Begin != 0 || path[len(path)-1] != last {
			t.Errorf("path %v", path)
		}
	}
}

// One person: what held the third store back was that person, not the network.
func TestSlotSaysWhatItWaitedFor(t *testing.T) {
	o, err := Arrange(call("a"))
	if err != nil {
		t.Fatal(err)
	}
	slots := o.Play(nil)
	held := 0
	for _, i := range []int{4, 5, 6} {
		switch s := slots[i]; {
		case s.Person == "a" && strings.HasPrefix(o.tasks[s.Via].ID, "store-"):
			held++
		case s.Person != "" || o.tasks[s.Via].ID != "net":
			t.Errorf("%s waited for %d and %q", o.tasks[i].ID, s.Via, s.Person)
		}
	}
	if held != 2 {
		t.Errorf("%d stores waited for the person, want 2", held)
	}
}

func TestLinkDivides(t *testing.T) {
	o, err := Arrange([]Task{
		{ID: "small", Link: "wan", Transfer: 10 * minute}, {ID: "big", Link: "wan", Transfer: 30 * minute, Machine: minute},
		{ID: "other", Link: "lan", Transfer: 10 * minute}, {ID: "alone", Transfer: 10 * minute},
		{ID: "late", After: []string{"other"}, Link: "wan", Transfer: 10 * minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	slots := o.Play(nil)
	// Until 10: two share, 5 done each. Until 25: three share, 5 more each: small ends. Then
	// two: late has 5 left, ends at 35; big has 20-5 = 15 left and ends at 50, and its machine at 51.
	for i, want := range []time.Duration{25, 51, 10, 10, 35} {
		if d := slots[i].End - want*minute; d < 0 || d > time.Microsecond {
			t.Errorf("%s ends at %s, want %dm", o.tasks[i].ID, slots[i].End, want)
		}
	}
}

func TestArrangeRefuses(t *testing.T) {
	var nobody *Nobody
	var circle *Circle
	for name, tt := range map[string]struct {
		tasks []Task
		want  func(error) bool
	}{
		"twice":       {[]Task{{ID: "a"}, {ID: "a"}}, func(err error) bool { return err != nil }},
		"unknown":     {[]Task{{ID: "a", After: []string{"b"}}}, func(err error) bool { return err != nil }},
		"negative":    {[]Task{{ID: "a", Hands: -1}}, func(err error) bool { return err != nil }},
		"for ever":    {[]Task{{ID: "a", Machine: MaxTime + 1}}, func(err error) bool { return err != nil }},
		"empty seat":  {[]Task{{ID: "a", Hands: 1, By: [][]string{{}}}}, func(err error) bool { return errors.As(err, &nobody) && nobody.Task == "a" }},
		"one for two": {[]Task{{ID: "a", Hands: 1, By: [][]string{{"x"}, {"x"}}}}, func(err error) bool { return errors.As(err, &nobody) }},
		"a crowd":     {[]Task{{ID: "a", By: make([][]string, MaxSeats+1)}}, func(err error) bool { return err != nil }},
		"circle": {[]Task{{ID: "z"}, {ID: "a", After: []string{"b"}}, {ID: "b", After: []string{"c", "z"}}, {ID: "c", After: []string{"b"}}},
			func(err error) bool { return errors.As(err, &circle) && len(circle.Tasks) == 3 }},
	} {
		if _, err := Arrange(tt.tasks); !tt.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if o, err := Arrange(nil); err != nil || len(o.Play(nil)) != 0 || o.Chain() != 0 {
		t.Errorf("nothing to do: %v", err)
	}
}

func drawTasks(t *rapid.T, most int) []Task {
	n := rapid.IntRange(1, most).Draw(t, "tasks")
	people := []string{"a", "b", "c"}
	tasks := make([]Task, n)
	for i := range tasks {
		d := func(what string) time.Duration {
			return time.Duration(rapid.IntRange(0, 6).Draw(t, what)) * minute
		}
		tasks[i] = Task{ID: fmt.Sprintf("t%02d", i), Hands: d("hands"), Machine: d("machine")}
		for range rapid.IntRange(0, 2).Draw(t, "seats") {
			tasks[i].By = append(tasks[i].By, rapid.Permutation(people).Draw(t, "seat")[:rapid.IntRange(1, 3).Draw(t, "candidates")])
		}
		if len(tasks[i].By) == 2 && len(tasks[i].By[0])+len(tasks[i].By[1]) == 2 {
			tasks[i].By = tasks[i].By[:1] // both seats may want the same one
		}
		if rapid.Bool().Draw(t, "moves") {
			tasks[i].Link, tasks[i].Transfer = rapid.SampledFrom([]string{"", "lan", "wan"}).Draw(t, "link"), d("transfer")
		}
		for k := range i {
			if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
				tasks[i].After = append(tasks[i].After, fmt.Sprintf("t%02d", k))
			}
		}
	}
	return tasks
}

// naive plays an order tick by tick. Every sixtieth of a second each link gives each of its
// transfers an equal share.
func naive(o *Order, of func(int) Times) (begin, end []float64) {
	const tick = 1.0 / 60 // of a minute
	n := len(o.tasks)
	begin, end = make([]float64, n), make([]float64, n)
	left := make([][3]float64, n)
	for i := range o.tasks {
		t := of(i)
		begin[i], end[i] = -1, -1
		left[i] = [3]float64{t.Hands.Minutes(), t.Transfer.Minutes(), t.Machine.Minutes()}
	}
	at := map[string]int{}
	for now := 0.0; slices.Contains(end, -1); now += tick {
		for again := true; again; {
			again = false
			for i, t := range o.tasks {
				if begin[i] >= 0 {
					continue
				}
				ok := true
				for _, a := range t.After {
					k := slices.IndexFunc(o.tasks, func(x Task) bool { return x.ID == a })
					ok = ok && end[k] >= 0
				}
				for _, p := range o.who[i] {
					ok = ok && o.turns[p][at[p]] == i
				}
				if ok {
					begin[i], again = now, true
				}
			}
			for i := range o.tasks {
				if begin[i] < 0 || end[i] >= 0 {
					continue
				}
				if left[i][0] < tick/2 && left[i][0] > -1 {
					left[i][0] = -2 // free
					for _, p := range o.who[i] {
						at[p]++
						again = true
					}
				}
				if left[i][0] < -1 && left[i][1] < tick/2 && left[i][2] < tick/2 {
					end[i], again = now, true
				}
			}
		}
		sharing := map[string]float64{}
		for i, t := range o.tasks {
			if begin[i] >= 0 && end[i] < 0 && left[i][0] < -1 && left[i][1] >= tick/2 {
				sharing[t.Link]++
			}
		}
		for i, t := range o.tasks {
			switch {
			case begin[i] < 0 || end[i] >= 0:
			case left[i][0] > -1:
				left[i][0] -= tick
			case left[i][1] >= tick/2 && t.Link != "":
				left[i][1] -= tick / sharing[t.Link]
			case left[i][1] >= tick/2:
				left[i][1] -= tick
			default:
				left[i][2] -= tick
			}
		}
	}
	return begin, end
}

// The same order, played by the model and by us, with the expected times and with others.
func TestPlayAgainstTicks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t, 9)
		o, err := Arrange(tasks)
		if err != nil {
			t.Fatal(err)
		}
		stretch := rapid.SliceOfN(rapid.IntRange(0, 3), len(tasks), len(tasks)).Draw(t, "stretch")
		for _, of := range []func(int) Times{
			func(i int) Times { return tasks[i].Times() },
			func(i int) Times {
				k := time.Duration(stretch[i])
				return Times{tasks[i].Hands * k, tasks[i].Transfer * k, tasks[i].Machine * k}
			},
		} {
			slots := o.Play(of)
			begin, end := naive(o, of)
			for i, s := range slots {
				// Each shared transfer may end up to a tick early or late in the model.
				if slack := 0.5; abs(s.Begin.Minutes()-begin[i]) > slack || abs(s.End.Minutes()-end[i]) > slack {
					t.Fatalf("%s: %s to %s, the model says %.2f to %.2f\n%+v", tasks[i].ID, s.Begin, s.End, begin[i], end[i], tasks)
				}
			}
		}
	})
}

func abs(x float64) float64 { return max(x, -x) }

// Whatever the times: nobody begins early, nobody does two things at once, the people are
// those who may, and the way back along what was waited for has no holes.
func TestPlayKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t, 30)
		o, err := Arrange(tasks)
		if err != nil {
			t.Fatal(err)
		}
		slots := o.Play(nil)
		var work time.Duration
		for i, a := range tasks {
			s := slots[i]
			work += a.Times().Sum()
			if s.Free != s.Begin+a.Hands || s.End < s.Free+a.Transfer+a.Machine {
				t.Fatalf("%s: %+v", a.ID, s)
			}
			if a.Hands > 0 && len(o.who[i]) != len(a.By) {
				t.Fatalf("%s is done by %v of %v", a.ID, o.who[i], a.By)
			}
			for n, p := range o.who[i] {
				if !slices.Contains(a.By[n], p) || slices.Contains(o.who[i][:n], p) {
					t.Fatalf("%s is done by %v of %v", a.ID, o.who[i], a.By)
				}
			}
			for k, b := range tasks {
				if slices.Contains(a.After, b.ID) && slots[k].End > s.Begin {
					t.Fatalf("%s begins before %s has ended", a.ID, b.ID)
				}
				both := slices.ContainsFunc(o.who[i], func(p string) bool { return slices.Contains(o.who[k], p) })
				if i != k && both && s.Begin < slots[k].Free && slots[k].Begin < s.Free {
					t.Fatalf("%s and %s share a person at one time", a.ID, b.ID)
				}
			}
			path := Path(slots, i)
			if slots[path[0]].Begin != 0 {
				t.Fatalf("the path to %s begins at %s", a.ID, slots[path[0]].Begin)
			}
			for n := range path[1:] {
				x := slots[path[n+1]]
				if until := slots[x.Via]; x.Begin != until.End && (x.Person == "" || x.Begin != until.Free) {
					t.Fatalf("%s begins at %s, what it waited for ended at %s", tasks[path[n+1]].ID, x.Begin, until.End)
				}
			}
		}
		if whole := Length(slots); whole < o.Chain() || whole > work+time.Second {
			t.Fatalf("it takes %s: the longest chain is %s, all work %s", whole, o.Chain(), work)
		}
		if again, err := Arrange(tasks); err != nil || !slices.Equal(again.Play(nil), slots) {
			t.Fatalf("another order the second time: %v", err)
		}
	})
}

// For a handful of tasks every order of people's turns can be tried. Ours is never worse than
// twice the best, and seldom worse at all.
func TestArrangeAgainstAllOrders(t *testing.T) {
	worse, n := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		tasks := drawTasks(t, 5)
		for i := range tasks {
			tasks[i].Link, tasks[i].By = "", [][]string{{"a"}} // one person does all
			tasks[i].Hands++                                   // a turn is only taken by who has something to do
		}
		o, err := Arrange(tasks)
		if err != nil {
			t.Fatal(err)
		}
		ours := Length(o.Play(nil))
		best := ours
		var try func(order []int)
		try = func(order []int) {
			if len(order) == len(tasks) {
				with := *o
				with.turns = map[string][]int{"a": order}
				best = min(best, Length(with.Play(nil)))
				return
			}
			for i, x := range tasks {
				early := func(a string) bool {
					return !slices.ContainsFunc(order, func(k int) bool { return tasks[k].ID == a })
				}
				if !slices.Contains(order, i) && !slices.ContainsFunc(x.After, early) {
					try(append(slices.Clone(order), i))
				}
			}
		}
		try(nil)
		if n++; ours > best {
			worse++
		}
		if ours > 2*best {
			t.Fatalf("%s, and %s is possible: %+v", ours, best, tasks)
		}
	})
	if worse > n/4 {
		t.Errorf("%d of %d orders are not the best one", worse, n)
	}
}

func BenchmarkArrangeAndPlay(b *testing.B) {
	var tasks []Task
	for i := range 1000 {
		x := Task{ID: fmt.Sprintf("t%d", i), Hands: minute, By: [][]string{{fmt.Sprint("p", i%20), fmt.Sprint("p", i%7)}}, Transfer: time.Duration(i%13) * minute, Link: fmt.Sprint("l", i%3)}
		if i > 2 {
			x.After = []string{fmt.Sprintf("t%d", i/2), fmt.Sprintf("t%d", i/3)}
		}
		tasks = append(tasks, x)
	}
	for b.Loop() {
		o, err := Arrange(tasks)
		if err != nil {
			b.Fatal(err)
		}
		o.Play(nil)
	}
}
