// Command bench measures Holdfast's PostgreSQL backups against pg_basebackup and
// pgBackRest: in one run, on one machine, on one database that it makes itself.
//
//	go run ./bench [-only backup,next,restore,risk] [-profile DIR]
//
// What is compared is what a user gets: ours is the product's own code (the same
// writer, stream and restore that "holdfast serve" runs), theirs the installed
// programs. Both encrypt; only pg_basebackup does not, and it stands there as the
// floor. Each measure is taken several times, ours and theirs in turn, so that a
// slow minute of the machine hits both; the table shows medians and how far the
// runs lie apart.
//
// # What it does not show
//
// The page cache is warm for everybody, the locations are directories on the disk
// of the database, and the database is small. Carry ratios to another machine, not
// seconds.
//
// The environment may set BENCH_SCALE (of pgbench, 68 is about 1 GB), BENCH_DIR
// (where to work; everything is removed at the end), BENCH_RUNS (at least 3) and
// BENCH_FILL (text or blank: what the rows are filled with).
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
	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

const (
	resultsFile  = "bench/results.json"
	minRuns      = 3
	maxRuns      = 50
	defaultScale = 68
	maxScale     = 10_000
	scaleBytes   = 16 << 20 // of database per unit of pgbench's scale
)

// options say what to measure.
type options struct {
	scale   int
	runs    int
	parent  string // of the work folder
	profile string // folder for CPU profiles of our side; none if empty
	blank   bool   // rows as pgbench fills them: mostly blanks
	only    map[string]bool
}

func main() {
	// The restored server asks us for its log, as it asks the product.
	if len(os.Args) > 1 && os.Args[1] == "restore-command" {
		os.Exit(postgres.RestoreCommandMain(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func readOptions() (options, error) {
	opt := options{scale: defaultScale, runs: minRuns, parent: os.Getenv("BENCH_DIR"), only: map[string]bool{}}
	only := flag.String("only", "backup,next,restore,risk", "what to measure")
	flag.StringVar(&opt.profile, "profile", "", "folder for CPU profiles of our side")
	flag.Parse()
	if flag.NArg() > 0 {
		return opt, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	for part := range strings.SplitSeq(*only, ",") {
		if !slices.Contains([]string{"backup", "next", "restore", "risk"}, part) {
			return opt, fmt.Errorf("-only %q: want some of backup, next, restore, risk", part)
		}
		opt.only[part] = true
	}
	switch fill := os.Getenv("BENCH_FILL"); fill {
	case "", "text":
	case "blank":
		opt.blank = true
	default:
		return opt, fmt.Errorf("BENCH_FILL=%q: want text or blank", fill)
	}
	for _, v := range []struct {
		name     string
		to       *int
		min, max int
	}{{"BENCH_SCALE", &opt.scale, 1, maxScale}, {"BENCH_RUNS", &opt.runs, minRuns, maxRuns}} {
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

// install brings the peers where it may, and names them where it may not.
func install(ctx context.Context) error {
	const script = "tools/install.sh"
	if _, err := os.Stat(script); err != nil {
		return fmt.Errorf("run this in the root of the repository (%w)", err)
	}
	cmd := exec.CommandContext(ctx, script, "bench")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the peers are not all here: %w", err)
	}
	return nil
}

func run(ctx context.Context) error {
	opt, err := readOptions()
	if err != nil {
		return err
	}
	if err := install(ctx); err != nil {
		return err
	}
	if opt.profile != "" {
		if err := os.MkdirAll(opt.profile, 0o755); err != nil {
			return err
		}
	}
	b, err := newBench(ctx, opt)
	if err != nil {
		return err
	}
	err = b.all(ctx)
	// The results are worth nothing if a part failed, and are written all the same:
	// what was measured until then was measured.
	return errors.Join(err, b.clean(context.WithoutCancel(ctx)))
}

// A bench is one run: its database, its folder and what it has measured.
type bench struct {
	opt     options
	dir     string
	account *sandbox.Account
	binDir  string
	server  *postgres.Server
	peer    *pgBackRest
	table   table.Table
	noise   []float64 // seconds that the same small piece of work took, over the run
	load    []float64
}

func newBench(ctx context.Context, opt options) (*bench, error) {
	b := &bench{opt: opt}
	var err error
	if b.binDir, err = postgres.FindBinDir(0); err != nil {
		return nil, err
	}
	if b.account, err = sandbox.Unprivileged(ctx, ""); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp(opt.parent, "holdfast-bench-"); err != nil {
		return nil, err
	}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// prepare checks the folder.
func (b *bench) prepare() error {
	if err := os.Chmod(b.dir, 0o755); err != nil { // the server's account works in it
		return err
	}
	if err := b.account.Reach(b.dir); err != nil {
		return err
	}
	free, err := durable.FreeBytes(b.dir)
	if err != nil {
		return err
	}
	// The database, a copy, two restores with their log, and the repositories.
	need := uint64(b.opt.scale)*scaleBytes*8 + 8<<30
	if free < need {
		return fmt.Errorf("%q has %d MiB free, and this takes up to %d MiB: set BENCH_DIR or a smaller BENCH_SCALE", b.dir, free>>20, need>>20)
	}
	return nil
}

// clean stops the server and removes everything.
func (b *bench) clean(ctx context.Context) error {
	var errs []error
	if b.server != nil {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := b.server.Stop(ctx); err != nil {
			errs = append(errs, err, b.server.Kill())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

func (b *bench) all(ctx context.Context) error {
	began := time.Now()
	if err := b.makeDatabase(ctx); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	version, err := b.setUpPeer(ctx)
	if err != nil {
		return fmt.Errorf("set up pgBackRest: %w", err)
	}
	size, err := b.server.QueryIn(ctx, database, "SELECT sum(pg_database_size(oid)) / 1000000 FROM pg_database")
	if err != nil {
		return err
	}
	filled := "rows filled with text (BENCH_FILL=blank for pgbench's own)"
	if b.opt.blank {
		filled = "rows filled with blanks, as pgbench does"
	}
	b.table.Notes = append(b.table.Notes,
		fmt.Sprintf("PostgreSQL %s with data checksums, pgbench scale %d: %.0f MB, %s; %s; %d processors, %s", b.server.Version(), b.opt.scale, number(size[0][0]), filled, version, runtime.NumCPU(), runtime.Version()),
		fmt.Sprintf("%d runs each, ours and theirs in turn; page cache warm for all; locations are folders on the disk of the database (%s)", b.opt.runs, fileSystem(b.dir)))
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"backup", b.backups}, {"next", b.nexts}, {"restore", b.restores}, {"risk", b.risk}} {
		if !b.opt.only[part.name] {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return errors.Join(fmt.Errorf("measure %s: %w", part.name, err), b.table.Write(filepath.FromSlash(resultsFile)))
		}
	}
	b.table.Notes = append(b.table.Notes,
		fmt.Sprintf("noise: the same small piece of work took %.2f s (%.2f to %.2f) over the run; load average %.1f to %.1f", table.Median(b.noise), slices.Min(b.noise), slices.Max(b.noise), slices.Min(b.load), slices.Max(b.load)),
		fmt.Sprintf("all of it took %s", time.Since(began).Round(time.Second)))
	return errors.Join(b.table.Print(os.Stdout), b.table.Write(filepath.FromSlash(resultsFile)))
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}
