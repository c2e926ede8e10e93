package app

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/plan"
)

// codeDeviates is the finding about something that runs otherwise than the plan in force
// says.
const codeDeviates = "HF-L12"

// factDeviates notes a deviation when it is seen first.
const factDeviates = "config.deviates"

// Enforced compares what really runs with the plan in force: when backups, drills and
// the vault's work are due, how long the vault keeps copies, where copies lie, and who
// can read the keys. It reads the running configuration where it takes effect (the
// schedules in the state, the plan that the vault signed, the places, the files), and
// changes nothing.
func (a *App) Enforced(ctx context.Context) ([]holdfast.Finding, error) {
	p := a.Plan()
	out := []holdfast.Finding{}
	deviates := func(subject, hint, format string, args ...any) {
		out = append(out, holdfast.Finding{Code: codeDeviates, Severity: holdfast.SeverityError, Subject: subject, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	running, err := a.Jobs.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	if len(running) > 0 { // else no server has run yet
		a.compareSchedules(p, running, deviates)
	}
	held, err := a.Vault.Held(ctx)
	switch {
	case err != nil:
		deviates("plan", or(holdfast.Hint(err), "bring the state back from a backup", "%s"), "how long copies are kept is not what was signed for: %s", holdfast.Sentence(err))
	case held != nil && held.Digest() != p.Digest():
		for _, id := range sortedKeys(p.Stores) {
			is, says := terms(held, id), terms(p, id)
			if is != says {
				deviates("stores."+id, "\"holdfast approve\" shows what waits for people", "the vault keeps copies of %q %s, and the plan in force says %s", id, is, says)
			}
		}
	}
	at, err := a.Backups.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	for _, spot := range slices.SortedFunc(maps.Keys(at), func(x, y backup.Spot) int { return strings.Compare(x.Store+" "+x.Location, y.Store+" "+y.Location) }) {
		b := p.Backups[p.Stores[spot.Store].Protect]
		if _, declared := p.Stores[spot.Store]; declared && at[spot].Snapshots > 0 && !slices.Contains(b.Copies.Names(), spot.Location) {
			deviates("stores."+spot.Store, "name it under copies, or let retention end there first", "%d copies of %q lie at %q, where the plan in force puts none", at[spot].Snapshots, spot.Store, spot.Location)
		}
	}
	a.compareAccess(p, deviates)
	if err := a.compareSettings(ctx, p, deviates); err != nil {
		return nil, err
	}
	return out, nil
}

// deviation reports one difference.
type deviation func(subject, hint, format string, args ...any)

// compareSchedules looks whether what is scheduled is what the plan says.
func (a *App) compareSchedules(p *plan.Plan, running []job.Schedule, deviates deviation) {
	is := map[string]job.Schedule{}
	for _, s := range running {
		is[s.Name] = s
	}
	const hint = "a restart of the server schedules it as the plan says; find out who writes to the state"
	for _, want := range append(a.schedules(), a.vaultSchedules()...) {
		got, there := is[want.Name]
		delete(is, want.Name)
		switch {
		case !there:
			deviates(subjectOf(want), hint, "%s is not scheduled; the plan in force says %s", want.Name, want.Every)
		case got.Every.String() != want.Every.String():
			deviates(subjectOf(want), hint, "%s runs %s, and the plan in force says %s", want.Name, got.Every, want.Every)
		case got.Location != nil && want.Location != nil && got.Location.String() != want.Location.String():
			deviates(subjectOf(want), hint, "%s runs by the clock of %s, and the plan in force says %s", want.Name, got.Location, want.Location)
		}
	}
	for _, name := range sortedKeys(is) {
		deviates("plan", hint, "%s is scheduled (%s), and the plan in force does not ask for it", name, is[name].Every)
	}
}

// subjectOf is what a schedule is about.
func subjectOf(s job.Schedule) string {
	if s.Kind == backup.KindSnapshot {
		return "stores." + strings.TrimPrefix(s.Name, backupSchedule(""))
	}
	return "plan"
}

// terms says how long a plan keeps the copies of a store.
func terms(p *plan.Plan, id string) string {
	if _, ok := p.Backups[p.Stores[id].Protect]; !ok {
		return "not at all"
	}
	least, most := p.Kept(id)
	if most.IsZero() {
		return "for " + least.String()
	}
	return fmt.Sprintf("for %s, at most %s", least, most)
}

// compareAccess looks whether others than the owner can read a private key, or write to
// a folder that holds copies.
func (a *App) compareAccess(p *plan.Plan, deviates deviation) {
	dir := filepath.Dir(a.opt.Workspace.Key(KeyRunner))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // said elsewhere: nothing works without them
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !slices.Contains([]string{".key", ".age"}, filepath.Ext(e.Name())) {
			continue
		}
		if perm := info.Mode().Perm(); perm&0o077 != 0 {
			deviates("keys", "chmod 600 "+filepath.Join(dir, e.Name()), "the key %s can be read by others than its owner (%04o)", e.Name(), perm)
		}
	}
	for _, name := range sortedKeys(p.Locations) {
		l := p.Locations[name]
		if l.Kind != plan.KindDir {
			continue
		}
		info, err := os.Stat(p.Resolve(l.Path))
		if err == nil && info.Mode().Perm()&0o002 != 0 {
			deviates("locations."+name, "chmod o-w "+p.Resolve(l.Path), "everybody on this host may write to the location %q (%04o)", name, info.Mode().Perm())
		}
	}
}

// noteDeviations records what deviates since the look before.
func (a *App) noteDeviations(ctx context.Context, before, now []holdfast.Finding) error {
	var fresh []holdfast.Finding
	for _, f := range now {
		if !slices.ContainsFunc(before, func(x holdfast.Finding) bool { return x.Code == f.Code && x.Message == f.Message }) {
			fresh = append(fresh, f)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		for _, f := range fresh {
			if err := a.fact(ctx, tx, factDeviates, f.Subject, f); err != nil {
				return err
			}
		}
		return nil
	})
}
