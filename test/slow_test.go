package test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A slowNode is a file on a slow disk: what is read takes its time.
type slowNode struct {
	*fusefs.LoopbackNode
	disk *disk
}

// A disk does one thing at a time.
type disk struct {
	sync.Mutex
	perSecond int // bytes
}

func (n *slowNode) WrapChild(_ context.Context, child fusefs.InodeEmbedder) fusefs.InodeEmbedder {
	return &slowNode{child.(*fusefs.LoopbackNode), n.disk}
}

func (n *slowNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	f, flags, errno := n.LoopbackNode.Open(ctx, flags)
	return &slowFile{f, n.disk}, flags, errno
}

// A slowFile is an open file. The kernel cannot read past it.
type slowFile struct {
	file fusefs.FileHandle
	disk *disk
}

func (f *slowFile) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.Lock()
	defer f.disk.Unlock()
	<-time.After(time.Duration(len(dest)) * time.Second / time.Duration(f.disk.perSecond)) // this is the disk, not a wait of the test
	return f.file.(fusefs.FileReader).Read(ctx, dest, off)
}

func (f *slowFile) Release(ctx context.Context) syscall.Errno {
	return f.file.(fusefs.FileReleaser).Release(ctx)
}

// slowDisk moves a folder onto a disk that reads so many bytes a second.
func slowDisk(t *testing.T, dir string, perSecond int) {
	t.Helper()
	behind := dir + ".disk"
	if err := os.Rename(dir, behind); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	slow := &disk{perSecond: perSecond}
	root := &fusefs.LoopbackRoot{Path: behind}
	root.RootNode = &slowNode{&fusefs.LoopbackNode{RootData: root}, slow}
	m, err := fusefs.Mount(dir, root.RootNode, &fusefs.Options{MountOptions: fuse.MountOptions{FsName: "slow", AllowOther: os.Geteuid() == 0, DirectMount: os.Geteuid() == 0}})
	if err != nil {
		t.Fatal("this test needs FUSE:", err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		m.Wait()
	})
}

// Of two locations one lies on a slow disk: the same drill keeps its promise from the one
// and breaks it from the other.
func TestSlowRestoreRows(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "  support: {rto: 1d,", "  quick: {rto: 8s, rpo: 15m, mtd: 1d}\n  support: {rto: 1d,", 1)
		i := strings.Index(s, "  uploads:\n    kind: files\n")
		return s[:i] + strings.Replace(s[i:], "tier: critical", "tier: quick", 1)
	})
	content := make([]byte, 8<<20)
	_, _ = rand.Read(content) // never fails
	if err := os.WriteFile(filepath.Join(w.uploads, "large.bin"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "backup", "uploads").want(t, 0)
	type judged struct {
		State string
		Parts []struct {
			Name     string
			Duration time.Duration `json:"duration_ns"`
		}
		Verdicts []struct {
			Of, Outcome, Why   string
			Promised, Measured time.Duration
		}
	}
	t.Run("INT-05 each test is held against RTO and RPO, and a slow disk fails it with numbers", func(t *testing.T) {
		var d judged
		e := w.run(t, "drill", "uploads", "--location", "offsite", "--json").want(t, 0)
		e.object(t, &d)
		if len(d.Verdicts) != 2 || d.Verdicts[0].Outcome != "passed" || d.Verdicts[1].Outcome != "passed" || len(d.Parts) < 3 {
			t.Fatalf("%+v", d)
		}
		if e := w.run(t, "incident", "list", "--json").want(t, 0); strings.Contains(e.out, "objective") {
			t.Errorf("an incident about a drill within its objectives: %s", e.out)
		}
		slowDisk(t, w.near, 800<<10) // 8 MiB take at least 10 s
		e = w.run(t, "drill", "uploads", "--location", "near", "--json").want(t, 3)
		d = judged{}
		e.object(t, &d)
		if d.State != "passed" || len(d.Verdicts) != 2 || d.Verdicts[0].Of != "rto" || d.Verdicts[0].Outcome != "failed" || !strings.Contains(d.Verdicts[0].Why, "of 8.0s") || !strings.Contains(d.Verdicts[0].Why, "fetch ") {
			t.Errorf("%+v", d)
		}
		if e := w.run(t, "incident", "list", "--json").want(t, 0); !strings.Contains(e.out, "missed its objective") {
			t.Errorf("no incident: %s", e.out)
		}
	})
}
