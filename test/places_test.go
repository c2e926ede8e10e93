package test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast/internal/location/locationtest"
)

// copied is a captured host: every file of it, in another place.
func copied(t *testing.T, host workspace) workspace {
	t.Helper()
	out := host
	out.dir = filepath.Join(place(t), "stolen")
	if b, err := exec.CommandContext(t.Context(), "cp", "-a", host.dir, out.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

// harmless tries every command of the product that reads or destroys, with a captured
// host's files.
func harmless(t *testing.T, host workspace, location, secret string) {
	t.Helper()
	for _, args := range [][]string{
		{"points", "uploads"}, {"restore", "uploads", "--to", filepath.Join(host.dir, "x"), "--key", filepath.Join(host.dir, "keys", "source.key")},
		{"location", "init", location}, {"verify"}, {"prune", "--apply"}, {"repair"}, {"drill", "uploads"},
	} {
		if e := host.run(t, args...); e.status == 0 || strings.Contains(e.out, secret) {
			t.Errorf("with the host's files: %q: %v", args, e)
		}
	}
	for name, b := range treeOf(t, host.dir) {
		if strings.Contains(b, "AGE-SECRET-KEY") || strings.Contains(b, secret) {
			t.Errorf("%s lies on the host", name)
		}
	}
}

const invoice = "the quick brown invoice 4711 of a customer"

// older is an instant at which the older of the two backups is what comes back.
func (s split) older(t *testing.T) time.Time {
	t.Helper()
	var v struct{ Windows []window }
	s.server.run(t, "points", "uploads", "--json").object(t, &v)
	if len(v.Windows) != 2 {
		t.Fatalf("%d snapshots are offered, want 2", len(v.Windows))
	}
	return v.Windows[0].To
}

// still proves on the server that the backups are what they were: the older and the
// newer one come back.
func (s split) still(t *testing.T, older time.Time) {
	t.Helper()
	to := filepath.Join(place(t), "back")
	s.server.run(t, "restore", "uploads", "--to", to, "--latest").want(t, 0)
	treeOf(t, s.host.uploads).unchanged(t, to)
	to = filepath.Join(place(t), "older")
	s.server.run(t, "restore", "uploads", "--to", to, "--at", at(older)).want(t, 0)
	if files := treeOf(t, to); !strings.Contains(files["invoice.txt"], invoice) || files["more.txt"] != "" {
		t.Error("the older backup is not what it was")
	}
}

func TestWriterRightsRows(t *testing.T) {
	t.Parallel()
	t.Run("ACC-10 a captured host and a directory", func(t *testing.T) {
		t.Parallel()
		s := splitDuties(t)
		older := guarded(t, s, func() tree { return treeOf(t, s.disk) })
		// On the machine of the directory itself, another account's folder is closed.
		for _, act := range [][]string{
			{"ls", s.disk}, {"cat", filepath.Join(s.disk, "holdfast-repository")}, {"rm", "-rf", filepath.Join(s.disk, "packs")},
			{"truncate", "-s", "0", filepath.Join(s.disk, "holdfast-repository")}, {"mv", filepath.Join(s.disk, "packs"), filepath.Join(s.disk, "gone")},
			{"touch", "-d", "2001-01-01", filepath.Join(s.disk, "holdfast-repository")}, {"cp", "/dev/null", filepath.Join(s.disk, "new")},
		} {
			cmd := exec.CommandContext(t.Context(), act[0], act[1:]...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("as another account: %q: %s", act, out)
			}
		}
		s.still(t, older)
		// Without a gateway an account that may create a file may overwrite it, and the
		// agent does not begin.
		directly(t, s, fmt.Sprintf("{kind: dir, path: %q, ", s.disk))
	})
	t.Run("ACC-10 a captured host and OpenSSH", func(t *testing.T) {
		t.Parallel()
		server := locationtest.StartSFTP(t)
		s := split{disk: filepath.Join(server.Dir, "backups"), server: filesOnly(t)}
		key := filepath.Join(place(t), "login")
		if b, err := os.ReadFile(server.KeyFile); err != nil {
			t.Fatal(err)
		} else {
			write(t, key, string(b), 0o600)
		}
		behind := fmt.Sprintf("{kind: sftp, sftp: {host: %q, user: %q, path: %q, key_file: %q, host_key: %q}", server.Addr, server.User, s.disk, key, server.HostKey)
		s = s.divided(t, behind+"}")
		guarded(t, s, func() tree { return treeOf(t, s.disk) })
		directly(t, s, behind+", ")
	})
	t.Run("ACC-10 a captured host and a bucket", func(t *testing.T) {
		t.Parallel()
		bucketOnly(t)
	})
}

// directly lets an agent try a location that its own credentials can read.
func directly(t *testing.T, s split, location string) {
	t.Helper()
	edit(t, s.host.plan(), func(p string) string {
		return regexp.MustCompile(`(?m)^  offsite: \{kind: gateway, gateway: \{[^}]*\}, `).ReplaceAllString(p, "  offsite: "+location)
	})
	s.host.run(t, "agent", "source", "--once").refuses(t, 4, "can be read", "gateway")
}

// guarded makes two backups through a gateway and lets who took the host try everything
// against the older ones.
func guarded(t *testing.T, s split, look func() tree) (older time.Time) {
	t.Helper()
	write(t, filepath.Join(s.host.uploads, "invoice.txt"), strings.Repeat(invoice, 200), 0o644)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	write(t, filepath.Join(s.host.uploads, "more.txt"), "more", 0o644)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	serve(t, s.server.dir)
	until(t, "receipts", func() bool {
		n := 0
		for name, b := range look() {
			if contains(name, `^receipts/uploads/[0-9]`) && b != "dir" {
				n++
			}
		}
		return n == 2
	})
	older = s.older(t)
	before := look()
	host := copied(t, s.host)
	harmless(t, host, "offsite", invoice)
	c := attacker(t, filepath.Join(host.dir, "id.pem"))
	ask := func(method, path string, body []byte, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.gateway+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Holdfast-Content-Hash", strings.Repeat("0", 64))
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	tried := 0
	for name, was := range before {
		if was == "dir" {
			continue
		}
		tried++
		at := "/v1/objects/" + name
		for _, try := range []struct {
			method string
			body   []byte
			header []string
		}{
			{"GET", nil, nil}, {"HEAD", nil, nil}, {"DELETE", nil, nil}, {"PUT", []byte("evil"), nil}, {"PUT", nil, nil}, // with other content, and cut to nothing
			{"PUT", []byte("x"), []string{"Content-Range", "bytes 0-0/1"}}, {"PATCH", []byte("x"), nil}, {"POST", []byte("x"), nil},
			{"MOVE", nil, []string{"Destination", "/v1/objects/packs/00/gone"}}, {"COPY", nil, []string{"Destination", at}}, // renamed
			{"PUT", []byte("evil"), []string{"If-Match", "*"}}, {"PUT", []byte("evil"), []string{"X-HTTP-Method-Override", "DELETE"}},
		} {
			if status, answer := ask(try.method, at+"?off=0&n=-1", try.body, try.header...); status < 400 || len(was) > 40 && strings.Contains(answer, was[:40]) {
				t.Errorf("%s %s: %d", try.method, name, status)
			}
		}
	}
	if tried < 8 {
		t.Errorf("only %d objects were tried", tried)
	}
	for _, path := range []string{"/v1/list?prefix=", "/v1/list?prefix=snapshots/", "/v1/objects/", "/v1/objects/../../etc/passwd", "/"} {
		if status, answer := ask("GET", path, nil); status < 400 || strings.Contains(answer, "packs/") {
			t.Errorf("GET %s: %d, %s", path, status, answer)
		}
	}
	before.unchanged(t, filepath.Clean(s.disk))
	// What it may do: new names. Under an older name, and dated back, it makes a snapshot
	// that nobody countersigns, and costs none of the real ones anything.
	t.Run("dated back", func(t *testing.T) {
		later(t, -400*24*time.Hour)
		host.run(t, "agent", "source", "--once").want(t, 0)
	})
	after := look()
	for name, b := range before {
		if after[name] != b {
			t.Errorf("%s is another one now", name)
		}
	}
	s.still(t, older)
	return older
}

// bucketOnly lets a host write into a bucket directly, with credentials that may only put.
func bucketOnly(t *testing.T) {
	server := locationtest.StartS3(t)
	ctx := t.Context()
	s := split{server: filesOnly(t)}
	credentialsOf := func(dir, access, secret string) {
		write(t, filepath.Join(dir, "bucket"), fmt.Sprintf("access_key_id = %s\nsecret_access_key = %s\n", access, secret), 0o600)
	}
	credentialsOf(s.server.dir, server.Access, server.Secret)
	const secret = "the secret of the agent"
	server.AddUser(t, "agent", secret)
	edit(t, s.server.plan(), func(p string) string {
		p = regexp.MustCompile(`(?m)^  offsite: \{kind: dir, path: [^,]*,`).ReplaceAllString(p, fmt.Sprintf("  offsite: {kind: s3, s3: {endpoint: %q, insecure: true, bucket: backups, credentials_file: bucket, lock: 30d},", server.URL))
		p = regexp.MustCompile(`(?m)^  near: .*\n`).ReplaceAllString(p, "")
		return strings.Replace(p, "copies: [near, offsite]", "copies: [offsite]", 1)
	})
	s.server.run(t, "location", "init", "offsite").want(t, 0)
	s.host = workspace{dir: filepath.Join(place(t), "host"), uploads: s.server.uploads}
	var key struct{ Key string }
	hf(t, "--dir", s.host.dir, "agent", "init", "db1", "--json").want(t, 0).object(t, &key)
	credentialsOf(s.host.dir, "agent", secret)
	edit(t, s.server.plan(), func(p string) string {
		return strings.Replace(p, "  uploads:\n    kind: files\n", fmt.Sprintf("  uploads:\n    kind: files\n    agent: {key: %q}\n", key.Key), 1)
	})
	b, err := os.ReadFile(s.server.plan())
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.host.plan(), strings.Replace(string(b), "lock: 30d}", "lock: 30d, write_only: true}", 1), 0o600)

	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := func(access, secret string) *minio.Client {
		// One connection for each request: the server refuses some before it has read
		// them, and takes what is left of them for the next.
		c, err := minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), MaxRetries: 1, Transport: &http.Transport{DisableKeepAlives: true}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	owner, thief := client(server.Access, server.Secret), client("agent", secret)
	if err := owner.SetBucketPolicy(ctx, "backups", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["agent"]},
		"Action": ["s3:PutObject", "s3:PutObjectRetention"], "Resource": ["arn:aws:s3:::backups/*"]}]}`); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.host.uploads, "invoice.txt"), strings.Repeat(invoice, 200), 0o644)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	write(t, filepath.Join(s.host.uploads, "more.txt"), "more", 0o644)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	list := func(versions bool) (out []minio.ObjectInfo) {
		t.Helper()
		for o := range owner.ListObjectsIter(ctx, "backups", minio.ListObjectsOptions{Recursive: true, WithVersions: versions}) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
			out = append(out, o)
		}
		return out
	}
	serve(t, s.server.dir)
	until(t, "receipts", func() bool {
		n := 0
		for _, o := range list(false) {
			if strings.HasPrefix(o.Key, "receipts/uploads/") {
				n++
			}
		}
		return n == 2
	})
	older := s.older(t)
	before := list(true)
	if len(before) < 9 {
		t.Fatalf("only %d objects", len(before))
	}
	harmless(t, copied(t, s.host), "offsite", invoice)
	soon, governance := time.Now().Add(time.Minute), minio.Governance
	compliance := minio.Compliance
	for name, act := range map[string]func(o minio.ObjectInfo) error{
		"read": func(o minio.ObjectInfo) error {
			r, err := thief.GetObject(ctx, "backups", o.Key, minio.GetObjectOptions{})
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		},
		"read a version": func(o minio.ObjectInfo) error {
			r, err := thief.GetObject(ctx, "backups", o.Key, minio.GetObjectOptions{VersionID: o.VersionID})
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		},
		"ask": func(o minio.ObjectInfo) error {
			_, err := thief.StatObject(ctx, "backups", o.Key, minio.StatObjectOptions{})
			return err
		},
		"delete": func(o minio.ObjectInfo) error {
			return thief.RemoveObject(ctx, "backups", o.Key, minio.RemoveObjectOptions{})
		},
		"delete a version": func(o minio.ObjectInfo) error {
			return thief.RemoveObject(ctx, "backups", o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID, GovernanceBypass: true, ForceDelete: true})
		},
		"copy": func(o minio.ObjectInfo) error {
			_, err := thief.CopyObject(ctx, minio.CopyDestOptions{Bucket: "backups", Object: "packs/00/copy"}, minio.CopySrcOptions{Bucket: "backups", Object: o.Key})
			return err
		},
		"shorten the lock": func(o minio.ObjectInfo) error {
			return thief.PutObjectRetention(ctx, "backups", o.Key, minio.PutObjectRetentionOptions{Mode: &compliance, RetainUntilDate: &soon, VersionID: o.VersionID, GovernanceBypass: true})
		},
		"weaken the lock": func(o minio.ObjectInfo) error {
			return thief.PutObjectRetention(ctx, "backups", o.Key, minio.PutObjectRetentionOptions{Mode: &governance, RetainUntilDate: &soon, VersionID: o.VersionID, GovernanceBypass: true})
		},
		"lift the lock": func(o minio.ObjectInfo) error {
			return thief.PutObjectRetention(ctx, "backups", o.Key, minio.PutObjectRetentionOptions{VersionID: o.VersionID, GovernanceBypass: true})
		},
	} {
		for _, o := range before {
			if strings.Contains(name, "lock") && !strings.HasPrefix(o.Key, "packs/") {
				continue
			}
			if err := act(o); err == nil {
				t.Errorf("%s: %s succeeded", o.Key, name)
			}
		}
	}
	for name, act := range map[string]func() error{
		"list": func() error {
			for o := range thief.ListObjectsIter(ctx, "backups", minio.ListObjectsOptions{Recursive: true}) {
				return o.Err
			}
			return nil
		},
		"policy":     func() error { return thief.SetBucketPolicy(ctx, "backups", "") },
		"versioning": func() error { return thief.SuspendVersioning(ctx, "backups") },
		"lock":       func() error { return thief.SetObjectLockConfig(ctx, "backups", nil, nil, nil) },
		"bucket":     func() error { return thief.RemoveBucket(ctx, "backups") },
	} {
		if err := act(); err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
	if now := list(true); len(now) != len(before) {
		t.Errorf("%d versions became %d", len(before), len(now))
	}
	s.still(t, older)
	// It puts without our condition, over every object there is: cut to nothing, and as
	// something else.
	for _, o := range before {
		for _, body := range []string{"", "evil"} {
			if _, err := thief.PutObject(ctx, "backups", o.Key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{SendContentMd5: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.still(t, older)
	for _, o := range before {
		if !slices.ContainsFunc(list(true), func(n minio.ObjectInfo) bool { return n.Key == o.Key && n.VersionID == o.VersionID }) {
			t.Errorf("%s is gone", o.Key)
		}
	}
}
