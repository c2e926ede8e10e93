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

// Facts about stores that go live.
const (
	FactLive    = "store.live"
	FactNotLive = "store.not-live" // it was to go live, and something is missing
)

// An element is one thing that every live store needs (INV-04, INV-11, BKP-25).
type element struct {
	name, rule string
	also       string // the linter's code for the same, whose exceptions count too
	next       string // what to do
}

// elements, in the order in which somebody does them.
var elements = []element{
	{"owner", "HF-G11", "HF-L35", "give it an owner in the plan: stores.X.owner"},
	{"class", "HF-G12", "HF-L36", "say how its data is classified: stores.X.class"},
	{"objective", "HF-G13", "HF-L35", "give it a tier, or an rto and an rpo"},
	{"schedule", "HF-G14", plan.CodeUnprotected, "name the backup that protects it: stores.X.protect"},
	{"location", "HF-G15", plan.CodeUnprotected, "name the locations of its copies: backups.Y.copies"},
	{"restore", "HF-G16", "HF-L32", "\"holdfast drill X\": a first restore must pass"},
}

// An Element is one of them for one store.
type Element struct {
	Name      string `json:"name"` // "owner", "restore"
	Rule      string `json:"rule"` // for an exception
	There     bool   `json:"there"`
	Is        string `json:"is"`                  // what it is, or what to do
	Exception string `json:"exception,omitempty"` // that stands in for it
}

// A Launch is a store on its way to production.
type Launch struct {
	Store    string    `json:"store"`
	Live     bool      `json:"live"`
	At       time.Time `json:"at,omitzero"`
	By       string    `json:"by,omitempty"`
	Excepted bool      `json:"excepted"` // live, with an exception in place of something
	Elements []Element `json:"elements"`
}

// Missing names what is neither there nor excepted.
func (l Launch) Missing() (names []string) {
	for _, e := range l.Elements {
		if !e.There && e.Exception == "" {
			names = append(names, e.Name)
		}
	}
	return names
}

const kindLive = "live"

// Launches says of each store whether it was declared live, and what it has of what
// every live store needs, as it is now: what went missing since is shown as missing.
func (m *Module) Launches(ctx context.Context) ([]Launch, error) {
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return nil, err
	}
	out := []Launch{}
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = out[:0]
		for _, id := range sorted(m.cfg.Plan().Stores) {
			l, err := m.launch(ctx, tx, id, obs)
			if err != nil {
				return err
			}
			out = append(out, l)
		}
		return nil
	})
	return out, err
}

func (m *Module) launch(ctx context.Context, tx *db.Tx, id string, obs Observed) (Launch, error) {
	l := Launch{Store: id}
	past, err := items[Launch](ctx, tx, kindLive)
	if err != nil {
		return l, err
	}
	if i := slices.IndexFunc(past, func(x Launch) bool { return x.Store == id }); i >= 0 {
		l.Live, l.At, l.By = true, past[i].At, past[i].By
	}
	waived, err := m.waivers(ctx, tx)
	if err != nil {
		return l, err
	}
	p, now := m.cfg.Plan(), m.cfg.Clock()
	st := p.Stores[id]
	b, protected := p.Backups[st.Protect]
	for _, e := range elements {
		x := Element{Name: e.name, Rule: e.rule}
		switch e.name {
		case "owner":
			x.Is = p.Person(st.Owner, false)
		case "class":
			x.Is = st.Class
		case "objective":
			x.Is = list(objectives(p, id))
		case "schedule":
			if protected {
				x.Is = b.Every.String()
			}
		case "location":
			if protected {
				x.Is = list(b.Copies.Names())
			}
		case "restore":
			for _, d := range obs.Drills {
				if d.Passed && d.Store == id {
					x.Is = "drill " + d.ID
				}
			}
		}
		if x.There = x.Is != ""; !x.There {
			x.Is = strings.NewReplacer("X", id, "Y", or(st.Protect, "Y")).Replace(e.next)
			for _, rule := range []string{e.rule, e.also} {
				if x.Exception == "" {
					x.Exception = waived(rule, "stores."+id, now)
				}
			}
			l.Excepted = l.Excepted || x.Exception != ""
		}
		l.Elements = append(l.Elements, x)
	}
	return l, nil
}

// GoLive declares a store live. While something that every live store needs is neither
// there nor excepted it is refused, with each missing thing by its name, and the refusal
// is a fact.
func (m *Module) GoLive(ctx context.Context, store, by string) (l Launch, err error) {
	p := m.cfg.Plan()
	if _, ok := p.Stores[store]; !ok {
		return l, holdfast.WithHint(fmt.Errorf("store %q is not in the plan in force: %w", store, holdfast.ErrUsage), "the plan's stores are %s", list(sorted(p.Stores)))
	}
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return l, err
	}
	var refused error
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		refused = nil
		if l, err = m.launch(ctx, tx, store, obs); err != nil {
			return err
		}
		if l.Live {
			return nil // once
		}
		missing := l.Missing()
		if _, ok := p.People[by]; !ok {
			refused = refuse("the people stand under \"people\" of the plan", "%q is not a person of the plan in force", by)
		} else if len(missing) > 0 {
			i := slices.IndexFunc(l.Elements, func(e Element) bool { return e.Name == missing[0] })
			refused = refuse(l.Elements[i].Is, "%q cannot go live: it has no %s", store, strings.Join(missing, ", no "))
		}
		if refused != nil {
			return m.fact(ctx, tx, FactNotLive, "stores."+store, oneLine(by), map[string]any{"missing": missing, "error": holdfast.Sentence(refused)})
		}
		l.Live, l.By, l.At = true, by, m.cfg.Clock().UTC().Truncate(time.Microsecond)
		if err := put(ctx, tx, kindLive, store, true, l.At, l); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactLive, "stores."+store, by, l)
	})
	if err == nil {
		err = refused
	}
	if err == nil {
		err = m.Settle(ctx) // the look at its coverage
	}
	return l, err
}

// launched turns stores that went live since the last look into duties.
func (s *settling) launched() error {
	ls, err := items[Launch](s.ctx, s.tx, kindLive)
	if err != nil {
		return err
	}
	for _, l := range ls {
		key := "stores." + l.Store + ".live"
		if s.answered(key) || !s.declared("stores."+l.Store) {
			continue
		}
		if err := s.remember(s.ctx, s.tx, key, l.By); err != nil {
			return err
		}
		if err := s.happened(onLive, "stores."+l.Store, "", l.By, fmt.Sprintf("%q went live on %s", l.Store, l.At.Format(time.DateOnly))); err != nil {
			return err
		}
	}
	return nil
}
