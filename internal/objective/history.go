package objective

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// A Version is one text of the plan, with when it came into force.
type Version struct {
	From time.Time
	Plan *plan.Plan
}

// inForce is the plan that was in force at an instant: what was promised then is what a
// measurement of then is judged by. Before the first version that is known, it is the plan
// of now.
func (k *known) inForce(at time.Time) *plan.Plan {
	p := k.p
	for _, v := range k.f.Versions { // oldest first
		if v.From.After(at) {
			break
		}
		p = v.Plan
	}
	return p
}

// ended is what has changed since a proof, so that it proves nothing about what is there now; "" if
// it holds. The plan of its time is compared with the one in force.
func (k *known) ended(x *Proof) string {
	old := k.inForce(x.At)
	if old == k.p {
		return ""
	}
	if x.Store != "" {
		a, b := old.Stores[x.Store], k.p.Stores[x.Store]
		_, held := k.p.Backups[b.Protect].Copies[x.Location]
		switch {
		case a.Kind != b.Kind || !reflect.DeepEqual([]any{a.Postgres, a.MySQL, a.SQLite, a.Files, a.Git, a.Object, a.VM, a.Exec}, []any{b.Postgres, b.MySQL, b.SQLite, b.Files, b.Git, b.Object, b.VM, b.Exec}):
			return "the store is declared differently since"
		case !slices.Equal(old.EncryptTo(), k.p.EncryptTo()):
			return "the keys changed since"
		case x.Location != "" && !held:
			return fmt.Sprintf("location %q holds no copies of it any more", x.Location)
		case x.Location != "" && !reflect.DeepEqual(old.Locations[x.Location], k.p.Locations[x.Location]):
			return fmt.Sprintf("location %q is declared differently since", x.Location)
		}
		return ""
	}
	a, b := old.Services[x.Service], k.p.Services[x.Service]
	switch {
	case !reflect.DeepEqual(old.HardNeeds(x.Service), k.p.HardNeeds(x.Service)):
		return "what it needs changed since"
	case a.Runbook != b.Runbook || !reflect.DeepEqual(old.Runbooks[a.Runbook].Steps, k.p.Runbooks[b.Runbook].Steps):
		return "its runbook changed since"
	}
	return ""
}

// A Judged is one measurement with the verdict by the plan of its time.
type Judged struct {
	At      time.Time `json:"at"`
	Source  string    `json:"source"` // "drill 12", "incident INC-3"
	Value   Seconds   `json:"value_seconds"`
	Limit   Seconds   `json:"limit_seconds,omitempty"`
	Verdict Verdict   `json:"verdict"`
	Version string    `json:"plan_version,omitempty"` // as the company counts them
	Digest  string    `json:"plan_digest"`
	Clock   string    `json:"rto_clock,omitempty"` // of an outage: where it is counted from, by the plan of then
}

// A Value is what is known of one objective from one kind of source. Kinds are never merged: a
// drill in a sandbox does not measure what a real recovery does.
type Value struct {
	From   string  `json:"from"` // "declared", "composed", "drill", "incident"
	N      int     `json:"n"`
	Latest Seconds `json:"latest_seconds,omitempty"`
	Worst  Seconds `json:"worst_seconds,omitempty"`
	Age    Seconds `json:"age_seconds,omitempty"` // of the latest
	// Trend is "worse", "better" or "steady": the latest against the middle of those before
	// it; "" for fewer than three.
	Trend  string `json:"trend,omitempty"`
	Source string `json:"source,omitempty"` // of the latest
	Note   string `json:"note,omitempty"`
}

// maxHistory bounds how many measurements of one objective are shown, newest first.
const maxHistory = 20

// history fills in what is known of an objective of a store or service, kind by kind.
func (k *known) history(st *ObjectiveState, node, metric string, pr Prediction) {
	if st.Limit == 0 && st.Declared == "not declared" {
		return
	}
	st.Values = append(st.Values, Value{From: "declared", N: 1, Latest: st.Limit, Worst: st.Limit, Note: st.Declared})
	if metric == plan.MetricRTO && (len(pr.Parts) > 0 || len(pr.Missing) > 0) {
		st.Values = append(st.Values, Value{From: "composed", N: len(pr.Parts), Latest: pr.Total, Worst: pr.Total, Note: pr.Text() + "; " + pr.Why})
	}
	for _, kind := range []ProofKind{ProofDrill, ProofIncident} {
		var all []Judged
		for _, x := range k.measuring(node) {
			p := k.inForce(x.At)
			value, ok := measuredOf(x, p.RTOClock(), metric, kind)
			if !ok || x.At.After(k.now) {
				continue
			}
			j := Judged{At: x.At, Source: x.source(), Value: Seconds(value), Version: p.Plan.Version, Digest: p.Digest()}
			rto, rpo, _ := p.ObjectiveOf(node)
			o := rto
			if metric == plan.MetricRPO {
				o = rpo
			} else if kind == ProofIncident {
				j.Clock = string(p.RTOClock())
			}
			limit, _ := o.Duration()
			j.Limit, j.Verdict = Seconds(limit), Judge(value, o.Target.Approx(), limit)
			all = append(all, j)
		}
		slices.SortStableFunc(all, func(a, b Judged) int { return a.At.Compare(b.At) })
		v := Value{From: string(kind), N: len(all), Trend: trend(all)}
		if len(all) > 0 {
			last := all[len(all)-1]
			v.Latest, v.Source, v.Age = last.Value, last.Source, Seconds(k.now.Sub(last.At))
			for _, j := range all {
				v.Worst = max(v.Worst, j.Value)
			}
			if metric == plan.MetricRTO && kind == ProofDrill {
				v.Note = "the restore alone: a sandbox has no detection and no decision"
			}
		}
		st.Values = append(st.Values, v)
		slices.Reverse(all)
		st.History = append(st.History, all[:min(len(all), maxHistory)]...)
	}
	slices.SortStableFunc(st.History, func(a, b Judged) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Source, b.Source)) })
}

// measuring are the proofs that can tell about a store or service.
func (k *known) measuring(node string) []*Proof {
	if _, ok := k.p.Stores[node]; ok {
		return k.byStore[node]
	}
	return k.byService[node]
}

// measuredOf is what one proof measured of an objective.
func measuredOf(x *Proof, clock plan.Clock, metric string, kind ProofKind) (time.Duration, bool) {
	if x.Kind != kind || x.Outcome != holdfast.Passed {
		return 0, false
	}
	if metric == plan.MetricRPO {
		return x.DataAge, x.DataAgeKnown
	}
	if kind == ProofDrill {
		parts := restoreParts(x.Parts)
		return parts.Sum(), len(parts) > 0
	}
	return x.outage(clock), x.Parts.Proven()
}

// trend compares the latest with the middle of those before it. A tenth is noise.
func trend(all []Judged) string {
	if len(all) < 3 {
		return ""
	}
	var before []Seconds
	for _, j := range all[:len(all)-1] {
		before = append(before, j.Value)
	}
	slices.Sort(before)
	middle, last := float64(before[len(before)/2]), float64(all[len(all)-1].Value)
	switch {
	case last > middle*1.1:
		return "worse"
	case last < middle*0.9:
		return "better"
	}
	return "steady"
}

// A StageState is one stage of an objective in stages.
type StageState struct {
	ID      string  `json:"id"`
	Target  Seconds `json:"target_seconds,omitempty"`
	Limit   Seconds `json:"limit_seconds"`
	From    string  `json:"from"`                    // where its time begins
	Value   Seconds `json:"value_seconds,omitempty"` // from there; of an unfinished one until now
	Known   bool    `json:"known"`                   // Value was measured, or can be computed
	Verdict Verdict `json:"verdict"`
	// State says how far it is. An unfinished stage is over as soon as its limit has passed:
	// nobody has to finish it first.
	State StageProgress `json:"state"`
	Level string        `json:"level,omitempty"` // of service, that it asks for
	Seen  string        `json:"seen,omitempty"`  // the last measurement of the level, or why there is none
}

// StageProgress says how far a stage is.
type StageProgress string

// How far a stage is.
const (
	StageDone       StageProgress = "done"
	StageUnfinished StageProgress = "unfinished" // a recovery goes on, or went no further
	StageUnknown    StageProgress = "unknown"    // no recovery has shown it
)

// Instants are the ends of a recovery, counted from the disruption; zero is not known. A plan's
// stages are read as them in order: one stage is Usable, two are Usable and Normal, three are
// all; of more, the rest is not known. A stage that asks for a level of service ends only when
// that was measured too.
type Instants struct {
	Detected, Declared time.Duration
	Usable             time.Duration        // usable from outside
	Whole              time.Duration        // all that the runbook asks for is done
	Normal             time.Duration        // redundancy and backups are back
	Levels             map[string]LevelSeen // by stage
	Now                time.Duration        // how long ago the disruption is; zero: nothing happened
	Foreseen           bool                 // nothing was measured: levels are taken to hold
}

// A LevelSeen is what was measured of the level that a stage asks for.
type LevelSeen struct {
	At   time.Duration // when it held, from the disruption; zero: not yet
	Seen string        // the last measurement in words
}

// Stages judges each stage of an objective by itself: a late third stage does not hide a timely
// first one.
func Stages(o plan.Objective, clock plan.Clock, at Instants) []StageState {
	ends := []time.Duration{at.Usable, at.Whole, at.Normal}
	if len(o.Stages) == 2 {
		ends = []time.Duration{at.Usable, at.Normal}
	}
	clocks := map[string]time.Duration{string(plan.ClockDisruption): 0, string(plan.ClockDetection): at.Detected, string(plan.ClockDeclaration): at.Declared}
	reached := map[string]time.Duration{}
	var out []StageState
	for i, st := range o.Stages {
		from := st.From
		if from == "" && i == 0 {
			from = string(clock)
		} else if from == "" {
			from = o.Stages[i-1].ID
		}
		x := StageState{ID: st.ID, Target: Seconds(st.Target.Approx()), Limit: Seconds(st.Max.Approx()), From: from, Verdict: CannotSay, State: StageUnknown, Level: st.Level}
		begin, known := clocks[from]
		if end, ok := reached[from]; ok {
			begin, known = end, true
		}
		end := time.Duration(0)
		if i < len(ends) {
			end = at.end(ends[i], &x)
		}
		switch {
		case end > 0:
			x.State, reached[st.ID] = StageDone, end
			if known {
				x.Value, x.Known = Seconds(max(0, end-begin)), true
				x.Verdict = Judge(x.Value.Duration(), st.Target.Approx(), st.Max.Approx())
			}
		case at.Now > 0 && i < len(ends) && !at.unseen(st):
			x.State = StageUnfinished
			if so := at.Now - begin; known && so > st.Max.Approx() {
				x.Value, x.Known, x.Verdict = Seconds(so), true, Over
			}
		}
		out = append(out, x)
	}
	return out
}

// end is when a stage ended whose instant is given; zero if it has not. What is known of its level
// is written into x.
func (at Instants) end(instant time.Duration, x *StageState) time.Duration {
	if x.Level == "" || at.Foreseen {
		return instant
	}
	seen, measured := at.Levels[x.ID]
	switch {
	case measured:
		x.Seen = seen.Seen
	case at.unseen(plan.Stage{ID: x.ID, Level: x.Level}):
		x.Seen = "nothing measured it: it is no share, or the service had no probe"
	}
	if instant == 0 || seen.At == 0 {
		return 0
	}
	return max(instant, seen.At)
}

// unseen reports whether a recovery happened and nothing looks at the level that a stage asks for: then
// nobody can say, and no time that passes makes it a miss.
func (at Instants) unseen(st plan.Stage) bool {
	_, measured := at.Levels[st.ID]
	return at.Now > 0 && st.Level != "" && !measured
}

// Text writes the stage: "back 2h of 4h, within".
func (s StageState) Text() string {
	text := fmt.Sprintf("%s unknown of %s", s.ID, s.Limit)
	switch {
	case s.State == StageUnfinished && s.Known:
		text = fmt.Sprintf("%s unfinished after %s of %s, %s", s.ID, s.Value, s.Limit, s.Verdict)
	case s.State == StageUnfinished:
		text = fmt.Sprintf("%s unfinished, within %s of %s", s.ID, s.Limit, s.From)
	case s.Known:
		text = fmt.Sprintf("%s %s of %s, %s", s.ID, s.Value, s.Limit, s.Verdict)
	}
	if s.Seen != "" {
		text += fmt.Sprintf(" (level %s: %s)", s.Level, s.Seen)
	}
	return text
}
