package repo_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/repo"
)

// Browsing gives what a walk over the whole list gives, wherever the pieces of the
// list begin and end.
func TestBrowsingSeesWhatAWalkSees(t *testing.T) {
	for _, sorted := range []bool{true, false} {
		t.Run(fmt.Sprintf("sorted=%t", sorted), func(t *testing.T) {
			b := newBed(t)
			w, err := repo.NewWriter(t.Context(), b.config())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			var entries []repo.Entry
			long := strings.Repeat("n", 180)
			add := func(p, kind string) {
				entries = append(entries, repo.Entry{Path: p, Type: kind, Mode: 0o755, ModTime: start, Target: map[bool]string{true: "x"}[kind == repo.TypeSymlink]})
			}
			add(".", repo.TypeDir)
			for d := range 6 {
				dir := fmt.Sprintf("d%02d", d)
				add(dir, repo.TypeDir)
				for f := range []int{40, 2500, 14_000}[d%3] { // less than a piece of the list, about one, several
					add(fmt.Sprintf("%s/%05d%s", dir, f, long), repo.TypeSymlink)
				}
				add(dir+"/sub", repo.TypeDir)
				add(dir+"/sub/deep", repo.TypeSymlink)
				add(dir+".side", repo.TypeSymlink) // sorts behind what is in dir
			}
			if !sorted {
				slices.Reverse(entries)
			}
			for _, e := range entries {
				if err := w.Add(t.Context(), e, nil); err != nil {
					t.Fatal(err)
				}
			}
			m, _, err := w.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s, err := b.repo.Snapshot(t.Context(), m, b.keys.Identity)
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{".", "d00", "d01", "d05/sub", "d02", "nothing", "d01/sub/deep"} {
				var under, children []string
				for _, e := range entries {
					if dir == "." || e.Path == dir || strings.HasPrefix(e.Path, dir+"/") {
						under = append(under, e.Path)
					}
					if e.Path != "." && path.Dir(e.Path) == dir {
						children = append(children, e.Path)
					}
				}
				var got []string
				keep := func(e repo.Entry) error { got = append(got, e.Path); return nil }
				if err := s.Under(t.Context(), dir, keep); err != nil || !slices.Equal(got, under) {
					t.Errorf("under %q: %d paths, %v, want %d", dir, len(got), err, len(under))
				}
				got = nil
				if err := s.Children(t.Context(), dir, keep); err != nil || !slices.Equal(got, children) {
					t.Errorf("in %q: %d paths, %v, want %d", dir, len(got), err, len(children))
				}
			}
			for _, e := range []repo.Entry{entries[0], entries[1], entries[len(entries)/2], entries[len(entries)-1]} {
				if got, err := s.Find(t.Context(), e.Path); err != nil || got.Path != e.Path {
					t.Errorf("find %q: %q, %v", e.Path, got.Path, err)
				}
			}
			for _, p := range []string{"d", "d01/zzz", "zzz", "d11.side/x"} {
				if _, err := s.Find(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("find %q: %v", p, err)
				}
			}
		})
	}
}
