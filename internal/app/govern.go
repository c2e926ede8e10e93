package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/govern"
	"holdfast/internal/ledger"
	"holdfast/internal/objective"
	"holdfast/internal/plan"
	"holdfast/internal/web"
)

// What the duties add to the findings of status.
const (
	codeOverdue    = "HF-G1" // somebody owes something, and its time is over
	codeUnapproved = "HF-G2" // objectives that are declared and not approved
	codeUncomputed = "HF-G3" // a metric whose period is over has no value
	codeUntargeted = "HF-G4" // the newest value of a metric misses its target
	codeUnsent     = "HF-M1" // messages reached nobody
)

// shownOverdue is how many overdue duties status names one by one.
const shownOverdue = 5

// settleEvery is how often a server looks at what people owe.
const settleEvery = time.Minute

// settleDuties looks at what people owe, again and again.
func (a *App) settleDuties(ctx context.Context) {
	pause := a.pauses(ctx)
	for {
		if err := errors.Join(a.lookAround(ctx), a.Duties.Settle(ctx), a.Duties.SettleMetrics(ctx)); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("duties not settled", "err", err)
		}
		if !pause(settleEvery) {
			return
		}
	}
}

// looked is what the linter said of a plan on a day: it changes with both only.
type looked struct {
	digest, day string
	findings    []holdfast.Finding
}

// governed gathers what makes duties due.
func (a *App) governed(ctx context.Context) (govern.Observed, error) {
	now, p := a.opt.Clock(), a.Plan()
	out := govern.Observed{Stores: map[string]govern.Seen{}, Gaps: map[string]string{}}
	for id := range p.Stores {
		seen, err := a.seenOf(ctx, id)
		if err != nil {
			return out, err
		}
		out.Stores[id] = seen
	}
	var around []holdfast.Finding
	if l := a.around.Load(); l != nil {
		around = l.findings
		for id, said := range l.seen {
			if _, there := out.Stores[id]; there {
				out.Stores[id] = said
			}
		}
	}
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return out, err
	}
	for _, d := range ds {
		if d.Ended() {
			out.Drills = append(out.Drills, govern.Drilled{ID: d.ID, Name: d.Name, Store: d.Store, At: d.Finished, Passed: d.State == drill.StatePassed, Why: whyNot(d)})
		}
	}
	is, err := a.Incidents.List(ctx, false)
	if err != nil {
		return out, err
	}
	for _, i := range is {
		out.Incidents = append(out.Incidents, govern.Incident{Name: i.Name(), Kind: i.Kind, At: i.DetectedAt, Stores: i.Stores, Services: i.Services, Activated: i.Activation != ""})
	}
	l, _ := a.lint.Load().(looked)
	if day := now.Format(time.DateOnly); l.digest != p.Digest() || l.day != day {
		l = looked{p.Digest(), day, plan.Check(p, now)}
		a.lint.Store(l)
	}
	out.Findings = slices.Concat(l.findings, around)
	f, err := a.observed(ctx)
	if err != nil {
		return out, err
	}
	for _, x := range objective.Look(p, f).Coverage.Items {
		if x.Kind == "store" && x.State == objective.Uncovered {
			out.Gaps["stores."+x.ID] = x.Why
		}
	}
	if out.Copies, err = a.openedCopies(ctx); err != nil {
		return out, err
	}
	if err := a.watched(ctx, now, &out); err != nil {
		return out, err
	}
	if out.Left, err = a.restsOnLeavers(ctx); err != nil {
		return out, err
	}
	out.Kept, err = a.keptPast(ctx)
	return out, err
}

// whyNot says in one line why a drill did not pass.
func whyNot(d drill.Drill) string {
	if d.State == drill.StatePassed {
		return ""
	}
	for _, c := range d.Checks {
		if c.Outcome == holdfast.Failed {
			return c.Name + ": " + c.Detail
		}
	}
	return d.Error
}

// seenOf is what was observed of a store: the size of its newest whole copy.
func (a *App) seenOf(ctx context.Context, id string) (govern.Seen, error) {
	var out govern.Seen
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: backup.FactSnapshot, Subject: "stores." + id, Limit: 1, Newest: true})
	if err != nil || len(fs) == 0 {
		return out, err
	}
	var made backup.SnapshotFact
	if err := decodeFact(fs[0], &made); err != nil {
		return out, err
	}
	if made.Incomplete == "" {
		out.Bytes = made.Bytes
	}
	return out, nil
}

// dutyFindings is what status says of what was found and the plan does not know, of what
// is overdue, and of objectives that the plan wants approved and nobody has.
func (a *App) dutyFindings(ctx context.Context) ([]holdfast.Finding, error) {
	ds, err := a.Duties.Open(ctx, false)
	if err != nil {
		return nil, err
	}
	var out []holdfast.Finding
	if l := a.around.Load(); l != nil {
		for _, f := range l.findings {
			if f.Severity != holdfast.SeverityNote {
				out = append(out, f)
			}
		}
	}
	late := 0
	for _, d := range ds {
		if d.State != govern.Overdue || d.Watch {
			continue
		}
		if late++; late > shownOverdue {
			continue
		}
		since := d.Due
		if !d.Since.IsZero() {
			since = d.Since
		}
		hint := fmt.Sprintf("\"holdfast review show %s\" says what to do; it ends by the word of %s", d.Name, joined(d.By))
		if with := d.EndsWith(); with != "" {
			hint = fmt.Sprintf("\"holdfast review show %s\" says what to do; it ends with %s", d.Name, with)
		}
		out = append(out, holdfast.Finding{Code: codeOverdue, Severity: holdfast.SeverityError, Subject: d.Subject,
			Message: fmt.Sprintf("overdue since %s: %s (%s)", since.UTC().Format(time.DateOnly), d.What, d.Cause), Hint: hint})
	}
	if n := late - shownOverdue; n > 0 {
		out = append(out, holdfast.Finding{Code: codeOverdue, Severity: holdfast.SeverityError, Subject: "plan", Message: fmt.Sprintf("%d more are overdue", n), Hint: "\"holdfast review list\" lists them"})
	}
	unwatched, err := a.Duties.WatchFindings(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, unwatched...)
	unsent, err := a.messageFindings(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, unsent...)
	figures, err := a.metricFindings(ctx)
	if err != nil {
		return out, err
	}
	out = append(out, figures...)
	if _, ruled := a.Plan().Approvals[plan.ActObjectives]; !ruled {
		return out, nil
	}
	as, err := a.Duties.Approvals(ctx)
	if err != nil {
		return out, err
	}
	for _, x := range as {
		if !x.Approved {
			out = append(out, holdfast.Finding{Code: codeUnapproved, Severity: holdfast.SeverityWarning, Subject: x.Subject,
				Message: "declared, not approved: " + joined(x.Values) + "; " + x.Why, Hint: fmt.Sprintf("\"holdfast review done objectives.%s\" by %s", x.Subject, joined(x.By))})
		}
	}
	return out, nil
}

func joined(words []string) string {
	switch n := len(words); n {
	case 0:
		return "nobody"
	case 1:
		return words[0]
	default:
		return fmt.Sprintf("%s and %s", words[0], joined(slices.Clone(words[1:])))
	}
}

// Reviews lists what people owe.
func (a *App) Reviews(ctx context.Context, all bool) ([]govern.Duty, error) {
	return a.Duties.List(ctx, all)
}

// ReviewText is what a person signs for a duty.
func (a *App) ReviewText(ctx context.Context, id string, w govern.Word) (string, error) {
	return a.Duties.Text(ctx, id, w)
}

// ReviewDone records a person's part of a duty.
func (a *App) ReviewDone(ctx context.Context, id string, w govern.Word) (govern.Duty, error) {
	return a.Duties.Done(ctx, id, w)
}

// Risks is the register.
func (a *App) Risks(ctx context.Context) ([]govern.Risk, error) { return a.Duties.Risks(ctx) }

// AssessRisk records a judgement of one risk.
func (a *App) AssessRisk(ctx context.Context, id string, x govern.Assessment) (govern.Risk, error) {
	return a.Duties.Assess(ctx, id, x)
}

// CloseRisk ends a risk with proof.
func (a *App) CloseRisk(ctx context.Context, id, by, note string) (govern.Risk, error) {
	return a.Duties.CloseRisk(ctx, id, by, note)
}

// Exceptions lists the waivers.
func (a *App) Exceptions(ctx context.Context) ([]govern.Exception, error) {
	return a.Duties.Exceptions(ctx)
}

// AskException asks for a waiver.
func (a *App) AskException(ctx context.Context, e govern.Exception) (govern.Exception, error) {
	return a.Duties.AskException(ctx, e)
}

// ExceptionText is what a person signs for an exception.
func (a *App) ExceptionText(ctx context.Context, id string) (string, error) {
	return a.Duties.ExceptionText(ctx, id)
}

// ApproveException adds a signature to an exception.
func (a *App) ApproveException(ctx context.Context, id string, w govern.Word) (govern.Exception, error) {
	return a.Duties.ApproveException(ctx, id, w)
}

// Launches says which stores are live, and what the others lack.
func (a *App) Launches(ctx context.Context) ([]govern.Launch, error) { return a.Duties.Launches(ctx) }

// GoLive declares a store live.
func (a *App) GoLive(ctx context.Context, store, by string) (govern.Launch, error) {
	return a.Duties.GoLive(ctx, store, by)
}

// ReviewPack gathers what a review by management looks at.
func (a *App) ReviewPack(ctx context.Context, from time.Time) (govern.Pack, error) {
	return a.Duties.Pack(ctx, from)
}

// Reviews is what the page says of duties: what is open, as the last look left it.
func (p pages) Reviews(ctx context.Context) ([]web.ReviewLine, error) {
	ds, err := p.a.Duties.Open(ctx, false)
	var out []web.ReviewLine
	for _, d := range ds {
		who := joined(d.By)
		switch {
		case d.ByDrill():
			who = d.EndsWith()
		case d.EndsWith() != "":
			who = d.Owner
		}
		out = append(out, web.ReviewLine{Name: d.Name, What: d.What, Cause: d.Cause, Who: who, State: d.State, Due: d.Due})
	}
	return out, err
}
