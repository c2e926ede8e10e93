package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// A series is what one tool cost, run by run.
type series struct{ first, second, restore []cost }

// mixed measures backups, restores and verification of about 3 GB.
func (b *bench) mixed(ctx context.Context) error {
	data := filepath.Join(b.dir, "data")
	b.say("making about %d MB of mixed files", b.opt.mb)
	r := rand.New(rand.NewPCG(1, 2))
	if err := makeMixed(ctx, data, b.opt.mb, r); err != nil {
		return err
	}
	files, bytes, err := count(data)
	if err != nil {
		return err
	}
	b.table.Notes = append(b.table.Notes, fmt.Sprintf("mixed: %d files, %.0f MB, %d runs each in turn", files, float64(bytes)/1e6, b.opt.runs))
	got := make([]series, len(b.tools))
	order := []int{0, 1, 2}
	for run := range b.opt.runs {
		if err := b.look(); err != nil {
			return err
		}
		for _, i := range order {
			if err := b.tools[i].begin(ctx, data); err != nil {
				return err
			}
			c, err := b.backup(ctx, i, data)
			if err != nil {
				return err
			}
			b.say("run %d, %s: first %s", run+1, b.tools[i].name, c)
			got[i].first = append(got[i].first, c)
		}
		if err := change(data, r); err != nil {
			return err
		}
		for _, i := range order {
			c, err := b.backup(ctx, i, data)
			if err != nil {
				return err
			}
			b.say("run %d, %s: second %s", run+1, b.tools[i].name, c)
			got[i].second = append(got[i].second, c)
		}
		for _, i := range order {
			c, err := b.restore(ctx, i, data, run == 0)
			if err != nil {
				return err
			}
			b.say("run %d, %s: restore %s", run+1, b.tools[i].name, c)
			got[i].restore = append(got[i].restore, c)
		}
		order = append(order[1:], order[0])
	}
	restic, borg := b.tools[1].version, b.tools[2].version
	b.compare("first backup", got[0].first, restic, got[1].first, 0.5)
	b.compare("first backup", got[0].first, borg, got[2].first, 0)
	b.table.Goal("first backup, stored", each(got[0].first, stored), restic, each(got[1].first, stored), "MB", 1.05)
	b.compareFaster("second backup after 1 %", func(s series) []cost { return s.second }, got, 0.5)
	b.compareFaster("restore", func(s series) []cost { return s.restore }, got, 0.5)
	for _, m := range []struct {
		name string
		of   func(series) []cost
	}{{"first backup", func(s series) []cost { return s.first }}, {"second backup after 1 %", func(s series) []cost { return s.second }},
		{"restore", func(s series) []cost { return s.restore }}} {
		b.memory(m.name, m.of(got[0]), restic, m.of(got[1]), mixedPeak)
	}
	return nil
}

// mixedPeak is how much memory the mixed files may take, in MB.
const mixedPeak = 100

// memory compares peaks of resident memory with a goal, unless that is 0, and with a peer.
func (b *bench) memory(name string, ours []cost, peer string, theirs []cost, goal float64) {
	name += ", peak memory"
	if goal > 0 {
		b.table.Goal(name, each(ours, peak), "the goal", []float64{goal}, "MB", 1)
	}
	b.table.Add(name, each(ours, peak), peer, each(theirs, peak), "MB")
}

// small measures many small files: first backup, a rescan without a change, restore.
func (b *bench) small(ctx context.Context, files int) error {
	data := filepath.Join(b.dir, "small")
	b.say("making %d small files", files)
	r := rand.New(rand.NewPCG(3, 4))
	if err := makeSmall(ctx, data, files, r); err != nil {
		return err
	}
	b.table.Notes = append(b.table.Notes, fmt.Sprintf("small: %d files of 100 to 400 bytes, one run", files))
	if err := b.look(); err != nil {
		return err
	}
	var first, again, restored [3][]cost
	for i, t := range b.tools {
		if err := t.begin(ctx, data); err != nil {
			return err
		}
		c, err := b.backup(ctx, i, data)
		if err != nil {
			return err
		}
		first[i] = []cost{c}
		b.say("%s: first %s", t.name, c)
		if c, err = b.backup(ctx, i, data); err != nil {
			return err
		}
		again[i] = []cost{c}
		b.say("%s: rescan %s", t.name, c)
		if i < 2 { // borg's is measured on the mixed files
			if c, err = b.restore(ctx, i, data, false); err != nil {
				return err
			}
			restored[i] = []cost{c}
			b.say("%s: restore %s", t.name, c)
		}
		if err := os.RemoveAll(t.repo()); err != nil {
			return err
		}
	}
	restic, borg := b.tools[1].version, b.tools[2].version
	name := fmt.Sprintf("%d small files, ", files)
	b.compare(name+"first backup", first[0], restic, first[1], 0.5)
	b.compare(name+"first backup", first[0], borg, first[2], 0)
	b.table.Add(name+"stored", each(first[0], stored), restic, each(first[1], stored), "MB")
	b.compare(name+"unchanged rescan", again[0], restic, again[1], 0.7)
	b.compare(name+"unchanged rescan", again[0], borg, again[2], 0)
	b.compare(name+"restore", restored[0], restic, restored[1], 0)
	b.memory(name+"first backup", first[0], restic, first[1], 0)
	b.memory(name+"unchanged rescan", again[0], restic, again[1], 0)
	b.memory(name+"restore", restored[0], restic, restored[1], 0)
	return os.RemoveAll(data)
}

func (b *bench) backup(ctx context.Context, i int, data string) (cost, error) {
	if err := warm(data); err != nil {
		return cost{}, err
	}
	c, err := b.tools[i].backup(ctx, data)
	if err != nil {
		return c, err
	}
	_, n, err := count(b.tools[i].repo())
	c.stored = float64(n) / 1e6
	return c, err
}

// restore brings the newest backup back; compared says that the content shall be
// looked at, too.
func (b *bench) restore(ctx context.Context, i int, data string, compared bool) (cost, error) {
	to := filepath.Join(b.dir, "restored")
	if err := warm(b.tools[i].repo()); err != nil {
		return cost{}, err
	}
	c, err := b.tools[i].restore(ctx, data, to)
	if err == nil && compared {
		if err = same(data, to); err != nil {
			err = fmt.Errorf("%s: %w", b.tools[i].name, err)
		}
	}
	if err != nil {
		return c, err
	}
	return c, os.RemoveAll(to)
}

// warm reads every file below dir, so that each tool finds the same page cache: borg has
// the system forget what it read, and whoever came behind it read from the disk.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
}

func (c cost) String() string {
	return fmt.Sprintf("%.1f s, processor %.1f s, peak %.0f MB, stored %.0f MB", c.wall, c.cpu, c.peak, c.stored)
}

func wall(c cost) float64   { return c.wall }
func cpu(c cost) float64    { return c.cpu }
func peak(c cost) float64   { return c.peak }
func stored(c cost) float64 { return c.stored }

func each(cs []cost, of func(cost) float64) []float64 {
	out := make([]float64, len(cs))
	for i, c := range cs {
		out[i] = of(c)
	}
	return out
}

func (b *bench) compare(name string, ours []cost, peer string, theirs []cost, goal float64) {
	b.table.Goal(name, each(ours, wall), peer, each(theirs, wall), "s", goal)
	b.table.Goal(name+", processors", each(ours, cpu), peer, each(theirs, cpu), "s", 0)
}

// compareFaster compares with the peer that is faster by wall time.
func (b *bench) compareFaster(name string, of func(series) []cost, got []series, goal float64) {
	i := 1
	if sum(each(of(got[2]), wall)) < sum(each(of(got[1]), wall)) {
		i = 2
	}
	b.compare(name, of(got[0]), b.tools[i].version, of(got[i]), goal)
}

func sum(xs []float64) (s float64) {
	for _, x := range xs {
		s += x
	}
	return s
}

// count is how many regular files lie below dir, and their bytes.
func count(dir string) (files, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		bytes += info.Size()
		return nil
	})
	return files, bytes, err
}

// same compares names, sizes, modes, times and content.
func same(want, got string) error {
	return filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(want, p)
		if err != nil {
			return err
		}
		a, err := os.Lstat(p)
		if err != nil {
			return err
		}
		b, err := os.Lstat(filepath.Join(got, rel))
		if err != nil {
			return err
		}
		if a.Mode() != b.Mode() && rel != "." || a.Mode().IsRegular() && (a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime())) {
			return fmt.Errorf("%s came back as %s, %d bytes, %s; it was %s, %d bytes, %s", rel, b.Mode(), b.Size(), b.ModTime(), a.Mode(), a.Size(), a.ModTime())
		}
		if !a.Mode().IsRegular() {
			return nil
		}
		return sameContent(p, filepath.Join(got, rel))
	})
}

func sameContent(p, q string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	g, err := os.Open(q)
	if err != nil {
		return err
	}
	defer g.Close()
	x, y := slices.Repeat([]byte{0}, 1<<20), slices.Repeat([]byte{1}, 1<<20)
	for {
		n, err := io.ReadFull(f, x)
		m, _ := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("%s is not what was backed up", q)
		}
		if err != nil {
			return nil // the lengths are equal
		}
	}
}
