package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// What we read of the control file is what the version's own tool reads.
func TestControlFile(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "data", nil, with(quick, "max_connections", "123", "max_prepared_transactions", "7", "max_wal_senders", "11",
		"max_worker_processes", "13", "max_locks_per_transaction", "77"))
	want, err := controlData(t.Context(), box, binDir(t), s.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readControlFile(s.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	for name, tool := range map[string]string{"max_connections": "max_connections setting", "max_worker_processes": "max_worker_processes setting",
		"max_wal_senders": "max_wal_senders setting", "max_prepared_transactions": "max_prepared_xacts setting", "max_locks_per_transaction": "max_locks_per_xact setting"} {
		if v := strconv.Itoa(int(got.Limits[name])); v != want[tool] {
			t.Errorf("%s: %s, want %s", name, v, want[tool])
		}
	}
	if v := strconv.FormatUint(got.System, 10); v != want["Database system identifier"] {
		t.Errorf("system %s, want %s", v, want["Database system identifier"])
	}
	if v := strconv.Itoa(int(got.Checksums)); v != want["Data page checksum version"] {
		t.Errorf("checksums %s, want %s", v, want["Data page checksum version"])
	}

	// Whatever the checksum does not confirm is left to the tool.
	b, err := os.ReadFile(filepath.Join(s.DataDir, "global", "pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{8, 16, controlAtLimits, controlAtFloat, controlAtChecksums, 280} {
		broken := append([]byte(nil), b...)
		broken[at] ^= 1
		if _, err := parseControlFile(broken); !errors.Is(err, errControlLayout) {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
	if _, err := parseControlFile(b[:100]); !errors.Is(err, errControlLayout) {
		t.Errorf("a short file: %v", err)
	}
}
