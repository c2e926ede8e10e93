package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/seal"
)

// A file of an earlier version names chunks as it did; a change is of one store only, is
// read back, and leaves no former key behind. A file that was torn is refused and never
// taken for another key.
func TestNamingsAreKept(t *testing.T) {
	w := Workspace{t.TempDir()}
	if err := os.Mkdir(filepath.Dir(w.Key(KeyDedup)), 0o700); err != nil {
		t.Fatal(err)
	}
	root := seal.NewMACKey()
	if err := seal.WriteKeyFile(w.Key(KeyDedup), root.String()); err != nil {
		t.Fatal(err)
	}
	before, err := readNamings(w)
	if err != nil {
		t.Fatal(err)
	}
	legacy := seal.MACKey(root.ID([]byte("holdfast dedup scope\x00db")))
	if n := before.of("db"); n.Key != legacy || n.Epoch != "" || n.Since.IsZero() || before.of("other").Key == legacy {
		t.Fatal("the keys of an earlier version are others now")
	}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for range 2 {
		changed, err := RenameChunks(w, []string{"db"}, noon)
		if err != nil {
			t.Fatal(err)
		}
		after, err := readNamings(w)
		if err != nil || after.of("db") != changed["db"] || changed["db"].Key == legacy || changed["db"].Epoch == "" || after.of("other") != before.of("other") {
			t.Fatalf("after a change: %v", err)
		}
	}
	text, err := os.ReadFile(w.Key(KeyDedup))
	if err != nil || strings.Count(string(text), "store db ") != 1 {
		t.Errorf("a former key stays: %v", err)
	}
	for n := range text {
		got, err := parseNamings(strings.Join(strings.Split(string(text[:n]), "\n")[1:], "\n"))
		if err == nil && got.root != root {
			t.Fatalf("torn after %d bytes it is another key", n)
		}
		if err != nil && strings.Contains(err.Error(), root.String()) {
			t.Fatal("an error tells the key")
		}
	}
}

func FuzzNamings(f *testing.F) {
	root := seal.NewMACKey().String()
	n, err := parseNamings(root + "\nroot 2026-11-22T12:00:00Z\nstore db 2026-11-22T12:00:00Z " + seal.NewMACKey().String())
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{root, n.text()[strings.Index(n.text(), "\n")+1:], root + "\nstore", root + "\nroot x", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseNamings(text)
		if err != nil {
			return
		}
		again, err := parseNamings(strings.TrimSpace(n.text()[strings.Index(n.text(), "\n")+1:]))
		if n.since.IsZero() {
			return // of an earlier version: the file's own time counts
		}
		if err != nil || again.root != n.root || len(again.stores) != len(n.stores) {
			t.Errorf("%q is read back otherwise: %v", n.text(), err)
		}
	})
}
