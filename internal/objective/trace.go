package objective

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/controls"
)

// An Attestation is a person's word that something was done: a review, an exercise.
type Attestation struct {
	Ref string // "review:alerts", as a plan's controls name it
	ID  string // of the record
	At  time.Time
	By  []string
}

// grades counts evidence by how good it is. They are never added up to one number.
type grades map[holdfast.Grade]int

func (g grades) String() string {
	return fmt.Sprintf("%d proved by a machine, %d attested by a person, %d claimed", g[holdfast.Proved], g[holdfast.Attested], g[holdfast.Claimed])
}

// trace explains a control, a statement of the policy, or what stands for them: from the
// words to dated results, and back.
func (e *explaining) trace(section, id string) error {
	known := map[string][]string{
		"controls": slices.Sorted(maps.Keys(e.p.Controls)), "statements": slices.Sorted(maps.Keys(e.p.Statements)), "drills": slices.Sorted(maps.Keys(e.p.Drills)),
	}[section]
	if !slices.Contains(known, id) {
		return holdfast.WithHint(fmt.Errorf("%q cannot be explained: the plan has no such entry in its %s: %w", e.out.Of, section, holdfast.ErrUsage), "%s", plan.Nearest(id, known))
	}
	if !e.observed {
		e.say("nothing was looked at: the plan alone is explained")
	}
	found := grades{}
	switch section {
	case "controls":
		fw, ref, _ := strings.Cut(id, "/")
		if set, ok := controls.Of(fw); ok {
			if c, ok := set.Find(ref); ok {
				e.out.Answer = c.Name
				if c.Intent != "" {
					e.say("it wants: %s", c.Intent)
				}
			}
		}
		for _, c := range Controls(e.p, e.f) {
			if c.ID == id && e.observed {
				e.out.Posture = string(c.Posture)
				e.say("%s: %s", c.Posture, c.Why)
			}
		}
		for _, by := range e.p.Controls[id] {
			e.evidence("controls."+id, by, found)
		}
		for _, s := range slices.Sorted(maps.Keys(e.p.Statements)) {
			if slices.Contains(e.p.Statements[s].Controls, id) {
				e.at("statements."+s, "the policy cites it: %q", e.p.Statements[s].Stated)
			}
		}
	case "statements":
		s := e.p.Statements[id]
		e.out.Answer = s.Stated
		for _, by := range s.By {
			e.evidence("statements."+id, by, found)
		}
		for _, c := range s.Controls {
			e.at("statements."+id, "it cites %s", c)
			e.under(func() {
				for _, by := range e.p.Controls[c] {
					e.evidence("controls."+c, by, found)
				}
			})
		}
	case "drills":
		e.out.Answer = strings.Join(e.p.Drills[id].Of, ", ")
		e.evidence("drills."+id, "drill:"+id, found)
		for _, c := range slices.Sorted(maps.Keys(e.p.Controls)) {
			if e.means(e.p.Controls[c], "drill", id) {
				e.at("controls."+c, "it stands for the control %s", c)
			}
		}
		for _, s := range slices.Sorted(maps.Keys(e.p.Statements)) {
			if e.means(e.p.Statements[s].By, "drill", id) {
				e.at("statements."+s, "it stands for the statement %s: %q", s, e.p.Statements[s].Stated)
			}
		}
	}
	e.say("evidence: %s", found)
	return nil
}

// promise explains objectives as the plan declares them ("tiers.critical.rto", or both of
// "tiers.critical"), with all services and stores for which they count.
func (e *explaining) promise(selector string) error {
	var o *Overview
	if e.observed {
		o = &e.o
	} else {
		e.say("nothing was looked at: the plan alone is explained")
	}
	var known []string
	found := 0
	for _, x := range Promises(e.p, o) {
		known = append(known, x.Selector+"."+x.Metric)
		if x.Selector != selector && x.Selector+"."+x.Metric != selector {
			continue
		}
		found++
		e.out.Answer = x.Text()
		e.at(x.Selector+"."+x.Metric, "%s: %s", x.Metric, x.Text())
		e.under(func() {
			if x.Clock != "" && len(x.Stages) == 0 {
				e.say("its time begins with the %s", x.Clock)
			}
			if len(x.Approved) > 0 {
				e.say("approved by %s", list(x.Approved))
			}
			for _, h := range x.Holds {
				if h.Posture == "" {
					e.say("it counts for %s", h.ID)
				} else {
					e.say("it counts for %s: %s: %s", h.ID, h.Posture, h.Why)
				}
			}
			if len(x.Holds) == 0 {
				e.say("it counts for nothing now: a stricter one does, or nothing has this label")
			}
		})
	}
	switch {
	case found == 0:
		return holdfast.WithHint(fmt.Errorf("\"objectives.%s\" cannot be explained: the plan declares no such objective: %w", selector, holdfast.ErrUsage), "%s; \"holdfast objectives\" lists them", plan.Nearest(selector, known))
	case found > 1:
		e.out.Answer = ""
	}
	return nil
}

// means reports whether one of some references is to something of the plan.
func (e *explaining) means(refs []string, kind, id string) bool {
	return slices.ContainsFunc(refs, func(ref string) bool {
		k, name := e.p.Proof(ref)
		return k == kind && name == id
	})
}

// maxEvidence bounds how many results of one thing are listed, newest first.
const maxEvidence = 50

// evidence lists what there is of one thing that stands for a control, dated, newest
// first. What nobody did is said.
func (e *explaining) evidence(path, ref string, found grades) {
	kind, id := e.p.Proof(ref)
	switch kind {
	case "":
		e.at(path, "%s is not in the plan: nothing stands for it", ref)
	case "drill":
		e.at("drills."+id, "drill %s of %s, expected %s, a proof lasts %s", id, strings.Join(e.p.Drills[id].Of, ", "), e.p.Drills[id].Every, holdfast.FormatDuration(e.p.Drills[id].Fresh()))
		e.under(func() { e.drilled(id, found) })
	case "measure", "statement":
		if e.says(kind + ":" + id) {
			e.at(kind+"s."+id, "%s %s", kind, id)
			e.under(func() { e.attested(kind+":"+id, found) })
			break
		}
		found[holdfast.Claimed]++
		e.at(kind+"s."+id, "%s %s: the plan claims it, and no machine has looked", kind, id)
	default:
		e.at(kind+"s."+id, "%s %s", kind, id)
		e.under(func() { e.attested(kind+":"+id, found) })
	}
}

func (e *explaining) drilled(id string, found grades) {
	var all []*Proof
	for _, store := range e.p.Drills[id].Of {
		for _, x := range e.byStore[store] {
			if x.Kind == ProofDrill && !x.At.After(e.now) {
				all = append(all, x)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Proof) int { return b.At.Compare(a.At) })
	for i, x := range all {
		outcome, why := settled(e.p, *x)
		text := fmt.Sprintf("%s: %s of %s reached %s: %s", x.At.UTC().Format("2006-01-02 15:04Z"), x.source(), x.Store, x.Rung, outcome)
		switch ended := e.ended(x); {
		case why != "":
			text += ", " + why
		case ended != "":
			text += "; it ended: " + ended
		case e.now.Sub(x.At) > e.p.Drills[id].Fresh():
			text += "; it ended by age"
		}
		found[holdfast.Proved]++
		if i < maxEvidence {
			e.seen(x.source(), "%s", text)
		}
	}
	if len(all) > maxEvidence {
		e.say("and %d older ones", len(all)-maxEvidence)
	}
	if len(all) == 0 && e.observed {
		e.say("never done")
	}
}

// says reports whether a person ever attested something.
func (e *explaining) says(ref string) bool {
	return slices.ContainsFunc(e.f.Attested, func(a Attestation) bool { return a.Ref == ref && !a.At.After(e.now) })
}

func (e *explaining) attested(ref string, found grades) {
	n := 0
	for _, a := range slices.Backward(e.f.Attested) { // oldest first
		if a.Ref != ref || a.At.After(e.now) {
			continue
		}
		found[holdfast.Attested]++
		if n++; n <= maxEvidence {
			e.seen(a.ID, "%s: done, says %s", a.At.UTC().Format("2006-01-02 15:04Z"), list(a.By))
		}
	}
	if n == 0 && e.observed {
		e.say("nothing is on record")
	}
}
