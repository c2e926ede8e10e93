package repo_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

// One bit of each object is flipped, and each object is taken away, in turn. What is
// wrong is found without a data key, costs nothing once a whole copy was brought
// from another place, and is still there afterwards.
func TestEveryObjectIsRepaired(t *testing.T) {
	ctx := t.Context()
	b := newBed(t)
	cfg := b.config()
	cfg.PackSize = 64 << 10
	m, _, err := write(ctx, cfg, smallTree())
	if err != nil {
		t.Fatal(err)
	}
	b.repo.Trust(b.keys.Signer.Public())
	piece := repo.LogPiece{Scope: "files", Lineage: "a", Timeline: 1, Start: 0, End: 5000, LastRecord: 5000, Created: start}
	if err := b.repo.PutLog(ctx, piece, random(4, 5000), b.keys.LogKeys()); err != nil {
		t.Fatal(err)
	}
	logs, err := b.repo.Logs(ctx, "files")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range b.store.Names() {
		if !strings.HasPrefix(name, "packs/") && !strings.HasPrefix(name, "snapshots/") && !strings.HasPrefix(name, "logs/") {
			continue
		}
		for _, how := range []string{"flip", "cut", "gone", "flip the repair too"} {
			t.Run(how+" "+strings.SplitN(name, "/", 2)[0], func(t *testing.T) {
				s := b.store.Clone()
				bad := slices.Clone(s.Bytes(name))
				switch how {
				case "cut":
					bad = bad[:len(bad)-7]
				case "gone":
					bad = nil
				default:
					bad[len(bad)*2/3] ^= 4
				}
				s.Set(name, bad)
				r, err := repo.Open(ctx, s)
				if err != nil {
					t.Fatal(err)
				}
				r.Trust(b.keys.Signer.Public())
				mend := func() error {
					switch {
					case strings.HasPrefix(name, "snapshots/"):
						return r.RepairManifest(ctx, b.repo, m.Scope, m.ID, m.Hash())
					case strings.HasPrefix(name, "logs/"):
						return r.RepairLog(ctx, b.repo, name)
					}
					for _, p := range m.Packs {
						if strings.HasSuffix(name, p.ID) {
							if err := r.CheckPack(ctx, p); !repo.IsDamage(err) {
								t.Errorf("not found: %v", err)
							}
							return r.RepairPack(ctx, b.repo, p)
						}
					}
					return nil
				}
				if strings.HasPrefix(name, "logs/") && bad != nil {
					if err := r.CheckLog(ctx, logs[0]); !repo.IsDamage(err) {
						t.Errorf("not found: %v", err)
					}
				}
				if err := mend(); err != nil {
					t.Fatal(err)
				}
				if how == "flip the repair too" {
					broken := slices.Clone(s.Bytes("repairs/01/" + name))
					broken[0] ^= 1
					s.Set("repairs/01/"+name, broken)
					if err := mend(); err != nil {
						t.Fatal(err)
					}
				}
				if bad != nil && !bytes.Equal(s.Bytes(name), bad) {
					t.Error("the repair changed what was there")
				}
				if how == "gone" && s.Bytes("repairs/01/"+name) != nil {
					t.Error("a missing object did not get its own name back")
				}
				got, err := r.Manifest(ctx, m.Scope, m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got.Hash() != m.Hash() {
					t.Fatal("another manifest")
				}
				if err := r.Check(ctx, got); err != nil {
					t.Error(err)
				}
				sameFiles(t, restored(ctx, t, r, got, b.keys.Identity), smallTree())
				snap, err := r.Snapshot(ctx, got, b.keys.Identity)
				if err != nil {
					t.Fatal(err)
				}
				if damage, err := snap.Verify(ctx, nil); err != nil || len(damage) > 0 {
					t.Error(damage, err)
				}
				if data, _, err := r.ReadLog(ctx, logs[0], b.keys.Identity); err != nil || !bytes.Equal(data, random(4, 5000)) {
					t.Error("log:", err)
				}
				if h, err := r.LogHeader(ctx, logs[0]); err != nil || h.End != 5000 {
					t.Error("header:", err)
				}
				// It may be copied on from here.
				third := repotest.NewMemory()
				if err := repotest.Init(ctx, t, third, "r1").Replicate(ctx, r, got); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
