package test

import (
	"archive/zip"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// naming returns the files below dir in which any of the words stand, also inside zip
// archives.
func naming(t *testing.T, dir string, words ...string) (out []string) {
	t.Helper()
	has := func(name string, r io.Reader) {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if strings.Contains(strings.ToLower(string(b)), strings.ToLower(w)) {
				out = append(out, name)
				return
			}
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		has(path, f)
		if filepath.Ext(path) != ".zip" {
			return nil
		}
		z, err := zip.OpenReader(path)
		if err != nil {
			return err
		}
		defer z.Close()
		for _, member := range z.File {
			r, err := member.Open()
			if err != nil {
				return err
			}
			has(path+"/"+member.Name, r)
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whoever asks to be erased is erased: from then on nothing that the product keeps says who
// they were, and ledger and packs verify as before.
func TestPersonIsErased(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	private := filepath.Join(w.dir, "people.private.yaml")
	write(t, private, "people:\n  founder-a: {email: \"astrid.kanari@acme.example\", phone: \"+46 70 999 88 77\"}\n  founder-b: {email: \"bo.dahl@acme.example\"}\n", 0o600)
	personal := []string{"kanari", "999 88 77"}
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	s := serve(t, w.dir)
	if page := s.page(t, "/plan"); !strings.Contains(page, "kanari") {
		t.Error("the page does not name the person")
	}
	pack := filepath.Join(w.root, "pack.zip")
	w.run(t, "evidence", "export", "--out", pack).want(t, 0)
	verifies := func() {
		t.Helper()
		w.run(t, "evidence", "verify", pack).want(t, 0)
	}
	verifies()
	before, err := os.ReadFile(pack)
	if err != nil {
		t.Fatal(err)
	}
	if got := naming(t, w.root, personal...); len(got) != 1 || got[0] != private {
		t.Errorf("personal data is not in the one file alone: %q", got)
	}

	w.run(t, "people", "erase", "founder-a").want(t, 0)
	if got := naming(t, w.root, personal...); len(got) != 1 {
		t.Errorf("without --yes something was written: %q", got)
	}
	w.run(t, "people", "erase", "founder-a", "--yes").want(t, 0)
	if got := naming(t, w.root, personal...); len(got) != 0 {
		t.Errorf("the person still stands in %q", got)
	}
	if got := naming(t, w.root, "bo.dahl"); len(got) != 1 {
		t.Errorf("somebody else was erased: %q", got)
	}
	until(t, "the page to forget the person", func() bool { return !strings.Contains(s.page(t, "/plan"), "kanari") })
	if !strings.Contains(s.page(t, "/plan"), "bo.dahl") {
		t.Error("the page forgot somebody else")
	}
	verifies()
	// A pack made now holds the one before, and the ledger goes on.
	w.run(t, "backup", "uploads").want(t, 0)
	next := filepath.Join(w.root, "next.zip")
	w.run(t, "evidence", "export", "--out", next).want(t, 0)
	w.run(t, "evidence", "verify", next).want(t, 0)
	after, err := os.ReadFile(pack)
	if err != nil || string(after) != string(before) {
		t.Errorf("the pack changed: %v", err)
	}
	if got := naming(t, w.root, personal...); len(got) != 0 {
		t.Errorf("the person came back in %q", got)
	}
}
