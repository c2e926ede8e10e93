package postgres

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/seal"
)

const testSegment = 1 << 20

// writeShelf makes a shelf of three segments on timeline 1 and one on timeline 2.
func writeShelf(t *testing.T, dir string) shelf {
	t.Helper()
	sh := shelf{SegmentSize: testSegment, Files: map[string]shelfFile{},
		Ranges: []shelfRange{{Timeline: 1, First: 5, Last: 7}, {Timeline: 2, First: 7, Last: 7}}}
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		h := seal.Hash(b)
		sh.Files[name] = shelfFile{Size: int64(len(b)), Hash: hex.EncodeToString(h[:])}
	}
	for _, r := range sh.Ranges {
		for n := r.First; n <= r.Last; n++ {
			put(segmentName(r.Timeline, n, testSegment), []byte(strings.Repeat(string(rune('a'+n)), testSegment)))
		}
	}
	put("00000002.history", []byte("1\t0/700028\tno recovery target specified\n"))
	b, err := json.Marshal(sh)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, shelfIndexName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return sh
}

func TestRestoreCommand(t *testing.T) {
	tests := []struct {
		name, ask string
		damage    func(dir string) error
		want      int
		says      string
	}{
		{"segment", segmentName(1, 5, testSegment), nil, 0, ""},
		{"history", "00000002.history", nil, 0, ""},
		{"beyond the end", segmentName(1, 8, testSegment), nil, 1, ""},
		{"beyond the end of the newer timeline", segmentName(2, 8, testSegment), nil, 1, ""},
		{"timeline we do not know", segmentName(3, 6, testSegment), nil, 1, ""},
		{"history we do not know", "00000003.history", nil, 1, ""},
		{"before the start", segmentName(1, 4, testSegment), nil, 255, "older"},
		{"no log file", "postgresql.conf", nil, 255, "no log file"},
		{"escape", "../../etc/passwd", nil, 255, "no log file"},
		{"segment number that cannot be", "0000000100000000FFFFFFFF", nil, 255, "no log file"},
		{"missing", segmentName(1, 6, testSegment), func(dir string) error { return os.Remove(filepath.Join(dir, segmentName(1, 6, testSegment))) }, 255, "missing"},
		{"short", segmentName(1, 6, testSegment), func(dir string) error {
			return os.Truncate(filepath.Join(dir, segmentName(1, 6, testSegment)), testSegment-1)
		}, 255, "bytes instead of"},
		{"long", segmentName(1, 6, testSegment), func(dir string) error {
			return os.Truncate(filepath.Join(dir, segmentName(1, 6, testSegment)), testSegment+1)
		}, 255, "bytes instead of"},
		{"flipped byte", segmentName(1, 6, testSegment), func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, segmentName(1, 6, testSegment)), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{0}, 77777)
			return errors.Join(err, f.Close())
		}, 255, "changed"},
		{"no index", segmentName(1, 8, testSegment), func(dir string) error { return os.Remove(filepath.Join(dir, shelfIndexName)) }, 255, "not a finished log folder"},
		{"damaged index", segmentName(1, 8, testSegment), func(dir string) error {
			return os.WriteFile(filepath.Join(dir, shelfIndexName), []byte(`{"segment_size":1`), 0o600)
		}, 255, "index"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			sh := writeShelf(t, dir)
			if tt.damage != nil {
				if err := tt.damage(dir); err != nil {
					t.Fatal(err)
				}
			}
			to := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			got, err := restoreCommand([]string{dir, tt.ask, to})
			if got != tt.want {
				t.Errorf("status %d, want %d (%v)", got, tt.want, err)
			}
			if (err != nil) != (tt.want == restoreFailed) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("said %v, want %q", err, tt.says)
			}
			b, rerr := os.ReadFile(to)
			if tt.want == restoreServed {
				if h := seal.Hash(b); rerr != nil || hex.EncodeToString(h[:]) != sh.Files[tt.ask].Hash {
					t.Errorf("not served as it should be: %d bytes, %v", len(b), rerr)
				}
			} else if rerr == nil {
				t.Errorf("left a file of %d bytes", len(b))
			}
			if left, _ := filepath.Glob(to + "*"); len(left) > 1 || tt.want != 0 && len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
	for _, args := range [][]string{nil, {"a"}, {"a", "b", "c", "d"}} {
		if got, err := restoreCommand(args); got != restoreFailed || err == nil {
			t.Errorf("arguments %q: status %d, %v", args, got, err)
		}
	}
}

func TestSegmentName(t *testing.T) {
	for _, size := range []int64{1 << 20, 16 << 20, 1 << 30} {
		for _, segno := range []uint64{0, 1, 3, 4, 255, 256, 4095, 4096, 1 << 20} {
			name := segmentName(7, segno, size)
			tli, got, ok := parseSegmentName(name, size)
			if !ok || tli != 7 || got != segno {
				t.Errorf("segment %d of %d bytes is %q, read as %d on %d, %t", segno, size, name, got, tli, ok)
			}
		}
	}
	if got := segmentName(1, 0x1A0, 16<<20); got != "0000000100000001000000A0" {
		t.Errorf("got %q", got)
	}
}
