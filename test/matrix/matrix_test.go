// Package matrix runs Holdfast's protection of PostgreSQL, end to end, against
// every major version that Holdfast claims to support.
//
// Which versions these are, and with which exact servers they are run, stands in
// postgres.tsv. A version whose server is not there fails the tests: what was not
// run is not proven. HOLDFAST_MATRIX=full runs every scenario on every version;
// without it, one version runs them all and the others the essential ones.
package matrix

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/source/postgres"
)

// The majors that the documentation names.
const (
	oldest = 13
	newest = 18
	// fullRun is the version that runs everything in an ordinary test run.
	fullRun = 15
)

// The test binary is the restore command of its own tests.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "restore-command" {
		os.Exit(postgres.RestoreCommandMain(os.Args[2:]))
	}
}

func full() bool { return os.Getenv("HOLDFAST_MATRIX") == "full" }

// A row is one line of the table.
type row struct {
	major   int
	version string // of the package; "" if it cannot be had
	why     string
}

func readTable(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("postgres.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []row
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if lines.Text() == "" || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 {
			t.Fatalf("postgres.tsv: line %q has not three fields", lines.Text())
		}
		major, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatalf("postgres.tsv: %v", err)
		}
		r := row{major: major, version: fields[1]}
		if r.version == "-" {
			r.version, r.why = "", fields[2]
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// The table has a line for each version that we claim, and no doubt about any.
func TestTable(t *testing.T) {
	rows := readTable(t)
	if len(rows) != newest-oldest+1 {
		t.Fatalf("%d lines, want one for each of %d to %d", len(rows), oldest, newest)
	}
	for i, r := range rows {
		if r.major != oldest+i {
			t.Errorf("line %d is for version %d, want %d", i+1, r.major, oldest+i)
		}
		if r.version == "" && len(r.why) < 10 {
			t.Errorf("version %d is not run, and no reason is given", r.major)
		}
		if r.version != "" && !strings.HasPrefix(r.version, strconv.Itoa(r.major)+".") {
			t.Errorf("version %d is to be run with %s", r.major, r.version)
		}
	}
}

func cacheDir() (string, error) {
	if dir := os.Getenv("HOLDFAST_PG_CACHE"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("HOLDFAST_TEST_TOOLS"); dir != "" {
		return filepath.Join(dir, "postgres"), nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "holdfast-test-tools", "postgres"), err
}

// binaries returns the folder of a version's programs, where the servers' account
// can reach it: the cache may lie in a closed folder such as /root.
func (r row) binaries(t *testing.T) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(cache, r.version)
	if _, err := os.Stat(filepath.Join(from, "bin", "postgres")); err != nil {
		t.Fatalf("NOT RUN: PostgreSQL %s is not in %s; tools/test-postgres.sh fetches it (%v)", r.version, cache, err)
	}
	to, err := os.MkdirTemp("", "holdfast-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(to); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := linkTree(from, to); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(to, "bin")
}

// linkTree makes the folder to the same as from, sharing files where it can.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case name == ".":
			return nil
		case d.IsDir():
			return os.Mkdir(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		if os.Link(path, target) == nil {
			return nil
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// A scope says which versions run a scenario without HOLDFAST_MATRIX=full.
type scope bool

const (
	everywhere scope = true
	thoroughly scope = false // only fullRun
)

// each runs f for the versions of the table; all says whether it should go beyond what
// is essential. A version that does not run here is said to be not run.
func each(t *testing.T, where scope, f func(t *testing.T, r row, all bool)) {
	t.Helper()
	t.Parallel() // servers wait more than they work
	for _, r := range readTable(t) {
		all := full() || r.major == fullRun
		switch {
		case r.version == "":
			t.Logf("NOT RUN: PostgreSQL %d: %s", r.major, r.why)
		case where == thoroughly && !all:
			t.Logf("NOT RUN: PostgreSQL %d: HOLDFAST_MATRIX=full runs it", r.major)
		default:
			t.Run(strconv.Itoa(r.major), func(t *testing.T) {
				t.Parallel()
				f(t, r, all)
			})
		}
	}
}
