package app

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/db"
	"holdfast/internal/incident"
	"holdfast/internal/ledger"
	"holdfast/internal/source"
)

// Facts about the promise that no commit is acknowledged before its log is here.
const (
	factDemoted  = "store.demoted"  // it does not hold from here on
	factPromoted = "store.promoted" // it holds again
)

// codeDemoted is the finding about a store for which it does not hold.
const codeDemoted = "HF-O08"

// demoted looks whether a store that promises an RPO of 0 keeps it. Each change is a
// fact: what was acknowledged between the two may be lost with the server.
func (a *App) demoted(ctx context.Context, p backup.Policy) (trouble, bool, error) {
	if st := a.Plan().Stores[p.Store]; st.Postgres == nil || !st.Postgres.Synchronous {
		return trouble{}, false, nil
	}
	src, err := a.source(p.Store)
	if err != nil {
		return trouble{}, false, err
	}
	pr, ok := src.(source.Promiser)
	if !ok {
		return trouble{}, false, nil
	}
	last, known, err := a.promise(ctx, p.Store)
	if err != nil {
		return trouble{}, false, err
	}
	why, err := pr.Demoted(ctx)
	if err != nil {
		why = holdfast.Sentence(err)
	}
	kind := factPromoted
	if why != "" {
		kind = factDemoted
	}
	if !known || last.Type != kind {
		err := a.DB.Tx(ctx, func(tx *db.Tx) error {
			return a.fact(ctx, tx, kind, "stores."+p.Store, map[string]any{"why": why})
		})
		if err != nil {
			return trouble{}, false, err
		}
		if last, _, err = a.promise(ctx, p.Store); err != nil {
			return trouble{}, false, err
		}
	}
	if why == "" {
		return trouble{}, false, nil
	}
	return trouble{kind: incident.KindDemoted, store: p.Store, since: last.At, title: "The RPO of 0 of " + p.Store + " is broken", detail: why + "; what is committed from " + stamp(last.At) + " on may be lost with the server"}, true, nil
}

// promise is the newest fact about whether the promise of a store holds.
func (a *App) promise(ctx context.Context, store string) (newest ledger.Fact, known bool, err error) {
	for _, kind := range []string{factDemoted, factPromoted} {
		fs, err := a.Ledger.Find(ctx, ledger.Query{Type: kind, Subject: "stores." + store, Newest: true, Limit: 1})
		if err != nil {
			return newest, false, err
		}
		if len(fs) > 0 && (!known || fs[0].Index > newest.Index) {
			newest, known = fs[0], true
		}
	}
	return newest, known, nil
}

// demotedFindings are the stores whose promise does not hold, or was never looked at.
func (a *App) demotedFindings(ctx context.Context) (out []holdfast.Finding, err error) {
	for _, p := range a.policies() {
		if st := a.Plan().Stores[p.Store]; st.Postgres == nil || !st.Postgres.Synchronous {
			continue
		}
		f, known, err := a.promise(ctx, p.Store)
		if err != nil {
			return nil, err
		}
		if known && f.Type == factPromoted {
			continue
		}
		message := fmt.Sprintf("the plan promises that no commit of %q is lost, and nobody has looked yet", p.Store)
		if known {
			var data struct{ Why string }
			if err := decodeFact(f, &data); err != nil {
				return nil, err
			}
			message = fmt.Sprintf("the plan promises that no commit of %q is lost, and since %s that does not hold: %s", p.Store, stamp(f.At), data.Why)
		}
		out = append(out, holdfast.Finding{Code: codeDemoted, Severity: holdfast.SeverityError, Subject: "stores." + p.Store, Message: message,
			Hint: "name the slot in every quorum of synchronous_standby_names (docs/ops/postgresql.md), or take \"synchronous\" out of the plan"})
	}
	return out, nil
}
