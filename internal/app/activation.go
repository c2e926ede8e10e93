package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/incident"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
)

// weighEvery is how often the conditions of the plan's activation are asked while an
// incident is open.
const weighEvery = 2 * time.Second

// weighActivations asks the conditions again and again, until ctx ends.
func (a *App) weighActivations(ctx context.Context) {
	pause := a.pauses(ctx)
	for pause(weighEvery) {
		if err := a.weigh(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("the conditions of the activation were not asked", "err", err)
		}
	}
}

// answering adds to the facts the incidents that are open and were not recovered yet, and
// the states of stores by their last probes.
func (a *App) answering(ctx context.Context, f *objective.Facts) error {
	open, err := a.Incidents.List(ctx, true)
	if err != nil {
		return err
	}
	for _, inc := range open {
		if inc.Phase != incident.Review {
			f.Answering = append(f.Answering, objective.Answering{Name: inc.Name(), Severity: string(inc.Severity), Kind: inc.Kind, Began: inc.OccurredAt, Services: inc.Services, Activated: inc.Activation != ""})
		}
	}
	if len(f.Answering) == 0 || len(a.Plan().Activation.When) == 0 {
		return nil
	}
	f.States = map[string]string{}
	for _, p := range a.policies() {
		pr, ok, err := a.Backups.Probe(ctx, p.Store)
		switch {
		case err != nil:
			return err
		case ok && pr.Lost:
			f.States[p.Store] = objective.StateLost
		case ok && pr.OK:
			f.States[p.Store] = objective.StateOK
		}
	}
	return nil
}

// noteActivation is the type of the events that say what conditions answered.
const noteActivation = "activation"

// An answered is what a condition said of an incident, as the incident's log keeps it.
type answered struct {
	Condition string `json:"condition"`
	Answer    string `json:"answer"` // not, holds, untold, starts
}

// weigh asks the conditions once. Each change of an answer is a line of the incident's log.
// With the mode "immediate", the first condition that holds starts the recovery.
//
// A crash before the transaction asks again after the next start; after it, the log has the
// answer and the job is there: the two are one.
func (a *App) weigh(ctx context.Context) error {
	if len(a.Plan().Activation.When) == 0 {
		return nil
	}
	open, err := a.Incidents.List(ctx, true)
	if err != nil || !slices.ContainsFunc(open, func(i incident.Incident) bool { return i.Phase != incident.Review }) {
		return err
	}
	f, err := a.observed(ctx)
	if err != nil {
		return err
	}
	p := a.Plan()
	for _, w := range objective.Weigh(p, f, objective.Look(p, f)) {
		i := slices.IndexFunc(open, func(i incident.Incident) bool { return i.Name() == w.Incident })
		if i < 0 {
			continue // opened since
		}
		if err := a.noteWeighing(ctx, p, open[i], w); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) noteWeighing(ctx context.Context, p *plan.Plan, inc incident.Incident, w objective.Weighing) error {
	if inc.Activation != "" {
		return nil // it was decided
	}
	starts := w.Holds && p.Activation.Mode == plan.ModeImmediate
	now := answered{w.Text, "not"}
	switch {
	case starts:
		now.Answer = "starts"
	case w.Err != "":
		now.Answer = "untold"
	case w.Holds:
		now.Answer = "holds"
	}
	events, err := a.Incidents.Events(ctx, inc.ID)
	if err != nil {
		return err
	}
	before := answered{w.Text, "not"}
	for _, e := range events {
		var said answered
		if e.Type == noteActivation && json.Unmarshal(e.Payload, &said) == nil && said.Condition == w.Text {
			before = said
		}
	}
	if before == now {
		return nil
	}
	at := fmt.Sprintf("activation.when[%d]", w.Condition)
	text := at + ": " + w.String()
	switch {
	case starts:
		text += "; the recovery starts"
	case w.Holds:
		text += "; the recovery is proposed to " + joined(p.Activation.By)
	case w.Err != "":
		text += "; " + joined(p.Activation.By) + " decides"
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.Incidents.Note(ctx, tx, inc.ID, "holdfast", noteActivation, text, now); err != nil || !starts {
			return err
		}
		in := a.activation(inc.ID, "")
		in.Args = activateArgs{Incident: inc.ID, Why: at}
		_, err := a.Jobs.Enqueue(ctx, tx, in)
		return err
	})
}
