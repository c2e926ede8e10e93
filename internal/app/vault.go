package app

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/calendar"
	"holdfast/internal/db"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
	"holdfast/internal/vault"
)

// When the vault works: at night, after the backups of the night, in the zone of the
// plan. Reading back comes last, since it takes longest.
const (
	pruneAt  = "every 1d at 04:15"
	verifyAt = "every 1d at 05:15"
)

func (a *App) vaultSchedules() []job.Schedule {
	if len(a.policies()) == 0 {
		return nil
	}
	var out []job.Schedule
	for _, s := range []struct {
		name, every string
		in          job.Insert
	}{{"vault.prune", pruneAt, vault.PruneRequest{}.Job()}, {"vault.verify", verifyAt, vault.VerifyRequest{}.Job()}} {
		every, err := calendar.ParseRecurrence(s.every)
		if err != nil {
			panic(err) // a constant
		}
		out = append(out, job.Schedule{Name: s.name, Kind: s.in.Kind, Args: s.in.Args, Every: every, Location: a.Plan().Location(), Deadline: every.Interval(), Missed: job.MissedOnce, Queue: s.in.Queue, Key: s.in.Key})
	}
	return out
}

// watchClock lets the vault see the clock run: what steps while nobody looks makes
// it wait before it deletes.
func (a *App) watchClock(ctx context.Context) {
	pause := a.pauses(ctx)
	for {
		if err := a.Vault.Watch(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("clock not watched", "err", err)
		}
		if !pause(time.Minute) {
			return
		}
	}
}

// remembered are the copies that the state knows of a store.
func (a *App) remembered(ctx context.Context, store string) ([]vault.Copy, error) {
	cs, err := a.Backups.Copies(ctx, store)
	var out []vault.Copy
	for _, c := range cs {
		out = append(out, vault.Copy{Snapshot: c.Snapshot, Location: c.Location, Complete: c.State == "complete", Created: c.Created, Received: c.Received})
	}
	return out, err
}

// provenSnapshot is the snapshot that the newest passed drill of a store restored.
func (a *App) provenSnapshot(ctx context.Context, store string) (string, time.Time, error) {
	d, ok, err := a.Drills.LastPassed(ctx, store)
	if err != nil || !ok {
		return "", time.Time{}, err
	}
	return d.Report.Snapshot, d.Finished, nil
}

// damaged: a copy that cannot be trusted is an incident before it is needed.
func (a *App) damaged(ctx context.Context, tx *db.Tx, d vault.Damage) error {
	if d.Code != vault.CodeDamage {
		_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "verify", Dedup: d.Code + ":" + d.Location + ":" + d.Store, Store: d.Store,
			Title: "Something at " + d.Location + " is not sealed as the plan says", Kind: "backup-damage", At: d.Found, Detail: fmt.Sprintf("%s %s: %s: %s", d.Code, d.What, d.Object, d.Detail)})
		return err
	}
	_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "verify", Dedup: "damage:" + d.Location + ":" + d.Store, Store: d.Store,
		Title: fmt.Sprintf("Copies of %s at %s are damaged", d.Store, d.Location), Kind: "backup-damage", At: d.Found, Detail: fmt.Sprintf("%s %s: %s", d.What, d.Object, d.Detail)})
	return err
}

// vetoed: what stops a deletion is a sign that something is wrong with the backups, or
// with who writes them.
func (a *App) vetoed(ctx context.Context, tx *db.Tx, s vault.Shelf) error {
	_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "vault", Dedup: "veto:" + s.Store, Store: s.Store,
		Title: "The retention guard stopped a deletion of copies of " + s.Store, Kind: "retention-veto", At: a.opt.Clock(), Detail: s.Vetoes[0].Code + ": " + s.Vetoes[0].Message})
	return err
}

// factOverdue says which copies stay past their maximum, as a run of the vault over all
// stores and locations saw it. It is written when that changes.
const factOverdue = "vault.overdue"

// overdue keeps what the vault says of copies past their maximum: their owners owe a
// decision about them.
func (a *App) overdue(ctx context.Context, tx *db.Tx, kept []holdfast.Finding) error {
	now := map[string]string{}
	for _, f := range kept {
		store := strings.TrimPrefix(f.Subject, "stores.")
		now[store] = strings.TrimPrefix(now[store]+"; "+f.Message, "; ")
	}
	was, err := a.keptPast(ctx)
	if err != nil || maps.Equal(was, now) {
		return err
	}
	return a.fact(ctx, tx, factOverdue, "vault", map[string]any{"stores": now})
}

// keptPast are the stores of which copies stay past their maximum, with why.
func (a *App) keptPast(ctx context.Context) (map[string]string, error) {
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: factOverdue, Limit: 1, Newest: true})
	if err != nil || len(fs) == 0 {
		return nil, err
	}
	var f struct {
		Stores map[string]string `json:"stores"`
	}
	err = decodeFact(fs[0], &f)
	return f.Stores, err
}

// Prune says what would be deleted, or asks for it to be done. What needs signatures
// is asked for only when it has them: until then the answer is the request.
func (a *App) Prune(ctx context.Context, q vault.PruneRequest) (out api.Pruned, err error) {
	if err := a.known(q.Location); err != nil {
		return out, err
	}
	if early := q.Snapshot != "" || q.Override; !q.Apply || early {
		rep, err := a.Vault.Look(ctx, q)
		ready := rep.Request != nil && rep.Request.State == vault.StateApproved && !a.opt.Clock().Before(rep.Request.NotBefore)
		if err != nil || !q.Apply || !ready {
			return api.Pruned{Report: rep}, err
		}
	}
	out.Asked, err = a.enqueue(ctx, q.Job())
	return out, err
}

// known refuses a location that is not in the plan.
func (a *App) known(location string) error {
	if location == "" {
		return nil
	}
	_, err := a.Places.location(location)
	return err
}

// Verify asks for stored bytes to be read back.
func (a *App) Verify(ctx context.Context, q vault.VerifyRequest) (api.Asked, error) {
	if err := a.known(q.Location); err != nil {
		return api.Asked{}, err
	}
	return a.enqueue(ctx, q.Job())
}

// Repair asks for what is damaged to be mended.
func (a *App) Repair(ctx context.Context, q vault.RepairRequest) (api.Asked, error) {
	if err := a.known(q.Location); err != nil {
		return api.Asked{}, err
	}
	return a.enqueue(ctx, q.Job())
}

func (a *App) enqueue(ctx context.Context, in job.Insert) (asked api.Asked, err error) {
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

// Files names the files that damage costs. It opens the damaged snapshots with the
// runner's key, which is recorded.
func (a *App) Files(ctx context.Context, ds []vault.Damage) ([]vault.Damage, error) {
	var ids []seal.Identity
	for i, d := range ds {
		if d.What == "omitted" || len(d.Snapshots) == 0 || len(d.Object) < 6 || d.Object[:6] != "packs/" {
			continue
		}
		r, err := a.Places.Open(ctx, d.Location)
		if err != nil {
			return ds, err
		}
		man, err := r.Manifest(ctx, d.Store, d.Snapshots[0])
		if err != nil {
			continue // it is named as damaged itself
		}
		if ids == nil {
			if ids, err = a.identities(ctx, "name the files of damaged objects"); err != nil {
				return ds, err
			}
		}
		snap, err := r.Snapshot(ctx, man, ids...)
		if err != nil {
			ds[i].Paths = []string{"everything in snapshot " + man.ID} // what lists the files is lost
			continue
		}
		found, err := snap.VerifyPacks(ctx, map[string]bool{d.Object: true}, nil)
		if err != nil {
			return ds, err
		}
		for _, f := range found {
			ds[i].Paths = append(ds[i].Paths, f.Paths...)
		}
	}
	return ds, nil
}

// Locations is the state of every location, alone and beside the others.
func (a *App) Locations(ctx context.Context) ([]api.Location, error) {
	held, err := a.Backups.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	reads, err := a.Vault.Readings(ctx)
	if err != nil {
		return nil, err
	}
	newest, most := map[string]time.Time{}, map[string]int{}
	for at, h := range held {
		if h.Newest.After(newest[at.Store]) {
			newest[at.Store] = h.Newest
		}
		most[at.Store] = max(most[at.Store], h.Snapshots)
	}
	var out []api.Location
	for _, name := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		l := a.Plan().Locations[name]
		o := api.Location{Name: name, Kind: string(l.Kind), Address: a.Places.where(name), Domain: l.DomainOr(), Provider: l.Provider, Account: l.Account, Region: l.Region, Jurisdiction: l.Jurisdiction,
			Owner: l.Owner, Locked: l.S3 != nil && !l.S3.Lock.IsZero(), Reading: reads[name], Shares: a.shares(name)}
		if _, err := a.Places.Open(ctx, name); err != nil {
			o.Err = err.Error()
		} else if line := a.Places.Line(name); line.Protocol != "" {
			o.Line = line.String()
		}
		for _, p := range a.policies() {
			if !slices.Contains(p.Locations, name) {
				continue
			}
			h := held[backup.Spot{Store: p.Store, Location: name}]
			o.Stores = append(o.Stores, api.Kept{Store: p.Store, Snapshots: h.Snapshots, Of: most[p.Store], Waiting: h.Waiting, Newest: h.Newest, Received: h.Received, Lag: max(0, newest[p.Store].Sub(h.Newest))})
		}
		out = append(out, o)
	}
	return out, nil
}

// shares says what a location has in common with others, so that both can be lost
// at once.
func (a *App) shares(name string) map[string][]string {
	l := a.Plan().Locations[name]
	out := map[string][]string{}
	for _, other := range slices.Sorted(maps.Keys(a.Plan().Locations)) {
		o := a.Plan().Locations[other]
		if other == name {
			continue
		}
		for _, f := range []struct{ what, a, b string }{
			{"failure domain", l.DomainOr(), o.DomainOr()}, {"provider", l.Provider, o.Provider}, {"account", l.Account, o.Account}, {"payer", l.Payer, o.Payer},
			{"region", l.Region, o.Region}, {"credential", credential(l), credential(o)},
		} {
			if f.a != "" && f.a == f.b {
				out[f.what] = append(out[f.what], other)
			}
		}
		// Whatever the plan calls them, two folders of one disk are lost together.
		if l.Kind == plan.KindDir && o.Kind == plan.KindDir && sameDisk(a.Plan().Resolve(l.Path), a.Plan().Resolve(o.Path)) {
			out["disk"] = append(out["disk"], other)
		}
	}
	return out
}

// sameDisk reports whether two folders that are there lie on one file system.
func sameDisk(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	if err != nil {
		return false
	}
	p, ok := x.Sys().(*syscall.Stat_t)
	q, ok2 := y.Sys().(*syscall.Stat_t)
	return ok && ok2 && p.Dev == q.Dev
}

// credential is what opens a location: the name that the plan gives it, or the file.
func credential(l plan.Location) string {
	switch {
	case l.Credential != "":
		return l.Credential
	case l.S3 != nil:
		return l.S3.CredentialsFile
	case l.SFTP != nil:
		return l.SFTP.KeyFile
	}
	return ""
}

// Requests lists what people are asked to sign.
func (a *App) Requests(ctx context.Context) ([]vault.Request, error) { return a.Vault.Requests(ctx) }

// Approve adds a person's signature, rejects, or notes a review.
func (a *App) Approve(ctx context.Context, id string, v api.Vote) (vault.Request, error) {
	switch v.What {
	case api.VoteSign:
		r, err := a.Vault.Sign(ctx, id, v.By, []byte(v.Signature))
		if err == nil {
			select {
			case a.signed <- struct{}{}:
			default: // it is looked at already
			}
		}
		return r, err
	case api.VoteReject:
		return a.Vault.Reject(ctx, id, v.By, v.Note)
	case api.VoteReview:
		return a.Vault.Review(ctx, id, v.By, v.Note)
	}
	return vault.Request{}, fmt.Errorf("%q is no vote: %w", v.What, holdfast.ErrUsage)
}
