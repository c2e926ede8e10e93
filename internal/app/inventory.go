package app

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/source/postgres"
	"holdfast/internal/survive"
)

// Inventory lists what the company keeps recoverable, and what it does so with: the
// state, the repositories and the keys are items like any other (INV-05), and nothing
// protects them either until something does.
func (a *App) Inventory(ctx context.Context) ([]api.Item, error) {
	p := a.Plan()
	f, err := a.observed(ctx)
	if err != nil {
		return nil, err
	}
	coverage := objective.Look(p, f).Coverage.Items
	out := []api.Item{}
	for _, x := range coverage {
		i := api.Item{ID: x.Kind + "s." + x.ID, Kind: x.Kind, State: string(x.State), Why: x.Why, Objective: promised(p.Promise(x.ID))}
		if x.Kind == "store" {
			i.Owner, i.Class = p.Stores[x.ID].Owner, p.Stores[x.ID].Class
		} else {
			i.Owner = p.Services[x.ID].Owner
		}
		out = append(out, i)
	}
	slices.SortStableFunc(out, func(a, b api.Item) int { return strings.Compare(a.ID, b.ID) })
	// What protects is needed no later than what it protects.
	strictest := strictestOf(p)
	own := func(id, kind, owner string, state objective.CoverageState, format string, args ...any) {
		out = append(out, api.Item{ID: id, Kind: kind, Owner: or(owner, p.Plan.Owner, "%s"), Class: "secret", Objective: strictest, State: string(state), Why: fmt.Sprintf(format, args...)})
	}
	state, why := a.stateCovered(p, coverage)
	own("holdfast.state", "platform", "", state, "%s", why)
	held, err := a.Backups.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(p.Locations) {
		state, why := a.repositoryCovered(ctx, name, held)
		own("locations."+name, "repository", p.Locations[name].Owner, state, "%s", why)
	}
	ss, err := a.Custody.Standings(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range sortedKeys(p.Keys) {
		state, why := keyCovered(id, ss)
		own("keys."+id, "key", strings.Join(p.Keys[id].Holders, ", "), state, "%s", why)
	}
	return out, nil
}

func promised(o holdfast.Objective) string {
	var parts []string
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"rto", o.RTO}, {"rpo", o.RPO}} {
		if x.d > 0 {
			parts = append(parts, x.name+" "+holdfast.FormatDuration(x.d))
		}
	}
	return strings.Join(parts, ", ")
}

// strictestOf is the shortest promise of all stores and services.
func strictestOf(p *plan.Plan) string {
	var best holdfast.Objective
	for _, id := range p.Nodes() {
		o := p.Promise(id)
		if o.RTO > 0 && (best.RTO == 0 || o.RTO < best.RTO) {
			best.RTO = o.RTO
		}
		if o.RPO > 0 && (best.RPO == 0 || o.RPO < best.RPO) {
			best.RPO = o.RPO
		}
	}
	return promised(best)
}

// stateCovered says what brings the state back: a store that holds its folder, or its
// server.
func (a *App) stateCovered(p *plan.Plan, coverage []objective.CoverageItem) (objective.CoverageState, string) {
	dir := a.opt.Workspace.State()
	where, hint := dir, fmt.Sprintf("a store of kind files with the path %s does", dir)
	holds := func(st plan.Store) bool {
		return st.Files != nil && (p.Resolve(st.Files.Path) == dir || strings.HasPrefix(dir, p.Resolve(st.Files.Path)+string(filepath.Separator)))
	}
	if a.opt.State != "" {
		server, _, err := postgres.Serves(a.opt.State)
		if err != nil {
			return objective.Uncovered, "the address of the state cannot be read"
		}
		where, hint = server, "a store of kind postgres of that server does"
		holds = func(st plan.Store) bool {
			if st.Postgres == nil {
				return false
			}
			other, _, err := postgres.Serves(st.Postgres.DSN)
			return err == nil && other == server
		}
	}
	for _, x := range coverage {
		if x.Kind == "store" && holds(p.Stores[x.ID]) {
			return x.State, fmt.Sprintf("at %s, in the store %q, which is %s", where, x.ID, x.State)
		}
	}
	return objective.Uncovered, fmt.Sprintf("at %s, and nothing protects it: %s. Its loss loses history and no backup", where, hint)
}

// repositoryCovered says what is left when a location is lost: a repository is protected
// by another that holds as much.
func (a *App) repositoryCovered(ctx context.Context, name string, held map[backup.Spot]backup.Holding) (objective.CoverageState, string) {
	if _, err := a.Places.Open(ctx, name); err != nil {
		return objective.Uncovered, holdfast.Sentence(err)
	}
	stores, alone := 0, []string{}
	for _, p := range a.policies() {
		here := held[backup.Spot{Store: p.Store, Location: name}]
		if here.Snapshots == 0 {
			continue
		}
		stores++
		elsewhere := slices.ContainsFunc(p.Locations, func(l string) bool {
			return l != name && !held[backup.Spot{Store: p.Store, Location: l}].Newest.Before(here.Newest)
		})
		if !elsewhere {
			alone = append(alone, p.Store)
		}
	}
	switch {
	case stores == 0:
		return objective.Uncovered, "it holds nothing yet"
	case len(alone) > 0:
		return objective.Uncovered, "what it holds is nowhere else: " + strings.Join(alone, ", ")
	}
	return objective.Covered, fmt.Sprintf("other locations hold as much of its %d stores", stores)
}

// keyCovered says whether somebody has shown that a key opens.
func keyCovered(id string, ss []survive.Standing) (objective.CoverageState, string) {
	n, proved := 0, 0
	for _, s := range ss {
		if s.Key == id {
			n++
			if s.Posture == holdfast.PostureProved {
				proved++
			}
		}
	}
	switch {
	case n == 0:
		return objective.Uncovered, "nobody holds it"
	case proved == 0:
		return objective.Uncovered, "nobody has shown that it still opens: \"holdfast key challenge ask " + id + "\""
	case proved < n:
		return objective.PartCovered, fmt.Sprintf("%d of %d holders have shown that it still opens", proved, n)
	}
	return objective.Covered, fmt.Sprintf("all %d holders have shown that it still opens", n)
}
