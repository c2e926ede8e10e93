package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

const origin = "example.com/holdfast"

var tables = []db.Module{ledger.Tables()}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type keys struct {
	signer   note.Signer
	verifier note.Verifier
}

func newKeys(t testing.TB) keys {
	t.Helper()
	k, err := seal.GenerateSigningKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NoteSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	v, err := seal.NoteVerifier(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keys{s, v}
}

func open(t testing.TB, d *db.DB, k keys) *ledger.Log {
	t.Helper()
	l, err := ledger.Open(d, ledger.Config{Origin: origin, Signer: k.signer, Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendFact(ctx context.Context, d *db.DB, l *ledger.Log, f ledger.Fact) (index int64, err error) {
	err = d.Tx(ctx, func(tx *db.Tx) error {
		index, err = l.Append(ctx, tx, f)
		return err
	})
	return index, err
}

func fact(n int) ledger.Fact {
	return ledger.Fact{Type: "drill.finished", Subject: fmt.Sprintf("stores.db%d", n%3), Actor: "runner-1",
		At: noon.Add(time.Duration(n) * time.Minute), Plan: "sha256:abc", Data: json.RawMessage(fmt.Sprintf(`{"n": %d, "text": "<a> & \u2028"}`, n))}
}

func fill(t testing.TB, d *db.DB, l *ledger.Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if got, err := appendFact(t.Context(), d, l, fact(n)); err != nil || got != int64(n) {
			t.Fatalf("append %d: %d, %v", n, got, err)
		}
	}
}

func checkpoint(t testing.TB, l *ledger.Log, k keys) ([]byte, ledger.Tree) {
	t.Helper()
	signed, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := ledger.OpenCheckpoint(signed, origin, k.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return signed, tree
}

func exec(t testing.TB, d *db.DB, q string, args ...any) {
	t.Helper()
	err := d.Tx(t.Context(), func(tx *db.Tx) error {
		n, err := tx.Exec(t.Context(), q, args...)
		if err == nil && n == 0 {
			err = errors.New("no row changed")
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func leafBytes(leaves []ledger.Leaf) [][]byte {
	var b [][]byte
	for _, l := range leaves {
		b = append(b, l.Bytes)
	}
	return b
}

// Whatever the size, checkpoint, leaves, hashes and proofs agree with a tree
// computed from nothing but the leaf bytes.
func TestProofsAtEverySize(t *testing.T) {
	dbtest.Each(t, tables, func(t *testing.T, d *db.DB) {
		ctx, k := t.Context(), newKeys(t)
		l := open(t, d, k)
		var trees []ledger.Tree
		const size = 21
		for n := range size + 1 {
			signed, tree := checkpoint(t, l, k)
			again, err := l.Checkpoint(ctx)
			if err != nil || string(again) != string(signed) {
				t.Errorf("size %d: a second checkpoint differs: %v", n, err)
			}
			trees = append(trees, tree)
			leaves, err := l.Facts(ctx, 0, int64(n))
			if err != nil {
				t.Fatal(err)
			}
			hashes, err := l.LeafHashes(ctx, int64(n))
			if err != nil {
				t.Fatal(err)
			}
			for from := range n + 1 {
				if damage := ledger.VerifyRange(tree, hashes, int64(from), int64(n), leafBytes(leaves[from:])); damage != nil {
					t.Fatalf("size %d from %d: %v", n, from, damage)
				}
			}
			if n < size {
				fill(t, d, l, n, n+1)
			}
		}
		for newer := range trees {
			for older := range newer + 1 {
				var proof tlog.TreeProof
				if older > 0 {
					var err error
					if proof, err = l.Consistency(ctx, int64(older), int64(newer)); err != nil {
						t.Fatal(err)
					}
				}
				if err := ledger.CheckConsistency(trees[older], trees[newer], proof); err != nil {
					t.Errorf("%d to %d: %v", older, newer, err)
				}
				wrong := trees[older]
				wrong.Root[3] ^= 1
				if err := ledger.CheckConsistency(wrong, trees[newer], proof); older > 0 && !errors.Is(err, ledger.ErrFork) {
					t.Errorf("%d to %d with another root: %v, want ErrFork", older, newer, err)
				}
				if err := ledger.CheckConsistency(trees[newer], trees[older], proof); older < newer && !errors.Is(err, ledger.ErrTruncated) {
					t.Errorf("%d to %d: %v, want ErrTruncated", newer, older, err)
				}
			}
			for i := range newer {
				proof, err := l.Inclusion(ctx, int64(i), int64(newer))
				if err != nil {
					t.Fatal(err)
				}
				leaves, err := l.Facts(ctx, int64(i), int64(i+1))
				if err != nil {
					t.Fatal(err)
				}
				if err := tlog.CheckRecord(proof, int64(newer), trees[newer].Root, int64(i), tlog.RecordHash(leaves[0].Bytes)); err != nil {
					t.Errorf("inclusion of %d in %d: %v", i, newer, err)
				}
			}
		}
		if err := l.Verify(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestFactsAndFind(t *testing.T) {
	dbtest.Each(t, tables, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		l := open(t, d, newKeys(t))
		fill(t, d, l, 0, 7)
		leaves, err := l.Facts(ctx, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"holdfast_fact":1,"index":2,"type":"drill.finished","subject":"stores.db2","actor":"runner-1",` +
			`"at":"2026-03-01T12:02:00Z","logged":"2026-03-01T12:00:00Z","plan":"sha256:abc","data":{"n":2,"text":"<a> & \u2028"}}`
		if got := string(leaves[0].Bytes); got != want {
			t.Errorf("leaf\n%s\nwant\n%s", got, want)
		}
		tests := []struct {
			q    ledger.Query
			want string
		}{
			{ledger.Query{}, "0 1 2 3 4 5 6"},
			{ledger.Query{Newest: true, Limit: 2}, "6 5"},
			{ledger.Query{Subject: "stores.db1"}, "1 4"},
			{ledger.Query{Type: "drill.*", Limit: 1}, "0"},
			{ledger.Query{Type: "drill_*"}, ""},
			{ledger.Query{Type: "drill"}, ""},
			{ledger.Query{From: noon.Add(2 * time.Minute), To: noon.Add(4 * time.Minute)}, "2 3"},
		}
		for _, tt := range tests {
			facts, err := l.Find(ctx, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range facts {
				got = append(got, fmt.Sprint(f.Index))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%+v: %v, want %s", tt.q, got, tt.want)
			}
		}
		if _, err := l.Facts(ctx, 5, 8); !errors.Is(err, ledger.ErrTruncated) {
			t.Errorf("facts beyond the end: %v", err)
		}
	})
}

func TestAppendRefusesBadFacts(t *testing.T) {
	d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
	l := open(t, d, newKeys(t))
	for what, change := range map[string]func(*ledger.Fact){
		"no type":      func(f *ledger.Fact) { f.Type = "" },
		"no time":      func(f *ledger.Fact) { f.At = time.Time{} },
		"long subject": func(f *ledger.Fact) { f.Subject = strings.Repeat("a", ledger.MaxText+1) },
		"broken UTF-8": func(f *ledger.Fact) { f.Actor = "a\xff" },
		"no JSON":      func(f *ledger.Fact) { f.Data = json.RawMessage("{") },
		"broken data":  func(f *ledger.Fact) { f.Data = json.RawMessage("\"\xff\"") },
		"two values":   func(f *ledger.Fact) { f.Data = json.RawMessage("1\n2") },
		"long data":    func(f *ledger.Fact) { f.Data = json.RawMessage(`"` + strings.Repeat("a", ledger.MaxLeaf) + `"`) },
	} {
		f := fact(0)
		change(&f)
		if _, err := appendFact(t.Context(), d, l, f); err == nil {
			t.Errorf("%s: appended", what)
		}
	}
	if n, err := l.Size(t.Context()); n != 0 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	other, err := ledger.Open(d, ledger.Config{Origin: "example.com/other", Signer: newKeys(t).signer})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, l, 0, 1)
	if _, err := appendFact(t.Context(), d, other, fact(1)); err == nil || errors.Is(err, ledger.ErrRefused) {
		t.Errorf("append to the log of another origin: %v", err)
	}
}

// Writers of two servers append at once, and some of their transactions fail
// after the append. No index may be missing or given twice, and a fact must be
// there exactly if what it tells was committed.
func TestConcurrentAppendsAreGapless(t *testing.T) {
	dbtest.Each(t, append(tables, dbtestModule), func(t *testing.T, d *db.DB) {
		ctx, k := t.Context(), newKeys(t)
		logs := []*ledger.Log{open(t, d, k), open(t, d, k)}
		const writers, each = 6, 15
		abort := errors.New("abort")
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range each {
					fails := rand.IntN(3) == 0
					err := d.Tx(ctx, func(tx *db.Tx) error {
						id := w*each + n
						if _, err := tx.Exec(ctx, `INSERT INTO told (id) VALUES (?)`, id); err != nil {
							return err
						}
						f := fact(id)
						f.Subject = fmt.Sprint(id)
						if _, err := logs[w%2].Append(ctx, tx, f); err != nil {
							return err
						}
						if fails {
							return abort
						}
						return nil
					})
					if fails != errors.Is(err, abort) || (!fails && err != nil) {
						t.Errorf("writer %d: %v", w, err)
					}
				}
			})
		}
		wg.Wait()
		if err := logs[0].Verify(ctx); err != nil {
			t.Error(err)
		}
		size, err := logs[0].Size(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var told, both int64
		err = d.View(ctx, func(tx *db.Tx) error {
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM told`).Scan(&told); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT count(*) FROM told JOIN ledger_leaf ON subject = CAST(told.id AS TEXT)`).Scan(&both)
		})
		if err != nil || size != told || both != told {
			t.Errorf("%d facts, %d told, %d both, %v", size, told, both, err)
		}
	})
}

// Every kind of tampering with the stored tables is named.
func TestVerifyNamesDamage(t *testing.T) {
	tests := []struct {
		name   string
		tamper []string
		kind   error
		index  int64
	}{
		{"changed", []string{`UPDATE ledger_leaf SET bytes = (SELECT bytes FROM ledger_leaf WHERE idx = 4) WHERE idx = 3`}, ledger.ErrChanged, 3},
		{"removed", []string{`DELETE FROM ledger_leaf WHERE idx = 3`}, ledger.ErrRemoved, 3},
		{"swapped with its hash", []string{
			`UPDATE ledger_leaf SET idx = 99 WHERE idx = 3`, `UPDATE ledger_leaf SET idx = 3 WHERE idx = 4`, `UPDATE ledger_leaf SET idx = 4 WHERE idx = 99`,
			`UPDATE ledger_hash SET id = -1 WHERE id = 4`, `UPDATE ledger_hash SET id = 4 WHERE id = 7`, `UPDATE ledger_hash SET id = 7 WHERE id = -1`,
		}, ledger.ErrReordered, 3},
		{"cut", []string{`DELETE FROM ledger_leaf WHERE idx >= 8`, `UPDATE ledger_head SET size = 8`}, ledger.ErrTruncated, 8},
		{"cut before its checkpoint", []string{`DELETE FROM ledger_leaf WHERE idx >= 8`}, ledger.ErrRemoved, 8},
		{"more", []string{`INSERT INTO ledger_leaf (idx, type, subject, at, bytes) SELECT idx + 100, type, subject, at, bytes FROM ledger_leaf WHERE idx = 0`}, ledger.ErrChanged, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
			k := newKeys(t)
			l := open(t, d, k)
			fill(t, d, l, 0, 10)
			checkpoint(t, l, k)
			if err := l.Verify(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, q := range tt.tamper {
				exec(t, d, q)
			}
			err := l.Verify(t.Context())
			var damage *ledger.DamageError
			if !errors.Is(err, tt.kind) || !errors.As(err, &damage) || damage.Index != tt.index {
				t.Errorf("%v, want %v at %d", err, tt.kind, tt.index)
			}
		})
	}
}

func TestCheckpointRefusesToSignAnotherHistory(t *testing.T) {
	d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
	k := newKeys(t)
	l := open(t, d, k)
	fill(t, d, l, 0, 6)
	checkpoint(t, l, k)
	fill(t, d, l, 6, 7)
	exec(t, d, `UPDATE ledger_hash SET hash = (SELECT hash FROM ledger_hash WHERE id = 0) WHERE id = 6`)
	if _, err := l.Checkpoint(t.Context()); !errors.Is(err, ledger.ErrFork) {
		t.Errorf("checkpoint over changed hashes: %v, want ErrFork", err)
	}
}

// A log restored from yesterday's backup must not go on as if nothing had
// happened: it would give the indexes of lost facts to others.
func TestRestoredLogRefusesToAppend(t *testing.T) {
	dbtest.Each(t, tables, func(t *testing.T, d *db.DB) {
		ctx, k := t.Context(), newKeys(t)
		lived := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
		first := open(t, lived, k)
		fill(t, lived, first, 0, 9)
		early, _ := checkpoint(t, first, k)
		fill(t, lived, first, 9, 12)
		anchor, _ := checkpoint(t, first, k)
		lost, err := first.Facts(ctx, 0, 12)
		if err != nil {
			t.Fatal(err)
		}

		l := open(t, d, k) // holds the first seven facts, as a backup would
		fill(t, d, l, 0, 7)
		if err := l.Extends(ctx, anchor, newKeys(t).verifier); !errors.Is(err, ledger.ErrNote) {
			t.Errorf("anchor by a foreign key: %v, want ErrNote", err)
		}
		fill(t, d, l, 7, 8) // a foreign anchor does not stop the log
		if err := l.Extends(ctx, anchor, k.verifier); !errors.Is(err, ledger.ErrTruncated) {
			t.Fatalf("Extends: %v, want ErrTruncated", err)
		}
		if _, err := appendFact(ctx, d, l, fact(8)); !errors.Is(err, ledger.ErrRefused) {
			t.Fatalf("append: %v, want ErrRefused", err)
		}
		if _, err := appendFact(ctx, d, open(t, d, k), fact(8)); !errors.Is(err, ledger.ErrRefused) {
			t.Errorf("append by another server: %v, want ErrRefused", err)
		}
		if err := l.Refused(ctx); !errors.Is(err, ledger.ErrRefused) {
			t.Errorf("Refused: %v", err)
		}

		bad := lost[8:]
		if err := l.Refill(ctx, anchor, k.verifier, bad[:2]); !errors.Is(err, ledger.ErrTruncated) {
			t.Errorf("refill with too little: %v, want ErrTruncated", err)
		}
		if err := l.Refill(ctx, anchor, k.verifier, append([]ledger.Leaf{bad[1]}, bad...)); !errors.Is(err, ledger.ErrRemoved) {
			t.Errorf("refill with a gap: %v, want ErrRemoved", err)
		}
		changed := ledger.Leaf{Index: 8, Bytes: []byte(strings.Replace(string(bad[0].Bytes), "runner-1", "runner-2", 1))}
		if err := l.Refill(ctx, anchor, k.verifier, append([]ledger.Leaf{changed}, bad[1:]...)); !errors.Is(err, ledger.ErrFork) {
			t.Errorf("refill with a changed fact: %v, want ErrFork", err)
		}
		// Two anchors were missed; the newer is fine again only when all is back.
		if err := l.Extends(ctx, early, k.verifier); !errors.Is(err, ledger.ErrTruncated) {
			t.Errorf("the earlier anchor: %v, want ErrTruncated", err)
		}
		if err := l.Refill(ctx, anchor, k.verifier, lost); err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Extends(ctx, anchor, k.verifier); err != nil {
			t.Error(err)
		}
		fill(t, d, l, 12, 13)
	})
}

func TestAcceptLoss(t *testing.T) {
	d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
	ctx, k := t.Context(), newKeys(t)
	lived := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
	first := open(t, lived, k)
	fill(t, lived, first, 0, 9)
	early, _ := checkpoint(t, first, k)
	fill(t, lived, first, 9, 12)
	anchor, anchorTree := checkpoint(t, first, k)

	l := open(t, d, k)
	fill(t, d, l, 0, 7)
	if err := l.Extends(ctx, anchor, k.verifier); !errors.Is(err, ledger.ErrTruncated) {
		t.Fatal(err)
	}
	accept := func(actor string) error {
		return d.Tx(ctx, func(tx *db.Tx) error {
			_, err := l.AcceptLoss(ctx, tx, anchor, k.verifier, actor, "the other server burned")
			return err
		})
	}
	if err := accept(""); err == nil {
		t.Error("a loss was accepted by nobody")
	}
	if err := accept("ceo"); err != nil {
		t.Fatal(err)
	}
	if err := accept("ceo"); err == nil {
		t.Error("a loss was accepted twice")
	}
	fill(t, d, l, 8, 20)
	for _, a := range [][]byte{early, anchor} {
		if err := l.Extends(ctx, a, k.verifier); err != nil {
			t.Errorf("an anchor whose loss was accepted stops the log: %v", err)
		}
	}
	// The auditor who holds the anchor still sees it.
	_, tree := checkpoint(t, l, k)
	proof, err := l.Consistency(ctx, anchorTree.Size, tree.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.CheckConsistency(anchorTree, tree, proof); !errors.Is(err, ledger.ErrFork) {
		t.Errorf("the lost history seems to be contained: %v", err)
	}
	facts, err := l.Find(ctx, ledger.Query{Type: "ledger.loss-accepted"})
	if err != nil || len(facts) != 1 || facts[0].Actor != "ceo" {
		t.Errorf("%v, %v", facts, err)
	}
}

func TestVerifyRangeNamesDamage(t *testing.T) {
	d := dbtest.Open(t, dbtest.DSN(t, db.SQLite), tables...)
	k := newKeys(t)
	l := open(t, d, k)
	fill(t, d, l, 0, 12)
	_, tree := checkpoint(t, l, k)
	all, err := l.Facts(t.Context(), 0, 12)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := l.LeafHashes(t.Context(), 12)
	if err != nil {
		t.Fatal(err)
	}
	leaves := func() [][]byte { return leafBytes(all)[4:10] } // 4 to 9
	without := func(b [][]byte, i int) [][]byte { return append(b[:i:i], b[i+1:]...) }
	tests := []struct {
		name   string
		leaves func() [][]byte
		hashes []tlog.Hash
		want   string // of every damage
	}{
		{"whole", leaves, hashes, ""},
		{"removed", func() [][]byte { return without(leaves(), 2) }, hashes, "fact 6: a fact was removed"},
		{"first removed", func() [][]byte { return leaves()[1:] }, hashes, "fact 4: a fact was removed"},
		{"cut", func() [][]byte { return leaves()[:4] }, hashes, "fact 8: the log is shorter"},
		{"nothing", func() [][]byte { return nil }, hashes, "fact 4: the log is shorter"},
		{"swapped", func() [][]byte { b := leaves(); b[1], b[2] = b[2], b[1]; return b }, hashes, "fact 5: facts are out of order"},
		{"twice", func() [][]byte { b := leaves(); return append(b, b[5]) }, hashes, "fact 9: facts are out of order"},
		{"changed", func() [][]byte {
			b := leaves()
			b[3] = []byte(strings.Replace(string(b[3]), "runner-1", "runner-2", 1))
			return b
		}, hashes, "fact 7: a fact was changed"},
		{"one more", func() [][]byte { return append(leaves(), leafBytes(all)[10]) }, hashes, "fact 10: facts are out of order"},
		{"junk", func() [][]byte { b := leaves(); b[0] = []byte("junk"); return b }, hashes, "fact 4: a fact was changed"},
		{"hash dropped too", func() [][]byte { return without(leaves(), 2) }, append(append([]tlog.Hash{}, hashes[:6]...), hashes[7:]...),
			"a fact was changed: 11 leaf hashes|fact 6: a fact was removed"},
		{"hash changed too", leaves, append(append([]tlog.Hash{}, hashes[:11]...), tlog.Hash{}), "a fact was changed: 12 leaf hashes"},
	}
	for _, tt := range tests {
		damage := ledger.VerifyRange(tree, tt.hashes, 4, 10, tt.leaves())
		var got []string
		for _, e := range damage {
			got = append(got, e.Error())
		}
		want := strings.Split(tt.want, "|")
		if tt.want == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, got, want)
			}
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	k := newKeys(f)
	signed, err := note.Sign(&note.Note{Text: ledger.Tree{Origin: origin, Size: 3}.String()}, k.signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(signed))
	f.Add("a\n0\nAAAA\n")
	f.Fuzz(func(t *testing.T, s string) {
		if tree, err := ledger.ParseTree(s); err == nil && tree.String() != s {
			t.Errorf("%q is not what is written for it", s)
		}
		if _, err := ledger.OpenCheckpoint([]byte(s), origin, k.verifier); err != nil && !errors.Is(err, ledger.ErrNote) {
			t.Errorf("untyped error %v", err)
		}
		_, _ = ledger.ParseLeaf([]byte(s))
		_, _ = ledger.SplitLeaves([]byte(s))
	})
}

func BenchmarkAppend(b *testing.B) {
	d := dbtest.Open(b, dbtest.DSN(b, db.SQLite), tables...)
	l := open(b, d, newKeys(b))
	b.ResetTimer()
	err := d.Tx(b.Context(), func(tx *db.Tx) error {
		for n := 0; b.Loop(); n++ {
			if _, err := l.Append(b.Context(), tx, fact(n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
