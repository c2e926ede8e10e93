package demo

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sabotage breaks a part on request, to see that the story fails with it.
func (s *story) sabotage(ctx context.Context) error {
	switch s.opt.Break {
	case "flip":
		n, err := flipPacks(filepath.Join(s.dir, "near"), filepath.Join(s.dir, "offsite"))
		s.say.line("broken on request: one byte changed in each of %d packs", n)
		return err
	case "log":
		pid, err := s.world.walSender(ctx)
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		s.world.stopped = pid
		s.say.line("broken on request: the stream of the log stands still")
		stopped := time.Now()
		// Life goes on for longer than the RPO without a log.
		return s.world.wait(ctx, "the objective to pass", protectWithin, func() bool {
			return time.Since(stopped) > s.promise("db").RPO+5*time.Second
		})
	}
	return nil
}

// flipPacks changes one byte in the middle of every pack.
func flipPacks(locations ...string) (n int, err error) {
	for _, l := range locations {
		err := filepath.WalkDir(filepath.Join(l, "packs"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			n++
			return flipByte(path)
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func flipByte(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// walSender is the process of the database that sends the log.
func (w *world) walSender(ctx context.Context) (int, error) {
	b, err := os.ReadFile(filepath.Join(w.dataDir(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	parent, err := strconv.Atoi(line)
	if err != nil {
		return 0, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return 0, err
	}
	for _, c := range strings.Fields(string(children)) {
		title, err := os.ReadFile("/proc/" + c + "/cmdline")
		if err == nil && strings.Contains(string(title), "walsender") {
			return strconv.Atoi(c)
		}
	}
	return 0, fmt.Errorf("the database has no process that sends its log")
}

// removeFact returns the pack without one fact of its log, and says which.
func removeFact(pack []byte) (forged []byte, what string, err error) {
	in, err := zip.NewReader(bytes.NewReader(pack), int64(len(pack)))
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			return nil, "", err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return nil, "", err
		}
		if f.Name == "log.ndjson" {
			lines := bytes.SplitAfter(b, []byte("\n"))
			i := len(lines) / 2
			what = strconv.Itoa(i)
			b = bytes.Join(append(lines[:i:i], lines[i+1:]...), nil)
		}
		h := f.FileHeader
		w, err := zw.CreateHeader(&zip.FileHeader{Name: h.Name, Method: h.Method, Modified: h.Modified})
		if err != nil {
			return nil, "", err
		}
		if _, err := w.Write(b); err != nil {
			return nil, "", err
		}
	}
	if what == "" {
		return nil, "", fmt.Errorf("the pack has no log")
	}
	err = zw.Close() // before the bytes are taken: it writes the directory
	return out.Bytes(), what, err
}
