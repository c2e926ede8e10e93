package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/recovery"
)

// Points is what is known of a store's recovery points, asked of the locations now.
func (a *App) Points(ctx context.Context, store string) (api.Points, error) {
	out := api.Points{Store: store}
	ws, away, err := Windows(ctx, a.Plan(), store, a.opt)
	if err != nil {
		return out, err
	}
	out.Windows, out.Away = ws, away
	if out.Copies, err = a.Backups.Copies(ctx, store); err != nil {
		return out, err
	}
	out.Frontiers, err = a.Backups.Frontiers(ctx, store)
	return out, err
}

// Backup enqueues a backup of a store.
func (a *App) Backup(ctx context.Context, store, reason string) (asked api.Asked, err error) {
	if !slices.ContainsFunc(a.policies(), func(p backup.Policy) bool { return p.Store == store }) {
		return asked, holdfast.WithHint(fmt.Errorf("store %q is not in the plan, or nothing protects it: %w", store, holdfast.ErrUsage),
			"the protected stores are %s", strings.Join(a.protected(), ", "))
	}
	if a.Plan().Stores[store].Agent != nil {
		return asked, byAgent(store)
	}
	if reason == "" {
		reason = "asked for"
	}
	if err := a.goesNowhere(ctx, store); err != nil {
		if ferr := a.Backups.Refused(ctx, store, reason, err); ferr != nil {
			return asked, errors.Join(err, ferr)
		}
		return asked, err
	}
	in := snapshotJob(store, reason)
	waiting, err := a.Jobs.List(ctx, job.Filter{Kind: in.Kind, Key: in.Key, State: job.Waiting, Limit: 1})
	if err != nil {
		return asked, err
	}
	for _, j := range waiting {
		asked.After = j.Attempt
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		asked.Job, err = a.Jobs.Enqueue(ctx, tx, in)
		return err
	})
	return asked, err
}

func (a *App) protected() []string {
	var out []string
	for _, p := range a.policies() {
		out = append(out, p.Store)
	}
	return out
}

// person refuses names that the plan does not know.
func (a *App) person(by string) error {
	if _, ok := a.Plan().People[by]; !ok {
		return holdfast.WithHint(fmt.Errorf("%q is not a person of the plan: %w", by, holdfast.ErrRefused), "the plan's people stand under \"people\"")
	}
	return nil
}

// ConfirmDrill records the owner's word on a drill.
func (a *App) ConfirmDrill(ctx context.Context, id, by, note string) (d drill.Drill, err error) {
	if err := a.person(by); err != nil {
		return d, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		d, err = a.Drills.Confirm(ctx, tx, id, by, note)
		return err
	})
	return d, err
}

// ConfirmStep records that a person did a step of a recovery.
func (a *App) ConfirmStep(ctx context.Context, run, step, by, note string) (r recovery.Run, err error) {
	if err := a.person(by); err != nil {
		return r, err
	}
	if err := a.DB.Tx(ctx, func(tx *db.Tx) error { return a.Recoveries.Confirm(ctx, tx, run, step, by, note) }); err != nil {
		return r, err
	}
	return a.Recoveries.Get(ctx, run)
}

// CloseIncident ends an incident with its review.
func (a *App) CloseIncident(ctx context.Context, id int64, by, outcome string) (inc incident.Incident, err error) {
	if err := a.person(by); err != nil {
		return inc, err
	}
	before, err := a.Incidents.Get(ctx, id)
	if err != nil {
		return inc, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		mv := incident.Move{To: incident.Closed, Actor: by, Outcome: outcome, Reason: outcome}
		if before.Phase == incident.Detection || before.Phase == incident.Assessment {
			mv.Early = outcome // nothing was recovered: a false alarm, or mended otherwise
		}
		inc, err = a.Incidents.Advance(ctx, tx, id, mv)
		return err
	})
	return inc, err
}

// Recover lets a person activate the recovery of an incident.
func (a *App) Recover(ctx context.Context, id int64, by, reason string) (jobID int64, err error) {
	if err := a.mayActivate(by); err != nil {
		return 0, err
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.Incidents.Note(ctx, tx, id, by, "plan", "recovery activated: "+reason, nil); err != nil {
			return err
		}
		jobID, err = a.Jobs.Enqueue(ctx, tx, a.activation(id, by))
		return err
	})
	return jobID, err
}

// mayActivate refuses who does not hold a role that may activate the plan.
func (a *App) mayActivate(by string) error {
	if err := a.person(by); err != nil {
		return err
	}
	for _, role := range a.Plan().Activation.By {
		r := a.Plan().Roles[role]
		if r.Holder == by || r.Deputy == by {
			return nil
		}
	}
	return holdfast.WithHint(fmt.Errorf("%q may not activate the plan: %w", by, holdfast.ErrRefused), "activation.by of the plan names the roles that may: %s", strings.Join(a.Plan().Activation.By, ", "))
}
