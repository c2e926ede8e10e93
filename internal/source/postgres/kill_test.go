package postgres

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// A folderStore is a location that outlives a process.
type folderStore string

func (d folderStore) path(name string) string {
	return filepath.Join(string(d), strings.ReplaceAll(name, "/", "!"))
}

func (d folderStore) Put(_ context.Context, name string, size int64, body io.Reader) error {
	f, err := os.CreateTemp(string(d), ".t")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if n, err := io.Copy(f, body); err != nil || n != size {
		return fmt.Errorf("%d bytes of %d: %v", n, size, err)
	}
	return os.Link(f.Name(), d.path(name))
}

func (d folderStore) Get(_ context.Context, name string, off, n int64) (io.ReadCloser, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	if n < 0 {
		n = 1 << 40
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, off, n), f}, nil
}

func (d folderStore) List(_ context.Context, prefix string, fn func(repo.Object) error) error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	var all []repo.Object
	for _, e := range entries {
		name := strings.ReplaceAll(e.Name(), "!", "/")
		info, err := e.Info()
		if err == nil && strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, ".") {
			all = append(all, repo.Object{Name: name, Size: info.Size()})
		}
	}
	slices.SortFunc(all, func(a, b repo.Object) int { return strings.Compare(a.Name, b.Name) })
	for _, o := range all {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

func (d folderStore) Delete(context.Context, string) error { return fs.ErrPermission }

// init turns this test binary into a receiver that can be killed.
func init() {
	conn := os.Getenv("HOLDFAST_TEST_STREAM")
	if conn == "" {
		return
	}
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	dir := os.Getenv("HOLDFAST_TEST_DIR")
	rp, err := repo.Open(context.Background(), folderStore(filepath.Join(dir, "place")))
	fail(err)
	to, err := seal.ParseRecipient(os.Getenv("HOLDFAST_TEST_RECIPIENT"))
	fail(err)
	signer, err := seal.ParseSigningKey(os.Getenv("HOLDFAST_TEST_SIGNER"))
	fail(err)
	src, err := New(Config{Store: "db", ConnString: conn, SpoolDir: filepath.Join(dir, "spool"), Inbox: os.Getenv("HOLDFAST_TEST_INBOX")})
	fail(err)
	fail(src.Stream(context.Background(), StreamConfig{
		Places: []repo.Place{{Name: "near", Repo: rp}}, PieceEvery: 50 * time.Millisecond,
		Keys: repo.LogKeys{Recipients: []seal.Recipient{to}, AllowOne: true, Signer: signer},
	}))
}

// TestStreamKilled kills the receiving process with SIGKILL at random moments while
// rows are committed. Its successor goes on: pieces abut, and no acknowledged commit
// is missing.
func TestStreamKilled(t *testing.T) { killed(t, streamCluster(t), "") }

// killed is the same for log that is streamed, and for log that is archived into an inbox.
func killed(t *testing.T, c *testCluster, inbox string) {
	dir := t.TempDir()
	place := folderStore(filepath.Join(dir, "place"))
	if err := os.Mkdir(string(place), 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.GenerateSigningKey("agent")
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Init(t.Context(), place, repo.Settings{ID: "00112233445566778899aabbccddeeff", Created: time.Now(), Recipients: []string{id.Recipient().String()}}); err != nil {
		t.Fatal(err)
	}
	rp, err := repo.Open(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	held := func() (end uint64, pieces int) {
		infos, err := rp.Logs(t.Context(), "db")
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range infos {
			end = max(end, in.End)
		}
		return end, len(infos)
	}
	var receiver *exec.Cmd
	spawn := func() {
		receiver = exec.Command(os.Args[0])
		receiver.Env = append(os.Environ(), "HOLDFAST_TEST_STREAM="+c.connString("repl", "secret"), "HOLDFAST_TEST_DIR="+dir, "HOLDFAST_TEST_INBOX="+inbox,
			"HOLDFAST_TEST_RECIPIENT="+id.Recipient().String(), "HOLDFAST_TEST_SIGNER="+signer.String())
		receiver.Stderr = os.Stderr
		if err := receiver.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = receiver.Process.Kill(); _ = receiver.Wait() })
	stop := writeLoad(t, c)
	rng := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	for range 8 {
		_, before := held()
		spawn()
		enough := before + 1 + rng.IntN(6)
		eventually(t, "pieces arrive", func() error {
			if _, n := held(); n < enough {
				return fmt.Errorf("%d pieces of %d", n, enough)
			}
			return nil
		})
		_ = receiver.Process.Kill()
		_ = receiver.Wait()
	}
	acknowledged := stop()
	spawn()
	end := c.lsn("SELECT pg_current_wal_flush_lsn()")
	if inbox != "" {
		c.sql("SELECT pg_switch_wal()")
	}
	eventually(t, "everything is shipped", func() error {
		if at, _ := held(); at < end {
			return fmt.Errorf("%s of %s", FormatLSN(at), FormatLSN(end))
		}
		return nil
	})
	r := &streamRig{t: t, id: id, stream: StreamConfig{Places: []repo.Place{{Name: "near", Repo: rp}}}}
	if got := r.check("near", 1, end); got < acknowledged {
		t.Errorf("%d commits are held, %d were acknowledged", got, acknowledged)
	}
}
