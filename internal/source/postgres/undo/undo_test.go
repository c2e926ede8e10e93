package undo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast/internal/sandbox"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/postgres/undo"
)

var yes = func() error { return nil }

// A world is one server with three databases: before the mistake, after it, and now.
// They are made from each other, so that numbers of tables are the same, as they are
// in restores of one cluster.
type world struct {
	t      *testing.T
	server *postgres.Server
}

// the server that all tests share.
var shared *postgres.Server

func TestMain(m *testing.M) {
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintf(os.Stderr, "these tests need a PostgreSQL server: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func withServer(run func() int) (code int, err error) {
	ctx := context.Background()
	binDir, err := postgres.FindBinDir(0)
	if err != nil {
		return 0, err
	}
	box, err := sandbox.New(ctx, sandbox.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	dir := filepath.Join(box.Dir(), "d")
	if err := postgres.Initdb(ctx, box, binDir, dir, "--no-sync"); err != nil {
		return 0, err
	}
	if shared, err = postgres.StartServer(ctx, box, postgres.ServerConfig{BinDir: binDir, DataDir: dir, Options: map[string]string{"fsync": "off", "autovacuum": "off"}}); err != nil {
		return 0, err
	}
	defer func() { _ = shared.Kill() }()
	return run(), nil
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{t, shared}
	t.Cleanup(func() {
		for _, db := range []string{"before", "after", "now"} {
			if _, err := w.try("postgres", "DROP DATABASE IF EXISTS "+db+" WITH (FORCE)"); err != nil {
				t.Error(err)
			}
		}
	})
	w.sql("postgres", "CREATE DATABASE before")
	return w
}

func (w world) sql(db, sql string) string {
	w.t.Helper()
	out, err := w.try(db, sql)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// try returns the last result as text.
func (w world) try(db, sql string) (string, error) {
	conn, err := pgconn.Connect(context.Background(), w.server.ConnStringTo(db))
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	results, err := conn.Exec(context.Background(), sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	var lines []string
	for _, r := range results[len(results)-1].Rows {
		var vs []string
		for _, v := range r {
			vs = append(vs, string(v))
		}
		lines = append(lines, strings.Join(vs, "|"))
	}
	return strings.Join(lines, "\n"), nil
}

// story makes the states: what is before, the mistake, and what came later.
func (w world) story(before, mistake, later string) {
	w.t.Helper()
	w.sql("before", before)
	w.sql("postgres", "CREATE DATABASE after TEMPLATE before")
	w.sql("after", mistake)
	w.sql("postgres", "CREATE DATABASE now TEMPLATE after")
	w.sql("now", later)
}

func (w world) config() undo.Config {
	return undo.Config{Before: w.server.ConnStringTo("before"), After: w.server.ConnStringTo("after"), Now: w.server.ConnStringTo("now"),
		Dir: filepath.Join(w.t.TempDir(), "extract"), Extract: undo.Extract{Store: "db", Database: "now", Because: "a test"},
		Dump: func(ctx context.Context, tables []string, section string) ([]byte, error) {
			return w.server.Dump(ctx, "before", tables, section)
		}}
}

func (w world) look(cfg undo.Config) *undo.Extract {
	w.t.Helper()
	e, err := undo.Compare(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if cfg.Dir == "" {
		return e
	}
	read, err := undo.Read(cfg.Dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if read.Digest != e.Digest {
		w.t.Fatal("the digest of what was read is another one")
	}
	return read
}

func (w world) write(e *undo.Extract, c undo.Choice) []undo.Written {
	w.t.Helper()
	out, err := undo.Write(w.t.Context(), e, w.server.ConnStringTo("now"), c, yes)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func table(t *testing.T, e *undo.Extract, name string) undo.Table {
	t.Helper()
	i := slices.IndexFunc(e.Tables, func(x undo.Table) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("nothing was found in %s: %+v, skipped %v", name, e.Tables, e.Skipped)
	}
	return e.Tables[i]
}

// Values that are hard to write down come back as they were, into columns that are
// hard to write to, and what was written since stays.
func TestEveryKindOfValue(t *testing.T) {
	w := newWorld(t)
	w.story(`CREATE TYPE mood AS ENUM ('fine', 'it''s bad'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int CHECK (value < 1000);
		CREATE SCHEMA "Odd schema";
		CREATE TABLE "Odd schema"."A.table" (id bigint GENERATED ALWAYS AS IDENTITY, part text COLLATE "C", n numeric, f double precision, b bytea, j json, jb jsonb, a text[][], m mood, p pair, s small, c char(5), v varchar(3),
			t timestamptz, i interval, r int4range, x xml, bits bit(3), twice numeric GENERATED ALWAYS AS (n * 2) STORED, money money, u uuid, PRIMARY KEY (part, id));
		INSERT INTO "Odd schema"."A.table" (part, n, f, b, j, jb, a, m, p, s, c, v, t, i, r, x, bits, money, u) VALUES
			('', 'NaN', '-0', '\x00ff22', '{"b": 1, "a":  [1,2]}', '{"z": null}', '{{a,"b,c"},{NULL,"\"q\""}}', 'it''s bad', '(1,"x,y")', 7, 'ab', 'äöü', '0044-03-15 12:00:00+00 BC', '-1 mons +2 days -03:04:05.000006', '[1,5)', '<a>&amp;</a>', B'101', '-12.34', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
			(E'two\nlines "and" ''quotes'' \\ \t', '123456789012345678901234567890.000000000100', 'Infinity', '', '[]', '1e400', '{}', NULL, NULL, NULL, NULL, '', 'infinity', NULL, 'empty', NULL, NULL, NULL, NULL),
			('Zürich', '-0.0010', '1e-320', NULL, NULL, NULL, NULL, 'fine', '(,)', 0, '', NULL, '2026-11-22 10:00:00.123456+00', '0', NULL, '', B'000', '0', NULL);
		CREATE TABLE keep (id int PRIMARY KEY, v text); INSERT INTO keep SELECT g, 'v' || g FROM generate_series(1, 500) g`,
		`DELETE FROM "Odd schema"."A.table"; DELETE FROM keep WHERE id % 3 = 0`,
		`INSERT INTO "Odd schema"."A.table" (part, n) VALUES ('later', 1); UPDATE keep SET v = 'later' WHERE id = 1; DELETE FROM keep WHERE id = 2; INSERT INTO keep VALUES (1001, 'later')`)
	whole := `SELECT x::text FROM "Odd schema"."A.table" x WHERE part <> 'later' ORDER BY id`
	want := w.sql("before", whole)
	e := w.look(w.config())
	if got := table(t, e, `"Odd schema"."A.table"`); got.Deleted != 3 || got.Later != 1 || got.Changed+got.Conflict+got.Added != 0 {
		t.Errorf("found %+v", got.Counts)
	}
	if got := table(t, e, "public.keep"); got.Deleted != 166 || got.Later != 3 || got.Changed+got.Conflict+got.Added != 0 {
		t.Errorf("found %+v", got.Counts)
	}
	w.write(e, undo.Choice{})
	if got := w.sql("now", whole); got != want {
		t.Errorf("came back:\n%s\nwant:\n%s", got, want)
	}
	if got := w.sql("now", "SELECT count(*), count(*) FILTER (WHERE v = 'later') FROM keep"); got != "500|2" {
		t.Errorf("keep has %s", got)
	}
	if got := w.sql("now", `SELECT count(*) FROM "Odd schema"."A.table" WHERE part = 'later'`); got != "1" {
		t.Error("what was written later is lost")
	}
	// A second time there is nothing to do.
	if again := w.look(w.config()); len(again.Tables) != 0 {
		t.Errorf("written back, and still there is %+v", again.Tables)
	}
	for _, r := range w.write(e, undo.Choice{}) {
		if r.Inserted != 0 || r.Updated != 0 {
			t.Errorf("written twice: %+v", r)
		}
	}
}

// An update of every row is undone column by column, so that what others wrote into
// the same rows since stays.
func TestUpdateWithoutWhere(t *testing.T) {
	w := newWorld(t)
	w.story(`CREATE TABLE account (id int PRIMARY KEY, owner text, balance int, seen timestamptz);
		INSERT INTO account SELECT g, 'o' || g, g * 10, NULL FROM generate_series(1, 1000) g`,
		"UPDATE account SET owner = 'nobody'; INSERT INTO account VALUES (5000, 'nobody', 0, NULL)",
		`UPDATE account SET balance = -1 WHERE id <= 10; UPDATE account SET owner = 'new owner' WHERE id = 20; UPDATE account SET owner = 'o30' WHERE id = 30;
		DELETE FROM account WHERE id = 40; DELETE FROM account WHERE id = 50; INSERT INTO account VALUES (50, 'again', 1, NULL)`)
	cfg := w.config()
	var rows int
	cfg.Row = func(*undo.Table, *undo.Row) error { rows++; return nil }
	e := w.look(cfg)
	got := table(t, e, "public.account")
	if want := (undo.Counts{Deleted: 0, Changed: 996, Conflict: 3, Added: 1, Later: 0, Back: 1}); got.Counts != want {
		t.Errorf("found %+v, want %+v", got.Counts, want)
	}
	if rows != 1000 {
		t.Errorf("%d rows were shown", rows)
	}
	w.write(e, undo.Choice{})
	if got := w.sql("now", "SELECT count(*) FILTER (WHERE owner = 'o' || id), count(*) FILTER (WHERE balance = -1), string_agg(owner, ',' ORDER BY id) FILTER (WHERE id IN (20, 50, 5000)) FROM account"); got != "997|10|new owner,again,nobody" {
		t.Errorf("now there is %s", got)
	}
	w.write(e, undo.Choice{Overwrite: true, Kinds: []undo.Kind{undo.Added}})
	if got := w.sql("now", "SELECT count(*), count(*) FILTER (WHERE owner = 'o' || id) FROM account"); got != "1000|1000" {
		t.Errorf("with everything taken back there is %s", got)
	}
}

// Between comparing and writing, people go on: what they wrote is left and named.
func TestWrittenMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.story("CREATE TABLE x (a int, b text, v int UNIQUE, PRIMARY KEY (a, b)); INSERT INTO x SELECT g, 'k', g FROM generate_series(1, 100) g",
		"DELETE FROM x WHERE a <= 50; UPDATE x SET v = v + 1000", "")
	e := w.look(w.config())
	w.sql("now", "INSERT INTO x VALUES (1, 'k', -1), (777, 'other', 2); UPDATE x SET v = 0 WHERE a = 100")
	out := w.write(e, undo.Choice{})
	if len(out) != 1 || out[0].Inserted != 48 || out[0].Updated != 49 || out[0].Left != 3 || len(out[0].Examples) != 3 {
		t.Errorf("written %+v", out)
	}
	if got := w.sql("now", "SELECT string_agg(v::text, ',' ORDER BY a) FROM x WHERE a IN (1, 2, 3, 100, 777)"); got != "-1,3,0,2" {
		t.Errorf("now there is %s", got)
	}
}

func TestForeignKeys(t *testing.T) {
	w := newWorld(t)
	w.story(`CREATE TABLE zparent (id int PRIMARY KEY, boss int REFERENCES zparent); CREATE TABLE achild (id int PRIMARY KEY, p int NOT NULL REFERENCES zparent ON DELETE CASCADE);
		INSERT INTO zparent SELECT g, nullif(g, 1) FROM generate_series(1, 10) g; UPDATE zparent SET boss = 11 - id; INSERT INTO achild SELECT g, g % 10 + 1 FROM generate_series(1, 100) g`,
		"UPDATE zparent SET boss = NULL; DELETE FROM zparent", "")
	e := w.look(w.config())
	if table(t, e, "public.achild").Deleted != 100 || table(t, e, "public.zparent").Deleted != 10 {
		t.Errorf("found %+v", e.Tables)
	}
	// Children without their parents are refused, and nothing is written.
	if _, err := undo.Write(t.Context(), e, w.server.ConnStringTo("now"), undo.Choice{Tables: []string{"achild"}}, yes); err == nil || !strings.Contains(err.Error(), "23503") {
		t.Errorf("children without parents: %v", err)
	}
	// Nor is anything without the approval.
	no := errors.New("no")
	if _, err := undo.Write(t.Context(), e, w.server.ConnStringTo("now"), undo.Choice{}, func() error { return no }); !errors.Is(err, no) {
		t.Errorf("without approval: %v", err)
	}
	if got := w.sql("now", "SELECT (SELECT count(*) FROM zparent), (SELECT count(*) FROM achild)"); got != "0|0" {
		t.Fatalf("something was written: %s", got)
	}
	w.write(e, undo.Choice{})
	for _, q := range []string{"SELECT * FROM zparent ORDER BY id", "SELECT * FROM achild ORDER BY id"} {
		if got, want := w.sql("now", q), w.sql("before", q); got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
}

func TestDroppedTable(t *testing.T) {
	w := newWorld(t)
	w.story(`CREATE SCHEMA s; CREATE TABLE s."Gone" (id serial PRIMARY KEY, v text NOT NULL CHECK (v <> ''), l int GENERATED ALWAYS AS (length(v)) STORED, w int GENERATED BY DEFAULT AS IDENTITY);
		CREATE INDEX by_v ON s."Gone" (v); INSERT INTO s."Gone" (v) SELECT 'v' || g FROM generate_series(1, 50) g; DELETE FROM s."Gone" WHERE id > 45;
		CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k); CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF parted DEFAULT; INSERT INTO parted SELECT g, 'x' FROM generate_series(1, 30) g;
		CREATE TABLE refers (id int PRIMARY KEY, g int REFERENCES s."Gone"); INSERT INTO refers VALUES (1, 1);
		CREATE TABLE renamed (id int PRIMARY KEY, old_name text); INSERT INTO renamed VALUES (1, 'a'), (2, 'b')`,
		"DROP SCHEMA s CASCADE; DROP TABLE parted; DELETE FROM renamed WHERE id = 1", "ALTER TABLE renamed RENAME TO other; ALTER TABLE other RENAME old_name TO new_name; INSERT INTO other VALUES (3, 'c'); DELETE FROM refers")
	e := w.look(w.config())
	if g := table(t, e, `s."Gone"`); !g.Gone || g.Deleted != 45 || len(g.Notes) != 1 {
		t.Errorf("found %+v", g)
	}
	if r := table(t, e, "public.renamed"); r.Now != "public.other" || r.Deleted != 1 || r.Later != 1 {
		t.Errorf("found %+v", r)
	}
	w.write(e, undo.Choice{})
	q := `SELECT * FROM s."Gone" ORDER BY id`
	if got, want := w.sql("now", q), w.sql("before", q); got != want {
		t.Errorf("came back %s, want %s", got, want)
	}
	if got := w.sql("now", `INSERT INTO s."Gone" (v) VALUES ('next') RETURNING id, w`); got != "51|51" {
		t.Errorf("the next row has %s", got)
	}
	if _, err := w.try("now", `INSERT INTO s."Gone" (v) VALUES ('')`); err == nil {
		t.Error("the constraint did not come back")
	}
	if got := w.sql("now", "SELECT (SELECT count(*) FROM p1), (SELECT count(*) FROM p2), (SELECT count(*) FROM pg_indexes WHERE indexname = 'by_v'), (SELECT string_agg(new_name, ',' ORDER BY id) FROM other)"); got != "9|21|1|a,b,c" {
		t.Errorf("now there is %s", got)
	}
}

// A table without a key is a multiset; what may have been a change is not written.
func TestWithoutKey(t *testing.T) {
	w := newWorld(t)
	w.story("CREATE TABLE bag (v text, n int); INSERT INTO bag VALUES ('a', 1), ('a', 1), ('a', 1), ('b', NULL), ('b', NULL), ('c', 3); CREATE TABLE moved (v text); INSERT INTO moved VALUES ('x')",
		"DELETE FROM bag WHERE v <> 'c'; UPDATE moved SET v = 'y'", "INSERT INTO bag VALUES ('a', 1), ('d', 4)")
	e := w.look(w.config())
	b := table(t, e, "public.bag")
	if !b.Keyless || b.Deleted != 4 || b.Later != 1 {
		t.Errorf("found %+v", b)
	}
	if _, err := undo.Write(t.Context(), e, w.server.ConnStringTo("now"), undo.Choice{}, yes); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("a changed row without a key: %v", err)
	}
	c := undo.Choice{Tables: []string{"public.bag"}}
	w.write(e, c)
	count := "SELECT count(*) FILTER (WHERE v = 'a'), count(*) FILTER (WHERE v = 'b' AND n IS NULL), count(*) FROM bag"
	if got := w.sql("now", count); got != "3|2|7" {
		t.Errorf("now there are %s", got)
	}
	if out := w.write(e, c); out[0].Inserted != 0 || out[0].Left != 4 {
		t.Errorf("written twice: %+v", out)
	}
}

// Where hidden rows would look deleted, nothing is compared; what a trigger makes of
// rows is not taken for what was written.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.story(`CREATE TABLE x (id int PRIMARY KEY, v text); INSERT INTO x VALUES (1, 'a'), (2, 'b');
		CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := 'spoiled'; RETURN NEW; END $$;
		CREATE TRIGGER spoil BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION spoil()`, "DELETE FROM x WHERE id = 1", "")
	e := w.look(w.config())
	if _, err := undo.Write(t.Context(), e, w.server.ConnStringTo("now"), undo.Choice{}, yes); err == nil || !strings.Contains(err.Error(), "not what was written") {
		t.Errorf("a trigger changed the row: %v", err)
	}
	if got := w.sql("now", "SELECT count(*) FROM x"); got != "1" {
		t.Errorf("%s rows", got)
	}
	if _, err := undo.Write(t.Context(), e, w.server.ConnStringTo("after"), undo.Choice{}, yes); err == nil || !strings.Contains(err.Error(), "compared with") {
		t.Errorf("another database: %v", err)
	}
	w.sql("now", "CREATE ROLE reader LOGIN; GRANT SELECT ON x TO reader; ALTER TABLE x ENABLE ROW LEVEL SECURITY")
	cfg := w.config()
	cfg.Now = strings.Replace(cfg.Now, "user='postgres'", "user='reader'", 1)
	if cfg.Now == w.config().Now {
		t.Fatalf("the connection string has another form: %s", cfg.Now)
	}
	if _, err := undo.Compare(t.Context(), cfg); err == nil {
		t.Error("rows may be hidden, and they were compared")
	}
	if _, err := undo.Read(cfg.Dir); err == nil {
		t.Error("an extract that was not finished is read")
	}
	name := filepath.Join(e.Dir, table(t, e, "public.x").Rows)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(b), `"a"`, `"z"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := undo.Read(e.Dir); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("a changed extract: %v", err)
	}
}

// A condition chooses rows as they were before the mistake.
func TestWhere(t *testing.T) {
	w := newWorld(t)
	w.story("CREATE TABLE x (id int PRIMARY KEY, region text); INSERT INTO x SELECT g, (ARRAY['eu', 'us'])[g % 2 + 1] FROM generate_series(1, 100) g", "TRUNCATE x", "INSERT INTO x VALUES (1, 'eu'), (500, 'eu')")
	cfg := w.config()
	cfg.Tables, cfg.Where = []string{"x"}, "region = 'eu'"
	e := w.look(cfg)
	if got := table(t, e, "public.x").Counts; got != (undo.Counts{Deleted: 50}) {
		t.Errorf("found %+v", got)
	}
	if w.write(e, undo.Choice{}); w.sql("now", "SELECT count(*) FROM x") != "52" {
		t.Error("other rows came back")
	}
}
