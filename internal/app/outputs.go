package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/objective"
	"holdfast/internal/plan/render"
)

// FactOutput is that a document which the policy asks for was generated. Its subject is
// "outputs." and the name.
const FactOutput = "output.generated"

// outputPeriod is how far back job records and test reports reach.
const outputPeriod = 92 * 24 * time.Hour

// An outputKind is one document and how it is made.
type outputKind struct {
	name, what, file string
	make             func(a *App, ctx context.Context, now time.Time) ([]byte, error)
}

// outputKinds are the documents that policies name, in the order in which they are shown.
var outputKinds = []outputKind{
	{"configuration", "configuration and schedule of every store, as they run", "configuration.json", asJSON((*App).configuration)},
	{"job-records", "records of work of the last quarter", "job-records.csv", (*App).jobRecords},
	{"encryption", "encryption configuration and key references", "encryption.json", asJSON(func(a *App, ctx context.Context, _ time.Time) (any, error) { return a.Encryption(ctx) })},
	{"access", "people, roles and access lists", "access.json", asJSON(func(a *App, ctx context.Context, _ time.Time) (any, error) { return a.Access.List(ctx) })},
	{"restore-tests", "reports of restore tests", "restore-tests.json", asJSON(func(a *App, ctx context.Context, _ time.Time) (any, error) { return a.Drills.List(ctx, "") })},
	{"objectives", "every RTO and RPO by tier, service and store, and how it stands", "objectives.json", asJSON(func(a *App, ctx context.Context, _ time.Time) (any, error) { return a.Objectives(ctx) })},
	{"policy", "the plan in force as a document", "policy.md", func(a *App, _ context.Context, _ time.Time) ([]byte, error) {
		return render.Make(a.Plan(), render.Options{}).Write(render.FormatMarkdown)
	}},
}

// asJSON dates a value and names the plan that it is of.
func asJSON(f func(a *App, ctx context.Context, now time.Time) (any, error)) func(*App, context.Context, time.Time) ([]byte, error) {
	return func(a *App, ctx context.Context, now time.Time) ([]byte, error) {
		v, err := f(a, ctx, now)
		if err != nil {
			return nil, err
		}
		b, err := json.MarshalIndent(map[string]any{"generated": now.UTC(), "plan": a.Plan().Digest(), "plan_version": a.Plan().Plan.Version, "content": v}, "", "  ")
		return append(b, '\n'), err
	}
}

// A configured is how one store is protected: what the plan says, and what runs.
type configured struct {
	Store     string   `json:"store"`
	Kind      string   `json:"kind"`
	Tier      string   `json:"tier"`
	Owner     string   `json:"owner"`
	Class     string   `json:"class,omitempty"`
	Backup    string   `json:"backup"`
	Every     string   `json:"every"`
	Runs      []string `json:"runs"` // schedules in force in the state
	Locations []string `json:"locations"`
	Keep      string   `json:"keep"`
	RTO       string   `json:"rto"`
	RPO       string   `json:"rpo"`
}

func (a *App) configuration(ctx context.Context, _ time.Time) (any, error) {
	p := a.Plan()
	running, err := a.Jobs.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	out := []configured{}
	for _, id := range sortedKeys(p.Stores) {
		s := p.Stores[id]
		b := p.Backups[s.Protect]
		promise := p.Promise(id)
		least, most := p.Kept(id)
		c := configured{Store: id, Kind: string(s.Kind), Tier: s.Tier, Owner: s.Owner, Class: s.Class, Backup: s.Protect, Every: b.Every.String(), Locations: b.Copies.Names(), Keep: fmt.Sprintf("at least %s, at most %s", least, most),
			RTO: holdfast.FormatDuration(promise.RTO), RPO: holdfast.FormatDuration(promise.RPO), Runs: []string{}}
		for _, r := range running {
			if r.Name == backupSchedule(id) {
				c.Runs = append(c.Runs, r.Kind+" "+r.Every.String())
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func (a *App) jobRecords(ctx context.Context, now time.Time) ([]byte, error) {
	p, err := a.runRows(ctx, now.Add(-outputPeriod), now)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(append([]string{"generated"}, p.Columns...)); err != nil {
		return nil, err
	}
	for _, r := range p.Rows {
		if err := w.Write(append([]string{stamp(now)}, r...)); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// Outputs lists the documents that policies ask for, with when each was generated last.
func (a *App) Outputs(ctx context.Context) ([]api.Output, error) {
	var out []api.Output
	for _, k := range outputKinds {
		o := api.Output{Name: k.name, What: k.what, File: k.file, Fact: -1}
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: FactOutput, Subject: "outputs." + k.name, Limit: 1, Newest: true})
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			if err := decodeFact(f, &o); err != nil {
				return nil, err
			}
			o.Generated, o.By, o.Fact = f.At, f.Actor, f.Index
		}
		out = append(out, o)
	}
	return out, nil
}

// GenerateOutputs makes every document now, from the running system. All are facts, with
// their digests, or none.
func (a *App) GenerateOutputs(ctx context.Context, by string) ([]api.Output, error) {
	if err := a.person(by); err != nil {
		return nil, err
	}
	now := a.opt.Clock().UTC()
	contents := make([][]byte, len(outputKinds))
	for i, k := range outputKinds {
		var err error
		if contents[i], err = k.make(a, ctx, now); err != nil {
			return nil, fmt.Errorf("output %q: %w", k.name, err)
		}
	}
	if err := a.DB.Tx(ctx, func(tx *db.Tx) error {
		for i, k := range outputKinds {
			h := sha256.Sum256(contents[i]) // as people can with sha256sum
			if err := a.factBy(ctx, tx, FactOutput, "outputs."+k.name, by, map[string]any{"digest": "sha256:" + hex.EncodeToString(h[:]), "bytes": len(contents[i]), "file": k.file}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	out, err := a.Outputs(ctx)
	for i := range out {
		out[i].Content = contents[i]
	}
	return out, err
}

// Series is what was measured of each objective over time; of one item, or of all for "".
func (a *App) Series(ctx context.Context, item string) ([]api.Series, error) {
	o, err := a.Overview(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.Series{}
	add := func(name, metric string, st objective.ObjectiveState) {
		if item != "" && item != name && item != name[strings.IndexByte(name, '.')+1:] || len(st.Values) == 0 && len(st.History) == 0 {
			return
		}
		s := api.Series{Item: name, Metric: metric, Declared: st.Declared, Target: st.Target, Limit: st.Limit, Points: []objective.Judged{}, Trends: map[string]string{}}
		for i := len(st.History) - 1; i >= 0; i-- {
			s.Points = append(s.Points, st.History[i])
		}
		for _, v := range st.Values {
			if v.Trend != "" {
				s.Trends[v.From] = v.Trend
			}
		}
		out = append(out, s)
	}
	for _, s := range o.Services {
		add("services."+s.ID, "rto", s.RTO)
		add("services."+s.ID, "rpo", s.RPO)
	}
	for _, s := range o.Stores {
		add("stores."+s.ID, "rto", s.RTO)
		add("stores."+s.ID, "rpo", s.RPO)
	}
	return out, nil
}
