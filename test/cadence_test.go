package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// receivedAt are the days, counted from a midnight, on which the vault countersigned
// copies of a store at a location, from an evidence pack.
func receivedAt(t *testing.T, pack tree, store, location string, midnight time.Time) (days []int) {
	t.Helper()
	for line := range strings.Lines(pack["log.ndjson"]) {
		var f struct {
			Type, Subject string
			Data          struct {
				Location string
				Received time.Time
			}
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		if f.Type == "backup.receipt" && f.Subject == "stores."+store && f.Data.Location == location {
			days = append(days, int(f.Data.Received.Sub(midnight)/(24*time.Hour)))
		}
	}
	return days
}

// Five weeks of a company on virtual machines: the log of its database all the time, the
// database and the whole machine each day, and off the site once a week.
func TestSideBySideRows(t *testing.T) {
	t.Parallel()
	t.Run("BKP-02 log, daily full, daily machine and weekly off-site, for five weeks", func(t *testing.T) {
		const days = 35
		c := shared.get(t)
		f := firm{workspace: forCluster(t, c), cluster: c}
		edit(t, f.plan(), func(s string) string {
			s = strings.ReplaceAll(dailyPlan(s), "copies: [near, offsite]", "copies: {near: {}, offsite: {every: 1w}}")
			s = strings.ReplaceAll(s, "keep: 30d", "keep: 60d")
			return strings.Replace(s, "max_lag: 1m", "max_lag: 15m", 1)
		})
		disk := filepath.Join(f.uploads, "web.img") // of the guest machine
		midnight := time.Now().UTC().Truncate(24 * time.Hour)
		clock := calendar(t, midnight.Add(12*time.Hour))
		f.run(t, "location", "init", "--all").want(t, 0)
		f.server = serve(t, f.dir)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s", f.server.err)
			}
		})
		weekly := []int{}
		for n := 1; n <= days; n++ {
			write(t, disk, strings.Repeat(fmt.Sprintf("sector of day %d\n", n), 1000), 0o644)
			clock.set(t, midnight.AddDate(0, 0, n).Add(5*time.Hour))
			for _, store := range []string{"db", "uploads"} {
				f.received(t, "near", store, n)
				if n%7 == 1 {
					f.received(t, "offsite", store, n)
				}
			}
			if n%7 == 1 {
				weekly = append(weekly, n)
			}
		}
		now := clock.now()
		for location, ws := range f.points(t) {
			if late := now.Sub(ws[len(ws)-1].To); late > 15*time.Minute {
				t.Errorf("the log at %s ends %s ago", location, late)
			}
		}
		pack := f.pack(t)
		for _, store := range []string{"db", "uploads"} {
			var each []int
			for n := range days {
				each = append(each, n+1)
			}
			if got := receivedAt(t, pack, store, "near", midnight); !slices.Equal(got, each) {
				t.Errorf("%s arrives near on the days %v", store, got)
			}
			got := receivedAt(t, pack, store, "offsite", midnight)
			if len(got) != weekly[len(weekly)-1] || !slices.Equal(slices.Compact(got), weekly) {
				t.Errorf("%s arrives off the site on the days %v, want all that is new on %v", store, got, weekly)
			}
			for _, sl := range slotsOf(t, pack, "stores."+store) {
				if sl.due.After(midnight.AddDate(0, 0, 1)) && sl.state != "done" {
					t.Errorf("%s: %+v", store, sl)
				}
			}
		}
		to := filepath.Join(f.root, "machine")
		if err := os.Rename(f.near, f.near+".away"); err != nil {
			t.Fatal(err)
		}
		f.run(t, "restore", "uploads", "--location", "offsite", "--to", to).want(t, 0)
		if b, err := os.ReadFile(filepath.Join(to, "web.img")); err != nil || !strings.HasPrefix(string(b), fmt.Sprintf("sector of day %d\n", weekly[len(weekly)-1])) {
			t.Errorf("off the site lies another machine: %.30s, %v", b, err)
		}
		if err := os.Rename(f.near+".away", f.near); err != nil {
			t.Fatal(err)
		}
	})
}

// A year of four companies, each with the cadence of its policy.
func TestCadenceRows(t *testing.T) {
	t.Parallel()
	t.Run("INT-02 restore tests each month, each quarter and each year, none skipped silently", func(t *testing.T) {
		w := filesOnly(t)
		cadences := map[string]int{"monthly-c": 12, "quarterly-d": 4, "yearly-a": 1, "yearly-e": 1}
		edit(t, w.plan(), func(s string) string {
			i := strings.Index(s, "  uploads-drill:")
			j := i + strings.IndexByte(s[i:], '\n') + 1
			drills := ""
			for _, d := range []string{"monthly-c: 1mo", "quarterly-d: 1q", "yearly-a: 1y", "yearly-e: 1y"} {
				name, every, _ := strings.Cut(d, ": ")
				drills += fmt.Sprintf("  %s: {of: [uploads], every: %s, rung: 3, fresh_for: 400d}\n", name, every)
			}
			s = s[:i] + drills + s[j:]
			s = strings.ReplaceAll(s, "[uploads-drill]", "[monthly-c, quarterly-d, yearly-a, yearly-e]")
			return strings.Replace(dailyPlan(s), "every: 1d at 04:45", "every: 1mo on 20 at 04:45", 1)
		})
		year := time.Now().UTC().Year() + 1
		clock := calendar(t, time.Date(year-1, 12, 20, 12, 0, 0, 0, time.UTC))
		w.run(t, "location", "init", "--all").want(t, 0)
		serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		ended := func(state string) map[string]int {
			var all []struct{ Name, State string }
			w.get(t, "/api/v1/drills", &all)
			n := map[string]int{}
			for _, d := range all {
				if d.State == state {
					n[d.Name]++
				}
			}
			return n
		}
		due, failed := map[string]int{}, map[string]int{}
		for month := time.January; month <= time.December; month++ {
			away := func(from, to string) {
				for _, l := range []string{w.near, w.offsite} {
					if err := os.Rename(l+from, l+to); err != nil {
						t.Fatal(err)
					}
				}
			}
			broken := month == time.July // no location answers on the day
			if broken {
				away("", ".away")
			}
			clock.set(t, time.Date(year, month, 1, 3, 0, 0, 0, time.UTC))
			due["monthly-c"]++
			if month%3 == 1 {
				due["quarterly-d"]++
			}
			if month == time.January {
				due["yearly-a"]++
				due["yearly-e"]++
			}
			until(t, fmt.Sprintf("the drills of %s", month), func() bool {
				if broken {
					clock.set(t, clock.now().Add(30*time.Minute)) // the next attempt
					failed = ended("failed")
				}
				all := ended("passed")
				for name, n := range failed {
					all[name] += n
				}
				return maps.Equal(all, due)
			})
			if broken {
				if !w.tells(t, "uploads", "Drill of uploads failed") {
					t.Errorf("drills did not happen, and nobody hears of it: %+v", w.incidents(t))
				}
				away(".away", "")
			}
			clock.set(t, time.Date(year, month, 20, 12, 0, 0, 0, time.UTC))
			w.received(t, "offsite", "uploads", int(month)+1)
		}
		if !maps.Equal(due, cadences) || !maps.Equal(failed, map[string]int{"monthly-c": 1, "quarterly-d": 1}) {
			t.Errorf("in a year %v were due, want %v; failed: %v", due, cadences, failed)
		}
		pack := w.pack(t)
		for name, n := range cadences {
			slots := slotsOf(t, pack, "drills."+name)
			if len(slots) != n {
				t.Errorf("%d runs of %s were expected, want %d: %+v", len(slots), name, n, slots)
			}
			for _, sl := range slots {
				if want := sl.due.Month() == time.July; want != (sl.state == "failed") || !want && sl.state != "done" {
					t.Errorf("%s: %+v", name, sl)
				}
			}
		}
	})
}
