package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/plan/controls"
)

// What each kind of proof can speak for. What a person or a statement vouches for can
// be about anything.
var (
	drillShows = []controls.Topic{controls.Backup, controls.Restore, controls.Recovery}
	exerciseOf = map[ExerciseKind][]controls.Topic{
		Tabletop:  {controls.Exercise, controls.Training, controls.Continuity, controls.Incident, controls.Communication, controls.Recovery, controls.Policy},
		CallTree:  {controls.Exercise, controls.Training, controls.Incident, controls.Communication},
		Technical: {controls.Exercise, controls.Continuity, controls.Backup, controls.Restore, controls.Recovery},
		Failover:  {controls.Exercise, controls.Continuity, controls.Redundancy, controls.Sites, controls.Recovery, controls.Network},
	}
	reviewShows  = []controls.Topic{controls.Policy, controls.Continuity, controls.Risk, controls.Impact, controls.Supplier, controls.Assets, controls.Access, controls.Organisation, controls.Monitoring, controls.Backup, controls.Records, controls.Incident}
	metricShows  = []controls.Topic{controls.Monitoring, controls.Backup, controls.Restore, controls.Incident, controls.Records}
	runbookShows = []controls.Topic{controls.Continuity, controls.Recovery, controls.Incident, controls.Administration}

	// planShows is what a continuity plan as a whole is about.
	planShows = []controls.Topic{controls.Backup, controls.Restore, controls.Recovery, controls.Continuity, controls.Impact, controls.Redundancy, controls.Sites,
		controls.Exercise, controls.Training, controls.Incident, controls.Policy, controls.Supplier, controls.Records, controls.Monitoring, controls.Communication,
		controls.Access, controls.Cryptography, controls.Network, controls.Risk, controls.Assets, controls.Change}
)

// shows returns what a proof can speak for, and whether that is known.
func (l *linter) shows(proof string) ([]controls.Topic, bool) {
	p := l.p
	kind, id, named := strings.Cut(proof, ":")
	if !named {
		id, kind = proof, ""
	}
	is := func(k string, there bool) bool { return there && (kind == "" || kind == k) }
	_, drill := p.Drills[id]
	_, review := p.Reviews[id]
	_, metric := p.Metrics[id]
	_, runbook := p.Runbooks[id]
	exercise, rehearsed := p.Exercises[id]
	switch {
	case is("drill", drill):
		return drillShows, true
	case is("exercise", rehearsed):
		return exerciseOf[exercise.Kind], true
	case is("review", review):
		return reviewShows, true
	case is("metric", metric):
		return metricShows, true
	case is("runbook", runbook):
		return runbookShows, true
	}
	return nil, false
}

// ControlSet returns the controls that a framework's id stands for: those that are shipped,
// with the company's own. Nil if nothing is known of them.
func (p *Plan) ControlSet(framework string) *controls.Set {
	shipped, _ := controls.Of(framework)
	own := p.Frameworks[framework].Own
	if len(own) == 0 {
		return shipped
	}
	var list []controls.Control
	if shipped != nil {
		list = slices.Clone(shipped.Controls)
	}
	for _, c := range sorted(own) {
		list = append(list, controls.Control{ID: c, Name: own[c]})
	}
	return controls.New(framework, framework, list)
}

// controls compares the mapping of controls with what the standards want.
func (l *linter) controls() {
	p := l.p
	sets := map[string]*controls.Set{}
	of := func(id string) *controls.Set {
		s, ok := sets[id]
		if !ok {
			s = p.ControlSet(id)
			sets[id] = s
			if f, declared := p.Frameworks[id]; s == nil && (!declared || len(f.Clauses)+len(f.Cited) > 0) {
				path := "frameworks." + id
				if !declared {
					path = "controls"
				}
				l.report(codeDoubtful, holdfast.SeverityNote, path, fmt.Sprintf("list its controls under frameworks.%s.own; known are %s", id, strings.Join(controls.Sets(), ", ")),
					"the controls of %q are not known here: nobody checks their ids", id)
			}
		}
		return s
	}
	mapped := map[string]map[string]bool{}
	doubted := map[string]bool{}
	for _, clause := range sorted(p.Controls) {
		id, control, ok := strings.Cut(clause, "/")
		path := "controls." + clause
		if !ok {
			l.warn(codeDoubtful, path, "write the framework before it, such as \"iso27001/A.8.13\"", "%q names a control without its framework", clause)
			continue
		}
		if !l.applies(id) {
			continue // rules of a sector whose data nobody has
		}
		s := of(id)
		if len(p.Controls[clause]) == 0 {
			l.warn(CodeUnproved, path, "name a drill, exercise, review, metric or measure", "nothing proves the control %q", clause)
		}
		if s == nil {
			continue
		}
		c, found := s.Find(control)
		if !found {
			if len(s.Family(control)) == 0 {
				l.unknownControl(path, s, control)
			}
			continue
		}
		if mapped[id] == nil {
			mapped[id] = map[string]bool{}
		}
		mapped[id][c.ID] = true
		if l.doubtful(path, s, c, p.Controls[clause]) {
			doubted[id+"/"+c.ID] = true
		}
	}
	for _, id := range sorted(p.Frameworks) {
		if l.applies(id) {
			l.framework(id, of(id), mapped[id], doubted)
		}
	}
	l.cited(of)
	l.sector()
}

// applies reports whether a framework's rules apply to the data that the plan declares.
func (l *linter) applies(framework string) bool { return l.p.Marked(l.p.Frameworks[framework].When) }

func (l *linter) unknownControl(path string, s *controls.Set, control string) {
	hint := "correct the number, or list it under frameworks." + s.ID + ".own"
	if near := s.Nearest(control); len(near) > 0 {
		hint = "perhaps " + named(near) + " is meant"
	}
	l.warn(codeDoubtful, path, hint, "%s has no control %q", s.Name, control)
}

// named writes controls with what they are about.
func named(list []controls.Control) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = fmt.Sprintf("%s (%s)", c.ID, c.Name)
	}
	return strings.Join(out, " or ")
}

// better names the controls of a set that the topics belong to, controls before their
// enhancements.
func better(s *controls.Set, shows []controls.Topic) []controls.Control {
	list := s.About(shows)
	slices.SortStableFunc(list, func(a, b controls.Control) int {
		return cmp.Compare(strings.Count(a.ID, "("), strings.Count(b.ID, "("))
	})
	const most = 3
	return list[:min(most, len(list))]
}

// doubtful reports a control whose intent none of its proofs can speak for.
func (l *linter) doubtful(path string, s *controls.Set, c controls.Control, proofs []string) bool {
	if len(c.About) == 0 {
		return false // the company's own
	}
	var shows []controls.Topic
	for _, proof := range proofs {
		topics, known := l.shows(proof)
		if !known {
			return false // vouched for by people, or undeclared, which is reported
		}
		shows = append(shows, topics...)
	}
	if len(shows) == 0 || c.Fits(shows) {
		return false
	}
	hint := "map it to something that shows that"
	if fit := better(s, shows); len(fit) > 0 {
		hint = "perhaps " + named(fit) + " is meant"
	}
	l.warn(codeDoubtful, path, hint, "%s %s is about %s, and %s shows %s", s.Name, c.ID, c.Name, several(proofs), topicNames(shows))
	return true
}

func topicNames(topics []controls.Topic) string {
	var out []string
	for _, t := range topics {
		if !slices.Contains(out, string(t)) {
			out = append(out, string(t))
		}
	}
	const most = 3
	return strings.Join(out[:min(most, len(out))], ", ")
}

// essential are the controls of each set that a continuity plan is hardly without.
var essential = map[string][]string{
	"iso27001":  {"A.5.30", "A.8.13"},
	"soc2":      {"A1.2", "A1.3"},
	"nist80053": {"CP-9", "CP-10"},
	"hipaa":     {"164.308(a)(7)"},
	"iec62443":  {"SR 7.3", "SR 7.4"},
}

// framework looks at the table of clauses that a policy declares.
func (l *linter) framework(id string, s *controls.Set, mapped, doubted map[string]bool) {
	p := l.p
	f, path := p.Frameworks[id], "frameworks."+id
	for _, clause := range sorted(f.None) {
		if proofs, both := p.Controls[id+"/"+clause]; both && len(proofs) > 0 {
			l.warn(codeDoubtful, path+".none."+clause, "keep one of the two", "%s is said not to apply, and %s stands for it", clause, several(proofs))
		}
	}
	if s == nil || len(f.Clauses) == 0 {
		return
	}
	listed := map[string]bool{}
	var unproved []string
	for i, clause := range f.Clauses {
		at := fmt.Sprintf("%s.clauses[%d]", path, i)
		c, ok := s.Find(clause)
		if !ok {
			if family := s.Family(clause); len(family) > 0 {
				for _, c := range family {
					listed[c.ID] = true
				}
			} else {
				l.unknownControl(at, s, clause)
			}
			continue
		}
		listed[c.ID] = true
		switch {
		case doubted[id+"/"+c.ID] || f.None[clause] != "":
		case len(c.About) > 0 && !c.Fits(planShows):
			hint := "take it out of the table"
			if fit := better(s, []controls.Topic{controls.Backup, controls.Recovery}); len(fit) > 0 {
				hint = "perhaps " + named(fit) + " is meant"
			}
			l.warn(codeDoubtful, at, hint, "%s %s is about %s, which a continuity plan does not show", s.Name, c.ID, c.Name)
		case !mapped[c.ID]:
			unproved = append(unproved, c.ID)
		}
	}
	if len(unproved) > 0 {
		l.warn(CodeUnproved, path+".clauses", fmt.Sprintf("add \"%s/%s: […]\" to controls for each, or take it out of the table", id, unproved[0]), "nothing proves %s of the table of %s", strings.Join(unproved, ", "), s.Name)
	}
	shipped, ok := controls.Of(id)
	if !ok {
		return
	}
	for _, want := range essential[shipped.ID] {
		if c, ok := s.Find(want); ok && !listed[c.ID] && !mapped[c.ID] {
			l.report(CodeUnproved, holdfast.SeverityNote, path+".clauses", fmt.Sprintf("add %q to the table, and what proves it to controls", want),
				"the table of %s lacks %s, which is about %s", s.Name, c.ID, c.Name)
		}
	}
}

// cited compares the controls that the text cites with the tables.
func (l *linter) cited(of func(string) *controls.Set) {
	p := l.p
	in := func(f Framework, s *controls.Set, cite string) bool {
		fold := func(x string) string {
			return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(x, " ", ""), "-", ""))
		}
		return slices.ContainsFunc(f.Clauses, func(c string) bool {
			if fold(c) == fold(cite) {
				return true
			}
			stem, family := strings.CutSuffix(fold(cite), ".x")
			return family && strings.HasPrefix(fold(c), stem+".")
		})
	}
	tables := false
	for _, id := range sorted(p.Frameworks) {
		f := p.Frameworks[id]
		tables = tables || len(f.Clauses) > 0
		if len(f.Clauses) == 0 || !l.applies(id) {
			continue
		}
		s := of(id)
		for i, cite := range f.Cited {
			if !in(f, s, cite) {
				l.warn(codeUnlisted, fmt.Sprintf("frameworks.%s.cited[%d]", id, i), fmt.Sprintf("add %q to frameworks.%s.clauses, or do not cite it", cite, id), "the policy cites %s %s, and its table does not list it", id, cite)
			}
		}
	}
	if !tables {
		return
	}
	look := func(path, what string, cites []string) {
		for i, cite := range cites {
			_, control, named := strings.Cut(cite, "/")
			if !named {
				control = cite
			}
			listed := false
			for _, fid := range sorted(p.Frameworks) {
				f := p.Frameworks[fid]
				_, own := f.Own[control]
				listed = listed || own || in(f, nil, control) || slices.Contains(f.Cited, control) // which is reported there
			}
			if !listed {
				l.warn(codeUnlisted, fmt.Sprintf("%s.controls[%d]", path, i), fmt.Sprintf("add %q to the table of its framework, or do not cite it", cite), "%s cites %s, and no table lists it", what, cite)
			}
		}
	}
	look("plan", "the head of the plan", p.Plan.Controls)
	for _, id := range sorted(p.Statements) {
		look("statements."+id, fmt.Sprintf("the statement %q", id), p.Statements[id].Controls)
	}
}

// sectors are the frameworks that hold only for some data.
var sectors = []struct {
	framework string
	marker    Marker
	data      string
}{{"hipaa", Health, "health data"}, {"iec62443", Industrial, "data of industrial control"}}

// sector looks for rules of a sector without its data, and for health data without
// rules.
func (l *linter) sector() {
	p := l.p
	for _, sec := range sectors {
		place := ""
		for _, id := range sorted(p.Frameworks) {
			if s, ok := controls.Of(id); ok && s.ID == sec.framework {
				place = "frameworks." + id
			}
		}
		for _, clause := range sorted(p.Controls) {
			id, _, _ := strings.Cut(clause, "/")
			if s, ok := controls.Of(id); ok && s.ID == sec.framework && place == "" {
				place = "controls." + clause
			}
		}
		holder := ""
		for _, id := range l.stores {
			if slices.Contains(p.Stores[id].Contains, sec.marker) {
				holder = id
				break
			}
		}
		name, _ := controls.Of(sec.framework)
		framework := strings.TrimPrefix(place, "frameworks.")
		switch {
		case place != "" && holder == "" && !slices.Contains(p.Frameworks[framework].When, sec.marker):
			l.warn(codeSector, place, fmt.Sprintf("mark the stores that hold such data by \"contains: [%s]\", or write \"when: [%s]\" at the framework", sec.marker, sec.marker),
				"%s is mapped, and no store holds %s", name.Name, sec.data)
		case place == "" && holder != "" && sec.marker == Health:
			l.report(codeSector, holdfast.SeverityNote, "stores."+holder+".contains", fmt.Sprintf("map %s under controls, or file an exception that says which other law applies", sec.framework),
				"%q holds %s, and nothing is mapped to %s", holder, sec.data, name.Name)
		}
	}
}
