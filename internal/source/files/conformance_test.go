//go:build linux

package files

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/source"
	"holdfast/internal/source/sourcetest"
)

func TestConformance(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, _ sourcetest.Place) sourcetest.Bed {
		top := t.TempDir()
		dir := filepath.Join(top, "live")
		must(t, os.Mkdir(dir, 0o755))
		store, err := Open(Config{Store: "docs", Path: dir})
		must(t, err)
		gone, err := Open(Config{Store: "docs", Path: filepath.Join(top, "gone")})
		must(t, err)
		written, folders := 0, 0
		state := func(t *testing.T, dir string) string {
			t.Helper()
			var lines []string
			for path, what := range describe(t, dir) {
				lines = append(lines, path+" "+what)
			}
			slices.Sort(lines)
			return strings.Join(lines, "\n")
		}
		return sourcetest.Bed{
			Store: store, Gone: gone, Scope: "docs", Kind: "files",
			Write: func(t *testing.T) {
				t.Helper()
				written++
				must(t, os.WriteFile(filepath.Join(dir, "changes"), fmt.Appendf(nil, "write %d", written), 0o644))
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file %d", written)), []byte("x"), 0o640))
			},
			State:    func(t *testing.T) string { return state(t, dir) },
			Restored: func(t *testing.T, _ source.Restored, dir string) string { return state(t, dir) },
			Folder: func(t *testing.T) string {
				folders++
				return filepath.Join(top, fmt.Sprintf("restored %d", folders))
			},
		}
	})
}
