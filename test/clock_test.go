package test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A calendarClock is followed by servers while they run: a quarter passes in seconds.
type calendarClock struct {
	file string
	by   time.Duration
}

// calendar gives the commands and servers that this test starts from here on a clock
// that can be set while they run. It shows the given time first.
func calendar(t *testing.T, at time.Time) *calendarClock {
	t.Helper()
	c := &calendarClock{file: filepath.Join(t.TempDir(), "clock")}
	c.set(t, at)
	name := t.Name()
	clocks.Store(name, c)
	t.Cleanup(func() { clocks.Delete(name) })
	return c
}

func (c *calendarClock) now() time.Time { return time.Now().Add(c.by) }

// set moves the clock. A reader sees the time before or the one after.
func (c *calendarClock) set(t *testing.T, at time.Time) {
	t.Helper()
	c.by = time.Until(at)
	write(t, c.file+".new", c.by.String(), 0o644)
	if err := os.Rename(c.file+".new", c.file); err != nil {
		t.Fatal(err)
	}
}

// get asks the server of a workspace by its socket, as the command line does.
func (w workspace) get(t *testing.T, path string, v any) {
	t.Helper()
	cl := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.dir, "state", "holdfast.sock"))
	}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://holdfast"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := cl.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// received waits until a location holds n copies of a store that the vault has
// countersigned.
func (w workspace) received(t *testing.T, location, store string, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d copies of %s at %s", n, store, location), func() bool {
		return len(w.receipts(t, location, store)) >= n
	})
}

func (w workspace) receipts(t *testing.T, location, store string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.root, location, "receipts", store, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A slotSeen is a line of the population of expected runs in an evidence pack.
type slotSeen struct {
	schedule   string
	due        time.Time
	state      string
	finished   time.Time
	note, fact string
}

// slotsOf are the expected runs of a schedule, from an evidence pack.
func slotsOf(t *testing.T, pack tree, schedule string) (out []slotSeen) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(pack["slots.csv"])).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("no population of slots: %d rows, %v", len(rows), err)
	}
	at := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		x, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, r := range rows[1:] {
		if r[0] == schedule {
			out = append(out, slotSeen{schedule: r[0], due: at(r[1]), state: r[3], finished: at(r[4]), fact: r[5], note: r[6]})
		}
	}
	slices.SortFunc(out, func(a, b slotSeen) int { return a.due.Compare(b.due) })
	return out
}
