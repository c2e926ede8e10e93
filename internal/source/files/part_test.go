//go:build linux

package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A part brings back what was asked for, the directories on the way with their
// modes, and a hard link's content also when its first name is not wanted.
func TestPartComesBackAlone(t *testing.T) {
	s := newBench(t)
	s.write("a/b/one.txt", "one")
	s.write("a/b/two.pdf", "two")
	s.write("a/other", "other")
	s.write("c/three.pdf", "three")
	must(t, os.Mkdir(s.path("z"), 0o755))
	must(t, os.Link(s.path("a/other"), s.path("z/linked.pdf")))
	must(t, os.Link(s.path("a/other"), s.path("z/second.pdf")))
	must(t, os.Chmod(s.path("a/b"), 0o750))
	m, _, _, err := s.snapshot(s.source(Config{}))
	must(t, err)
	snap, err := s.r.Snapshot(t.Context(), m, s.keys.Identity)
	must(t, err)
	for _, tt := range []struct {
		name           string
		paths, pattern []string
		want           []string
	}{
		{"file", []string{"a/b/one.txt"}, nil, []string{"a", "a/b", "a/b/one.txt"}},
		{"directory", []string{"/a/b/"}, nil, []string{"a", "a/b", "a/b/one.txt", "a/b/two.pdf"}},
		{"pattern", nil, []string{"*.pdf"}, []string{"a", "a/b", "a/b/two.pdf", "c", "c/three.pdf", "z", "z/linked.pdf", "z/second.pdf"}},
		{"directory by pattern", nil, []string{"b/"}, []string{"a", "a/b", "a/b/one.txt", "a/b/two.pdf"}},
		{"both", []string{"c"}, []string{"/a/oth*"}, []string{"a", "a/other", "c", "c/three.pdf"}},
		{"everything", []string{"."}, nil, []string{"a", "a/b", "a/b/one.txt", "a/b/two.pdf", "a/other", "c", "c/three.pdf", "z", "z/linked.pdf", "z/second.pdf"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			part, err := NewPart(tt.paths, tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "back")
			if _, err := RestorePart(t.Context(), snap, part, dir, nil); err != nil {
				t.Fatal(err)
			}
			var got []string
			err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if rel, _ := filepath.Rel(dir, p); rel != "." {
					got = append(got, rel)
				}
				return err
			})
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("came back: %q, %v, want %q", got, err, tt.want)
			}
			if info, err := os.Stat(filepath.Join(dir, "a/b")); err == nil && info.Mode().Perm() != 0o750 {
				t.Errorf("a/b has mode %s", info.Mode())
			}
			if b, err := os.ReadFile(filepath.Join(dir, "z/second.pdf")); err == nil && string(b) != "other" {
				t.Errorf("the linked file holds %q", b)
			}
		})
	}
	part, err := NewPart([]string{"a/b/three"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RestorePart(t.Context(), snap, part, filepath.Join(t.TempDir(), "back"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	for _, bad := range []string{"", "..", "../x", "a/../../x", "a\x00b"} {
		if _, err := NewPart([]string{bad}, nil); err == nil {
			t.Errorf("path %q is taken", bad)
		}
	}
}
