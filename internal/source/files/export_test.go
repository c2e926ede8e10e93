//go:build linux

package files

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// GNU tar brings back everything from an export, without us.
func TestExportIsReadByTar(t *testing.T) {
	b := newBench(t)
	want := b.everything()
	delete(want, "socket") // tar has no word for it
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
	must(t, err)
	name := filepath.Join(t.TempDir(), "x.tar")
	f, err := os.Create(name)
	must(t, err)
	done, err := Export(t.Context(), snap, Part{}, f, nil)
	must(t, err)
	must(t, f.Close())
	if len(done.Left) != 1 || done.Sparse != 1 || done.Entries != int64(len(want)) {
		t.Errorf("exported %+v, want %d entries, a sparse one, and one left out", done, len(want))
	}
	info, err := os.Stat(name)
	must(t, err)
	if info.Size() > 20<<20 {
		t.Errorf("the archive has %d bytes: holes were written", info.Size())
	}
	to := filepath.Join(t.TempDir(), "back")
	must(t, os.Mkdir(to, 0o700))
	out, err := exec.CommandContext(t.Context(), "tar", "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-xpf", name, "-C", to).CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	compare(t, describe(t, to), want)
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(to, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the file with holes takes up %d bytes", st.Blocks*512)
	}
}

// A second reader, of another hand, agrees; and a part is a part.
func TestExportOfAPart(t *testing.T) {
	b := newBench(t)
	b.write("a/first", "content")
	must(t, os.Mkdir(b.path("z"), 0o755))
	must(t, os.Link(b.path("a/first"), b.path("z/second")))
	must(t, os.Link(b.path("a/first"), b.path("z/third")))
	b.write("other", "other")
	m, _, _, err := b.snapshot(b.source(Config{}))
	must(t, err)
	snap, err := b.r.Snapshot(t.Context(), m, b.keys.Identity)
	must(t, err)
	part, err := NewPart([]string{"z"}, nil)
	must(t, err)
	var buf bytes.Buffer
	_, err = Export(t.Context(), snap, part, &buf, nil)
	must(t, err)
	var got []string
	for r := tar.NewReader(&buf); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		body, err := io.ReadAll(r)
		must(t, err)
		got = append(got, string(h.Typeflag)+" "+h.Name+" "+h.Linkname+string(body))
	}
	// The list is in order of the walk: the content comes where the first name was.
	want := "5 ./ |0 ./z/second content|5 ./z/ |1 ./z/third ./z/second"
	if strings.Join(got, "|") != want {
		t.Errorf("archive holds %q, want %q", strings.Join(got, "|"), want)
	}
}

func TestPaxTimes(t *testing.T) {
	for _, tt := range []struct {
		at   time.Time
		want string
	}{{time.Unix(0, 0), "0.000000000"}, {time.Unix(12, 34), "12.000000034"}, {time.Unix(-1, 999_999_999), "-0.000000001"}, {time.Unix(-3, 0), "-3.000000000"}, {time.Unix(-3, 1), "-2.999999999"}} {
		if got := paxTime(tt.at); got != tt.want {
			t.Errorf("%d: %s, want %s", tt.at.UnixNano(), got, tt.want)
		}
	}
}

func FuzzACLText(f *testing.F) {
	f.Add(acl())
	f.Add([]byte{2, 0, 0, 0})
	f.Add(append([]byte{2, 0, 0, 0}, make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := aclText(b)
		if err == nil && strings.Count(text, ":") != 2*((len(b)-4)/8) {
			t.Errorf("%x: %q", b, text)
		}
	})
}
