package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A daemon is a command of the product that runs until it is told to end, or is killed.
type daemon struct {
	args []string
	cmd  *exec.Cmd
	out  *output
	gone chan struct{}
}

func (d *daemon) start(t *testing.T) {
	t.Helper()
	d.out, d.gone = &output{}, make(chan struct{})
	d.cmd = exec.Command(binary, d.args...)
	d.cmd.Env = environment(t)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, gone chan struct{}) { _ = cmd.Wait(); close(gone) }(d.cmd, d.gone)
}

func (d *daemon) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	_ = d.cmd.Process.Signal(sig) // it may have ended
	<-d.gone
}

// A database on another machine, whose agent can only put: the server cannot reach it, and
// sees, drills and restores what the agent ships. Agent, server and gateway go away in
// turn, and nothing that was committed is missing afterwards.
func TestDatabaseBehindAnAgent(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	c.sql(t, "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz)")
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP TABLE ledger"); err != nil {
			t.Error(err)
		}
	})
	s := split{disk: filepath.Join(place(t), "disk"), server: f.workspace}
	s = s.divided(t, fmt.Sprintf("{kind: dir, path: %q}", s.disk))
	key := regexp.MustCompile(`agent: \{key: "[^"]*"\}`).FindString(treeOf(t, s.host.dir)["plan.yaml"])
	for _, plan := range []string{s.host.plan(), s.server.plan()} {
		edit(t, plan, func(p string) string {
			return strings.Replace(p, "  db:\n    kind: postgres\n", "  db:\n    kind: postgres\n    "+key+"\n", 1)
		})
	}
	// The server has no way to the database.
	edit(t, s.server.plan(), func(p string) string {
		return regexp.MustCompile(`(dsn: .*?port=)\d+`).ReplaceAllString(p, "${1}1")
	})
	agent := &daemon{args: []string{"--dir", s.host.dir, "agent", "source"}}
	agent.start(t)
	defer func() {
		agent.end(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the agent said:\n%s", agent.out)
		}
	}()
	f.server = serve(t, s.server.dir)
	row := 0
	commit := func() time.Time {
		t.Helper()
		for range 3 {
			row++
			c.sql(t, fmt.Sprintf("INSERT INTO ledger VALUES (%d, clock_timestamp())", row))
		}
		return c.clock(t)
	}
	until(t, "a base that the server offers", func() bool { return len(f.points(t)["offsite"]) > 0 })
	first := commit()
	f.reaches(t, first, 1)
	until(t, "its receipt", func() bool {
		found, err := filepath.Glob(filepath.Join(s.disk, "receipts", "db", "2*"))
		return err == nil && len(found) > 0
	})
	var d drilled
	f.run(t, "drill", "db", "--json").object(t, &d)
	if d.State != "passed" || d.Rung < 4 {
		t.Errorf("the drill ended %s at L%d", d.State, d.Rung)
	}
	// The agent dies in the middle, commits go on, and it comes back.
	agent.end(t, syscall.SIGKILL)
	commit()
	c.sql(t, "SELECT pg_switch_wal()")
	commit()
	agent.start(t)
	f.reaches(t, c.clock(t), 1)
	// The server is away: the agent needs nobody.
	f.server.stop(t)
	pieces := len(logPieces(t, s.disk))
	alone := commit()
	until(t, "pieces that arrive without a server", func() bool { return len(logPieces(t, s.disk)) > pieces })
	f.server = serve(t, s.server.dir)
	f.reaches(t, alone, 1)
	// Its memory of what it wrote is lost: it is put again, and nothing is doubled.
	agent.end(t, syscall.SIGKILL)
	if err := os.RemoveAll(filepath.Join(s.host.dir, "cache")); err != nil {
		t.Fatal(err)
	}
	commit()
	agent.start(t)
	last := commit()
	f.reaches(t, last, 1)
	for _, w := range f.points(t)["offsite"] {
		if w.Hole != "" {
			t.Errorf("there is a hole: %+v", w)
		}
	}
	if got := f.back(t, "all", "--latest"); len(got) != row {
		t.Errorf("%d of %d rows came back: %v", len(got), row, got)
	}
	if got := f.back(t, "first", "--at", at(first)); len(got) != 3 {
		t.Errorf("at %s the rows %v come back, want 3", at(first), got)
	}
	for name, b := range treeOf(t, s.host.dir) {
		if strings.Contains(b, "AGE-SECRET-KEY") {
			t.Errorf("%s holds a read key", name)
		}
	}
}
