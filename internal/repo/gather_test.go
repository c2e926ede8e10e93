package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// timed is a place that says when things came.
type timed struct {
	*repotest.Memory
	came    map[string]time.Time
	refuses bool
}

func (s *timed) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	return s.Memory.List(ctx, prefix, func(o repo.Object) error {
		o.Modified = s.came[o.Name]
		return fn(o)
	})
}

func (s *timed) Delete(ctx context.Context, name string) error {
	if s.refuses {
		return fmt.Errorf("%q is locked", name)
	}
	return s.Memory.Delete(ctx, name)
}

// Short pieces go when a longer one holds all of them, came soon after them, and is
// what was signed; whatever is doubtful about it saves them. At no moment is a byte of
// log not there.
func TestGatheredLog(t *testing.T) {
	const short, n = 10, 40
	stranger, err := seal.GenerateSigningKey("stranger")
	if err != nil {
		t.Fatal(err)
	}
	log := random(9, short*n)
	tests := []struct {
		name  string
		late  time.Duration // of the long piece behind the short ones
		do    func(t *testing.T, v *vaultBed, s *timed, long string)
		sign  *seal.SigningKey
		blind bool // nobody is trusted
		left  int  // pieces at the end
	}{
		{name: "soon", late: time.Hour, left: 2},
		{name: "within the limit", late: repo.GatherWithin, left: 2},
		{name: "too late", late: repo.GatherWithin + time.Second, left: n + 1},
		{name: "before them", late: -time.Second, left: n + 1},
		{name: "signed by a stranger", late: time.Hour, sign: &stranger, left: n + 1},
		{name: "nobody to trust", late: time.Hour, blind: true, left: n + 1},
		{name: "damaged", late: time.Hour, left: n + 1, do: func(t *testing.T, v *vaultBed, s *timed, long string) {
			b := s.Bytes(long)
			b[len(b)-100] ^= 1
			s.Set(long, b)
		}},
		{name: "the place gives no times", late: time.Hour, left: n + 1, do: func(t *testing.T, v *vaultBed, s *timed, long string) { clear(s.came) }},
		{name: "deletions are refused", late: time.Hour, left: n + 1, do: func(t *testing.T, v *vaultBed, s *timed, long string) { s.refuses = true }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			v := newVaultBed(t)
			s := &timed{Memory: v.store, came: map[string]time.Time{}}
			r := v.at(t, s)
			if !tt.blind {
				r.Trust(v.keys.Signer.Public())
			}
			put := func(from, to uint64, at time.Time, signer seal.SigningKey) string {
				t.Helper()
				keys := v.keys.LogKeys()
				keys.Signer = signer
				if err := v.repo.PutLog(ctx, repo.LogPiece{Scope: "db", Lineage: "a", Timeline: 1, Start: from, End: to, LastRecord: to, Created: v.now}, log[from:to], keys); err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("logs/db/a/00000001/%016x-%016x", from, to)
				s.came[name] = at
				return name
			}
			began := v.now
			for i := range uint64(n) {
				put(i*short, (i+1)*short, began, v.keys.Signer)
			}
			signer := v.keys.Signer
			if tt.sign != nil {
				signer = *tt.sign
			}
			long := put(0, (n-1)*short, began.Add(tt.late), signer) // the last short one is not in it
			if tt.do != nil {
				tt.do(t, v, s, long)
			}
			for round := range 3 {
				got, err := v.collector(r).Collect(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if round == 0 && got.Deleted > 0 {
					t.Error("something was deleted at once: a restore may be reading it")
				}
				logs, err := r.Logs(ctx, "db")
				if err != nil {
					t.Fatal(err)
				}
				slices.SortFunc(logs, func(a, b repo.LogInfo) int { return int(a.Start) - int(b.Start) })
				var reach uint64
				for _, l := range logs {
					if l.Start > reach {
						t.Fatalf("round %d: log from %d to %d is gone", round, reach, l.Start)
					}
					data, _, err := r.ReadLog(ctx, l, v.keys.Identity)
					if (err != nil || !bytes.Equal(data, log[l.Start:l.End])) && l.Name != long {
						t.Fatalf("round %d: %s: %v", round, l.Name, err)
					}
					reach = max(reach, l.End)
				}
				v.now = v.now.Add(repo.GarbageWait)
			}
			logs, err := r.Logs(ctx, "db")
			if err != nil || len(logs) != tt.left {
				t.Errorf("%d pieces are left, want %d: %v", len(logs), tt.left, err)
			}
		})
	}
}

// A long piece that is damaged after the short ones were published as garbage saves
// them: they are looked at again before they are deleted.
func TestGatheredLogDamagedMeanwhile(t *testing.T) {
	ctx := t.Context()
	v := newVaultBed(t)
	s := &timed{Memory: v.store, came: map[string]time.Time{}}
	r := v.at(t, s)
	r.Trust(v.keys.Signer.Public())
	for _, p := range [][2]uint64{{0, 10}, {10, 20}, {0, 20}} {
		if err := v.repo.PutLog(ctx, repo.LogPiece{Scope: "db", Lineage: "a", Timeline: 1, Start: p[0], End: p[1], LastRecord: p[1], Created: v.now}, make([]byte, p[1]-p[0]), v.keys.LogKeys()); err != nil {
			t.Fatal(err)
		}
		s.came[fmt.Sprintf("logs/db/a/00000001/%016x-%016x", p[0], p[1])] = v.now
	}
	if got, err := v.collector(r).Collect(ctx); err != nil || got.Marked != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	long := fmt.Sprintf("logs/db/a/00000001/%016x-%016x", 0, 20)
	b := v.store.Bytes(long)
	v.store.Set(long, b[:len(b)-1])
	v.now = v.now.Add(repo.GarbageWait)
	got, err := v.collector(r).Collect(ctx)
	if err != nil || got.Deleted != 0 || got.Spared != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}
