package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// FetchStats says what a fetch brought.
type FetchStats struct {
	Files     int64
	Bytes     int64 // of files
	Kept      int64 // bytes of files that were there already (Delta)
	LogBytes  int64
	Segments  int
	Records   int64     // complete log records from the base's start to the goal
	Goal      string    // the position of the last record to replay; "" when only the server can tell
	GoalTime  time.Time // of the last transaction that it includes
	FileTime  time.Duration
	LogTime   time.Duration
	Total     time.Duration
	Generated []string // configuration files that had to be written, since the source's lay elsewhere
}

// shelfProgram is the copy of our program on the shelf, where one is needed.
const shelfProgram = "holdfast"

// maxSettings bounds the captured settings that are read back.
const maxSettings = 16 << 20

// shelfDir is the folder beside the data directory that the log is served from.
func (p *RestorePlan) shelfDir() string { return p.restore.Dir + ".wal" }

// Fetch brings the files and the log. It must be called once, before Replay.
//
// Crash story: the recovery signal is on disk before the first byte of data. A fetch
// that is broken off leaves a folder that no server opens: with the signal and
// without a restore command it refuses to start, where it would otherwise open
// read-write on production's own timeline. Fetch refuses a folder that is not
// empty, so the next attempt begins in a new one.
func (p *RestorePlan) Fetch(ctx context.Context) (FetchStats, error) {
	stats, err := p.fetch(ctx)
	if err != nil {
		return stats, fmt.Errorf("fetch %q: %w", p.restore.Scope, err)
	}
	return stats, nil
}

func (p *RestorePlan) fetch(ctx context.Context) (FetchStats, error) {
	var stats FetchStats
	r := &p.restore
	began := r.Clock()
	if err := p.makeDirs(); err != nil {
		return stats, err
	}
	var have *Delta // what is there already
	if r.Delta {
		var err error
		if have, err = p.applyDelta(ctx); err != nil {
			return stats, err
		}
	}
	if err := durable.WriteFile(durable.OS, filepath.Join(r.Dir, "recovery.signal"), nil, 0o600); err != nil {
		return stats, err
	}

	// Files and log come at the same time: they wait for different things.
	var done atomic.Int64
	total := p.Base.Bytes + p.LogBytes
	report := func(n int64) {
		r.Progress(holdfast.Progress{Stage: "fetch", Done: min(done.Add(n), total), Total: total, Unit: "bytes"})
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var err error
		stats.Files, stats.Bytes, err = p.fetchFiles(gctx, have, report)
		stats.FileTime = r.Clock().Sub(began)
		return err
	})
	g.Go(func() error {
		log, err := p.fetchLog(gctx, report)
		stats.LogBytes, stats.Segments = log.bytes, log.segments
		stats.LogTime = r.Clock().Sub(began)
		return err
	})
	if err := g.Wait(); err != nil {
		return stats, err
	}
	var err error
	if stats.Generated, err = p.completeConfig(ctx); err != nil {
		return stats, err
	}
	if err := p.outside.link(r.Dir); err != nil {
		return stats, err
	}
	if r.Delta {
		if err := p.endDelta(ctx); err != nil {
			return stats, err
		}
		stats.Kept = p.kept + have.SameBytes
	}
	if err := errors.Join(own(r.Runner, r.Dir), own(r.Runner, p.shelfDir())); err != nil {
		return stats, err
	}
	stats.Records, stats.GoalTime = p.goal.Records, p.goal.LastCommit
	if p.goal.Record.End != 0 {
		stats.Goal = p.goal.Record.End.String()
	}
	stats.Total = r.Clock().Sub(began)
	return stats, nil
}

// makeDirs makes the data directory and the shelf, both empty. A shelf that an
// earlier attempt left is taken away first: it is ours, and nothing in it is the only copy.
func (p *RestorePlan) makeDirs() error {
	if err := clearShelf(p.shelfDir()); err != nil {
		return err
	}
	for _, dir := range []string{p.restore.Dir, p.shelfDir()} {
		if p.restore.Delta && dir == p.restore.Dir {
			continue
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return holdfast.WithHint(fmt.Errorf("folder %q is not empty: %w", dir, fs.ErrExist), "restore into a new folder")
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// clearShelf removes a shelf, and only a shelf.
func clearShelf(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !segmentPattern.MatchString(name) && !historyPattern.MatchString(name) && name != shelfIndexName && name != shelfProgram {
			return nil // somebody else's: makeDirs refuses it
		}
	}
	return os.RemoveAll(dir)
}

// roleFiles decide what a server becomes when it starts. The copied ones are those
// of the source's role: a standby.signal would keep the restored server from ever
// promoting.
var roleFiles = map[string]bool{
	"standby.signal": true, "recovery.signal": true, "promote": true, "postmaster.pid": true, "postmaster.opts": true,
	tablespaceMap: true,
}

func (p *RestorePlan) fetchFiles(ctx context.Context, have *Delta, report func(int64)) (files, size int64, err error) {
	var before int64
	m, err := placedManifest(ctx, p.snapshot)
	if err != nil {
		return 0, 0, err
	}
	listed := make(map[string]manifestFile, len(m.Files))
	for _, f := range m.Files {
		listed[f.Path] = f
	}
	p.written = map[string]contentWitness{}
	if have != nil {
		p.written[controlPath] = m.witness(listed[controlPath])
		maps.Copy(p.written, have.kept)
	}
	stats, err := p.snapshot.Extract(ctx, repo.ExtractConfig{
		Dir: p.restore.Dir, Workers: p.restore.Workers,
		Rename: func(path string) (string, bool) {
			name, ok := strings.CutPrefix(path, dataPrefix)
			place := p.outside.place(name)
			if have != nil && (name == controlPath || have.kept[place] != nil) {
				return place, false
			}
			return place, ok && !roleFiles[name]
		},
		Progress: func(n int64) { // the calls do not overlap
			report(n - before)
			before = n
		},
		Witness: func(name string) io.Writer { // asked by one goroutine
			f, ok := listed[name]
			if !ok { // the comparison says so
				return nil
			}
			w := m.witness(f)
			p.written[name] = w
			return w
		},
		// The server syncs the folder itself before it replays: the control file says
		// that the cluster was not shut down.
		NoSync: have == nil, // the control file comes when all else is durable
		Over:   have != nil,
	})
	p.kept = stats.Kept
	return stats.Files, stats.Bytes, err
}

// completeConfig writes what the server needs to start and the source kept outside
// its data directory.
func (p *RestorePlan) completeConfig(ctx context.Context) ([]string, error) {
	var rec *settingsRecord
	var written []string
	for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
		path := filepath.Join(p.restore.Dir, name)
		if _, err := os.Lstat(path); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if rec == nil {
			b, err := p.readMeta(ctx, settingsPath, maxSettings)
			if err != nil {
				return nil, err
			}
			rec = new(settingsRecord)
			if err := json.Unmarshal(b, rec); err != nil {
				return nil, fmt.Errorf("captured settings: %w", err)
			}
		}
		text := "# Written by Holdfast: the source's own file lay outside the data directory.\n"
		switch name {
		case "postgresql.conf":
			text = rec.configText()
		case "pg_hba.conf":
			text = rec.accessText()
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
		written = append(written, name)
	}
	return written, nil
}

// readMeta reads a small file of the snapshot.
func (p *RestorePlan) readMeta(ctx context.Context, name string, limit int64) ([]byte, error) {
	return readEntry(ctx, p.snapshot, name, limit)
}

func readEntry(ctx context.Context, snap *repo.Snapshot, name string, limit int64) ([]byte, error) {
	e, err := snap.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	if e.Size > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, e.Size, limit)
	}
	b := make([]byte, e.Size)
	if _, err := io.ReadFull(snap.OpenContext(ctx, e), b); err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return b, nil
}

// A fetchedLog says what fetchLog wrote.
type fetchedLog struct {
	bytes    int64
	segments int
}

// fetchLog writes the shelf: segment files made of pieces, histories, the index
// last. On the way it walks every record and finds the goal.
func (p *RestorePlan) fetchLog(ctx context.Context, report func(int64)) (fetchedLog, error) {
	sh := shelf{SegmentSize: p.base.segmentSize, Files: map[string]shelfFile{}}
	seek, err := newGoalSeeker(p.restore.Target, p.base)
	if err != nil {
		return fetchedLog{}, err
	}
	stream := readAhead(ctx, p.restore.Workers, p.legs, func(ctx context.Context, info repo.LogInfo, from, until uint64) ([]byte, error) {
		data, err := p.readPiece(ctx, info, from, until)
		if err == nil {
			report(int64(len(data)))
		}
		return data, err
	})
	defer stream.close()
	w := &segmentWriter{dir: p.shelfDir(), shelf: &sh}
	defer w.abort()
	err = walkLog(ctx, p, 0, seek.record, func(n int) { seek.goal.Bytes += int64(n) }, func() ([]byte, error) {
		at, b, err := stream.next()
		if err != nil {
			return nil, err
		}
		return b, w.write(at, b)
	})
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return fetchedLog{}, err
	}
	if p.goal, err = seek.result(p.restore.Target.String()); err != nil {
		return fetchedLog{}, err
	}
	if err := p.shelveProgram(ctx); err != nil {
		return fetchedLog{}, err
	}
	for tli, text := range p.histories {
		name := fmt.Sprintf("%08X.history", tli)
		if err := os.WriteFile(filepath.Join(p.shelfDir(), name), text, 0o600); err != nil {
			return fetchedLog{}, err
		}
		sh.Files[name] = sumOf(text)
	}
	index, err := json.Marshal(sh)
	if err != nil {
		return fetchedLog{}, err
	}
	if err := os.WriteFile(filepath.Join(p.shelfDir(), shelfIndexName), index, 0o600); err != nil {
		return fetchedLog{}, err
	}
	return fetchedLog{bytes: seek.goal.Bytes, segments: w.count}, nil
}

func sumOf(b []byte) shelfFile {
	h := seal.Hash(b)
	return shelfFile{Size: int64(len(b)), Hash: hex.EncodeToString(h[:])}
}

// A place in the log: a timeline and the position of the bytes that follow.
type logPosition struct {
	timeline uint32
	lsn      uint64
}

// A pieceStream reads pieces ahead, several at a time, and hands them out in order.
type pieceStream struct {
	queue  chan chan pieceResult
	cancel context.CancelFunc
	group  *errgroup.Group
}

type pieceResult struct {
	at   logPosition
	data []byte
	err  error
}

// readAhead starts reading. Each leg's bytes come cut to the leg: pieces may
// overlap, and the last one before a fork may go on behind it.
//
// What is in the queue has its reader, so that next never waits for a result that
// nobody will bring.
func readAhead(ctx context.Context, workers int, legs []leg, read func(ctx context.Context, info repo.LogInfo, from, until uint64) ([]byte, error)) *pieceStream {
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	s := &pieceStream{queue: make(chan chan pieceResult, 2*workers), cancel: cancel, group: g}
	slots := make(chan struct{}, workers)
	g.Go(func() error {
		defer close(s.queue)
		for _, l := range legs {
			pos := l.from
			for _, info := range l.pieces {
				from, until := pos, min(info.End, l.until)
				pos = until
				if until <= from {
					continue
				}
				result := make(chan pieceResult, 1)
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return ctx.Err()
				}
				select {
				case s.queue <- result:
				case <-ctx.Done():
					return ctx.Err()
				}
				g.Go(func() error {
					defer func() { <-slots }()
					data, err := read(ctx, info, from, until)
					result <- pieceResult{at: logPosition{info.Timeline, from}, data: data, err: err}
					return nil
				})
			}
		}
		return nil
	})
	return s
}

func (p *RestorePlan) readPiece(ctx context.Context, info repo.LogInfo, from, until uint64) ([]byte, error) {
	if isOwn(info) {
		return p.readOwn(ctx, info, from, until)
	}
	data, piece, err := p.restore.Repo.ReadLog(ctx, info, p.restore.Identities...)
	if err != nil {
		return nil, fmt.Errorf("log piece %q: %w", info.Name, err)
	}
	if piece.Start != info.Start || piece.End != info.End || piece.Timeline != info.Timeline || uint64(len(data)) != info.End-info.Start {
		return nil, fmt.Errorf("log piece %q holds something else than its name says", info.Name)
	}
	return data[from-info.Start : until-info.Start], nil
}

// next returns the next bytes, or io.EOF.
func (s *pieceStream) next() (logPosition, []byte, error) {
	result, ok := <-s.queue
	if !ok {
		if err := s.group.Wait(); err != nil {
			return logPosition{}, nil, err
		}
		return logPosition{}, nil, io.EOF
	}
	r := <-result
	return r.at, r.data, r.err
}

// close stops reading ahead and waits for the readers.
func (s *pieceStream) close() {
	s.cancel()
	_ = s.group.Wait() // an error was reported by next, or is the cancelling
}

// A segmentWriter puts bytes together to segment files.
type segmentWriter struct {
	dir   string
	shelf *shelf

	file  *os.File
	name  string
	at    logPosition // where the next bytes belong
	sum   hashWriter
	count int
}

type hashWriter interface {
	io.Writer
	Sum(b []byte) []byte
}

// write takes bytes that follow the ones before, or begin a segment of another
// timeline.
func (w *segmentWriter) write(at logPosition, b []byte) error {
	size := uint64(w.shelf.SegmentSize)
	if w.file != nil && at != w.at {
		return fmt.Errorf("log goes on at %s on timeline %d instead of %s on %d", FormatLSN(at.lsn), at.timeline, FormatLSN(w.at.lsn), w.at.timeline)
	}
	w.at = at
	for len(b) > 0 {
		if w.file == nil {
			if w.at.lsn%size != 0 {
				return fmt.Errorf("log begins at %s, in the middle of a segment", FormatLSN(w.at.lsn))
			}
			if err := w.open(); err != nil {
				return err
			}
		}
		n := min(uint64(len(b)), size-w.at.lsn%size)
		if _, err := w.file.Write(b[:n]); err != nil {
			return err
		}
		_, _ = w.sum.Write(b[:n]) // a hash never fails
		w.at.lsn += n
		b = b[n:]
		if w.at.lsn%size == 0 {
			if err := w.close(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *segmentWriter) open() (err error) {
	segno := w.at.lsn / uint64(w.shelf.SegmentSize)
	w.name = segmentName(w.at.timeline, segno, w.shelf.SegmentSize)
	w.sum = seal.NewHash()
	w.file, err = os.OpenFile(filepath.Join(w.dir, w.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if n := len(w.shelf.Ranges); n > 0 && w.shelf.Ranges[n-1].Timeline == w.at.timeline {
		w.shelf.Ranges[n-1].Last = segno
	} else {
		w.shelf.Ranges = append(w.shelf.Ranges, shelfRange{Timeline: w.at.timeline, First: segno, Last: segno})
	}
	return nil
}

func (w *segmentWriter) close() error {
	w.shelf.Files[w.name] = shelfFile{Size: w.shelf.SegmentSize, Hash: hex.EncodeToString(w.sum.Sum(nil))}
	w.count++
	err := w.file.Close()
	w.file = nil
	return err
}

// finish fills the last segment with zeros to its full size: the replay ends at the
// last good record, where a short file would stop the server.
func (w *segmentWriter) finish() error {
	if w.file == nil {
		return nil
	}
	size := w.shelf.SegmentSize
	rest := size - int64(w.at.lsn%uint64(size))
	if err := w.file.Truncate(size); err != nil {
		return err
	}
	if _, err := io.CopyN(w.sum, zeros{}, rest); err != nil {
		return err
	}
	return w.close()
}

func (w *segmentWriter) abort() {
	if w.file != nil {
		_ = w.file.Close() // the shelf has no index and is never used
		w.file = nil
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// shelveProgram makes sure that the server's account can run the restore command: a
// program under /root, or in a closed folder, is copied onto the shelf.
func (p *RestorePlan) shelveProgram(ctx context.Context) error {
	r := &p.restore
	// Without arguments the restore command does nothing and says so with 255.
	cmd := r.Runner.Command(ctx, r.Program, "restore-command")
	if err := cmd.Run(); cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == restoreFailed {
		return nil
	} else if ctx.Err() != nil {
		return context.Cause(ctx)
	} else if err == nil || cmd.ProcessState != nil {
		return fmt.Errorf("program %q has no restore command (it ended with %v)", r.Program, cmd.ProcessState)
	}
	src, err := os.Open(r.Program)
	if err != nil {
		return err
	}
	defer src.Close()
	to := filepath.Join(p.shelfDir(), shelfProgram)
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err := errors.Join(err, dst.Close()); err != nil {
		return err
	}
	r.Program = to
	return nil
}

// Clean removes the log that was fetched for the replay. A server that was promoted
// needs it no more.
func (p *RestorePlan) Clean() error { return os.RemoveAll(p.shelfDir()) }
