package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/source/postgres/wal"
)

func TestQuorum(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "none",
		"holdfast_db":                     "1 of [holdfast_db] has=true always=true",
		"standby, holdfast_db":            "1 of [standby holdfast_db] has=true always=false",
		"2 (standby, holdfast_db)":        "2 of [standby holdfast_db] has=true always=true",
		"ANY 1 (standby,HOLDFAST_DB)":     "1 of [standby HOLDFAST_DB] has=true always=false",
		"first 2 (a, \"Holdfast_db\", c)": "2 of [a Holdfast_db c] has=true always=false",
		"*":                               "1 of [*] has=true always=false",
		"ANY 1 (a, b)":                    "1 of [a b] has=false always=false",
		"ANY 0 (a)":                       "none",
		"a,,b":                            "none",
	} {
		got := "none"
		if q, ok := parseQuorum(text); ok {
			got = fmt.Sprintf("%d of %v has=%t always=%t", q.need, q.members, q.has("holdfast_db"), q.always())
		}
		if got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}

// What synchronous commits mean is said before anybody relies on it.
func TestCheckSync(t *testing.T) {
	s, err := New(Config{Store: "db", ConnString: "host=127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		names, commit string
		code          string
		severity      holdfast.FindingSeverity
		says          string
	}{
		{"holdfast_db", "on", CodeSync, holdfast.SeverityWarning, "only synchronous standby"},
		{"ANY 2 (standby, holdfast_db)", "on", CodeSync, holdfast.SeverityNote, "no acknowledged commit is lost"},
		{"ANY 1 (standby, holdfast_db)", "on", CodeSync, holdfast.SeverityNote, "on another standby only"},
		{"ANY 1 (standby, holdfast_db)", "remote_apply", CodeRemoteApply, holdfast.SeverityError, "without replaying"},
		{"standby", "remote_apply", "", holdfast.SeverityNote, ""},
	} {
		fs := s.checkSync(map[string]string{"synchronous_standby_names": tc.names, "synchronous_commit": tc.commit})
		if tc.code == "" {
			if len(fs) != 0 {
				t.Errorf("%s: %+v, and we are not waited for", tc.names, fs)
			}
			continue
		}
		if len(fs) == 0 || fs[0].Code != tc.code || fs[0].Severity != tc.severity || !strings.Contains(fs[0].Message, tc.says) || fs[0].Hint == "" {
			t.Errorf("%s with %s: %+v, want %s", tc.names, tc.commit, fs, tc.code)
		}
	}
}

// What the server says decides whether a commit may be acknowledged without us.
func TestDemoted(t *testing.T) {
	for _, tt := range []struct{ names, commit, state, says string }{
		{"holdfast_db", "on", "sync", ""},
		{"holdfast_db", "on", "", ""}, // it waits, and acknowledges nothing
		{"ANY 2 (standby, holdfast_db)", "on", "quorum", ""},
		{"holdfast_db", "remote_write", "sync", ""},
		{"", "on", "async", "does not name"},
		{"standby", "on", "async", "does not name"},
		{"ANY 1 (standby, holdfast_db)", "on", "quorum", "need not be among them"},
		{"*", "on", "sync", "need not be among them"},
		{"holdfast_db", "off", "sync", "wait for nobody"},
		{"holdfast_db", "local", "sync", "wait for nobody"},
		{"holdfast_db", "on", "async", "does not wait"},
	} {
		if got := demotedBy("holdfast_db", tt.names, tt.commit, tt.state); (tt.says == "") != (got == "") || !strings.Contains(got, tt.says) {
			t.Errorf("%q, %s, %q: %q, want %q", tt.names, tt.commit, tt.state, got, tt.says)
		}
	}
}

func FuzzQuorum(f *testing.F) {
	f.Add("FIRST 2 (a, \"b c\", *)")
	f.Add("ANY 99999999999999999999 (a)")
	f.Fuzz(func(t *testing.T, text string) {
		if q, ok := parseQuorum(text); ok && (q.need < 1 || len(q.members) == 0) {
			t.Errorf("%q: %+v", text, q)
		}
	})
}

// As a synchronous standby we hold every commit that was acknowledged, however the
// server dies. HOLDFAST_SYNC_KILLS makes it longer: "make soak-sync" kills 200 times.
func TestSynchronousLosesNothing(t *testing.T) {
	kills := 3
	if text := os.Getenv("HOLDFAST_SYNC_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("HOLDFAST_SYNC_KILLS=%q is no number of kills", text)
		}
		kills = n
	}
	c := streamCluster(t)
	c.configure("fsync=on")
	r := newStreamRig(t, c, "near")
	r.start()
	r.reaches("near")
	c.sql("ALTER SYSTEM SET synchronous_standby_names = 'holdfast_db'")
	c.sql("SELECT pg_reload_conf()")
	eventually(t, "the server waits for us", func() error {
		if got := c.one("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"); got != "1" {
			return fmt.Errorf("%s standbys are synchronous", got)
		}
		return nil
	})
	c.sql("CREATE TABLE acked (n int)")
	var acked []string // transactions
	var count atomic.Int64
	for round := range kills {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		enough := make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; ctx.Err() == nil; n++ {
				rows, err := c.try("INSERT INTO acked VALUES (1) RETURNING pg_current_xact_id()")
				if err != nil {
					return // its outcome is unknown: it was not acknowledged
				}
				acked = append(acked, rows[0][0])
				count.Add(1)
				if n == 5+round%7 {
					close(enough)
				}
			}
		}()
		<-enough
		// The sender stands still, so nothing more can be held; whoever is acknowledged
		// from here on was told too early.
		sender, err := strconv.Atoi(c.one("SELECT pid FROM pg_stat_replication WHERE sync_state = 'sync'"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		before := count.Load()
		eventually(t, "a commit waits, or is acknowledged too early", func() error {
			if c.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "0" && count.Load() < before+3 {
				return errors.New("neither")
			}
			return nil
		})
		c.signal(syscall.SIGKILL) // the server first: it would start anew after the death of a child
		cancel()
		<-done
		eventually(t, "the place holds what the spool holds", func() error {
			if spool, near := r.at(""), r.at("near"); spool.Err == "" || near.LSN < spool.LSN {
				return fmt.Errorf("near is at %s of %s", FormatLSN(near.LSN), FormatLSN(spool.LSN))
			}
			return nil
		})
		held := r.transactions("near")
		for _, xid := range acked {
			if !held[xid] {
				t.Fatalf("kill %d: transaction %s was acknowledged, and is lost", round+1, xid)
			}
		}
		c.start()
	}
	t.Logf("%d commits acknowledged, none lost in %d kills", len(acked), kills)
}

// transactions are those whose commit a place holds.
func (r *streamRig) transactions(place string) map[string]bool {
	r.t.Helper()
	out := map[string]bool{}
	for _, p := range r.stream.Places {
		if p.Name != place {
			continue
		}
		infos, err := p.Repo.Logs(r.t.Context(), "db")
		if err != nil {
			r.t.Fatal(err)
		}
		w, err := wal.NewWalker(wal.Config{Start: wal.LSN(infos[0].Start), SegmentSize: 1 << 20, Record: func(rec wal.Record) error {
			if rec.Kind == wal.Commit {
				out[strconv.FormatUint(uint64(rec.Xid), 10)] = true
			}
			return nil
		}})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, in := range infos {
			data, _, err := p.Repo.ReadLog(r.t.Context(), in, r.id)
			if err == nil {
				_, err = w.Write(data)
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return out
}
