package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Promise returns the objectives of a service or store in numbers. Zero is no promise.
func (p *Plan) Promise(node string) holdfast.Objective {
	rto, rpo, _ := p.ObjectiveOf(node)
	var o holdfast.Objective
	o.RTO, _ = rto.Duration()
	o.RPO, _ = rpo.Duration()
	return o
}

// Nodes returns the ids of all services and stores, in order.
func (p *Plan) Nodes() []string {
	ids := slices.Collect(maps.Keys(p.Services))
	for id := range p.Stores {
		if _, both := p.Services[id]; !both {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// HardNeeds returns the declared services and stores that node cannot run without, in order.
func (p *Plan) HardNeeds(node string) []string {
	var out []string
	for id, need := range p.Services[node].Needs {
		_, service := p.Services[id]
		_, store := p.Stores[id]
		if need == Hard && (service || store) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// StoresOf returns the stores that a service cannot run without, also through others.
func (p *Plan) StoresOf(service string) []string {
	seen := map[string]bool{service: true}
	var stores []string
	for queue := []string{service}; len(queue) > 0; queue = queue[1:] {
		for _, id := range p.HardNeeds(queue[0]) {
			if seen[id] {
				continue
			}
			seen[id] = true
			if _, ok := p.Stores[id]; ok {
				stores = append(stores, id)
			}
			queue = append(queue, id)
		}
	}
	slices.Sort(stores)
	return stores
}

// ServicesOf returns the services that cannot run without a node, also through others.
func (p *Plan) ServicesOf(node string) []string { return p.Consumers().All(node) }

// Consumers are the services that directly need each node, sorted: the plan's hard
// needs, read backwards. Who asks about many nodes asks for them once.
type Consumers map[string][]string

// Consumers reads the hard needs of the plan backwards.
func (p *Plan) Consumers() Consumers {
	c := Consumers{}
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		for _, need := range p.HardNeeds(id) {
			c[need] = append(c[need], id)
		}
	}
	return c
}

// All returns the services that cannot run without a node, also through others.
func (c Consumers) All(node string) []string {
	seen := map[string]bool{node: true}
	var out []string
	for queue := []string{node}; len(queue) > 0; queue = queue[1:] {
		for _, id := range c[queue[0]] {
			if !seen[id] {
				seen[id] = true
				out = append(out, id)
				queue = append(queue, id)
			}
		}
	}
	slices.Sort(out)
	return out
}

// RecoveryOrder returns the services and stores in waves: everything in a wave needs
// only what is in earlier ones. A cycle of hard needs is an error that names it.
func (p *Plan) RecoveryOrder() ([][]string, error) {
	order, cycle := waves(p.Nodes(), p.HardNeeds)
	if cycle != nil {
		return nil, holdfast.WithHint(fmt.Errorf("hard needs run in a circle: %s", strings.Join(cycle, " -> ")),
			"make one of these needs soft, or remove it: nothing in the circle can be recovered first")
	}
	return order, nil
}

// waves sorts nodes by their needs. If it cannot, it returns one cycle, whose first
// node is repeated at its end.
func waves(nodes []string, needs func(string) []string) (order [][]string, cycle []string) {
	missing := map[string]int{}
	waiting := map[string][]string{}
	known := map[string]bool{}
	for _, id := range nodes {
		known[id] = true
	}
	for _, id := range nodes {
		for _, need := range needs(id) {
			if known[need] {
				missing[id]++
				waiting[need] = append(waiting[need], id)
			}
		}
	}
	var wave []string
	for _, id := range nodes {
		if missing[id] == 0 {
			wave = append(wave, id)
		}
	}
	done := 0
	for len(wave) > 0 {
		slices.Sort(wave)
		order = append(order, wave)
		done += len(wave)
		var next []string
		for _, id := range wave {
			for _, w := range waiting[id] {
				if missing[w]--; missing[w] == 0 {
					next = append(next, w)
				}
			}
		}
		wave = next
	}
	if done == len(known) {
		return order, nil
	}
	return nil, oneCycle(nodes, func(id string) []string {
		var left []string
		for _, need := range needs(id) {
			if missing[need] > 0 {
				left = append(left, need)
			}
		}
		return left
	}, missing)
}

// oneCycle walks among nodes that wait for ever. Each of them needs another one.
func oneCycle(nodes []string, needs func(string) []string, missing map[string]int) []string {
	at := ""
	for _, id := range nodes {
		if missing[id] > 0 {
			at = id
			break
		}
	}
	step := map[string]int{}
	var walk []string
	for {
		if first, ok := step[at]; ok {
			return append(walk[first:], at)
		}
		step[at] = len(walk)
		walk = append(walk, at)
		at = needs(at)[0]
	}
}

// EncryptTo returns the public keys that every backup is written for.
func (p *Plan) EncryptTo() []string {
	var out []string
	for _, id := range p.Repository.EncryptTo {
		if k, ok := p.Keys[id]; ok {
			out = append(out, k.Recipient)
		}
	}
	return out
}

// DrillsOf returns the drills that rehearse a store, in order.
func (p *Plan) DrillsOf(store string) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(p.Drills)) {
		if slices.Contains(p.Drills[id].Of, store) {
			out = append(out, id)
		}
	}
	return out
}

// DrillRung returns how high a drill must climb for one of its stores to count.
func (p *Plan) DrillRung(drill, store string) holdfast.Rung {
	if r := p.Drills[drill].Rung; r != nil {
		return holdfast.Rung(*r)
	}
	if p.Stores[store].Kind == KindPostgres {
		return holdfast.L6
	}
	return holdfast.L3
}

// DefaultFreshFor is how long a proof lasts where the drill does not say.
const DefaultFreshFor = 35 * 24 * time.Hour

// Fresh returns how long a proof by this drill lasts.
func (d Drill) Fresh() time.Duration {
	if f := d.FreshFor.Approx(); f > 0 {
		return f
	}
	return DefaultFreshFor
}

// PickOr returns which recovery point the drill restores.
func (d Drill) PickOr() Pick {
	if d.Pick == "" {
		return PickRandom
	}
	return d.Pick
}

// Person returns who holds a role: the holder, or with deputy the deputy. A name
// that is a person's is that person.
func (p *Plan) Person(role string, deputy bool) string {
	if r, ok := p.Roles[role]; ok {
		if deputy {
			return r.Deputy
		}
		return r.Holder
	}
	if _, ok := p.People[role]; ok && !deputy {
		return role
	}
	return ""
}
