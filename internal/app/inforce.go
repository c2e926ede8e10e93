package app

import (
	"context"

	"holdfast"
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

// settlePlan decides which plan is in force: the one that is written, unless it weakens
// the one that the vault holds and the people of that one have not signed for it, or its
// day has not come. Then the one that is held goes on. Nothing is written here:
// adoptPlan lets the vault take the plan, or ask for signatures.
func (a *App) settlePlan(ctx context.Context, written *plan.Plan) inForce {
	guard := vault.New(vault.Config{DB: a.DB, Ledger: facts{a}, Plan: func() *plan.Plan { return written }, Key: a.Keys.Vault, Clock: a.opt.Clock, Logger: a.opt.Log})
	in, waiting, err := guard.InForce(ctx)
	if err != nil {
		// The vault deletes nothing until this is found out; protection goes on.
		a.opt.Log.Error("the plan that the vault holds cannot be read", "err", err)
		return inForce{plan: written, proposed: written}
	}
	return inForce{plan: in, proposed: written, waiting: waiting}
}

// adoptPlan lets the vault take the plan that is written, or ask people to sign for it.
func (a *App) adoptPlan(ctx context.Context) {
	found, err := a.Vault.Adopt(ctx)
	if err != nil {
		a.opt.Log.Error("the vault takes no plan", "err", err)
		return
	}
	now := *a.force.Load()
	if now.plan != now.proposed {
		now.waiting = found // with the request that is open now
		a.force.Store(&now)
	}
	for _, f := range now.waiting {
		a.opt.Log.Warn("the plan as it is written is not in force", "why", f.Message, "next", f.Hint)
	}
}
