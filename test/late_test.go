package test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// lateAt is what status finds some hours from now of copies that are too old.
func (w workspace) lateAt(t *testing.T, hours int) string {
	t.Helper()
	later(t, time.Duration(hours)*time.Hour)
	var f filling
	e := w.run(t, "status", "--json")
	e.object(t, &f)
	out := ""
	for _, x := range f.Findings {
		if x.Code == "HF-O03" {
			out += x.Severity + " " + x.Subject + ": " + x.Message + "\n"
		}
	}
	if out != "" && e.status != 3 {
		t.Errorf("a late copy ends status with %d", e.status)
	}
	return out
}

func TestLateCopyRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-02 a copy elsewhere that is older than its period breaches", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			period         string
			copies         string
			within, beyond int // hours
		}{
			{"every 1d", "copies: [near, offsite]", 25, 28},
			{"a cycle of a week", "copies: {near: {}, offsite: {every: 1w}}", 8*24 + 1, 9*24 + 1},
		} {
			later(t, 0)
			w := filesOnly(t)
			edit(t, w.plan(), func(s string) string {
				return strings.Replace(strings.Replace(s, "every: 5m", "every: 1d", 1), "copies: [near, offsite]", tt.copies, 1)
			})
			w.run(t, "location", "init", "--all").want(t, 0)
			w.run(t, "backup", "uploads").want(t, 0)
			if found := w.lateAt(t, tt.within); found != "" {
				t.Errorf("%s, after %d hours: %s", tt.period, tt.within, found)
			}
			if found := w.lateAt(t, tt.beyond); !strings.Contains(found, `error stores.uploads: the copy of "uploads" in "offsite"`) || strings.Contains(found, `"near"`) {
				t.Errorf("%s, after %d hours: %q", tt.period, tt.beyond, found)
			}
			// A copy that reaches the other location only ends nothing.
			if err := os.Rename(w.offsite, w.offsite+".away"); err != nil {
				t.Fatal(err)
			}
			w.run(t, "backup", "uploads").want(t, 3)
			if err := os.Rename(w.offsite+".away", w.offsite); err != nil {
				t.Fatal(err)
			}
			if found := w.lateAt(t, tt.beyond); found == "" {
				t.Errorf("%s: a copy near ended it", tt.period)
			}
		}
	})
}
