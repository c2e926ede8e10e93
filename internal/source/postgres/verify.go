package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/repo"
)

// maxNamed bounds how many damaged files a check names.
const maxNamed = 5

// compareWorkers read restored files at the same time.
const compareWorkers = 4

// notCompared are files of the source that a restore leaves out or makes itself.
func notCompared(name string) bool { return roleFiles[name] }

// generated are files that a restore may add.
var generated = map[string]bool{"postgresql.conf": true, "pg_hba.conf": true, "pg_ident.conf": true}

// CompareManifest holds restored files against the list and hashes that the source's
// own server wrote during the base backup: rung L3. It must run before the replay,
// which changes them.
func CompareManifest(ctx context.Context, snap *repo.Snapshot, dir string) ([]holdfast.Check, error) {
	return compareManifest(ctx, snap, dir, "read back from the disk", compareFiles)
}

// compareManifest holds what compare finds against the manifest. how says where the
// content was seen.
func compareManifest(ctx context.Context, snap *repo.Snapshot, dir, how string, compare func(context.Context, *backupManifest, string) ([]string, int64, error)) ([]holdfast.Check, error) {
	began := time.Now()
	m, err := placedManifest(ctx, snap)
	if err != nil {
		return nil, fmt.Errorf("compare restored files: %w", err)
	}
	ts := tablespacesOf(snap.Manifest())
	wrong, size, err := compare(ctx, m, dir)
	if err != nil {
		return nil, fmt.Errorf("compare restored files: %w", err)
	}
	extra, err := extraFiles(m, dir, ts)
	if err != nil {
		return nil, fmt.Errorf("compare restored files: %w", err)
	}
	wrong = append(wrong, extra...)
	c := holdfast.Check{Rung: holdfast.L3, Name: "restored files equal the server's manifest", Outcome: holdfast.Passed, Grade: holdfast.Proved,
		Detail: fmt.Sprintf("%d files, %d bytes, %s, %s", len(m.Files), size, m.means(), how)}
	if len(wrong) > 0 {
		c.Outcome = holdfast.Failed
		c.Detail = fmt.Sprintf("%d of %d files differ: %s", len(wrong), len(m.Files), strings.Join(wrong[:min(len(wrong), maxNamed)], "; "))
	}
	c.Duration = time.Since(began)
	return []holdfast.Check{c}, nil
}

// means says by what files are compared.
func (m *backupManifest) means() string {
	pages := 0
	for _, f := range m.Files {
		if f.Checksum == "" {
			pages++
		}
	}
	if pages == 0 {
		return "SHA-256"
	}
	return fmt.Sprintf("SHA-256, and %d of them page by page by their checksums", pages)
}

// placedManifest reads a snapshot's manifest, with each file where a restore puts it.
func placedManifest(ctx context.Context, snap *repo.Snapshot) (*backupManifest, error) {
	text, err := readEntry(ctx, snap, manifestPath, maxBackupManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseBackupManifest(text)
	if err != nil {
		return nil, err
	}
	if m.start, err = ParseLSN(snap.Manifest().Labels[LabelStart]); err != nil {
		return nil, err
	}
	ts := tablespacesOf(snap.Manifest())
	for i := range m.Files {
		m.Files[i].Path = ts.place(m.Files[i].Path)
	}
	return m, nil
}

// A contentWitness sees the content of a restored file, in order, and says what is wrong
// with it.
type contentWitness interface {
	io.Writer
	seen() int64
	verdict() string // "" if nothing is
}

// witness makes the one for a file: all of it was read, and has a hash; or only the pages
// that changed, and then each page has a checksum.
func (m *backupManifest) witness(f manifestFile) contentWitness {
	if f.Checksum == "" {
		return &pageWitness{next: f.page.first(), before: m.start}
	}
	return &hashWitness{sum: sha256.New(), want: f.Checksum}
}

// A hashWitness holds a file against its hash.
type hashWitness struct {
	sum  hash.Hash
	size int64
	want string
}

func (w *hashWitness) Write(b []byte) (int, error) {
	w.size += int64(len(b))
	return w.sum.Write(b)
}

func (w *hashWitness) seen() int64 { return w.size }

func (w *hashWitness) verdict() string {
	if !strings.EqualFold(hex.EncodeToString(w.sum.Sum(nil)), w.want) {
		return "has other content"
	}
	return ""
}

// CompareManifest is the function of that name for what Fetch brought.
func (p *RestorePlan) CompareManifest(ctx context.Context) ([]holdfast.Check, error) {
	return CompareManifest(ctx, p.snapshot, p.restore.Dir)
}

// CompareWritten is CompareManifest without reading the files back: content is
// compared as it was on its way to the disk, names and sizes as they are there. In
// a recovery, reading everything once more is a large part of the outage, and an
// engine that is about to start reads it anyway; a disk that changes what was
// written is found by the page checksums.
func (p *RestorePlan) CompareWritten(ctx context.Context) ([]holdfast.Check, error) {
	return compareManifest(ctx, p.snapshot, p.restore.Dir, "as they were written", p.compareWritten)
}

func (p *RestorePlan) compareWritten(_ context.Context, m *backupManifest, dir string) (wrong []string, size int64, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	for _, f := range m.Files {
		if notCompared(f.Path) {
			continue
		}
		info, err := root.Lstat(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			wrong = append(wrong, fmt.Sprintf("%q is missing", f.Path))
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		w := p.written[f.Path]
		switch {
		case !info.Mode().IsRegular() || w == nil:
			wrong = append(wrong, fmt.Sprintf("%q is not the file that was restored", f.Path))
		case info.Size() != f.Size || w.seen() != f.Size:
			wrong = append(wrong, fmt.Sprintf("%q has %d bytes instead of %d", f.Path, info.Size(), f.Size))
		default:
			if why := w.verdict(); why != "" {
				wrong = append(wrong, fmt.Sprintf("%q %s", f.Path, why))
			}
			size += f.Size
		}
	}
	slices.Sort(wrong)
	return wrong, size, nil
}

// compareFiles hashes every listed file and says which ones differ.
func compareFiles(ctx context.Context, m *backupManifest, dir string) (wrong []string, size int64, err error) {
	root, err := os.OpenRoot(dir) // the manifest's paths must not lead elsewhere
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(compareWorkers)
	for _, f := range m.Files {
		if notCompared(f.Path) {
			continue
		}
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, why, err := compareFile(root, m, f)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			size += n
			if why != "" {
				wrong = append(wrong, fmt.Sprintf("%q %s", f.Path, why))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	slices.Sort(wrong)
	return wrong, size, nil
}

func compareFile(root *os.Root, m *backupManifest, f manifestFile) (n int64, why string, err error) {
	file, err := root.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "is missing", nil
	}
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	w := m.witness(f)
	n, err = io.Copy(w, file)
	if err != nil {
		return n, "", err
	}
	if n != f.Size {
		return n, fmt.Sprintf("has %d bytes instead of %d", n, f.Size), nil
	}
	return n, w.verdict(), nil
}

// extraFiles names files that the source did not have.
func extraFiles(m *backupManifest, dir string, ts tablespaces) ([]string, error) {
	listed := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		listed[f.Path] = true
	}
	for number := range ts {
		listed[linksPrefix+number] = true
	}
	var extra []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if !listed[name] && !roleFiles[name] && !generated[name] {
			extra = append(extra, fmt.Sprintf("%q is not in the backup", name))
		}
		return nil
	})
	return extra, err
}
