package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
)

// KindRepair is the job that mends what reading back found.
const KindRepair = "vault.repair"

// A RepairRequest says what to mend.
type RepairRequest struct {
	Location string `json:"location,omitempty" required:"false"` // empty: all
	Apply    bool   `json:"apply,omitempty" required:"false"`
}

// Job is the job that carries a request out.
func (q RepairRequest) Job() job.Insert {
	return job.Insert{Kind: KindRepair, Key: key(KindRepair, q), Args: q, Queue: "vault"}
}

// A Repair is what was done about one damaged object.
type Repair struct {
	Damage
	From string `json:"from,omitempty"` // the location that has it whole; empty: none within reach
	Done bool   `json:"done"`
	Why  string `json:"why,omitempty"` // why not
}

// repair is the job. Each object is looked at again first: what was repaired, or has
// become garbage, is left out. Nothing is deleted or overwritten.
//
// A crash leaves what was mended mended.
func (m *Module) repair(ctx context.Context, w *job.Work) error {
	var q RepairRequest
	if err := w.Decode(&q); err != nil {
		return job.Permanent(err)
	}
	p := m.cfg.Plan()
	if _, ok := p.Locations[q.Location]; q.Location != "" && !ok {
		return job.Permanent(holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", q.Location, holdfast.ErrUsage), "\"holdfast location list\" lists them"))
	}
	places := m.places(ctx, p)
	var out []Repair
	for _, name := range slices.Sorted(maps.Keys(places)) {
		if q.Location != "" && q.Location != name || places[name].err != nil {
			continue
		}
		done, err := m.mendAt(ctx, name, places, q.Apply)
		if err != nil {
			return err
		}
		out = append(out, done...)
	}
	return w.Done(ctx, out, func(tx *db.Tx) error {
		for _, r := range out {
			if r.Done {
				if err := m.fact(ctx, tx, FactRepaired, "locations."+r.Location, "holdfast", r); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (m *Module) mendAt(ctx context.Context, name string, places map[string]place, apply bool) ([]Repair, error) {
	targets, lacks, err := m.targets(ctx, name, places[name].at)
	if err != nil {
		return nil, err
	}
	var out []Repair
	for _, t := range targets {
		if t.damage == "" {
			continue
		}
		object, err := t.read(ctx)
		if err == nil {
			t.damage, t.at = "", m.cfg.Clock()
			continue
		}
		if !isFinding(err) {
			return out, err
		}
		t.damage = object + "\n" + err.Error()
		r := Repair{Damage: t.report(name)}
		if r.Code != CodeDamage || strings.HasPrefix(object, "keys/") {
			r.Why = "there is nothing to bring back: " + r.Hint
			out = append(out, r)
			continue
		}
		if err := m.mend(ctx, &r, t, places, apply); err != nil {
			return out, err
		}
		if r.Done {
			if _, err := t.read(ctx); err != nil {
				r.Done, r.Why = false, err.Error()
			} else {
				t.damage, t.at = "", m.cfg.Clock()
			}
		}
		out = append(out, r)
	}
	for _, d := range lacks {
		r := Repair{Damage: d}
		if err := m.mend(ctx, &r, &target{object: d.Object, store: d.Store, needed: d.Snapshots}, places, apply); err != nil {
			return out, err
		}
		out = append(out, r)
	}
	if !apply {
		return out, nil
	}
	return out, m.keep(ctx, name, targets)
}

// mend tries every other location.
func (m *Module) mend(ctx context.Context, r *Repair, t *target, places map[string]place, apply bool) error {
	if strings.HasPrefix(t.object, "receipts/") {
		return m.mendReceipt(ctx, r, t, places, apply)
	}
	to := places[r.Location].at
	why := []error{errors.New("no other location within reach has it whole")}
	for _, name := range slices.Sorted(maps.Keys(places)) {
		from := places[name]
		if name == r.Location || from.err != nil {
			continue
		}
		err := m.mendFrom(ctx, to, from.at, t, apply)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			r.From, r.Done = name, apply
			return nil
		}
		why = append(why, fmt.Errorf("%q: %w", name, err))
	}
	r.Why = holdfast.Sentence(errors.Join(why...))
	return nil
}

// mendReceipt signs a receipt again, with the time that the state remembers, or the
// first receipt elsewhere where that is later: who can write to the state must not be
// able to end a term early.
func (m *Module) mendReceipt(ctx context.Context, r *Repair, t *target, places map[string]place, apply bool) error {
	id := t.needed[0]
	to := places[r.Location].at
	man, err := to.Manifest(ctx, t.store, id)
	if err == nil {
		err = man.Verify(m.cfg.Trusted()...)
	}
	if err == nil {
		err = to.Check(ctx, man)
	}
	copies, cerr := m.cfg.Copies(ctx, t.store)
	if err != nil || cerr != nil {
		r.Why = holdfast.Sentence(errors.Join(err, cerr))
		return ctx.Err()
	}
	var at time.Time
	for _, c := range copies {
		if c.Snapshot == id && c.Location == r.Location {
			at = c.Received
		}
	}
	for _, pl := range places {
		if pl.err != nil {
			continue
		}
		receipts, err := pl.at.Receipts(ctx, t.store)
		if err != nil && ctx.Err() != nil {
			return err
		}
		for _, rc := range receipts {
			if rc.Snapshot == id && rc.Verify(m.cfg.Key.Public()) == nil && rc.Received.After(at) {
				at = rc.Received
			}
		}
	}
	if r.From = "the vault's memory"; !apply {
		return nil
	}
	if err := to.RepairReceipt(ctx, repo.Receipt{Scope: t.store, Snapshot: id, Manifest: man.Hash(), Place: r.Location, Received: at, Vault: m.cfg.Key.Name()}, m.cfg.Key); err != nil {
		r.From, r.Why = "", err.Error()
		return ctx.Err()
	}
	r.Done = true
	return nil
}

// mendFrom brings one object from another place; without apply it only looks whether
// that has it whole.
func (m *Module) mendFrom(ctx context.Context, to, from *repo.Repository, t *target, apply bool) error {
	switch {
	case strings.HasPrefix(t.object, "packs/"):
		return m.mendPack(ctx, to, from, t, apply)
	case strings.HasPrefix(t.object, "logs/"):
		return mendLog(ctx, to, from, t, apply)
	}
	id := t.object[strings.LastIndexByte(t.object, '/')+1:]
	man, err := from.Manifest(ctx, t.store, id)
	if err == nil {
		err = man.Verify(m.cfg.Trusted()...)
	}
	if err == nil {
		err = from.Check(ctx, man)
	}
	if err != nil || !apply {
		return err
	}
	if _, err := to.Manifest(ctx, t.store, id); repo.IsDamage(err) {
		if err := to.RepairManifest(ctx, from, t.store, id, man.Hash()); err != nil {
			return err
		}
	}
	return to.Replicate(ctx, from, man)
}

func (m *Module) mendPack(ctx context.Context, to, from *repo.Repository, t *target, apply bool) error {
	for _, id := range t.needed {
		man, err := to.Manifest(ctx, t.store, id)
		if err != nil || man.Verify(m.cfg.Trusted()...) != nil {
			continue
		}
		for _, ref := range man.Packs {
			if !strings.HasSuffix(t.object, "/"+ref.ID) {
				continue
			}
			if !apply {
				return from.CheckPack(ctx, ref)
			}
			return to.RepairPack(ctx, from, ref)
		}
	}
	return errors.New("no snapshot here names it any more")
}

// mendLog brings the pieces of a group that are damaged here, or only there.
func mendLog(ctx context.Context, to, from *repo.Repository, t *target, apply bool) error {
	theirs, err := from.Logs(ctx, t.store)
	if err != nil {
		return err
	}
	ours, err := to.Logs(ctx, t.store)
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	for _, l := range ours {
		if groupOf(l.Name) == t.object {
			whole[l.Name] = to.CheckLog(ctx, l) == nil
		}
	}
	left := len(whole)
	for _, ok := range whole {
		if ok {
			left--
		}
	}
	brought := 0
	for _, l := range theirs {
		if groupOf(l.Name) != t.object || whole[l.Name] {
			continue
		}
		if apply {
			err = to.RepairLog(ctx, from, l.Name)
		} else {
			err = from.CheckLog(ctx, l)
		}
		if err != nil {
			return err
		}
		if _, damaged := whole[l.Name]; damaged {
			left--
		}
		brought++
	}
	if left > 0 || brought == 0 {
		return fmt.Errorf("it lacks pieces of %s too", t.object)
	}
	return nil
}
