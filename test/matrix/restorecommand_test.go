package matrix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
)

// What a server makes of a restore command's end is what everything about a recovery
// rests on (PostgreSQL rules 25 and 29): some ends are "no more log", and it promotes
// without a word; with an explicit target it never does.
func TestRestoreCommandOutcomes(t *testing.T) {
	const promotes, fatal, quiet = "promotes", "fatal", "ends"
	outcomes := []struct{ does, end string }{
		{"exit 0", promotes}, // without a file
		{"exit 1", promotes}, {"exit 74", promotes}, {"exit 125", promotes},
		{"exit 126", fatal}, {"exit 127", fatal}, {"exit 128", fatal}, {"exit 130", fatal}, {"exit 255", fatal},
		{"kill -KILL $$", fatal}, {"kill -ABRT $$", fatal},
		{"kill -TERM $$", quiet}, {"exit 143", quiet},
	}
	each(t, thoroughly, func(t *testing.T, r row, _ bool) {
		c := newColdCopy(t, r)
		for _, o := range outcomes {
			t.Run(o.does, func(t *testing.T) {
				if got, log := c.recover(t, o.does, ""); got != o.end {
					t.Errorf("without a target the server %s, want %s:\n%s", got, o.end, log)
				}
				// The same end, where the log is asked for up to a position: loud, or quiet, but
				// never a server that takes writes.
				want := o.end
				if want == promotes {
					want = fatal
				}
				got, log := c.recover(t, o.does, c.target)
				if got != want {
					t.Errorf("with a target the server %s, want %s:\n%s", got, want, log)
				}
				if o.end == promotes && !strings.Contains(log, "recovery ended before configured recovery target was reached") {
					t.Errorf("with a target the log does not say that it was missed:\n%s", log)
				}
			})
		}
		t.Run("damage", func(t *testing.T) { c.damage(t, promotes, fatal) })
	})
}

// A coldCopy is a stopped cluster and the log that was written after it.
type coldCopy struct {
	row    row
	bin    string
	box    *sandbox.Sandbox
	dir    string   // the copy
	log    string   // folder of segment files
	names  []string // of the segments after the copy, in order
	target string   // a position in the last of them
	n      int
}

func newColdCopy(t *testing.T, r row) *coldCopy {
	t.Helper()
	c := &coldCopy{row: r, bin: r.binaries(t)}
	box, err := sandbox.New(t.Context(), sandbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	c.box, c.dir, c.log = box, filepath.Join(box.Dir(), "cold"), filepath.Join(box.Dir(), "log")
	source := filepath.Join(box.Dir(), "source")
	if err := postgres.Initdb(t.Context(), box, c.bin, source, "--no-sync", "--wal-segsize=1"); err != nil {
		t.Fatal(err)
	}
	cfg := postgres.ServerConfig{BinDir: c.bin, DataDir: source, Options: with("wal_keep_size", "64MB", "max_slot_wal_keep_size", "-1")}
	s, err := postgres.StartServer(t.Context(), box, cfg)
	if err != nil {
		t.Fatal(err)
	}
	query := func(sql string) string {
		t.Helper()
		rows, err := s.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			return ""
		}
		return rows[0][0]
	}
	query("CREATE TABLE t (v text)")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := box.Command(t.Context(), "cp", "-a", source, c.dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		query("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 200)")
		c.names = append(c.names, query("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"))
		c.target = query("SELECT pg_current_wal_insert_lsn()")
		query("SELECT pg_switch_wal()")
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if out, err := box.Command(t.Context(), "cp", "-a", filepath.Join(source, "pg_wal"), c.log).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	return c
}

// recover starts a copy whose restore command serves the first segments and then
// does what is said. It returns what became of the server, and its log.
func (c *coldCopy) recover(t *testing.T, does, target string) (end, log string) {
	t.Helper()
	missing := c.names[2]
	return c.start(t, fmt.Sprintf("case %%f in *.history) exit 1;; %s) %s;; esac; cp %s/%%f %%p", missing, does, c.log), target)
}

func (c *coldCopy) start(t *testing.T, command, target string) (end, log string) {
	t.Helper()
	c.n++
	dir := filepath.Join(c.box.Dir(), "run"+strconv.Itoa(c.n))
	if out, err := c.box.Command(t.Context(), "cp", "-a", c.dir, dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	signal := filepath.Join(dir, "recovery.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.box.Own(signal); err != nil {
		t.Fatal(err)
	}
	options := with("restore_command", command, "hot_standby", "off", "recovery_target_timeline", "1")
	if target != "" {
		options["recovery_target_lsn"] = target
		options["recovery_target_action"] = "promote"
	}
	s, err := postgres.StartServer(t.Context(), c.box, postgres.ServerConfig{BinDir: c.bin, DataDir: dir, Options: options})
	text := func() string {
		b, _ := os.ReadFile(filepath.Join(dir+".run", "server.log")) // its absence shows
		return string(b)
	}
	if err != nil {
		if !errors.Is(err, postgres.ErrEnded) {
			t.Fatal(err)
		}
		log = text()
		for line := range strings.Lines(log) {
			// A client that comes too early is not why a server ends.
			if strings.Contains(line, "FATAL:") && !strings.Contains(line, "FATAL:  the database system is ") {
				return "fatal", log
			}
		}
		return "ends", log
	}
	in, err := s.Value(t.Context(), "SELECT pg_is_in_recovery()")
	if err := errors.Join(err, s.Kill(), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	if in != "f" {
		return "stays in recovery", text()
	}
	return "promotes", text()
}

// damage: a missing segment, a flipped byte and a short file stop a targeted recovery
// (rule 29); a tail filled with zeros ends at its last whole record (rule 28).
func (c *coldCopy) damage(t *testing.T, promotes, fatal string) {
	whole := filepath.Join(c.log, c.names[2])
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), b...)
	flipped[len(flipped)/8] ^= 0xff
	zeroed := append([]byte(nil), b...)
	clear(zeroed[len(zeroed)/8:])
	for _, d := range []struct {
		name            string
		segment         []byte
		without, target string
	}{
		{"flipped byte", flipped, promotes, fatal},
		{"short file", b[:len(b)/2], fatal, fatal},
		{"zero tail", zeroed, promotes, fatal},
	} {
		for target, want := range map[string]string{"": d.without, c.target: d.target} {
			bad := filepath.Join(c.box.Dir(), "bad")
			if err := os.WriteFile(bad, d.segment, 0o644); err != nil {
				t.Fatal(err)
			}
			got, log := c.start(t, fmt.Sprintf("case %%f in *.history) exit 1;; %s) cp %s %%p; exit 0;; %s) exit 1;; esac; cp %s/%%f %%p", c.names[2], bad, c.names[3], c.log), target)
			if got != want {
				t.Errorf("%s, target %q: the server %s, want %s:\n%s", d.name, target, got, want, log)
			}
		}
	}
}
