//go:build linux

package files

import (
	"fmt"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/repo"
)

func TestProgress(t *testing.T) {
	b := newBench(t)
	b.write("a", strings.Repeat("a", 1000))
	w, err := repo.NewWriter(t.Context(), repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: b.r}}, Scope: "uploads", Kind: "files", Recipients: b.keys.Recipients(),
		Signer: b.keys.Signer, MAC: b.keys.MAC,
	})
	must(t, err)
	defer w.Abort()
	var last holdfast.Progress
	must(t, b.source(Config{}).Snapshot(t.Context(), w, func(p holdfast.Progress) { last = p }))
	if last.Done != 1000 || last.Unit != "bytes" || last.Total != 0 {
		t.Errorf("%+v", last)
	}
	// The second time the last snapshot says how much there is to do.
	for i := range 2 * progressEvery {
		b.write(fmt.Sprintf("many/%d", i), "0123456789")
	}
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	w, err = repo.NewWriter(t.Context(), repo.WriterConfig{
		Places: []repo.Place{{Name: "here", Repo: b.r}}, Scope: "uploads", Kind: "files", Recipients: b.keys.Recipients(),
		Signer: b.keys.Signer, MAC: b.keys.MAC, Parent: m,
	})
	must(t, err)
	defer w.Abort()
	told := false
	must(t, b.source(Config{}).Snapshot(t.Context(), w, func(p holdfast.Progress) { told = told || p.Total == m.Bytes && p.Done < p.Total }))
	if !told {
		t.Errorf("nobody was told that there are about %d bytes", m.Bytes)
	}
}
