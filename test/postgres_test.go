package test

import (
	"encoding/json"
	"errors"
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
	t.Parallel()
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
	t.Parallel()
	f := protect(t)
	t.Run("PIT-04 a piece of log is deleted", func(t *testing.T) {
		before := len(logPieces(t, f.near)) // up to the end of the base
		for n := range 4 {                  // segments that the agent does not hold any more
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

// A piece that does not read back is not offered by whoever looks at it, with no
// server that would know.
func TestPointsOfDamagedLog(t *testing.T) {
	t.Parallel()
	f := protect(t)
	f.cluster.sql(t, "INSERT INTO ledger VALUES (1, clock_timestamp())")
	whole := f.cluster.clock(t)
	f.reaches(t, whole, 2)
	before := len(logPieces(t, f.near))
	f.cluster.sql(t, "INSERT INTO ledger VALUES (2, clock_timestamp())")
	f.reaches(t, f.cluster.clock(t), 2)
	f.cluster.sql(t, "INSERT INTO ledger VALUES (3, clock_timestamp())")
	f.reaches(t, f.cluster.clock(t), 2)
	f.server.stop(t)
	bad := logPieces(t, f.near)[before]
	b, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-80] ^= 1
	if err := errors.Join(os.Chmod(bad, 0o600), os.WriteFile(bad, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	var seen struct {
		Windows []struct {
			Location, Hole string
			To             time.Time
		}
	}
	f.run(t, "points", "db", "--read", "--json").want(t, 0).object(t, &seen)
	for _, w := range seen.Windows {
		if w.Location == "near" && (w.Hole == "" || w.To.After(whole.Add(time.Minute))) || w.Location == "offsite" && w.Hole != "" {
			t.Errorf("with a damaged piece at near: %+v", seen.Windows)
		}
	}
}

func TestBackupTroubleRows(t *testing.T) {
	t.Parallel()
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
		// Nobody was there to start the work: two slots pass without a server.
		f.server.stop(t)
		later(t, 25*time.Second)
		f.server = serve(t, f.dir)
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

func TestMistakeRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	c := f.cluster
	type event struct {
		At         time.Time
		What, Name string
		Rows       int64
		Before     time.Time
	}
	type line struct {
		Events  []event
		Suggest time.Time
	}
	look := func(t *testing.T, from time.Time, args ...string) (out line) {
		t.Helper()
		f.run(t, append([]string{"timeline", "db", "--json", "--from", at(from)}, args...)...).want(t, 0).object(t, &out)
		return out
	}
	find := func(l line, what, name string) (event, bool) {
		for _, e := range l.Events {
			if e.What == what && strings.Contains(e.Name, name) {
				return e, true
			}
		}
		return event{}, false
	}
	t.Run("PIT-06 what was destroyed, and the moment before", func(t *testing.T) {
		c.sql(t, "CREATE TABLE accounts (n int PRIMARY KEY, balance int)")
		c.sql(t, "CREATE TABLE doomed (n int PRIMARY KEY, what text)")
		c.sql(t, "CREATE TABLE emptied (n int PRIMARY KEY, what text)")
		defer c.sql(t, "DROP TABLE IF EXISTS accounts, doomed, emptied")
		c.sql(t, "INSERT INTO doomed SELECT i, 'x' FROM generate_series(1, 50) i")
		c.sql(t, "INSERT INTO emptied SELECT i, 'x' FROM generate_series(1, 50) i")
		c.sql(t, "INSERT INTO accounts SELECT i, i FROM generate_series(1, 500) i")
		f.run(t, "backup", "db").want(t, 0) // from here on the names are known
		from := c.clock(t)
		c.sql(t, "SELECT pg_create_restore_point('deploy 42')")
		c.sql(t, "UPDATE accounts SET balance = 0 WHERE n <= 300")
		c.sql(t, "DELETE FROM accounts WHERE n > 300")
		c.sql(t, "DELETE FROM accounts WHERE n = 1") // too few to be listed
		c.sql(t, "TRUNCATE emptied")
		last := c.clock(t)
		c.sql(t, "INSERT INTO ledger VALUES (1, clock_timestamp())")
		before := c.clock(t)
		c.sql(t, "DROP TABLE doomed")
		after := c.clock(t)
		c.sql(t, "INSERT INTO ledger VALUES (2, clock_timestamp())")
		f.reaches(t, c.clock(t), 2)
		l := look(t, from, "--location", "offsite")
		for _, want := range []event{{What: "mark", Name: "deploy 42"}, {What: "updated", Name: "public.accounts", Rows: 300}, {What: "deleted", Name: "public.accounts", Rows: 200}, {What: "emptied", Name: "public.emptied"}, {What: "dropped", Name: "public.doomed"}} {
			if e, ok := find(l, want.What, want.Name); !ok || e.Rows != want.Rows {
				t.Errorf("%s %s of %d rows is not on the time line: %+v", want.Name, want.What, want.Rows, l.Events)
			}
		}
		for _, e := range l.Events {
			if e.What == "deleted" && e.Rows < 100 {
				t.Errorf("%+v is no bulk change", e)
			}
		}
		e, _ := find(l, "dropped", "public.doomed")
		if e.At.Before(before) || e.At.After(after) {
			t.Errorf("doomed was dropped between %s and %s, not at %s", at(before), at(after), at(e.At))
		}
		if d := e.At.Sub(l.Suggest); !l.Suggest.Equal(e.Before) || d <= 0 || d > time.Second {
			t.Errorf("the suggestion is %s, %s before the drop at %s", at(l.Suggest), d, at(e.At))
		}
		to := filepath.Join(f.root, "before-the-drop")
		f.run(t, "restore", "db", "--to", to, "--at", at(l.Suggest)).want(t, 0)
		if got := strings.TrimSpace(rowsOf(t, c, to, "SELECT (SELECT count(*) FROM doomed) || ' ' || (SELECT count(*) FROM ledger)")); got != "50 1" {
			t.Errorf("what came back has %q rows of doomed and ledger, want all and the one of before", got)
		}
		if l := look(t, from, "--to", at(last)); !l.Suggest.Before(last) {
			t.Errorf("up to %s the suggestion is %s", at(last), at(l.Suggest))
		}
	})
}
