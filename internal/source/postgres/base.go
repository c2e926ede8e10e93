package postgres

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"holdfast"
	"holdfast/internal/repo"
)

// Kind is the kind of a base backup's snapshot.
const Kind = "postgres"

// Labels of a base backup. They are clear text: whoever plans a recovery or checks
// a window needs no key.
const (
	LabelSystem      = "pg_system_id"
	LabelTimeline    = "pg_timeline"
	LabelStart       = "pg_start_lsn"
	LabelStop        = "pg_stop_lsn"
	LabelStartTime   = "pg_start_time" // by our clock, before the server began
	LabelStopTime    = "pg_stop_time"  // by our clock, when the server had said where it stopped
	LabelVersion     = "pg_version"
	LabelSegmentSize = "pg_segment_size"
	LabelChecksums   = "pg_checksums"
	LabelRole        = "pg_role"        // a role that exists in the cluster
	LabelTablespaces = "pg_tablespaces" // numbers of the tablespaces outside the data directory, if there are any
	LabelOwnLog      = "pg_own_log"     // where the log begins that the base itself holds; it ends at the stop. Absent: it holds none
	LabelSuspect     = "suspect"        // set when the server found damaged pages: why
)

// Where things lie in a base backup's snapshot.
const (
	dataPrefix   = "data/"
	metaPrefix   = "meta/"
	manifestPath = metaPrefix + "backup_manifest"
	settingsPath = metaPrefix + "settings.json"

	// linksPrefix is the folder of links to tablespaces in a data directory. A snapshot
	// holds each one's content there, under its number, as if it were no link.
	linksPrefix = "pg_tblspc/"
)

// Limits of what a server may send.
const (
	maxBackupManifest = 1 << 30 // bytes; about 150 per file
	maxBackupFiles    = 1 << 24
	maxTablespaces    = 1 << 12
	minRate           = 32      // kB/s, the server's own bounds of MAX_RATE
	maxRate           = 1 << 20 // kB/s
)

// tablespaceNumber matches a tablespace's object id.
var tablespaceNumber = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)

// relationFile matches the files that consist of pages.
var relationFile = regexp.MustCompile(`^(base/\d+|global|pg_tblspc/\d+/PG_\w+/\d+)/(t\d+_)?\d+(_(fsm|vm|init))?(\.\d+)?$`)

// Snapshot copies the cluster's data directory into w, over the replication
// protocol, and sets the labels that a recovery needs. It does not finish w.
//
// With the files comes the log from the base's start to its stop, so that the base can
// be brought back to its own end without any other. To go on from there it needs the
// stream: let it run before, and finish w when the stream's frontier covers LabelStop.
//
// Every file is hashed as it passes and compared with the server's own manifest
// before Snapshot returns. Pages that the server finds damaged do not fail it: the
// copy may be the best there is. They set LabelSuspect, and a recovery does not
// choose such a base by itself.
func (s *Source) Snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error {
	if err := s.snapshot(ctx, w, progress); err != nil {
		return fmt.Errorf("base backup of store %q: %w", s.cfg.Store, err)
	}
	return nil
}

func (s *Source) snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error {
	if progress == nil {
		progress = func(holdfast.Progress) {}
	}
	settings := s.captureSettings(ctx)

	// Without its log the base would be worth nothing: what ends the one ends the other.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	own, err := s.openOwnLog(ctx)
	if err != nil {
		return fmt.Errorf("its own log: %w", err)
	}
	defer own.close()
	b := &baseBackup{source: s, w: w, progress: progress, hashes: map[string]fileSum{}}
	b.started = func() error { return own.begin(ctx, b, cancel) }
	conn, err := s.connectNoticing(ctx, b.notice)
	if err != nil {
		return err
	}
	defer conn.close()
	sys, err := b.identify(ctx, conn)
	if err != nil {
		return err
	}
	w.SetLabel(LabelRole, s.conn.User)
	w.SetLabel(LabelStartTime, s.cfg.Clock().UTC().Format(time.RFC3339Nano))
	if err := w.Add(ctx, repo.Entry{Path: "data", Type: repo.TypeDir, Mode: 0o700, ModTime: s.cfg.Clock()}, nil); err != nil {
		return err
	}
	if err := b.copyFiles(ctx, conn, sys); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	if err := own.finish(b.stop); err != nil {
		return fmt.Errorf("its own log: %w", err)
	}
	w.SetLabel(LabelOwnLog, FormatLSN(SegmentStart(b.start, b.segment)))
	if err := b.addMeta(ctx, manifestPath, b.manifest.Bytes()); err != nil {
		return err
	}
	if err := b.addMeta(ctx, settingsPath, settings); err != nil {
		return err
	}
	w.SetLabel(LabelStart, FormatLSN(b.start))
	w.SetLabel(LabelStop, FormatLSN(b.stop))
	w.SetLabel(LabelTimeline, strconv.FormatUint(uint64(b.timeline), 10))
	w.SetLabel(LabelStopTime, s.cfg.Clock().UTC().Format(time.RFC3339Nano))
	var outside []string
	for _, number := range b.tablespaces {
		if number != "" {
			outside = append(outside, number)
		}
	}
	if len(outside) > 0 {
		w.SetLabel(LabelTablespaces, strings.Join(outside, " "))
	}
	if b.suspect != "" {
		w.SetLabel(LabelSuspect, b.suspect)
	}
	return nil
}

// copyFiles copies the files: those pages that the log names where it names all that
// changed since the base before, and else everything.
func (b *baseBackup) copyFiles(ctx context.Context, conn *replConn, sys system) error {
	s := b.source
	b.timeline = sys.Timeline
	named, why, err := s.openNamed(ctx, b.w, b)
	if err != nil {
		return err
	}
	b.w.SetLabel(LabelPages, "all")
	if named == nil {
		if why != "" {
			s.cfg.Log.Warn("a base backup reads everything", "store", s.cfg.Store, "reason", why)
			b.w.SetLabel(LabelPagesWhy, why)
		}
		if err := b.receive(ctx, conn); err != nil {
			return err
		}
		b.w.SetLabel(LabelRead, strconv.FormatInt(b.copied(), 10))
		err = b.compare()
	} else {
		defer named.close()
		b.start = named.start
		if err := b.started(); err != nil {
			return fmt.Errorf("its own log: %w", err)
		}
		if err := named.snapshot(ctx, b); err != nil {
			return err
		}
		b.w.SetLabel(LabelPages, "log")
		b.w.SetLabel(LabelWholeAt, named.whole)
		b.w.SetLabel(LabelRead, strconv.FormatInt(named.read, 10))
	}
	if err != nil {
		return err
	}
	if err := s.rememberBase(b.w, b.timeline, b.manifest.Bytes()); err != nil {
		s.cfg.Log.Warn("the next base backup will read everything", "store", s.cfg.Store, "err", err)
	}
	return nil
}

// copied is how many bytes of files passed.
func (b *baseBackup) copied() (n int64) {
	for _, f := range b.hashes {
		n += f.size
	}
	return n
}

// connectNoticing is connect with an ear for warnings: that is how the server names
// damaged pages.
func (s *Source) connectNoticing(ctx context.Context, notice func(*pgconn.Notice)) (*replConn, error) {
	cfg := s.replication()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n) }
	return s.connectReplication(ctx, cfg)
}

// A baseBackup is one run of BASE_BACKUP.
type baseBackup struct {
	source   *Source
	w        *repo.Writer
	progress func(holdfast.Progress)

	started func() error // called when the start is known; nil if nobody wants to know

	version     int
	system      uint64
	segment     int64 // the server's wal_segment_size
	start, stop uint64
	timeline    uint32
	total, done int64
	hashes      map[string]fileSum
	manifest    bytes.Buffer
	suspect     string
	tablespaces []string // numbers in the order of their archives; "" is the data directory itself
}

// A fileSum is what a file was as it passed.
type fileSum struct {
	size int64
	sum  [sha256.Size]byte
}

func (b *baseBackup) notice(n *pgconn.Notice) {
	if strings.Contains(n.Message, "checksum verification failed") && b.suspect == "" {
		b.suspect = n.Message
	}
}

// identify sets the labels that the cluster itself decides.
func (b *baseBackup) identify(ctx context.Context, conn *replConn) (system, error) {
	sys, err := conn.identify(ctx)
	if err != nil {
		return sys, err
	}
	b.version = conn.version()
	if b.version < 130000 {
		return sys, holdfast.WithHint(fmt.Errorf("PostgreSQL %s is too old", conn.pg.ParameterStatus("server_version")), "Holdfast needs version 13 or later")
	}
	if b.system, err = strconv.ParseUint(sys.ID, 10, 64); err != nil {
		return sys, err
	}
	if b.segment, err = conn.showBytes(ctx, "wal_segment_size"); err != nil {
		return sys, err
	}
	checksums, err := conn.show(ctx, "data_checksums")
	if err != nil {
		return sys, err
	}
	version, _, _ := strings.Cut(conn.pg.ParameterStatus("server_version"), " ")
	b.w.SetLabel(LabelSystem, sys.ID)
	b.w.SetLabel(LabelVersion, version)
	b.w.SetLabel(LabelSegmentSize, strconv.FormatInt(b.segment, 10))
	b.w.SetLabel(LabelChecksums, checksums)
	return sys, nil
}

// command is BASE_BACKUP as this version of the server wants it.
func (b *baseBackup) command() string {
	label := "'" + strings.ReplaceAll("holdfast "+b.source.cfg.Store, "'", "''") + "'"
	rate := ""
	if r := b.source.cfg.MaxRate / 1024; b.source.cfg.MaxRate > 0 {
		rate = strconv.FormatInt(min(max(r, minRate), maxRate), 10)
	}
	if b.version >= 150000 {
		c := "BASE_BACKUP (LABEL " + label + ", PROGRESS true, CHECKPOINT 'fast', WAIT false, TABLESPACE_MAP true, " +
			"MANIFEST 'yes', MANIFEST_CHECKSUMS 'SHA256', VERIFY_CHECKSUMS true, WAL false"
		if rate != "" {
			c += ", MAX_RATE " + rate
		}
		return c + ")"
	}
	c := "BASE_BACKUP LABEL " + label + " PROGRESS FAST NOWAIT"
	if rate != "" {
		c += " MAX_RATE " + rate
	}
	return c + " TABLESPACE_MAP MANIFEST 'yes' MANIFEST_CHECKSUMS 'SHA256'"
}

// receive runs the command and takes what the server sends, in the order of the
// protocol: start position, tablespaces, archives, manifest, stop position.
func (b *baseBackup) receive(ctx context.Context, conn *replConn) error {
	conn.pg.Frontend().Send(&pgproto3.Query{String: b.command()})
	if err := conn.pg.Frontend().Flush(); err != nil {
		return err
	}
	in := &archiveReader{ctx: ctx, b: b}
	defer in.abort()
	var (
		results int // result sets so far
		rows    [][]string
		said    *pgconn.PgError
	)
	for {
		msg, err := conn.pg.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("the server broke off: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.RowDescription:
			rows = nil
		case *pgproto3.DataRow:
			row := make([]string, len(msg.Values))
			for i, v := range msg.Values {
				row[i] = string(v)
			}
			if len(rows) == maxTablespaces {
				return fmt.Errorf("the cluster has more than %d tablespaces", maxTablespaces)
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			if rows == nil {
				continue // the command itself, after its results
			}
			results++
			if err := b.result(results, rows); err != nil {
				return err
			}
			rows = nil
		case *pgproto3.CopyOutResponse:
			if results == 1 { // servers before 15 close the tablespace list without a word
				results++
				if err := b.result(results, rows); err != nil {
					return err
				}
				rows = nil
			}
			if b.version < 150000 {
				if err := in.nextOld(); err != nil {
					return err
				}
			}
		case *pgproto3.CopyData:
			if err := in.data(msg.Data); err != nil {
				return err
			}
		case *pgproto3.CopyDone:
			if err := in.finish(); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			said = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			return b.verdict(said, in)
		}
	}
}

// result takes one of the three result sets.
func (b *baseBackup) result(n int, rows [][]string) error {
	switch n {
	case 1, 3:
		if len(rows) != 1 || len(rows[0]) < 2 {
			return errors.New("the server does not say where the backup is in the log")
		}
		lsn, err := ParseLSN(rows[0][0])
		if err != nil {
			return err
		}
		tli, err := strconv.ParseUint(rows[0][1], 10, 32)
		if err != nil {
			return fmt.Errorf("timeline %q: %w", rows[0][1], err)
		}
		if n == 1 {
			b.start, b.timeline = lsn, uint32(tli)
			if b.started == nil {
				return nil
			}
			if err := b.started(); err != nil {
				return fmt.Errorf("its own log: %w", err)
			}
			return nil
		}
		b.stop = lsn
		if uint32(tli) != b.timeline {
			return holdfast.WithHint(fmt.Errorf("the server was promoted from timeline %d to %d during the backup", b.timeline, tli), "run it again")
		}
	case 2:
		for _, row := range rows {
			if len(row) < 3 {
				return errors.New("the server's list of tablespaces has the wrong shape")
			}
			if row[0] != "" && !tablespaceNumber.MatchString(row[0]) {
				return fmt.Errorf("the server names a tablespace %q instead of its number", row[0])
			}
			b.tablespaces = append(b.tablespaces, row[0])
			if kb, err := strconv.ParseInt(row[2], 10, 64); err == nil && kb > 0 && kb < 1<<52 {
				b.total += kb << 10
			}
		}
	default:
		return errors.New("the server answers more than a base backup has")
	}
	return nil
}

// verdict decides what the end of the command means.
func (b *baseBackup) verdict(said *pgconn.PgError, in *archiveReader) error {
	const dataCorrupted = "XX001"
	if said != nil {
		// Damaged pages are reported after everything was sent.
		if said.Code == dataCorrupted && b.stop != 0 && in.complete() && b.manifest.Len() > 0 {
			if b.suspect == "" {
				b.suspect = said.Message
			}
			return nil
		}
		return &serverError{said}
	}
	if b.stop == 0 || !in.complete() || b.manifest.Len() == 0 {
		return errors.New("the server ended the backup early")
	}
	return nil
}

// An archiveReader takes the copy streams apart: tar archives, whose members go to
// the writer as they arrive, and the manifest.
type archiveReader struct {
	ctx      context.Context
	b        *baseBackup
	archives int
	streams  int // copy streams of a server before 15

	pipe       *io.PipeWriter
	done       chan error // the tar goroutine's result; it ends when pipe is closed
	inManifest bool
}

// complete reports whether every archive that the server announced has come.
func (a *archiveReader) complete() bool {
	return a.archives > 0 && a.archives == len(a.b.tablespaces) && a.pipe == nil
}

// nextOld begins a copy stream of a server before 15: the archives in the order of the
// tablespaces, the data directory's last, and then the manifest.
func (a *archiveReader) nextOld() error {
	a.streams++
	switch n := len(a.b.tablespaces); {
	case a.streams <= n:
		return a.open(a.b.tablespaces[a.streams-1])
	case a.streams == n+1:
		a.inManifest = true
	default:
		return errors.New("the server sends more archives than it has tablespaces")
	}
	return nil
}

// data takes one copy message.
func (a *archiveReader) data(p []byte) error {
	if a.b.version < 150000 {
		return a.content(p)
	}
	if len(p) == 0 {
		return errors.New("the server sent an empty message")
	}
	switch kind, body := p[0], p[1:]; kind {
	case 'n': // a new archive: its name and its tablespace's path
		name, rest, ok := bytes.Cut(body, []byte{0})
		location, _, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 {
			return errors.New("the server names an archive in the wrong shape")
		}
		if err := a.finish(); err != nil {
			return err
		}
		number := ""
		if len(location) > 0 {
			number = strings.TrimSuffix(string(name), ".tar")
		}
		return a.open(number)
	case 'm':
		if err := a.finish(); err != nil {
			return err
		}
		a.inManifest = true
	case 'd':
		return a.content(body)
	case 'p':
		if len(body) != 8 {
			return errors.New("the server reports its progress in the wrong shape")
		}
		a.report(int64(binary.BigEndian.Uint64(body)))
	default:
		return fmt.Errorf("the server sent a message of unknown kind %q", kind)
	}
	return nil
}

func (a *archiveReader) content(p []byte) error {
	if a.inManifest {
		if a.b.manifest.Len()+len(p) > maxBackupManifest {
			return fmt.Errorf("the server's manifest is longer than %d bytes", maxBackupManifest)
		}
		a.b.manifest.Write(p)
		return nil
	}
	if a.pipe == nil {
		return errors.New("the server sends data that belongs to no archive")
	}
	if a.b.version < 150000 {
		a.report(a.b.done + int64(len(p)))
	}
	if _, err := a.pipe.Write(p); err != nil {
		return err // what the tar goroutine closed the pipe with
	}
	return nil
}

func (a *archiveReader) report(done int64) {
	a.b.done = done
	a.b.progress(holdfast.Progress{Stage: "copy", Done: done, Total: max(a.b.total, done), Unit: "bytes"})
}

// open starts the goroutine that reads the archive; finish or abort waits for it.
func (a *archiveReader) open(tablespace string) error {
	if a.archives >= len(a.b.tablespaces) || a.b.tablespaces[a.archives] != tablespace {
		return fmt.Errorf("the server sends an archive of tablespace %q that is not next in its list %q", tablespace, a.b.tablespaces)
	}
	a.archives++
	prefix := ""
	if tablespace != "" {
		prefix = linksPrefix + tablespace + "/"
		e := repo.Entry{Path: dataPrefix + linksPrefix + tablespace, Type: repo.TypeDir, Mode: 0o700, ModTime: a.b.source.cfg.Clock()}
		if err := a.b.w.Add(a.ctx, e, nil); err != nil { // an empty one has no member
			return err
		}
	}
	r, w := io.Pipe()
	a.pipe, a.done = w, make(chan error, 1)
	go func() {
		err := a.b.addArchive(a.ctx, r, prefix)
		r.CloseWithError(err) // a nil err reads as a closed pipe: nothing follows the end
		a.done <- err
	}()
	return nil
}

// finish ends the open archive, or the manifest.
func (a *archiveReader) finish() error {
	a.inManifest = false
	if a.pipe == nil {
		return nil
	}
	_ = a.pipe.Close() // never fails
	err := <-a.done
	a.pipe = nil
	return err
}

func (a *archiveReader) abort() {
	if a.pipe != nil {
		_ = a.pipe.CloseWithError(errors.New("the backup was broken off"))
		<-a.done
		a.pipe = nil
	}
}

// addArchive adds each member of the tar stream, and reads it to the end.
func (b *baseBackup) addArchive(ctx context.Context, r io.Reader, prefix string) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, r) // zero blocks behind the end
			return err
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if len(b.hashes) >= maxBackupFiles {
			return fmt.Errorf("the cluster has more than %d files", maxBackupFiles)
		}
		if err := b.addMember(ctx, h, tr, prefix); err != nil {
			return err
		}
	}
}

func (b *baseBackup) addMember(ctx context.Context, h *tar.Header, r io.Reader, prefix string) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	if name == "" {
		return nil
	}
	name = prefix + name
	e := repo.Entry{
		Path: dataPrefix + name, Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid,
		User: h.Uname, Group: h.Gname, ModTime: h.ModTime, Cut: repo.CutContent,
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Type, e.Size = repo.TypeFile, h.Size
	case tar.TypeDir:
		e.Type = repo.TypeDir
		return b.w.Add(ctx, e, nil)
	case tar.TypeSymlink:
		e.Type, e.Target = repo.TypeSymlink, h.Linkname
		return b.w.Add(ctx, e, nil)
	default:
		return fmt.Errorf("the archive holds %q of unknown type %q", name, h.Typeflag)
	}
	if relationFile.MatchString(name) {
		e.Cut = repo.CutPages
	}
	sum := sha256.New()
	n := &countingReader{r: io.TeeReader(r, sum)}
	if err := b.w.Add(ctx, e, n); err != nil {
		return fmt.Errorf("file %q: %w", name, err)
	}
	if n.n != h.Size {
		return fmt.Errorf("file %q: %d bytes of %d were stored", name, n.n, h.Size)
	}
	b.hashes[name] = fileSum{size: n.n, sum: [sha256.Size]byte(sum.Sum(nil))}
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err == io.ErrUnexpectedEOF { // a reader further up may take the bare error for a short last block
		err = fmt.Errorf("the archive ends early: %w", err)
	}
	return n, err
}

// compare holds what passed against the server's manifest.
func (b *baseBackup) compare() error {
	m, err := parseBackupManifest(b.manifest.Bytes())
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, f := range m.Files {
		listed[f.Path] = true
		got, ok := b.hashes[f.Path]
		if !ok {
			return fmt.Errorf("the server lists %q and did not send it", f.Path)
		}
		if want, err := hex.DecodeString(f.Checksum); err != nil || got.size != f.Size || !bytes.Equal(want, got.sum[:]) {
			return fmt.Errorf("file %q arrived with other content than the server lists", f.Path)
		}
	}
	for name := range b.hashes {
		if !listed[name] {
			return fmt.Errorf("the server sent %q and does not list it", name)
		}
	}
	return nil
}

func (b *baseBackup) addMeta(ctx context.Context, name string, content []byte) error {
	e := repo.Entry{Path: name, Type: repo.TypeFile, Mode: 0o600, Size: int64(len(content)), ModTime: b.source.cfg.Clock(), Cut: repo.CutContent}
	return b.w.Add(ctx, e, bytes.NewReader(content))
}
