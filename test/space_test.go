package test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A filling is what "status --json" says of the room of the locations.
type filling struct {
	Locations []struct {
		ID    string
		Space struct {
			Total  int64     `json:"total_bytes"`
			Free   int64     `json:"free_bytes"`
			PerDay int64     `json:"bytes_per_day"`
			Full   time.Time `json:"full_on"`
		}
	}
	Findings []finding
}

// filling asks for the day on which offsite is full, and what is found about it.
func (w workspace) filling(t *testing.T) (full time.Time, found string) {
	t.Helper()
	var f filling
	w.run(t, "status", "--json").object(t, &f)
	for _, l := range f.Locations {
		if l.ID == "offsite" {
			if full = l.Space.Full; l.Space.Total == 0 {
				t.Fatal("nobody knows how large offsite is")
			}
		}
	}
	for _, x := range f.Findings {
		if x.Code == "HF-O02" && x.Subject == "locations.offsite" {
			found = x.Severity + ": " + x.Message
		}
	}
	return full, found
}

// around checks that an instant lies some days from now by the clock of the test.
func around(t *testing.T, what time.Time, now time.Duration, from, to float64) {
	t.Helper()
	if days := (time.Until(what) - now).Hours() / 24; days < from || days > to {
		t.Errorf("it is foreseen in %.1f days, want %.1f to %.1f", days, from, to)
	}
}

func TestSpaceRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-18 a location that fills is foreseen with the day", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		mountTmpfs(t, w.offsite, "size=100m")
		w.run(t, "location", "init", "--all").want(t, 0)
		write(t, filepath.Join(w.uploads, "first.bin"), incompressible(t, 2<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		if _, found := w.filling(t); found != "" {
			t.Errorf("an empty disk is reported: %s", found)
		}
		// Ten days later half of it is used: no limit is near, and the day is known.
		more := filepath.Join(w.offsite, ".other-files")
		write(t, more, incompressible(t, 48<<20), 0o600)
		days := 10 * 24 * time.Hour
		later(t, days)
		full, found := w.filling(t)
		if !strings.Contains(found, "warning: ") || !strings.Contains(found, full.UTC().Format(time.DateOnly)) {
			t.Errorf("half of it went in ten days: %q", found)
		}
		around(t, full, days, 9, 12)
		// And at 85 %.
		write(t, more, incompressible(t, 83<<20), 0o600)
		full, found = w.filling(t)
		if !strings.Contains(found, " is 8") || !strings.Contains(found, full.UTC().Format(time.DateOnly)) {
			t.Errorf("at 85 %%: %q", found)
		}
		around(t, full, days, 1, 3)
		// All that was foretold: no job has failed yet.
		w.run(t, "backup", "uploads").want(t, 0)
		if e := w.run(t, "status"); e.status != 3 || !strings.Contains(e.out, "HF-O02") {
			t.Errorf("people are not told: %v", e)
		}
		if e := w.run(t, "explain", "HF-O02", "locations.offsite"); !strings.Contains(e.out, "full on") {
			t.Errorf("it is not explained: %v", e)
		}
	})
	t.Run("STO-18 filled to 85 % in its first hours", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		mountTmpfs(t, w.offsite, "size=20m")
		w.run(t, "location", "init", "--all").want(t, 0)
		write(t, filepath.Join(w.uploads, "first.bin"), incompressible(t, 17<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		full, found := w.filling(t)
		if !strings.Contains(found, "it will be full on "+full.UTC().Format(time.DateOnly)) {
			t.Errorf("17 of 20 MB: %q", found)
		}
		around(t, full, 0, 0, 2)
	})
}
