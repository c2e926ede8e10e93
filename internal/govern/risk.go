package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/plan"
)

// Facts about the register.
const (
	FactRisk       = "risk.opened"     // the system itself saw a risk
	FactAssessed   = "risk.assessed"   // somebody judged one
	FactRiskClosed = "risk.closed"     // with proof
	FactRiskGone   = "risk.cause-gone" // what was seen is not there any more; people end it
	FactRiskStays  = "risk.stays"      // it was to be closed, and nothing proves that it may
)

// Sorts of risk that the system sees by itself.
const (
	RiskCoverage = "coverage" // nothing protects something
	RiskPerson   = "person"   // somebody's absence stops everything
	RiskSupplier = "supplier" // too little is known of a supplier, or it promises too little
	RiskImpact   = "impact"   // what an impact analysis says
	RiskFound    = "found"    // it is there, and the plan does not know it
	RiskPlan     = "plan"     // the plan declares it
)

// CodeFound is the finding about something that is there and that the plan does not know.
const CodeFound = "HF-L16"

// A Risk is one entry of the register. Those of the plan are read from it; the system's
// own are kept until there is proof that they are over.
type Risk struct {
	ID      string   `json:"id"`
	Sort    string   `json:"sort"`
	Subject string   `json:"subject"` // "stores.db"
	Event   string   `json:"event"`
	Hazard  string   `json:"hazard,omitempty"`
	Rule    string   `json:"rule,omitempty"` // the finding that it stands for
	Link    string   `json:"link,omitempty"` // where it comes from: "services.api.bia"
	By      []string `json:"by,omitempty"`   // what mitigates it
	Owner   string   `json:"owner"`
	Review  string   `json:"review,omitempty"`

	// Likelihood and Impact are from 1, hardly, to 5; 0: nobody has assessed it.
	Likelihood int       `json:"likelihood"`
	Impact     int       `json:"impact"`
	Treat      string    `json:"treat,omitempty"`
	Assessed   time.Time `json:"assessed,omitzero"`
	AssessedBy string    `json:"assessed_by,omitempty"`
	Note       string    `json:"note,omitempty"`

	Opened time.Time `json:"opened,omitzero"`
	Closed time.Time `json:"closed,omitzero"`
	Proof  string    `json:"proof,omitempty"` // for its end
	// Stands is whether the cause was there at the last look.
	Stands bool `json:"stands"`
}

const kindRisk = "risk"

// standing is what the system sees now that belongs into the register (RSK-04, BKP-15,
// OBJ-04).
func standing(p *plan.Plan, obs Observed) map[string]Risk {
	out := map[string]Risk{}
	add := func(r Risk) {
		if r.Owner == "" {
			r.Owner = p.Plan.Owner
		}
		r.Event, r.Stands = oneLine(r.Event), true
		if old, there := out[r.ID]; there {
			r.Event = oneLine(old.Event + "; " + r.Event)
		}
		out[r.ID] = r
	}
	for subject, why := range obs.Gaps {
		add(Risk{ID: RiskCoverage + "." + subject, Sort: RiskCoverage, Subject: subject, Rule: plan.CodeUnprotected, Event: fmt.Sprintf("%s is lost, and nothing brings it back: %s", subject, why), Owner: ownerOf(p, subject)})
	}
	for _, f := range obs.Findings {
		if f.Severity == holdfast.SeverityNote {
			continue // excepted, or worth knowing
		}
		sort := sortOf[f.Code]
		if sort == "" {
			continue
		}
		subject := f.Subject
		if sort == RiskCoverage || sort == RiskSupplier {
			subject = upTo(subject, 2)
		}
		add(Risk{ID: sort + "." + subject, Sort: sort, Subject: subject, Rule: f.Code, Event: f.Message, Owner: ownerOf(p, subject)})
	}
	for _, id := range p.Few() {
		add(Risk{ID: RiskPerson + ".people." + id, Sort: RiskPerson, Subject: "people." + id, Rule: plan.CodeTreatment, Event: fmt.Sprintf("%s, one of %d people, is away or leaves", id, len(p.People))})
	}
	for _, id := range sorted(p.Services) {
		b := p.Services[id].BIA
		if b == nil {
			continue
		}
		a := b.Analyse()
		if a.Tolerable == 0 {
			continue
		}
		add(Risk{ID: RiskImpact + ".services." + id, Sort: RiskImpact, Subject: "services." + id, Link: "services." + id + ".bia", Owner: p.Services[id].Owner, Impact: a.At.Level,
			Event: fmt.Sprintf("%q is away for %s or longer: impact %d of %d %s", id, holdfast.FormatDuration(a.Tolerable), a.At.Level, plan.MaxImpact, a.At.Text)})
	}
	return out
}

// sortOf says which findings are risks.
var sortOf = map[string]string{
	plan.CodeUnprotected: RiskCoverage, CodeFound: RiskFound,
	"HF-L20": RiskPerson,
	"HF-L5":  RiskSupplier, "HF-L43": RiskSupplier, "HF-L44": RiskSupplier,
}

// upTo keeps the first parts of a path.
func upTo(path string, n int) string {
	parts := strings.Split(path, ".")
	return strings.Join(parts[:min(n, len(parts))], ".")
}

func ownerOf(p *plan.Plan, subject string) string {
	section, id, _ := strings.Cut(subject, ".")
	switch section {
	case "stores":
		return p.Stores[id].Owner
	case "services":
		return p.Services[id].Owner
	case "suppliers":
		return p.Suppliers[id].Owner
	}
	return ""
}

// settlesWithin is how long something may look uncovered before it is a risk, or one
// again: a location is away, a first backup runs, the look at a place is of an hour ago.
// What the plan protects with nothing is one at once, by the linter's finding.
const settlesWithin = 24 * time.Hour

// lasting keeps the gaps that were there for long enough.
func (s *settling) lasting() (map[string]string, error) {
	out := map[string]string{}
	for _, subject := range sorted(s.obs.Gaps) {
		key := "gap." + subject
		since, err := time.Parse(time.RFC3339, s.seen[key])
		if err != nil {
			if err := s.remember(s.ctx, s.tx, key, s.now.Format(time.RFC3339)); err != nil {
				return nil, err
			}
			continue
		}
		if s.now.Sub(since) >= settlesWithin {
			out[subject] = s.obs.Gaps[subject]
		}
	}
	for key, since := range s.seen {
		subject, gap := strings.CutPrefix(key, "gap.")
		if _, still := s.obs.Gaps[subject]; gap && since != "" && !still {
			if err := s.remember(s.ctx, s.tx, key, ""); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// risks opens what the system sees, and notes what it does not see any more. An end
// needs a person and proof; one that ended and is seen again is open again, unless an
// exception is still in force for it.
func (s *settling) risks() error {
	obs := s.obs
	var err error
	if obs.Gaps, err = s.lasting(); err != nil {
		return err
	}
	now := standing(s.p, obs)
	kept, err := items[Risk](s.ctx, s.tx, kindRisk)
	if err != nil {
		return err
	}
	known := map[string]Risk{}
	for _, r := range kept {
		known[r.ID] = r
	}
	waived, err := s.waivers(s.ctx, s.tx)
	if err != nil {
		return err
	}
	for _, id := range sorted(now) {
		r := now[id]
		old, there := known[id]
		switch {
		case there && old.Closed.IsZero() && old.Stands && old.Event == r.Event:
			continue
		case there && old.Closed.IsZero():
			old.Stands, old.Event = true, r.Event
			r = old
		case there && (waived(r.Rule, r.Subject, s.now) != "" || s.now.Sub(old.Closed) < settlesWithin):
			continue
		default:
			r.Opened = s.now
			if err := s.fact(s.ctx, s.tx, FactRisk, r.Subject, "holdfast", map[string]any{"risk": id, "event": r.Event, "owner": r.Owner, "rule": r.Rule, "again": there}); err != nil {
				return err
			}
		}
		if err := put(s.ctx, s.tx, kindRisk, id, true, s.now, r); err != nil {
			return err
		}
	}
	for _, r := range kept {
		if _, stands := now[r.ID]; stands || !r.Stands {
			continue
		}
		r.Stands = false
		if err := s.fact(s.ctx, s.tx, FactRiskGone, r.Subject, "holdfast", map[string]any{"risk": r.ID}); err != nil {
			return err
		}
		if err := put(s.ctx, s.tx, kindRisk, r.ID, r.Closed.IsZero(), s.now, r); err != nil {
			return err
		}
	}
	return nil
}

// Risks is the register: what the plan declares, and what the system sees. It settles
// first.
func (m *Module) Risks(ctx context.Context) ([]Risk, error) {
	if err := m.Settle(ctx); err != nil {
		return nil, err
	}
	var out []Risk
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) (err error) {
		out, err = m.register(ctx, tx)
		return err
	})
	return out, err
}

func (m *Module) register(ctx context.Context, tx *db.Tx) ([]Risk, error) {
	kept, err := items[Risk](ctx, tx, kindRisk)
	if err != nil {
		return nil, err
	}
	assessed := map[string]Risk{}
	out := []Risk{}
	p := m.cfg.Plan()
	for _, r := range kept {
		if r.Sort == RiskPlan {
			assessed[r.ID] = r
		} else {
			out = append(out, r)
		}
	}
	var declared []Risk
	for _, id := range sorted(p.Risks) {
		x := p.Risks[id]
		r := Risk{ID: id, Sort: RiskPlan, Subject: "risks." + id, Event: x.Event, Hazard: x.Hazard, By: x.By, Owner: x.Owner, Review: x.Review.String(), Likelihood: x.Likelihood, Impact: x.Impact, Treat: string(x.Treat), Stands: true}
		if a, ok := assessed[id]; ok {
			r.Likelihood, r.Impact, r.Treat, r.Assessed, r.AssessedBy, r.Note = a.Likelihood, a.Impact, a.Treat, a.Assessed, a.AssessedBy, a.Note
		}
		declared = append(declared, r)
	}
	slices.SortStableFunc(out, func(a, b Risk) int { return bit(!a.Closed.IsZero()) - bit(!b.Closed.IsZero()) })
	return append(declared, out...), nil
}

func (m *Module) risk(ctx context.Context, tx *db.Tx, id string) (Risk, error) {
	all, err := m.register(ctx, tx)
	if err != nil {
		return Risk{}, err
	}
	i := slices.IndexFunc(all, func(r Risk) bool { return r.ID == id })
	if i < 0 {
		return Risk{}, holdfast.WithHint(fmt.Errorf("no risk %q: %w", id, holdfast.ErrUsage), "\"holdfast risk list\" lists them")
	}
	return all[i], nil
}

// An Assessment is somebody's judgement of one risk. Two risks never share one.
type Assessment struct {
	By         string `json:"by"`
	Likelihood int    `json:"likelihood"`
	Impact     int    `json:"impact"`
	Treat      string `json:"treat"`
	Note       string `json:"note,omitempty"`
}

// Assess records a judgement of one risk.
func (m *Module) Assess(ctx context.Context, id string, a Assessment) (r Risk, err error) {
	p := m.cfg.Plan()
	if _, ok := p.People[a.By]; !ok {
		return r, refuse("the people stand under \"people\" of the plan", "%q is not a person of the plan in force", a.By)
	}
	treatments := []string{string(plan.Mitigate), string(plan.Accept), string(plan.Transfer), string(plan.Avoid)}
	if a.Likelihood < 1 || a.Likelihood > 5 || a.Impact < 1 || a.Impact > 5 || !slices.Contains(treatments, a.Treat) {
		return r, holdfast.WithHint(fmt.Errorf("an assessment needs a likelihood and an impact from 1 to 5, and a treatment: %w", holdfast.ErrUsage), "the treatments are %s", list(treatments))
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if r, err = m.risk(ctx, tx, id); err != nil {
			return err
		}
		r.Likelihood, r.Impact, r.Treat, r.Note, r.AssessedBy, r.Assessed = a.Likelihood, a.Impact, a.Treat, oneLine(a.Note), a.By, m.cfg.Clock().UTC().Truncate(time.Microsecond)
		if err := put(ctx, tx, kindRisk, id, r.Closed.IsZero(), r.Assessed, r); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactAssessed, r.Subject, a.By, map[string]any{"risk": id, "assessment": a})
	})
	return r, err
}

// CloseRisk ends a risk that the system saw, with proof: a drill of what was not covered
// that passed after it was opened, the cause gone, or an approved exception. Anything
// else is refused, and is a fact.
func (m *Module) CloseRisk(ctx context.Context, id, by, note string) (r Risk, err error) {
	if err := m.Settle(ctx); err != nil {
		return r, err
	}
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return r, err
	}
	p, now := m.cfg.Plan(), m.cfg.Clock().UTC().Truncate(time.Microsecond)
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		if r, err = m.risk(ctx, tx, id); err != nil {
			return err
		}
		waived, err := m.waivers(ctx, tx)
		if err != nil {
			return err
		}
		if _, ok := p.People[by]; !ok {
			refused = refuse("the people stand under \"people\" of the plan", "%q is not a person of the plan in force", by)
		} else {
			r.Proof, refused = proofOf(p, r, obs, waived(r.Rule, r.Subject, now))
		}
		if refused != nil {
			return m.fact(ctx, tx, FactRiskStays, r.Subject, oneLine(by), map[string]any{"risk": id, "error": holdfast.Sentence(refused)})
		}
		r.Closed, r.Note = now, oneLine(note)
		if err := put(ctx, tx, kindRisk, id, false, now, r); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactRiskClosed, r.Subject, by, map[string]any{"risk": id, "proof": r.Proof, "note": r.Note})
	})
	if err == nil {
		err = refused
	}
	return r, err
}

// proofOf is what allows a risk to end, or why it must stay.
func proofOf(p *plan.Plan, r Risk, obs Observed, exception string) (string, error) {
	switch {
	case r.Sort == RiskPlan:
		return "", refuse("take it out of the plan; a plan that says less needs approval", "the risk %q is declared in the plan", r.ID)
	case !r.Closed.IsZero():
		return "", refuse("\"holdfast risk list\" shows what is open", "the risk %q is closed already", r.ID)
	case exception != "":
		return exception, nil
	case r.Sort != RiskCoverage && !r.Stands:
		return "the cause is gone", nil
	case r.Sort != RiskCoverage:
		return "", refuse(fmt.Sprintf("mend what it says, or ask for an exception: holdfast exception ask --rule %s --of %s", or(r.Rule, "CODE"), r.Subject), "the risk %q stands: %s", r.ID, r.Event)
	}
	section, node, _ := strings.Cut(r.Subject, ".")
	stores := []string{node}
	if section == "services" {
		stores = p.StoresOf(node)
	}
	var proofs []string
	for _, st := range stores {
		i := slices.IndexFunc(obs.Drills, func(d Drilled) bool { return d.Passed && d.Store == st && d.At.After(r.Opened) })
		if i < 0 {
			return "", refuse(fmt.Sprintf("\"holdfast drill %s\" proves it; or ask for an exception: holdfast exception ask --rule %s --of %s", st, r.Rule, r.Subject),
				"the risk %q stays open: no restore of %q has passed since %s", r.ID, st, r.Opened.UTC().Format(time.RFC3339))
		}
		proofs = append(proofs, "drill "+obs.Drills[i].ID+" passed")
	}
	if len(proofs) == 0 {
		return "the cause is gone", nil
	}
	return list(proofs), nil
}
