package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
)

const (
	// minBudget is what one run reads at least where there is so much, and budgetSlack
	// how much more than its share: a day without a run must be made up for.
	minBudget   = 256 << 20
	budgetSlack = 1.5
	// minObjects is the same for their number: what was read in one night must not come
	// due in one night again.
	minObjects = 2000
	// logGroup is how many hex digits of a piece's start make a group: 256 MiB of log
	// are read, and remembered, together.
	logGroup = 9
	// maxDamage bounds what one run reports, and maxSnapshots what one damage names.
	maxDamage    = 10_000
	maxSnapshots = 100
	saveEvery    = 200 // objects between two notes of what was read
)

// A Damage is an object that is not what it was, or not there.
type Damage struct {
	Location  string    `json:"location"`
	Store     string    `json:"store"`
	Object    string    `json:"object"`
	What      string    `json:"what"` // damaged, missing, omitted, foreign, wrongly sealed
	Code      string    `json:"code"`
	Detail    string    `json:"detail"`
	Hint      string    `json:"hint"`
	Snapshots []string  `json:"snapshots"` // that need it, the newest first
	Paths     []string  `json:"paths,omitempty"`
	Found     time.Time `json:"found"`
}

// A Reading is how much of a location was read back.
type Reading struct {
	Location string    `json:"location"`
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Unread   int64     `json:"unread_bytes"` // not read within the time
	Oldest   time.Time `json:"oldest,omitzero"`
	Damaged  int       `json:"damaged"`
	Within   float64   `json:"within_days"`
}

// Fraction is the share of the bytes that was not read within the time.
func (r Reading) Fraction() float64 {
	if r.Bytes == 0 {
		return 0
	}
	return float64(r.Unread) / float64(r.Bytes)
}

// A VerifyRequest says what to read.
type VerifyRequest struct {
	Location string `json:"location,omitempty" required:"false"` // empty: all
	All      bool   `json:"all,omitempty" required:"false"`      // everything, and not only what is due
}

// Job is the job that carries a request out.
func (q VerifyRequest) Job() job.Insert {
	return job.Insert{Kind: KindVerify, Key: key(KindVerify, q), Args: q, Queue: "vault"}
}

// A Verified is what one run read at one location.
type Verified struct {
	Location string   `json:"location"`
	Objects  int      `json:"objects"`
	Bytes    int64    `json:"bytes"`
	Damage   []Damage `json:"damage"` // all that is known now
	Reading  Reading  `json:"reading"`
	Err      string   `json:"error,omitempty"` // why not all was read
}

// Readings are what one run read, location by location.
type Readings []Verified

// Short names the first damage that is known.
func (r Readings) Short() string {
	for _, v := range r {
		if v.Err != "" {
			return fmt.Sprintf("%s: %s", v.Location, v.Err)
		}
		if len(v.Damage) > 0 {
			return fmt.Sprintf("%d damages are known at %q: %s %s", len(v.Damage), v.Location, v.Damage[0].Object, v.Damage[0].What)
		}
	}
	return ""
}

// verify is the job: it reads back what is due at each location.
//
// A crash loses the note of at most saveEvery objects, which are read again.
func (m *Module) verify(ctx context.Context, w *job.Work) error {
	var q VerifyRequest
	if err := w.Decode(&q); err != nil {
		return job.Permanent(err)
	}
	locations := m.cfg.Plan().Locations
	if _, ok := locations[q.Location]; q.Location != "" && !ok {
		return job.Permanent(holdfast.WithHint(fmt.Errorf("location %q is not in the plan: %w", q.Location, holdfast.ErrUsage), "\"holdfast location list\" lists them"))
	}
	var out Readings
	for _, name := range slices.Sorted(maps.Keys(locations)) {
		if q.Location != "" && q.Location != name {
			continue
		}
		v, err := m.verifyAt(ctx, name, q.All, func(p holdfast.Progress) { _ = w.Progress(ctx, p) }) // it is shown, and nothing rests on it
		if err != nil {
			return err
		}
		out = append(out, v)
	}
	return w.Done(ctx, out, nil)
}

// A target is one thing to read: a pack, a manifest, or a group of log pieces.
type target struct {
	object string
	store  string
	size   int64
	held   int64     // of a group of log: bytes of log; a longer piece may take the place of short ones
	at     time.Time // of the last read; zero: never, or it has grown since
	damage string
	found  time.Time
	needed []string // snapshots
	read   func(ctx context.Context) (object string, err error)
}

func (m *Module) verifyAt(ctx context.Context, name string, all bool, progress func(holdfast.Progress)) (Verified, error) {
	v := Verified{Location: name}
	r, err := m.place(ctx, name)
	if err != nil {
		v.Err = err.Error()
		return v, m.record(ctx, FactVerified, "locations."+name, "holdfast", map[string]any{"error": v.Err})
	}
	began := m.cfg.Clock()
	targets, lacks, err := m.targets(ctx, name, r)
	if err != nil {
		if ctx.Err() != nil {
			return v, err
		}
		v.Err = err.Error()
		return v, m.record(ctx, FactVerified, "locations."+name, "holdfast", map[string]any{"error": v.Err})
	}
	due := dueNow(targets, all, m.cfg.Within, began)
	var total int64
	for _, t := range due {
		total += t.size
	}
	last := began
	for i, t := range due {
		object, err := t.read(ctx)
		if err != nil && !isFinding(err) {
			if ctx.Err() != nil {
				return v, errors.Join(err, m.keep(context.WithoutCancel(ctx), name, targets))
			}
			v.Err = err.Error() // the place does not answer: what was read counts
			break
		}
		t.at, t.damage = began, ""
		if err != nil {
			t.damage = object + "\n" + err.Error()
		}
		v.Objects, v.Bytes = v.Objects+1, v.Bytes+t.size
		if i%saveEvery == saveEvery-1 {
			if err := m.keep(ctx, name, targets); err != nil {
				return v, err
			}
		}
		if now := m.cfg.Clock(); now.Sub(last) > time.Second {
			last = now
			progress(holdfast.Progress{Stage: "reading " + name, Done: v.Bytes, Total: total, Unit: "bytes"})
		}
	}
	return v, m.conclude(ctx, name, targets, lacks, &v)
}

// dueNow chooses what one run reads: what was damaged, then what was read longest
// ago, until a day's share is reached.
func dueNow(targets []*target, all bool, within time.Duration, now time.Time) []*target {
	sorted := slices.Clone(targets)
	slices.SortStableFunc(sorted, func(a, b *target) int {
		bad := func(t *target) int {
			if t.damage != "" {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(bad(a), bad(b)), a.at.Compare(b.at), cmp.Compare(a.object, b.object))
	})
	if all {
		return sorted
	}
	var total, sum int64
	for _, t := range targets {
		total += t.size
	}
	budget := max(minBudget, int64(budgetSlack*float64(total)*float64(24*time.Hour)/float64(within)))
	objects := max(minObjects, int(budgetSlack*float64(len(targets))*float64(24*time.Hour)/float64(within)))
	var out []*target
	for _, t := range sorted {
		if sum > budget || len(out) >= objects || t.damage == "" && now.Sub(t.at) < within/2 {
			break
		}
		sum += t.size
		out = append(out, t)
	}
	return out
}

// targets lists all that a location must hold and what is known of it. lacks is what
// is not there at all.
func (m *Module) targets(ctx context.Context, name string, r *repo.Repository) (targets []*target, lacks []Damage, err error) {
	p := m.cfg.Plan()
	now := m.cfg.Clock()
	var stores []string
	for id, s := range p.Stores {
		if b, ok := p.Backups[s.Protect]; ok {
			if _, here := b.Copies[name]; here {
				stores = append(stores, id)
			}
		}
	}
	slices.Sort(stores)
	known, err := m.known(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	keys, err := m.sealing(ctx)
	if err != nil {
		return nil, nil, err
	}
	packs := map[string]*target{}
	made := map[string]time.Time{} // of the oldest snapshot that names a pack
	for _, store := range stores {
		var listed []remembered
		var ids []string
		if err := r.EachManifest(ctx, store, func(o repo.Object, man *repo.Manifest, err error) error {
			id := path.Base(o.Name)
			ids = append(ids, id)
			if err == nil {
				err = man.Verify(m.cfg.Trusted()...)
			}
			if err != nil && !repo.IsDamage(err) {
				return err
			}
			if err != nil {
				targets = append(targets, &target{object: o.Name, store: store, size: o.Size, needed: []string{id}, read: func(context.Context) (string, error) { return o.Name, err }})
				return nil
			}
			l := remembered{Link: man.Link(), root: man.Packs[man.Root.Pack], created: man.Created, fresh: !man.Recalled()}
			l.need, l.log = m.cfg.Log(man)
			listed = append(listed, l)
			targets = append(targets, m.manifestTarget(r, keys, o, store, l))
			for _, ref := range man.Packs {
				pt := packs[ref.ID]
				if pt == nil {
					pt = m.packTarget(r, keys, store, ref, made)
					packs[ref.ID] = pt
					targets = append(targets, pt)
				}
				if at, ok := made[ref.ID]; !ok || man.Created.Before(at) {
					made[ref.ID] = man.Created
				}
				// The newest come last, and are named first.
				if len(pt.needed) == 2*maxSnapshots {
					pt.needed = append(pt.needed[:0], pt.needed[maxSnapshots:]...)
				}
				pt.needed = append(pt.needed, id)
			}
			return nil
		}); err != nil {
			return nil, nil, err
		}
		got, err := m.receiptTargets(ctx, name, r, store, listed)
		if err != nil {
			return nil, nil, err
		}
		targets = append(targets, got...)
		more, err := m.logTargets(ctx, r, keys, store, listed, known)
		if err != nil {
			return nil, nil, err
		}
		targets = append(targets, more...)
		missed, err := m.omitted(ctx, name, r, store, ids, listed)
		if err != nil {
			return nil, nil, err
		}
		for _, x := range missed {
			lacks = append(lacks, Damage{Store: store, Object: "snapshots/" + store + "/" + cmp.Or(x.Snapshot, "?"), What: "omitted", Detail: x.String(), Snapshots: []string{x.Snapshot}})
		}
	}
	for _, pt := range packs {
		pt.needed = pt.needed[max(0, len(pt.needed)-maxSnapshots):]
		slices.Reverse(pt.needed)
	}
	more, err := m.others(ctx, r, keys, targets, stores)
	if err != nil {
		return nil, nil, err
	}
	targets = append(targets, more...)
	for i := range lacks {
		lacks[i].Location, lacks[i].Found = name, now
		lacks[i] = lacks[i].named()
	}
	for _, t := range targets {
		if k, ok := known[t.object]; ok {
			t.damage, t.found = cmp.Or(t.damage, k.damage), k.found
			if t.at = k.at; k.size != t.size {
				t.at = time.Time{} // it has grown
			}
		}
	}
	return targets, lacks, nil
}

// remembered is what is kept in mind of a listed manifest: all of them together may be
// larger than the memory.
type remembered struct {
	repo.Link
	root    repo.PackRef
	created time.Time
	need    repo.LogNeed
	log     bool // it needs log
	fresh   bool // it was read just now
}

// manifestTarget reads a manifest back: what was seen there before must lie there still,
// and it must be sealed to the keys of its time.
func (m *Module) manifestTarget(r *repo.Repository, keys sealing, o repo.Object, store string, l remembered) *target {
	return &target{object: o.Name, store: store, size: o.Size, needed: []string{l.ID}, read: func(ctx context.Context) (string, error) {
		if !l.fresh {
			man, err := r.Manifest(ctx, store, l.ID)
			if err == nil {
				err = man.Verify(m.cfg.Trusted()...)
			}
			if err == nil && man.Hash() != l.Hash {
				err = fmt.Errorf("snapshot %s: another manifest than was here: %w", l.ID, repo.ErrSubstituted)
			}
			if err != nil {
				return o.Name, err
			}
		}
		l.fresh = false // it may be mended and asked again
		to, err := r.PackSealedTo(ctx, l.root)
		if err == nil {
			err = keys.check(to, l.created, true)
		} else if repo.IsDamage(err) {
			err = nil // it is its pack's
		}
		return o.Name, err
	}}
}

// packTarget reads a pack back. made says when the oldest snapshot was made that names it.
func (m *Module) packTarget(r *repo.Repository, keys sealing, store string, ref repo.PackRef, made map[string]time.Time) *target {
	object := "packs/" + ref.ID[:2] + "/" + ref.ID
	return &target{object: object, store: store, size: ref.Size, read: func(ctx context.Context) (string, error) {
		if err := r.CheckPack(ctx, ref); err != nil {
			return object, err
		}
		to, err := r.PackSealedTo(ctx, ref)
		if err == nil {
			err = keys.check(to, made[ref.ID], false)
		}
		return object, err
	}}
}

// omitted finds snapshots that ought to be listed. What is listed and damaged is
// not omitted.
func (m *Module) omitted(ctx context.Context, name string, r *repo.Repository, store string, ids []string, listed []remembered) ([]repo.Missed, error) {
	receipts, err := r.Receipts(ctx, store)
	if err != nil && !repo.IsDamage(err) {
		return nil, err
	}
	receipts = slices.DeleteFunc(receipts, func(c repo.Receipt) bool { return c.Verify(m.cfg.Key.Public()) != nil })
	removals, err := r.Removals(ctx, store)
	if err != nil && !repo.IsDamage(err) {
		return nil, err
	}
	copies, err := m.cfg.Copies(ctx, store)
	if err != nil {
		return nil, err
	}
	var known []string
	for _, c := range copies {
		if c.Location == name && c.Complete {
			known = append(known, c.Snapshot)
		}
	}
	var links []repo.Link
	for _, l := range listed {
		links = append(links, l.Link)
	}
	missed := repo.Omitted(store, links, receipts, removals, known)
	return slices.DeleteFunc(missed, func(x repo.Missed) bool { return slices.Contains(ids, x.Snapshot) }), nil
}

// receiptTargets are the receipts that the state remembers of listed snapshots: without
// one a copy does not count.
func (m *Module) receiptTargets(ctx context.Context, name string, r *repo.Repository, store string, listed []remembered) (targets []*target, err error) {
	copies, err := m.cfg.Copies(ctx, store)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, c := range copies {
		here[c.Snapshot] = here[c.Snapshot] || c.Location == name && !c.Received.IsZero()
	}
	for _, l := range listed {
		if !here[l.ID] {
			continue
		}
		object := "receipts/" + store + "/" + l.ID
		targets = append(targets, &target{object: object, store: store, needed: []string{l.ID}, read: func(ctx context.Context) (string, error) {
			c, err := r.Receipt(ctx, store, l.ID)
			if err == nil {
				err = c.Verify(m.cfg.Key.Public())
			}
			return object, err
		}})
	}
	return targets, nil
}

// logTargets groups the pieces of a store's log. A group that was larger once, and of
// which all is needed, has lost a piece.
func (m *Module) logTargets(ctx context.Context, r *repo.Repository, keys sealing, store string, listed []remembered, known map[string]target) (targets []*target, err error) {
	pieces, err := r.Logs(ctx, store)
	if err != nil {
		return nil, err
	}
	groups := map[string][]repo.LogInfo{}
	for _, l := range pieces {
		g := groupOf(l.Name)
		groups[g] = append(groups[g], l)
	}
	for g := range known {
		if strings.HasPrefix(g, "logs/"+store+"/") && groups[g] == nil {
			groups[g] = []repo.LogInfo{}
		}
	}
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		t := &target{object: g, store: store}
		for _, l := range groups[g] {
			t.size += l.Size
		}
		t.held = logBytes(groups[g])
		lost := known[g].held - t.held
		if lost > 0 && needsAll(g, listed) {
			t.held += lost // it stays so much until the pieces are back
		} else if lost = 0; len(groups[g]) == 0 {
			continue // it was garbage
		}
		t.read = func(ctx context.Context) (string, error) {
			var bad error
			object := g
			for _, l := range groups[g] {
				is, err := r.InspectLog(ctx, l)
				if err == nil {
					err = keys.check(is.To, is.Made, true)
				}
				if err != nil {
					if !isFinding(err) {
						return g, err
					}
					bad, object = errors.Join(bad, err), l.Name
				}
			}
			if lost > 0 {
				bad = errors.Join(bad, fmt.Errorf("%d bytes of log that were here do %w", lost, fs.ErrNotExist))
			}
			return object, bad
		}
		if lost > 0 {
			t.damage = g + "\n" + fmt.Sprintf("%d bytes of log that were here do %v", lost, fs.ErrNotExist)
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// needsAll reports whether a listed base needs all of a group of log.
func needsAll(group string, listed []remembered) bool {
	zeros := strings.Repeat("0", 16-logGroup)
	start := group[strings.LastIndexByte(group, '/')+1:]
	l, ok := repo.ParseLog(repo.Object{Name: group + zeros + "-" + start + strings.Repeat("f", 16-logGroup)})
	for _, man := range listed {
		n := man.need
		if ok && man.log && n.Lineage == l.Lineage && (l.Timeline > n.Timeline || l.Timeline == n.Timeline && n.Start <= l.Start) {
			return true
		}
	}
	return false
}

// logBytes is how much log pieces of one group hold, each byte counted once. They are
// sorted by start, as names are.
func logBytes(pieces []repo.LogInfo) (n int64) {
	var reach uint64
	for _, l := range pieces {
		if from := max(l.Start, reach); l.End > from {
			n += int64(l.End - from)
			reach = l.End
		}
	}
	return n
}

// groupOf is the name of the group of a piece of log.
func groupOf(name string) string {
	i := strings.LastIndexByte(name, '/')
	return name[:min(len(name), i+1+logGroup)]
}

// known is what the state remembers of a location's objects.
func (m *Module) known(ctx context.Context, location string) (map[string]target, error) {
	out := map[string]target{}
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		clear(out)
		rows, err := tx.Query(ctx, `SELECT object, store, size, held, at, damage, found FROM vault_reads WHERE location = ?`, location)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t target
			var at, found int64
			if err := rows.Scan(&t.object, &t.store, &t.size, &t.held, &at, &t.damage, &found); err != nil {
				return err
			}
			t.at, t.found = db.Time(at), db.Time(found)
			out[t.object] = t
		}
		return rows.Err()
	})
	return out, err
}

// Damaged are the damages that are known at all locations, from the state alone: what is
// wrongly sealed or foreign is none, since it can be read.
func (m *Module) Damaged(ctx context.Context) (out []Damage, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT location, object, store, damage, found, snapshots FROM vault_reads WHERE damage <> '' ORDER BY location, object`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var t target
			var location, needed string
			var found int64
			if err := rows.Scan(&location, &t.object, &t.store, &t.damage, &found, &needed); err != nil {
				return err
			}
			t.found, t.needed = db.Time(found), strings.Fields(needed)
			if d := t.report(location); d.Code == CodeDamage && !strings.HasPrefix(d.Object, "keys/") {
				out = append(out, d)
			}
		}
		return rows.Err()
	})
	return out, err
}

// keep notes what was read.
func (m *Module) keep(ctx context.Context, location string, targets []*target) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		for _, t := range targets {
			if err := m.keepOne(ctx, tx, location, t); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Module) keepOne(ctx context.Context, tx *db.Tx, location string, t *target) error {
	needed := ""
	if t.damage != "" {
		needed = strings.Join(t.needed, " ")
	}
	_, err := tx.Exec(ctx, `INSERT INTO vault_reads (location, store, object, size, held, at, damage, found, snapshots) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (location, object) DO UPDATE SET store = excluded.store, size = excluded.size, held = excluded.held, at = excluded.at, damage = excluded.damage, found = excluded.found, snapshots = excluded.snapshots`,
		location, t.store, t.object, t.size, t.held, db.Micros(t.at), t.damage, db.Micros(t.found), needed)
	return err
}

// conclude writes down what a run saw, forgets what is not there any more and need
// not be, and tells what is new.
func (m *Module) conclude(ctx context.Context, name string, targets []*target, lacks []Damage, v *Verified) error {
	now := m.cfg.Clock()
	have := map[string]bool{}
	for _, t := range targets {
		have[t.object] = true
	}
	old, err := m.known(ctx, name)
	if err != nil {
		return err
	}
	var fresh []Damage
	for _, t := range targets {
		switch {
		case t.damage == "":
			t.found = time.Time{}
		case t.found.IsZero():
			t.found = now
			fresh = append(fresh, t.report(name))
		}
	}
	for _, d := range lacks {
		key := "lacks " + d.Object
		have[key] = true
		t := &target{object: key, store: d.Store, at: now, damage: d.Object + "\n" + d.Detail, needed: d.Snapshots, found: old[key].found}
		if t.found.IsZero() {
			t.found = now
			fresh = append(fresh, d)
		}
		d.Found = t.found
		targets = append(targets, t)
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		for _, t := range targets {
			if err := m.keepOne(ctx, tx, name, t); err != nil {
				return err
			}
		}
		for object := range old {
			if !have[object] {
				if _, err := tx.Exec(ctx, `DELETE FROM vault_reads WHERE location = ? AND object = ?`, name, object); err != nil {
					return err
				}
			}
		}
		v.Damage = nil
		for _, t := range targets {
			if t.damage != "" && len(v.Damage) < maxDamage {
				v.Damage = append(v.Damage, t.report(name))
			}
		}
		for _, d := range fresh {
			if err := m.fact(ctx, tx, FactDamage, "locations."+name, "holdfast", d); err != nil {
				return err
			}
			if err := m.cfg.Damaged(ctx, tx, d); err != nil {
				return err
			}
		}
		v.Reading = reading(name, targets, m.cfg.Within, now)
		return m.fact(ctx, tx, FactVerified, "locations."+name, "holdfast", map[string]any{
			"objects": v.Objects, "bytes": v.Bytes, "stored": v.Reading.Bytes, "unread": v.Reading.Unread, "damaged": len(v.Damage), "error": v.Err})
	})
}

// report is a target that is damaged, in words.
func (t *target) report(location string) Damage {
	object, detail, _ := strings.Cut(t.damage, "\n")
	d := Damage{Location: location, Store: t.store, Object: object, What: "damaged", Detail: detail, Snapshots: t.needed, Found: t.found}
	switch {
	case strings.HasPrefix(t.object, "lacks "):
		d.What = "omitted"
	case strings.Contains(detail, "not exist") || strings.Contains(detail, "no such file"):
		d.What = "missing"
	}
	return d.named()
}

func reading(name string, targets []*target, within time.Duration, now time.Time) Reading {
	r := Reading{Location: name, Within: within.Hours() / 24}
	for _, t := range targets {
		r.Objects++
		r.Bytes += t.size
		if t.damage != "" {
			r.Damaged++
		}
		if now.Sub(t.at) > within {
			r.Unread += t.size
		}
		if r.Oldest.IsZero() || t.at.Before(r.Oldest) {
			r.Oldest = t.at
		}
	}
	return r
}

// Readings says how much of each location was read back, from what is remembered.
func (m *Module) Readings(ctx context.Context) (map[string]Reading, error) {
	out := map[string]Reading{}
	now := m.cfg.Clock()
	for name := range m.cfg.Plan().Locations {
		known, err := m.known(ctx, name)
		if err != nil {
			return nil, err
		}
		var ts []*target
		for _, t := range known {
			ts = append(ts, &t)
		}
		out[name] = reading(name, ts, m.cfg.Within, now)
	}
	return out, nil
}
