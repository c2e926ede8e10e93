package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/source/postgres"
)

// The second base backup reads what the log names, once the role may read pages; and it is
// restored over a data directory that holds most of it already.
func TestNamedPagesAndDelta(t *testing.T) {
	t.Parallel()
	f := protect(t)
	c := f.cluster
	version, err := strconv.Atoi(strings.TrimSpace(c.sql(t, "SHOW server_version_num")))
	if err != nil {
		t.Fatal(err)
	}
	labels := func() map[string]string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(f.root, "near", "snapshots", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		newest := map[string]string{}
		for _, name := range names { // by name in the order of time
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var m struct {
				Scope  string            `json:"scope"`
				Labels map[string]string `json:"labels"`
			}
			text := string(b)
			if err := json.NewDecoder(strings.NewReader(text[max(0, strings.IndexByte(text, '{')):])).Decode(&m); err == nil && m.Labels[postgres.LabelPages] != "" {
				newest = m.Labels
			}
		}
		return newest
	}
	f.run(t, "backup", "db").want(t, 0)
	if l := labels(); l[postgres.LabelPages] != "all" || !strings.Contains(l[postgres.LabelPagesWhy], "may not call") {
		t.Fatalf("without the right to read pages the base says %v", l)
	}
	for _, q := range postgres.GrantPages(version, "holdfast") {
		c.sql(t, q)
	}
	for n := range 5 {
		c.sql(t, fmt.Sprintf("INSERT INTO ledger VALUES (%d, clock_timestamp())", n))
	}
	f.reaches(t, c.clock(t), 2)
	to := filepath.Join(f.root, "delta")
	f.run(t, "restore", "db", "--to", to).want(t, 0)
	if got := strings.TrimSpace(rowsOf(t, c, to, "DELETE FROM ledger WHERE n > 1; CREATE TABLE stray (n int); SELECT count(*) FROM ledger")); got != "2" { // it goes its own way
		t.Fatal(got)
	}
	c.sql(t, "INSERT INTO ledger VALUES (100, clock_timestamp())")
	f.run(t, "backup", "db").want(t, 0)
	l := labels()
	read, err := strconv.Atoi(l[postgres.LabelRead])
	if l[postgres.LabelPages] != "log" || err != nil || read == 0 {
		t.Fatalf("the base says %v", l)
	}
	c.sql(t, "INSERT INTO ledger VALUES (101, clock_timestamp())")
	f.reaches(t, c.clock(t), 2)

	f.run(t, "restore", "db", "--to", to).refuses(t, 4, "is not empty", "empty or absent")
	f.run(t, "restore", "db", "--to", to, "--delta").refuses(t, 4, "would be removed", "--delta --dry-run")
	f.run(t, "restore", "db", "--to", to, "--delta", "--remove-extra", "00000000").refuses(t, 4, "would be removed", "--delta --dry-run")
	var d postgres.Delta
	if e := f.run(t, "restore", "db", "--to", to, "--delta", "--dry-run", "--json").want(t, 0); json.Unmarshal([]byte(e.out), &d) != nil || d.Code == "" || d.Same == 0 {
		t.Fatal(e)
	}
	if got := strings.TrimSpace(rowsOf(t, c, to, "SELECT count(*) FROM ledger")); got != "2" {
		t.Errorf("a dry run changed what was there: %s rows", got)
	}
	e := f.run(t, "restore", "db", "--to", to, "--delta", "--dry-run", "--json").want(t, 0)
	if err := json.Unmarshal([]byte(e.out), &d); err != nil { // the server that was asked wrote a little
		t.Fatal(e)
	}
	e = f.run(t, "restore", "db", "--to", to, "--delta", "--remove-extra", d.Code, "--json").want(t, 0)
	var rep struct {
		Bytes int64 `json:"bytes"`
		Kept  int64 `json:"kept_bytes"`
	}
	if err := json.Unmarshal([]byte(e.out), &rep); err != nil || rep.Kept < rep.Bytes/4 {
		t.Errorf("%d bytes were there already, %d were not: %v", rep.Kept, rep.Bytes, err)
	}
	if got := strings.Fields(rowsOf(t, c, to, "SELECT n FROM ledger ORDER BY n")); strings.Join(got, " ") != "0 1 2 3 4 100 101" {
		t.Errorf("what came back over it has %v", got)
	}
	if got := strings.TrimSpace(rowsOf(t, c, to, "SELECT count(*) FROM pg_class WHERE relname = 'stray'")); got != "0" {
		t.Error("a table of its own way is still there")
	}
}
