package postgres

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// The log by archive_command, where no replication slot may be had. The server's command
// puts whole files into an inbox, and this part of the stream takes them into the same
// spool that a replication connection would fill: they are walked record by record,
// shipped, reported and missed in the same way. What it costs is the time until a segment
// is full, or archive_timeout.

// Paces of an inbox.
const (
	inboxEvery = 250 * time.Millisecond // between two looks
	inboxAsk   = time.Second            // the server is asked where it stands, one question at a time
	// holeWithin is how long a file that comes next may be missing before the log goes on
	// behind the hole, which is then a Gap. A server archives in order.
	holeWithin = 30 * time.Second
)

// An inbox is the receiver's side.
type inbox struct {
	st   *stream
	dir  string
	open bool      // the spool stands at its end
	hole time.Time // since when something is missing; zero: nothing is
	of   inboxOf
	next string // the transaction that would come next, at the question that is open
	held string // the same, at the last question that was answered: all before it is here
}

// archiveLoop takes files until ctx ends, or a file is of another cluster.
func (st *stream) archiveLoop(ctx context.Context, dir string) error {
	in := &inbox{st: st, dir: dir}
	tick := time.NewTicker(inboxEvery)
	defer tick.Stop()
	var asked time.Time
	for {
		err := in.look(ctx)
		st.setErr(err)
		if err != nil {
			in.open, in.next = false, "" // the spool is brought back to what is synced
			if errors.Is(err, errRefused) {
				return err
			}
			st.src.cfg.Log.Warn("log files not taken", "store", st.src.cfg.Store, "inbox", dir, "err", err)
			st.changed()
		}
		if now := time.Now(); err == nil && now.Sub(asked) >= inboxAsk {
			asked = now
			in.ask(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-st.moved:
			if err := st.trim(false); err != nil {
				return err
			}
		}
	}
}

// begin makes the inbox, so that the command finds it. Without it the command refuses: a
// disk that is not mounted must not look like an inbox.
func (in *inbox) begin() error {
	fsys := in.st.src.cfg.FS
	if _, err := fsys.Stat(in.dir); err != nil {
		return holdfast.WithHint(fmt.Errorf("inbox of the log: %w", err), "make it, for the server's account to write to and this one to read: install -d -o postgres -m 2770 %s", in.dir)
	}
	// The server's account looks into it, too: there are only hashes.
	if err := durable.MkdirAll(fsys, filepath.Join(in.dir, inboxTaken), 0o755); err != nil {
		return err
	}
	of := inboxOf{Store: in.st.src.cfg.Store, System: in.st.sp.lineage()}
	if of == in.of {
		return nil
	}
	if there, err := readInbox(fsys, in.dir); err == nil && there.Store != of.Store {
		return fmt.Errorf("%w: the inbox %q takes the log of store %q", errRefused, in.dir, there.Store)
	}
	text, err := json.Marshal(of)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(fsys, filepath.Join(in.dir, inboxAbout), append(text, '\n'), 0o644); err != nil {
		return err
	}
	in.of = of
	return nil
}

// archived is one file that waits.
type archived struct {
	name  string
	kind  string
	tli   uint32
	start uint64
}

// look takes what is there and can be taken.
func (in *inbox) look(ctx context.Context) error {
	if err := in.begin(); err != nil {
		return err
	}
	if h, _, ok := in.st.sp.head(); ok && !in.open {
		if err := in.st.sp.begin(h.timeline, h.end); err != nil {
			return err
		}
	}
	in.open = true
	files, err := in.list(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		taken, err := in.take(ctx, f)
		if err != nil {
			return err
		}
		if !taken {
			break // what comes next is not there, and what is behind it waits
		}
	}
	return in.settle(files)
}

// list returns what waits, in the order in which a server archives. Histories are taken
// on the way: they say how timelines hang together.
func (in *inbox) list(ctx context.Context) (out []archived, err error) {
	fsys := in.st.src.cfg.FS
	entries, err := fsys.ReadDir(in.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		kind, ok := archivedKind(e.Name())
		if !ok {
			continue
		}
		if (kind == archivedSegment || kind == archivedPartial) && in.st.sp.lineage() == "" {
			if err := in.bind(ctx, e.Name()); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range entries {
		kind, ok := archivedKind(e.Name())
		switch {
		case !ok:
		case kind == archivedBackup: // a base says of itself what it needs
			if err := in.done(e.Name()); err != nil {
				return nil, err
			}
		case kind == archivedHistory && in.st.sp.lineage() != "":
			if err := in.history(e.Name()); err != nil {
				return nil, err
			}
		case kind == archivedSegment || kind == archivedPartial:
			tli, segno, ok := parseSegmentName(strings.TrimSuffix(e.Name(), ".partial"), in.st.sp.segmentSize())
			if !ok {
				return nil, fmt.Errorf("log file %s does not fit segments of %d bytes", e.Name(), in.st.sp.segmentSize())
			}
			out = append(out, archived{e.Name(), kind, tli, segno * uint64(in.st.sp.segmentSize())})
		}
	}
	slices.SortFunc(out, func(a, b archived) int {
		return cmp.Or(cmp.Compare(a.tli, b.tli), cmp.Compare(a.start, b.start), cmp.Compare(a.name, b.name))
	})
	return out, nil
}

// bind ties the spool to the cluster of the first file.
func (in *inbox) bind(ctx context.Context, name string) error {
	b, err := readWhole(in.st.src.cfg.FS, filepath.Join(in.dir, name), maxInboxFile)
	if err != nil {
		return err
	}
	h, err := readSegmentHeader(name, b)
	if err != nil {
		return fmt.Errorf("log file %s: %w", name, err)
	}
	if err := in.st.checkLineages(ctx, h.System); err != nil {
		return err
	}
	err = in.st.sp.bind(cluster{Store: in.st.src.cfg.Store, System: h.System, SegmentSize: h.SegmentSize, PageSize: h.PageSize}, in.st.src.cfg.AdoptSystem)
	var foreign *foreignError
	if errors.As(err, &foreign) {
		return refuseForeign(foreign)
	}
	if err != nil {
		return err
	}
	return in.begin()
}

func (in *inbox) history(name string) error {
	var tli uint32
	if _, err := fmt.Sscanf(name, "%08X.history", &tli); err != nil {
		return fmt.Errorf("history file %q: %w", name, err)
	}
	text, err := readWhole(in.st.src.cfg.FS, filepath.Join(in.dir, name), maxHistory)
	if err != nil {
		return err
	}
	if _, err := parseHistory(tli, text); err != nil {
		return err
	}
	if err := in.st.sp.saveHistory(tli, text); err != nil {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return in.done(name)
}

// take puts one file into the spool. false: what comes before it is not there yet.
func (in *inbox) take(ctx context.Context, f archived) (bool, error) {
	sp := in.st.sp
	h, _, has := sp.head()
	segment := uint64(sp.segmentSize())
	switch {
	case has && f.tli < h.timeline || has && f.tli == h.timeline && f.start+segment <= h.end:
		return true, nil // it is there, or of a timeline that has ended: settle lets it go
	case f.tli > 1 && sp.history(f.tli) == nil:
		if err := in.askHistory(ctx, f.tli); err != nil {
			return in.missing(fmt.Sprintf("the history of timeline %d (%v)", f.tli, err), false)
		}
	}
	switch {
	case !has:
		if err := sp.begin(f.tli, f.start); err != nil {
			return false, err
		}
	case f.tli == h.timeline && f.start > sp.written():
		goOn, err := in.missing(fmt.Sprintf("the log from %s to %s", FormatLSN(sp.written()), FormatLSN(f.start)), true)
		if !goOn || err != nil {
			return false, err
		}
		if err := sp.begin(f.tli, f.start); err != nil {
			return false, err
		}
	case f.tli > h.timeline:
		at, err := in.forked(f.tli, h)
		if err != nil {
			return false, err
		}
		if f.start > at {
			goOn, err := in.missing(fmt.Sprintf("the beginning of timeline %d at %s", f.tli, FormatLSN(at)), true)
			if !goOn || err != nil {
				return false, err
			}
		}
		if err := sp.begin(f.tli, f.start); err != nil {
			return false, err
		}
	}
	in.hole = time.Time{}
	b, err := readWhole(in.st.src.cfg.FS, filepath.Join(in.dir, f.name), maxInboxFile)
	if err != nil {
		return false, err
	}
	head, err := readSegmentHeader(f.name, b)
	if err != nil {
		return false, fmt.Errorf("log file %s: %w", f.name, err)
	}
	if head.System != sp.lineage() {
		return false, refuseForeign(&foreignError{Store: in.st.src.cfg.Store, Want: sp.lineage(), Got: head.System})
	}
	if f.kind == archivedPartial {
		// A timeline's end. Behind its last record lies nothing, or what an earlier use of
		// the file left.
		w, err := sp.newWalker(f.tli, f.start, nil)
		if err != nil {
			return false, err
		}
		_, _ = w.Write(b) // where it stops is the answer
		b = b[:uint64(w.Valid())-f.start]
	}
	if err := in.append(f.start, b); err != nil {
		return false, fmt.Errorf("log file %s: %w", f.name, err)
	}
	in.st.settleLocal()
	in.st.changed()
	return true, nil
}

func (in *inbox) append(lsn uint64, b []byte) error {
	err := in.st.sp.append(lsn, b)
	if errors.Is(err, errSpoolFull) {
		if terr := in.st.trim(true); terr != nil {
			return terr
		}
		err = in.st.sp.append(lsn, b)
	}
	// What arrived whole is kept, whatever is behind it.
	return errors.Join(err, in.st.sp.sync())
}

// forked is where a timeline begins, in whole segments.
func (in *inbox) forked(tli uint32, from stretch) (uint64, error) {
	for _, p := range in.st.sp.ancestry(tli).Parents {
		if p.Timeline == from.timeline {
			return SegmentStart(p.Switch, in.st.sp.segmentSize()), nil
		}
	}
	return 0, fmt.Errorf("%w: timeline %d does not descend from timeline %d, which was archived before", errRefused, tli, from.timeline)
}

// missing waits for what comes next, for a time; then the log goes on without it if it
// can.
func (in *inbox) missing(what string, can bool) (goOn bool, err error) {
	now := time.Now()
	if in.hole.IsZero() {
		in.hole = now
	}
	if now.Sub(in.hole) < holeWithin {
		return false, nil
	}
	if !can {
		return false, fmt.Errorf("the server did not archive %s", what)
	}
	in.st.src.cfg.Log.Error("log is lost: it was never archived", "store", in.st.src.cfg.Store, "what", what)
	return true, nil
}

// askHistory gets a history that was archived before there was an inbox.
func (in *inbox) askHistory(ctx context.Context, tli uint32) error {
	c, err := in.st.src.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = in.st.fetchHistory(ctx, c, tli)
	return err
}

// settle lets go of files whose log is synced to their end. The last record of a file may
// end in the next one; until that is there, a restart needs the file again.
func (in *inbox) settle(files []archived) error {
	h, _, ok := in.st.sp.head()
	if !ok {
		return nil
	}
	for _, f := range files {
		over := f.tli == h.timeline && f.start+uint64(in.st.sp.segmentSize()) <= h.end
		if !over && f.tli >= h.timeline {
			continue
		}
		if err := in.done(f.name); err != nil {
			return err
		}
	}
	return in.forget()
}

// done remembers a file's hash and removes it.
func (in *inbox) done(name string) error {
	fsys := in.st.src.cfg.FS
	b, err := readWhole(fsys, filepath.Join(in.dir, name), maxInboxFile)
	if err != nil {
		return err
	}
	sum := seal.Hash(b)
	if err := durable.WriteFile(fsys, filepath.Join(in.dir, inboxTaken, name), []byte(hex.EncodeToString(sum[:])+"\n"), 0o644); err != nil {
		return err
	}
	if err := fsys.Remove(filepath.Join(in.dir, name)); err != nil {
		return err
	}
	return fsys.SyncDir(in.dir)
}

// forget drops the oldest hashes.
func (in *inbox) forget() error {
	fsys := in.st.src.cfg.FS
	entries, err := fsys.ReadDir(filepath.Join(in.dir, inboxTaken))
	if err != nil || len(entries) <= maxTaken {
		return err
	}
	for _, e := range entries[:len(entries)-maxTaken] {
		if err := fsys.Remove(filepath.Join(in.dir, inboxTaken, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// parseInterval reads a setting that is a time, as the server shows it: "0", "30s", "5min".
func parseInterval(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	var n int64
	var unit string
	if _, err := fmt.Sscanf(text, "%d%s", &n, &unit); err != nil {
		return 0, fmt.Errorf("%q is no time", text)
	}
	of, ok := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[unit]
	if !ok {
		return 0, fmt.Errorf("%q is no time", text)
	}
	return time.Duration(n) * of, nil
}

// checkArchive looks whether the server archives into our inbox as the plan says.
func (s *Source) checkArchive(ctx context.Context, c *replConn) (fs []holdfast.Finding) {
	const bad = holdfast.SeverityError
	set := map[string]string{}
	for _, name := range []string{"archive_mode", "archive_command"} {
		v, err := c.show(ctx, name)
		if err != nil {
			return append(fs, s.finding(CodeOther, bad, "see the server's log", "%v", err))
		}
		set[name] = v
	}
	command := fmt.Sprintf("ALTER SYSTEM SET archive_command = 'holdfast archive-command %s %%p'", s.cfg.Inbox)
	switch set["archive_mode"] {
	case "off":
		fs = append(fs, s.finding(CodeArchive, bad, "ALTER SYSTEM SET archive_mode = on; "+command+"; then restart the server", "archive_mode is off: no log arrives"))
	case "always": // a standby would archive under the names of its primary
		fs = append(fs, s.finding(CodeArchive, bad, "ALTER SYSTEM SET archive_mode = on; then restart the server", "archive_mode is always: two servers archive the same names"))
	}
	if set["archive_mode"] != "off" && !(strings.Contains(set["archive_command"], "archive-command") && strings.Contains(set["archive_command"], s.cfg.Inbox)) {
		fs = append(fs, s.finding(CodeArchive, bad, command+"; SELECT pg_reload_conf()", "archive_command is %q, and the inbox of the plan is %s", set["archive_command"], s.cfg.Inbox))
	}
	text, err := c.show(ctx, "archive_timeout")
	var got time.Duration
	if err == nil {
		got, err = parseInterval(text)
	}
	if err != nil {
		return append(fs, s.finding(CodeOther, bad, "see the server's log", "archive_timeout: %v", err))
	}
	if s.cfg.ArchiveTimeout > 0 && (got == 0 || got > s.cfg.ArchiveTimeout) {
		said := holdfast.FormatDuration(got)
		if got == 0 {
			said = "off"
		}
		fs = append(fs, s.finding(CodeArchive, bad, fmt.Sprintf("ALTER SYSTEM SET archive_timeout = '%ds'; SELECT pg_reload_conf()", int(s.cfg.ArchiveTimeout/time.Second)),
			"archive_timeout is %s, and the plan counts on %s: more can be lost than it says", said, holdfast.FormatDuration(s.cfg.ArchiveTimeout)))
	}
	return fs
}

// ask asks the server where it stands, unless the question before is open: what was
// committed until then is here once the log is.
func (in *inbox) ask(ctx context.Context) {
	h, _, ok := in.st.sp.head()
	in.st.mu.Lock()
	waiting := len(in.st.catches) > 0
	in.st.mu.Unlock()
	if !ok || waiting {
		return
	}
	in.held = in.next
	at := in.st.src.cfg.Clock()
	rows, err := in.st.src.query(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) WHERE NOT pg_catalog.pg_is_in_recovery()")
	if err != nil || len(rows) != 1 || len(rows[0]) != 2 {
		return // then only commits say how far the log is
	}
	need, err := ParseLSN(rows[0][0])
	if err != nil {
		return
	}
	const long = 40
	if inside := need - SegmentStart(need, in.st.sp.segmentSize()); inside <= long {
		need -= inside // a header alone is no log
	}
	// An idle server writes a little log of its own, for which it ends no file. Where no
	// transaction began since all was here, nothing was committed.
	if in.next = rows[0][1]; in.next == in.held {
		need = min(need, h.end)
	}
	in.st.sawPrimary(catch{timeline: h.timeline, need: need, at: at})
}
