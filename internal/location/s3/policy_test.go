package s3_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/location"
	"holdfast/internal/location/locationtest"
	"holdfast/internal/location/probe"
	"holdfast/internal/location/s3"
	"holdfast/internal/repo"
)

// The policy that the documentation gives a writer lets it do its work, and does not
// let it delete or hide anything, locked or not.
func TestThePolicyOfTheDocumentation(t *testing.T) {
	docs, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "ops", "locations.md"))
	must(t, err)
	m := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(docs)
	if m == nil {
		t.Fatal("the documentation has no policy")
	}
	server := locationtest.StartS3(t)
	owner := config(t, server, true)
	writer := owner
	const secret = "the secret of the writer"
	server.AddUser(t, "holdfast-writer", secret)
	writer.CredentialsFile = filepath.Join(t.TempDir(), "credentials")
	must(t, os.WriteFile(writer.CredentialsFile, []byte("access_key_id = holdfast-writer\nsecret_access_key = "+secret+"\n"), 0o600))
	if _, err := get(open(t, writer), location.Marker); !errors.Is(err, location.ErrDenied) {
		t.Fatalf("before it has rights, the writer gets: %v", err)
	}
	must(t, s3.SetPolicy(t.Context(), owner, strings.ReplaceAll(string(m[1]), "example-backups", owner.Bucket)))
	must(t, s3.MakeBucket(t.Context(), writer, true)) // as "location init" asks, and it is there

	w := open(t, writer)
	must(t, put(w, location.Marker, "{}"))
	must(t, put(w, "packs/aa/1", "one"))
	locking := writer
	locking.Retain = time.Hour
	must(t, put(open(t, locking), "packs/aa/2", "two"))
	n := 0
	if err := w.List(t.Context(), "packs/", func(repo.Object) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("list: %d, %v", n, err)
	}
	for _, name := range []string{"packs/aa/1", "packs/aa/2", location.Marker} {
		if err := w.Delete(t.Context(), name); !errors.Is(err, location.ErrDenied) && !errors.Is(err, location.ErrLocked) {
			t.Errorf("delete %q: %v", name, err)
		}
		if err := s3.Hide(t.Context(), w, name); err == nil {
			t.Errorf("%q could be hidden", name)
		}
		if err := put(w, name, "other"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("put over %q: %v", name, err)
		}
	}
	for name, want := range map[string]string{"packs/aa/1": "one", "packs/aa/2": "two"} {
		if got, err := get(w, name); err != nil || got != want {
			t.Errorf("%q is %q now, %v", name, got, err)
		}
	}
	if err := s3.SetPolicy(t.Context(), writer, "{}"); err == nil {
		t.Error("the writer could change the policy")
	}

	place, err := s3.Probe(locking, "0011223344556677")
	must(t, err)
	r := probe.Run(t.Context(), place, time.Now)
	if !r.Sufficient() {
		t.Errorf("the place is not sufficient: %+v", r.Checks)
	}
	for _, c := range r.Checks {
		if (c.Name == "deletion" || c.Name == "object lock" || c.Name == "versions") && c.Outcome != probe.Holds {
			t.Errorf("%+v", c)
		}
	}
	if len(r.Left) == 0 {
		t.Error("nothing is said of what could not be removed")
	}
}

// Credentials that may only put are enough for a source agent, and good for nothing else:
// what is there is not read, not listed, not deleted, and not lost.
func TestPutOnlyCredentials(t *testing.T) {
	server := locationtest.StartS3(t)
	owner := config(t, server, true)
	must(t, put(open(t, owner), location.Marker, "{}"))
	must(t, put(open(t, owner), "packs/aa/old", "old"))
	const secret = "the secret of the agent"
	server.AddUser(t, "holdfast-agent", secret)
	agent := owner
	agent.CredentialsFile = filepath.Join(t.TempDir(), "credentials")
	must(t, os.WriteFile(agent.CredentialsFile, []byte("access_key_id = holdfast-agent\nsecret_access_key = "+secret+"\n"), 0o600))
	must(t, s3.SetPolicy(t.Context(), owner, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["holdfast-agent"]},
		"Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::`+owner.Bucket+`/*"]}]}`))
	writing := agent
	writing.WriteOnly = true
	w := open(t, writing)
	must(t, put(w, "packs/aa/new", "new"))
	if err := put(w, "packs/aa/old", "evil"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put over an older object: %v", err)
	}
	for _, s := range []*s3.Store{w, open(t, agent)} {
		if b, err := get(s, "packs/aa/old"); err == nil {
			t.Errorf("read %q", b)
		}
		if err := s.List(t.Context(), "", func(repo.Object) error { return nil }); err == nil {
			t.Error("listed")
		}
		if err := s.Delete(t.Context(), "packs/aa/old"); err == nil {
			t.Error("deleted")
		}
		if err := s3.Hide(t.Context(), s, "packs/aa/old"); err == nil {
			t.Error("hidden")
		}
	}
	if err := s3.SetPolicy(t.Context(), agent, "{}"); err == nil {
		t.Error("the agent changed the policy")
	}
	for name, want := range map[string]string{"packs/aa/old": "old", "packs/aa/new": "new"} {
		if got, err := get(open(t, owner), name); err != nil || got != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

// Who can put, without our condition, lays versions over what is there. What was written
// first is what is read, locked and deleted.
func TestWhatIsLaidOverAnObject(t *testing.T) {
	server := locationtest.StartS3(t)
	cfg := config(t, server, true)
	owner := open(t, cfg)
	must(t, put(owner, location.Marker, "{}"))
	must(t, put(owner, "packs/aa/1", "the first one"))
	must(t, put(owner, "packs/aa/10", "a longer name"))
	thief := open(t, cfg)
	for _, body := range []string{"evil", "", strings.Repeat("evil ", 100)} {
		for _, name := range []string{location.Marker, "packs/aa/1"} {
			must(t, s3.Cover(t.Context(), thief, name, body))
		}
		// One that knew the object, and one that never saw it.
		for _, s := range []*s3.Store{owner, open(t, cfg)} {
			if got, err := get(s, "packs/aa/1"); err != nil || got != "the first one" {
				t.Errorf("under %d bytes: %q, %v", len(body), got, err)
			}
			for _, off := range []int64{0, 4, 13} {
				r, err := s.Get(t.Context(), "packs/aa/1", off, -1)
				must(t, err)
				b, err := io.ReadAll(r)
				r.Close()
				if err != nil || string(b) != "the first one"[off:] {
					t.Errorf("from %d under %d bytes: %q, %v", off, len(body), b, err)
				}
			}
			r, err := s.Get(t.Context(), "packs/aa/1", 4, 5)
			must(t, err)
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil || string(b) != "first" {
				t.Errorf("a range under %d bytes: %q, %v", len(body), b, err)
			}
			if got, err := get(s, "packs/aa/10"); err != nil || got != "a longer name" {
				t.Errorf("its neighbour: %q, %v", got, err)
			}
			// It takes the place for what it was: the marker is the first one too.
			if err := s.List(t.Context(), "packs/", func(repo.Object) error { return nil }); err != nil {
				t.Errorf("list under %d bytes: %v", len(body), err)
			}
			if err := put(s, "packs/aa/1", "the first one"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("put again: %v", err)
			}
		}
	}
	until := time.Now().Add(time.Hour)
	must(t, owner.Extend(t.Context(), "packs/aa/1", until))
	if err := owner.Delete(t.Context(), "packs/aa/1"); !errors.Is(err, location.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if got, err := get(open(t, cfg), "packs/aa/1"); err != nil || got != "the first one" {
		t.Errorf("the lock holds something else: %q, %v", got, err)
	}
	// The owner's deletion takes all of it, and what comes later under the name is another.
	must(t, s3.Cover(t.Context(), thief, "packs/aa/10", "evil"))
	must(t, owner.Delete(t.Context(), "packs/aa/10"))
	must(t, put(owner, "packs/aa/10", "later"))
	if got, err := get(owner, "packs/aa/10"); err != nil || got != "later" {
		t.Errorf("after the deletion: %q, %v", got, err)
	}
}
