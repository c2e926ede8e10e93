package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/recovery"
	"holdfast/internal/source/postgres"
)

func restoreStep(store string) recovery.Step {
	return recovery.Step{ID: "restore-" + store, Kind: recovery.StepRestore, Store: store, Location: "near", Target: holdfast.Target{Kind: holdfast.TargetLatest}}
}

func noProgress(holdfast.Progress) {}

// The server dies when a folder is back and before that is recorded. People work in
// it already: the next attempt must see that the step is done, and touch nothing.
func TestRestoreOfAFolderIsNotRepeated(t *testing.T) {
	c := newCompany(t, false, nil)
	h := c.hands("uploads")
	if err := os.RemoveAll(c.uploads()); err != nil {
		t.Fatal(err)
	}
	first, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("uploads"), noProgress)
	if err != nil {
		t.Fatal(err)
	}
	c.put("new.txt", "uploaded after the recovery\n")
	again, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("uploads"), noProgress)
	if err != nil {
		t.Fatal(err)
	}
	if again.Snapshot != first.Snapshot || again.Fetch != first.Fetch || again.Reached != first.Reached {
		t.Errorf("the second attempt says %+v, the first said %+v", again, first)
	}
	if _, err := os.Stat(filepath.Join(c.uploads(), "new.txt")); err != nil {
		t.Errorf("what was uploaded after the recovery is gone: %v", err)
	}
	c.noAside(c.uploads())
}

// A different recovery, of a later loss, is a new one: what it finds is moved aside.
func TestRestoreOfALaterLossIsAnother(t *testing.T) {
	c := newCompany(t, false, nil)
	h := c.hands("uploads")
	for _, run := range []string{"INC-1-aaaa", "INC-2-bbbb"} {
		c.put("broken.txt", run)
		if _, err := h.Restore(t.Context(), run, restoreStep("uploads"), noProgress); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(c.uploads(), "broken.txt")); !os.IsNotExist(err) {
			t.Errorf("run %s did not restore anew", run)
		}
		if b, err := os.ReadFile(filepath.Join(c.uploads()+".before-"+run, "broken.txt")); err != nil || string(b) != run {
			t.Errorf("what run %s found was not kept: %q %v", run, b, err)
		}
	}
}

// The same for a database: it serves, customers write, and the step is not recorded.
func TestRestoreOfADatabaseIsNotRepeated(t *testing.T) {
	c := newCompany(t, true, nil)
	h := c.hands("db")
	c.killDatabase()
	first, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("db"), noProgress)
	if err != nil {
		t.Fatal(err)
	}
	pid := c.postmaster()
	c.sql("INSERT INTO orders VALUES (1000001)")
	again, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("db"), noProgress)
	if err != nil {
		t.Fatal(err)
	}
	if again.Reached != first.Reached || again.Address != first.Address {
		t.Errorf("the second attempt says %+v, the first said %+v", again, first)
	}
	if got := c.postmaster(); got != pid {
		t.Errorf("the server that served was process %s, now it is %s", pid, got)
	}
	c.sql("SELECT 1 / count(*) FROM orders WHERE n = 1000001")
	c.noAside(c.dataDir())

	// It died in between: it is started, not restored over what it acknowledged.
	if err := postgres.StopLeftover(t.Context(), c.dataDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("db"), noProgress); err != nil {
		t.Fatal(err)
	}
	c.sql("SELECT 1 / count(*) FROM orders WHERE n = 1000001")

	// The disk died, too: then it is restored again.
	c.killDatabase()
	if _, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("db"), noProgress); err != nil {
		t.Fatal(err)
	}
	c.sql("SELECT 1 / count(*) FROM orders WHERE n = 100")
}

// A store that does not answer may be alive all the same. Its files are not taken
// from under a server that works on them.
func TestRestoreLeavesALiveServerAlone(t *testing.T) {
	c := newCompany(t, true, nil)
	h := c.hands("db")
	pid := c.postmaster()
	_, err := h.Restore(t.Context(), "INC-1-aaaa", restoreStep("db"), noProgress)
	if err == nil || !strings.Contains(err.Error(), pid) || holdfast.Hint(err) == "" {
		t.Errorf("restore over a live server: %v (hint %q), want a refusal that names process %s", err, holdfast.Hint(err), pid)
	}
	if got := c.postmaster(); got != pid {
		t.Errorf("the server was process %s, now it is %s", pid, got)
	}
	c.sql("SELECT 1 / count(*) FROM orders")
	c.noAside(c.dataDir())
}

func (c *company) noAside(path string) {
	c.t.Helper()
	if left, _ := filepath.Glob(path + ".before-*"); len(left) > 0 {
		c.t.Errorf("moved aside: %v", left)
	}
}

// killDatabase loses the database with its files.
func (c *company) killDatabase() {
	c.t.Helper()
	if err := c.server.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if err := postgres.StopLeftover(c.t.Context(), c.dataDir()); err != nil {
		c.t.Fatal(err)
	}
	c.wait("the database's files to be gone", func() bool { return os.RemoveAll(c.dataDir()) == nil })
}

// postmaster is the number of the process that serves the data directory.
func (c *company) postmaster() string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dataDir(), "postmaster.pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, _, _ := strings.Cut(string(b), "\n")
	return pid
}

// hands backs a store up and returns the hands of a product that does nothing by
// itself.
func (c *company) hands(store string) hands {
	c.t.Helper()
	a := c.start()
	c.backup(a, store, "near")
	if err := a.Stop(); err != nil {
		c.t.Fatal(err)
	}
	a = c.open()
	c.t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			c.t.Error(err)
		}
	})
	return hands{a}
}
