package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A delta restore makes an existing data directory what a base backup holds. Files whose
// SHA-256 is the manifest's stay as they are, and are not fetched; into the others only the
// pages are written that differ. What the base does not have is removed, once somebody has
// seen the list.
//
// Crash story: before the first change a note in the directory says that it is incomplete,
// and the control file, without which no server starts, is taken away. It is written last.
// Whatever happens in between, the next delta restore goes on from what is there; a restore
// into another directory is possible as before.

const (
	// incompleteNote lies in a data directory that a delta restore has begun and not ended.
	incompleteNote = "HOLDFAST-INCOMPLETE"
	controlPath    = "global/pg_control"

	maxDeltaNote = 4 << 10
	deltaCode    = 8 // hexadecimal digits
)

// A Delta says what a delta restore would change.
type Delta struct {
	Same      int      `json:"same"` // files that stay
	SameBytes int64    `json:"same_bytes"`
	Differ    []string `json:"differ"`  // files of which pages are written
	Missing   []string `json:"missing"` // files that are made
	Bytes     int64    `json:"bytes"`   // of both
	Extra     []string `json:"extra"`   // what the base does not have, and is removed
	// Code stands for the list Extra: whoever has seen it gives it back. Empty: there is
	// nothing to remove.
	Code string `json:"code,omitempty"`

	manifest *backupManifest
	kept     map[string]contentWitness
}

// Delta compares the directory with the base. It changes nothing.
func (p *RestorePlan) Delta(ctx context.Context) (*Delta, error) {
	d, err := p.delta(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare %q with base backup %s: %w", p.restore.Dir, p.Base.ID, err)
	}
	return d, nil
}

func (p *RestorePlan) delta(ctx context.Context) (*Delta, error) {
	if err := p.mayDelta(); err != nil {
		return nil, err
	}
	m, err := placedManifest(ctx, p.snapshot)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(p.restore.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	d := &Delta{manifest: m, kept: map[string]contentWitness{}}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(compareWorkers)
	for _, f := range m.Files {
		if roleFiles[f.Path] {
			continue
		}
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			info, err := root.Lstat(f.Path)
			var same contentWitness
			if err == nil && info.Mode().IsRegular() && info.Size() == f.Size && f.Checksum != "" {
				same, err = p.asListed(root, m, f)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular():
				d.Missing = append(d.Missing, f.Path)
				d.Bytes += f.Size
			case err != nil:
				return err
			case same != nil && f.Path != controlPath: // that one is written anew, last
				d.kept[f.Path] = same
				d.Same++
				d.SameBytes += f.Size
			default:
				d.Differ = append(d.Differ, f.Path)
				d.Bytes += f.Size
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if d.Extra, err = p.extra(m); err != nil {
		return nil, err
	}
	for _, list := range [][]string{d.Differ, d.Missing, d.Extra} {
		slices.Sort(list)
	}
	if len(d.Extra) > 0 {
		h := seal.Hash([]byte(p.Base.ID + "\n" + strings.Join(d.Extra, "\n")))
		d.Code = fmt.Sprintf("%x", h[:deltaCode/2])
	}
	return d, nil
}

// asListed reads a file that is there, and returns its witness if it is what the manifest
// says.
func (p *RestorePlan) asListed(root *os.Root, m *backupManifest, f manifestFile) (contentWitness, error) {
	file, err := root.Open(f.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	w := m.witness(f)
	if _, err := io.Copy(w, file); err != nil {
		return nil, err
	}
	if w.seen() != f.Size || w.verdict() != "" {
		return nil, nil
	}
	return w, nil
}

// mayDelta refuses a directory that is no stopped data directory of this cluster.
func (p *RestorePlan) mayDelta() error {
	dir := p.restore.Dir
	pid, err := serving(dir)
	if err != nil {
		return err
	}
	if pid != 0 || answers(dir) {
		return holdfast.WithHint(fmt.Errorf("a server works in it: %w", holdfast.ErrRefused), "stop the server: \"pg_ctl -D %s stop\"", dir)
	}
	note, err := readNote(dir)
	if err != nil {
		return err
	}
	if note != "" {
		if note != p.noteText() {
			return holdfast.WithHint(fmt.Errorf("it holds a delta restore of another cluster that was broken off: %w", holdfast.ErrRefused),
				"%s there says which; restore into an empty directory", incompleteNote)
		}
		return nil
	}
	c, err := readControlFile(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return holdfast.WithHint(fmt.Errorf("it is no data directory: global/pg_control is missing: %w", holdfast.ErrRefused), "a restore without --delta goes into an empty directory")
	}
	if err != nil {
		return err
	}
	if id := fmt.Sprint(c.System); id != p.Lineage {
		return holdfast.WithHint(fmt.Errorf("it is cluster %s, and the backup is of cluster %s: %w", id, p.Lineage, holdfast.ErrRefused), "check --to; nothing was changed")
	}
	return nil
}

// answers reports whether somebody answers at the socket that postmaster.pid names. The
// server of another container has a number there that is none of our processes.
func answers(dir string) bool {
	const portLine, socketLine = 3, 4
	f, err := os.Open(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPidFile))
	lines := strings.Split(string(b), "\n")
	if err != nil || len(lines) <= socketLine || lines[socketLine] == "" {
		return false
	}
	c, err := net.DialTimeout("unix", filepath.Join(lines[socketLine], ".s.PGSQL."+lines[portLine]), commandTimeout)
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was said
	return true
}

func readNote(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, incompleteNote))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDeltaNote))
	return string(b), err
}

// noteText is what the note says.
func (p *RestorePlan) noteText() string {
	return fmt.Sprintf("Holdfast began to restore store %q, cluster %s, over what was here, and did not end.\nNo server starts from this directory. Run the restore again.\n", p.restore.Scope, p.Lineage)
}

// extra lists what is in the directory and not in the base, apart from folders: in a folder
// that is not in the base every file is extra.
func (p *RestorePlan) extra(m *backupManifest) ([]string, error) {
	listed := map[string]bool{incompleteNote: true, "recovery.signal": true}
	for _, f := range m.Files {
		if !roleFiles[f.Path] {
			listed[f.Path] = true
		}
	}
	for name := range generated {
		listed[name] = true
	}
	var extra []string
	err := filepath.WalkDir(p.restore.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(p.restore.Dir, name)
		if err != nil {
			return err
		}
		if !listed[rel] || !d.Type().IsRegular() {
			extra = append(extra, rel)
		}
		return nil
	})
	return extra, err
}

// applyDelta makes the directory what the base holds, all but the control file.
func (p *RestorePlan) applyDelta(ctx context.Context) (*Delta, error) {
	d, err := p.delta(ctx)
	if err != nil {
		return nil, err
	}
	if d.Code != p.restore.RemoveExtra {
		why := fmt.Sprintf("%d files are not in the base backup and would be removed, the first is %q", len(d.Extra), append(d.Extra, "")[0])
		if len(d.Extra) == 0 {
			why = "there is nothing left to remove"
		}
		return nil, holdfast.WithHint(fmt.Errorf("%s: %w", why, holdfast.ErrRefused), "--delta --dry-run lists them, and says how to go on")
	}
	root, err := os.OpenRoot(p.restore.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := durable.WriteFile(durable.OS, filepath.Join(p.restore.Dir, incompleteNote), []byte(p.noteText()), 0o600); err != nil {
		return nil, err
	}
	if err := root.Remove(controlPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := durable.OS.SyncDir(filepath.Join(p.restore.Dir, "global")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	folders := map[string]bool{}
	for _, name := range d.Extra {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	// Deepest first. The base's own come again; those that still hold something stay.
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(folders))) {
		if err := root.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return nil, err
		}
	}
	return d, nil
}

// endDelta writes the control file and takes the note away: from here on the directory is
// what any restore leaves.
//
// Crash between the two: the note says incomplete of a directory that is complete; the next
// restore finds all files as they should be.
func (p *RestorePlan) endDelta(ctx context.Context) error {
	stats, err := p.snapshot.Extract(ctx, repo.ExtractConfig{
		Dir:     p.restore.Dir,
		Rename:  func(name string) (string, bool) { return controlPath, name == dataPrefix+controlPath },
		Witness: func(string) io.Writer { return p.written[controlPath] },
		Over:    true,
	})
	if err != nil {
		return err
	}
	if stats.Files != 1 {
		return fmt.Errorf("the base backup holds %d control files", stats.Files)
	}
	if err := os.Remove(filepath.Join(p.restore.Dir, incompleteNote)); err != nil {
		return err
	}
	return durable.OS.SyncDir(p.restore.Dir)
}
