package planner

import (
	"fmt"
	"maps"
	"slices"

	"holdfast"
)

// possible takes out of an input the lost stores that cannot come back from anywhere
// now, and the services that need one of them: they hold up nothing else. If no
// store can come back, the error is the first one's *[Blocked].
func possible(in Input, p *Plan) (Input, error) {
	blocked := map[string]bool{}
	for _, id := range p.Lost {
		st, ok := in.Stores[id]
		if _, _, offered := choose(st.Offers); ok && (!offered || st.Locked != "") {
			b := &Blocked{id, in.Away, st.Locked}
			if len(p.Lost) == 1 || len(blocked) == len(p.Lost)-1 {
				return in, holdfast.WithHint(b, "mend a location, or bring one that was kept offline; then the recovery can begin")
			}
			blocked[id] = true
			p.Blocked = append(p.Blocked, id)
			p.Notes = append(p.Notes, b.Error())
		}
	}
	if len(blocked) == 0 {
		return in, nil
	}
	p.Lost = slices.DeleteFunc(p.Lost, func(id string) bool { return blocked[id] })
	in.Lost = p.Lost
	in.Services = maps.Clone(in.Services)
	for more := true; more; { // until nothing that is left needs what stays down
		more = false
		for _, id := range slices.Sorted(maps.Keys(in.Services)) {
			i := slices.IndexFunc(in.Services[id].Needs, func(n string) bool { return blocked[n] })
			if i < 0 {
				continue
			}
			p.Down = append(p.Down, id)
			p.Notes = append(p.Notes, fmt.Sprintf("service %q stays down: it needs %q", id, in.Services[id].Needs[i]))
			blocked[id], more = true, true
			delete(in.Services, id)
		}
	}
	in.Down = slices.DeleteFunc(slices.Clone(in.Down), func(id string) bool { return blocked[id] })
	return in, nil
}
