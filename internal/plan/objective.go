package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"holdfast/internal/calendar"
)

// An Objective is one promise. It is written as a period ("4h"), as a target with a
// limit ({target: 24h, max: 48h}), as stages ({stages: {…}}), as the policy's own
// words with or without a number ({stated: "minutes", bound: 15m}, or just the
// words), or as not applicable with the reason ({none: "rebuilt from db"}). Words may
// stand beside numbers: {max: 4h, stated: "half a working day"}.
//
// The zero Objective promises nothing.
type Objective struct {
	Target Period // what is aimed at; zero if only a limit is declared
	Max    Period // the limit; zero if none is declared in numbers
	Stated string // the policy's own words
	None   string // why the objective does not apply
	Stages Stages // in order; the first also sets Target and Max
	Terms  *Terms // who agreed to it and why; nil if the plan does not say
}

// Terms say where an objective comes from and who agreed to it.
type Terms struct {
	ApprovedBy []string // people
	ApprovedOn Date
	BoundBy    string   // who chose the number for the policy's words
	Satisfies  []string // obligations and customers whose terms it must meet
	Why        string   // justifies a value that looks wrong
}

// Stages are the steps of a recovery that have limits of their own, in the order of
// the file.
type Stages []Stage

// A Stage is one of them: service back, nearly full level, fully normal.
type Stage struct {
	ID string `yaml:"-"`
	// Target is what is aimed at, and Max the limit.
	Target Period `yaml:"target"`
	Max    Period `yaml:"max" plan:"required"` // the longest acceptable time until the stage is reached
	// From is where its time begins: a clock ("disruption", "detection",
	// "declaration") or the id of an earlier stage, at whose end it begins.
	//
	// Defaults to the stage before, and for the first to the clock of the plan.
	From string `yaml:"from"`
	// Level is the share of the service that must be there: a share of the questions of
	// its probe ("97%"), which a recovery measures, or words, which nothing measures.
	Level string `yaml:"level"`
	Text  string `yaml:"text"` // what is there at its end, in words
}

// Share reads a level of service that is a share: "99.5%" is 0.995. False for words, which
// nothing can measure, and for what is no share: 0, or more than everything.
func Share(level string) (float64, bool) {
	number, percent := strings.CutSuffix(strings.TrimSpace(level), "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !percent || err != nil || !(v > 0 && v <= 100) {
		return 0, false
	}
	return v / 100, true
}

// Get returns the stage with the given id.
func (s Stages) Get(id string) (Stage, bool) {
	if i := slices.IndexFunc(s, func(st Stage) bool { return st.ID == id }); i >= 0 {
		return s[i], true
	}
	return Stage{}, false
}

// Ends returns the limit of each stage, counted from where the objective begins: what
// a stage that begins at the end of another one adds to it.
func (s Stages) Ends() map[string]time.Duration {
	ends := map[string]time.Duration{}
	for i, st := range s {
		begin := time.Duration(0)
		if end, ok := ends[st.From]; ok {
			begin = end
		} else if st.From == "" && i > 0 {
			begin = ends[s[i-1].ID]
		}
		ends[st.ID] = begin + st.Max.Approx()
	}
	return ends
}

// Duration returns the limit, and whether there is one in numbers. Only then can
// the objective be measured. The limit of a staged objective is that of its first
// stage.
func (o Objective) Duration() (time.Duration, bool) {
	if o.None != "" || o.Max.IsZero() {
		return 0, false
	}
	return o.Max.Approx(), true
}

// IsZero reports whether nothing is declared.
func (o Objective) IsZero() bool {
	return o.Target.IsZero() && o.Max.IsZero() && o.Stated == "" && o.None == "" && len(o.Stages) == 0
}

// Unbound reports whether the objective has words but no number.
func (o Objective) Unbound() bool { return o.Stated != "" && o.Max.IsZero() && o.None == "" }

// ApprovedBy returns the people who approved the value.
func (o Objective) ApprovedBy() []string {
	if o.Terms == nil {
		return nil
	}
	return o.Terms.ApprovedBy
}

// String returns the objective as the plan declares it.
func (o Objective) String() string {
	limit := func(target, most Period) string {
		if !target.IsZero() {
			return fmt.Sprintf("%s, at most %s", target, most)
		}
		return most.String()
	}
	text := ""
	switch {
	case o.None != "":
		return "not applicable: " + o.None
	case o.Unbound():
		return fmt.Sprintf("%q, not bound to a number", o.Stated)
	case len(o.Stages) > 0:
		var parts []string
		for _, st := range o.Stages {
			parts = append(parts, st.ID+" "+limit(st.Target, st.Max))
		}
		text = strings.Join(parts, "; then ")
	case !o.Max.IsZero():
		text = limit(o.Target, o.Max)
	default:
		return "not declared"
	}
	if o.Stated != "" {
		text += fmt.Sprintf(" (%q)", o.Stated)
	}
	return text
}

// objectiveForm is an objective written as a map.
type objectiveForm struct {
	Target Period `yaml:"target"` // what is aimed at
	Max    Period `yaml:"max"`    // the limit
	Stated string `yaml:"stated"` // the policy's own words
	Bound  Period `yaml:"bound"`  // the number that the words stand for
	None   string `yaml:"none"`   // why the objective does not apply
	Stages Stages `yaml:"stages"` // limits one after the other

	// ApprovedBy are the people who approved the value. A plan with an approval for
	// objectives shows what lacks it as declared, not approved.
	ApprovedBy []string `yaml:"approved_by"`
	ApprovedOn Date     `yaml:"approved_on"` // the day on which they did
	// BoundBy is who chose the number for the policy's words.
	BoundBy string `yaml:"bound_by"`
	// Satisfies are the obligations and customers whose terms it must meet.
	Satisfies []string `yaml:"satisfies"`
	// Why justifies a value that looks wrong, for example one that is tighter than what
	// it depends on.
	Why string `yaml:"why"`
}

func (d *decoder) objective(n *yaml.Node, o *Objective, path string) {
	const hint = "write a period (4h), {target: 24h, max: 48h}, {stated: \"the policy's words\", bound: 15m} or {none: \"the reason\"}"
	switch n.Kind {
	case yaml.ScalarNode:
		if p, err := calendar.ParsePeriod(n.Value); err == nil {
			if p.Approx() <= 0 {
				d.complain(codeValue, n, path, hint, "%q is zero, which nobody can promise", path)
			}
			d.sane(n, p, path)
			o.Max = p
			return
		}
		// Words are kept as words, and reported as untestable by Check. What begins like
		// a number was meant to be one.
		if c := n.Value[0]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			o.Stated = n.Value
			return
		}
		d.complain(codeValue, n, path, meantPeriod(n.Value, hint), "%q is %s, which is not a period", path, describe(n))
	case yaml.MappingNode:
		d.objectiveMap(n, o, path, hint)
	default:
		d.complain(codeValue, n, path, hint, "%q takes an objective, not %s", path, describe(n))
	}
}

func (d *decoder) objectiveMap(n *yaml.Node, o *Objective, path, hint string) {
	var form objectiveForm
	before := len(d.findings)
	d.structure(n, reflect.ValueOf(&form).Elem(), path)
	if len(d.findings) > before {
		return
	}
	has := func(key string) bool { _, ok := d.pos[join(path, key)]; return ok }
	number := has("target") || has("max")
	switch {
	case has("none"):
		if number || has("stated") || has("bound") || has("stages") || strings.TrimSpace(form.None) == "" {
			d.complain(codeValue, n, path, hint, "%q is not applicable, and needs the reason and nothing else", path)
			return
		}
		o.None = form.None
	case has("stages"):
		if number || has("bound") {
			d.complain(codeValue, n, path, hint, "%q has stages, and a number beside them", path)
			return
		}
		if !d.stages(n, form.Stages, path) {
			return
		}
		o.Stages = form.Stages
		o.Target, o.Max = form.Stages[0].Target, form.Stages[0].Max
	case has("bound"):
		if number || !has("stated") {
			d.complain(codeValue, n, path, hint, "%q binds words to a number, and needs the words and nothing else", path)
			return
		}
		o.Max = form.Bound
	case has("target") && has("max"):
		if form.Target.Approx() > form.Max.Approx() {
			d.complain(codeValue, n, path, "swap the two, or raise the max", "%q aims at %s, which is beyond its max %s", path, form.Target, form.Max)
			return
		}
		o.Target, o.Max = form.Target, form.Max
	case has("max"):
		o.Max = form.Max
	case has("stated") && !has("target"):
	default:
		d.complain(codeValue, n, path, hint, "%q does not say what is promised", path)
		return
	}
	if has("max") && form.Max.Approx() <= 0 || has("bound") && form.Bound.Approx() <= 0 {
		d.complain(codeValue, n, path, hint, "%q is zero, which nobody can promise", path)
		return
	}
	if has("stated") && strings.TrimSpace(form.Stated) == "" {
		d.complain(codeEmpty, n, path, hint, "%q has no words", path)
		return
	}
	o.Stated = form.Stated
	if has("approved_by") || has("approved_on") || has("bound_by") || has("satisfies") || has("why") {
		o.Terms = &Terms{form.ApprovedBy, form.ApprovedOn, form.BoundBy, form.Satisfies, form.Why}
	}
}

// stages checks that each begins somewhere that is known by then.
func (d *decoder) stages(n *yaml.Node, stages Stages, path string) bool {
	if len(stages) == 0 {
		d.complain(codeEmpty, n, path, "write {stages: {back: {max: 4h}, normal: {max: 1d}}}", "%q has no stages", path)
		return false
	}
	known := Clock("").words()
	for _, st := range stages {
		at := path + ".stages." + st.ID
		if st.From != "" && !slices.Contains(known, st.From) {
			d.complainAt(codeValue, at+".from", suggest(st.From, known), "%q begins at %q, which is neither a clock nor an earlier stage", at, st.From)
			return false
		}
		if st.Target.Approx() > st.Max.Approx() {
			d.complainAt(codeValue, at, "swap the two, or raise the max", "%q aims at %s, which is beyond its max %s", at, st.Target, st.Max)
			return false
		}
		if st.Max.Approx() <= 0 {
			d.complainAt(codeValue, at+".max", "write a period such as 4h", "%q is zero, which nobody can promise", at)
			return false
		}
		known = append(known, st.ID)
	}
	return true
}

// maxYears is the longest period that a plan may name. Nobody promises or keeps
// anything for longer, so more is a mistake.
const maxYears = 200

// sane refuses a period that nobody can mean.
func (d *decoder) sane(n *yaml.Node, p Period, path string) {
	if p.Approx() > maxYears*365*24*time.Hour {
		d.complain(codeValue, n, path, "write a shorter period", "%q is %s, which is longer than %d years", path, describe(n), maxYears)
	}
}
