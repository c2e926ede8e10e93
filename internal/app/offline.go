package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/govern"
	"holdfast/internal/plan/render"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
	"holdfast/internal/web"
)

// entitled are the people of the plan in force, with how often it wants an offline copy of
// them opened.
func (a *App) entitled() []survive.Entitled {
	p := a.Plan()
	var out []survive.Entitled
	for _, id := range slices.Sorted(maps.Keys(p.People)) {
		out = append(out, survive.Entitled{Person: id, Every: p.People[id].OfflineCopy.Approx()})
	}
	return out
}

// OfflineCopies says who holds which version of the plan, with what each owes.
func (a *App) OfflineCopies(ctx context.Context) (out api.OfflineCopies, err error) {
	if out.Copies, err = a.Custody.Copies(ctx); err != nil {
		return out, err
	}
	left, err := a.Access.Leavers(ctx)
	if err != nil {
		return out, err
	}
	p := a.Plan()
	out.People = a.Custody.CopiesHeld(out.Copies, a.entitled(), func(who string) bool { return slices.Contains(left, who) }, p.Digest(), p.Plan.Version)
	ds, err := a.Duties.Open(ctx, false)
	if err != nil {
		return out, err
	}
	for i := range out.People {
		for _, d := range ds {
			if d.Kind == govern.OfflineCopy && d.Owner == out.People[i].Person {
				out.People[i].Due = d.Due
			}
		}
	}
	out.Findings = survive.CopyFindings(out.People)
	return out, nil
}

// openedCopies are the copies that their people have opened, and still have.
func (a *App) openedCopies(ctx context.Context) (map[string][]govern.Opened, error) {
	cs, err := a.Custody.Copies(ctx)
	out := map[string][]govern.Opened{}
	for _, c := range cs {
		if !c.Confirmed.IsZero() && c.Ended.IsZero() {
			out[c.Person] = append(out[c.Person], govern.Opened{Copy: c.ID, Plan: c.Plan, At: c.Confirmed})
		}
	}
	return out, err
}

// restOf is what rests on a person: of the plan, and their offline copies.
func (a *App) restOf(ctx context.Context, person string) ([]govern.Rests, error) {
	out := duties(a.Plan(), person)
	cs, err := a.Custody.Copies(ctx)
	for _, c := range cs {
		if c.Person == person && c.Ended.IsZero() {
			out = append(out, govern.Rests{Path: "offline." + c.ID, What: fmt.Sprintf("an offline copy of the plan, version %s, must come back or be destroyed: holdfast offline end %s", c.Version, c.ID)})
		}
	}
	return out, err
}

// restsOnLeavers is what still rests on people who have left.
func (a *App) restsOnLeavers(ctx context.Context) (map[string][]govern.Rests, error) {
	left, err := a.Access.Leavers(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]govern.Rests{}
	for _, who := range left {
		if out[who], err = a.restOf(ctx, who); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// DraftOfflineCopy writes the plan in force for one person. Nothing is recorded yet.
func (a *App) DraftOfflineCopy(ctx context.Context, person string) (out api.OfflineDraft, err error) {
	if err := a.person(person); err != nil {
		return out, err
	}
	left, err := a.Access.Leavers(ctx)
	if err != nil {
		return out, err
	}
	if slices.Contains(left, person) {
		return out, holdfast.WithHint(fmt.Errorf("%q has left, and gets no copy: %w", person, holdfast.ErrRefused), "take them out of the plan")
	}
	p, now := a.Plan(), a.opt.Clock().UTC().Truncate(time.Second)
	id, code := survive.NewCopyID(now), seal.NewPassphrase()
	page, err := a.offlinePage(ctx, id, person, code, now)
	if err != nil {
		return out, err
	}
	return api.OfflineDraft{Statement: survive.Statement{Copy: id, Person: person, Plan: p.Plan.ID, Version: p.Plan.Version, Digest: p.Digest(), Made: now}, Code: code, Page: string(page)}, nil
}

// offlinePage writes the plan in force for one person, or, with neither person nor code, for
// a recovery kit.
func (a *App) offlinePage(ctx context.Context, id, person, code string, now time.Time) ([]byte, error) {
	p := a.Plan()
	o := render.Offline{ID: id, Person: person, Code: code, Made: now, Program: program(), Proven: map[string]string{}, Repository: repo.Note}
	var err error
	if o.Verified, err = a.Duties.LastReviewed(ctx, "suppliers."); err != nil {
		return nil, err
	}
	for id := range p.Stores {
		d, ok, err := a.Drills.LastPassed(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			o.Proven[id] = fmt.Sprintf("restored from %s in %s on %s, as a drill (%s)", d.Location, holdfast.FormatDuration(d.Parts.Sum()), d.Finished.Format(time.DateOnly), d.Rung)
		}
	}
	return render.MakeOffline(p, o)
}

// program names this program, so that who must get it again can tell that it is the one.
var program = sync.OnceValue(func() string {
	name := "Holdfast " + holdfast.Version
	path, err := os.Executable()
	if err != nil {
		return name
	}
	f, err := os.Open(path)
	if err != nil {
		return name
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return name
	}
	return name + ", sha256 " + hex.EncodeToString(h.Sum(nil))
})

// RecordOfflineCopy records a copy that was sealed, and signs its statement: what is sealed
// was said to be the plan in force, and whoever holds the file can tell that it is this one.
func (a *App) RecordOfflineCopy(ctx context.Context, r api.OfflineRecord) (out api.OfflineSigned, err error) {
	if err := a.person(r.Person); err != nil {
		return out, err
	}
	p := a.Plan()
	if r.Digest != p.Digest() {
		return out, holdfast.WithHint(fmt.Errorf("another plan came into force while the copy was made: %w", holdfast.ErrRefused), "make it again")
	}
	out.Statement = survive.Statement{Copy: r.Copy, Person: r.Person, Plan: p.Plan.ID, Version: p.Plan.Version, Digest: r.Digest, Made: r.Made, Rounds: r.Rounds, Code: r.Code, Sealed: r.Sealed}
	out.Signature, out.Key = out.Statement.Sign(a.Keys.Evidence), a.Keys.Evidence.Public().String()
	return out, a.Custody.RecordCopy(ctx, survive.Copy{ID: r.Copy, Person: r.Person, Plan: r.Digest, Version: p.Plan.Version, Made: r.Made, MadeBy: r.By, Sealed: r.Sealed, Hash: r.Hash})
}

// ConfirmOfflineCopy records that a person's copy opens; what they owed for it ends.
func (a *App) ConfirmOfflineCopy(ctx context.Context, id, code, by string) (c survive.Copy, err error) {
	if err := a.person(by); err != nil {
		return c, err
	}
	if left, err := a.Access.Leavers(ctx); err != nil {
		return c, err
	} else if slices.Contains(left, by) {
		return c, holdfast.WithHint(fmt.Errorf("%q has left, and holds no copy: %w", by, holdfast.ErrRefused), "bring it back; \"holdfast offline end %s\" records it", id)
	}
	if c, err = a.Custody.ConfirmCopy(ctx, id, code, by); err != nil {
		return c, err
	}
	return c, a.Duties.Settle(ctx)
}

// EndOfflineCopy records a person's word that a copy is gone.
func (a *App) EndOfflineCopy(ctx context.Context, id, by, how string) (c survive.Copy, err error) {
	if err := a.person(by); err != nil {
		return c, err
	}
	if c, err = a.Custody.EndCopy(ctx, id, by, how); err != nil {
		return c, err
	}
	return c, a.Duties.Settle(ctx)
}

// OfflineCopies is what the page says of them.
func (p pages) OfflineCopies(ctx context.Context) (out []web.CopyLine, err error) {
	o, err := p.a.OfflineCopies(ctx)
	for _, h := range o.People {
		l := web.CopyLine{Person: h.Person, Name: p.a.Plan().People[h.Person].Name, State: h.State, Why: h.Why, Confirmed: h.Confirmed, Due: h.Due, Version: h.Version}
		if h.Holds != nil {
			l.Holds, l.HoldsVersion, l.Sealed = h.Holds.ID, h.Holds.Version, h.Holds.Sealed
		}
		if h.Waits != nil {
			l.Waits, l.WaitsVersion, l.Sealed = h.Waits.ID, h.Waits.Version, h.Waits.Sealed
		}
		out = append(out, l)
	}
	return out, err
}

// ConfirmCopy takes a code from the page.
func (p pages) ConfirmCopy(ctx context.Context, id, code, by string) error {
	_, err := p.a.ConfirmOfflineCopy(ctx, id, code, by)
	if err != nil && (errors.Is(err, holdfast.ErrRefused) || errors.Is(err, holdfast.ErrUsage)) {
		return &web.PublicError{Message: holdfast.Sentence(err), Hint: holdfast.Hint(err), Err: err}
	}
	return err
}
