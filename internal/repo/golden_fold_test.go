package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
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

const foldedDir = "testdata/golden/v1-folded"

// A history is what a place says of the snapshots of a scope.
type history struct {
	Listed  []string `json:"listed"`
	Removed []string `json:"removed"`
	Lost    []string `json:"without_predecessor"`
}

// A folded history was written once. Every version finds it whole, and so does the
// independent decoder, which also follows the fold to the records that it stands for.
func TestGoldenFold(t *testing.T) {
	if _, err := os.Stat(foldedDir); *update && errors.Is(err, fs.ErrNotExist) {
		makeGoldenFold(t)
	}
	ctx := t.Context()
	var want history
	b, err1 := os.ReadFile(foldedDir + "/expected.json")
	keyText, err2 := os.ReadFile(foldedDir + "/verify.txt")
	vaultText, err3 := os.ReadFile(foldedDir + "/vault.txt")
	if err := errors.Join(err1, err2, err3, json.Unmarshal(b, &want)); err != nil {
		t.Fatal(err)
	}
	key, err1 := seal.ParseVerifyKey(string(keyText))
	vault, err2 := seal.ParseVerifyKey(string(vaultText))
	r, err3 := repo.Open(ctx, repotest.Dir(foldedDir+"/repository"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	r.Trust(key, vault)
	ms, err1 := r.Manifests(ctx, "files")
	removals, err2 := r.Removals(ctx, "files")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var got history
	var links []repo.Link
	for _, m := range ms {
		got.Listed, links = append(got.Listed, m.ID), append(links, m.Link())
	}
	folded := 0
	for _, x := range removals {
		got.Removed = append(got.Removed, x.IDs()...)
		if x.Folded != nil {
			folded += x.Folded.Records
		}
	}
	slices.Sort(got.Removed)
	got.Removed, got.Lost = slices.Compact(got.Removed), []string{}
	if !reflect.DeepEqual(got, want) || folded < 30 {
		t.Errorf("%d records are folded; got %+v, want %+v", folded, got, want)
	}
	if missed := repo.Omitted("files", links, nil, removals, slices.Concat(want.Listed, want.Removed)); len(missed) > 0 {
		t.Errorf("%d snapshots are missed, the first: %s", len(missed), missed[0])
	}

	script := filepath.Join("..", "..", "tools", "decode", "decode.py")
	decode := func(records string) (h history, err error) {
		var stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, "python3", script, "--verify-key", foldedDir+"/verify.txt", "--verify-key", foldedDir+"/vault.txt", foldedDir+"/repository", "history", "files", records)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &h)
		} else {
			err = errors.New(stderr.String())
		}
		return h, err
	}
	if h, err := decode(foldedDir + "/records"); err != nil || !reflect.DeepEqual(h, want) {
		t.Errorf("decode.py: %v: %+v, want %+v", err, h, want)
	}
	// A record that was left out, or slipped in, is not what the fold stands for.
	some := t.TempDir()
	if err := os.CopyFS(some, os.DirFS(foldedDir+"/records")); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(some)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(some, names[3].Name())); err != nil {
		t.Fatal(err)
	}
	if _, err := decode(some); err == nil || !strings.Contains(err.Error(), "the fold does not stand") {
		t.Errorf("decode.py with a record less: %v", err)
	}
}

// makeGoldenFold writes the folded history once.
func makeGoldenFold(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(foldedDir+"/records", 0o755); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t)
	for range 80 {
		k.snapshot()
		c := repo.Removal{Scope: "files", Place: "here", At: k.now, Vault: "vault"}
		if n := len(k.all) - 6; n >= 0 && n%10 != 0 {
			c.Snapshots = []repo.Removed{k.all[n]}
			if _, err := k.at(k.mem).Remove(t.Context(), c, k.vault); err != nil {
				t.Fatal(err)
			}
			delete(k.known, k.all[n].Snapshot)
		}
		k.now = k.now.Add(3 * 24 * time.Hour)
	}
	before := k.mem.Clone()
	k.collect(k.at(k.mem))
	k.collect(k.at(k.mem))
	write := func(name string, b []byte) {
		name = filepath.Join(foldedDir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range before.Names() {
		if id, ok := strings.CutPrefix(name, "tombstones/removed/files/"); ok && k.mem.Bytes(name) == nil {
			write("records/"+id, before.Bytes(name))
		}
	}
	want := history{Lost: []string{}}
	for _, name := range k.mem.Names() {
		if strings.HasPrefix(name, "snapshots/") || strings.HasPrefix(name, "tombstones/removed/") || name == "holdfast-repository" {
			write("repository/"+name, k.mem.Bytes(name))
		}
	}
	for _, m := range k.all {
		if k.known[m.Snapshot] {
			want.Listed = append(want.Listed, m.Snapshot)
		} else {
			want.Removed = append(want.Removed, m.Snapshot)
		}
	}
	b, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	write("expected.json", append(b, '\n'))
	write("verify.txt", []byte(k.key.Public().String()+"\n"))
	write("vault.txt", []byte(k.vault.Public().String()+"\n"))
	write("README.txt", []byte("The removals of a place over 240 days: in repository/ those of its first part folded, in records/ as they were. Written once; for this test only.\n"))
}
