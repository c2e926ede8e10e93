package app

import (
	"context"

	"holdfast/internal/plan"
	"holdfast/internal/vault"
)

// settlePlan decides which plan is in force: the one that is written, unless it weakens
// the one that the vault holds and the people of that one have not signed for it, or its
// day has not come. Then the one that is held goes on. Nothing is written here: Start
// lets the vault take the plan, or ask for signatures.
func (a *App) settlePlan(ctx context.Context) {
	a.proposed = a.Plan
	guard := vault.New(vault.Config{DB: a.DB, Ledger: facts{a}, Plan: func() *plan.Plan { return a.proposed }, Key: a.Keys.Vault, Clock: a.opt.Clock, Logger: a.opt.Log})
	in, waiting, err := guard.InForce(ctx)
	if err != nil {
		// The vault deletes nothing until this is found out; protection goes on.
		a.opt.Log.Error("the plan that the vault holds cannot be read", "err", err)
		return
	}
	a.Plan, a.waiting = in, waiting
}

// adoptPlan lets the vault take the plan that is written, or ask people to sign for it.
func (a *App) adoptPlan(ctx context.Context) {
	found, err := a.Vault.Adopt(ctx)
	if err != nil {
		a.opt.Log.Error("the vault takes no plan", "err", err)
		return
	}
	if a.Plan != a.proposed {
		a.waiting = found // with the request that is open now
	}
	for _, f := range a.waiting {
		a.opt.Log.Warn("the plan as it is written is not in force", "why", f.Message, "next", f.Hint)
	}
}
