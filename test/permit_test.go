package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/location/locationtest"
)

// approving writes what the plan approves of locations.
func approving(t *testing.T, w workspace, approved string) {
	t.Helper()
	edit(t, w.plan(), func(s string) string {
		if i := strings.Index(s, "  approved: "); i >= 0 {
			s = s[:i] + s[i+strings.IndexByte(s[i:], '\n')+1:]
		}
		return strings.Replace(s, "repository:\n", "repository:\n  approved: "+approved+"\n", 1)
	})
}

// refusedThere checks that a backup goes to some locations only, and that its record says
// why it does not go to the others.
func (w workspace) refusedThere(t *testing.T, status int, why string, near, offsite int) {
	t.Helper()
	e := w.run(t, "backup", "uploads", "--json")
	if e.status != status || !strings.Contains(e.out+e.errout, why) {
		t.Fatalf("want status %d and %q: %v", status, why, e)
	}
	if a, b := len(listed(t, w.near)), len(listed(t, w.offsite)); a != near || b != offsite {
		t.Errorf("%d and %d snapshots lie near and offsite, want %d and %d", a, b, near, offsite)
	}
}

func TestPermittedPlacesRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-11 unapproved and lapsed places get no new backup", func(t *testing.T) {
		t.Parallel()
		w, _ := vaultWorkspace(t)
		w.run(t, "backup", "uploads").want(t, 0)
		until := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
		approving(t, w, fmt.Sprintf("{locations: [near, offsite], by: founder-a, until: %q}", until))
		w.run(t, "backup", "uploads").want(t, 0)
		// One of the two is not approved any more: the other one goes on.
		approving(t, w, fmt.Sprintf("{locations: [near], by: founder-a, until: %q}", until))
		w.refusedThere(t, 3, "HF-L58", 3, 2)
		if e := w.run(t, "check"); !strings.Contains(e.out+e.errout, "HF-L58") {
			t.Errorf("check does not flag it: %v", e)
		}
		// Neither is: nothing is made, and it is refused.
		approving(t, w, fmt.Sprintf("{locations: [near], kinds: [s3], by: founder-a, until: %q}", until))
		w.refusedThere(t, 4, "HF-L58", 3, 2)
		// An exception lets them: one for a place, or one for a store wherever it goes.
		for _, of := range []string{"locations.offsite", "stores.uploads"} {
			w, keys := vaultWorkspace(t)
			approving(t, w, fmt.Sprintf("{locations: [near], by: founder-a, until: %q}", time.Now().AddDate(2, 0, 0).Format(time.DateOnly)))
			w.refusedThere(t, 3, "HF-L58", 1, 0)
			w.excepts(t, keys, "HF-L58", of)
			w.run(t, "backup", "uploads").want(t, 0)
			if n := len(listed(t, w.offsite)); n == 0 {
				t.Errorf("with an approved exception of %s nothing goes there", of)
			}
			t.Run("until it ends", func(t *testing.T) {
				later(t, 190*24*time.Hour)
				before := len(listed(t, w.offsite))
				w.refusedThere(t, 3, "HF-L58", len(listed(t, w.near))+1, before)
			})
		}
		// What lies there can be restored all the same.
		to := filepath.Join(place(t), "back")
		w.run(t, "restore", "uploads", "--to", to, "--location", "offsite").want(t, 0)
		treeOf(t, w.uploads).unchanged(t, to)
		// An approval lapses by itself.
		w, keys := vaultWorkspace(t)
		approving(t, w, fmt.Sprintf("{locations: [near, offsite], by: founder-a, until: %q}", until))
		w.run(t, "backup", "uploads").want(t, 0)
		t.Run("lapsed", func(t *testing.T) {
			later(t, 40*24*time.Hour)
			w.refusedThere(t, 4, "HF-L27", 1, 1)
			b, err := os.ReadFile(w.plan())
			if err != nil {
				t.Fatal(err)
			}
			over := filepath.Join(w.dir, "over.yaml") // check judges by today
			write(t, over, strings.Replace(string(b), until, "2020-01-01", 1), 0o600)
			if e := w.run(t, "check", over); !strings.Contains(e.out+e.errout, "repository.approved.until") {
				t.Errorf("check does not flag it: %v", e)
			}
			// Who may say so lets it go on for a while.
			w.excepts(t, keys, "HF-L27", "repository.approved.until")
			w.run(t, "backup", "uploads").want(t, 0)
		})
	})
	t.Run("STO-04 a place outside the permitted jurisdictions", func(t *testing.T) {
		t.Parallel()
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "  near: {kind: dir,", "  near: {kind: dir, jurisdiction: EU,", 1)
			s = strings.Replace(s, "  offsite: {kind: dir,", "  offsite: {kind: dir, jurisdiction: US,", 1)
			return s + "\nresidency:\n  eu: {of: [uploads], jurisdictions: [EU]}\n"
		})
		if e := w.run(t, "check"); e.status != 3 || !strings.Contains(e.out+e.errout, "HF-L52") {
			t.Errorf("check: %v", e)
		}
		w.refusedThere(t, 3, "HF-L52", 1, 0)
		// Nor does it get there later, as a copy of the other.
		w.run(t, "prune", "--apply")
		if n := len(listed(t, w.offsite)); n != 0 {
			t.Errorf("%d copies got there", n)
		}
		w.excepts(t, keys, "HF-L52", "locations.offsite")
		w.run(t, "backup", "uploads").want(t, 0)
		if n := len(listed(t, w.offsite)); n == 0 {
			t.Error("with an approved exception nothing goes there")
		}
	})
	t.Run("STO-01 two names for one failure domain are one place", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		w.run(t, "check").want(t, 0)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, `domain: "offsite-disk"`, `domain: "this-host"`, 1) })
		if e := w.run(t, "check"); e.status != 3 || !strings.Contains(e.out+e.errout, "count as one copy") {
			t.Errorf("one declared domain: %v", e)
		}
		// Declared apart, and on one disk: seen where they lie.
		edit(t, w.plan(), func(s string) string {
			i := strings.Index(s, "  offsite: {")
			return s[:i] + strings.Replace(s[i:], `domain: "this-host"`, `domain: "apart"`, 1)
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0)
		if e := w.run(t, "location", "list"); !strings.Contains(e.out, "same disk as near") {
			t.Errorf("the list does not say that both lie on one disk: %v", e)
		}
	})
	t.Run("STO-16 each kind says what it guarantees and what not", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		ssh, bucket := locationtest.StartSFTP(t), locationtest.StartS3(t)
		for name, text := range map[string]string{"bucket": fmt.Sprintf("access_key_id = %s\nsecret_access_key = %s\n", bucket.Access, bucket.Secret)} {
			write(t, filepath.Join(w.dir, name), text, 0o600)
		}
		key, err := os.ReadFile(ssh.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(w.dir, "login"), string(key), 0o600)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "locations:\n", fmt.Sprintf("locations:\n  machine: {kind: sftp, domain: m, sftp: {host: %q, user: %q, path: %q, key_file: login, host_key: %q}}\n"+
				"  bucket: {kind: s3, domain: b, s3: {endpoint: %q, insecure: true, bucket: backups, credentials_file: bucket, lock: 1d}}\n",
				ssh.Addr, ssh.User, filepath.Join(ssh.Dir, "b"), ssh.HostKey, bucket.URL), 1)
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		locks := map[string]bool{"near": false, "machine": false, "bucket": true}
		for name, locked := range locks {
			var r struct {
				Checks []struct{ Name, Outcome, Detail string }
			}
			e := w.run(t, "location", "test", name, "--json")
			e.want(t, 0).object(t, &r)
			holds := map[string]string{}
			for _, c := range r.Checks {
				holds[c.Name] = c.Outcome
			}
			// The same guarantees of each, and the one that differs said.
			if len(r.Checks) < 8 || (holds["object lock"] == "holds") != locked {
				t.Errorf("%s: %+v", name, r.Checks)
			}
			if !locked && holds["deletion"] != "open" && holds["object lock"] != "open" {
				t.Errorf("%s does not say that nothing keeps its objects from being deleted: %+v", name, r.Checks)
			}
		}
	})
}
