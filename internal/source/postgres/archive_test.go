package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/durable/durabletest"
)

// init turns this test binary into the archive command of a real server.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "archive-command" {
		os.Exit(ArchiveCommandMain(os.Args[2:]))
	}
}

// archivingCluster is a server that archives into an inbox, and has no slot for us.
func archivingCluster(t *testing.T) (c *testCluster, inbox string) {
	c = newTestCluster(t, "--wal-segsize=1")
	top := filepath.Dir(c.dir)
	inbox = filepath.Join(top, "inbox")
	program := filepath.Join(top, "holdfast") // where the server's account may run it
	self, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	out, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(out, self)
	}
	if err == nil {
		err = errors.Join(out.Close(), os.Mkdir(inbox, 0o770))
	}
	if err == nil && c.cred != nil {
		err = os.Chown(inbox, int(c.cred.Uid), int(c.cred.Gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	c.configure("max_wal_size=64MB", "min_wal_size=2MB", "archive_mode=on", "archive_timeout=1s", "max_replication_slots=0",
		"archive_command='"+program+" archive-command "+inbox+" %p'")
	c.start()
	c.sql("CREATE ROLE repl LOGIN REPLICATION PASSWORD 'secret'")
	return c, inbox
}

// Log that is archived goes the way of log that is streamed: it abuts, whole record by
// record, across a killed server and a promotion, without a slot on the server.
func TestArchive(t *testing.T) {
	c, inbox := archivingCluster(t)
	r := newStreamRig(t, c, "near")
	r.cfg.FS, r.cfg.SpoolDir, r.cfg.Inbox = durable.OS, t.TempDir(), inbox
	r.start()
	eventually(t, "the inbox", func() error { _, err := os.Stat(filepath.Join(inbox, inboxAbout)); return err })
	stop := writeLoad(t, c)
	eventually(t, "log arrives", func() error {
		if f := r.at("near"); f.LastCommit.IsZero() {
			return fmt.Errorf("at %s: %s", FormatLSN(f.LSN), f.Err)
		}
		return nil
	})
	// Both sides die in mid-work.
	c.signal(syscall.SIGKILL)
	_ = r.stop()
	acknowledged := stop()
	c.start()
	r.start()
	// After a crash the server minds its archive_timeout only from its next checkpoint on.
	c.sql("CREATE TABLE last (n int)")
	end := c.lsn("SELECT pg_current_wal_flush_lsn()")
	c.sql("SELECT pg_switch_wal()")
	eventually(t, "the rest is archived", func() error {
		if f := r.at("near"); f.LSN < end {
			return fmt.Errorf("at %s of %s: %s", FormatLSN(f.LSN), FormatLSN(end), f.Err)
		}
		return nil
	})
	if got := r.check("near", 1, end); got < acknowledged {
		t.Errorf("%d commits are held, %d were acknowledged", got, acknowledged)
	}
	if n := c.one("SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots", n)
	}
	// An idle server is known to be idle.
	now := time.Now()
	eventually(t, "an idle server is caught up with", func() error {
		if f := r.at("near"); f.CaughtUp.Before(now) {
			return fmt.Errorf("caught up at %s", f.CaughtUp)
		}
		return nil
	})
	// What the server does otherwise than the plan says is found.
	r.cfg.ArchiveTimeout = 500 * time.Millisecond
	src, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	for _, f := range src.Check(t.Context()) {
		if f.Code == CodeArchive {
			found += f.Message + "; "
		}
	}
	if found != "archive_timeout is 1.0s, and the plan counts on 500ms: more can be lost than it says; " {
		t.Errorf("found: %q", found)
	}
	if f := r.at("near"); f.Gap != nil || f.Err != "" {
		t.Errorf("gap %v, error %q", f.Gap, f.Err)
	}

	// The same file again is done; another one under its name is refused, loudly.
	taken, err := os.ReadDir(filepath.Join(inbox, inboxTaken))
	if err != nil || len(taken) == 0 {
		t.Fatal("nothing was taken", err)
	}
	var name string
	var whole []byte
	segments, err := os.ReadDir(filepath.Join(c.dir, "pg_wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range segments {
		if _, err := os.Stat(filepath.Join(inbox, inboxTaken, e.Name())); err == nil && segmentPattern.MatchString(e.Name()) {
			name = e.Name()
			if whole, err = os.ReadFile(filepath.Join(c.dir, "pg_wal", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if name == "" {
		t.Fatal("the server keeps no file that was taken")
	}
	give := func(content []byte, name string) (int, string) {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "archive-command", inbox, path)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	other := bytes.Clone(whole)
	other[len(other)-1] ^= 1
	foreign := bytes.Clone(whole)
	binary.LittleEndian.PutUint64(foreign[24:], 4711)
	for _, tt := range []struct {
		what    string
		content []byte
		name    string
		says    string
	}{
		{"other content", other, name, "other content"},
		{"a foreign cluster", foreign, name, "of cluster 4711"},
		{"a short file", whole[:1000], name, "1000 bytes"},
		{"a file under a wrong name", whole, "00000001000000000000000A", "not under this name"},
		{"no log", []byte("hello"), "0000000100000000000000FF", "no log segment"},
		{"no name of a log file", whole, "notes.txt", "is no log file"},
	} {
		if status, says := give(tt.content, tt.name); status != archiveFailed || !strings.Contains(says, tt.says) {
			t.Errorf("%s: status %d, %q", tt.what, status, says)
		}
	}
	if out, err := exec.Command(os.Args[0], "archive-command", inbox, filepath.Join(c.dir, "pg_wal", name)).CombinedOutput(); err != nil {
		t.Errorf("the same again: %v, %s", err, out)
	}
	if out, err := exec.Command(os.Args[0], "archive-command", t.TempDir(), filepath.Join(c.dir, "pg_wal", name)).CombinedOutput(); err == nil || !strings.Contains(string(out), "nobody takes log") {
		t.Errorf("an inbox that is none: %v, %s", err, out)
	}
}

// TestArchiveKilled kills the receiver at random moments while files are archived.
func TestArchiveKilled(t *testing.T) {
	c, inbox := archivingCluster(t)
	killed(t, c, inbox)
}

// segmentFor is a segment as far as the command looks into it.
func segmentFor(system uint64, n byte) []byte {
	b := make([]byte, 1<<20)
	binary.LittleEndian.PutUint16(b, 0xD110)
	binary.LittleEndian.PutUint32(b[4:], 1)
	binary.LittleEndian.PutUint64(b[8:], 1<<20)
	binary.LittleEndian.PutUint64(b[24:], system)
	binary.LittleEndian.PutUint32(b[32:], 1<<20)
	binary.LittleEndian.PutUint32(b[36:], 8192)
	b[len(b)-1] = n
	return b
}

const segmentForName = "000000010000000000000001"

// inboxWith prepares an inbox and one file to archive.
func inboxWith(t *testing.T) func(*durabletest.FS) {
	return func(f *durabletest.FS) {
		for path, content := range map[string][]byte{"/in/inbox.json": []byte(`{"store":"db","system":"7"}`), "/wal/" + segmentForName: segmentFor(7, 1)} {
			err := durable.MkdirAll(f, filepath.Dir(path), 0o700)
			if err == nil {
				err = durable.MkdirAll(f, "/in/taken", 0o700)
			}
			if err == nil {
				err = durable.WriteFile(f, path, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func archiveOne(f *durabletest.FS) error {
	return archiveCommand(f, []string{"/in", "/wal/" + segmentForName})
}

// arrived checks that the file is there as a whole, or not at all.
func arrived(t *testing.T, f *durabletest.FS, must bool) {
	t.Helper()
	b, err := readWhole(f, "/in/"+segmentForName, maxInboxFile)
	switch {
	case err == nil && !bytes.Equal(b, segmentFor(7, 1)):
		t.Error("half a file stands under its name")
	case err != nil && must:
		t.Errorf("what was acknowledged is not there: %v", err)
	}
}

// Every operation fails in turn: the disk is full, or worse. The command says so, and the
// next attempt succeeds.
func TestArchiveCommandAtEveryFault(t *testing.T) {
	durabletest.EveryFault(t, inboxWith(t), archiveOne, func(t *testing.T, f *durabletest.FS, err error) {
		arrived(t, f, err == nil)
		if err := archiveOne(f); err != nil {
			t.Errorf("again: %v", err)
		}
		arrived(t, f, true)
	})
}

// The power goes at every operation: what the server was told is done is on the disk.
func TestArchiveCommandAtEveryCrash(t *testing.T) {
	durabletest.EveryCrash(t, inboxWith(t), archiveOne, func(t *testing.T, f *durabletest.FS, acknowledged bool) {
		arrived(t, f, acknowledged)
		if err := archiveOne(f); err != nil {
			t.Errorf("again: %v", err)
		}
		arrived(t, f, true)
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(segmentForName, segmentFor(7, 1)[:4096])
	f.Add("00000001000000000000000A.partial", []byte{0x10, 0xd1})
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		h, err := readSegmentHeader(name, b)
		if err == nil && int64(len(b)) != h.SegmentSize {
			t.Errorf("accepted %d bytes as a segment of %d", len(b), h.SegmentSize)
		}
	})
}
