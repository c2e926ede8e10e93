package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The mixed data: what this machine has of programs, libraries and sources, then
// generated logs, tables and content that does not compress, in these parts of a
// hundred.
const (
	partTrees  = 46
	partLogs   = 14
	partTables = 16
	// the rest is random
)

// makeMixed fills dir with about mb megabytes.
func makeMixed(ctx context.Context, dir string, mb int, r *rand.Rand) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	goroot := strings.TrimSpace(string(out))
	budget := int64(mb) * 1_000_000 * partTrees / 100
	for _, tree := range []string{filepath.Join(goroot, "src"), goroot, "/usr/lib", "/usr/share", "/usr/bin"} {
		if err := copyTree(ctx, tree, filepath.Join(dir, "trees", fmt.Sprint(len(tree))), &budget); err != nil {
			return err
		}
	}
	rest := 100 - partTrees - partLogs - partTables
	if budget > 0 { // a small machine: more of what does not compress
		rest += int(budget / (int64(mb) * 10_000))
	}
	for _, kind := range []struct {
		name    string
		percent int
		file    int // MB
		fill    func(b []byte, r *rand.Rand)
	}{{"logs", partLogs, 24, fillLog}, {"tables", partTables, 40, fillTable}, {"blobs", rest, 8, fillRandom}} {
		if err := os.MkdirAll(filepath.Join(dir, kind.name), 0o755); err != nil {
			return err
		}
		block := make([]byte, 1_000_000)
		left := mb * kind.percent / 100
		for n := 0; left > 0; n++ {
			f, err := os.Create(filepath.Join(dir, kind.name, fmt.Sprintf("%04d", n)))
			if err != nil {
				return err
			}
			for range min(left, kind.file) {
				kind.fill(block, r)
				if _, err := f.Write(block); err != nil {
					return err
				}
			}
			left -= kind.file
			if err := f.Close(); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// copyTree copies files, folders and symbolic links until the budget is used up.
func copyTree(ctx context.Context, from, to string, budget *int64) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if *budget <= 0 {
			return fs.SkipAll
		}
		if err != nil {
			return nil // what cannot be read is no part of the data
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return errors.Join(ctx.Err(), os.MkdirAll(dst, 0o755))
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return nil
			}
			return os.Symlink(target, dst)
		case !d.Type().IsRegular():
			return nil
		}
		in, err := os.Open(p)
		if err != nil {
			return nil
		}
		defer in.Close()
		out, err := os.Create(dst)
		if err != nil {
			return err
		}
		n, err := io.Copy(out, in)
		*budget -= n
		return errors.Join(err, out.Close())
	})
}

func fillRandom(b []byte, r *rand.Rand) {
	for i := 0; i+8 <= len(b); i += 8 {
		v := r.Uint64()
		for k := range 8 {
			b[i+k] = byte(v >> (8 * k))
		}
	}
}

var words = []string{"accepted", "closed", "cache", "checkout", "customer", "error", "invoice", "login", "order", "payment", "refused", "retry", "session", "shipped", "timeout", "upstream"}

// fillLog writes lines of a web server's log.
func fillLog(b []byte, r *rand.Rand) {
	line := b[:0]
	for len(line) < len(b)-200 {
		line = fmt.Appendf(line, "2026-11-%02dT%02d:%02d:%02d.%06dZ 10.%d.%d.%d \"GET /%s/%08x HTTP/1.1\" %d %d %q\n", 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6),
			r.IntN(4), r.IntN(256), r.IntN(256), words[r.IntN(len(words))], r.Uint32(), 200+100*r.IntN(4), r.IntN(90_000), words[r.IntN(len(words))]+" "+words[r.IntN(len(words))])
	}
	clear(b[len(line):])
}

// fillTable writes rows as a database keeps them: numbers, half of them small, and text.
func fillTable(b []byte, r *rand.Rand) {
	for i := 0; i+64 <= len(b); i += 64 {
		row := b[i : i+64]
		clear(row)
		fillRandom(row[:16], r)
		copy(row[24:], words[r.IntN(len(words))])
		copy(row[44:], words[r.IntN(len(words))])
	}
}

// change alters about one percent: pieces in the middle of big files, whole small
// ones, some new, some gone.
func change(dir string, r *rand.Rand) error {
	seen := 0
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		const piece = 64 << 10
		switch {
		case info.Size() > 4<<20:
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			b := make([]byte, piece)
			for range max(1, info.Size()/100/piece) {
				fillTable(b, r)
				if _, err := f.WriteAt(b, r.Int64N(info.Size()-piece)); err != nil {
					return err
				}
			}
			return f.Close()
		case seen%200 == 0:
			return os.Remove(p)
		case seen%100 == 0:
			b := make([]byte, info.Size()+64)
			fillLog(b, r)
			return os.WriteFile(p, b, 0o644)
		case seen%200 == 50:
			b := make([]byte, info.Size()+64)
			fillTable(b, r)
			return os.WriteFile(p+".new", b, 0o644)
		}
		return nil
	})
}

// makeSmall fills dir with n files of a few hundred bytes, a thousand to a folder.
func makeSmall(ctx context.Context, dir string, n int, r *rand.Rand) error {
	const perDir = 1000
	b := make([]byte, 4096)
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("%05d", i/perDir))
		if i%perDir == 0 {
			if err := errors.Join(ctx.Err(), os.MkdirAll(sub, 0o755)); err != nil {
				return err
			}
		}
		fillLog(b[:400+r.IntN(1600)], r)
		copy(b, fmt.Sprintf("%d\n", i))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%06d", i)), b[:100+r.IntN(300)], 0o644); err != nil {
			return err
		}
	}
	return nil
}
