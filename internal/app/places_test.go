package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// farther gives a company a bucket and a folder of another machine beside its near
// location, and makes the repositories there.
func (c *company) farther() (*locationtest.S3, *locationtest.SFTP) {
	c.t.Helper()
	bucket, machine := locationtest.StartS3(c.t, locationtest.WithTLS(c.t)), locationtest.StartSFTP(c.t)
	credentials := filepath.Join(c.w.Dir, "bucket-credentials")
	if err := os.WriteFile(credentials, []byte("access_key_id = "+bucket.Access+"\nsecret_access_key = "+bucket.Secret+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	b, err := os.ReadFile(c.w.Plan())
	if err != nil {
		c.t.Fatal(err)
	}
	text := string(b)
	edit := func(old, new string) {
		if !strings.Contains(text, old) {
			c.t.Fatalf("the plan has no %q", old)
		}
		text = strings.ReplaceAll(text, old, new)
	}
	edit("\nlocations:\n", fmt.Sprintf("\nlocations:\n  bucket: {kind: s3, domain: c, s3: {endpoint: %q, bucket: backups, prefix: company, credentials_file: %q, ca_file: %q, lock: 30d}}\n"+
		"  machine: {kind: sftp, domain: d, sftp: {host: %q, user: %q, path: %q, key_file: %q, host_key: %q}}\n",
		bucket.URL, credentials, bucket.CAFile, machine.Addr, machine.User, filepath.Join(machine.Dir, "company"), machine.KeyFile, machine.HostKey))
	edit("copies: [near, offsite]", "copies: [near, bucket, machine]")
	if err := os.WriteFile(c.w.Plan(), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	p := c.plan()
	for _, f := range plan.Check(p, time.Now()) {
		if f.Severity == holdfast.SeverityError {
			c.t.Errorf("the plan has a finding: %s %s", f.Code, f.Message)
		}
	}
	for _, name := range []string{"bucket", "machine"} {
		if err := NewPlaces(p).Init(c.t.Context(), name, time.Now()); err != nil {
			c.t.Fatal(err)
		}
	}
	return bucket, machine
}

// One backup goes to a folder, a bucket and another machine at once, and comes back
// from each of them while the others are gone.
func TestEachKindOfLocationRecoversAlone(t *testing.T) {
	c := newCompany(t, false, nil)
	bucket, machine := c.farther()
	c.put("deep/er/second.txt", strings.Repeat("second\n", 100_000))
	a := c.start()
	c.backup(a, "uploads", "near", "bucket", "machine")
	c.put("first.txt", "changed\n")
	c.backup(a, "uploads", "near", "bucket", "machine") // builds on packs that are there

	id, err := ReadIdentity(c.w.Key(KeyRecovery))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.w.Plan())
	if err != nil {
		t.Fatal(err)
	}
	const nowhere = "127.0.0.1:1"
	addresses := map[string]string{"near": c.place("near"), "bucket": strings.TrimPrefix(bucket.URL, "https://"), "machine": machine.Addr}
	// without is the plan as it is when these locations are gone.
	without := func(gone ...string) *plan.Plan {
		t.Helper()
		now := string(text)
		for _, l := range gone {
			to := nowhere
			if l == "near" {
				to = c.place("gone")
			}
			now = strings.ReplaceAll(now, addresses[l], to)
		}
		p, err := plan.Parse(c.w.Plan(), []byte(now))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for from := range addresses {
		var others []string
		for l := range addresses {
			if l != from {
				others = append(others, l)
			}
		}
		to := filepath.Join(t.TempDir(), from)
		got, err := Restore(t.Context(), without(others...), Options{Workspace: c.w}, RestoreRequest{
			Store: "uploads", To: to, Identities: []seal.Identity{id}, Target: holdfast.Target{Kind: holdfast.TargetLatest}, Use: func() {}})
		if err != nil {
			t.Errorf("restore from %q alone: %v (%s)", from, err, holdfast.Hint(err))
			continue
		}
		if got.Location != from {
			t.Errorf("restored from %q, not %q", got.Location, from)
		}
		for name, want := range map[string]string{"first.txt": "changed\n", "deep/er/second.txt": strings.Repeat("second\n", 100_000)} {
			if b, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(b) != want {
				t.Errorf("from %q: %s has %d bytes, %v", from, name, len(b), err)
			}
		}
	}
	// What is gone is said to be gone, not empty.
	ws, away, err := Windows(t.Context(), without("near", "bucket", "machine"), "uploads", Options{Workspace: c.w})
	if err == nil || len(ws) != 0 || len(away) != 3 {
		t.Errorf("with everything gone: %v, away %v, %v", ws, away, err)
	}
}

// Who names a location waits for no other one.
func TestRestoreAsksOnlyTheNamedLocation(t *testing.T) {
	c := newCompany(t, false, nil)
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(other.Close)
	b, err := os.ReadFile(c.w.Plan())
	if err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join(c.w.Dir, "credentials")
	if err := os.WriteFile(credentials, []byte("access_key_id = a\nsecret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^  offsite: .*$`).ReplaceAllString(string(b), fmt.Sprintf("  offsite: {kind: s3, domain: b, s3: {endpoint: %q, insecure: true, bucket: backups, credentials_file: %q}}", other.URL, credentials))
	p, err := plan.Parse(c.w.Plan(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	id, err := ReadIdentity(c.w.Key(KeyRecovery))
	if err != nil {
		t.Fatal(err)
	}
	req := RestoreRequest{Store: "uploads", Location: "near", To: filepath.Join(t.TempDir(), "back"), Identities: []seal.Identity{id}, Target: holdfast.Target{Kind: holdfast.TargetLatest}, Use: func() {}}
	if _, err := Restore(t.Context(), p, Options{Workspace: c.w}, req); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the other location was asked %d times", n)
	}
	if _, away, err := Windows(t.Context(), p, "uploads", Options{Workspace: c.w}); err != nil || len(away) != 1 || asked.Load() == 0 {
		t.Errorf("asked all: away %v, %v", away, err)
	}
}
