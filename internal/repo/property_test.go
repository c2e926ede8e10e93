package repo_test

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

// Whatever a source adds, reuses and lays over, over several snapshots, every
// snapshot restores to what a map says.
func TestSnapshotsMatchAMap(t *testing.T) {
	keys := repotest.NewKeys(t)
	cacheRoot := t.TempDir()
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		rounds++
		b := &bed{keys: keys, store: repotest.NewMemory(), clock: ticking()}
		b.repo = repotest.Init(ctx, t, b.store, "r1")
		cfg := b.config()
		cfg.PackSize = rapid.SampledFrom([]int{32 << 10, 256 << 10, 4 << 20}).Draw(rt, "pack size")
		cfg.Codec = rapid.SampledFrom([]repo.Codec{repo.Zstd, repo.S2}).Draw(rt, "codec")
		if rapid.Bool().Draw(rt, "cache") {
			cfg.CacheDir = fmt.Sprintf("%s/%d", cacheRoot, rounds)
		}
		var (
			truth   = map[string][]byte{}
			entries = map[string]repo.Entry{} // of the last snapshot
			last    *repo.Manifest
			history []*repo.Manifest
			truths  []map[string][]byte
		)
		for range rapid.IntRange(1, 3).Draw(rt, "snapshots") {
			cfg.Parent = last
			w, err := repo.NewWriter(ctx, cfg)
			if err != nil {
				rt.Fatal(err)
			}
			next := map[string][]byte{}
			for i := range rapid.IntRange(0, 6).Draw(rt, "files") {
				path := fmt.Sprintf("d%d/f%d", i%2, i)
				e := repo.Entry{Path: path, Type: repo.TypeFile}
				old, had := truth[path]
				how := rapid.SampledFrom([]string{"new", "new", "same", "overlay", "changed"}).Draw(rt, "how")
				switch {
				case how == "same" && had:
					e.Size, e.Hash = int64(len(old)), entries[path].Hash
					err = w.AddExtents(ctx, e, entries[path].Extents)
					next[path] = old
				case how == "overlay" && had:
					size := rapid.IntRange(0, len(old)+30_000).Draw(rt, "size")
					content, pages := overlay(rt, old, size)
					e.Size = int64(size)
					err = w.Overlay(ctx, e, entries[path].Extents, pages)
					next[path] = content
				case how == "changed" && had:
					size := rapid.IntRange(0, len(old)+30_000).Draw(rt, "size")
					next[path], _ = overlay(rt, old, size)
					e.Cut = repo.CutPages
					err = w.Add(ctx, e, bytes.NewReader(next[path]))
				default:
					e.Sparse = rapid.Bool().Draw(rt, "sparse")
					e.Cut = rapid.SampledFrom([]repo.Cut{repo.CutContent, repo.CutPages}).Draw(rt, "cut")
					next[path] = content(rt)
					err = w.Add(ctx, e, bytes.NewReader(next[path]))
				}
				if err != nil {
					rt.Fatal(err)
				}
			}
			if last, _, err = w.Finish(ctx); err != nil {
				rt.Fatal(err)
			}
			truth, entries = next, map[string]repo.Entry{}
			s, err := b.repo.Snapshot(ctx, last, keys.Identity)
			if err != nil {
				rt.Fatal(err)
			}
			if err := s.Entries(ctx, func(e repo.Entry) error { entries[e.Path] = e; return nil }); err != nil {
				rt.Fatal(err)
			}
			history, truths = append(history, last), append(truths, truth)
		}
		for i, m := range history {
			got := restored(ctx, t, b.repo, m, keys.Spare)
			if len(got) != len(truths[i]) {
				rt.Fatalf("snapshot %d: %d files of %d", i, len(got), len(truths[i]))
			}
			for p, want := range truths[i] {
				if !bytes.Equal(got[p], want) {
					rt.Fatalf("snapshot %d: %s: %d bytes differ from %d", i, p, len(got[p]), len(want))
				}
			}
			s, err := b.repo.Snapshot(ctx, m, keys.Identity)
			if err != nil {
				rt.Fatal(err)
			}
			if damage, err := s.Verify(ctx, nil); err != nil || len(damage) > 0 {
				rt.Fatal(damage, err)
			}
		}
	})
}

// content draws a file of runs of noise, text, zeros and repetition.
func content(rt *rapid.T) []byte {
	var b []byte
	for range rapid.IntRange(0, 4).Draw(rt, "runs") {
		n := rapid.SampledFrom([]int{1, 100, 8192, 20_000, 150_000, 600_000}).Draw(rt, "length")
		switch rapid.SampledFrom([]string{"noise", "text", "zero"}).Draw(rt, "kind") {
		case "noise":
			b = append(b, random(rapid.Uint64Range(0, 3).Draw(rt, "seed"), n)...)
		case "text":
			b = append(b, texty(rapid.Uint64Range(0, 3).Draw(rt, "seed"), n)...)
		default:
			b = append(b, make([]byte, n)...)
		}
	}
	return b
}

// overlay draws changed pages and returns what the file then is.
func overlay(rt *rapid.T, old []byte, size int) ([]byte, iter.Seq2[repo.Page, error]) {
	now := make([]byte, size)
	copy(now, old)
	var pages []repo.Page
	if size > 0 {
		starts := rapid.SliceOfN(rapid.IntRange(0, size-1), 0, 5).Draw(rt, "pages")
		slices.Sort(starts)
		end := 0
		for i, at := range starts {
			n := min(rapid.IntRange(1, 20_000).Draw(rt, "page length"), size-at)
			if at < end {
				continue
			}
			data := random(uint64(i)+50, n)
			copy(now[at:], data)
			pages = append(pages, repo.Page{Offset: int64(at), Data: data})
			end = at + n
		}
	}
	return now, func(yield func(repo.Page, error) bool) {
		for _, p := range pages {
			if !yield(p, nil) {
				return
			}
		}
	}
}
