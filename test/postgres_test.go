package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A database in which nothing happens can be brought back to any instant up to some
// seconds ago, from each location alone.
func TestIdleDatabase(t *testing.T) {
	f := protect(t)
	f.cluster.sql(t, "INSERT INTO ledger VALUES (1, clock_timestamp())")
	instant := f.cluster.clock(t).Add(3 * time.Second) // the commit is in its piece by then
	// Nothing is committed from here on, and still the window goes on, at each place.
	f.reaches(t, instant, 2)
	f.server.stop(t)
	for _, l := range []string{"near", "offsite"} {
		if got := f.back(t, "quiet-"+l, "--at", at(instant), "--location", l); len(got) != 1 || got[0] != 1 {
			t.Errorf("%s brings back %v at an instant at which nothing happened", l, got)
		}
	}
}

// An incidentSeen is one of "incident list --json".
type incidentSeen struct {
	ID          int64
	Kind, Title string
	Stores      []string
	DetectedAt  time.Time `json:"detected_at"`
}

// incidents lists what is being answered.
func (w workspace) incidents(t *testing.T) (out []incidentSeen) {
	t.Helper()
	e := w.run(t, "incident", "list", "--json").want(t, 0)
	if err := json.Unmarshal([]byte(e.out), &out); err != nil {
		t.Fatalf("%v: %v", err, e)
	}
	return out
}

func (w workspace) incidentOf(t *testing.T, kind, store string) (incidentSeen, bool) {
	t.Helper()
	for _, i := range w.incidents(t) {
		if i.Kind == kind && len(i.Stores) == 1 && i.Stores[0] == store {
			return i, true
		}
	}
	return incidentSeen{}, false
}

func TestLogLossRows(t *testing.T) {
	f := protect(t)
	t.Run("PIT-04 a piece of log is deleted", func(t *testing.T) {
		before := len(logPieces(t, f.near)) // up to the end of the base
		for n := range 4 { // segments that the agent does not hold any more
			f.cluster.sql(t, "INSERT INTO ledger VALUES ("+strconv.Itoa(n)+", clock_timestamp())")
			f.cluster.sql(t, "SELECT pg_switch_wal()")
		}
		f.cluster.sql(t, "INSERT INTO ledger VALUES (9, clock_timestamp())")
		whole := f.cluster.clock(t)
		f.reaches(t, whole, 2)
		old := f.points(t)["near"][0]
		pieces := logPieces(t, f.near)
		gone := pieces[before+1]
		deleted := time.Now()
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		until(t, "an incident about the log", func() bool { _, ok := f.incidentOf(t, "log-gap", "db"); return ok })
		i, _ := f.incidentOf(t, "log-gap", "db")
		if took := i.DetectedAt.Sub(deleted); took > 15*time.Minute {
			t.Errorf("noticed after %s, later than the RPO", took)
		}
		until(t, "a new base that nobody asked for", func() bool {
			ws := f.points(t)["near"]
			return len(ws) > 1 && ws[len(ws)-1].From.After(deleted)
		})
		ws := f.points(t)["near"]
		if ws[0].Hole == "" || !ws[0].To.Before(old.To) {
			t.Errorf("the hole is not shown: %+v", ws)
		}
		// An instant in the hole: after the last that the first window offers.
		f.run(t, "restore", "db", "--to", filepath.Join(f.root, "hole"), "--location", "near", "--at", at(old.To)).refuses(t, 1, `cannot be brought back`, `nearest window`)
		if got := f.back(t, "after-hole", "--location", "near", "--latest"); len(got) != 5 {
			t.Errorf("behind the hole %v came back", got)
		}
		if got := f.back(t, "other", "--location", "offsite", "--at", at(whole)); len(got) != 5 {
			t.Errorf("offsite, which lost nothing, brought %v back", got)
		}
	})
}

func TestBackupTroubleRows(t *testing.T) {
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	edit(t, f.plan(), func(s string) string {
		i := strings.Index(s, "    log: {max_lag: ")
		j := i + strings.IndexByte(s[i:], '}')
		s = s[:i] + "    log: {max_lag: 5s" + s[j:]
		i = strings.LastIndex(s, "    every: ")
		return s[:i] + "    every: 10s" + s[i+strings.IndexByte(s[i:], '\n'):]
	})
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	f.run(t, "backup", "db").want(t, 0)
	if is := f.incidents(t); len(is) != 0 {
		t.Fatalf("all is well, and there are incidents: %+v", is)
	}
	t.Run("BKP-11 failed, never happened, nothing newer", func(t *testing.T) {
		// The server's sender stands still: everything seems connected, nothing newer comes.
		var pid int
		until(t, "the sender", func() (ok bool) {
			n, err := strconv.Atoi(strings.TrimSpace(c.sql(t, "SELECT active_pid FROM pg_replication_slots WHERE active")))
			pid = n
			return err == nil
		})
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
		until(t, "an incident about copies that hold nothing newer", func() bool { _, ok := f.incidentOf(t, "backup-stale", "db"); return ok })
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		c.sql(t, "ALTER ROLE holdfast NOREPLICATION")
		f.run(t, "backup", "db").want(t, 1)
		until(t, "an incident about the failed backup", func() bool { _, ok := f.incidentOf(t, "backup-failed", "db"); return ok })
		c.sql(t, "ALTER ROLE holdfast REPLICATION")
		// Whoever starts the work stands still.
		if err := f.server.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		<-time.After(25 * time.Second) // two slots, and nothing can be waited for
		if err := f.server.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until(t, "an incident about the backup that did not happen", func() bool { _, ok := f.incidentOf(t, "backup-missed", "uploads"); return ok })
		kinds := map[string]int{}
		for _, i := range f.incidents(t) {
			kinds[i.Kind]++
		}
		if len(kinds) != 3 {
			t.Errorf("the incidents are %+v, want one of each of three kinds", f.incidents(t))
		}
	})
}
