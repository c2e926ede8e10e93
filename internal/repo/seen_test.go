package repo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// A shelf is a place with manifests that nobody wrote, and what is remembered of it.
type shelf struct {
	t     *testing.T
	store *repotest.Counted
	mem   *repotest.Memory
	key   seal.SigningKey
	dir   string
	made  int
	packs []repo.PackRef
	rng   *rand.Rand
}

func newShelf(t *testing.T, seed uint64) *shelf {
	s := &shelf{t: t, mem: repotest.NewMemory(), dir: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 7))}
	s.store = &repotest.Counted{Store: s.mem}
	repotest.Init(t.Context(), t, s.mem, "r1")
	var err error
	if s.key, err = seal.GenerateSigningKey("source"); err != nil {
		t.Fatal(err)
	}
	return s
}

// add puts a manifest whose packs are those of the one before, some dropped, some moved,
// some new; and a receipt.
func (s *shelf) add() string {
	s.made++
	at := start.Add(time.Duration(s.made) * time.Minute)
	id := at.Format("20060102T150405Z") + fmt.Sprintf("-%08x", s.made)
	s.packs = slices.DeleteFunc(slices.Clone(s.packs), func(repo.PackRef) bool { return s.rng.IntN(20) == 0 })
	if n := len(s.packs); n > 3 && s.rng.IntN(5) == 0 {
		i, j := s.rng.IntN(n), s.rng.IntN(n)
		s.packs[i], s.packs[j] = s.packs[j], s.packs[i]
	}
	for range 1 + s.rng.IntN(4) {
		s.packs = append(s.packs, repo.PackRef{ID: fmt.Sprintf("%016x%016x", s.rng.Uint64(), s.rng.Uint64()), Size: 4096 + s.rng.Int64N(1<<24), Hash: fmt.Sprintf("%064x", s.rng.Uint64())})
	}
	raw := repotest.Manifest("r1", "files", id, "", at, s.packs, s.key)
	s.mem.Set("snapshots/files/"+id, raw)
	h := seal.Hash(raw)
	if err := s.open(nil).PutReceipt(s.t.Context(), repo.Receipt{Scope: "files", Snapshot: id, Manifest: fmt.Sprintf("%x", h[:]), Place: "here", Received: at, Vault: "vault"}, s.key); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *shelf) open(seen *repo.Seen, trust ...seal.VerifyKey) *repo.Repository {
	s.t.Helper()
	r, err := repo.Open(s.t.Context(), s.mem)
	if seen != nil && err == nil {
		r, err = repo.Open(s.t.Context(), s.store)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	r.Trust(trust...)
	if seen != nil {
		r = r.Recalling(seen)
	}
	s.store.Asked()
	return r
}

// look reads all that the place holds, and says how many objects were read for it.
func (s *shelf) look(seen *repo.Seen, trust ...seal.VerifyKey) (ms []string, rs []repo.Receipt, gets int) {
	s.t.Helper()
	r := s.open(seen, trust...)
	if err := r.EachManifest(s.t.Context(), "", func(o repo.Object, m *repo.Manifest, err error) error {
		if err != nil {
			ms = append(ms, o.Name+" cannot be read")
		} else {
			ms = append(ms, fmt.Sprint(o.Name, m.Link(), m.Created, m.Packs, m.Root, m.Signer, m.Verify(s.key.Public())))
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	rs, err := r.Receipts(s.t.Context(), "files")
	if err != nil {
		s.t.Fatal(err)
	}
	gets, _, _, _ = s.store.Asked()
	return ms, rs, gets
}

func (s *shelf) seen() *repo.Seen { return repo.NewSeen(s.dir, "files") }

// same looks with and without memory, and returns how many objects the one with read.
func (s *shelf) same(what string) (gets int) {
	s.t.Helper()
	ms, rs, gets := s.look(s.seen(), s.key.Public())
	wantM, wantR, _ := s.look(nil, s.key.Public())
	if !slices.Equal(ms, wantM) {
		s.t.Errorf("%s: other manifests than without memory", what)
	}
	if !reflect.DeepEqual(rs, wantR) {
		s.t.Errorf("%s: other receipts than without memory", what)
	}
	return gets
}

func (s *shelf) names(kind string) (out []string) {
	for _, n := range s.mem.Names() {
		if strings.HasPrefix(n, kind+"/files/") {
			out = append(out, n)
		}
	}
	return out
}

// Whatever comes and goes, who remembers sees what who reads everything sees, and reads
// only what is new.
func TestSeenIsWhatIsThere(t *testing.T) {
	s := newShelf(t, 1)
	for round := range 40 {
		added := 0
		for range s.rng.IntN(6) {
			s.add()
			added += 2
		}
		for range s.rng.IntN(3) {
			for _, kind := range []string{"snapshots", "receipts"} {
				if names := s.names(kind); len(names) > 0 {
					s.mem.Set(names[s.rng.IntN(len(names))], nil)
				}
			}
		}
		// What came and went between two looks was not read.
		if gets := s.same(fmt.Sprint("round ", round)); gets > added {
			t.Fatalf("round %d: %d objects are new, %d were read", round, added, gets)
		}
	}
	if gets := s.same("at rest"); gets != 0 {
		t.Errorf("nothing is new, and %d objects were read", gets)
	}
}

// A cache that is lost, cut or spoiled anywhere costs reading, and nothing else.
func TestSeenIsSafeToLose(t *testing.T) {
	s := newShelf(t, 2)
	for range 30 {
		s.add()
	}
	s.same("first")
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			b := slices.Clone(whole)
			at := s.rng.IntN(len(b))
			how := s.rng.IntN(3)
			switch how {
			case 0:
				b[at] ^= 1 << s.rng.IntN(8)
			case 1:
				b = b[:at]
			case 2:
				b = append(b[:at], b[min(len(b), at+1+s.rng.IntN(2000)):]...)
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s: spoiled at %d, way %d", filepath.Base(file), at, how)
			if s.same(what) == 0 && at < len(whole)-1 {
				t.Errorf("%s: nothing was read again", what)
			}
			if s.same(what+", again") != 0 {
				t.Errorf("%s: what was read again was not remembered", what)
			}
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if s.same("gone") == 0 || s.same("back") != 0 {
		t.Error("a lost cache was not filled again")
	}
	// A folder that cannot be is none.
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.same("without a folder")
}

// Only what a trusted key signed is remembered, and only who trusts it still is told; what
// the listing shows in another size is read again.
func TestSeenTrustsNobodyNew(t *testing.T) {
	s := newShelf(t, 3)
	thief, err := seal.GenerateSigningKey("source")
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for range 5 {
		last = s.add()
	}
	forged := start.Add(time.Hour).Format("20060102T150405Z") + "-ffffffff"
	s.mem.Set("snapshots/files/"+forged, repotest.Manifest("r1", "files", forged, "", start, s.packs, thief))
	s.look(s.seen(), s.key.Public())
	if _, _, gets := s.look(s.seen(), s.key.Public()); gets == 0 {
		t.Error("a forged manifest was remembered")
	}
	s.mem.Set("snapshots/files/"+forged, nil)
	s.same("without it")
	// Who trusts another key reads for himself, and so does who trusts none.
	for _, trust := range [][]seal.VerifyKey{{thief.Public()}, nil} {
		if _, _, gets := s.look(s.seen(), trust...); gets != 10 {
			t.Errorf("trusting %v: %d of 10 objects were read", trust, gets)
		}
	}
	s.same("our own again")
	name := "snapshots/files/" + last
	whole := s.mem.Bytes(name)
	s.mem.Set(name, whole[:len(whole)-7])
	if ms, _, _ := s.look(s.seen(), s.key.Public()); !slices.Contains(ms, name+" cannot be read") {
		t.Error("a manifest that was cut was believed from memory")
	}
	s.mem.Set(name, whole)
	s.same("whole again")
	// A scope that was not named is not remembered.
	other := repo.NewSeen(t.TempDir(), "db", "../files")
	s.look(other, s.key.Public())
	if _, _, gets := s.look(other, s.key.Public()); gets != 10 {
		t.Errorf("of a scope that nobody named %d of 10 objects were read", gets)
	}
	// A recalled manifest has no bytes, and is put nowhere.
	to := repotest.Init(t.Context(), t, repotest.NewMemory(), "r1")
	r := s.open(s.seen(), s.key.Public())
	if err := r.EachManifest(t.Context(), "files", func(_ repo.Object, m *repo.Manifest, err error) error {
		if err == nil && !m.Recalled() {
			t.Errorf("%s was read again", m.ID)
		}
		if cerr := to.Replicate(t.Context(), r, m); err == nil && !errors.Is(cerr, repo.ErrKind) {
			t.Errorf("%s was copied from memory: %v", m.ID, cerr)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Who is interrupted has not forgotten what lay behind; two at once do not disturb each
// other.
func TestSeenIsInterrupted(t *testing.T) {
	s := newShelf(t, 4)
	for range 20 {
		s.add()
	}
	s.same("first")
	s.mem.Set(s.names("snapshots")[3], nil)
	s.add()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := s.open(s.seen(), s.key.Public()).EachManifest(ctx, "files", func(_ repo.Object, _ *repo.Manifest, err error) error {
		if n++; n == 10 {
			cancel()
			return ctx.Err()
		}
		return err
	})
	if err == nil {
		t.Fatal("it was not interrupted")
	}
	if gets := s.same("after the interruption"); gets != 2 {
		t.Errorf("%d objects were read, want the new manifest and its receipt", gets)
	}
	r := s.open(s.seen(), s.key.Public())
	if err := r.EachManifest(t.Context(), "files", func(_ repo.Object, _ *repo.Manifest, err error) error {
		if n--; n == 0 {
			if gets := s.same("within another look"); gets != 0 {
				t.Errorf("%d objects were read", gets)
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if gets := s.same("after both"); gets != 0 {
		t.Errorf("%d objects were read", gets)
	}
}
