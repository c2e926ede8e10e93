package test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/job"
	"holdfast/internal/plan"
)

// stopWithin is how long an orderly end may take.
const stopWithin = 30 * time.Second

// terminate asks the server to end, as a service manager does.
func (w *killWorld) terminate(what string) {
	w.t.Helper()
	began := time.Now()
	if err := w.endServer(syscall.SIGTERM); err != nil {
		w.t.Errorf("SIGTERM in the middle of %s: the server ended with %v\n%s", what, err, w.log())
	}
	took := time.Since(began)
	w.t.Logf("ended %s after SIGTERM in the middle of %s", took.Round(time.Millisecond), what)
	if took > stopWithin {
		w.t.Errorf("the end took %s, want at most %s", took, stopWithin)
	}
}

// An orderly end interrupts what runs, and it goes on after the next start.
func TestTerminatedServerGoesOn(t *testing.T) {
	t.Parallel()
	k := &killer{killWorld: newKillWorld(t, ""), took: map[string]time.Duration{}, gone: map[int]bool{}}
	k.serve()
	id := k.backup("db")
	k.wait("the backup to run", func() bool { j, err := k.api.Job(t.Context(), id); return err == nil && j.State == job.Running })
	k.terminate("a backup")
	k.serve()
	if j := k.settled(id); j.State != job.Done {
		t.Errorf("backup after the restart: %s: %s", j.State, j.Error)
	}
	k.received("db")
	k.flowing(time.Now())

	drill, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L6, Pick: "latest"})
	k.wait("the drill's engine to run", func() bool { return len(killMarked()) > 0 })
	k.terminate("a drill")
	k.nothingLeft()
	k.serve()
	k.settled(jobID)
	k.passed(drill)

	before := k.recoveries()
	destroyed := k.destroy()
	k.wait("a recovery to begin", func() bool { return len(k.recoveries()) > len(before) })
	k.terminate("a recovery")
	k.serve()
	k.recovered(before)
	k.servedOnce()
	k.nothingLost(time.Time{}, destroyed)
	k.terminate("nothing")
}

// killMarked lists the processes that run in a sandbox.
func killMarked() (pids []int) {
	for _, p := range killProcesses() {
		if strings.Contains(string(p.env), "HOLDFAST_SANDBOX=") && len(p.args) > 0 && filepath.Base(p.args[0]) == "postgres" {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// refused runs a second server, which must end by itself with one clear error.
func (w *killWorld) refused(dir string, want ...string) {
	w.t.Helper()
	other := &killWorld{t: w.t, bin: w.bin, ws: app.Workspace{Dir: dir}, state: w.state}
	out, status := other.cli("serve", "--listen", "127.0.0.1:0")
	if status != holdfast.ExitError || !strings.Contains(out, "hint: ") {
		w.t.Errorf("a second server in %s ended with status %d, want %d with a hint:\n%s", dir, status, holdfast.ExitError, out)
	}
	for _, s := range want {
		if !strings.Contains(out, s) {
			w.t.Errorf("a second server in %s says nothing of %q:\n%s", dir, s, out)
		}
	}
}

// A second server on the same workspace would fight for the slot and the sandboxes.
func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	w := newKillWorld(t, "")
	w.serve()
	pid := strconv.Itoa(w.server.cmd.Process.Pid)
	w.refused(w.ws.Dir, pid)
	if _, err := w.api.Overview(t.Context()); err != nil {
		t.Errorf("the first server does not answer any more: %v", err)
	}
}

// The state on PostgreSQL works as the file does, survives kills, and is one server's.
func TestStateOnPostgreSQL(t *testing.T) {
	t.Parallel()
	k := &killer{killWorld: newKillWorld(t, dbtest.Postgres(t)), took: map[string]time.Duration{"backup of db": 2 * time.Second, "drill": 4 * time.Second}, gone: map[int]bool{}}
	k.serve()
	copied := filepath.Join(k.dir, "copy") // the same keys and plan, as after a move to another machine
	k.copyKeys(copied)
	k.refused(copied, "another server", k.ws.Dir)

	for _, store := range []string{"db", "uploads"} {
		if j := k.settled(k.backup(store)); j.State != job.Done {
			t.Fatalf("backup of %s: %s: %s", store, j.State, j.Error)
		}
	}
	k.flowing(time.Now())
	id, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L6, Pick: "latest"})
	k.wait("the drill's engine to run", func() bool { return len(killMarked()) > 0 })
	k.endServer(syscall.SIGKILL)
	k.serve() // at once: the dead server's session must not stand in the way
	k.settled(jobID)
	k.passed(id)
	k.nothingLeft()
	pack := filepath.Join(k.dir, "evidence.zip")
	for _, args := range [][]string{{"evidence", "export", "--out", pack}, {"evidence", "verify", pack}, {"points", "db"}} {
		if out, status := k.cli(args...); status != 0 {
			t.Errorf("%v: status %d: %s", args, status, out)
		}
	}
	k.terminate("nothing")

	// Nobody has it now. A workspace of another repository is refused all the same.
	strange := filepath.Join(k.dir, "strange")
	if out, status := k.cli("init", strange); status != 0 {
		t.Fatalf("init: status %d: %s", status, out)
	}
	if p, err := plan.Load(filepath.Join(strange, "plan.yaml")); err != nil || p.Repository.ID == k.plan.Repository.ID {
		t.Fatalf("the other workspace: %v", err)
	}
	k.refused(strange, k.plan.Repository.ID)
}

// copyKeys gives another folder the plan and the keys of this workspace.
func (w *killWorld) copyKeys(dir string) {
	w.t.Helper()
	es, err := os.ReadDir(filepath.Join(w.ws.Dir, "keys"))
	if err != nil {
		w.t.Fatal(err)
	}
	names := []string{"plan.yaml"}
	for _, e := range es {
		if !e.IsDir() { // what is handed to auditors is no key of the server's
			names = append(names, filepath.Join("keys", e.Name()))
		}
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(w.ws.Dir, n))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}
