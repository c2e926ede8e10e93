package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"

	"holdfast/internal/app"
	"holdfast/internal/location/dir"
	"holdfast/internal/repo"
)

// verify measures how fast one core authenticates what is stored, and how fast it
// reads all of it as a restore would: bytes by processor time. It looks at the
// repository that the mixed files left, or makes one.
func (b *bench) verify(ctx context.Context) error {
	t := b.tools[0]
	data := filepath.Join(b.dir, "data")
	if !b.opt.only["mixed"] {
		b.opt.runs = 1
		if err := b.mixed(ctx); err != nil {
			return err
		}
	}
	store, err := dir.New(t.repo())
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, store)
	if err != nil {
		return err
	}
	ms, err := r.Manifests(ctx, "data")
	if err != nil || len(ms) == 0 {
		return fmt.Errorf("no snapshot of %s: %w", data, err)
	}
	m := ms[len(ms)-1]
	var authentic, whole []float64
	for range max(3, b.opt.runs) {
		began, stored := used(), int64(0)
		for _, p := range m.Packs {
			if err := r.CheckPack(ctx, p); err != nil {
				return err
			}
			stored += p.Size
		}
		authentic = append(authentic, float64(stored)/1e9/(used()-began))
		id, err := app.ReadIdentity(filepath.Join(b.dir, "ours", "workspace", "keys", app.KeyRunner))
		if err != nil {
			return err
		}
		s, err := r.Snapshot(ctx, m, id)
		if err != nil {
			return err
		}
		began = used()
		damage, err := s.Verify(ctx, nil)
		if err != nil || len(damage) > 0 {
			return fmt.Errorf("%d places are damaged: %w", len(damage), err)
		}
		whole = append(whole, float64(m.Bytes)/1e9/(used()-began))
	}
	b.table.Add("verify, stored bytes authenticated per core (goal 2.5 or more)", authentic, "the goal", []float64{2.5}, "GB/s")
	b.table.Add("verify, original bytes opened and compared per core (goal 0.8 or more)", whole, "the goal", []float64{0.8}, "GB/s")
	return nil
}

// peakLine is what the test of a terabyte's index says of its process, in MB.
var peakLine = regexp.MustCompile(`peak of the process while it wrote \d+ MB more: (\d+) MB`)

// index measures the memory of a process that knows the chunks of a terabyte and backs up
// more. The terabyte is made up: its packs are names and sizes, its chunks are in the cache.
func (b *bench) index(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestIndexOfATerabyteFitsIntoMemory$", "./internal/repo").CombinedOutput()
	if err != nil {
		return fmt.Errorf("index of a terabyte: %w: %s", err, out)
	}
	found := peakLine.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("index of a terabyte: no peak in %q", out)
	}
	mb, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		return err
	}
	b.table.Goal("a terabyte of known chunks, peak memory", []float64{mb}, "the goal", []float64{256}, "MB", 1)
	return nil
}

// used is the processor time of this process so far, in seconds.
func used() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err) // the arguments are constants
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
