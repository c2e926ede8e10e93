package foreign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// A Trial is one thing that an examination tried.
type Trial struct {
	Name    string           `json:"name"`
	Outcome holdfast.Outcome `json:"outcome"`
	Detail  string           `json:"detail"`
	// So is what follows from it for whoever relies on the adapter; empty if it passed.
	So string `json:"so,omitempty"`
}

// An Examination is what an adapter does and does otherwise than the contract says.
type Examination struct {
	Program  string       `json:"program"`
	Protocol string       `json:"protocol"`
	About    *Description `json:"about,omitempty"`
	Points   []Point      `json:"points"`
	Trials   []Trial      `json:"trials"`
}

// Kept reports whether nothing failed.
func (e *Examination) Kept() bool {
	return !slices.ContainsFunc(e.Trials, func(t Trial) bool { return t.Outcome == holdfast.Failed })
}

func (e *Examination) add(name string, err error, so, detail string, args ...any) bool {
	t := Trial{Name: name, Outcome: holdfast.Passed, Detail: bounded(fmt.Sprintf(detail, args...))}
	if err != nil {
		t.Outcome, t.Detail, t.So = holdfast.Failed, bounded(holdfast.Sentence(err)), so
	}
	e.Trials = append(e.Trials, t)
	return err == nil
}

func (e *Examination) skip(name, why string) {
	e.Trials = append(e.Trials, Trial{Name: name, Outcome: holdfast.NotProven, Detail: why})
}

// An Examiner examines adapters.
type Examiner struct {
	// Box makes a new box; its release ends what is in it.
	Box func(ctx context.Context) (Box, func() error, error)
	// Restore asks for the newest point, which may cost, and cleans up.
	Restore bool
}

// Examine calls an adapter as the contract says and as it must not be called, and says
// what it does. An error means that the examination itself could not go on.
func (x Examiner) Examine(ctx context.Context, a *Adapter) (*Examination, error) {
	e := &Examination{Program: strings.Join(a.Argv, " "), Protocol: Protocol, Points: []Point{}}
	var broken error
	in := func(f func(Box) error) error {
		box, release, err := x.Box(ctx)
		if err != nil {
			broken = err
			return err
		}
		err = f(box)
		if rerr := release(); rerr != nil && broken == nil {
			broken = rerr
		}
		return err
	}
	list := func(a *Adapter) (ps []Point, err error) {
		err = in(func(b Box) error { ps, err = a.List(ctx, b); return err })
		return ps, err
	}

	err := in(func(b Box) error {
		d, err := a.Describe(ctx, b)
		if err == nil {
			e.About = &d
		}
		return err
	})
	if !e.add("it says what it is", err, "Holdfast cannot tell what it is asked to believe", "%s", about(e.About)) {
		return e, errors.Join(broken, ctx.Err())
	}
	missing := slices.DeleteFunc(slices.Clone(e.About.Secrets), func(n string) bool { _, ok := a.Secrets[n]; return ok })
	if len(missing) > 0 {
		e.skip("its recovery points", "it needs the secrets "+strings.Join(missing, ", ")+": give them with --secret")
	} else {
		x.points(ctx, e, a, list)
	}

	for _, h := range hostile {
		err := in(func(b Box) error { return a.refuses(ctx, b, h) })
		e.add(h.name, err, h.so, "refused, with code %s", strings.Join(h.codes, " or "))
	}
	x.without(e, a, list)

	switch {
	case !slices.Contains(e.About.Verbs, VerbRestore):
		e.skip("a restore", "it has no verb for it: what it tells of stays claimed")
	case !x.Restore:
		e.skip("a restore", "not asked for (--restore): "+or(strings.Join(e.About.Effects, "; "), "it names no effects"))
	case len(e.Points) == 0:
		e.skip("a restore", "there is no point to restore")
	default:
		err := in(func(b Box) error { return x.restore(ctx, e, a, b) })
		if err != nil {
			e.add("a restore", err, "a test of the supplier's copies would fail", "")
		}
	}
	if err := in(func(b Box) error { return a.unknownPoint(ctx, b) }); slices.Contains(e.About.Verbs, VerbRestore) {
		e.add("a point that is not there is not restored", err, "a restore may bring back something else than was asked for", "refused, with code %s", CodeNotFound)
	}
	return e, errors.Join(broken, ctx.Err())
}

func about(d *Description) string {
	if d == nil {
		return ""
	}
	return fmt.Sprintf("%s %s, %s", d.Name, d.Version, strings.Join(d.Verbs, ", "))
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// points asks twice: an answer that changes by itself is no answer.
func (x Examiner) points(ctx context.Context, e *Examination, a *Adapter, list func(*Adapter) ([]Point, error)) {
	ps, err := list(a)
	if !e.add("its recovery points", err, "how fresh the supplier's copies are stays unknown", "%s", span(ps)) {
		return
	}
	e.Points = ps
	again, err := list(a)
	if err == nil {
		for _, p := range ps {
			if p.Kind == Snapshot && slices.ContainsFunc(again, func(q Point) bool { return q.ID == p.ID && !q.Until.Equal(p.Until) }) {
				err = fmt.Errorf("snapshot %q moved to another instant between two calls", p.ID)
			}
		}
		if len(ps) > 0 && len(again) > 0 && again[len(again)-1].Until.Before(ps[len(ps)-1].Until) {
			err = fmt.Errorf("the newest point went back from %s to %s between two calls", ps[len(ps)-1].Until.UTC().Format(time.RFC3339), again[len(again)-1].Until.UTC().Format(time.RFC3339))
		}
	}
	e.add("the same points when asked again", err, "what it says cannot be relied on", "%s", span(again))
}

func span(ps []Point) string {
	if len(ps) == 0 {
		return "no recovery point"
	}
	return fmt.Sprintf("%d, the newest until %s", len(ps), ps[len(ps)-1].Until.UTC().Format(time.RFC3339))
}

// A hostile request is one that an adapter must refuse.
type hostileRequest struct {
	name, verb, text string
	codes            []string
	so               string
}

var hostile = []hostileRequest{
	{"a verb that it does not know is refused", "destroy", `{"protocol":"` + Protocol + `"}`, []string{CodeUnsupported}, "a newer Holdfast may take silence for success"},
	{"another protocol is refused", VerbList, `{"protocol":"holdfast-adapter/999"}`, []string{CodeUnsupported}, "a later contract may be misunderstood silently"},
	{"a request that was cut off is refused", VerbList, `{"protocol":"` + Protocol + `","sto`, []string{CodeInvalid}, "it acts on what it did not understand"},
	{"no request at all is refused", VerbList, ``, []string{CodeInvalid}, "it acts on what nobody asked"},
}

// refuses sends a request as it is and looks whether it is refused as it should.
func (a *Adapter) refuses(ctx context.Context, box Box, h hostileRequest) error {
	line, err := a.exchange(ctx, box, h.verb, listWithin, []byte(h.text+"\n"), func(kind string, _ []byte) error {
		if kind != "point" {
			return fmt.Errorf("an event has the type %q", bounded(kind))
		}
		return nil
	})
	if err != nil {
		return err
	}
	var r struct {
		OK   *bool
		Code string
	}
	switch err := json.Unmarshal(line, &r); {
	case err != nil || r.OK == nil:
		return a.breach(h.verb, "its result does not say whether it is ok")
	case *r.OK:
		return a.breach(h.verb, "it says that it is done")
	case !slices.Contains(h.codes, r.Code):
		return a.breach(h.verb, "it refuses with code %q instead of %s", bounded(r.Code), strings.Join(h.codes, " or "))
	}
	return nil
}

// without takes the secrets away: who cannot ask must say so, and not that there is
// nothing.
func (x Examiner) without(e *Examination, a *Adapter, list func(*Adapter) ([]Point, error)) {
	const name = "without its secrets it says so"
	if len(e.About.Secrets) == 0 {
		e.skip(name, "it needs none")
		return
	}
	poor := *a
	poor.Secrets = maps.Clone(a.Secrets)
	for _, n := range e.About.Secrets {
		delete(poor.Secrets, n)
	}
	_, err := list(&poor)
	var r *Refusal
	switch {
	case err == nil:
		err = a.breach(VerbList, "it lists points, or none, without a secret that it needs")
	case errors.As(err, &r) && r.Code == CodeAuth:
		err = nil
	case errors.As(err, &r):
		err = a.breach(VerbList, "it refuses with code %q instead of %s", r.Code, CodeAuth)
	}
	e.add(name, err, "a lost password may look like a supplier without copies, or like a supplier that is away", "refused, with code %s", CodeAuth)
}

func (a *Adapter) unknownPoint(ctx context.Context, box Box) error {
	_, err := a.Restore(ctx, box, Point{ID: "holdfast-no-such-point", Kind: Snapshot}, time.Time{}, cleanupWithin, nil)
	var r *Refusal
	switch {
	case err == nil:
		return a.breach(VerbRestore, "it says that it restored a point that it never listed")
	case errors.As(err, &r) && r.Code == CodeNotFound:
		return nil
	case errors.As(err, &r):
		return a.breach(VerbRestore, "it refuses with code %q instead of %s", r.Code, CodeNotFound)
	}
	return err
}

// restore brings the newest point back and cleans up, twice.
func (x Examiner) restore(ctx context.Context, e *Examination, a *Adapter, box Box) error {
	p := e.Points[len(e.Points)-1]
	got, err := a.Restore(ctx, box, p, p.Until, 0, nil)
	if err == nil && got.DSN == "" {
		var files, bytes int64
		if files, bytes, _, err = a.Count(box); err == nil && (files != got.Files || bytes != got.Bytes) {
			err = a.breach(VerbRestore, "it says that %d files with %d bytes came back, and there are %d with %d", got.Files, got.Bytes, files, bytes)
		}
	}
	if err == nil {
		_, err = a.Password(box, got)
	}
	e.add("a restore", err, "a test of the supplier's copies would fail", "point %q came back", p.ID)
	for _, name := range []string{"what it made is cleaned up", "cleaning up again is no error"} {
		e.add(name, a.Cleanup(context.WithoutCancel(ctx), box, got.Handle), "what a test makes stays, and costs", "done")
	}
	return nil
}
