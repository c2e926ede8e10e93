package postgres

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/durable/durabletest"
)

// findings runs Check with a bound and returns the codes.
func findings(t *testing.T, cfg Config) map[string]holdfast.Finding {
	t.Helper()
	if cfg.Store == "" {
		cfg.Store = "db"
	}
	src, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := map[string]holdfast.Finding{}
	for _, f := range src.Check(ctx) {
		out[f.Code] = f
		if f.Hint == "" || f.Message == "" || f.Subject != "stores.db" {
			t.Errorf("finding without a way out: %+v", f)
		}
		if strings.Contains(f.Message+f.Hint, "secret") {
			t.Errorf("a password in %+v", f)
		}
	}
	return out
}

func wantFinding(t *testing.T, got map[string]holdfast.Finding, code string, sev holdfast.FindingSeverity) {
	t.Helper()
	if f, ok := got[code]; !ok || f.Severity != sev {
		t.Errorf("want %s %s, got %v", sev, code, got)
	}
}

func TestCheck(t *testing.T) {
	const bad, warn = holdfast.SeverityError, holdfast.SeverityWarning
	c := newTestCluster(t)
	c.configure("max_wal_senders=3", "max_replication_slots=3")
	c.start()
	c.sql("CREATE ROLE plain LOGIN PASSWORD 'secret'")
	c.sql("CREATE ROLE repl LOGIN REPLICATION PASSWORD 'secret'")
	spool := durabletest.New()
	good := Config{ConnString: c.connString("repl", "secret"), SpoolDir: "/spool", FS: spool}

	got := findings(t, good)
	if _, ok := got[CodeNoChecksums]; !ok || len(got) != 2 { // and fsync=off, of the test cluster
		t.Errorf("a healthy server: %v", got)
	}
	wantFinding(t, got, CodeUnsafeWrites, warn)

	wantFinding(t, findings(t, Config{ConnString: c.connString("repl", "secret!")}), CodePassword, bad)
	wantFinding(t, findings(t, Config{ConnString: c.connString("nobody", "secret")}), CodePassword, bad)
	wantFinding(t, findings(t, Config{ConnString: c.connString("plain", "secret")}), CodeNoRight, bad)
	closed := *c
	closed.port = unusedPort(t)
	wantFinding(t, findings(t, Config{ConnString: closed.connString("repl", "secret")}), CodeUnreachable, bad)

	// Every wal sender taken.
	src, err := New(Config{Store: "db", ConnString: c.connString("repl", "secret")})
	if err != nil {
		t.Fatal(err)
	}
	var taken []*replConn
	for range 3 {
		rc, err := src.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, rc)
	}
	wantFinding(t, findings(t, good), CodeSenders, bad)
	for _, rc := range taken {
		rc.close()
	}
	eventually(t, "the wal senders are free again", func() error {
		rc, err := src.connect(t.Context())
		if err == nil {
			rc.close()
		}
		return err
	})
	if err := src.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}

	// No slot left, then the name taken by a logical one.
	for _, n := range []string{"a", "b", "c"} {
		c.sql("SELECT pg_create_physical_replication_slot('" + n + "')")
	}
	wantFinding(t, findings(t, good), CodeSlots, bad)
	for _, n := range []string{"a", "b", "c"} {
		c.sql("SELECT pg_drop_replication_slot('" + n + "')")
	}

	c.sql("ALTER SYSTEM SET max_slot_wal_keep_size = -1")
	c.sql("SELECT pg_reload_conf()")
	eventually(t, "the unbounded slot is found", func() error {
		if _, ok := findings(t, good)[CodeUnbounded]; !ok {
			return errors.New("no finding")
		}
		return nil
	})
	wantFinding(t, findings(t, good), CodeUnbounded, bad)
	acknowledged := good
	acknowledged.UnboundedSlot = true
	wantFinding(t, findings(t, acknowledged), CodeUnbounded, warn)

	t.Run("an unbounded slot is not armed", func(t *testing.T) {
		r := newStreamRig(t, c, "near")
		r.start()
		if err := <-r.done; !errors.Is(err, errRefused) || holdfast.Hint(err) == "" || !strings.Contains(err.Error(), "max_slot_wal_keep_size") {
			t.Errorf("err = %v", err)
		}
		r.cancel = nil
		if n := c.one("SELECT count(*) FROM pg_replication_slots"); n != "0" {
			t.Errorf("%s slots were made", n)
		}
	})

	// Another cluster at the same address.
	if err := spool.MkdirAll("/spool", 0o700); err != nil {
		t.Fatal(err)
	}
	sp, err := openSpool(spool, "/spool", 1<<30, src.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := sp.bind(cluster{Store: "db", System: "4711", SegmentSize: 16 << 20, PageSize: 8192}, ""); err != nil {
		t.Fatal(err)
	}
	wantFinding(t, findings(t, good), CodeForeign, bad)

	t.Run("a foreign cluster is not streamed", func(t *testing.T) {
		r := newStreamRig(t, c, "near")
		r.cfg.FS, r.cfg.UnboundedSlot = spool, true
		r.start()
		var foreign *foreignError
		if err := <-r.done; !errors.Is(err, errRefused) || !errors.As(err, &foreign) || foreign.Want != "4711" {
			t.Errorf("err = %v", err)
		}
		r.cancel = nil
		// With the spool lost, the place still knows whose log it holds.
		r.cfg.FS = durabletest.New()
		src, _ := New(r.cfg)
		piece := logPieceForTest("db", "4711")
		if err := r.stream.Places[0].Repo.PutLog(t.Context(), piece, make([]byte, piece.End-piece.Start), r.stream.Keys); err != nil {
			t.Fatal(err)
		}
		if err := src.Stream(t.Context(), r.stream); !errors.As(err, &foreign) || foreign.Want != "4711" {
			t.Errorf("err = %v", err)
		}
	})

	c.signal(syscall.SIGINT)
	c.configure("wal_level=minimal", "max_wal_senders=0")
	c.start()
	wantFinding(t, findings(t, Config{ConnString: c.connString("repl", "secret")}), CodeWALLevel, bad)
	if err := src.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	c.signal(syscall.SIGINT)
	if err := src.Probe(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("probe of a stopped server: %v", err)
	}
}
