package sequence

import (
	"container/heap"
	"math"
	"slices"
	"time"
)

// stage says how far a task is.
type stage int8

const (
	waiting stage = iota
	hands
	transfer
	machine
	done
)

// event is the end of a stretch whose length is fixed when it begins.
type event struct {
	at   time.Duration
	task int
}

type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].task < e[j].task
}
func (e *events) Push(x any) { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// link is one shared link. Its own clock runs slower the more transfers share it: a
// transfer ends when that clock has run for as long as the transfer takes alone.
type link struct {
	clock  float64 // nanoseconds
	at     time.Duration
	ends   []float64 // of the clock, for each active transfer
	active []int
}

// advance lets the link's clock run until now.
func (l *link) advance(now time.Duration) {
	if n := len(l.active); n > 0 {
		l.clock += float64(now-l.at) / float64(n)
	}
	l.at = now
}

// next returns when the first of its transfers ends.
func (l *link) next() (time.Duration, bool) {
	if len(l.active) == 0 {
		return 0, false
	}
	left := (slices.Min(l.ends) - l.clock) * float64(len(l.active))
	if left <= 0 {
		return l.at, true
	}
	if left >= float64(math.MaxInt64)/2 {
		return math.MaxInt64, true
	}
	return add(l.at, time.Duration(math.Ceil(left))), true
}

// playing is one run of an order.
type playing struct {
	o       *Order
	of      func(int) Times
	slots   []Slot
	stage   []stage
	missing []int
	turn    map[string]int // for each person the place in their turns
	fixed   events
	links   map[string]*link
	names   []string // of the links, in a stable order
	open    int
	seen    map[string]int // for each person, the last task that they did
}

// Play says when each task happens if the order is kept and they take the given times; nil is
// what is expected. The slots stand in the order of Arrange's tasks.
func (o *Order) Play(of func(i int) Times) []Slot {
	if of == nil {
		of = func(i int) Times { return o.tasks[i].Times() }
	}
	p := &playing{o: o, of: of, slots: make([]Slot, len(o.tasks)), stage: make([]stage, len(o.tasks)), missing: make([]int, len(o.tasks)),
		turn: map[string]int{}, links: map[string]*link{}, open: len(o.tasks), seen: map[string]int{}}
	for i := range o.tasks {
		p.slots[i].Via = -1
		p.missing[i] = len(o.before[i])
		if l := o.tasks[i].Link; l != "" && p.links[l] == nil {
			p.links[l] = &link{}
			p.names = append(p.names, l)
		}
	}
	slices.Sort(p.names)
	for i := range o.tasks {
		p.begin(i, 0)
	}
	for p.open > 0 {
		now, ok := p.next()
		if !ok {
			panic(errStuck)
		}
		for _, name := range p.names {
			l := p.links[name]
			l.advance(now)
			for n := 0; n < len(l.active); {
				// Half a nanosecond of the clock is what rounding costs.
				if l.ends[n] > l.clock+0.5 {
					n++
					continue
				}
				i := l.active[n]
				l.active, l.ends = slices.Delete(l.active, n, n+1), slices.Delete(l.ends, n, n+1)
				p.proceed(i, now)
			}
		}
		for len(p.fixed) > 0 && p.fixed[0].at <= now {
			p.proceed(heap.Pop(&p.fixed).(event).task, now)
		}
	}
	return p.slots
}

// next is when something ends.
func (p *playing) next() (time.Duration, bool) {
	var now time.Duration = math.MaxInt64
	ok := false
	if len(p.fixed) > 0 {
		now, ok = p.fixed[0].at, true
	}
	for _, l := range p.links {
		if at, busy := l.next(); busy {
			now, ok = min(now, at), true
		}
	}
	return now, ok
}

// begin begins a task if nothing holds it back any more.
func (p *playing) begin(i int, now time.Duration) {
	if p.stage[i] != waiting || p.missing[i] > 0 {
		return
	}
	for _, person := range p.o.who[i] {
		if turns := p.o.turns[person]; turns[p.turn[person]] != i {
			return
		}
	}
	s := &p.slots[i]
	s.Begin = now
	for _, k := range p.o.before[i] {
		if s.Via < 0 || p.slots[k].End > p.slots[s.Via].End {
			s.Via = k
		}
	}
	for _, person := range p.o.who[i] {
		// Whoever was free later than the last predecessor ended is what it waited for.
		k, worked := p.seen[person]
		switch p.seen[person] = i; {
		case !worked:
		case s.Person != "" && p.slots[k].Free > p.slots[s.Via].Free, s.Person == "" && (s.Via < 0 || p.slots[k].Free > p.slots[s.Via].End):
			s.Via, s.Person = k, person
		}
	}
	p.stage[i] = hands
	heap.Push(&p.fixed, event{add(now, p.of(i).Hands), i})
}

// proceed ends a stretch of a task and begins its next one.
func (p *playing) proceed(i int, now time.Duration) {
	t := p.of(i)
	switch p.stage[i] {
	case hands:
		p.stage[i], p.slots[i].Free = transfer, now
		if l := p.links[p.o.tasks[i].Link]; l != nil && t.Transfer > 0 {
			l.advance(now)
			l.active, l.ends = append(l.active, i), append(l.ends, l.clock+float64(t.Transfer))
		} else {
			heap.Push(&p.fixed, event{add(now, t.Transfer), i})
		}
		for _, person := range p.o.who[i] {
			p.turn[person]++
		}
		for _, person := range p.o.who[i] {
			if turns := p.o.turns[person]; p.turn[person] < len(turns) {
				p.begin(turns[p.turn[person]], now)
			}
		}
	case transfer:
		p.stage[i] = machine
		heap.Push(&p.fixed, event{add(now, t.Machine), i})
	case machine:
		p.stage[i], p.slots[i].End = done, now
		p.open--
		for _, k := range p.o.after[i] {
			if p.missing[k]--; p.missing[k] == 0 {
				p.begin(k, now)
			}
		}
	}
}

// Path returns the tasks that decide when the task at place i ends, the first one first: each waited
// for the one before it, or for a person who was busy with it.
func Path(slots []Slot, i int) []int {
	var out []int
	for ; i >= 0; i = slots[i].Via {
		out = append(out, i)
	}
	slices.Reverse(out)
	return out
}

// Length is when the last task ends.
func Length(slots []Slot) time.Duration {
	var last time.Duration
	for _, s := range slots {
		last = max(last, s.End)
	}
	return last
}
