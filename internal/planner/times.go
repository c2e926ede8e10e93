package planner

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/sequence"
)

// finish says who does the steps and when, and predicts each service.
func (m *making) finish(p *Plan) error {
	m.block(p)
	t, err := m.arrange(p)
	if err != nil {
		return err
	}
	slots := t.Order.Play(nil)
	last := -1
	for n, s := range slots {
		st := &p.Steps[t.Steps[n]]
		st.Begin, st.End, st.By = s.Begin, s.End, t.Order.Who(n)
		if s.Via >= 0 {
			st.Held = p.Steps[t.Steps[s.Via]].ID
			if s.Person != "" {
				st.Held = s.Person + " is busy with " + st.Held
			}
		}
		if last < 0 || s.End > slots[last].End {
			last = n
		}
	}
	if last >= 0 {
		p.Time = slots[last].End
		for _, n := range sequence.Path(slots, last) {
			p.Critical = append(p.Critical, p.Steps[t.Steps[n]].ID)
		}
	}
	ends := map[string]Step{}
	for _, s := range p.Steps {
		ends[s.ID] = s
	}
	waits := map[string][]string{}
	for _, id := range m.order {
		s := m.in.Services[id]
		pr := Prediction{Service: id, RTO: s.RTO, RPO: s.RPO, Steps: append([]string{"check-" + id}, m.of[id]...)}
		// What people still do for a service that it needs, after that was checked, counts too:
		// nothing is back before what it cannot run without.
		for _, n := range slices.Sorted(slices.Values(s.Needs)) {
			for _, step := range waits[n] {
				if !slices.Contains(pr.Steps, step) {
					pr.Steps = append(pr.Steps, step)
				}
			}
		}
		waits[id] = pr.Steps
		for _, step := range pr.Steps {
			pr.Time = max(pr.Time, ends[step].End)
			if b := ends[step].Blocked; b != "" && pr.Blocked == "" {
				pr.Blocked = b
			}
		}
		for _, st := range m.needs[id] {
			pr.Loss = max(pr.Loss, m.loss[st])
		}
		p.Predictions = append(p.Predictions, pr)
	}
	return nil
}

// Timing is what a plan takes, for those who want to play it with other times.
type Timing struct {
	Order *sequence.Order
	Steps []int // for each task of the order the place of its step in the plan
}

// block marks the steps that nobody can do, and what waits for them.
func (m *making) block(p *Plan) {
	blocked := map[string]string{}
	asked := map[string]bool{}
	for i := range p.Steps {
		s := &p.Steps[i]
		rs := m.people[s.ID]
		if s.Kind == StepOutside && s.Blocked != "" {
			p.Choices = append(p.Choices, Choice{Of: strings.TrimPrefix(s.ID, "outside-"), What: s.Blocked})
		}
		ask := func(of, what string) {
			s.Blocked = what
			if !asked[of] {
				asked[of] = true
				p.Choices = append(p.Choices, Choice{Of: of, What: what})
			}
		}
		for _, role := range rs.Roles {
			if who, known := m.in.People[role]; known && len(who) == 0 && s.Blocked == "" {
				ask("roles."+role, fmt.Sprintf("nobody is left for %q: %s", role, m.in.Missing[role]))
			}
		}
		for _, c := range rs.Uses {
			if why := m.in.Missing[c]; why != "" && s.Blocked == "" {
				ask("credentials."+c, fmt.Sprintf("nobody has %q: %s", c, why))
			}
		}
		if _, ok := seats(m.in.People, rs.Roles); !ok && s.Blocked == "" {
			ask("runbooks."+s.ID, fmt.Sprintf("%s must be different people, and there are not enough: %s", strings.Join(rs.Roles, " and "), m.all(rs.Roles)))
		}
		for _, a := range s.After {
			if why := blocked[a]; why != "" && s.Blocked == "" && s.Kind != StepProtect {
				s.Blocked = why
			}
		}
		if s.Kind == StepProtect && blocked["restore-"+s.Store] != "" {
			s.Blocked = blocked["restore-"+s.Store]
		}
		blocked[s.ID] = s.Blocked
	}
}

// all names those who can take any of some roles.
func (m *making) all(roles []string) string {
	var out []string
	for _, r := range roles {
		out = append(out, m.in.People[r]...)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

// seats are those who can take each role; false if the roles cannot be given to different
// people at all.
func seats(people map[string][]string, roles []string) ([][]string, bool) {
	var out [][]string
	for _, r := range roles {
		if who, known := people[r]; known {
			out = append(out, who)
		}
	}
	if len(out) < 2 {
		return out, true
	}
	_, err := sequence.Arrange([]sequence.Task{{ID: "seats", Hands: 1, By: out}})
	var nobody *sequence.Nobody
	return out, !errors.As(err, &nobody)
}

// arrange says what each step that can be done takes. Backups that follow a recovery are
// nobody's waiting time, and neither is the measurement of a level.
func (m *making) arrange(p *Plan) (Timing, error) {
	var t Timing
	var tasks []sequence.Task
	for i, s := range p.Steps {
		if s.Kind == StepProtect || s.Kind == StepLevel || s.Blocked != "" {
			continue
		}
		x := sequence.Task{ID: s.ID, After: s.After, Machine: s.Estimate}
		switch s.Kind {
		case StepRestore:
			x.Transfer = min(m.in.Stores[s.Store].Fetch, s.Estimate)
			x.Machine, x.Link = s.Estimate-x.Transfer, s.Location
		case StepHuman:
			x.By, _ = seats(m.in.People, m.people[s.ID].Roles)
			x.Hands, x.Machine = s.Estimate, 0
		}
		tasks, t.Steps = append(tasks, x), append(t.Steps, i)
	}
	var err error
	t.Order, err = sequence.Arrange(tasks)
	return t, err
}

// Timing returns what a plan that Make made of this input takes. Whoever plays it gives
// times for the tasks in its order.
func (in Input) Timing(p Plan) (Timing, error) {
	m, err := newMaking(in, p.Lost)
	if err != nil {
		return Timing{}, err
	}
	m.services()
	m.outsides()
	m.runbooks() // of which only who can do what is asked for
	return m.arrange(&p)
}

// lowest is a heap of places in a list.
type lowest []int

func (l lowest) Len() int           { return len(l) }
func (l lowest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l lowest) Less(i, j int) bool { return l[i] < l[j] }
func (l *lowest) Push(x any)        { *l = append(*l, x.(int)) }
func (l *lowest) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

// sorted puts every step after those that it follows, and otherwise leaves the order.
func sorted(steps []Step) ([]Step, error) {
	index := map[string]int{}
	for i, s := range steps {
		index[s.ID] = i
	}
	missing, waiting := make([]int, len(steps)), make([][]int, len(steps))
	for i, s := range steps {
		for _, a := range s.After {
			missing[i]++
			waiting[index[a]] = append(waiting[index[a]], i)
		}
	}
	out := make([]Step, 0, len(steps))
	var ready lowest
	for i, n := range missing {
		if n == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		i := heap.Pop(&ready).(int)
		out = append(out, steps[i])
		for _, k := range waiting[i] {
			if missing[k]--; missing[k] == 0 {
				heap.Push(&ready, k)
			}
		}
	}
	if len(out) < len(steps) {
		var left []string
		for i, n := range missing {
			if n > 0 {
				left = append(left, steps[i].ID)
			}
		}
		return nil, fmt.Errorf("the steps of the recovery wait for each other: %s", strings.Join(left, ", "))
	}
	return out, nil
}
