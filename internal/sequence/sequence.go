// Package sequence puts tasks into time: what waits for what, who can do only one
// thing at once, and which transfers share a link.
//
// It knows nothing of recoveries. A [Task] has hands (the work of people), then a
// transfer over a link, then machine time that needs nobody. [Arrange] decides once
// who does what in which order; [Order.Play] says when everything happens if it is
// done in that order. The two are apart on purpose: people decide an order before
// they know how long things will really take, and a simulation with other times must
// not look into the future either.
//
// # The rule
//
// Tasks are placed one after another, the one with the longest remaining path first,
// each as early as its predecessors and its people allow, also into holes that are
// long enough (resource-constrained serial list scheduling; for recoveries: Keeton et
// al., "On the road to recovery", EuroSys 2006). It is no optimum, which would be
// NP-hard; it is never shorter than the longest chain, and the order is explained.
//
// Transfers on one link divide it in equal shares. A task begins as soon as it can: a
// restore that could start is not held back to give another one the whole link.
//
// # Invariants
//
//   - Everything here is a pure function; the same tasks give the same order.
//   - Nobody does two things at once, and nobody begins before what it waits for has
//     ended, whatever the times.
//   - Hands are not interrupted: who has begun ends.
package sequence

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxTasks bounds what Arrange takes.
const MaxTasks = 200_000

// MaxSeats bounds how many people one task needs at once.
const MaxSeats = 8

// MaxTime bounds each time of a task: ten years. Sums of as many tasks as Arrange
// takes would overflow beyond it only in a chain of hundreds of such tasks, and then
// they stop at the longest duration there is.
const MaxTime = 10 * 365 * 24 * time.Hour

// A Task is one piece of work. Its times are what is expected; Play may be told others.
type Task struct {
	ID    string
	After []string // ids of the tasks that it waits for
	// Hands is how long people are busy with it, from its beginning.
	Hands time.Duration
	// By are the people whom the hands need, all at once: for each seat those who may
	// take it, the first choice first. Without seats, hands are machine time.
	By [][]string
	// Transfer is how long the transfer takes that follows the hands, if it has Link
	// for itself. Without a link it shares with nobody.
	Transfer time.Duration
	Link     string
	Machine  time.Duration // what follows the transfer and needs nobody
}

// Times are how long the parts of one task take.
type Times struct{ Hands, Transfer, Machine time.Duration }

// Sum is the time of a task that waits for nothing and shares nothing.
func (t Times) Sum() time.Duration { return add(add(t.Hands, t.Transfer), t.Machine) }

// Times returns the expected times of the task.
func (t Task) Times() Times { return Times{t.Hands, t.Transfer, t.Machine} }

// A Slot is when a task happens, counted from the beginning of the whole.
type Slot struct {
	Begin time.Duration // nothing of it happens before
	Free  time.Duration // its people are free again
	End   time.Duration
	// Via is the task that it waited for last, by its place in the list, and Person who
	// was busy with that task; "" where it waited for the task's end. -1 is none.
	Via    int
	Person string
}

// A Nobody error is a task with a seat that nobody can take.
type Nobody struct{ Task string }

func (e *Nobody) Error() string { return fmt.Sprintf("nobody can do %q", e.Task) }

// A Circle error is tasks that wait for each other; the first stands at the end again.
type Circle struct{ Tasks []string }

func (e *Circle) Error() string {
	return "tasks wait for each other in a circle: " + strings.Join(e.Tasks, " -> ")
}

// An Order is the decision who does what, and in which order.
type Order struct {
	tasks  []Task
	before [][]int // for each task what it waits for
	after  [][]int
	who    [][]string       // for each task who does it
	turns  map[string][]int // for each person the tasks in the order of doing them
	tails  []time.Duration  // for each task its own time and the longest chain after it
}

// Arrange decides the order of tasks. Ids that are not unique, an After that names
// nothing, times that are negative or above MaxTime, a circle and a seat without
// candidates are errors.
func Arrange(tasks []Task) (*Order, error) {
	o := &Order{tasks: slices.Clone(tasks), before: make([][]int, len(tasks)), after: make([][]int, len(tasks)), who: make([][]string, len(tasks)), turns: map[string][]int{}}
	if len(tasks) > MaxTasks {
		return nil, fmt.Errorf("%d tasks, and %d are the most", len(tasks), MaxTasks)
	}
	index := make(map[string]int, len(tasks))
	for i, t := range tasks {
		if _, twice := index[t.ID]; twice {
			return nil, fmt.Errorf("task %q stands twice", t.ID)
		}
		index[t.ID] = i
		for _, d := range []time.Duration{t.Hands, t.Transfer, t.Machine} {
			if d < 0 || d > MaxTime {
				return nil, fmt.Errorf("task %q takes %s", t.ID, d)
			}
		}
		if len(t.By) > MaxSeats {
			return nil, fmt.Errorf("task %q needs %d people at once, and %d are the most", t.ID, len(t.By), MaxSeats)
		}
		for _, seat := range t.By {
			if len(seat) == 0 {
				return nil, &Nobody{t.ID}
			}
		}
	}
	for i, t := range tasks {
		for _, a := range t.After {
			k, ok := index[a]
			if !ok {
				return nil, fmt.Errorf("task %q waits for %q, which is no task", t.ID, a)
			}
			o.before[i] = append(o.before[i], k)
			o.after[k] = append(o.after[k], i)
		}
	}
	topo, err := o.sorted()
	if err != nil {
		return nil, err
	}
	o.tails = make([]time.Duration, len(tasks))
	for _, i := range slices.Backward(topo) {
		for _, k := range o.after[i] {
			o.tails[i] = max(o.tails[i], o.tails[k])
		}
		o.tails[i] = add(o.tails[i], tasks[i].Times().Sum())
	}
	return o, o.place()
}

// sorted returns the tasks so that each stands after what it waits for.
func (o *Order) sorted() ([]int, error) {
	missing := make([]int, len(o.tasks))
	topo := make([]int, 0, len(o.tasks))
	for i := range o.tasks {
		if missing[i] = len(o.before[i]); missing[i] == 0 {
			topo = append(topo, i)
		}
	}
	for n := 0; n < len(topo); n++ {
		for _, k := range o.after[topo[n]] {
			if missing[k]--; missing[k] == 0 {
				topo = append(topo, k)
			}
		}
	}
	if len(topo) == len(o.tasks) {
		return topo, nil
	}
	// Each that is left waits for another one that is left.
	at := slices.IndexFunc(missing, func(n int) bool { return n > 0 })
	seen := map[int]int{}
	var walk []string
	for {
		if first, ok := seen[at]; ok {
			return nil, &Circle{append(walk[first:], o.tasks[at].ID)}
		}
		seen[at] = len(walk)
		walk = append(walk, o.tasks[at].ID)
		at = o.before[at][slices.IndexFunc(o.before[at], func(k int) bool { return missing[k] > 0 })]
	}
}

// ready is the heap of tasks that can be placed: the longest tail first, and by
// name between equals, so that the order is stable.
type ready struct {
	o   *Order
	ids []int
}

func (r ready) Len() int      { return len(r.ids) }
func (r ready) Swap(i, j int) { r.ids[i], r.ids[j] = r.ids[j], r.ids[i] }
func (r ready) Less(i, j int) bool {
	a, b := r.ids[i], r.ids[j]
	return cmp.Or(-cmp.Compare(r.o.tails[a], r.o.tails[b]), cmp.Compare(r.o.tasks[a].ID, r.o.tasks[b].ID)) < 0
}
func (r *ready) Push(x any) { r.ids = append(r.ids, x.(int)) }
func (r *ready) Pop() any {
	last := r.ids[len(r.ids)-1]
	r.ids = r.ids[:len(r.ids)-1]
	return last
}

// busy is when a person works, sorted.
type busy []struct{ from, to time.Duration }

// free reports whether nothing lies in a stretch.
func (b busy) free(from, to time.Duration) bool {
	i, _ := slices.BinarySearchFunc(b, from, func(x struct{ from, to time.Duration }, t time.Duration) int {
		if x.to <= t {
			return -1
		}
		return 1
	})
	return i == len(b) || b[i].from >= to
}

// place gives every task its people and its turn, with the expected times and without
// sharing of links.
func (o *Order) place() error {
	missing := make([]int, len(o.tasks))
	end := make([]time.Duration, len(o.tasks))
	begin := make([]time.Duration, len(o.tasks))
	r := &ready{o: o}
	for i := range o.tasks {
		if missing[i] = len(o.before[i]); missing[i] == 0 {
			r.ids = append(r.ids, i)
		}
	}
	heap.Init(r)
	calendar := map[string]busy{}
	for r.Len() > 0 {
		i := heap.Pop(r).(int)
		t := o.tasks[i]
		var at time.Duration
		for _, k := range o.before[i] {
			at = max(at, end[k])
		}
		if t.Hands > 0 && len(t.By) > 0 {
			who, when, ok := earliest(t, at, calendar)
			if !ok {
				return &Nobody{t.ID} // two seats for one person
			}
			o.who[i], at = who, when
			for _, p := range who {
				b := calendar[p]
				n, _ := slices.BinarySearchFunc(b, at, func(x struct{ from, to time.Duration }, t time.Duration) int { return cmp.Compare(x.from, t) })
				calendar[p] = slices.Insert(b, n, struct{ from, to time.Duration }{at, add(at, t.Hands)})
				o.turns[p] = append(o.turns[p], i)
			}
		}
		begin[i], end[i] = at, add(at, t.Times().Sum())
		for _, k := range o.after[i] {
			if missing[k]--; missing[k] == 0 {
				heap.Push(r, k)
			}
		}
	}
	for p := range o.turns {
		slices.SortStableFunc(o.turns[p], func(a, b int) int { return cmp.Compare(begin[a], begin[b]) })
	}
	return nil
}

// earliest finds the first instant from at on at which every seat of a task can be taken by
// another person for as long as its hands last.
func earliest(t Task, at time.Duration, calendar map[string]busy) (who []string, when time.Duration, ok bool) {
	times := []time.Duration{at}
	for _, seat := range t.By {
		for _, p := range seat {
			for _, b := range calendar[p] {
				if b.to > at {
					times = append(times, b.to)
				}
			}
		}
	}
	slices.Sort(times)
	for _, when := range slices.Compact(times) {
		if who, ok := seated(t.By, nil, func(p string) bool { return calendar[p].free(when, add(when, t.Hands)) }); ok {
			return who, when, true
		}
	}
	return nil, 0, false
}

// seated gives each seat a person of its own, the first choices first.
func seated(seats [][]string, taken []string, free func(string) bool) ([]string, bool) {
	if len(seats) == 0 {
		return taken, true
	}
	for _, p := range seats[0] {
		if !slices.Contains(taken, p) && free(p) {
			if who, ok := seated(seats[1:], append(slices.Clone(taken), p), free); ok {
				return who, true
			}
		}
	}
	return nil, false
}

// Who returns the people who do the task at place i.
func (o *Order) Who(i int) []string { return slices.Clone(o.who[i]) }

// Times returns what the task at place i is expected to take.
func (o *Order) Times(i int) Times { return o.tasks[i].Times() }

// Chain returns the longest chain of tasks by their expected times, as if there were
// people and links for everything at once: no order can be shorter.
func (o *Order) Chain() time.Duration {
	var most time.Duration
	for _, d := range o.tails {
		most = max(most, d)
	}
	return most
}

// add adds without overflow: what lasts longer than can be said lasts as long as can be.
func add(a, b time.Duration) time.Duration {
	if s := a + b; s >= a {
		return s
	}
	return 1<<63 - 1
}

// errStuck cannot happen: turns follow a placement that keeps all precedences.
var errStuck = errors.New("sequence: the order waits for itself")
