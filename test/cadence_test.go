package test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// dailyPlan copies both stores once a day before five in the morning, by the clock of
// Greenwich, and has no drill that disturbs.
func dailyPlan(s string) string {
	for _, x := range [][2]string{{"Europe/Stockholm", "UTC"}, {"every: 5m", "every: 1d at 04:45"}, {"every: 1w, pick", "every: 1y, pick"}} {
		s = strings.ReplaceAll(s, x[0], x[1])
	}
	return s
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

// tells reports whether an incident of a store says something.
func (w workspace) tells(t *testing.T, store, what string) bool {
	t.Helper()
	return slices.ContainsFunc(w.incidents(t), func(i incidentSeen) bool {
		return slices.Contains(i.Stores, store) && strings.Contains(w.run(t, "incident", "show", fmt.Sprint(i.ID)).out, what)
	})
}
