package test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An offer is what "restore --dry-run --json" says.
type offer struct {
	Location, Snapshot, Newest string
	From, To                   time.Time
	Confirm                    string
	Lapse                      *struct {
		Since time.Time
		Most  time.Duration `json:"at_most_ns"`
		Base  string
		Why   string
	}
}

// All of the log is destroyed, everywhere. What is left are the base backups.
func TestLogDestroyedRows(t *testing.T) {
	t.Parallel()
	f := protect(t)
	f.cluster.commit(t, "ledger", 1)
	f.cluster.commit(t, "ledger", 2)
	f.run(t, "backup", "db").want(t, 0)
	whole := f.cluster.commit(t, "ledger", 3)
	f.reaches(t, whole, 2)
	f.server.stop(t)
	t.Run("PIT-10 the log is unusable: the loss is said, taken, and the daily full comes back", func(t *testing.T) {
		var seen struct{ Windows []window }
		for _, l := range []string{f.near, f.offsite} {
			if err := os.RemoveAll(filepath.Join(l, "logs")); err != nil {
				t.Fatal(err)
			}
		}
		f.run(t, "points", "db", "--json").want(t, 0).object(t, &seen)
		bases := map[string]int{}
		for _, w := range seen.Windows {
			bases[w.Location]++
			if w.Hole == "" || w.To.After(w.From) {
				t.Errorf("a base without its log is offered as %+v", w)
			}
		}
		if bases["near"] != 2 || bases["offsite"] != 2 {
			t.Fatalf("two bases, and the locations offer %v: %+v", bases, seen.Windows)
		}
		offered := func(args ...string) (o offer) {
			t.Helper()
			f.run(t, append([]string{"restore", "db", "--dry-run", "--json"}, args...)...).want(t, 0).object(t, &o)
			return o
		}
		to := filepath.Join(f.root, "refused")
		f.run(t, "restore", "db", "--to", to).refuses(t, 4, `newest state .* cannot be brought back: .* is lost, up to \S+ of it`, `--accept-loss 1h`)
		later(t, 11*time.Hour)
		o := offered()
		if o.Lapse == nil || o.Lapse.Most < 11*time.Hour || o.Lapse.Most > 12*time.Hour || o.Confirm != "--accept-loss 12h" {
			t.Fatalf("eleven hours after the base the offer is %+v", o)
		}
		f.run(t, "restore", "db", "--to", to, "--accept-loss", "1h").want(t, 4)
		if _, err := os.Lstat(to); err == nil {
			t.Error("a refused restore left a folder")
		}
		for _, l := range []string{"near", "offsite"} {
			if got := f.back(t, "alone-"+l, "--location", l, "--latest", "--accept-loss", "12h"); !slices.Equal(got, []int{1, 2}) {
				t.Errorf("%s brought %v back, want what the daily full holds", l, got)
			}
		}
		if got := f.back(t, "base-only", "--base-only"); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("the base alone brought %v back", got)
		}
		later(t, 30*time.Hour)
		if out := f.run(t, "restore", "db", "--dry-run").want(t, 0).out; !strings.Contains(out, "more than the 24h between two base backups") {
			t.Errorf("older than a day, and nobody is told: %s", out)
		}
		if e := f.run(t, "restore", "db", "--to", to, "--accept-loss", "24h").want(t, 4); !strings.Contains(e.errout, "--accept-loss 31h") {
			t.Errorf("the way out is not said: %v", e)
		}
	})
}

// The source burns down with the machine that follows its log, while no location is within
// reach. What is lost is known all the same.
func TestReachedLossRows(t *testing.T) {
	t.Parallel()
	f := protect(t, func(s string) string {
		s = regexp.MustCompile(`(?m)^      start: \{port: .*\n`).ReplaceAllString(s, "")
		return strings.Replace(s, "confirm_after: 30s", "confirm_after: 1s", 1)
	})
	to := filepath.Join(f.dir, "recovered", "db")
	t.Cleanup(func() {
		if err := f.cluster.start(context.Background(), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("PIT-09 the RPO reached is the gap between the last commit there and the last one here", func(t *testing.T) {
		stop := f.write(t)
		until(t, "some rows", func() bool { return f.cluster.sql(t, "SELECT count(*) >= 100 FROM ledger") == "t" })
		f.reaches(t, f.cluster.clock(t), 2)
		for _, l := range []string{f.near, f.offsite} {
			if err := os.Rename(l, l+".cut"); err != nil {
				t.Fatal(err)
			}
		}
		cut := f.cluster.clock(t)
		until(t, "rows that no location has", func() bool {
			return f.cluster.sql(t, "SELECT count(*) >= 200 AND max(at) > '"+at(cut)+"'::timestamptz + interval '3s' FROM ledger WHERE at > '"+at(cut)+"'") == "t"
		})
		all := stop()
		if err := f.cluster.server.Kill(); err != nil {
			t.Fatal(err)
		}
		until(t, "the loss to be noticed", func() bool {
			return slices.ContainsFunc(f.incidents(t), func(i incidentSeen) bool { return i.Title == "Store db is lost" })
		})
		if err := f.server.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-f.server.gone
		f.server.once.Do(func() {})
		if err := os.RemoveAll(filepath.Join(f.dir, "state", "spool")); err != nil {
			t.Fatal(err)
		}
		for _, l := range []string{f.near, f.offsite} {
			if err := os.Rename(l+".cut", l); err != nil {
				t.Fatal(err)
			}
		}
		f.server = serve(t, f.dir)
		type run struct {
			ID    string
			Steps []struct {
				ID, Store, State string
				Outcome          struct {
					Lost *time.Duration `json:"lost_ns"`
				}
			}
		}
		var reported time.Duration
		var id string
		until(t, "the database to be back", func() bool {
			var runs []run
			if e := f.run(t, "recover", "list", "--json").want(t, 0); json.Unmarshal([]byte(e.out), &runs) != nil {
				t.Fatal(e)
			}
			for _, r := range runs {
				for _, s := range r.Steps {
					if s.Store == "db" && s.State == "done" && s.Outcome.Lost != nil {
						reported, id = *s.Outcome.Lost, r.ID
						return true
					}
				}
			}
			return false
		})
		last, err := strconv.Atoi(rowsOf(t, f.cluster, to, "SELECT max(n) FROM ledger"))
		if err != nil || last >= len(all) {
			t.Fatalf("row %d of %d came back, %v", last, len(all), err)
		}
		truth := all[len(all)-1].before.Sub(all[last-1].before)
		if d := (reported - truth).Abs(); d > time.Second || truth < time.Second {
			t.Errorf("%s is reported as lost, and the last row that came back was acknowledged %s before the last one", reported, truth)
		}
		if out := f.run(t, "recover", "show", id).want(t, 0).out; !strings.Contains(out, "the last commit seen at the source") {
			t.Errorf("nobody is told:\n%s", out)
		}
	})
}
