//go:build unix

package job

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
)

// Chains of steps, where each step enqueues the next in the transaction that
// settles it, run in processes that are killed and frozen at random. Afterwards
// every step has taken effect exactly once.

const (
	killChains = 12
	killSteps  = 12
)

// An effect has no key on purpose: a second one must show.
var effects = db.Module{Name: "effects", Migrations: fstest.MapFS{"00001_effects.sql": {Data: []byte(
	"-- +goose Up\nCREATE TABLE effect (chain INTEGER NOT NULL, step INTEGER NOT NULL, attempt INTEGER NOT NULL);")}}}

type chainStep struct{ Chain, Step int }

// victim is the process: it works until it is killed, and says where it is.
func victim(t *testing.T) {
	d, err := db.Open(t.Context(), os.Getenv("JOB_VICTIM_DSN"))
	if err != nil {
		t.Fatal(err)
	}
	e := New(d, Config{Owner: os.Getenv("JOB_VICTIM_OWNER"), Workers: 3, Lease: time.Second})
	say := func(what string, s chainStep) { fmt.Printf("%s %d.%d\n", what, s.Chain, s.Step) }
	e.Handle("step", func(ctx context.Context, w *Work) error {
		var s chainStep
		if err := w.Decode(&s); err != nil {
			return err
		}
		say("begin", s)
		err := w.Done(ctx, nil, func(tx *db.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO effect (chain, step, attempt) VALUES (?, ?, ?)", s.Chain, s.Step, w.Job().Attempt); err != nil {
				return err
			}
			say("wrote", s)
			if s.Step == killSteps {
				return nil
			}
			_, err := e.Enqueue(ctx, tx, Insert{Kind: "step", Key: fmt.Sprint(s.Chain), Args: chainStep{s.Chain, s.Step + 1}})
			return err
		})
		say("end", s)
		return err
	}, HandlerOptions{MaxAttempts: 50, Backoff: func(int) time.Duration { return 10 * time.Millisecond }})
	e.Handle("beat", nothing, HandlerOptions{})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // ends if the test itself was killed
	os.Exit(1)
}

// A herd is the processes of one test.
type herd struct {
	t      *testing.T
	dsn    string
	lines  chan string
	owners int
	procs  []*exec.Cmd
	owner  []string
}

func (h *herd) start(i int) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestRandomKills$")
	cmd.Env = append(os.Environ(), "JOB_VICTIM_DSN="+h.dsn, "JOB_VICTIM_OWNER="+h.owner[i])
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill() }) // if the test fails before it does so
	h.procs[i] = cmd
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			h.lines <- s.Text()
		}
	}()
}

func (h *herd) newOwner(i int) {
	h.owners++
	h.owner[i] = "victim-" + strconv.Itoa(h.owners)
}

func (h *herd) kill(i int) {
	if err := h.procs[i].Process.Kill(); err != nil {
		h.t.Error(err)
	}
	_ = h.procs[i].Wait() // it was killed
}

func (h *herd) signal(i int, s syscall.Signal) {
	if err := h.procs[i].Process.Signal(s); err != nil {
		h.t.Error(err)
	}
}

// hear waits until the herd has said n lines or the time is over.
func (h *herd) hear(n int, atMost time.Duration) {
	over := time.After(atMost)
	for range n {
		select {
		case <-h.lines:
		case <-over:
			return
		}
	}
}

func TestRandomKills(t *testing.T) {
	if os.Getenv("JOB_VICTIM_DSN") != "" {
		victim(t)
	}
	for dialect, procs := range map[string]int{db.SQLite: 2, db.Postgres: 3} {
		t.Run(dialect, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed) // the order of events is the machine's, so it repeats only roughly
			rnd := rand.New(rand.NewPCG(seed, 0))
			h := &herd{t: t, dsn: dbtest.DSN(t, dialect), lines: make(chan string, 10000), procs: make([]*exec.Cmd, procs), owner: make([]string, procs)}
			d := dbtest.Open(t, h.dsn, Module, effects)
			e := New(d, Config{Owner: "parent"})
			setSchedules(t, e, Schedule{Name: "beat", Kind: "beat", Every: recurrence(t, "every 1s")})
			for chain := range killChains {
				enqueue(t, e, Insert{Kind: "step", Key: fmt.Sprint(chain), Args: chainStep{chain, 1}})
			}
			for i := range procs {
				h.newOwner(i)
				h.start(i)
			}
			kills, freezes := 0, 0
			limit := time.Now().Add(4 * time.Minute) // a lost step would end the chain, and the test never
			for left := 1; left > 0; {
				h.hear(rnd.IntN(16), time.Second)
				i := rnd.IntN(procs)
				if rnd.IntN(5) == 0 {
					// Longer than its lease, unless the others get on without it.
					h.signal(i, syscall.SIGSTOP)
					h.hear(30, 1500*time.Millisecond)
					h.signal(i, syscall.SIGCONT)
					freezes++
				} else {
					h.kill(i)
					if rnd.IntN(3) == 0 {
						h.newOwner(i) // another machine: nobody takes the jobs back before their lease ends
					}
					h.start(i)
					kills++
				}
				left = count(t, d, "SELECT count(*) FROM job_jobs WHERE kind = 'step' AND state IN ('waiting', 'running')")
				if time.Now().After(limit) {
					t.Errorf("%d steps are still unfinished", left)
					break
				}
			}
			for i := range procs {
				h.kill(i)
			}
			t.Logf("%d kills, %d freezes, %d owners", kills, freezes, h.owners)
			checkEffects(t, d)
		})
	}
}

func count(t *testing.T, d *db.DB, q string, args ...any) (n int) {
	t.Helper()
	if err := d.View(t.Context(), func(tx *db.Tx) error { return tx.QueryRow(t.Context(), q, args...).Scan(&n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func checkEffects(t *testing.T, d *db.DB) {
	var all []chainStep
	err := d.View(t.Context(), func(tx *db.Tx) (err error) {
		all, err = db.Collect(func(r *sql.Rows) (s chainStep, err error) { return s, r.Scan(&s.Chain, &s.Step) })(
			tx.Query(t.Context(), "SELECT chain, step FROM effect"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[chainStep]int{}
	for _, s := range all {
		seen[s]++
	}
	for chain := range killChains {
		for step := 1; step <= killSteps; step++ {
			if n := seen[chainStep{chain, step}]; n != 1 {
				t.Errorf("step %d of chain %d took effect %d times", step, chain, n)
			}
		}
	}
	if n := count(t, d, "SELECT count(*) FROM job_jobs WHERE kind = 'step' AND state = 'done'"); n != killChains*killSteps {
		t.Errorf("%d steps are done, want %d", n, killChains*killSteps)
	}
	if n := count(t, d, "SELECT count(*) FROM job_jobs WHERE kind = 'step' AND state <> 'done'"); n != 0 {
		t.Errorf("%d steps are not done", n)
	}
	// Each started slot has its job, and no slot has two.
	if n := count(t, d, "SELECT count(*) FROM job_slots s WHERE s.job <> 0 AND (SELECT count(*) FROM job_jobs j WHERE j.slot = s.id AND j.id = s.job) <> 1"); n != 0 {
		t.Errorf("%d slots do not have their job", n)
	}
	if a, b := count(t, d, "SELECT count(*) FROM job_jobs WHERE slot <> 0"), count(t, d, "SELECT count(*) FROM job_slots WHERE job <> 0"); a != b || a == 0 {
		t.Errorf("%d jobs for %d slots", a, b)
	}
}
