package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Repositories that earlier versions wrote, with a key and nothing else: what the program
// restores is what the independent decoder restores from the same bytes.
func TestGoldenRepositories(t *testing.T) {
	t.Parallel()
	golden := "../internal/repo/testdata/golden"
	for _, g := range []struct{ name, identity, epochs string }{
		{"sealed to the key", golden + "/v1/identity.txt", ""},
		{"given to the key by an epoch", golden + "/v1-epochs/identity.txt", golden + "/v1-epochs/keys"},
	} {
		t.Run("EXT-09 a repository of an earlier version, "+g.name, func(t *testing.T) {
			dir := place(t)
			left := filepath.Join(dir, "left")
			if err := os.CopyFS(left, os.DirFS(golden+"/v1/repository")); err != nil {
				t.Fatal(err)
			}
			if g.epochs != "" {
				if err := os.CopyFS(filepath.Join(left, "keys"), os.DirFS(g.epochs)); err != nil {
					t.Fatal(err)
				}
			}
			key, err := os.ReadFile(g.identity)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "recovery.age"), string(key), 0o600)
			write(t, filepath.Join(dir, "plan.yaml"), fmt.Sprintf(`apiVersion: holdfast/v1
plan: {id: rescue}
stores:
  files: {kind: files, files: {path: /nowhere}, protect: all}
locations:
  left: {kind: dir, path: %s}
backups:
  all: {every: 1d, copies: [left]}
`, left), 0o644)
			for at, snapshot := range map[string]string{"2026-11-22T10:16:30Z": "20261122T101630Z-017b501d", "2026-11-22T10:17:30Z": "20261122T101730Z-5f9c5cad"} {
				ours, theirs := filepath.Join(dir, "ours-"+snapshot), filepath.Join(dir, "theirs-"+snapshot)
				hf(t, "--dir", dir, "restore", "files", "--at", at, "--to", ours, "--key", filepath.Join(dir, "recovery.age"), "--purpose", "a test").want(t, 0)
				cmd := exec.CommandContext(t.Context(), "python3", "../tools/decode/decode.py", "--identity", g.identity, left, "restore", "files/"+snapshot, theirs)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("decode.py: %v: %s", err, out)
				}
				tree := treeOf(t, theirs)
				if len(tree) < 2 {
					t.Fatalf("decode.py restored %v", tree)
				}
				tree.unchanged(t, ours)
			}
			if ends := hf(t, "--dir", dir, "points", "files").want(t, 0); !strings.Contains(ends.out, "20261122T101630Z-017b501d") {
				t.Errorf("points: %s", ends.out)
			}
		})
	}
}
