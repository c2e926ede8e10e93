package postgres

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"holdfast"
	"holdfast/internal/repo"
)

// manifestOf writes a backup_manifest as a server does.
func manifestOf(files map[string]string) []byte {
	var b strings.Builder
	b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n")
	n := 0
	for name, content := range files {
		if n++; n > 1 {
			b.WriteString(",\n")
		}
		sum := sha256.Sum256([]byte(content))
		fmt.Fprintf(&b, `{ "Path": %q, "Size": %d, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "%x" }`, name, len(content), sum)
	}
	b.WriteString("\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n")
	sum := sha256.Sum256([]byte(b.String()))
	return []byte(b.String() + `"Manifest-Checksum": "` + hex.EncodeToString(sum[:]) + "\"}\n")
}

func tarOf(t *testing.T, files map[string]string, trailer bool) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if trailer {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	} else if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Both shapes of the protocol yield the same files: several copy streams before
// version 15, one with kinds since.
func TestArchiveReader(t *testing.T) {
	files := map[string]string{"PG_VERSION": "15\n", "base/1/1259": strings.Repeat("p", 20_000), "global/pg_control": "c"}
	manifest := manifestOf(files)
	archive := tarOf(t, files, true)
	message := func(kind byte, body ...[]byte) []byte { return append([]byte{kind}, bytes.Join(body, nil)...) }
	progress := binary.BigEndian.AppendUint64(nil, 4711)
	tests := []struct {
		name    string
		version int
		feed    func(a *archiveReader) error
		wantErr string
	}{
		{"old", 140000, func(a *archiveReader) error {
			// Before version 15 the server leaves out the two zero blocks at the end.
			return firstError(a.nextOld, each(a, tarOf(t, files, false)), a.finish, a.nextOld, each(a, manifest), a.finish)
		}, ""},
		{"old, third stream", 140000, func(a *archiveReader) error {
			return firstError(a.nextOld, each(a, archive), a.finish, a.nextOld, each(a, manifest), a.finish, a.nextOld)
		}, "more archives"},
		{"new", 150000, func(a *archiveReader) error {
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', archive[:1000]), message('p', progress), message('d', archive[1000:]),
				message('m'), message('d', manifest)), a.finish)
		}, ""},
		{"new, tablespace", 150000, func(a *archiveReader) error {
			return firstError(each(a, message('n', []byte("16384.tar\x00/srv/space\x00"))))
		}, "not next in its list"},
		{"new, second archive", 150000, func(a *archiveReader) error {
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', archive), message('n', []byte("base.tar\x00\x00"))))
		}, "not next in its list"},
		{"new, unknown kind", 150000, func(a *archiveReader) error { return firstError(each(a, message('x'))) }, "unknown kind"},
		{"new, data without an archive", 150000, func(a *archiveReader) error { return firstError(each(a, message('d', archive))) }, "belongs to no archive"},
		{"cut short", 150000, func(a *archiveReader) error {
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', archive[:5000])), a.finish)
		}, "ends early"},
		{"other content", 150000, func(a *archiveReader) error {
			bad := bytes.Replace(archive, []byte("pppp"), []byte("pqpp"), 1)
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', bad), message('m'), message('d', manifest)), a.finish)
		}, "other content"},
		{"damaged manifest", 150000, func(a *archiveReader) error {
			bad := bytes.Replace(manifest, []byte("20000"), []byte("20001"), 1)
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', archive), message('m'), message('d', bad)), a.finish)
		}, "damaged"},
		{"unlisted file", 150000, func(a *archiveReader) error {
			more := map[string]string{"PG_VERSION": "15\n", "base/1/1259": files["base/1/1259"], "global/pg_control": "c", "extra": "x"}
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', tarOf(t, more, true)), message('m'), message('d', manifest)), a.finish)
		}, "does not list it"},
		{"missing file", 150000, func(a *archiveReader) error {
			less := map[string]string{"PG_VERSION": "15\n"}
			return firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', tarOf(t, less, true)), message('m'), message('d', manifest)), a.finish)
		}, "did not send it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVault(t)
			w := v.writer(t)
			defer w.Abort()
			src, err := New(Config{Store: "db", ConnString: "host=/nowhere"})
			if err != nil {
				t.Fatal(err)
			}
			b := &baseBackup{source: src, w: w, progress: func(holdfast.Progress) {}, hashes: map[string]fileSum{}, version: tt.version, tablespaces: []string{""}}
			a := &archiveReader{ctx: t.Context(), b: b}
			defer a.abort()
			err = tt.feed(a)
			if err == nil {
				err = b.compare()
			}
			if (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("got %v, want %q", err, tt.wantErr)
			}
			if err != nil {
				return
			}
			m, _, err := w.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			snap, err := v.repo.Snapshot(t.Context(), m, v.ids[0])
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range files {
				got, err := readEntry(t.Context(), snap, dataPrefix+name, 1<<20)
				if err != nil || string(got) != want {
					t.Errorf("%q: %d bytes, %v", name, len(got), err)
				}
				e, err := snap.Find(t.Context(), dataPrefix+name)
				if err != nil || (e.Cut == repo.CutPages) != (name == "base/1/1259") {
					t.Errorf("%q is cut by %q, %v", name, e.Cut, err)
				}
			}
		})
	}
}

func each(a *archiveReader, messages ...[]byte) func() error {
	return func() error {
		for _, m := range messages {
			if err := a.data(m); err != nil {
				return err
			}
		}
		return nil
	}
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func TestRelationFile(t *testing.T) {
	for name, want := range map[string]bool{
		"base/1/1259": true, "base/16384/2619.1": true, "base/5/1259_vm": true, "base/5/1259_fsm": true, "base/5/1259_init": true, "global/1262": true,
		"global/pg_control": false, "base/1/pg_filenode.map": false, "base/1/PG_VERSION": false, "pg_wal/000000010000000000000001": false, "PG_VERSION": false,
	} {
		if got := relationFile.MatchString(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}

func TestAccessRule(t *testing.T) {
	for line, want := range map[string]bool{
		"host all all 0.0.0.0/0 trust":                               true,
		"host all all 10.0.0.0 255.0.0.0 trust":                      true,
		"hostssl all all ::/0 trust":                                 true,
		"host all all all trust":                                     true,
		"host all all .example.com trust":                            true,
		"host all all 0.0.0.0/0 password":                            true,
		"hostssl all all 0.0.0.0/0 password":                         false,
		"host all all 0.0.0.0/0 scram-sha-256":                       false,
		"host all all 127.0.0.1/32 trust":                            false,
		"host all all 127.0.0.1 255.0.0.0 trust":                     false,
		"host all all ::1/128 trust":                                 false,
		"host all all localhost trust":                               false,
		"local all all trust":                                        false,
		"# host all all 0.0.0.0/0 trust":                             false,
		"":                                                           false,
		"hostnossl replication all 192.0.2.7/32 trust # old standby": true,
	} {
		if got := parseRule(line).open(); got != want {
			t.Errorf("%q: open %t", line, got)
		}
	}
	if !parseRule("include_dir hba.d").include || !parseRule("@more").include {
		t.Error("an include is not seen")
	}
}

func TestPlainValue(t *testing.T) {
	num := func(digits int64, exp int32) pgtype.Numeric {
		return pgtype.Numeric{Int: big.NewInt(digits), Exp: exp, Valid: true}
	}
	for _, tt := range []struct{ in, want any }{
		{int32(7), int64(7)}, {int64(1) << 60, int64(1) << 60}, {float32(0.5), 0.5}, {"x", "x"}, {nil, nil}, {true, true},
		{num(42, 0), int64(42)}, {num(42, 2), int64(4200)}, {num(9007199254740993, 0), int64(9007199254740993)}, {num(125, -2), 1.25}, {pgtype.Numeric{}, nil},
	} {
		got, err := plainValue(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%v (%T): got %v (%T), %v", tt.in, tt.in, got, got, err)
		}
	}
	for _, bad := range []any{pgtype.Numeric{NaN: true, Valid: true}, []string{"a"}, strings.Repeat("x", maxInvariant+1)} {
		if got, err := plainValue(bad); err == nil {
			t.Errorf("%T: got %v", bad, got)
		}
	}
}

func TestInvariant(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "data", nil, quick)
	mustQuery(t, s, "CREATE TABLE t (v int); INSERT INTO t SELECT generate_series(1, 10)")
	for sql, want := range map[string]any{
		"SELECT count(*) FROM t": int64(10), "SELECT sum(v) FROM t": int64(55), "SELECT avg(v) FROM t": 5.5, "SELECT NULL": nil, "SELECT true": true, "SELECT 'x'": "x",
	} {
		got, err := Invariant(t.Context(), s.ConnString(), sql)
		if err != nil || got != want {
			t.Errorf("%s: got %v (%T), %v", sql, got, got, err)
		}
	}
	for sql, want := range map[string]string{
		"SELECT v FROM t":              "more than one row",
		"SELECT v FROM t WHERE false":  "no row",
		"SELECT 1, 2":                  "2 columns",
		"DELETE FROM t RETURNING 1":    "read-only",
		"COMMIT; DELETE FROM t":        "multiple commands",
		"SELECT nothing":               "does not exist",
		"CREATE TABLE u AS SELECT 1":   "read-only",
		"SELECT setval('s', 1) FROM t": "",
	} {
		if got, err := Invariant(t.Context(), s.ConnString(), sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v; want %q", sql, got, err, want)
		}
	}
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != "10" {
		t.Errorf("an invariant changed the data: %s rows", got)
	}
}

// With tablespaces the data directory's archive is the last one, in both shapes of
// the protocol, and one that the server announced and did not send is missed.
func TestArchivesOfTablespaces(t *testing.T) {
	outside := map[string]string{"PG_15_202209061/5/16385": strings.Repeat("q", 9_000)}
	inside := map[string]string{"PG_VERSION": "15\n", "tablespace_map": "16384 /srv/space\n"}
	all := map[string]string{}
	maps.Copy(all, inside)
	for name, content := range outside {
		all["pg_tblspc/16384/"+name] = content
	}
	manifest := manifestOf(all)
	message := func(kind byte, body []byte) []byte { return append([]byte{kind}, body...) }
	for _, version := range []int{140000, 150000} {
		for _, complete := range []bool{true, false} {
			v := newVault(t)
			w := v.writer(t)
			defer w.Abort()
			src, err := New(Config{Store: "db", ConnString: "host=/nowhere"})
			if err != nil {
				t.Fatal(err)
			}
			b := &baseBackup{source: src, w: w, progress: func(holdfast.Progress) {}, hashes: map[string]fileSum{}, version: version}
			b.stop = 1
			if err := b.result(2, [][]string{{"16384", "/srv/space", "9"}, {"", "", "1"}}); err != nil {
				t.Fatal(err)
			}
			a := &archiveReader{ctx: t.Context(), b: b}
			defer a.abort()
			second := tarOf(t, inside, true)
			if version < 150000 {
				err = firstError(a.nextOld, each(a, tarOf(t, outside, false)), a.finish)
				if complete {
					err = errors.Join(err, firstError(a.nextOld, each(a, second), a.finish, a.nextOld, each(a, manifest), a.finish))
				}
			} else {
				err = firstError(each(a, message('n', []byte("16384.tar\x00/srv/space\x00")), message('d', tarOf(t, outside, true))))
				if complete {
					err = errors.Join(err, firstError(each(a, message('n', []byte("base.tar\x00\x00")), message('d', second))))
				}
				err = errors.Join(err, firstError(each(a, message('m', nil), message('d', manifest)), a.finish))
			}
			if err != nil {
				t.Fatal(err)
			}
			if !complete {
				b.manifest.Write(manifest)
				if err := b.verdict(nil, a); err == nil {
					t.Errorf("%d: a backup without its last archive counts", version)
				}
				continue
			}
			if err := errors.Join(b.verdict(nil, a), b.compare()); err != nil {
				t.Errorf("%d: %v", version, err)
			}
		}
	}
	b := &baseBackup{}
	if err := b.result(2, [][]string{{"../../etc", "/x", "1"}, {"", "", "1"}}); err == nil {
		t.Error("a tablespace whose number is a path is accepted")
	}
}
