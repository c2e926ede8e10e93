package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// soon is how long a refusal may take: a person waits at the terminal.
const soon = 30 * time.Second

// A database that cannot be protected as it is says so at once, in one sentence,
// also to the one who only asks.
func TestDatabaseThatCannotBeProtected(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	own, err := newCluster(t.Context()) // its settings are spoiled
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.stop(); err != nil {
			t.Error(err)
		}
	})
	restart := func(t *testing.T, options map[string]string) {
		t.Helper()
		if err := own.server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := own.start(t.Context(), options); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name     string
		cluster  *cluster
		spoil    func(t *testing.T, w workspace)
		sentence string
		hint     string
	}{
		{"unreachable", c, func(t *testing.T, w workspace) {
			edit(t, w.plan(), func(s string) string { return strings.Replace(s, fmt.Sprintf("port=%d", c.port), "port=1", 1) })
		}, `nobody answers at 127\.0\.0\.1:1`, `check that the server runs`},
		{"wrong password", c, func(t *testing.T, w workspace) {
			edit(t, filepath.Join(w.root, "db-password"), func(string) string { return "a guess\n" })
		}, `the server refuses the password of role "holdfast"`, `password file`},
		{"no password file", c, func(t *testing.T, w workspace) {
			if err := os.Remove(filepath.Join(w.root, "db-password")); err != nil {
				t.Fatal(err)
			}
		}, `password file: .*db-password is missing`, `write the password`},
		{"password file that others can read", c, func(t *testing.T, w workspace) {
			if err := os.Chmod(filepath.Join(w.root, "db-password"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, `others on this machine can read it`, `chmod 600`},
		{"no replication right", c, func(t *testing.T, w workspace) {
			c.sql(t, "CREATE ROLE reader LOGIN PASSWORD '"+password+"'")
			t.Cleanup(func() {
				if _, err := c.query(context.Background(), "DROP ROLE reader"); err != nil {
					t.Error(err)
				}
			})
			edit(t, w.plan(), func(s string) string { return strings.Replace(s, "user=holdfast", "user=reader", 1) })
		}, `role "reader" may not replicate`, `ALTER ROLE "reader" REPLICATION`},
		{"unbounded slot", own, func(t *testing.T, w workspace) {
			own.sql(t, "ALTER SYSTEM SET max_slot_wal_keep_size = -1")
			own.sql(t, "SELECT pg_reload_conf()")
			until(t, "the setting", func() bool { return own.sql(t, "SHOW max_slot_wal_keep_size") == "-1" })
		}, `max_slot_wal_keep_size is -1`, `max_slot_wal_keep_size|accept_unbounded_slot`},
		{"wal_level minimal", own, func(t *testing.T, w workspace) {
			restart(t, map[string]string{"wal_level": "minimal", "max_wal_senders": "0"})
		}, `wal_level is minimal`, `ALTER SYSTEM SET wal_level = replica`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := forCluster(t, tt.cluster)
			w.run(t, "location", "init", "--all").want(t, 0)
			tt.spoil(t, w)
			near, offsite := treeOf(t, filepath.Join(w.near, "snapshots")), treeOf(t, filepath.Join(w.offsite, "snapshots"))

			e := w.run(t, "backup", "db")
			e.refuses(t, 1, tt.sentence, tt.hint)
			if e.took > soon {
				t.Errorf("the refusal took %s", e.took)
			}
			near.unchanged(t, filepath.Join(w.near, "snapshots"))
			offsite.unchanged(t, filepath.Join(w.offsite, "snapshots"))
			if slots := tt.cluster.sql(t, "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'hf\\_"+strings.TrimPrefix(filepath.Base(w.root), "hf-")+"%'"); slots != "0" {
				t.Errorf("%s slots were left on a server that cannot be protected", slots)
			}

			// Whoever asks beforehand hears the same, as a finding.
			e = w.run(t, "check", "--live").want(t, 3)
			for _, line := range strings.Split(e.out, "\n") {
				if strings.Contains(line, "error HF-") && !strings.Contains(line, "stores.db") {
					t.Errorf("a finding that has nothing to do with it: %s", line)
				}
			}
			var found struct {
				Findings []struct{ Code, Severity, Subject, Message, Hint string }
			}
			w.run(t, "check", "--live", "--json").want(t, 3).object(t, &found)
			n := 0
			for _, f := range found.Findings {
				if f.Severity == "error" {
					n++
					if f.Hint == "" || f.Message == "" || f.Code == "" || f.Subject != "stores.db" {
						t.Errorf("a finding that does not help: %+v", f)
					}
				}
			}
			if n != 1 {
				t.Errorf("%d errors, want 1: %+v", n, found.Findings)
			}
			// The folder beside it is protected all the same.
			w.run(t, "backup", "uploads").want(t, 0)
		})
	}
}

// What is wrong in the plan is named with its line and column, before anything is
// done, by every command that reads it.
func TestPlanThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, old, new, sentence, hint string
	}{
		{"a typo in a key", "\ntiers:", "\nteirs:", `plan\.yaml:\d+:1: unknown field "teirs"`, `did you mean "tiers"`},
		{"a typo deep inside", "    protect: folder", "    protects: folder", `plan\.yaml:\d+:5: .*"protects"`, `did you mean "protect"`},
		{"a period that is none", "every: 5m", "every: 5 mintues", `plan\.yaml:\d+:\d+: `, `.`},
		{"no YAML", "org:\n", "org: [\n", `plan\.yaml:\d+:\d+: `, `.`},
		{"a password in the connection string", "user=holdfast", "user=holdfast password=hunter2secret", `plan\.yaml:\d+:\d+: .*password`, `password_file`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app")
			edit(t, w.plan(), func(s string) string { return strings.Replace(s, tt.old, tt.new, 1) })
			before := treeOf(t, w.root)
			for _, args := range [][]string{{"serve"}, {"location", "init", "--all"}, {"backup", "uploads"}, {"points", "db"}, {"status"}, {"drill", "db"}, {"restore", "db", "--to", filepath.Join(w.root, "out")}} {
				e := w.run(t, args...)
				e.refuses(t, 2, tt.sentence, tt.hint)
				if strings.Contains(e.out+e.errout, "hunter2secret") {
					t.Errorf("holdfast %v prints a secret: %v", args, e)
				}
			}
			e := w.run(t, "check").want(t, 2)
			if !strings.Contains(e.out, "plan.yaml:") || strings.Contains(e.out, "hunter2secret") || e.errout != "" {
				t.Errorf("check says it on standard output, once, without the secret: %v", e)
			}
			before.unchanged(t, w.root)
		})
	}
}

// mountTmpfs makes a small disk of its own.
func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("these tests mount small disks, and must run as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil && err != syscall.EINVAL {
			t.Error(err)
		}
	})
}

// incompressible is content that stays as large as it is.
func incompressible(t *testing.T, n int) string {
	t.Helper()
	f, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// restores proves that a location brings the folder back as it is.
func (w workspace) restores(t *testing.T, location string) {
	t.Helper()
	to := filepath.Join(w.root, "back-"+location)
	w.run(t, "restore", "uploads", "--to", to, "--location", location).want(t, 0)
	treeOf(t, w.uploads).unchanged(t, to)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
}

// A location that cannot take a copy does not keep the other from being complete,
// never lists an incomplete copy, and is caught up when it can.
func TestLocationThatCannotTakeACopy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		prepare       func(t *testing.T, w workspace) // before the repositories are made
		spoil, mend   func(t *testing.T, w workspace)
		why           string
		nothingBefore bool
	}{
		{"full disk", func(t *testing.T, w workspace) { mountTmpfs(t, w.offsite, "size=3m") }, func(t *testing.T, w workspace) {
			write(t, filepath.Join(w.uploads, "large.bin"), incompressible(t, 6<<20), 0o644)
		}, func(t *testing.T, w workspace) {
			if err := syscall.Mount("tmpfs", w.offsite, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
				t.Fatal(err)
			}
		}, `offsite: .*no space left`, false},
		{"read-only disk", func(t *testing.T, w workspace) { mountTmpfs(t, w.offsite, "size=16m") }, func(t *testing.T, w workspace) {
			if err := syscall.Mount("tmpfs", w.offsite, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=16m"); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, w workspace) {
			if err := syscall.Mount("tmpfs", w.offsite, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
				t.Fatal(err)
			}
		}, `offsite: .*read-only`, false},
		{"unmounted disk", func(t *testing.T, w workspace) { mountTmpfs(t, w.offsite, "size=16m") }, func(t *testing.T, w workspace) {
			if err := syscall.Unmount(w.offsite, 0); err != nil {
				t.Fatal(err)
			}
		}, nil, `offsite: .*no repository is there`, true},
		{"moved away", nil, func(t *testing.T, w workspace) {
			if err := os.Rename(w.offsite, w.offsite+".away"); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, w workspace) {
			if err := os.Rename(w.offsite+".away", w.offsite); err != nil {
				t.Fatal(err)
			}
		}, `offsite: .*location is not there`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := filesOnly(t)
			if tt.prepare != nil {
				tt.prepare(t, w)
			}
			w.run(t, "location", "init", "--all").want(t, 0)
			tt.spoil(t, w)
			spoiled := treeOf(t, filepath.Join(w.offsite, "snapshots"))

			e := w.run(t, "backup", "uploads").want(t, 3) // done, and not everywhere
			if !contains(e.out, tt.why) || !strings.Contains(e.out, "complete at near") {
				t.Errorf("want %q and that near is complete: %v", tt.why, e)
			}
			if e.took > soon {
				t.Errorf("it took %s", e.took)
			}
			spoiled.unchanged(t, filepath.Join(w.offsite, "snapshots"))
			w.restores(t, "near")
			var points struct {
				Windows []struct{ Location string }
				Away    map[string]string
			}
			w.run(t, "points", "uploads", "--json").object(t, &points)
			if len(points.Windows) != 1 || points.Windows[0].Location != "near" {
				t.Errorf("only near has a recovery point, listed are %+v", points)
			}
			if tt.mend == nil {
				return
			}
			tt.mend(t, w)
			w.run(t, "backup", "uploads").want(t, 0)
			w.restores(t, "offsite")
		})
	}
}

// A location where nothing can be made says so, and nothing is made elsewhere by
// mistake.
func TestLocationThatCannotBeMade(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	mountTmpfs(t, filepath.Join(w.root, "ro"), "size=1m")
	if err := syscall.Mount("tmpfs", filepath.Join(w.root, "ro"), "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=1m"); err != nil {
		t.Fatal(err)
	}
	edit(t, w.plan(), func(s string) string { return strings.Replace(s, w.near, filepath.Join(w.root, "ro", "near"), 1) })
	w.run(t, "location", "init", "near").refuses(t, 1, `location "near": .*read-only`, `.`)
	w.run(t, "location", "init", "nowhere").refuses(t, 2, `location "nowhere" is not in the plan`, `near, offsite|check`)
	w.run(t, "backup", "uploads").refuses(t, 1, `no location is within reach`, `location init|mend one location`)
	if _, err := os.Stat(w.offsite); err == nil {
		t.Errorf("%s was made, and nobody asked for it", w.offsite)
	}
}

func TestAnotherRepositoryIsThere(t *testing.T) {
	t.Parallel()
	one, two := filesOnly(t), filesOnly(t)
	one.run(t, "location", "init", "--all").want(t, 0)
	edit(t, two.plan(), func(s string) string { return strings.Replace(s, two.near, one.near, 1) })
	before := treeOf(t, one.near)
	two.run(t, "location", "init", "near").refuses(t, 1, `location "near": another repository is at`, `never mixed`)
	two.run(t, "location", "init", "offsite").want(t, 0)
	e := two.run(t, "backup", "uploads").want(t, 3)
	if !strings.Contains(e.out, "another repository is there") {
		t.Errorf("it does not say what is at near: %v", e)
	}
	before.unchanged(t, one.near)
}

// A state that is full or cannot be written keeps nothing half-done, and works
// again when there is room.
func TestStateWithoutRoom(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	state := filepath.Join(w.dir, "state")
	db, err := os.ReadFile(filepath.Join(state, "holdfast.db"))
	if err != nil {
		t.Fatal(err)
	}
	size := len(db) + 128<<10
	mountTmpfs(t, state, fmt.Sprintf("size=%d", size))
	write(t, filepath.Join(state, "holdfast.db"), string(db), 0o600)
	// Fill what is left.
	fill := filepath.Join(state, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := treeOf(t, filepath.Join(w.near, "snapshots"))
	e := w.run(t, "backup", "uploads")
	e.refuses(t, 1, `state.*(full|no space)`, `free|space`)
	if e.took > soon {
		t.Errorf("it took %s", e.took)
	}
	before.unchanged(t, filepath.Join(w.near, "snapshots"))
	w.restores(t, "near") // getting data back needs no state
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	w.run(t, "backup", "uploads").want(t, 0)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	to := filepath.Join(w.root, "out")
	nothing := func(t *testing.T) {
		t.Helper()
		for _, p := range []string{to, to + ".incomplete"} {
			if _, err := os.Lstat(p); err == nil {
				t.Errorf("%s was made", p)
			}
		}
	}
	t.Run("of somebody else", func(t *testing.T) {
		other := filepath.Join(w.root, "other.age")
		hf(t, "key", "create", other).want(t, 0)
		w.run(t, "restore", "uploads", "--to", to, "--key", other).refuses(t, 1, `no key that was given opens the copy of "uploads" at "\w+"`, `--key`)
		nothing(t)
	})
	t.Run("that is none", func(t *testing.T) {
		junk := filepath.Join(w.root, "junk.age")
		write(t, junk, "hello\n", 0o600)
		w.run(t, "restore", "uploads", "--to", to, "--key", junk).refuses(t, 1, `junk\.age`, `--key|key`)
		nothing(t)
	})
	t.Run("lost", func(t *testing.T) {
		runner := filepath.Join(w.dir, "keys", "runner.age")
		if err := os.Rename(runner, runner+".lost"); err != nil {
			t.Fatal(err)
		}
		w.run(t, "restore", "uploads", "--to", to).refuses(t, 1, `key file .*runner\.age is missing$`, `bring it back`)
		nothing(t)
		// Without the key that reads, copies are made all the same, and the second
		// key reads them.
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "restore", "uploads", "--to", to, "--key", filepath.Join(w.dir, "keys", "recovery.age")).want(t, 0)
		treeOf(t, w.uploads).unchanged(t, to)
	})
	t.Run("that signs, lost", func(t *testing.T) {
		source := filepath.Join(w.dir, "keys", "source.key")
		if err := os.Rename(source, source+".lost"); err != nil {
			t.Fatal(err)
		}
		before := treeOf(t, w.near)
		w.run(t, "backup", "uploads").refuses(t, 1, `key file .*source\.key is missing$`, `bring it back`)
		before.unchanged(t, w.near)
	})
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	first := serve(t, w.dir)
	e := w.run(t, "serve", "--listen", "127.0.0.1:0")
	e.refuses(t, 1, `another holdfast works on this state`, `stop it first`)
	if e.took > soon {
		t.Errorf("it took %s", e.took)
	}
	w.run(t, "backup", "uploads").want(t, 0) // through the first
	first.stop(t)
	serve(t, w.dir) // the state is free again
}

func TestListensOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:7878", "example.com:80"} {
		w.run(t, "serve", "--listen", address).refuses(t, 4, `listening on .* is refused`, `ssh -L`)
	}
	w.run(t, "serve", "--listen", "7878").refuses(t, 2, `missing port`, `127\.0\.0\.1:7878`)
	first := serve(t, w.dir)
	_, port, _ := strings.Cut(strings.TrimPrefix(first.url, "http://"), ":")
	other := filesOnly(t)
	other.run(t, "serve", "--listen", "127.0.0.1:"+port).refuses(t, 1, `address already in use`, `--listen`)
}

func TestRestoreThatCannotBe(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	to := filepath.Join(w.root, "out")
	w.run(t, "restore", "uploads", "--to", to).refuses(t, 1, `store "uploads" has no recovery point`, `holdfast (points|backup)`)
	w.run(t, "backup", "uploads").want(t, 0)
	full := filepath.Join(w.root, "full")
	write(t, filepath.Join(full, "mine.txt"), "keep me\n", 0o644)
	before := treeOf(t, w.root)
	for _, tt := range []struct {
		name           string
		args           []string
		status         int
		sentence, hint string
	}{
		{"into a folder with something in it", []string{"--to", full}, 4, `full is not empty`, `never overwrites`},
		{"into a file", []string{"--to", filepath.Join(full, "mine.txt")}, 1, `mine\.txt`, `empty or absent directory`},
		{"before the window", []string{"--to", to, "--at", "2020-01-01T00:00:00Z"}, 1, `cannot be brought back to 2020-01-01`, `the nearest window is`},
		{"after the end", []string{"--to", to, "--at", "2099-01-01T00:00:00Z"}, 1, `cannot be brought back to 2099-01-01`, `the nearest window is`},
		{"to no time", []string{"--to", to, "--at", "yesterday"}, 2, `time "yesterday" is not understood`, `2026-03-01`},
		{"to two targets", []string{"--to", to, "--latest", "--at", "2026-01-01T00:00:00Z"}, 2, `at latest`, `--help`},
		{"nowhere", nil, 2, `needs --to DIR`, `--to`},
		{"from an unknown location", []string{"--to", to, "--location", "moon"}, 2, `location "moon" is not in the plan`, `near.*offsite`},
		{"from an unknown snapshot", []string{"--to", to, "--snapshot", "20200101T000000Z-00000000"}, 1, `20200101T000000Z-00000000`, `holdfast points`},
		{"to a log position of a folder", []string{"--to", to, "--lsn", "0/1"}, 2, `a directory cannot be restored to "lsn`, `--at|--latest`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.run(t, append([]string{"restore", "uploads"}, tt.args...)...).refuses(t, tt.status, tt.sentence, tt.hint)
			// What the key was going to be used for is recorded, whatever came of it.
			if err := os.RemoveAll(filepath.Join(w.dir, "state", "key-uses")); err != nil {
				t.Fatal(err)
			}
			before.unchanged(t, w.root)
		})
	}
	t.Run("onto a full disk", func(t *testing.T) {
		write(t, filepath.Join(w.uploads, "large.bin"), incompressible(t, 4<<20), 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
		small := filepath.Join(w.root, "small")
		mountTmpfs(t, small, "size=1m")
		w.run(t, "restore", "uploads", "--to", filepath.Join(small, "out")).refuses(t, 1, `no space left`, `space|--to`)
		if _, err := os.Lstat(filepath.Join(small, "out")); err == nil {
			t.Error("half of the data stands where all of it was asked for")
		}
	})
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	before := treeOf(t, w.near)
	for _, tt := range []struct {
		args           []string
		sentence, hint string
	}{
		{[]string{"backup", "nope"}, `store "nope"`, `uploads`},
		{[]string{"points", "nope"}, `store "nope" is not in the plan`, `uploads`},
		{[]string{"restore", "nope", "--to", filepath.Join(w.root, "out")}, `store "nope" is not in the plan`, `uploads`},
		{[]string{"drill", "nope"}, `"nope" is neither a drill nor a store`, `uploads-drill`},
		{[]string{"drill", "uploads", "--location", "moon"}, `location "moon" is not in the plan`, `near, offsite`},
		{[]string{"drill", "uploads", "--rung", "9"}, `rung 9`, `0 to 6`},
		{[]string{"drill", "show", "nope"}, `drill "nope": no such drill`, `holdfast drill list`},
		{[]string{"drill", "confirm", "nope", "--by", "founder-b"}, `drill "nope": no such drill`, `holdfast drill list`},
		{[]string{"drill", "confirm", "nope"}, `required flag.*by`, `--help`},
		{[]string{"status", "nope"}, `service "nope" is not in the plan`, `api, web`},
		{[]string{"incident", "show", "7"}, `INC-7: no such incident`, `holdfast incident list`},
		{[]string{"incident", "show", "x"}, `"x" is not an incident`, `INC-3`},
		{[]string{"incident", "close", "7", "--by", "founder-a", "--outcome", "x"}, `INC-7: no such incident`, `holdfast incident list`},
		{[]string{"recover", "show", "nope"}, `recovery "nope": no such recovery`, `holdfast recover list`},
		{[]string{"recover", "activate", "7", "--by", "founder-a"}, `INC-7: no such incident`, `holdfast incident list`},
		{[]string{"recover", "confirm", "nope", "x", "--by", "founder-a"}, `recovery "nope": no such recovery`, `holdfast recover list`},
		{[]string{"evidence", "export", "--framework", "nope"}, `framework "nope"`, `iso27001, soc2`},
		{[]string{"evidence", "export", "--from", "2026-02-01", "--to", "2026-01-01"}, `ends before it begins`, `.`},
		{[]string{"location", "init"}, `which location`, `near, offsite`},
		{[]string{"frobnicate"}, `unknown command "frobnicate"`, `--help`},
		{[]string{"backup", "uploads", "--frobnicate"}, `unknown flag: --frobnicate`, `--help`},
		{[]string{"demo", "--break", "everything"}, `"everything"`, `flip or log`},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			e := w.run(t, tt.args...)
			e.refuses(t, 2, tt.sentence, tt.hint)
			if e.took > soon {
				t.Errorf("it took %s", e.took)
			}
			before.unchanged(t, w.near)
		})
	}
}
