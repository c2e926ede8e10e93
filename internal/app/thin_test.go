package app

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	sumdb "golang.org/x/mod/sumdb/note"

	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// Of the anchors of years a few hundred stay: the newest of each stretch. What is not
// what the ledger says stays too, and so does what a lock may still hold.
func TestAnchorsAreThinned(t *testing.T) {
	ctx := t.Context()
	d, err := db.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if err := d.Migrate(ctx, ledger.Tables()); err != nil {
		t.Fatal(err)
	}
	key, err := seal.GenerateSigningKey("log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err1 := seal.NoteSigner(key)
	v, err2 := seal.NoteVerifier(key.Public())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	end := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := end.Add(-500 * 24 * time.Hour)
	l, err := ledger.Open(d, ledger.Config{Origin: "test", Signer: signer, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	mem := repotest.NewMemory()
	r := repotest.Init(ctx, t, mem, "r1")
	size, made := 0, map[int]time.Time{}
	name := func(size int) string { return fmt.Sprintf("%s%012d", anchorPrefix, size) }
	for !now.After(end) {
		if err := d.Tx(ctx, func(tx *db.Tx) error {
			_, err := l.Append(ctx, tx, ledger.Fact{Type: "test", At: now})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		signed, err := l.Checkpoint(ctx)
		if err != nil {
			t.Fatal(err)
		}
		size++
		if err := r.PutAnchor(ctx, name(size), signed); err != nil {
			t.Fatal(err)
		}
		made[size] = now
		switch age := end.Sub(now); { // closer together than what stays, everywhere
		case age > 402*24*time.Hour:
			now = now.Add(8 * 24 * time.Hour)
		case age > 398*24*time.Hour, age > 36*24*time.Hour && age < 38*24*time.Hour:
			now = now.Add(9 * time.Hour)
		case age > 38*24*time.Hour:
			now = now.Add(30 * 24 * time.Hour)
		case age < 51*time.Hour, age > 29*24*time.Hour && age < 30*24*time.Hour:
			now = now.Add(25 * time.Minute)
		default:
			now = now.Add(21 * time.Hour)
		}
	}
	now = end
	// One that says something else, though it bears our signature, and one of a stranger.
	fork, err := l.Tree(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	fork.Root[0] ^= 1
	stranger, _ := seal.GenerateSigningKey("log")
	strangers, _ := seal.NoteSigner(stranger)
	for n, s := range map[int]func() ([]byte, error){
		1: func() ([]byte, error) { return sumdb.Sign(&sumdb.Note{Text: fork.String()}, signer) },
		2: func() ([]byte, error) {
			tree, _ := l.Tree(ctx, 2)
			return sumdb.Sign(&sumdb.Note{Text: tree.String()}, strangers)
		},
	} {
		b, err := s()
		if err != nil {
			t.Fatal(err)
		}
		mem.Set("anchors/"+name(n), b)
	}
	listed := func() (sizes []int) {
		all, err := r.Anchors(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			sizes = append(sizes, int(anchorSize(n)))
		}
		return sizes
	}
	locked := end.Add(-390 * 24 * time.Hour)
	if _, err := thin(ctx, l, v, r, end, locked); err != nil {
		t.Fatal(err)
	}
	for n, at := range made {
		if !at.Before(locked) && !slices.Contains(listed(), n) {
			t.Errorf("an anchor of %s is gone before its lock", at)
		}
	}
	if _, err := thin(ctx, l, v, r, end, end); err != nil {
		t.Fatal(err)
	}
	left := listed()
	stays := map[string]int{}
	for n, at := range made {
		if s := stretch(at, end); s == "" {
			if !slices.Contains(left, n) {
				t.Errorf("a young anchor, of %s, is gone", at)
			}
		} else {
			stays[s] = max(stays[s], n)
		}
	}
	for s, n := range stays {
		if !slices.Contains(left, n) {
			t.Errorf("of %s nothing is left", s)
		}
	}
	for n, at := range made {
		if s := stretch(at, end); s != "" && stays[s] != n && n > 2 && slices.Contains(left, n) {
			t.Errorf("an anchor of %s stays, though a later one of %s stands for it", at, s)
		}
	}
	if !slices.Contains(left, 1) || !slices.Contains(left, 2) {
		t.Error("what is proof of another history is gone")
	}
	if len(left) >= len(made)-30 {
		t.Errorf("%d of %d are left", len(left), len(made))
	}
	if gone, err := thin(ctx, l, v, r, end, end); err != nil || gone != 0 {
		t.Errorf("again: %d, %v", gone, err)
	}
}
