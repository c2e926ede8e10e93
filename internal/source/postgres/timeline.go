package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/wal"
)

// Limits of looking for a mistake.
const (
	// keepRecord is how much of a record is looked at: a commit that drops some five
	// thousand files fits.
	keepRecord = 64 << 10
	// maxOpen bounds the transactions that are followed at once; the server allows
	// fewer, but subtransactions come on top.
	maxOpen = 100_000
	// maxEvents bounds what is listed; the oldest go first.
	maxEvents = 10_000

	firstUserObject = 16384 // lower numbers are the system's own
)

// Timeline lists what happened to data between two instants, from the log that a
// location holds: what was dropped, emptied or rewritten, which transactions changed
// many rows, and named restore points, with which people mark a deploy. It reads and
// decrypts the log since the base before req.From, and starts no engine.
//
// Relations have the names that they had when the base backup was made; one that
// came later has a number.
func (s *Store) Timeline(ctx context.Context, req source.TimelineRequest) (source.Timeline, error) {
	out := source.Timeline{From: req.From, To: req.To}
	p, err := s.timelinePlan(ctx, req)
	if err != nil {
		return out, fmt.Errorf("time line of %q: %w", s.cfg.Store, err)
	}
	names, err := p.relationNames(ctx)
	if err != nil {
		return out, fmt.Errorf("time line of %q: %w", s.cfg.Store, err)
	}
	w := &watcher{req: req, major: p.base.major, names: names, open: map[uint32]*deed{}}
	var until time.Time
	err = p.walk(ctx, func(r wal.Record) error {
		if r.Kind == wal.Commit {
			until = laterOf(until, r.Commit)
			if r.Commit.After(req.To) {
				return errFound
			}
		}
		w.record(r)
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("time line of %q: %w", s.cfg.Store, err)
	}
	out.Base, out.ReadUntil, out.Events = p.Base.ID, until, w.events
	if n := len(out.Events); n > maxEvents {
		out.Left, out.Events = n-maxEvents, out.Events[n-maxEvents:]
	}
	return out, nil
}

// timelinePlan finds the base and the log to read.
func (s *Store) timelinePlan(ctx context.Context, req source.TimelineRequest) (*RestorePlan, error) {
	found, damaged := bases(ctx, req.Repo, s.cfg.Store)
	logs, _, err := listPieces(ctx, req.Repo, s.cfg.Store)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if damaged != nil {
			return nil, damaged
		}
		return nil, holdfast.WithHint(fmt.Errorf("there is no base backup here"), "try another location with --location")
	}
	r := Restore{Repo: req.Repo, Scope: s.cfg.Store, Identities: req.Identities, Workers: 2, Clock: s.Source.cfg.Clock}
	newest := found[len(found)-1]
	var first error
	for _, tli := range timelinesOf(logs[newest.lineage], nil) {
		h, _, err := ancestry(ctx, req.Repo, r.Scope, newest.lineage, tli, req.Identities)
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		var earliest *RestorePlan
		for _, b := range slices.Backward(found) {
			if b.lineage != newest.lineage {
				continue
			}
			legs, err := legsOf(b, h)
			if err == nil {
				err = fill(legs, logs[b.lineage], b, "the log")
			}
			if err != nil {
				first = cmp.Or(first, err)
				continue
			}
			earliest = &RestorePlan{Base: b.manifest, Lineage: b.lineage, Timeline: tli, restore: r, base: b, history: h, legs: legs}
			if !b.stopTime.After(req.From) {
				return earliest, nil
			}
		}
		if earliest != nil {
			return earliest, nil
		}
	}
	return nil, first
}

// walk gives every record of the plan's log to record, until it returns errFound.
func (p *RestorePlan) walk(ctx context.Context, record func(wal.Record) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := readAhead(ctx, p.restore.Workers, p.legs, p.readPiece)
	defer stream.close()
	done := false
	return walkLog(ctx, p, keepRecord, func(r wal.Record) error {
		err := record(r)
		done = done || err != nil
		return err
	}, func(int) {}, func() ([]byte, error) {
		if done {
			return nil, io.EOF
		}
		_, b, err := stream.next()
		return b, err
	})
}

// relationNames reads what the base backup knows of names.
func (p *RestorePlan) relationNames(ctx context.Context) (relationNames, error) {
	out := relationNames{files: map[wal.Relation]relationName{}, numbers: map[[2]uint32]relationName{}}
	snap, err := p.restore.Repo.Snapshot(ctx, p.Base, p.restore.Identities...)
	if err != nil {
		return out, err
	}
	b, err := readEntry(ctx, snap, settingsPath, maxSettings)
	if err != nil {
		return out, err
	}
	var rec settingsRecord
	if err := json.Unmarshal(b, &rec); err != nil {
		return out, fmt.Errorf("captured settings: %w", err)
	}
	for _, r := range rec.Relations {
		out.files[wal.Relation{Database: r.Database, File: r.File}] = r
		out.numbers[[2]uint32{r.Database, r.Number}] = r
	}
	return out, nil
}

// relationNames are by file, whatever its tablespace, and by number.
type relationNames struct {
	files   map[wal.Relation]relationName
	numbers map[[2]uint32]relationName
}

func (n relationNames) of(r wal.Relation) (relationName, bool) {
	r.Tablespace = 0
	got, ok := n.files[r]
	return got, ok
}

// A deed is what one transaction did so far.
type deed struct {
	inserted, updated, deleted map[wal.Relation]int64
	created                    map[wal.Relation]int // pages written into new files
	locked                     []wal.Relation       // File is the table's number
	base                       uint32               // the database that it drops
}

// A watcher follows transactions through the log and notes what people want to know.
type watcher struct {
	req    source.TimelineRequest
	major  int
	names  relationNames
	open   map[uint32]*deed
	events []source.Event
}

func (w *watcher) deed(xid uint32) *deed {
	d := w.open[xid]
	if d == nil {
		if len(w.open) >= maxOpen {
			clear(w.open) // a log that never ends transactions is no log of a server's
		}
		d = &deed{inserted: map[wal.Relation]int64{}, updated: map[wal.Relation]int64{}, deleted: map[wal.Relation]int64{}, created: map[wal.Relation]int{}}
		w.open[xid] = d
	}
	return d
}

func (w *watcher) record(r wal.Record) {
	c := wal.Decode(r, w.major)
	switch c.Op {
	case wal.OpNone:
		return
	case wal.OpRestorePoint:
		if !c.At.Before(w.req.From) && !c.At.After(w.req.To) {
			w.events = append(w.events, source.Event{At: c.At, What: source.EventMark, Name: c.Name, Position: r.Start.String()})
		}
		return
	case wal.OpCommit, wal.OpAbort:
		w.end(r, c)
		return
	case wal.OpLock:
		d := w.deed(c.Top)
		if len(d.locked) < maxEvents {
			d.locked = append(d.locked, c.Relation)
		}
		return
	case wal.OpDropDatabase:
		w.deed(r.Xid).base = c.Relation.Database
		return
	}
	if r.Xid == 0 || c.Relation.File < firstUserObject {
		return
	}
	d := w.deed(r.Xid)
	if _, fresh := d.created[c.Relation]; fresh && c.Op != wal.OpCreateFile {
		d.created[c.Relation]++
	}
	switch c.Op {
	case wal.OpInsert:
		d.inserted[c.Relation] += int64(c.Rows)
	case wal.OpUpdate:
		d.updated[c.Relation]++
	case wal.OpDelete:
		d.deleted[c.Relation]++
	case wal.OpCreateFile:
		d.created[c.Relation] = 0
	}
}

// end closes a transaction with its subtransactions.
func (w *watcher) end(r wal.Record, c wal.Change) {
	xid := r.Xid
	if c.Top != 0 {
		xid = c.Top
	}
	all := &deed{inserted: map[wal.Relation]int64{}, updated: map[wal.Relation]int64{}, deleted: map[wal.Relation]int64{}, created: map[wal.Relation]int{}}
	for _, id := range append([]uint32{xid}, c.Children...) {
		if d := w.open[id]; d != nil {
			tally(all.inserted, d.inserted)
			tally(all.updated, d.updated)
			tally(all.deleted, d.deleted)
			maps.Copy(all.created, d.created)
			all.locked = append(all.locked, d.locked...)
			all.base = max(all.base, d.base)
		}
		delete(w.open, id)
	}
	if c.Op != wal.OpCommit || c.At.Before(w.req.From) || c.At.After(w.req.To) {
		return
	}
	note := func(what source.EventKind, name string, rows int64) {
		e := source.Event{At: c.At, What: what, Name: name, Rows: rows, Transaction: xid, Position: r.Start.String(), End: r.End.String()}
		if what.Destructive() {
			// The replay stops before the first commit that is later than its target.
			e.Before = c.At.Add(-time.Microsecond)
		}
		w.events = append(w.events, e)
	}
	if all.base != 0 {
		note(source.EventDropDatabase, fmt.Sprintf("database %d", all.base), 0)
	}
	w.dropped(all, c.Dropped, note)
	for _, x := range []struct {
		what source.EventKind
		rows map[wal.Relation]int64
	}{{source.EventDelete, all.deleted}, {source.EventUpdate, all.updated}, {source.EventInsert, all.inserted}} {
		for _, rel := range slices.SortedFunc(maps.Keys(x.rows), func(a, b wal.Relation) int { return cmp.Compare(a.File, b.File) }) {
			n, known := w.names.of(rel)
			if x.rows[rel] < w.req.Rows || known && n.Kind == "t" {
				continue
			}
			note(x.what, w.name(rel), x.rows[rel])
		}
	}
}

// dropped says what became of files that a commit removed: a table that is gone, or
// one that got a new file, empty or written anew.
func (w *watcher) dropped(d *deed, files []wal.Relation, note func(source.EventKind, string, int64)) {
	var names []string
	unknown := 0
	for _, f := range files {
		n, ok := w.names.of(f)
		switch {
		case !ok:
			unknown++
		case n.Kind == "r" || n.Kind == "m" || n.Kind == "p":
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 && unknown == 0 {
		return // indexes and the like
	}
	if len(names) == 0 {
		// Files that the base did not know: the locks may say which tables.
		for _, l := range d.locked {
			if n, ok := w.names.numbers[[2]uint32{l.Database, l.File}]; ok && (n.Kind == "r" || n.Kind == "m" || n.Kind == "p") {
				names = append(names, n.Name)
			}
		}
	}
	if len(names) == 0 {
		names = []string{fmt.Sprintf("file %d", files[0].File)}
	}
	slices.Sort(names)
	what := source.EventDrop
	if len(d.created) > 0 {
		what = source.EventTruncate
		for _, pages := range d.created {
			if pages > 1 { // an empty index has one page
				what = source.EventRewrite
			}
		}
	}
	note(what, strings.Join(slices.Compact(names), ", "), 0)
}

// name is what people call a relation.
func (w *watcher) name(r wal.Relation) string {
	if n, ok := w.names.of(r); ok {
		return n.Name
	}
	return fmt.Sprintf("file %d", r.File)
}

func tally(to, from map[wal.Relation]int64) {
	for k, v := range from {
		to[k] += v
	}
}

var _ source.Timeliner = (*Store)(nil)
