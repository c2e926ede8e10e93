//go:build linux

package files

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"holdfast"
	"holdfast/internal/repo"
)

// A Part says which entries of a snapshot are wanted: those at or below a path, and
// those that a pattern matches, directories with all that is in them. The zero Part
// is everything.
type Part struct {
	paths    []string
	patterns []pattern
}

// NewPart reads paths and patterns. A path is relative to the store's directory; a
// pattern is one of Config.Exclude.
func NewPart(paths, patterns []string) (Part, error) {
	var p Part
	for _, text := range paths {
		clean := path.Clean(strings.TrimLeft(text, "/"))
		if text == "" || clean == ".." || strings.HasPrefix(clean, "../") || strings.IndexByte(text, 0) >= 0 {
			return Part{}, holdfast.WithHint(fmt.Errorf("path %q: %w", text, holdfast.ErrUsage), "name it as \"holdfast ls\" shows it, below the store's directory")
		}
		p.paths = append(p.paths, clean)
	}
	var err error
	p.patterns, err = parsePatterns(patterns)
	return p, err
}

// Whole reports whether the part is everything.
func (p Part) Whole() bool { return len(p.paths) == 0 && len(p.patterns) == 0 }

// Holds reports whether the part holds an entry.
func (p Part) Holds(name, kind string) bool {
	if p.Whole() {
		return true
	}
	for _, top := range p.paths {
		if top == "." || name == top || strings.HasPrefix(name, top+"/") {
			return true
		}
	}
	if len(p.patterns) == 0 || name == "." {
		return false
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '/' && excluded(p.patterns, name[:i], true) {
			return true
		}
	}
	return excluded(p.patterns, name, kind == repo.TypeDir)
}

// Matches reports whether a pattern of the part matches an entry itself.
func (p Part) Matches(name, kind string) bool {
	return excluded(p.patterns, name, kind == repo.TypeDir)
}

// A selection is what a part means in one snapshot.
type selection struct {
	part  Part
	files int64
	bytes int64
	above map[string]bool   // directories on the way to what is wanted
	moved map[string]string // file that is not wanted itself -> its first wanted name
	first map[string]bool   // those names: the file comes back under them
}

// selects looks through the snapshot. A path that is not there is an error: it was
// mistyped, or the snapshot is the wrong one.
func selects(ctx context.Context, snap *repo.Snapshot, part Part) (*selection, error) {
	sel := &selection{part: part, above: map[string]bool{}, moved: map[string]string{}, first: map[string]bool{}}
	for _, p := range part.paths {
		if _, err := snap.Find(ctx, p); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("%q is not in the snapshot of %s: %w", p, snap.Manifest().Created.UTC().Format("2006-01-02 15:04:05Z"), fs.ErrNotExist),
				"\"holdfast ls %s\" shows what is; \"holdfast find %[1]s NAME\" looks through all points", snap.Manifest().Scope)
		}
	}
	err := snap.Entries(ctx, func(e repo.Entry) error {
		if !part.Holds(e.Path, e.Type) {
			return nil
		}
		sel.files++
		sel.bytes += e.Size
		if e.Type == repo.TypeDir && !part.Holds(e.Path, repo.TypeFile) { // by a pattern for directories
			sel.above[e.Path] = true
		}
		for dir := path.Dir(e.Path); !sel.above[dir]; dir = path.Dir(dir) {
			sel.above[dir] = true
		}
		if e.Type == repo.TypeHardlink && !part.Holds(e.Target, repo.TypeFile) {
			if _, ok := sel.moved[e.Target]; !ok {
				sel.moved[e.Target] = e.Path
				sel.first[e.Path] = true
			}
		}
		return nil
	})
	if err == nil && sel.files == 0 {
		err = holdfast.WithHint(fmt.Errorf("nothing in the snapshot matches: %w", fs.ErrNotExist), "\"holdfast find %s PATTERN\" looks through all points", snap.Manifest().Scope)
	}
	return sel, err
}

// rename is where an entry goes, for repo.ExtractConfig.
func (s *selection) rename(name string) (string, bool) {
	if to, ok := s.moved[name]; ok {
		return to, true
	}
	return name, !s.first[name] && (s.above[name] || s.part.Holds(name, repo.TypeFile))
}

// RestorePart brings a part of a snapshot back into an empty or absent directory.
// Directories on the way keep their owners, modes and times. A hard link to a file
// that is not wanted comes back as a file.
func RestorePart(ctx context.Context, snap *repo.Snapshot, part Part, dir string, progress func(holdfast.Progress)) (repo.ExtractStats, error) {
	if err := checkEmpty(dir); err != nil {
		return repo.ExtractStats{}, err
	}
	sel, err := selects(ctx, snap, part)
	if err != nil {
		return repo.ExtractStats{}, err
	}
	cfg := repo.ExtractConfig{Dir: dir, Owners: os.Geteuid() == 0, Rename: sel.rename}
	if progress != nil {
		cfg.Progress = func(n int64) { progress(holdfast.Progress{Stage: "files", Done: n, Total: sel.bytes, Unit: "bytes"}) }
	}
	return snap.Extract(ctx, cfg)
}

// Measure counts the entries of a part, and the bytes of its files.
func Measure(ctx context.Context, snap *repo.Snapshot, part Part) (entries, bytes int64, err error) {
	sel, err := selects(ctx, snap, part)
	if err != nil {
		return 0, 0, err
	}
	return sel.files, sel.bytes, nil
}
