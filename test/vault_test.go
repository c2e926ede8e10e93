package test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/s3"
	"holdfast/internal/source/postgres"
)

// A pruning is what "prune --json" prints.
type pruning struct {
	Shelves []struct {
		Store, Location string
		Snapshots       []struct {
			Snapshot, Why string
			Keep, Must    bool
		}
		Vetoes []finding
		Gone   int
	}
	Garbage  map[string]struct{ Deleted, Waiting int }
	Findings []finding
	Request  *struct{ ID, State, Text string }
}

func (p pruning) going() (n int) {
	for _, s := range p.Shelves {
		for _, d := range s.Snapshots {
			if !d.Keep {
				n++
			}
		}
	}
	return n
}

// night lets the night of a day pass, in steps in which the vault sees its clock run.
func (w workspace) night(t *testing.T, from, to int) {
	t.Helper()
	for h := from; h < to; h += 20 {
		later(t, time.Duration(h)*time.Hour)
		w.run(t, "prune", "--json")
	}
	later(t, time.Duration(to)*time.Hour)
}

func (w workspace) prune(t *testing.T, status int, args ...string) (p pruning) {
	t.Helper()
	w.run(t, append([]string{"prune", "--json"}, args...)...).want(t, status).object(t, &p)
	return p
}

// listed are the snapshots at a location, oldest first.
func listed(t *testing.T, location string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(location, "snapshots", "uploads", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	slices.Sort(names)
	return names
}

// backup changes the folder and copies it.
func (w workspace) backup(t *testing.T) {
	t.Helper()
	write(t, filepath.Join(w.uploads, "b.txt"), time.Now().String(), 0o644)
	w.run(t, "backup", "uploads").want(t, 0)
}

// vaultWorkspace protects a folder whose approvers are three people with keys.
func vaultWorkspace(t *testing.T) (workspace, map[string]string) {
	t.Helper()
	w := filesOnly(t)
	keys := map[string]string{}
	people := ""
	for _, p := range []string{"founder-a", "founder-b", "ana", "ben", "eve"} {
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
		s = strings.Replace(s, "approvers: [founder-a, founder-b]", "approvers: [founder-a, ana, ben]", 1)
		return strings.Replace(s, "every: 5m", "every: 1d", 1)
	})
	w.run(t, "location", "init", "--all").want(t, 0)
	return w, keys
}

// sign signs a request as a person does, on a machine with nothing but ssh-keygen.
func (w workspace) sign(t *testing.T, id, by, key string, text string, status int) ending {
	t.Helper()
	file := filepath.Join(t.TempDir(), "request.txt")
	if text == "" {
		text = w.run(t, "approve", id, "--text").want(t, 0).out
	}
	write(t, file, text, 0o600)
	if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "holdfast-approval", "-f", key, file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return w.run(t, "approve", id, "--by", by, "--signature", file+".sig").want(t, status)
}

// waitingFor is the request that waits for people.
func (w workspace) waitingFor(t *testing.T) string {
	t.Helper()
	var rs []struct{ ID, State string }
	w.run(t, "approve", "--json").want(t, 0).object(t, &rs)
	for _, r := range rs {
		if r.State == "open" {
			return r.ID
		}
	}
	t.Fatal("nothing waits for people")
	return ""
}

const dayHours = 24

func TestRetentionRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-05 thirty days, at least or exactly", func(t *testing.T) {
		w, _ := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "    keep: 30d\n", "    retention: {exact: 30d}\n", 1)
		})
		w.backup(t)
		w.backup(t)
		old := listed(t, w.near)
		later(t, 29*dayHours*time.Hour)
		w.backup(t)
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		if p := w.prune(t, 0, "--apply"); p.going() != 0 || !slices.Equal(listed(t, w.near)[:2], old) {
			t.Fatalf("on day 29: %+v", p)
		}
		w.night(t, 29*dayHours, 30*dayHours+12)
		w.backup(t)
		p := w.prune(t, 0, "--apply")
		if got := listed(t, w.near); len(got) != 2 || got[0] <= old[1] {
			t.Fatalf("after day 30 there are %q: %+v", got, p)
		}
		if got := listed(t, w.offsite); len(got) != 2 {
			t.Errorf("offsite: %q", got)
		}
		// What they alone needed goes later, and what is left comes back.
		before := treeOf(t, filepath.Join(w.near, "packs"))
		w.night(t, 31*dayHours, 33*dayHours)
		w.backup(t)
		p = w.prune(t, 0, "--apply")
		gone := 0
		after := treeOf(t, filepath.Join(w.near, "packs"))
		for name := range before {
			if _, there := after[name]; !there {
				gone++
			}
		}
		if gone == 0 || p.Garbage["near"].Deleted < gone {
			t.Errorf("%d packs are gone: %+v", gone, p.Garbage)
		}
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		// A minimum allows it and does not force it.
		var exact, least pruning
		w.run(t, "prune", "--json", "--at", "2099-01-01").object(t, &exact)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "retention: {exact: 30d}", "retention: {min: 30d}", 1)
		})
		w.run(t, "prune", "--json", "--at", "2099-01-01").object(t, &least)
		for what, p := range map[string]pruning{"exact": exact, "minimum": least} {
			if p.going() == 0 {
				t.Errorf("%s: nothing may go", what)
			}
			for _, s := range p.Shelves {
				for _, d := range s.Snapshots {
					if !d.Keep && d.Must != (what == "exact") {
						t.Errorf("%s: %+v", what, d)
					}
				}
			}
		}
	})
	t.Run("STO-09 backups that end lose nothing more", func(t *testing.T) {
		w, _ := vaultWorkspace(t)
		w.backup(t)
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		w.backup(t)
		w.backup(t)
		before := listed(t, w.near)
		w.night(t, 59*dayHours, 60*dayHours+12)
		p := w.prune(t, 3, "--apply")
		if got := listed(t, w.near); !slices.Equal(got, before) {
			t.Fatalf("of %q are left %q", before, got)
		}
		stopped := false
		for _, s := range p.Shelves {
			for _, v := range s.Vetoes {
				stopped = stopped || v.Code == "HF-V6" && v.Hint != ""
			}
		}
		if out := w.run(t, "incident", "list").out; !stopped || !strings.Contains(out, "retention guard") {
			t.Errorf("no alarm: %+v\n%s", p, out)
		}
		// Whatever the terms say, the newest and the proven one stay.
		for _, s := range p.Shelves {
			for _, d := range s.Snapshots {
				if (d.Snapshot == before[2] || strings.Contains(d.Why, "proved")) && !d.Keep {
					t.Errorf("%+v", d)
				}
			}
		}
	})
	t.Run("STO-14 a hold, and its release by those who may", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		held := "\nholds:\n  case-7: {of: [uploads], why: \"a claim\", by: ana}\n"
		edit(t, w.plan(), func(s string) string { return s + held })
		w.backup(t)
		w.backup(t)
		w.night(t, 99*dayHours, 100*dayHours+12)
		w.backup(t)
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		if p := w.prune(t, 0, "--apply"); p.going() != 0 || len(listed(t, w.near)) != 3 {
			t.Fatalf("something went under a hold: %+v", p)
		}
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, held, "", 1) })
		if p := w.prune(t, 0, "--apply"); len(listed(t, w.near)) != 3 || len(p.Findings) != 1 || !strings.Contains(p.Findings[0].Message, "released") {
			t.Fatalf("released without a signature: %+v", p)
		}
		id := w.waitingFor(t)
		if e := w.sign(t, id, "eve", keys["eve"], "", 4); !strings.Contains(e.errout, "may not sign") {
			t.Errorf("who may not: %v", e)
		}
		w.sign(t, id, "ana", keys["ana"], "", 4)
		if w.prune(t, 0, "--apply"); len(listed(t, w.near)) != 3 {
			t.Fatal("released with one signature")
		}
		w.sign(t, id, "ben", keys["ben"], "", 0)
		w.prune(t, 0, "--apply")
		if got := listed(t, w.near); len(got) > 2 {
			t.Errorf("after the release there are %q", got)
		}
		pack := filepath.Join(w.root, "pack.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		for _, fact := range []string{"vault.removed", "approval.used", "approval.refused"} {
			if out, err := exec.Command("unzip", "-p", pack).Output(); err == nil && !strings.Contains(string(out), fact) {
				t.Errorf("no fact %s in the evidence", fact)
			}
		}
	})
	t.Run("ACC-14 one person alone deletes and shortens nothing", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		w.backup(t)
		w.backup(t)
		before := listed(t, w.near)
		ask := []string{"--store", "uploads", "--snapshot", before[0], "--by", "founder-a", "--reason", "a customer left"}
		p := w.prune(t, 4, append(ask, "--apply")...)
		if p.Request == nil || p.Request.State != "open" {
			t.Fatalf("%+v", p)
		}
		id := p.Request.ID
		for name, try := range map[string]struct{ by, key, text, says string }{
			"who asks":      {"founder-a", keys["founder-a"], "", "somebody else must agree"},
			"another's key": {"ana", keys["ben"], "", "by no key"},
			"changed text":  {"ana", keys["ana"], strings.Replace(p.Request.Text, before[0], before[1], 1), "another text"},
			"no approver":   {"founder-b", keys["founder-b"], "", "may not sign"},
			"a stranger":    {"mallory", keys["eve"], "", "not a person"},
		} {
			if e := w.sign(t, id, try.by, try.key, try.text, 4); !strings.Contains(e.errout, try.says) {
				t.Errorf("%s: %v", name, e)
			}
		}
		w.sign(t, id, "ana", keys["ana"], "", 4)
		if e := w.sign(t, id, "ana", keys["ana"], "", 4); !strings.Contains(e.errout, "signed already") {
			t.Errorf("twice: %v", e)
		}
		if w.prune(t, 4, append(ask, "--apply")...); !slices.Equal(listed(t, w.near), before) {
			t.Fatal("deleted with one signature")
		}
		w.sign(t, id, "ben", keys["ben"], "", 0)
		w.prune(t, 0, append(ask, "--apply")...)
		if got := listed(t, w.near); !slices.Equal(got, before[1:]) {
			t.Errorf("signed for %s, left: %q", before[0], got)
		}
		if e := w.sign(t, id, "ben", keys["ben"], p.Request.Text, 4); !strings.Contains(e.errout, "carried out") {
			t.Errorf("replay: %v", e)
		}
		// A shorter term in the plan's file, which the server's owner can write, waits too.
		w.backup(t)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "    keep: 30d\n", "    keep: 1d\n", 1) })
		w.night(t, 2*dayHours, 3*dayHours+12)
		w.backup(t)
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		left := listed(t, w.near)
		if p := w.prune(t, 0, "--apply"); !slices.Equal(listed(t, w.near), left) || len(p.Findings) != 1 || p.Findings[0].Code != "HF-V7" {
			t.Errorf("a shorter term was followed: %+v", p)
		}
	})
}

// Two people signed, the shell is root's, and the credentials are the store's own
// administrator's: what the lock holds stays.
func TestLockRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-08 nobody deletes, overwrites or unlocks before the term", func(t *testing.T) {
		server := locationtest.StartS3(t)
		w, keys := vaultWorkspace(t)
		credentials := filepath.Join(w.root, "bucket-key")
		write(t, credentials, "aws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n", 0o600)
		edit(t, w.plan(), func(s string) string {
			return regexp.MustCompile(`(?m)^  offsite: .*$`).ReplaceAllString(s, fmt.Sprintf("  offsite: {kind: s3, domain: bucket, s3: {endpoint: %q, insecure: true, bucket: held, credentials_file: %q, lock: 30d}}", server.URL, credentials))
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.backup(t)
		w.backup(t)
		if e := w.run(t, "location", "test", "offsite"); !strings.Contains(e.out, "locked in compliance mode cannot be deleted") {
			t.Errorf("the lock is not confirmed: %v", e)
		}
		ids := listed(t, w.near)
		admin, err := s3.New(s3.Config{Endpoint: server.URL, Insecure: true, Bucket: "held", CredentialsFile: credentials})
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close()
		object := "snapshots/uploads/" + ids[0]
		if err := admin.Delete(t.Context(), object); !errors.Is(err, location.ErrLocked) {
			t.Errorf("the administrator deletes: %v", err)
		}
		if err := admin.Put(t.Context(), object, 1, strings.NewReader("x")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("the administrator overwrites: %v", err)
		}
		if err := admin.Extend(t.Context(), object, time.Now().Add(time.Hour)); err != nil { // no longer than it is: it stays
			t.Error(err)
		}
		if err := admin.Delete(t.Context(), object); !errors.Is(err, location.ErrLocked) {
			t.Errorf("after the attempt to shorten it: %v", err)
		}
		ask := []string{"--store", "uploads", "--snapshot", ids[0], "--by", "founder-a", "--reason", "test"}
		p := w.prune(t, 4, append(ask, "--apply")...)
		for _, by := range []string{"ana", "ben"} {
			w.sign(t, p.Request.ID, by, keys[by], "", map[string]int{"ana": 4, "ben": 0}[by])
		}
		w.run(t, append(append([]string{"prune"}, ask...), "--apply")...).want(t, 3)
		if err := w.run(t, "restore", "uploads", "--location", "offsite", "--to", filepath.Join(w.root, "back"), "--purpose", "test"); err.status != 0 {
			t.Errorf("%v", err)
		}
		if got := listed(t, w.near); !slices.Equal(got, ids[1:]) {
			t.Errorf("where nothing is locked: %q", got)
		}
		var points struct {
			Windows []struct{ Location, Snapshot string }
		}
		w.run(t, "points", "uploads", "--json").want(t, 0).object(t, &points)
		kept := 0
		for _, x := range points.Windows {
			if x.Location == "offsite" {
				kept++
			}
		}
		if kept != 2 {
			t.Errorf("%d snapshots are left where they are locked", kept)
		}
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "    keep: 30d\n", "    keep: 1d\n", 1) })
		if p := w.prune(t, 0); len(p.Findings) != 1 || p.Findings[0].Code != "HF-V7" {
			t.Errorf("a shorter term is followed: %+v", p.Findings)
		}
		pack := filepath.Join(w.root, "pack.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		if out, err := exec.Command("unzip", "-p", pack).Output(); err != nil || !strings.Contains(string(out), "locked") {
			t.Errorf("the refusal is not in the evidence: %v", err)
		}
	})
}

func TestVerifyRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-12 each location is verified on its own", func(t *testing.T) {
		w, _ := vaultWorkspace(t)
		big := make([]byte, 300_000)
		rand.Read(big)
		write(t, filepath.Join(w.uploads, "large.bin"), string(big), 0o644)
		w.backup(t)
		w.run(t, "verify", "--all").want(t, 0)
		flipLargest(t, filepath.Join(w.offsite, "packs"))
		w.run(t, "verify", "--all", "--location", "near").want(t, 0)
		e := w.run(t, "verify", "--all", "--location", "offsite", "--files").want(t, 3)
		for _, want := range []string{"damaged packs/", listed(t, w.near)[0], "large.bin", "next: holdfast repair"} {
			if !strings.Contains(e.out, want) {
				t.Errorf("it does not say %q: %v", want, e)
			}
		}
		if e := w.run(t, "repair").want(t, 0); !strings.Contains(e.out, "near has it whole") {
			t.Errorf("no repair is offered: %v", e)
		}
		w.run(t, "repair", "--apply").want(t, 0)
		w.run(t, "verify", "--all").want(t, 0)
		if err := os.Rename(w.near, w.near+".away"); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(w.root, "back")
		w.run(t, "restore", "uploads", "--to", to, "--purpose", "test").want(t, 0)
		treeOf(t, w.uploads).unchanged(t, to)
	})
	t.Run("STO-03 copies elsewhere, their lag and their completeness", func(t *testing.T) {
		w, _ := vaultWorkspace(t)
		w.backup(t)
		away := w.offsite + ".away"
		if err := os.Rename(w.offsite, away); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(w.uploads, "b.txt"), "new", 0o644)
		w.run(t, "backup", "uploads").want(t, 3)
		if err := os.Rename(away, w.offsite); err != nil {
			t.Fatal(err)
		}
		e := w.run(t, "location", "list").want(t, 3)
		if !strings.Contains(e.out, "uploads: 1 of 2 snapshots") || !strings.Contains(e.out, "behind the newest") {
			t.Errorf("neither lag nor completeness: %v", e)
		}
		serve(t, w.dir)
		until(t, "the copy to be caught up", func() bool { return w.run(t, "location", "list").status == 0 })
		for _, kind := range []string{"packs", "snapshots"} {
			treeOf(t, filepath.Join(w.near, kind)).unchanged(t, filepath.Join(w.offsite, kind))
		}
	})
	t.Run("INT-01 a flipped byte is found by the next scheduled reading", func(t *testing.T) {
		w, _ := vaultWorkspace(t)
		w.backup(t)
		s := serve(t, w.dir) // writes the slots of the nights to come
		s.stop(t)
		flipLargest(t, filepath.Join(w.near, "packs"))
		later(t, 10*dayHours*time.Hour)
		serve(t, w.dir)
		var is []struct {
			Title      string
			DetectedAt time.Time `json:"detected_at"`
		}
		until(t, "the damage to be found", func() bool {
			w.run(t, "incident", "list", "--json").object(t, &is)
			return slices.ContainsFunc(is, func(i struct {
				Title      string
				DetectedAt time.Time `json:"detected_at"`
			}) bool {
				return strings.Contains(i.Title, "uploads at near are damaged")
			})
		})
		if e := w.run(t, "verify").want(t, 3); !strings.Contains(e.out, time.Now().AddDate(0, 0, 10).UTC().Format("2006-01-02")) {
			t.Errorf("it does not say when it was found: %v", e)
		}
	})
}

// flipLargest changes one byte in the middle of the largest file.
func flipLargest(t *testing.T, dir string) {
	t.Helper()
	largest, size := "", -1
	for path, content := range treeOf(t, dir) {
		if content != "dir" && len(content) > size {
			largest, size = filepath.Join(dir, path), len(content)
		}
	}
	b, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	b[size/3] ^= 1
	if err := os.WriteFile(largest, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A database with a log: the base from before the window carries the log through it,
// and log and bases from before that one go.
func TestLogRetentionRows(t *testing.T) {
	t.Parallel()
	t.Run("PIT-08 on day 30 the oldest base still rolls forward", func(t *testing.T) {
		c := shared.get(t)
		w := forCluster(t, c)
		edit(t, w.plan(), func(s string) string {
			s = regexp.MustCompile(`(?m)^  db-drill:.*\n`).ReplaceAllString(s, "")
			return strings.ReplaceAll(s, "[db-drill, uploads-drill]", "[uploads-drill]")
		})
		c.sql(t, "CREATE TABLE kept (n int PRIMARY KEY, at timestamptz)")
		t.Cleanup(func() {
			if _, err := c.query(context.Background(), "DROP TABLE kept"); err != nil {
				t.Error(err)
			}
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		bases := func() []string {
			names, err := filepath.Glob(filepath.Join(w.near, "snapshots", "db", "*"))
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		// A base on day 0, 15, 31 and 45, and commits behind each. The database's own
		// clock stands still meanwhile, so positions in the log say how far.
		var commits []string
		for i, day := range []int{0, 15, 31, 45} {
			later(t, time.Duration(day)*dayHours*time.Hour)
			s := serve(t, w.dir)
			w.run(t, "backup", "db").want(t, 0)
			c.commit(t, "kept", i)
			commits = append(commits, c.sql(t, "SELECT pg_current_wal_insert_lsn()"))
			c.commit(t, "kept", 100+i)
			w.holds(t, c.sql(t, "SELECT pg_current_wal_insert_lsn()"), 2)
			s.stop(t)
			if day == 31 {
				w.night(t, day*dayHours+1, day*dayHours+30)
				w.prune(t, 0, "--apply", "--store", "db")
				if n := len(bases()); n != 3 {
					t.Fatalf("on day 32 there are %d bases, and all three carry the window", n)
				}
				w.rollsTo(t, c, commits[0], 0)
			}
		}
		logs := len(treeOf(t, filepath.Join(w.near, "logs")))
		w.night(t, 45*dayHours+1, 45*dayHours+40)
		if w.prune(t, 0, "--apply", "--store", "db"); len(bases()) != 3 {
			t.Fatalf("on day 46 there are %d bases", len(bases()))
		}
		w.night(t, 45*dayHours+40, 49*dayHours)
		p := w.prune(t, 0, "--apply", "--store", "db")
		if after := len(treeOf(t, filepath.Join(w.near, "logs"))); after >= logs || p.Garbage["near"].Deleted == 0 {
			t.Errorf("%d pieces of log and folders, %d before: %+v", after, logs, p.Garbage)
		}
		for _, i := range []int{1, 3} {
			w.rollsTo(t, c, commits[i], i)
		}
		w.run(t, "verify", "--all").want(t, 0)
	})
}

// holds waits until every location has the log up to a position.
func (w workspace) holds(t *testing.T, lsn string, locations int) {
	t.Helper()
	want, err := postgres.ParseLSN(lsn)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the log to reach "+lsn, func() bool {
		var p struct {
			Windows []struct {
				ToLSN string `json:"to_lsn"`
			}
		}
		w.run(t, "points", "db", "--json").object(t, &p)
		n := 0
		for _, x := range p.Windows {
			if got, err := postgres.ParseLSN(x.ToLSN); err == nil && got >= want {
				n++
			}
		}
		return n == locations
	})
}

// rollsTo restores the database to just after a commit.
func (w workspace) rollsTo(t *testing.T, c *cluster, lsn string, n int) {
	t.Helper()
	to := filepath.Join(w.root, fmt.Sprintf("rolled-%d-%d", n, time.Now().UnixNano()))
	w.run(t, "restore", "db", "--to", to, "--lsn", lsn, "--purpose", "test").want(t, 0)
	if got, want := rowsOf(t, c, to, "SELECT max(n) FROM kept WHERE n < 100"), fmt.Sprint(n); got != want {
		t.Errorf("to the commit %d: the newest row is %s", n, got)
	}
}
