package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/repo"
	"holdfast/internal/source/postgres/wal"
)

// A base backup of what the log names.
//
// The stream walks every record, and so knows which blocks were changed since the last
// base began (blockLog). Between pg_backup_start and pg_backup_stop only those are read
// from production, and laid over the last base.
//
// # Why that is the same as reading everything
//
// A page that no record named between the starts of both bases is on disk what it was when
// the last base read it: with page checksums the server logs even the setting of a hint bit.
// A page that is named is read after the checkpoint with which this base begins; if it is
// caught in mid-write, it was changed after that checkpoint, and the replay brings it back
// from its image in the log. This holds with page checksums only, so without them everything
// is read.
//
// # What is read whole
//
// What the log does not carry, or not all of it: free-space and visibility maps, init
// forks, files that are no relations, files that were not in the last base, files that were
// made anew or cut off from there on, and databases that were made by copying files.
//
// # What makes sure
//
// Before anything is written, sampled pages that the log does not name are read and held
// against what they were: one that changed ends the reliance on the log, and this base
// reads everything. So does each base wholeEvery after the last that read everything. A
// restore holds each page against its checksum, which knows its place.
const (
	wholeEvery  = 30 * 24 * time.Hour
	samplePages = 128
	awaitStart  = 15 * time.Second
	rereadTimes = 5
)

// Labels of how a base was read.
const (
	LabelPages    = "pg_pages"      // "all", or "log": only what the log named was read
	LabelPagesWhy = "pg_pages_why"  // why all were read, where a base came before
	LabelWholeAt  = "pg_whole_at"   // when the last base began that read everything; absent: this one
	LabelRead     = "pg_read_bytes" // read from the cluster's files
)

// A namedBase is what a base backup of named pages starts from.
type namedBase struct {
	src     *Source
	control *pgconn.PgConn // holds the backup; reads single pieces again
	data    *pgconn.PgConn // reads ahead
	parent  *repo.Manifest
	version int
	listed  map[string]manifestFile // of the parent, by path
	whole   string                  // LabelWholeAt
	start   uint64
	blocks  *wal.BlockSet
	files   []listedFile
	read    int64
	damaged string // the first page that stays damaged
}

func (n *namedBase) close() {
	for _, pg := range []*pgconn.PgConn{n.data, n.control} {
		if pg != nil {
			(&replConn{pg: pg}).close() // a backup that was not stopped ends with its session
		}
	}
}

// openNamed begins a base backup of named pages, or says why all must be read. It is an
// error only if ctx ended.
func (s *Source) openNamed(ctx context.Context, w *repo.Writer, b *baseBackup) (n *namedBase, why string, err error) {
	if w.Parent() == nil {
		return nil, "", nil // the first
	}
	n = &namedBase{src: s, parent: w.Parent(), version: b.version}
	err = n.open(ctx, w, b)
	if err == nil {
		return n, "", nil
	}
	n.close()
	if ctx.Err() != nil {
		return nil, "", ctx.Err()
	}
	return nil, err.Error(), nil
}

func (n *namedBase) open(ctx context.Context, w *repo.Writer, b *baseBackup) error {
	l := n.parent.Labels
	st := n.src.running.Load()
	n.whole = l[LabelWholeAt]
	if n.whole == "" {
		n.whole = l[LabelStartTime]
	}
	read, terr := time.Parse(time.RFC3339Nano, n.whole)
	from, lerr := ParseLSN(l[LabelStart])
	switch {
	case st == nil:
		return errors.New("the log is not being followed here")
	case w.Label(LabelChecksums) != "on" || l[LabelChecksums] != "on":
		return errors.New("page checksums are off, and without them the log does not name every page that changed")
	case l[LabelSuspect] != "":
		return fmt.Errorf("the base before it, %s, is suspect", n.parent.ID)
	case l[LabelSystem] != w.Label(LabelSystem) || l[LabelTimeline] != strconv.FormatUint(uint64(b.timeline), 10):
		return fmt.Errorf("the base before it is of another timeline, %s", l[LabelTimeline])
	case l[LabelSegmentSize] != w.Label(LabelSegmentSize) || majorText(l[LabelVersion]) != majorText(w.Label(LabelVersion)):
		return errors.New("the base before it is of a cluster of another version")
	case lerr != nil || terr != nil:
		return errors.New("the base before it does not say when it began")
	case n.src.cfg.Clock().Sub(read) >= wholeEvery:
		return fmt.Errorf("everything is read every %d days, and was on %s", int(wholeEvery/(24*time.Hour)), read.UTC().Format(time.DateOnly))
	}
	if err := n.loadManifest(); err != nil {
		return err
	}
	var err error
	for _, pg := range []**pgconn.PgConn{&n.control, &n.data} {
		cfg := n.src.conn.Copy()
		cfg.RuntimeParams["application_name"] = n.src.cfg.Slot + "_base"
		if *pg, err = n.src.dial(ctx, cfg); err != nil {
			return err
		}
	}
	if err := n.mayRead(ctx); err != nil {
		return err
	}
	if err := n.begin(ctx); err != nil {
		return err
	}
	if err := st.await(ctx, b.timeline, n.start); err != nil {
		return err
	}
	if n.blocks, err = st.sp.changedBlocks(b.timeline, from, n.start); err != nil {
		return err
	}
	if n.files, err = listFiles(ctx, n.control, n.version/10000); err != nil {
		return err
	}
	return n.sample(ctx, w)
}

func majorText(version string) string { return strconv.Itoa(parseVersion(version) / 10000) }

// functions are what a role must be allowed to call; GrantPages says how.
func (n *namedBase) functions() []string {
	fs := []string{"pg_ls_dir(text,boolean,boolean)", "pg_stat_file(text,boolean)", "pg_read_binary_file(text,bigint,bigint,boolean)"}
	if n.version >= 150000 {
		return append(fs, "pg_backup_start(text,boolean)", "pg_backup_stop(boolean)")
	}
	return append(fs, "pg_start_backup(text,boolean,boolean)", "pg_stop_backup(boolean,boolean)")
}

// mayRead asks whether the server can be read page by page.
func (n *namedBase) mayRead(ctx context.Context) error {
	for _, f := range n.functions() {
		rows, err := simpleQuery(ctx, n.control, "SELECT pg_catalog.has_function_privilege('pg_catalog."+f+"', 'execute')")
		if err != nil {
			return fmt.Errorf("the right to call %s: %w", f, err)
		}
		if rows[0][0] != "t" {
			return fmt.Errorf("role %q may not call %s", n.src.conn.User, f)
		}
	}
	rows, err := simpleQuery(ctx, n.control, `SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('block_size'), pg_catalog.current_setting('segment_size'), pg_catalog.current_setting('full_page_writes')`)
	if err != nil {
		return err
	}
	switch r := rows[0]; {
	case r[0] != "f":
		return errors.New("the server is a standby")
	case r[1] != strconv.Itoa(pageBytes) || r[2] != "1GB":
		return fmt.Errorf("the server has pages of %s bytes in files of %s", r[1], r[2])
	case r[3] != "on":
		return errors.New("full_page_writes is off")
	}
	return nil
}

// begin starts the backup on the server.
func (n *namedBase) begin(ctx context.Context) error {
	call := "pg_backup_start(%s, true)"
	if n.version < 150000 {
		call = "pg_start_backup(%s, true, false)"
	}
	label := "'" + strings.ReplaceAll("holdfast "+n.src.cfg.Store, "'", "''") + "'"
	// The checkpoint takes its time, so this is not bounded like other commands.
	results, err := n.control.Exec(ctx, "SET statement_timeout = 0; SELECT pg_catalog."+fmt.Sprintf(call, label)).ReadAll()
	if err != nil {
		return fmt.Errorf("begin the backup: %w", err)
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 {
		return errors.New("the server does not say where the backup begins")
	}
	n.start, err = ParseLSN(string(last.Rows[0][0]))
	return err
}

// end ends the backup on the server, and returns where, and the files that belong to it.
func (n *namedBase) end(ctx context.Context) (stop uint64, label, tablespaces string, err error) {
	call := "pg_backup_stop(false)"
	if n.version < 150000 {
		call = "pg_stop_backup(false, false)"
	}
	results, err := n.control.Exec(ctx, "SELECT lsn, labelfile, coalesce(spcmapfile, '') FROM pg_catalog."+call).ReadAll()
	if err != nil {
		return 0, "", "", fmt.Errorf("end the backup: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 3 {
		return 0, "", "", errors.New("the server does not say where the backup ends")
	}
	row := results[0].Rows[0]
	stop, err = ParseLSN(string(row[0]))
	return stop, string(row[1]), string(row[2]), err
}

// await waits until the spool has the log up to lsn.
func (st *stream) await(ctx context.Context, timeline uint32, lsn uint64) error {
	t := time.NewTimer(awaitStart)
	defer t.Stop()
	for {
		more := st.sp.wait()
		if head, _, ok := st.sp.head(); ok && head.timeline == timeline && head.end >= lsn {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return fmt.Errorf("the log up to %s did not arrive", FormatLSN(lsn))
		}
	}
}

// sample reads pages that the log does not name. One that is not what it was says that the
// log does not tell everything, whatever the reason.
func (n *namedBase) sample(ctx context.Context, w *repo.Writer) error {
	type sampled struct {
		sum  repo.PageSum
		page int64
	}
	var (
		ws   []wanted
		what []sampled
	)
	var pages []int64 // of the files up to each, so that every page is as likely
	total := int64(0)
	for _, f := range n.files {
		if pf, ok := pageFileOf(f.path); ok && !f.dir && pf.fork == wal.MainFork {
			total += f.size / pageBytes
		}
		pages = append(pages, total)
	}
	for try := 0; total > 0 && try < 4*samplePages && len(ws) < samplePages; try++ {
		at := rand.Int64N(total)
		i, _ := slices.BinarySearch(pages, at+1)
		f := n.files[i]
		pf, _ := pageFileOf(f.path)
		page := pages[i] - 1 - at
		if n.blocks.Has(pf.relation, pf.fork, pf.first()+uint32(page)) {
			continue
		}
		past, ok := w.Past(dataPrefix + f.path)
		if !ok || page*pageBytes+pageBytes > past.Entry.Size {
			continue
		}
		sum := past.Sum(page)
		ws = append(ws, wanted{f.path, page * pageBytes, pageBytes})
		what = append(what, sampled{sum, page})
	}
	differs := func(i int, b []byte) bool {
		return len(b) == pageBytes && pageLSN(b) < n.start && w.PageSum(b) != what[i].sum
	}
	for try := 0; len(ws) > 0; try++ {
		var again []int
		if err := readPiecesOf(ctx, n.data, ws, func(i int, b []byte) error {
			n.read += int64(len(b))
			if differs(i, b) {
				again = append(again, i)
			}
			return nil
		}); err != nil {
			return err
		}
		if len(again) == 0 {
			return nil
		}
		if try == rereadTimes {
			i := again[0]
			n.src.cfg.Log.Error("a page changed that the log does not name", "store", n.src.cfg.Store, "file", ws[i].path, "page", what[i].page)
			return fmt.Errorf("page %d of %q changed, and the log does not name it", what[i].page, ws[i].path)
		}
		// It may have been caught in mid-write, and then its position is a newer one soon.
		var nw []wanted
		var nx []sampled
		for _, i := range again {
			nw, nx = append(nw, ws[i]), append(nx, what[i])
		}
		ws, what = nw, nx
	}
	return nil
}

// snapshot writes the files into w and returns the manifest.
func (n *namedBase) snapshot(ctx context.Context, b *baseBackup) error {
	pattern, ok := b.w.Previous(dataPrefix + "PG_VERSION")
	if !ok {
		return errors.New("the cache does not know the base before")
	}
	plan, total, err := n.plan(b.w)
	if err != nil {
		return err
	}
	var ws []wanted
	for _, f := range plan {
		ws = append(ws, f.pieces...)
	}
	r := readAll(ctx, n.data, ws)
	defer r.close()
	m := manifestWriter{}
	outside := map[string]bool{}
	var done int64
	for _, f := range plan {
		if err := n.add(ctx, b, f, pattern, r, &m); err != nil {
			return fmt.Errorf("file %q: %w", f.path, err)
		}
		if rest, ok := strings.CutPrefix(f.path, linksPrefix); ok && f.dir && !strings.Contains(rest, "/") && tablespaceNumber.MatchString(rest) {
			outside[rest] = true
		}
		if !f.dir {
			done += f.size
		}
		b.progress(holdfast.Progress{Stage: "copy", Done: done, Total: total, Unit: "bytes"})
	}
	stop, label, spaces, err := n.end(ctx)
	if err != nil {
		return err
	}
	b.stop = stop
	for name, text := range map[string]string{"backup_label": label, tablespaceMap: spaces} {
		if text == "" {
			continue
		}
		e := like(pattern, name, int64(len(text)), n.src.cfg.Clock())
		if err := b.w.Add(ctx, e, strings.NewReader(text)); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(text))
		m.add(manifestFile{Path: name, Size: e.Size, Checksum: hex.EncodeToString(sum[:])}, e.ModTime)
	}
	// A tablespace in place is a folder of the data directory, and not in the server's map.
	for number := range outside {
		if strings.Contains("\n"+spaces, "\n"+number+" ") {
			b.tablespaces = append(b.tablespaces, number)
		}
	}
	if n.damaged != "" {
		b.suspect = n.damaged
	}
	b.manifest.Write(m.finish(b.timeline, b.start, b.stop))
	return nil
}

// A plannedFile is a file and what is to be read of it.
type plannedFile struct {
	listedFile
	page   pageFile
	paged  bool
	over   bool  // it is laid over what it was; else it is read whole
	before int64 // its size then
	pieces []wanted
}

// plan decides what is read. The control file comes last, as the server's own base backup
// has it.
func (n *namedBase) plan(w *repo.Writer) (plan []plannedFile, total int64, err error) {
	var control *plannedFile
	for _, f := range n.files {
		p := plannedFile{listedFile: f}
		if f.dir {
			plan = append(plan, p)
			continue
		}
		total += f.size
		p.page, p.paged = pageFileOf(f.path)
		if p.paged && p.page.fork == wal.MainFork && f.size%pageBytes == 0 {
			// What the writer remembers takes memory, and is asked for again by add.
			if past, ok := w.Past(dataPrefix + f.path); ok && past.Entry.Size%pageBytes == 0 {
				p.over, p.before = true, past.Entry.Size
				n.named(&p, past)
			}
		}
		if !p.over {
			p.pieces = run(nil, f.path, 0, f.size)
		}
		if f.path == "global/pg_control" {
			control = &p
			continue
		}
		plan = append(plan, p)
	}
	if control == nil {
		return nil, 0, errors.New("the server lists no control file")
	}
	return append(plan, *control), total, nil
}

// named fills the pieces of a file of which only changed pages are read.
func (n *namedBase) named(p *plannedFile, past *repo.Past) {
	pages, before := p.size/pageBytes, p.before/pageBytes
	from := int64(-1)
	for i := int64(0); i <= pages; i++ {
		need := i < pages && (i >= before || past.Wasted(i) || n.blocks.Has(p.page.relation, p.page.fork, p.page.first()+uint32(i)))
		switch {
		case need && from < 0:
			from = i
		case !need && from >= 0:
			p.pieces = run(p.pieces, p.path, from*pageBytes, i*pageBytes)
			from = -1
		}
	}
}

// run appends the pieces of [from, to) of a file.
func run(ws []wanted, path string, from, to int64) []wanted {
	for ; from < to; from += readPiece {
		ws = append(ws, wanted{path, from, min(readPiece, to-from)})
	}
	return ws
}

func like(pattern repo.Entry, name string, size int64, at time.Time) repo.Entry {
	return repo.Entry{Path: dataPrefix + name, Type: repo.TypeFile, Mode: pattern.Mode, UID: pattern.UID, GID: pattern.GID, User: pattern.User, Group: pattern.Group,
		Size: size, ModTime: at, Cut: repo.CutContent}
}

// add reads what is planned of a file, and adds it.
func (n *namedBase) add(ctx context.Context, b *baseBackup, f plannedFile, pattern repo.Entry, r *pageReader, m *manifestWriter) error {
	e := like(pattern, f.path, f.size, time.Unix(f.mtime, 0).UTC())
	if old, ok := b.w.Previous(e.Path); ok {
		e.Mode, e.UID, e.GID, e.User, e.Group = old.Mode, old.UID, old.GID, old.User, old.Group
	} else if f.dir {
		e.Mode |= e.Mode & 0o444 >> 2 // who may read it may enter it
	}
	if f.dir {
		e.Type, e.Size, e.Cut = repo.TypeDir, 0, ""
		return b.w.Add(ctx, e, nil)
	}
	gone := false
	next := func(w wanted) ([]byte, error) {
		data, err := r.next()
		if err != nil || gone {
			return nil, err
		}
		if data == nil && w.off == 0 && !f.over {
			gone = true
			return nil, nil
		}
		n.read += int64(len(data))
		if short := w.n - int64(len(data)); short > 0 {
			data = append(data, make([]byte, short)...) // cut off meanwhile: the replay does it again
		}
		if !f.paged {
			return data, nil
		}
		return n.sound(ctx, f, w, data)
	}
	if f.over {
		past, ok := b.w.Past(e.Path)
		if !ok || past.Entry.Size != f.before {
			return errors.New("the cache forgot what it was")
		}
		pages := func(yield func(repo.Page, error) bool) {
			for _, w := range f.pieces {
				data, err := next(w)
				if !yield(repo.Page{Offset: w.off, Data: data}, err) || err != nil {
					return
				}
			}
		}
		if err := b.w.OverlayPast(ctx, e, past, iter.Seq2[repo.Page, error](pages)); err != nil {
			return err
		}
		mf := manifestFile{Path: f.path, Size: f.size}
		if old := n.listed[f.path]; len(f.pieces) == 0 && old.Size == f.size && f.before == f.size {
			mf.Checksum = old.Checksum
		}
		m.add(mf, e.ModTime)
		return nil
	}
	if relationFile.MatchString(f.path) {
		e.Cut = repo.CutPages
	}
	sum := sha256.New()
	first, left := []byte(nil), f.pieces
	if len(left) > 0 { // a file that is gone by now is left out, so it is looked at before it is added
		var err error
		if first, err = next(left[0]); err != nil {
			return err
		}
		left = left[1:]
	}
	content := &pieceContent{first: first, more: func() ([]byte, error) {
		if len(left) == 0 {
			return nil, io.EOF
		}
		w := left[0]
		left = left[1:]
		return next(w)
	}}
	if gone {
		_, err := io.Copy(io.Discard, content)
		return err
	}
	if err := b.w.Add(ctx, e, io.TeeReader(content, sum)); err != nil {
		return err
	}
	m.add(manifestFile{Path: f.path, Size: f.size, Checksum: hex.EncodeToString(sum.Sum(nil))}, e.ModTime)
	return nil
}

// sound reads a piece again while a page of it is caught in mid-write. What stays wrong
// is kept, and makes the base suspect.
func (n *namedBase) sound(ctx context.Context, f plannedFile, w wanted, data []byte) ([]byte, error) {
	for try := 0; ; try++ {
		bad := int64(-1)
		for at := int64(0); at+pageBytes <= w.n && bad < 0; at += pageBytes {
			if !soundPage(data[at:at+pageBytes], f.page.first()+uint32((w.off+at)/pageBytes), n.start) {
				bad = at
			}
		}
		if bad < 0 {
			return data, nil
		}
		if try == rereadTimes {
			if n.damaged == "" {
				n.damaged = fmt.Sprintf("checksum verification failed in file %q, block %d", f.path, (w.off+bad)/pageBytes)
			}
			return data, nil
		}
		if err := readPiecesOf(ctx, n.control, []wanted{w}, func(_ int, b []byte) error {
			n.read += int64(len(b))
			clear(data[copy(data, b):])
			return nil
		}); err != nil {
			return nil, err
		}
	}
}

// pieceContent is a file as a reader.
type pieceContent struct {
	first []byte
	more  func() ([]byte, error)
}

func (c *pieceContent) Read(p []byte) (int, error) {
	for len(c.first) == 0 {
		b, err := c.more()
		if err != nil {
			return 0, err
		}
		c.first = b
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// A manifestWriter writes the list of files as a server does. Files of which not all was
// read stand there with their size only.
type manifestWriter struct{ b bytes.Buffer }

func (m *manifestWriter) add(f manifestFile, at time.Time) {
	if m.b.Len() > 0 {
		m.b.WriteString(",\n")
	}
	name, _ := json.Marshal(f.Path) // a string
	key := "Path"
	if !utf8.ValidString(f.Path) {
		key, name = "Encoded-Path", []byte(`"`+hex.EncodeToString([]byte(f.Path))+`"`)
	}
	fmt.Fprintf(&m.b, `{ "%s": %s, "Size": %d, "Last-Modified": "%s GMT"`, key, name, f.Size, at.UTC().Format(time.DateTime))
	if f.Checksum != "" {
		fmt.Fprintf(&m.b, `, "Checksum-Algorithm": "SHA256", "Checksum": "%s"`, f.Checksum)
	}
	m.b.WriteString(" }")
}

func (m *manifestWriter) finish(timeline uint32, start, stop uint64) []byte {
	var b bytes.Buffer
	b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n")
	b.Write(m.b.Bytes())
	fmt.Fprintf(&b, "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n", timeline, FormatLSN(start), FormatLSN(stop))
	sum := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, "\"Manifest-Checksum\": \"%x\"}\n", sum)
	return b.Bytes()
}

// baseFile is where the manifest of a base lies on this machine: the next one takes from
// there what files hold that did not change.
func (s *Source) baseFile(snapshot string) string {
	return filepath.Join(s.cfg.SpoolDir, "bases", snapshot+".manifest")
}

// loadManifest reads the parent's list of files.
func (n *namedBase) loadManifest() error {
	f, err := n.src.cfg.FS.OpenFile(n.src.baseFile(n.parent.ID), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the base before it was not made here")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBackupManifest))
	if err != nil {
		return err
	}
	m, err := parseBackupManifest(text)
	if err != nil {
		return err
	}
	n.listed = make(map[string]manifestFile, len(m.Files))
	for _, f := range m.Files {
		n.listed[f.Path] = f
	}
	return nil
}

// rememberBase keeps the manifest of the base that was just made, and that of its parent,
// which is the next one's if this base is not finished. Nothing depends on it but that the next base reads less.
//
// Crash here: the manifest is there or not; without it the next base reads everything.
func (s *Source) rememberBase(w *repo.Writer, timeline uint32, manifest []byte) error {
	if s.cfg.SpoolDir == "" {
		return nil
	}
	dir := filepath.Join(s.cfg.SpoolDir, "bases")
	if err := durable.MkdirAll(s.cfg.FS, dir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(s.cfg.FS, s.baseFile(w.ID()), manifest, 0o600); err != nil {
		return err
	}
	keep := map[string]bool{filepath.Base(s.baseFile(w.ID())): true}
	if p := w.Parent(); p != nil {
		keep[filepath.Base(s.baseFile(p.ID))] = true
	}
	entries, err := s.cfg.FS.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			err = errors.Join(err, s.cfg.FS.Remove(filepath.Join(dir, e.Name())))
		}
	}
	st := s.running.Load()
	if p := w.Parent(); p != nil && st != nil {
		if from, lerr := ParseLSN(p.Labels[LabelStart]); lerr == nil {
			err = errors.Join(err, st.sp.dropBlocks(timeline, from))
		}
	}
	return err
}

// GrantPages says, in SQL, what allows a role to read single pages: no more than it may
// read of a base backup, in the database that the connection string names. version is as
// PostgreSQL counts it.
func GrantPages(version int, role string) []string {
	n := namedBase{version: version}
	var out []string
	for _, f := range n.functions() {
		out = append(out, fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %q", f, role))
	}
	return out
}
