package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// freshFor is how long the proof of a drill lasts where the plan does not say.
const freshFor = 35 * 24 * time.Hour

// A Shelf is one store at one location: what lies there, and what becomes of it.
type Shelf struct {
	Store    string             `json:"store"`
	Location string             `json:"location"`
	Decided  []Decision         `json:"snapshots"`
	Vetoes   []holdfast.Finding `json:"vetoes"`
	Gone     int                `json:"gone"`            // removed now
	Err      string             `json:"error,omitempty"` // why nothing was decided or removed

	manifests map[string]listed
	elsewhere map[string]repo.Removed // by hash: removed at other locations, perhaps never held here
}

// listed is what is remembered of a manifest while a shelf is decided about: all of
// them together may be larger than the memory.
type listed struct {
	repo.Link
	lineage string   // of the log that it needs
	packs   []string // objects, where the location locks
}

// Going counts the snapshots that would go.
func (s Shelf) Going() (n int) {
	for _, d := range s.Decided {
		if !d.Keep {
			n++
		}
	}
	return n
}

// A Report is what a pruning did or would do.
type Report struct {
	At       time.Time            `json:"at"`
	Applied  bool                 `json:"applied"`
	Shelves  []Shelf              `json:"shelves"`
	Garbage  map[string]Collected `json:"garbage,omitempty"` // by location
	Findings []holdfast.Finding   `json:"findings"`
	// Request is what people must sign before what was asked for is done.
	Request *Request `json:"request,omitempty"`
}

// A PruneRequest says what to prune.
type PruneRequest struct {
	Store    string    `json:"store,omitempty" required:"false"`    // empty: all
	Location string    `json:"location,omitempty" required:"false"` // empty: all
	At       time.Time `json:"at,omitzero" required:"false"`        // for a look ahead; zero: now
	Apply    bool      `json:"apply,omitempty" required:"false"`
	// Snapshot asks for one snapshot to be deleted before its time, Override for a
	// deletion that the guard vetoes. Both need signatures.
	Snapshot string `json:"snapshot,omitempty" required:"false"`
	Override bool   `json:"override,omitempty" required:"false"`
	By       string `json:"by,omitempty" required:"false"`
	Why      string `json:"why,omitempty" required:"false"`
}

// Job is the job that carries a request out.
func (r PruneRequest) Job() job.Insert {
	r.Apply, r.At = true, time.Time{}
	return job.Insert{Kind: KindPrune, Key: key(KindPrune, r), Args: r, Queue: "vault"}
}

// Look says what pruning would do, and does nothing.
func (m *Module) Look(ctx context.Context, q PruneRequest) (Report, error) {
	q.Apply = false
	return m.run(ctx, q)
}

// prune is the job.
//
// A crash anywhere leaves what was removed removed, with the signed record of it at
// the location; the state learns of it from that record in the next run.
func (m *Module) prune(ctx context.Context, w *job.Work) error {
	var q PruneRequest
	if err := w.Decode(&q); err != nil {
		return job.Permanent(err)
	}
	q.Apply, q.At = true, time.Time{}
	rep, err := m.run(ctx, q)
	if err != nil {
		return holdfast.Tell(err)
	}
	return w.Done(ctx, rep, func(tx *db.Tx) error {
		if m.cfg.Overdue == nil || q.Store != "" || q.Location != "" {
			return nil
		}
		kept := slices.DeleteFunc(slices.Clone(rep.Findings), func(f holdfast.Finding) bool { return f.Code != CodeOverdue })
		return m.cfg.Overdue(ctx, tx, kept)
	})
}

func (m *Module) run(ctx context.Context, q PruneRequest) (Report, error) {
	rep := Report{At: q.At, Applied: q.Apply, Garbage: map[string]Collected{}}
	if q.At.IsZero() {
		rep.At = m.cfg.Clock()
	}
	var held *plan.Plan
	var steady time.Time
	if err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) (err error) {
		if steady, err = m.watch(ctx, tx); err != nil {
			return err
		}
		if rep.Findings, err = m.adopt(ctx, tx); err != nil {
			return err
		}
		held, err = m.held(ctx, tx)
		return err
	}); err != nil {
		return rep, err
	}
	if q.Store != "" {
		if _, err := storeNamed(held, q.Store); err != nil {
			return rep, err
		}
	}
	if _, ok := held.Locations[q.Location]; q.Location != "" && !ok {
		return rep, holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", q.Location, holdfast.ErrUsage), "the plan's locations are listed by \"holdfast location list\"")
	}
	places := m.places(ctx, held)
	for _, store := range slices.Sorted(maps.Keys(held.Stores)) {
		if b, err := storeNamed(held, store); err != nil || q.Store != "" && q.Store != store {
			continue
		} else if err := m.shelves(ctx, held, store, b, places, q, steady, &rep); err != nil {
			return rep, err
		}
	}
	if q.Snapshot != "" || q.Override {
		if err := m.early(ctx, held, q, &rep); err != nil {
			return rep, err
		}
	}
	if !q.Apply {
		return rep, nil
	}
	for i := range rep.Shelves {
		if err := m.catchUp(ctx, places, &rep.Shelves[i]); err != nil {
			return rep, err
		}
		if err := m.clear(ctx, places, &rep, i); err != nil {
			return rep, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(places)) {
		if q.Location != "" && q.Location != name || places[name].err != nil {
			continue
		}
		if err := m.renew(ctx, held, name, places[name], &rep); err != nil {
			return rep, err
		}
		if err := m.collect(ctx, held, name, places, steady, &rep); err != nil {
			return rep, err
		}
	}
	return rep, nil
}

// A place is a location, or why it is out of reach.
type place struct {
	at  *repo.Repository
	err error
}

func (m *Module) places(ctx context.Context, p *plan.Plan) map[string]place {
	out := map[string]place{}
	for name := range p.Locations {
		r, err := m.place(ctx, name)
		out[name] = place{r, err}
	}
	return out
}

// shelves decides about one store at all of its locations.
func (m *Module) shelves(ctx context.Context, held *plan.Plan, store string, b plan.Backup, places map[string]place, q PruneRequest, steady time.Time, rep *Report) error {
	t, err := terms(held, store, rep.At)
	if err != nil {
		return err
	}
	proven, provenAt, err := m.cfg.Proven(ctx, store)
	if err != nil {
		return err
	}
	signs := Signs{Store: store, ProvenAt: provenAt, Steady: steady}
	for _, d := range held.DrillsOf(store) {
		if within := 2 * cmp.Or(held.Drills[d].FreshFor.Approx(), freshFor); signs.ProvenWithin == 0 || within < signs.ProvenWithin {
			signs.ProvenWithin = within
		}
	}
	// The earliest receipt of each snapshot counts, by the vault's own signature.
	first := map[string]time.Time{}
	elsewhere := map[string]repo.Removed{}
	here := map[string]map[string]bool{}
	for name, pl := range places {
		if pl.err != nil {
			continue
		}
		here[name] = map[string]bool{}
		removals, err := pl.at.Removals(ctx, store) // those that can be read help
		for _, r := range removals {
			for _, s := range r.Snapshots {
				elsewhere[s.Manifest] = s
			}
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
		receipts, err := pl.at.Receipts(ctx, store) // one that cannot be read keeps its snapshot
		if err != nil && len(receipts) == 0 {
			continue
		}
		for _, rc := range receipts {
			if rc.Verify(m.cfg.Key.Public()) != nil {
				continue
			}
			here[name][rc.Snapshot] = true
			if at, ok := first[rc.Snapshot]; !ok || rc.Received.Before(at) {
				first[rc.Snapshot] = rc.Received
			}
		}
	}
	for _, name := range b.Copies.Names() {
		if q.Location != "" && q.Location != name {
			continue
		}
		s := Shelf{Store: store, Location: name, manifests: map[string]listed{}, elsewhere: elsewhere}
		signs.Location, signs.Every = name, b.Every.Interval()+b.Copies[name].Every.Approx()
		if err := places[name].err; err != nil {
			s.Err = err.Error()
			rep.Shelves = append(rep.Shelves, s)
			continue
		}
		locks := held.Locations[name].S3 != nil && !held.Locations[name].S3.Lock.IsZero()
		var points []Point
		if err := places[name].at.EachManifest(ctx, store, func(_ repo.Object, man *repo.Manifest, err error) error {
			if err != nil {
				s.Err = err.Error() // what can be read is decided; Collect deletes nothing here
				return nil
			}
			l := listed{Link: man.Link()}
			if n, ok := m.cfg.Log(man); ok {
				l.lineage = n.Lineage
			}
			for _, p := range man.Packs {
				if locks {
					l.packs = append(l.packs, "packs/"+p.ID[:2]+"/"+p.ID)
				}
			}
			s.manifests[man.ID] = l
			p := Point{Snapshot: man.ID, Created: man.Created, Bytes: man.Bytes, Files: man.Files, Proven: man.ID == proven}
			if here[name][man.ID] && man.Verify(m.cfg.Trusted()...) == nil {
				p.Received = first[man.ID]
			}
			points = append(points, p)
			return nil
		}); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			s.Err = err.Error()
		}
		s.Decided = Decide(t, points, rep.At)
		if q.At.IsZero() { // of another time there are no signs
			s.Vetoes = Guard(signs, s.Decided, rep.At)
		}
		rep.Findings = append(rep.Findings, overdue(held, t, s, rep.At)...)
		rep.Shelves = append(rep.Shelves, s)
	}
	return nil
}

// early replaces what would go by what was asked for: one snapshot before its time, or
// what the guard vetoed. It goes on only with a request that was signed for.
func (m *Module) early(ctx context.Context, held *plan.Plan, q PruneRequest, rep *Report) error {
	if q.Store == "" || q.By == "" || q.Why == "" {
		return holdfast.WithHint(fmt.Errorf("an early deletion names the store, who asks and why: %w", holdfast.ErrUsage), "give --store, --by and --reason")
	}
	act := Act{Kind: plan.ActDelete, Subject: "stores." + q.Store, Does: []string{"because: " + q.Why}}
	found := false
	for i := range rep.Shelves {
		s := &rep.Shelves[i]
		for j := range s.Decided {
			d := &s.Decided[j]
			if q.Override {
				if !d.Keep && len(s.Vetoes) > 0 {
					act.Does = append(act.Does, fmt.Sprintf("delete snapshot %s at %s, %s", d.Snapshot, s.Location, d.Why))
					found = true
				} else if !d.Keep {
					d.Keep, d.Why = true, "not part of this request"
				}
				continue
			}
			if d.Snapshot != q.Snapshot {
				if !d.Keep {
					d.Keep, d.Why = true, "not part of this request"
				}
				continue
			}
			if j == len(s.Decided)-1 {
				return refuse("make another backup first", "snapshot %s is the newest at %q: the next one may build on it", d.Snapshot, s.Location)
			}
			if t, err := terms(held, q.Store, rep.At); err == nil && len(t.Holds) > 0 {
				return refuse("release the hold first: take it out of the plan", "snapshot %s is %s", d.Snapshot, d.Why)
			}
			act.Does = append(act.Does, fmt.Sprintf("delete snapshot %s at %s, %s", d.Snapshot, s.Location, d.Why))
			d.Keep, d.Why, d.Log, found = false, "deleted early: "+q.Why, "", true
		}
		if q.Override {
			for _, v := range s.Vetoes {
				act.Does = append(act.Does, "although: "+v.Message)
			}
		}
	}
	if !found {
		return holdfast.WithHint(fmt.Errorf("nothing to delete: no such snapshot of %q within reach, or nothing is vetoed: %w", q.Store, holdfast.ErrUsage), "\"holdfast prune --store %s\" lists the snapshots", q.Store)
	}
	r, err := m.Ask(ctx, act, q.By)
	if err != nil {
		return err
	}
	rep.Request = &r
	if !q.Apply {
		return nil
	}
	if err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error { return m.Take(ctx, tx, r.ID, act) }); err != nil {
		return errors.Join(job.Permanent(err), m.record(ctx, FactRefused, act.Subject, q.By, map[string]any{"request": r.ID, "error": holdfast.Sentence(err)}))
	}
	for i := range rep.Shelves {
		rep.Shelves[i].Vetoes = nil
	}
	return nil
}

// catchUp tells the state what a run removed that did not live to tell it: the signed
// record at the location is there, and the manifest is not.
func (m *Module) catchUp(ctx context.Context, places map[string]place, s *Shelf) error {
	if places[s.Location].err != nil || s.Err != "" {
		return nil
	}
	copies, err := m.cfg.Copies(ctx, s.Store)
	if err != nil {
		return err
	}
	var lost []string
	for _, c := range copies {
		if c.Location == s.Location && c.Complete && s.manifests[c.Snapshot].ID == "" {
			lost = append(lost, c.Snapshot)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	removals, err := places[s.Location].at.Removals(ctx, s.Store)
	if err != nil {
		s.Err = err.Error() // verification names it
		return ctx.Err()
	}
	var gone []string
	for _, r := range removals {
		for _, id := range r.IDs() {
			if slices.Contains(lost, id) && !slices.Contains(gone, id) {
				gone = append(gone, id)
			}
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := m.cfg.Removed(ctx, tx, s.Store, s.Location, gone); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactRemoved, "stores."+s.Store, "holdfast", map[string]any{"location": s.Location, "learned": gone})
	})
}

// clear removes what goes from one shelf.
func (m *Module) clear(ctx context.Context, places map[string]place, rep *Report, i int) error {
	s := &rep.Shelves[i]
	strangers, err := s.strangers(ctx, places[s.Location].at)
	if err != nil {
		s.Err = err.Error()
		return ctx.Err()
	}
	if s.Going()+len(strangers) == 0 {
		return nil
	}
	if len(s.Vetoes) > 0 {
		return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
			if err := m.fact(ctx, tx, FactVeto, "stores."+s.Store, "holdfast", map[string]any{"location": s.Location, "going": s.Going(), "findings": s.Vetoes}); err != nil {
				return err
			}
			return m.cfg.Vetoed(ctx, tx, *s)
		})
	}
	c := repo.Removal{Scope: s.Store, Place: s.Location, At: rep.At, Vault: m.cfg.Key.Name()}
	for _, d := range s.Decided {
		if man, ok := s.manifests[d.Snapshot]; !d.Keep && ok {
			c.Snapshots = append(c.Snapshots, repo.Removed{Snapshot: d.Snapshot, Manifest: man.Hash, Previous: man.Previous, Log: man.lineage, Why: d.Why})
		}
	}
	c.Snapshots = append(c.Snapshots, strangers...)
	const batch = 1000
	for len(c.Snapshots) > 0 {
		part := c
		part.Snapshots = c.Snapshots[:min(batch, len(c.Snapshots))]
		c.Snapshots = c.Snapshots[len(part.Snapshots):]
		gone, err := places[s.Location].at.Remove(ctx, part, m.cfg.Key)
		if err != nil {
			s.Err = err.Error()
		}
		gone = slices.DeleteFunc(gone, func(id string) bool { return s.manifests[id].ID == "" })
		if s.Gone += len(gone); len(gone) == 0 && err == nil {
			continue
		}
		if terr := m.cfg.DB.Tx(context.WithoutCancel(ctx), func(tx *db.Tx) error {
			if err := m.cfg.Removed(ctx, tx, s.Store, s.Location, gone); err != nil {
				return err
			}
			why := map[string]string{}
			for _, r := range part.Snapshots {
				if slices.Contains(gone, r.Snapshot) {
					why[r.Snapshot] = r.Why
				}
			}
			return m.fact(ctx, tx, FactRemoved, "stores."+s.Store, "holdfast", map[string]any{"location": s.Location, "snapshots": why, "error": s.Err})
		}); terr != nil {
			return terr
		}
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// strangers are snapshots that a successor here names, that were never here, and that
// were removed elsewhere before they could come: without a record of it here the
// chain would look as if somebody had taken them.
func (s *Shelf) strangers(ctx context.Context, at *repo.Repository) ([]repo.Removed, error) {
	if at == nil || len(s.elsewhere) == 0 {
		return nil, nil
	}
	removals, err := at.Removals(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	accounted := map[string]bool{"": true}
	var todo []string
	for _, r := range removals {
		for _, x := range r.Snapshots {
			accounted[x.Manifest] = true
			todo = append(todo, x.Previous)
		}
	}
	for _, man := range s.manifests {
		accounted[man.Hash] = true
		todo = append(todo, man.Previous)
	}
	var out []repo.Removed
	for len(todo) > 0 {
		hash := todo[0]
		todo = todo[1:]
		if r, ok := s.elsewhere[hash]; ok && !accounted[hash] {
			accounted[hash] = true
			r.Why = "never here: " + r.Why
			out, todo = append(out, r), append(todo, r.Previous)
		}
	}
	return out, nil
}

// collect deletes the garbage of one location.
func (m *Module) collect(ctx context.Context, held *plan.Plan, name string, places map[string]place, steady time.Time, rep *Report) error {
	if m.cfg.Apart {
		rep.Garbage[name] = Collected{Why: "this is a rehearsal: the locations live by another clock"}
		return nil
	}
	c := repo.Collector{Place: name, At: places[name].at, Known: map[string][]string{}, Signer: m.cfg.Key, Trust: []seal.VerifyKey{m.cfg.Key.Public()}, Now: m.cfg.Clock(), Steady: steady}
	for other, pl := range places {
		if other != name && pl.err == nil {
			c.Others = append(c.Others, pl.at)
		}
	}
	for store := range held.Stores {
		copies, err := m.cfg.Copies(ctx, store)
		if err != nil {
			return err
		}
		for _, k := range copies {
			if k.Location == name && k.Complete {
				c.Known[store] = append(c.Known[store], k.Snapshot)
			}
		}
	}
	ends := map[string]bool{}
	for _, s := range rep.Shelves {
		for _, d := range s.Decided {
			if s.Location == name && d.Log == logEnd {
				ends[s.Store+"/"+d.Snapshot] = true
			}
		}
	}
	c.Log = func(man *repo.Manifest) (repo.LogNeed, bool) {
		n, ok := m.cfg.Log(man)
		if !ends[man.Scope+"/"+man.ID] {
			n.Until = 0
		}
		return n, ok
	}
	out, err := c.Collect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		// One location must not keep the others from being looked after.
		rep.Findings = append(rep.Findings, holdfast.Finding{Code: CodeGarbage, Severity: holdfast.SeverityError, Subject: "locations." + name,
			Message: fmt.Sprintf("no garbage is collected: %v", err), Hint: fmt.Sprintf("\"holdfast verify --location %s\" names what is damaged or missing there, \"holdfast repair\" brings it back", name)})
		return m.record(ctx, FactVeto, "locations."+name, "holdfast", map[string]any{"error": err.Error()})
	}
	// A clock that has just stepped ahead must not make a running writer's file look old.
	if before := c.Now.Add(-repo.GarbageWait); !steady.After(before) {
		if out.Temps, err = c.At.RemoveTemps(ctx, before); err != nil && out.Why == "" {
			out.Why = err.Error()
		}
		if l := held.Locations[name].S3; l != nil {
			before = before.Add(-l.Lock.Approx()) // what is locked would be refused
		}
		if m.cfg.Anchors != nil {
			n, err := m.cfg.Anchors(ctx, c.At, before)
			if out.Tidied += n; err != nil && out.Why == "" {
				out.Why = err.Error()
			}
		}
	}
	rep.Garbage[name] = out
	if out == (Collected{Waiting: out.Waiting, Due: out.Due}) {
		return nil // nothing happened
	}
	return m.record(ctx, FactCollected, "locations."+name, "holdfast", out)
}

// Collected is what one collection of garbage did.
type Collected = repo.Collected

// CodeGarbage is the finding that garbage cannot be collected at a location.
const CodeGarbage = "HF-V8"
