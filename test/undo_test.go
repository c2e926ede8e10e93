package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// signers gives the plan of a workspace people who sign with keys of their own, and
// returns the files of these keys.
func (w workspace) signers(t *testing.T) map[string]string {
	t.Helper()
	keys := map[string]string{}
	people := ""
	for _, p := range []string{"founder-a", "founder-b", "ana", "ben"} {
		keys[p] = filepath.Join(w.root, "ssh-"+p)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", p, "-f", keys[p]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		pub, err := os.ReadFile(keys[p] + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		people += fmt.Sprintf("  %s: {name: %q, ssh: {own: %q}}\n", p, p, strings.TrimSpace(string(pub)))
	}
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "  founder-a: {name: \"Founder A\"}\n  founder-b: {name: \"Founder B\"}\n", people, 1)
		return strings.Replace(s, "approvers: [founder-a, founder-b]", "approvers: [founder-a, ana, ben]", 1)
	})
	return keys
}

// A lookedAt is what "undo look --json" says.
type lookedAt struct {
	Because string
	Tables  []struct {
		Name                                            string
		Gone                                            bool
		Deleted, Changed, Conflicts, Added, Later, Back int64
	}
	Shown map[string][]any
	Total struct{ Deleted, Changed, Conflicts, Added int64 }
}

func TestUndoRows(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	f := firm{workspace: forCluster(t, c), cluster: c}
	keys := f.signers(t)
	f.run(t, "location", "init", "--all").want(t, 0)
	f.server = serve(t, f.dir)
	t.Cleanup(func() {
		if _, err := c.query(context.Background(), "DROP TABLE IF EXISTS lines, invoices, accounts, doomed, written"); err != nil {
			t.Error(err)
		}
	})
	c.sql(t, `CREATE TABLE invoices (id int PRIMARY KEY, who text, paid numeric);
		CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, invoice int NOT NULL REFERENCES invoices ON DELETE CASCADE, what text);
		CREATE TABLE accounts (id int PRIMARY KEY, owner text, seen bigint DEFAULT 0);
		CREATE TABLE doomed (id serial PRIMARY KEY, v text NOT NULL); CREATE INDEX doomed_v ON doomed (v);
		CREATE TABLE written (n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
		INSERT INTO invoices SELECT g, 'w' || g, g / 7.0 FROM generate_series(1, 300) g; INSERT INTO lines (invoice, what) SELECT g % 300 + 1, 'l' || g FROM generate_series(1, 600) g;
		INSERT INTO accounts SELECT g, 'o' || g FROM generate_series(1, 200) g; INSERT INTO doomed (v) SELECT 'v' || g FROM generate_series(1, 50) g`)
	f.run(t, "backup", "db").want(t, 0)
	connect := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password='%s' dbname=app", c.port, password)

	// Somebody writes all the time, into the very tables too; every row that the server
	// acknowledged must be there at the end.
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	var acknowledged int
	writer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			_, err := c.query(context.Background(), fmt.Sprintf("BEGIN; INSERT INTO written VALUES (%d); UPDATE accounts SET seen = %d WHERE id = %d; INSERT INTO invoices VALUES (%d, 'later', 1); COMMIT", n, n, n%200+1, 1000+n))
			if err != nil {
				t.Errorf("the writer: %v", err)
				return
			}
			acknowledged = n
		}
	})
	defer func() { stop(); writer.Wait() }()
	keeps := func(t *testing.T) {
		t.Helper()
		n, err := strconv.Atoi(c.sql(t, "SELECT count(*) FROM written"))
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the writer to go on", func() bool {
			now, err := strconv.Atoi(c.sql(t, "SELECT count(*) FROM written"))
			return err == nil && now > n+2
		})
	}
	look := func(t *testing.T, out string, args ...string) (l lookedAt) {
		t.Helper()
		f.run(t, append([]string{"undo", "look", "db", "--json", "--connect", connect, "--out", out}, args...)...).want(t, 0).object(t, &l)
		return l
	}
	// approved writes an extract back as two people agree to it, and shows that nobody can without.
	approved := func(t *testing.T, dir string) {
		t.Helper()
		if e := f.run(t, "undo", "write", dir).want(t, 0); !strings.Contains(e.out, "nothing was written") {
			t.Errorf("without --apply: %v", e)
		}
		var asked struct{ Request string }
		f.run(t, "undo", "write", dir, "--by", "founder-b", "--apply", "--connect", connect, "--json").want(t, 4).object(t, &asked)
		f.sign(t, asked.Request, "ana", keys["ana"], "", 4)
		f.run(t, "undo", "write", dir, "--by", "founder-b", "--apply", "--connect", connect).want(t, 4)
		f.sign(t, asked.Request, "ben", keys["ben"], "", 0)
		f.run(t, "undo", "write", dir, "--by", "founder-b", "--apply", "--connect", connect).want(t, 0)
	}
	t.Run("PIT-05 one hundred deleted rows come back, and no later write is lost", func(t *testing.T) {
		rows := "SELECT id, who, paid FROM invoices WHERE id <= 300 ORDER BY id"
		lines := "SELECT id, invoice, what FROM lines ORDER BY id"
		wantRows, wantLines := c.sql(t, rows), c.sql(t, lines)
		keeps(t)
		c.sql(t, "DELETE FROM invoices WHERE id BETWEEN 101 AND 200")
		keeps(t)
		f.reaches(t, c.clock(t), 2)
		dir := filepath.Join(f.root, "undo-rows")
		l := look(t, dir, "--show", "3")
		if l.Total.Deleted != 300 || l.Total.Changed+l.Total.Conflicts+l.Total.Added != 0 || !strings.Contains(l.Because, "public.invoices deleted (100 rows)") {
			t.Errorf("found %+v", l)
		}
		for _, x := range l.Tables {
			if x.Name == "public.invoices" && x.Deleted != 100 || x.Name == "public.lines" && x.Deleted != 200 {
				t.Errorf("found %+v", x)
			}
		}
		if n := len(l.Shown["public.invoices"]) + len(l.Shown["public.lines"]); n != 3 {
			t.Errorf("%d rows were shown", n)
		}
		if got := c.sql(t, "SELECT count(*) FROM invoices WHERE id <= 300"); got != "200" {
			t.Fatalf("looking changed production: %s rows", got)
		}
		approved(t, dir)
		if got := c.sql(t, rows); got != wantRows {
			t.Errorf("invoices are not what they were:\n%s", got)
		}
		if got := c.sql(t, lines); got != wantLines {
			t.Errorf("lines are not what they were:\n%s", got)
		}
		// The use of the key and what was done are facts.
		until(t, "the facts", func() bool {
			log := f.log(t)
			for _, want := range []string{`"undo.begun"`, `"undo.ended"`, `"approval.used"`, `"key.used"`} {
				if !strings.Contains(log, want) {
					return false
				}
			}
			return true
		})
	})
	t.Run("PIT-05 a dropped table and an update without a condition, given as a span of time", func(t *testing.T) {
		wantDoomed := c.sql(t, "SELECT id, v FROM doomed ORDER BY id")
		keeps(t)
		at := c.clock(t)
		<-time.After(time.Until(at.Add(10 * time.Millisecond))) // commits are told apart by their time
		c.sql(t, "UPDATE accounts SET owner = 'nobody'")
		c.sql(t, "DROP TABLE doomed")
		till := c.clock(t)
		c.sql(t, "UPDATE accounts SET owner = 'sold' WHERE id = 7")
		keeps(t)
		f.reaches(t, c.clock(t), 2)
		dir := filepath.Join(f.root, "undo-span")
		l := look(t, dir, "--at", at.UTC().Format(time.RFC3339Nano), "--until", till.UTC().Format(time.RFC3339Nano))
		for _, x := range l.Tables {
			if x.Name == "public.doomed" && (!x.Gone || x.Deleted != 50) || x.Name == "public.accounts" && (x.Conflicts < 1 || x.Changed+x.Conflicts+x.Later < 200) {
				t.Errorf("found %+v", x)
			}
		}
		approved(t, dir)
		if got := c.sql(t, "SELECT id, v FROM doomed ORDER BY id"); got != wantDoomed {
			t.Errorf("doomed came back as %s", got)
		}
		if got := c.sql(t, "INSERT INTO doomed (v) VALUES ('next') RETURNING id"); got != "51" {
			t.Errorf("the next row is %s", got)
		}
		if got := c.sql(t, "SELECT count(*) FILTER (WHERE owner = 'o' || id), string_agg(owner, ',') FILTER (WHERE owner <> 'o' || id) FROM accounts"); got != "199|sold" {
			t.Errorf("owners: %s", got)
		}
	})
	stop()
	writer.Wait()
	got := strings.Fields(c.sql(t, "SELECT n FROM written ORDER BY n"))
	var want []string
	for n := range acknowledged {
		want = append(want, strconv.Itoa(n+1))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d later writes are there of %d", len(got), len(want))
	}
	if got := c.sql(t, "SELECT count(*) FROM invoices WHERE id > 1000"); got != strconv.Itoa(acknowledged) {
		t.Errorf("%s of %d later invoices are there", got, acknowledged)
	}
}

// log is the ledger as an evidence pack has it.
func (w workspace) log(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	pack := filepath.Join(dir, "pack.zip")
	w.run(t, "evidence", "export", "--from", "2020-01-01", "--out", pack).want(t, 0)
	unzipTo(t, pack, dir)
	return treeOf(t, dir)["log.ndjson"]
}
