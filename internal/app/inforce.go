package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/vault"
)

// inForce is the plan by which everything works, with what was opened by it. It is
// replaced as a whole; what is in it is never changed.
type inForce struct {
	plan     *plan.Plan
	proposed *plan.Plan         // as it is written; the one in force unless it waits
	waiting  []holdfast.Finding // why it waits
	stores   map[string]adapter
}

// Codes of plans that are written and not in force; vault.CodePending is the third.
const (
	codeUnreadable = "HF-V10" // it cannot be read
	codeRestart    = "HF-V11" // a running server cannot take it
	codeDangling   = "HF-V12" // it deletes what others depend on
)

// The plan on disk is looked at this often, and read when two looks in a row see the same
// file: an editor may be in the middle of it. What waits is looked at again at the
// longer interval, since its day may have come.
const (
	planEvery = time.Second
	waitEvery = 30 * time.Second
)

// settlePlan decides which plan is in force: the one that is written, unless it weakens
// the one that the vault holds and the people of that one have not signed for it, or its
// day has not come. Then the one that is held goes on. Nothing is written here:
// adoptPlan lets the vault take the plan, or ask for signatures.
func (a *App) settlePlan(ctx context.Context, written *plan.Plan) (inForce, error) {
	guard := vault.New(vault.Config{DB: a.DB, Ledger: facts{a}, Kept: a.anythingKept, Plan: func() *plan.Plan { return written }, Key: a.Keys.Vault, Clock: a.opt.Clock, Logger: a.opt.Log})
	in, waiting, err := guard.InForce(ctx)
	if err != nil {
		// The vault deletes nothing until this is found out; protection goes on.
		a.opt.Log.Error("the plan that the vault holds cannot be read", "err", err)
	}
	return inForce{plan: in, proposed: written, waiting: waiting}, err
}

// anythingKept reports whether the vault ever countersigned a copy.
func (a *App) anythingKept(ctx context.Context, tx *db.Tx) (bool, error) {
	first, err := a.Ledger.FindTx(ctx, tx, ledger.Query{Type: backup.FactReceipt, Limit: 1})
	return len(first) > 0, err
}

// Waiting says why the plan as it is written is not in force; empty if it is.
func (a *App) Waiting() []holdfast.Finding { return a.force.Load().waiting }

// adoptPlan lets the vault take the plan that is written, or ask people to sign for it.
// Only then is it said what waits: a request that is named is there.
func (a *App) adoptPlan(ctx context.Context) error {
	found, err := a.Vault.Adopt(ctx)
	if err != nil {
		a.opt.Log.Error("the vault takes no plan", "err", err)
		return fmt.Errorf("the vault takes no plan: %w", err)
	}
	now := *a.force.Load()
	if now.waiting = nil; now.plan != now.proposed {
		now.waiting = found
	}
	a.force.Store(&now)
	return nil
}

// warn says in the log what a plan waits for, when it begins to.
func (a *App) warn(before []holdfast.Finding) {
	now := a.force.Load().waiting
	if reflect.DeepEqual(before, now) {
		return
	}
	for _, f := range now {
		a.opt.Log.Warn("the plan as it is written is not in force", "why", f.Message, "next", f.Hint)
	}
}

// watchPlan takes what is written to the plan while the server runs, until ctx ends.
func (a *App) watchPlan(ctx context.Context) {
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	read, last, looked := a.opened, a.opened, time.Now()
	done := true // what is in force is recorded and carried out
	for {
		signed := false
		select {
		case <-ctx.Done():
			return
		case <-a.signed:
			signed = true
		case <-tick.C:
		}
		now := lookOf(a.opt.Workspace.Plan())
		steady := now == last
		last = now
		waits := len(a.force.Load().waiting) > 0
		if fresh := steady && now != read; !fresh && !signed && done && !(waits && time.Since(looked) >= waitEvery) {
			continue
		}
		if steady {
			read = now
		}
		looked = time.Now()
		before := a.force.Load().waiting
		err := a.replan(ctx)
		if done = err == nil; !done && ctx.Err() == nil {
			a.opt.Log.Warn("the plan in force is not carried out yet", "err", err)
		}
		a.warn(before)
	}
}

// replan reads what is written and makes everything work by it, if it may be in force.
// What fits the new plan goes on undisturbed.
//
// A crash in between is settled by the next start: which plan the vault holds is one
// transaction, and that it is in force, with its schedules, is another. An error leaves
// the new plan in force and something of it to be done: it is called again.
func (a *App) replan(ctx context.Context) error {
	was := a.force.Load()
	written, err := plan.Load(a.opt.Workspace.Plan())
	if err != nil {
		next := *was
		next.proposed, next.waiting = was.plan, []holdfast.Finding{misread(err)}
		a.force.Store(&next)
		return a.carryOut(ctx)
	}
	f, refused := needsRestart(was.plan, written)
	if !refused && written.Digest() != was.plan.Digest() {
		f, refused = dangles(was.plan, written)
	}
	if refused {
		next := *was
		next.proposed, next.waiting = was.plan, []holdfast.Finding{f}
		a.force.Store(&next)
		return a.carryOut(ctx)
	}
	next, err := a.settlePlan(ctx, written)
	if err != nil {
		return err
	}
	if next.plan.Digest() == was.plan.Digest() {
		next.stores = was.stores
		switch {
		case next.plan != next.proposed: // which waits
			next.plan = was.plan
		case plan.SamePeople(next.plan, was.plan): // else the names beside it changed, which is no other plan
			next.plan, next.proposed = was.plan, was.plan
		}
	} else {
		next.stores = a.openStores(next.plan, was)
	}
	a.Places.adopt(next.plan, trustedBy(next.plan, a.Keys)...)
	next.waiting = was.waiting
	a.force.Store(&next)
	if err := a.adoptPlan(ctx); err != nil {
		return err
	}
	return a.carryOut(ctx)
}

// carryOut makes what runs fit the plan in force.
func (a *App) carryOut(ctx context.Context) error {
	was, now := a.carried, a.force.Load()
	if was.plan == now.plan {
		return nil
	}
	err := a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.notePlan(ctx, tx); err != nil {
			return err
		}
		return a.Jobs.SetSchedules(ctx, tx, append(a.schedules(), a.vaultSchedules()...))
	})
	if err != nil {
		return err
	}
	moved := moved(was.plan, now.plan)
	keys := !slices.Equal(was.plan.EncryptTo(), now.plan.EncryptTo())
	if err := a.Backups.Adopt(ctx, func(store string) bool {
		return keys || was.stores[store] != now.stores[store] || slices.ContainsFunc(now.plan.Backups[now.plan.Stores[store].Protect].Copies.Names(), func(l string) bool { return moved[l] })
	}); err != nil {
		return err
	}
	if err := a.lookNow(ctx); err != nil {
		return err
	}
	a.survey.again(moved, func(store string) bool { return was.stores[store] == now.stores[store] })
	a.carried = now
	a.opt.Log.Info("another plan is in force", "version", now.plan.Plan.Version, "digest", now.plan.Digest())
	return nil
}

// moved are the locations that are not what they were, or are gone.
func moved(was, now *plan.Plan) map[string]bool {
	out := map[string]bool{}
	for name, l := range was.Locations {
		if other, ok := now.Locations[name]; !ok || !reflect.DeepEqual(l, other) {
			out[name] = true
		}
	}
	return out
}

// dangles says what a plan deletes that others in it depend on.
func dangles(was, next *plan.Plan) (holdfast.Finding, bool) {
	gone := plan.Dangling(was, next)
	if len(gone) == 0 {
		return holdfast.Finding{}, false
	}
	f := gone[0]
	f.Code, f.Message = codeDangling, fmt.Sprintf("the plan as it is written is not in force, since it deletes what %s depends on: %s", f.Subject, f.Message)
	if n := len(gone) - 1; n > 0 {
		f.Message += fmt.Sprintf(" (and %d more)", n)
	}
	f.Hint = "take what refers to it out first, or declare it again; \"holdfast plan diff\" lists all of it"
	return f, true
}

// needsRestart says what of a plan a running server cannot take.
func needsRestart(was, next *plan.Plan) (holdfast.Finding, bool) {
	if was.Repository.ID == next.Repository.ID {
		return holdfast.Finding{}, false
	}
	return holdfast.Finding{Code: codeRestart, Severity: holdfast.SeverityError, Subject: "repository.id",
		Message: fmt.Sprintf("the plan as it is written is not in force: it names the repository %q, and this server keeps the ledger of %q", next.Repository.ID, was.Repository.ID),
		Hint:    fmt.Sprintf("write repository.id %q again; a new repository is a new workspace (\"holdfast init\"), served beside this one", was.Repository.ID)}, true
}

// misread is a plan on disk that cannot be read, in one sentence.
func misread(err error) holdfast.Finding {
	hint := holdfast.Hint(err)
	if hint == "" {
		hint = "\"holdfast check\" shows every line that is wrong"
	}
	return holdfast.Finding{Code: codeUnreadable, Severity: holdfast.SeverityError, Subject: "plan",
		Message: "the plan as it is written cannot be read, so the one before goes on: " + err.Error(), Hint: hint}
}

// lookOf tells one state of the files of a plan from another without reading them.
func lookOf(path string) string {
	var b strings.Builder
	add := func(name string, info fs.FileInfo, err error) {
		if err != nil {
			fmt.Fprintf(&b, "%s %v\n", name, errors.Unwrap(err))
			return
		}
		fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
	}
	info, err := os.Stat(path)
	add(path, info, err)
	people := filepath.Join(path, plan.PeopleFile)
	if err == nil && !info.IsDir() {
		people = filepath.Join(filepath.Dir(path), plan.PeopleFile)
	}
	if names, missing := os.Stat(people); missing == nil {
		add(people, names, nil)
	}
	if err != nil || !info.IsDir() {
		return b.String()
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, e := range entries[:min(len(entries), plan.MaxFiles)] {
		info, err := e.Info()
		add(e.Name(), info, err)
	}
	return b.String()
}
