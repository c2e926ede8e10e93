package repo_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

var update = flag.Bool("update", false, "make a golden repository that does not exist yet")

const goldenDir = "testdata/golden/v1"

// goldenFile is what one path of a golden snapshot must be. Path is base64: one
// of them is not UTF-8.
type goldenFile struct {
	Path   []byte `json:"path"`
	Type   string `json:"type"`
	Mode   uint32 `json:"mode"`
	Mod    int64  `json:"mod_ns"`
	Size   int64  `json:"size,omitempty"`
	Hash   string `json:"blake3,omitempty"`
	Target string `json:"target,omitempty"`
}

type golden struct {
	Snapshots map[string][]goldenFile `json:"snapshots"` // by scope/id
	Logs      map[string]string       `json:"logs"`      // object name to BLAKE3 of the content
}

// The golden repository was written once. Every version opens it, for ever: if
// this fails, the change breaks other people's backups.
func TestGolden(t *testing.T) {
	ctx := t.Context()
	if _, err := os.Stat(goldenDir); *update && errors.Is(err, fs.ErrNotExist) {
		makeGolden(t)
	}
	want, id, key := readGolden(t)
	r, err := repo.Open(ctx, repotest.Dir(filepath.Join(goldenDir, "repository")))
	if err != nil {
		t.Fatal(err)
	}
	r.Trust(key)
	ms, err := r.Manifests(ctx, "")
	if err != nil || len(ms) != len(want.Snapshots) || len(ms) != 2 {
		t.Fatal(len(ms), err)
	}
	if ms[1].Previous != ms[0].Hash() {
		t.Error("the chain is broken")
	}
	for _, m := range ms {
		if err := r.Check(ctx, m); err != nil {
			t.Error(err)
		}
		s, err := r.Snapshot(ctx, m, id)
		if err != nil {
			t.Fatal(err)
		}
		if damage, err := s.Verify(ctx, nil); err != nil || len(damage) > 0 {
			t.Fatal(damage, err)
		}
		dir := t.TempDir()
		if _, err := s.Extract(ctx, repo.ExtractConfig{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		compareGolden(t, dir, want.Snapshots[m.Scope+"/"+m.ID])
	}
	cs, err := r.Receipts(ctx, "files")
	if err != nil || len(cs) != 1 || cs[0].Manifest != ms[0].Hash() || cs[0].Verify(key) != nil {
		t.Error(cs, err)
	}
	ls, err := r.Logs(ctx, "db")
	if err != nil || len(ls) != 1 {
		t.Fatal(ls, err)
	}
	data, _, err := r.ReadLog(ctx, ls[0], id)
	if err != nil || hashOf(data) != want.Logs[ls[0].Name] {
		t.Error("log piece", err)
	}
	data, err = r.ReadNamed(ctx, "db", "7301", "00000002.history", id)
	if err != nil || hashOf(data) != want.Logs["logs/db/7301/00000002.history"] {
		t.Error("named file", err)
	}
}

// A program that shares no code with this one, written from the specification,
// restores the golden repository byte for byte.
func TestIndependentDecoder(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatal("the independent decoder needs python3 with the cryptography module, and the zstd program: ", err)
	}
	decodeGolden(t, goldenDir+"/repository")
}

// The same program reads a repository of which every object was damaged and mended:
// the damaged bytes lie under the name, the whole ones beside it.
func TestIndependentDecoderReadsRepairs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	if err := os.CopyFS(dir, os.DirFS(goldenDir+"/repository")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"packs", "snapshots", "logs"} {
		if err := filepath.WalkDir(filepath.Join(dir, kind), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			to := filepath.Join(dir, "repairs", "01", rel)
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, b, 0o644), os.Chmod(path, 0o644)); err != nil {
				return err
			}
			b = bytes.Clone(b)
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0o644)
		}); err != nil {
			t.Fatal(err)
		}
	}
	decodeGolden(t, dir)
}

// After a rotation keys of what was there before lie beside it, for a key that it was not
// sealed to. That alone reads all of it, here and with the independent decoder. The epochs
// were written once, like the repository.
func TestGoldenKeyEpochs(t *testing.T) {
	t.Run("classic", func(t *testing.T) { testGoldenKeyEpochs(t, "testdata/golden/v1-epochs", seal.GenerateIdentity) })
	t.Run("post-quantum", func(t *testing.T) {
		testGoldenKeyEpochs(t, "testdata/golden/v1-epochs-post-quantum", seal.GeneratePostQuantum)
	})
}

func testGoldenKeyEpochs(t *testing.T, epochsDir string, generate func() (seal.Identity, error)) {
	ctx := t.Context()
	want, old, key := readGolden(t)
	dir := filepath.Join(t.TempDir(), "repository")
	if err := os.CopyFS(dir, os.DirFS(goldenDir+"/repository")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(epochsDir); *update && errors.Is(err, fs.ErrNotExist) {
		makeGoldenEpochs(t, epochsDir, dir, old, generate)
	} else if err := os.CopyFS(filepath.Join(dir, "keys"), os.DirFS(epochsDir+"/keys")); err != nil {
		t.Fatal(err)
	}
	idText, err1 := os.ReadFile(epochsDir + "/identity.txt")
	keyText, err2 := os.ReadFile(epochsDir + "/verify.txt")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	id, err1 := seal.ParseIdentity(string(idText))
	vault, err2 := seal.ParseVerifyKey(string(keyText))
	r, err3 := repo.Open(ctx, repotest.Dir(dir))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	r.Trust(key, vault)
	ms, err := r.Manifests(ctx, "")
	if err != nil || len(ms) != 2 {
		t.Fatal(len(ms), err)
	}
	for _, m := range ms {
		s, err := r.Snapshot(ctx, m, id)
		if err != nil {
			t.Fatal(err)
		}
		if damage, err := s.Verify(ctx, nil); err != nil || len(damage) > 0 {
			t.Fatal(damage, err)
		}
	}
	for name, hash := range want.Logs {
		if ls, err := r.Logs(ctx, "db"); err == nil && ls[0].Name == name {
			if data, _, err := r.ReadLog(ctx, ls[0], id); err != nil || hashOf(data) != hash {
				t.Error("log piece", err)
			}
		}
	}
	decodeGolden(t, dir, "--identity", epochsDir+"/identity.txt", "--verify-key", epochsDir+"/verify.txt")
	// Without the epochs it reads nothing.
	none, err := repo.Open(ctx, repotest.Dir(goldenDir+"/repository"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Snapshot(ctx, ms[0], id); !errors.Is(err, seal.ErrNoIdentity) {
		t.Error("the new key needs no epoch: ", err)
	}
}

// makeGoldenEpochs writes the epochs once.
func makeGoldenEpochs(t *testing.T, epochsDir, dir string, old seal.Identity, generate func() (seal.Identity, error)) {
	t.Helper()
	if err := os.Mkdir(epochsDir, 0o755); err != nil {
		t.Fatal("golden key epochs are never made anew: ", err)
	}
	keys := repotest.NewKeys(t)
	id, err1 := generate()
	other, err2 := generate()
	r, err3 := repo.Open(t.Context(), repotest.Dir(dir))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"files", "db"} {
		got, err := repo.Rewrap{At: r, Scope: scope, Recipients: []seal.Recipient{id.Recipient(), other.Recipient()}, Identities: []seal.Identity{old}, Signer: keys.Signer, Now: start}.Run(t.Context())
		if err != nil || got.Left() != 0 || got.Given == 0 {
			t.Fatal(got, err)
		}
	}
	for name, text := range map[string]string{
		"identity.txt": id.String(), "verify.txt": keys.Signer.Public().String(),
		"README.txt": "Key epochs of the repository in ../v1, for an identity that it was not sealed to, signed by a key of their own. Written once; for this test only.",
	} {
		if err := os.WriteFile(filepath.Join(epochsDir, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(epochsDir, "keys"), os.DirFS(filepath.Join(dir, "keys"))); err != nil {
		t.Fatal(err)
	}
}

// decodeGolden decodes with the golden identity and key; further options replace the
// identity and add keys.
func decodeGolden(t *testing.T, repository string, options ...string) {
	t.Helper()
	want, _, _ := readGolden(t)
	script := filepath.Join("..", "..", "tools", "decode", "decode.py")
	run := func(ctx context.Context, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(ctx, "python3", append([]string{script, "--identity", goldenDir + "/identity.txt", "--verify-key", goldenDir + "/verify.txt"}, append(append(slices.Clone(options), repository), args...)...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("decode.py %v: %v\n%s", args, err, stderr.Bytes())
		}
		return out
	}
	for name, files := range want.Snapshots {
		dir := filepath.Join(t.TempDir(), "out")
		run(t.Context(), "restore", name, dir)
		compareGolden(t, dir, files)
	}
	for name, hash := range want.Logs {
		if got := hashOf(run(t.Context(), "log", name)); got != hash {
			t.Errorf("%s: %s, want %s", name, got, hash)
		}
	}
}

func hashOf(b []byte) string {
	h := seal.Hash(b)
	return hex.EncodeToString(h[:])
}

func readGolden(t *testing.T) (golden, seal.Identity, seal.VerifyKey) {
	t.Helper()
	var g golden
	b, err1 := os.ReadFile(goldenDir + "/expected.json")
	idText, err2 := os.ReadFile(goldenDir + "/identity.txt")
	keyText, err3 := os.ReadFile(goldenDir + "/verify.txt")
	if err := errors.Join(err1, err2, err3, json.Unmarshal(b, &g)); err != nil {
		t.Fatal(err)
	}
	id, err1 := seal.ParseIdentity(string(idText))
	key, err2 := seal.ParseVerifyKey(string(keyText))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return g, id, key
}

func compareGolden(t *testing.T, dir string, want []goldenFile) {
	t.Helper()
	for _, f := range want {
		p := filepath.Join(dir, string(f.Path))
		fi, err := os.Lstat(p)
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Type != repo.TypeHardlink && f.Type != repo.TypeSymlink && uint32(fi.Mode().Perm()) != f.Mode {
			t.Errorf("%q: mode %o, want %o", f.Path, fi.Mode().Perm(), f.Mode)
		}
		if f.Type != repo.TypeHardlink && fi.ModTime().UnixNano() != f.Mod {
			t.Errorf("%q: time %v, want %v", f.Path, fi.ModTime(), time.Unix(0, f.Mod))
		}
		switch f.Type {
		case repo.TypeFile:
			if b, err := os.ReadFile(p); err != nil || hashOf(b) != f.Hash || int64(len(b)) != f.Size {
				t.Errorf("%q: content differs: %v", f.Path, err)
			}
		case repo.TypeSymlink:
			if to, err := os.Readlink(p); err != nil || to != f.Target {
				t.Errorf("%q: leads to %q, want %q: %v", f.Path, to, f.Target, err)
			}
		case repo.TypeHardlink:
			other, err := os.Lstat(filepath.Join(dir, f.Target))
			if err != nil || !os.SameFile(fi, other) {
				t.Errorf("%q is not %q: %v", f.Path, f.Target, err)
			}
		}
	}
}

// makeGolden writes the golden repository of a format that has none yet. It never
// replaces one.
func makeGolden(t *testing.T) {
	ctx := t.Context()
	if err := os.MkdirAll(filepath.Dir(goldenDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(goldenDir, 0o755); err != nil {
		t.Fatal("golden repositories are never made anew: ", err)
	}
	keys := repotest.NewKeys(t)
	for name, text := range map[string]string{
		"identity.txt": keys.Identity.String(), "verify.txt": keys.Signer.Public().String(),
		"README.txt": "A repository of format 1, written once. The identity is for this test only.",
	} {
		if err := os.WriteFile(filepath.Join(goldenDir, name), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := &bed{keys: keys, clock: ticking()}
	st := repotest.Dir(goldenDir + "/repository")
	if err := os.Mkdir(string(st), 0o755); err != nil {
		t.Fatal(err)
	}
	set := repo.Settings{ID: "golden-1", Created: start, Recipients: []string{keys.Identity.Recipient().String(), keys.Spare.Recipient().String()}}
	if err := repo.Init(ctx, st, set); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{Snapshots: map[string][]goldenFile{}, Logs: map[string]string{}}
	at := time.Unix(1_700_000_000, 123_456_789)
	cfg := b.config(repo.Place{Name: "golden", Repo: r})
	cfg.PackSize = 40 << 10 // several packs

	finish := func(w *repo.Writer, files []goldenFile) *repo.Manifest {
		w.SetLabel("note", "golden")
		m, _, err := w.Finish(ctx)
		if err != nil {
			t.Fatal(err)
		}
		g.Snapshots[m.Scope+"/"+m.ID] = files
		return m
	}
	w, err := repo.NewWriter(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var files []goldenFile
	add := func(e repo.Entry, content []byte) {
		e.ModTime = at
		if err := w.Add(ctx, e, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		f := goldenFile{Path: []byte(e.Path), Type: e.Type, Mode: e.Mode, Mod: at.UnixNano(), Target: e.Target}
		if e.Type == repo.TypeFile {
			f.Size, f.Hash = int64(len(content)), hashOf(content)
		}
		files = append(files, f)
	}
	holes := make([]byte, 200_000)
	copy(holes[80_000:], texty(8, 20_000))
	table := texty(9, 96<<10)
	add(repo.Entry{Path: "dir", Type: repo.TypeDir, Mode: 0o750}, nil)
	add(repo.Entry{Path: "dir/empty", Type: repo.TypeFile, Mode: 0o600}, nil)
	add(repo.Entry{Path: "dir/text", Type: repo.TypeFile, Mode: 0o644, User: "app", UID: 1000, Xattrs: map[string][]byte{"user.note": {0, 255}}}, texty(1, 60_000))
	add(repo.Entry{Path: "dir/text2", Type: repo.TypeHardlink, Target: "dir/text"}, nil)
	add(repo.Entry{Path: "holes", Type: repo.TypeFile, Mode: 0o600, Sparse: true}, holes)
	add(repo.Entry{Path: "link", Type: repo.TypeSymlink, Mode: 0o777, Target: "dir/text"}, nil)
	add(repo.Entry{Path: "noise", Type: repo.TypeFile, Mode: 0o400}, random(2, 50_000))
	add(repo.Entry{Path: "odd \xff\n\"name\"", Type: repo.TypeFile, Mode: 0o604}, []byte("odd"))
	add(repo.Entry{Path: "table", Type: repo.TypeFile, Mode: 0o600, Cut: repo.CutPages}, table)
	m := finish(w, files)

	var parent repo.Entry
	s, err := r.Snapshot(ctx, m, keys.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if parent, err = s.Find(ctx, "table"); err != nil {
		t.Fatal(err)
	}
	cfg.Parent, cfg.Codec = m, repo.S2
	if w, err = repo.NewWriter(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	files = nil
	add(repo.Entry{Path: "fresh", Type: repo.TypeFile, Mode: 0o640}, texty(5, 50_000))
	page := texty(77, 8192)
	copy(table[3*8192:], page)
	var pages iter.Seq2[repo.Page, error] = func(yield func(repo.Page, error) bool) { yield(repo.Page{Offset: 3 * 8192, Data: page}, nil) }
	if err := w.Overlay(ctx, repo.Entry{Path: "table", Type: repo.TypeFile, Mode: 0o600, ModTime: at, Size: int64(len(table))}, parent.Extents, pages); err != nil {
		t.Fatal(err)
	}
	files = append(files, goldenFile{Path: []byte("table"), Type: repo.TypeFile, Mode: 0o600, Mod: at.UnixNano(), Size: int64(len(table)), Hash: hashOf(table)})
	finish(w, files)

	p := repo.LogPiece{Scope: "db", Lineage: "7301", Timeline: 1, Start: 0x16000000, End: 0x16000000 + 30_000, LastRecord: 0x16000000 + 29_000, LastCommit: at, Created: at}
	piece, history := texty(6, 30_000), []byte("1\t0/16000000\tno recovery target specified\n")
	err = errors.Join(
		r.PutLog(ctx, p, piece, keys.LogKeys()),
		r.PutNamed(ctx, "db", "7301", "00000002.history", history, keys.LogKeys()),
		r.PutReceipt(ctx, repo.Receipt{Scope: "files", Snapshot: m.ID, Manifest: m.Hash(), Place: "golden", Received: start, Vault: "vault"}, keys.Signer),
		r.PutAnchor(ctx, "head", []byte("a note\n")),
	)
	if err != nil {
		t.Fatal(err)
	}
	g.Logs["logs/db/7301/00000001/0000000016000000-0000000016007530"] = hashOf(piece)
	g.Logs["logs/db/7301/00000002.history"] = hashOf(history)
	out, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenDir+"/expected.json", append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
