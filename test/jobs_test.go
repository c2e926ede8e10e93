package test

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A jobRecord is one line of "job list".
type jobRecord struct {
	ID, Item, Kind, Result, Digest, Snapshot, Program, Error string
	Job                                                      int64
	Began, Ended                                             time.Time
	Bytes                                                    int64
	Locations                                                map[string]string
}

// records asks for records of work; what goes before and after the verb are flags.
func (w workspace) records(t *testing.T, flags ...string) (rs []jobRecord) {
	t.Helper()
	w.run(t, append([]string{"job", "list", "--json"}, flags...)...).object(t, &rs)
	return rs
}

// record is the newest that fits; it waits for one.
func (w workspace) record(t *testing.T, flags ...string) (r jobRecord) {
	t.Helper()
	until(t, fmt.Sprintf("a record with %q", flags), func() bool {
		rs := w.records(t, flags...)
		if len(rs) > 0 {
			r = rs[0]
		}
		return len(rs) > 0
	})
	return r
}

// slowly makes backups of the folder take about a minute.
func (w workspace) slowly(t *testing.T) {
	t.Helper()
	b := make([]byte, 60<<20)
	_, _ = rand.Read(b)
	write(t, filepath.Join(w.uploads, "large"), string(b), 0o644)
	edit(t, w.plan(), func(s string) string {
		return regexp.MustCompile(`files: \{path: ([^}]*)\}`).ReplaceAllString(s, "files: {path: $1, read_mb_per_second: 1}")
	})
}

func TestJobs(t *testing.T) {
	t.Parallel()
	t.Run("BKP-10 each run has a record, however it ended, and every field finds it", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		began := time.Now().Add(-time.Second)
		w.run(t, "backup", "uploads").want(t, 0)
		good := w.record(t, "--result", "succeeded", "--kind", "backup")
		if good.Item != "stores.uploads" || good.Kind != "backup.snapshot" || good.Began.Before(began) || good.Ended.Before(good.Began) || good.Bytes != int64(len("hello\n")) || good.Program == "" ||
			good.Locations["near"] != "complete" || good.Locations["offsite"] != "complete" || good.Error != "" {
			t.Errorf("%+v", good)
		}
		// The digest is that of what lies in the locations.
		manifest := ""
		for path, text := range treeOf(t, filepath.Join(w.near, "snapshots")) {
			if strings.Contains(path, good.Snapshot) && text != "dir" {
				manifest = text
			}
		}
		if good.Digest == "" || manifest == "" {
			t.Fatalf("%+v: no such snapshot", good)
		}

		mend := w.breakCopies(t)
		w.run(t, "backup", "uploads").want(t, 1)
		mend()
		bad := w.record(t, "--result", "failed")
		if bad.Item != "stores.uploads" || bad.Error == "" || bad.Ended.IsZero() || bad.Job == good.Job {
			t.Errorf("%+v", bad)
		}

		// One runs, and a person ends it; another runs, and its server is killed.
		w.slowly(t)
		server := &daemon{args: []string{"--dir", w.dir, "serve", "--listen", "127.0.0.1:0"}}
		server.start(t)
		t.Cleanup(func() { server.end(t, syscall.SIGKILL) })
		until(t, "the server to answer", func() bool { return strings.Contains(server.out.String(), "page at ") })
		again := func() {
			d := &daemon{args: []string{"--dir", w.dir, "backup", "uploads"}}
			d.start(t)
			t.Cleanup(func() { d.end(t, syscall.SIGKILL) })
		}
		again()
		running := w.record(t, "--result", "running", "--kind", "backup.snapshot")
		if !running.Ended.IsZero() {
			t.Errorf("%+v", running)
		}
		w.run(t, "job", "cancel", running.ID, "--by", "nobody").want(t, 4)
		w.run(t, "job", "cancel", running.ID, "--by", "founder-a").want(t, 0)
		if r := w.record(t, "--result", "cancelled"); r.ID != running.ID || r.Ended.IsZero() {
			t.Errorf("%+v, cancelled %+v", r, running)
		}
		again()
		running = w.record(t, "--result", "running", "--kind", "backup.snapshot")
		server.end(t, syscall.SIGKILL)
		crashed := w.record(t, "--result", "crashed")
		if crashed.ID != running.ID || crashed.Error == "" || !crashed.Ended.IsZero() {
			t.Errorf("%+v, killed in %+v", crashed, running)
		}
		if s := server.out.String(); s == "" {
			t.Error("nothing was said")
		}

		// Every field finds the one record, and with another value none.
		for _, q := range []struct {
			with, without []string
			want          jobRecord
		}{
			{[]string{"--item", "uploads"}, []string{"--item", "stores.other"}, good},
			{[]string{"--kind", "backup.snapshot"}, []string{"--kind", "drill"}, good},
			{[]string{"--digest", good.Digest}, []string{"--digest", "sha256:0000"}, good},
			{[]string{"--digest", good.Snapshot}, []string{"--digest", "20200101T000000Z"}, good},
			{[]string{"--location", "offsite"}, []string{"--location", "moon"}, good},
			{[]string{"--program", good.Program}, []string{"--program", "0.0"}, good},
			{[]string{"--bytes", "6"}, []string{"--bytes", "7"}, good},
			{[]string{"--job", fmt.Sprint(good.Job)}, []string{"--job", "987654"}, good},
			{[]string{"--from", good.Began.Add(-time.Second).UTC().Format(time.RFC3339)}, []string{"--from", "2999-01-01"}, good},
			{[]string{"--ended", good.Ended.Add(-time.Second).UTC().Format(time.RFC3339)}, []string{"--ended", "2999-01-01"}, good},
			{[]string{"--until", "2999-01-01"}, []string{"--until", "2020-01-01"}, good},
			{[]string{"--error", bad.Error[:10]}, []string{"--error", "nothing of the kind"}, bad},
		} {
			has := func(r jobRecord) bool { return r.ID == q.want.ID }
			if !slices.ContainsFunc(w.records(t, q.with...), has) {
				t.Errorf("%q does not find %+v", q.with, q.want)
			}
			if slices.ContainsFunc(w.records(t, q.without...), has) {
				t.Errorf("%q finds %+v", q.without, q.want)
			}
		}
		pack := filepath.Join(w.root, "runs.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		rows := unzip(t, pack)["populations/runs.csv"]
		for _, r := range []jobRecord{good, bad, crashed} {
			if !strings.Contains(rows, "\n"+r.ID+",stores.uploads,backup.snapshot,") {
				t.Errorf("the pack lacks %+v:\n%s", r, rows)
			}
		}
	})
	t.Run("MON-01 the page of jobs says what the records say", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0)
		mend := w.breakCopies(t)
		w.run(t, "backup", "uploads").want(t, 1)
		mend()
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "drill", "uploads")
		s := serve(t, w.dir)
		page := func() string {
			t.Helper()
			res, err := http.Get(s.url + "/jobs")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(res.Status, err)
			}
			return string(b)
		}
		row := regexp.MustCompile(`(?s)<tr role="row" id="run-([0-9.]+)">(.*?)</tr>`)
		agree := func() string {
			rs := w.records(t, "--limit", "100")
			rows := row.FindAllStringSubmatch(page(), -1)
			if len(rows) != len(rs) {
				return fmt.Sprintf("%d rows, %d records", len(rows), len(rs))
			}
			for i, r := range rs {
				if text := rows[i][2]; rows[i][1] != r.ID || !strings.Contains(text, r.Item) || !strings.Contains(text, r.Result) || !strings.Contains(text, r.Kind) ||
					!strings.Contains(text, fmt.Sprintf("Bytes\">%d<", r.Bytes)) {
					return fmt.Sprintf("row %s, record %+v", text, r)
				}
			}
			return ""
		}
		why := ""
		until(t, "page and records to agree", func() bool {
			why = agree()
			return why == "" || strings.Contains(why, "record ") && !strings.Contains(why, "running")
		})
		if why != "" {
			t.Error(why)
		}
		// History: what ended today is what the records of today say, and days on which the
		// server was away stand there as missed.
		s.stop(t)
		later(t, 3*24*time.Hour)
		s = serve(t, w.dir)
		until(t, "the days that were missed", func() bool {
			line := regexp.MustCompile(`(?s)<th role="rowheader" scope="row"><a class="name" href="/store/uploads">.*?</tr>`).FindString(page())
			return strings.Count(line, " missed") >= 2 && strings.Contains(line, "not good")
		})
	})
}
