package app

import (
	"context"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// A Lapse is what does not come back although the newest state was asked for, because
// the log cannot be used up to its end: not at the location that reaches furthest, and so
// at none that answers.
//
// It is an upper bound. Nobody knows what was committed after Since; where the store
// was idle, nothing was.
type Lapse struct {
	Since   time.Time     `json:"since"` // what was committed later does not come back
	AtMost  time.Duration `json:"at_most_ns"`
	Base    string        `json:"base"`     // the base backup that it begins from
	BaseAt  time.Time     `json:"base_at"`  // where that is complete
	Why     string        `json:"why"`      // what is wrong with the log
	Planned time.Duration `json:"every_ns"` // between two base backups, by the plan
}

// An Offer is what a restore would do.
type Offer struct {
	holdfast.Window
	Lapse   *Lapse `json:"lapse,omitempty"`
	Confirm string `json:"confirm,omitempty"` // the flag with which a person takes the loss
}

// Offered says from where and how far a request would be answered, and what would be
// lost. It restores nothing.
func Offered(ctx context.Context, p *plan.Plan, opt Options, r RestoreRequest) (Offer, error) {
	w, err := ChooseWindow(ctx, p, opt, r)
	if err != nil {
		return Offer{}, err
	}
	o := Offer{Window: w, Lapse: lapseOf(p, r, w, opt.now())}
	if o.Lapse != nil && o.Lapse.accept(&r, w) != nil {
		o.Confirm = o.Lapse.confirm()
	}
	return o, nil
}

// confirm is the flag that takes the loss, with some room for the time until it is used.
func (l *Lapse) confirm() string { return fmt.Sprintf("--accept-loss %dh", l.AtMost/time.Hour+1) }

// now is the time of a command; without a clock it is the machine's.
func (o Options) now() time.Time {
	if o.Clock == nil {
		return time.Now()
	}
	return o.Clock()
}

// lapseOf says what a restore from a window would lose; nil if it reaches what the
// request asks for.
func lapseOf(p *plan.Plan, r RestoreRequest, w holdfast.Window, now time.Time) *Lapse {
	switch {
	case r.Target.Kind == holdfast.TargetImmediate:
		// The base alone was asked for; what lies behind it is left out on purpose.
		return &Lapse{Since: w.NewestAt, AtMost: now.Sub(w.NewestAt), Base: w.Newest, BaseAt: w.NewestAt, Why: "the base backup alone was asked for", Planned: planned(p, r.Store)}
	case r.Target.Kind == holdfast.TargetLatest && w.Hole != "":
		return &Lapse{Since: w.To, AtMost: now.Sub(w.To), Base: w.Newest, BaseAt: w.NewestAt, Why: w.Hole, Planned: planned(p, r.Store)}
	}
	return nil
}

func planned(p *plan.Plan, store string) time.Duration {
	return p.Backups[p.Stores[store].Protect].Every.Interval()
}

// String is the offer in a sentence.
func (l *Lapse) String() string {
	s := fmt.Sprintf("%s; what was committed after %s is lost, up to %s of it", l.Why, l.Since.UTC().Format(time.RFC3339), holdfast.FormatDuration(l.AtMost.Round(time.Second)))
	if l.Planned > 0 && l.AtMost > l.Planned {
		s += fmt.Sprintf(", more than the %s between two base backups", holdfast.FormatDuration(l.Planned))
	}
	return s
}

// accept refuses a loss that nobody took, and otherwise gives the request a target that
// can be reached.
func (l *Lapse) accept(r *RestoreRequest, w holdfast.Window) error {
	if r.Target.Kind == holdfast.TargetImmediate {
		r.Snapshot, r.Location = w.Newest, w.Location
		return nil // it was named
	}
	if r.AcceptLoss < l.AtMost {
		return holdfast.WithHint(fmt.Errorf("the newest state of %q cannot be brought back: %s: %w", r.Store, l, holdfast.ErrRefused),
			"look for more with \"holdfast points %s --read\"; take what is left with %s", r.Store, l.confirm())
	}
	if w.To.After(l.BaseAt) {
		r.Target = holdfast.Target{Kind: holdfast.TargetTime, Time: w.To}
	} else {
		r.Target = holdfast.Target{Kind: holdfast.TargetImmediate}
	}
	r.Snapshot, r.Location = l.Base, w.Location
	return nil
}
