// Command repo measures Holdfast's backups of files against restic and borg: in one
// run, on one machine, on data that it makes itself.
//
//	go run ./bench/repo [-only mixed,verify,index,small,million]
//
// Mixed is about 3 GB of files of all kinds, verify reads the repository that they
// leave, index knows the chunks of a terabyte that is not there, small is many files of
// a few hundred bytes, and million as many of them as that. Each can be measured alone.
//
// Ours is the built program (bin/holdfast backup and restore, with one location and
// no server), theirs are the installed programs; all encrypt and compress. Each takes
// its turn on the same data in the same run, so that a slow minute of the machine
// hits all. Wall time includes the sync after which a power cut loses nothing.
// Processor time, user and system, stands beside it: it says more on a machine that
// is busy with other things.
//
// # What it does not show
//
// Everything is read once before each turn, so that the page cache is warm for everybody,
// and the repositories lie on the disk of the data. Carry ratios to another machine, not
// seconds.
//
// The environment may set BENCH_DIR (where to work; everything is removed at the
// end), BENCH_RUNS (of the mixed files; the small ones are run once), BENCH_MB (of
// mixed files) and BENCH_FILES (how many small ones; million takes no notice of it).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/bench/table"
	"holdfast/internal/durable"
)

const (
	resultsFile = "bench/results.json"
	maxRuns     = 20
	million     = 1_000_000
)

type options struct {
	parent string
	runs   int
	mb     int // of mixed files
	files  int // small ones
	only   map[string]bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		stop()
		os.Exit(1)
	}
}

// parts in the order in which they are measured. "small" is for whoever has no time
// for a million.
var (
	parts   = []string{"mixed", "verify", "index", "small", "million"}
	usually = []string{"mixed", "verify", "index", "million"}
)

func readOptions() (options, error) {
	opt := options{parent: os.Getenv("BENCH_DIR"), runs: 3, mb: 3000, files: 200_000, only: map[string]bool{}}
	only := flag.String("only", strings.Join(usually, ","), "what to measure: some of "+strings.Join(parts, ", "))
	flag.Parse()
	for part := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(parts, part) {
			return opt, fmt.Errorf("-only %q: want some of %s", part, strings.Join(parts, ", "))
		}
		opt.only[part] = true
	}
	for _, v := range []struct {
		name     string
		to       *int
		min, max int
	}{{"BENCH_RUNS", &opt.runs, 1, maxRuns}, {"BENCH_MB", &opt.mb, 20, 100_000}, {"BENCH_FILES", &opt.files, 1000, 10_000_000}} {
		text := os.Getenv(v.name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < v.min || n > v.max {
			return opt, fmt.Errorf("%s=%q: want a number from %d to %d", v.name, text, v.min, v.max)
		}
		*v.to = n
	}
	return opt, nil
}

// A bench is one run.
type bench struct {
	opt   options
	dir   string
	tools []tool // ours first
	table table.Table
	noise []float64 // seconds that the same small piece of work took, over the run
	load  []float64
}

func measure(ctx context.Context) (err error) {
	opt, err := readOptions()
	if err != nil {
		return err
	}
	install := exec.CommandContext(ctx, "tools/install.sh", "bench-repo")
	install.Stdout, install.Stderr = os.Stderr, os.Stderr
	if err := install.Run(); err != nil {
		return fmt.Errorf("the peers are not all here (run this in the root of the repository): %w", err)
	}
	b := &bench{opt: opt}
	if b.dir, err = os.MkdirTemp(opt.parent, "holdfast-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	free, err := durable.FreeBytes(b.dir)
	if err != nil {
		return err
	}
	// The data, a repository each and one restore; a small file takes a block. One part
	// is gone before the next one begins.
	files := 0
	if opt.only["small"] {
		files = opt.files
	}
	if opt.only["million"] {
		files = max(files, million)
	}
	need := uint64(files) * 3 * 4096
	if opt.only["mixed"] || opt.only["verify"] {
		need = max(need, uint64(opt.mb)*4<<20)
	}
	if free < need {
		return fmt.Errorf("%q has %d MiB free, and this takes up to %d MiB: set BENCH_DIR, BENCH_MB or BENCH_FILES", b.dir, free>>20, need>>20)
	}
	if err := b.setUp(ctx); err != nil {
		return err
	}
	return b.all(ctx)
}

func (b *bench) all(ctx context.Context) error {
	began := time.Now()
	names := make([]string, len(b.tools))
	for i, t := range b.tools {
		names[i] = t.version
	}
	b.table.Notes = append(b.table.Notes, fmt.Sprintf("%s; %d processors, %s; page cache warm for all; wall time includes a sync", strings.Join(names, ", "), runtime.NumCPU(), runtime.Version()))
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"mixed", b.mixed}, {"verify", b.verify}, {"index", b.index}, {"small", func(ctx context.Context) error { return b.small(ctx, b.opt.files) }},
		{"million", func(ctx context.Context) error { return b.small(ctx, million) }}} {
		if !b.opt.only[part.name] {
			continue
		}
		err := part.measure(ctx)
		if part.name != "mixed" || !b.opt.only["verify"] { // which looks at what mixed leaves
			err = errors.Join(err, b.clean())
		}
		if err != nil {
			if len(b.table.Rows) > 0 { // what was measured until then was measured
				err = errors.Join(err, b.table.Print(os.Stdout), b.table.Write(resultsFile))
			}
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
	}
	if err := b.look(); err != nil {
		return err
	}
	b.table.Notes = append(b.table.Notes,
		fmt.Sprintf("noise: the same small piece of work took %.2f s (%.2f to %.2f) over the run; load average %.1f to %.1f", table.Median(b.noise), slices.Min(b.noise), slices.Max(b.noise), slices.Min(b.load), slices.Max(b.load)),
		fmt.Sprintf("all of it took %s", time.Since(began).Round(time.Second)))
	return errors.Join(b.table.Print(os.Stdout), b.table.Write(filepath.FromSlash(resultsFile)))
}

// clean removes data and repositories, so that each part has the disk for itself.
func (b *bench) clean() error {
	des, err := os.ReadDir(b.dir)
	for _, de := range des {
		err = errors.Join(err, os.RemoveAll(filepath.Join(b.dir, de.Name())))
	}
	return err
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
