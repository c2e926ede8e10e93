package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/source/foreign"
)

// Foreign is how a drill tries what a supplier protects: it asks for a restore, as on the
// bad day, and looks at what came back by itself.
type Foreign struct {
	Adapter  *foreign.Adapter
	Supplier string        // who is responsible, by the plan
	Within   time.Duration // for the restore; 0: as the contract says
	Oldest   time.Duration // age of the newest point beyond which L0 fails; 0: no promise
	// Newest is the owner's question for the instant of the newest data; "" asks nothing.
	Newest string
	// Open reaches the restored engine. It refuses one that is not the supplier's copy,
	// made since the given instant of the caller's clock. Nil where files come back.
	Open func(ctx context.Context, dsn, password string, since time.Time) (Engine, error)
}

// An Engine is what a supplier started of its copy.
type Engine interface {
	// Value asks one question, as a source.Restored does.
	Value(ctx context.Context, question string) (any, error)
	// About says in words what answers.
	About() string
}

// foreignOffers are the points that a supplier says it has, as windows.
func (m *Module) foreignOffers(ctx context.Context, sub Subject, req Request) (out []holdfast.Window, err error) {
	if m.cfg.Outside == nil {
		return nil, fmt.Errorf("store %q is protected by %q, and nobody can ask it here", req.Store, sub.Foreign.Supplier)
	}
	box, err := m.cfg.Outside(ctx)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	ps, err := sub.Foreign.Adapter.List(ctx, box)
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		w := holdfast.Window{Store: req.Store, Location: sub.Foreign.Supplier, Snapshot: p.ID, From: p.From, To: p.Until, Bases: 1}
		if p.Kind == foreign.Snapshot {
			w.From = p.Until
		}
		out = append(out, w)
	}
	if len(out) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%q has no recovery point of %q", sub.Foreign.Supplier, req.Store), "ask %q, and protect %q yourself until there is one", sub.Foreign.Supplier, req.Store)
	}
	return out, nil
}

// foreign asks the supplier for the instant of the drill and looks at what came back.
// What it made is ended in any case, and that it was is a check of its own: it may cost.
//
// A crash in between leaves what the supplier made: the adapter was told the store, and
// the next attempt begins with a cleanup without a handle.
func (c *climb) foreign(ctx context.Context, sub Subject) (err error) {
	f := sub.Foreign
	began := c.m.cfg.Clock()
	box, err := c.m.cfg.Outside(ctx)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	c.d.Isolation = box.Isolation()
	defer func() {
		if cerr := box.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("the drill left something behind: %w", cerr))
		}
	}()
	c.provision = c.m.cfg.Clock().Sub(began)

	c.say("asking " + f.Supplier)
	began = c.m.cfg.Clock()
	ps, err := f.Adapter.List(ctx, box)
	if err != nil {
		return err
	}
	p, ok := c.point(ps)
	if !ok {
		c.add(holdfast.L0, "the point is listed", holdfast.Failed, began, "%q has no point that gives %s back, among %d", f.Supplier, c.d.Target, len(ps))
		return nil
	}
	newest := ps[len(ps)-1].Until
	switch age := began.Sub(newest); {
	case f.Oldest > 0 && age > f.Oldest:
		c.add(holdfast.L0, "fresh by the supplier's word", holdfast.Failed, began, "the newest of %d points is %s old, promised %s", len(ps), holdfast.FormatDuration(age), holdfast.FormatDuration(f.Oldest))
	default:
		c.add(holdfast.L0, "fresh by the supplier's word", holdfast.Passed, began, "the newest of %d points is %s old", len(ps), holdfast.FormatDuration(max(0, age)))
	}
	c.d.Checks[len(c.d.Checks)-1].Grade = holdfast.Claimed
	c.add(holdfast.L1, holdfast.L1.Proves(), holdfast.NotProven, began, "%q shows no objects: between its word and a restore there is nothing to look at", f.Supplier)

	if c.d.Attempt > 1 {
		if err := f.Adapter.Cleanup(ctx, box, ""); err != nil {
			return fmt.Errorf("what the attempt before may have left: %w", err)
		}
	}
	c.say("restore by " + f.Supplier)
	began = c.m.cfg.Clock()
	got, rerr := f.Adapter.Restore(ctx, box, p, c.d.Target.Time, f.Within, c.progress(ctx))
	if rerr == nil {
		c.d.Report.Snapshot, c.d.Report.Asked = p.ID, c.d.Target
		c.d.Report.Fetch = c.m.cfg.Clock().Sub(began)
		rerr = c.look(ctx, sub, box, p, got, began)
	}
	// Also where the drill is being stopped: what was made costs until it is ended.
	began = c.m.cfg.Clock()
	if cerr := f.Adapter.Cleanup(context.WithoutCancel(ctx), box, got.Handle); cerr != nil {
		c.add(holdfast.L4, "nothing is left at the supplier", holdfast.Failed, began, "%v", cerr)
	} else {
		c.add(holdfast.L4, "nothing is left at the supplier", holdfast.Passed, began, "the adapter ended what the restore made")
		c.d.Checks[len(c.d.Checks)-1].Grade = holdfast.Claimed
	}
	return rerr
}

// point is the one that gives the drill's instant back; the narrowest of several.
func (c *climb) point(ps []foreign.Point) (best foreign.Point, ok bool) {
	if len(ps) == 0 {
		return best, false
	}
	if c.d.Target.Kind == holdfast.TargetLatest {
		best = ps[len(ps)-1]
		c.d.Target = holdfast.Target{Kind: holdfast.TargetTime, Time: best.Until} // an instant can be measured
		return best, true
	}
	for _, p := range slices.Backward(ps) {
		if p.Fits(c.d.Target.Time) && (!ok || p.Until.Sub(p.From) < best.Until.Sub(best.From)) {
			best, ok = p, true
		}
	}
	return best, ok
}

// later is how much newer than what was asked for data may be, for clocks that differ.
const later = time.Minute

// look finds out what came back, without believing the adapter.
func (c *climb) look(ctx context.Context, sub Subject, box Box, p foreign.Point, got foreign.Restored, since time.Time) error {
	f := sub.Foreign
	began := c.m.cfg.Clock()
	defer func() { c.verify = c.m.cfg.Clock().Sub(began) }()
	if got.DSN == "" {
		files, bytes, newest, err := f.Adapter.Count(box)
		if err != nil {
			return err
		}
		c.d.Report.Files, c.d.Report.Bytes = files, bytes
		c.d.Report.Reached = fmt.Sprintf("%d files, the newest of %s", files, newest.UTC().Format(time.RFC3339))
		c.d.Report.DataUntil = newest
		switch {
		case files == 0 || bytes == 0:
			c.add(holdfast.L3, "files came back", holdfast.Failed, began, "%d files with %d bytes came back", files, bytes)
		case files != got.Files || bytes != got.Bytes:
			c.add(holdfast.L3, "files came back", holdfast.Failed, began, "%d files with %d bytes came back, and the adapter says %d with %d", files, bytes, got.Files, got.Bytes)
		case p.Bytes > 0 && bytes < p.Bytes/2:
			c.add(holdfast.L3, "files came back", holdfast.Failed, began, "%d bytes came back, and the supplier lists the point with %d", bytes, p.Bytes)
		default:
			c.add(holdfast.L3, "files came back", holdfast.Passed, began, "%d files with %d bytes, as the adapter says", files, bytes)
		}
		return nil
	}
	if f.Open == nil {
		return fmt.Errorf("the adapter names an engine, and stores of kind %q have none that can be asked", sub.Kind)
	}
	password, err := f.Adapter.Password(box, got)
	if err != nil {
		return err
	}
	engine, err := f.Open(ctx, got.DSN, password, since)
	if err != nil {
		c.add(holdfast.L4, "the engine answers", holdfast.Failed, began, "%v", err)
		return nil
	}
	c.d.Report.Reached = engine.About()
	c.add(holdfast.L4, "the engine answers", holdfast.Passed, began, "%s", engine.About())
	c.newest(ctx, f, engine)
	c.say("invariants")
	c.asked(ctx, sub, engine)
	return nil
}

// newest measures how far the restore reaches, by the owner's question.
func (c *climb) newest(ctx context.Context, f *Foreign, engine Engine) {
	const name = "the instant was reached"
	began := c.m.cfg.Clock()
	if f.Newest == "" {
		c.add(holdfast.L4, name, holdfast.NotProven, began, "the plan has no question for the newest data (delegated.newest)")
		return
	}
	v, err := engine.Value(ctx, f.Newest)
	at, isTime := v.(time.Time)
	switch {
	case err != nil:
		c.add(holdfast.L4, name, holdfast.Failed, began, "delegated.newest: %v", err)
	case !isTime || at.IsZero():
		c.add(holdfast.L4, name, holdfast.Failed, began, "delegated.newest answers %v, which is no instant", v)
	case at.After(c.d.Target.Time.Add(later)):
		c.add(holdfast.L4, name, holdfast.Failed, began, "the newest data is of %s, and %s was asked for: this is another state", at.UTC().Format(time.RFC3339Nano), c.d.Target)
	default:
		c.d.Report.DataUntil = at
		c.add(holdfast.L4, name, holdfast.Passed, began, "the newest data is of %s, %s before what was asked for", at.UTC().Format(time.RFC3339Nano), holdfast.FormatDuration(max(0, c.d.Target.Time.Sub(at))))
	}
}
