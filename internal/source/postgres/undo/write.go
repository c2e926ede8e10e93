package undo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// A Choice is what of an extract is written back.
type Choice struct {
	Tables    []string `json:"tables,omitempty"` // all if empty
	Kinds     []Kind   `json:"kinds,omitempty"`  // deleted and changed if empty
	Overwrite bool     `json:"overwrite,omitempty"`
}

// DefaultKinds are what is written back unless a person chooses otherwise.
var DefaultKinds = []Kind{Deleted, Changed}

// takes reports whether a row is chosen.
func (c Choice) takes(k Kind) bool {
	if k == Conflict {
		return c.Overwrite
	}
	kinds := c.Kinds
	if len(kinds) == 0 {
		kinds = DefaultKinds
	}
	return slices.Contains(kinds, k)
}

// Does says line by line what writing the chosen part of an extract back does: what
// people sign.
func (e *Extract) Does(c Choice) ([]string, error) {
	tables, err := e.chosen(c)
	if err != nil {
		return nil, err
	}
	out := []string{"write back to database " + e.Database + " of cluster " + e.System, "the extract with SHA-256 " + e.Digest, "because: " + e.Because}
	for _, t := range tables {
		if t.Gone {
			out = append(out, fmt.Sprintf("%s: make the table again with its %d rows", t.Name, t.Deleted))
			continue
		}
		var parts []string
		for _, x := range []struct {
			kind Kind
			n    int64
			what string
		}{{Deleted, t.Deleted, "insert %d deleted rows"}, {Changed, t.Changed, "change %d rows back"}, {Added, t.Added, "delete %d rows that it added"}, {Conflict, t.Conflict, "OVERWRITE %d rows that were written since"}} {
			if c.takes(x.kind) && x.n > 0 {
				parts = append(parts, fmt.Sprintf(x.what, x.n))
			}
		}
		out = append(out, t.Now+": "+strings.Join(parts, ", "))
	}
	return out, nil
}

// chosen are the tables of which something is written.
func (e *Extract) chosen(c Choice) ([]Table, error) {
	for _, name := range c.Tables {
		if !slices.ContainsFunc(e.Tables, func(t Table) bool { return t.is(name) }) {
			return nil, holdfast.WithHint(fmt.Errorf("the extract has nothing of table %s: %w", name, holdfast.ErrUsage), "its extract.json lists the tables")
		}
	}
	var out []Table
	for _, t := range e.Tables {
		if len(c.Tables) > 0 && !slices.ContainsFunc(c.Tables, t.is) {
			continue
		}
		var n int64
		for k, of := range map[Kind]int64{Deleted: t.Deleted, Changed: t.Changed, Conflict: t.Conflict, Added: t.Added} {
			if c.takes(k) && !(k == Added && t.Keyless) {
				n += of
			}
		}
		if n == 0 && !t.Gone {
			continue
		}
		if t.Gone && !c.takes(Deleted) {
			continue
		}
		if t.Keyless && !t.Gone && t.Added > 0 && !c.Overwrite {
			return nil, holdfast.WithHint(fmt.Errorf("table %s has no key, and the mistake added %d rows to it: whether it changed rows cannot be told, and the old ones would stand beside the changed: %w", t.Name, t.Added, holdfast.ErrRefused),
				"look at %s, and write that table back by hand, or with --overwrite; --table chooses the others", t.CSV)
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("there is nothing to write back: %w", holdfast.ErrUsage), "--kind, --table and --overwrite choose")
	}
	return out, nil
}

func (t Table) is(name string) bool {
	return name == t.Name || name == t.Now || strings.HasSuffix(t.Name, "."+name) || t.Now != "" && strings.HasSuffix(t.Now, "."+name)
}

// Written is what was written back to one table.
type Written struct {
	Table    string `json:"table"`
	Inserted int64  `json:"inserted"`
	Updated  int64  `json:"updated"`
	Deleted  int64  `json:"deleted"`
	// Left counts rows that were written by somebody between the comparison and now:
	// they stay as they are. Examples names some.
	Left     int64    `json:"left"`
	Examples []string `json:"left_examples,omitempty"`
}

// ErrUnknown says that the server was lost at the end of the transaction.
var ErrUnknown = errors.New("whether it was written is not known")

// Write writes the chosen part of an extract back, in one transaction: all of it or
// nothing. A row goes back only if what was there when it was compared is still
// there; the server looks at that in the statement that writes, so that rows written
// meanwhile stay. Before the end it reads back what it wrote.
//
// A crash before the end leaves nothing. A connection lost at the end is ErrUnknown:
// the same comparison made again shows what is still to do, and writing twice changes
// nothing.
//
// approved is called when all is written and verified, right before the end, and an
// error of it rolls back: an approval is not used up for what could not be written.
func Write(ctx context.Context, e *Extract, connString string, choice Choice, approved func() error) ([]Written, error) {
	tables, err := e.chosen(choice)
	if err != nil {
		return nil, err
	}
	// Triggers find what they name by the role's own search path.
	conn, err := connect(ctx, connString, map[string]string{"search_path": ""})
	if err != nil {
		return nil, fmt.Errorf("production: %w", err)
	}
	w := &back{conn: conn, e: e, choice: choice}
	defer func() { (&side{conn: conn}).close() }()
	if err := w.begin(ctx); err != nil {
		return nil, fmt.Errorf("write back: %w", err)
	}
	out, err := w.all(ctx, tables)
	if err != nil {
		return nil, fmt.Errorf("write back, nothing was changed: %w", err) // the connection ends, and with it the transaction
	}
	if err := approved(); err != nil {
		return nil, fmt.Errorf("write back, nothing was changed: %w", err)
	}
	results, err := conn.Exec(ctx, "COMMIT").ReadAll()
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		return nil, fmt.Errorf("write back, nothing was changed: %w", plain(err))
	}
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("write back: %w: %w", ErrUnknown, err), "run \"holdfast undo look\" again: it shows what is still to do")
	}
	if len(results) != 1 || results[0].CommandTag.String() != "COMMIT" {
		return nil, errors.New("write back, nothing was changed: the server rolled the transaction back")
	}
	return out, nil
}

// A back is one transaction that writes back.
type back struct {
	conn   *pgconn.PgConn
	e      *Extract
	choice Choice
}

func (w *back) begin(ctx context.Context) error {
	if err := exec(ctx, w.conn, "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET CONSTRAINTS ALL DEFERRED"); err != nil {
		return err
	}
	if w.e.System == "" {
		return nil
	}
	rows, err := query(ctx, w.conn, "SELECT system_identifier, current_database() FROM pg_control_system()")
	if err != nil {
		return err
	}
	if *rows[0][0] != w.e.System || *rows[0][1] != w.e.Database {
		return holdfast.WithHint(fmt.Errorf("this is database %s of cluster %s, and the extract was compared with %s of %s: %w", *rows[0][1], *rows[0][0], w.e.Database, w.e.System, holdfast.ErrRefused),
			"connect to the database that was compared, or compare again with this one")
	}
	return nil
}

// all writes tables in the order of their foreign keys: what others point to comes
// first, and is deleted last.
func (w *back) all(ctx context.Context, tables []Table) ([]Written, error) {
	for i := range tables {
		if tables[i].Gone {
			if err := w.define(ctx, &tables[i]); err != nil {
				return nil, fmt.Errorf("table %s: %w", tables[i].Name, err)
			}
		}
	}
	tables, err := w.ordered(ctx, tables)
	if err != nil {
		return nil, err
	}
	out := make([]Written, len(tables))
	staged := make([]string, len(tables))
	for i := range tables {
		t := &tables[i]
		out[i].Table = t.target()
		if t.Gone {
			continue
		}
		if staged[i], err = w.stage(ctx, t, i); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.target(), err)
		}
	}
	step := func(i int, do func() error) error {
		if err := do(); err != nil {
			return fmt.Errorf("table %s: %w", tables[i].target(), err)
		}
		return nil
	}
	for i := len(tables) - 1; i >= 0; i-- {
		if !tables[i].Gone {
			if err := step(i, func() error { return w.deletes(ctx, &tables[i], staged[i], &out[i]) }); err != nil {
				return nil, err
			}
		}
	}
	for i := range tables {
		do := func() error { return w.rows(ctx, &tables[i], staged[i], &out[i]) }
		if tables[i].Gone {
			do = func() error { return w.fill(ctx, &tables[i], &out[i]) }
		}
		if err := step(i, do); err != nil {
			return nil, err
		}
	}
	for i := range tables {
		if tables[i].Gone {
			if err := step(i, func() error { return w.complete(ctx, &tables[i]) }); err != nil {
				return nil, err
			}
		}
	}
	if err := exec(ctx, w.conn, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return nil, err
	}
	for i := range tables {
		if !tables[i].Gone {
			if err := step(i, func() error { return w.verify(ctx, &tables[i], staged[i], &out[i]) }); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (t *Table) target() string {
	if t.Now == "" {
		return t.Name
	}
	return t.Now
}

// ordered sorts tables so that one comes behind those it points to. In a circle the
// order is the extract's, and deferrable constraints are what can help.
func (w *back) ordered(ctx context.Context, tables []Table) ([]Table, error) {
	rows, err := query(ctx, w.conn, `SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(m.nspname) || '.' || quote_ident(d.relname)
		FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class d ON d.oid = f.confrelid JOIN pg_namespace m ON m.oid = d.relnamespace WHERE f.contype = 'f'`)
	if err != nil {
		return nil, err
	}
	points := map[string][]string{}
	for _, r := range rows {
		points[*r[0]] = append(points[*r[0]], *r[1])
	}
	at := map[string]int{}
	for i := range tables {
		at[tables[i].target()] = i
	}
	var out []Table
	seen := map[string]bool{}
	var visit func(i int)
	visit = func(i int) {
		name := tables[i].target()
		if seen[name] {
			return
		}
		seen[name] = true
		for _, p := range points[name] {
			if j, ok := at[p]; ok {
				visit(j)
			}
		}
		out = append(out, tables[i])
	}
	for i := range tables {
		visit(i)
	}
	return out, nil
}

// stage copies the chosen rows of a table into a temporary one and returns its name.
func (w *back) stage(ctx context.Context, t *Table, i int) (string, error) {
	name := "pg_temp.holdfast_undo_" + strconv.Itoa(i)
	cols := []string{"line bigint PRIMARY KEY", "op text", "grp text", "there bigint", "done boolean NOT NULL DEFAULT false"}
	for j := range t.Columns {
		cols = append(cols, fmt.Sprintf("b%d text, n%d text", j, j))
	}
	if err := exec(ctx, w.conn, "CREATE TEMPORARY TABLE "+name+" ("+strings.Join(cols, ", ")+") ON COMMIT DROP"); err != nil {
		return "", err
	}
	if t.Rows == "" {
		return name, nil
	}
	in, err := os.Open(filepath.Join(w.e.Dir, t.Rows))
	if err != nil {
		return "", err
	}
	defer in.Close()
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(w.lines(t, in, pw)) }()
	_, err = w.conn.CopyFrom(ctx, pr, "COPY "+name+" FROM STDIN (FORMAT csv)")
	pr.CloseWithError(err) // ends the goroutine if the server gave up
	if err != nil {
		return "", plain(err)
	}
	return name, exec(ctx, w.conn, "ANALYZE "+name)
}

// lines turns a file of rows into what the temporary table is filled with.
func (w *back) lines(t *Table, in io.Reader, out io.Writer) error {
	sc := bufio.NewScanner(in)
	sc.Buffer(make([]byte, 1<<16), maxLine)
	line := 0
	for sc.Scan() {
		r, err := decodeRow(t, sc.Bytes())
		if err != nil {
			return err
		}
		if !w.choice.takes(r.Kind) {
			continue
		}
		op, group, there, done := string(r.Op), fmt.Sprint(r.Set), strconv.FormatInt(r.There, 10), "f"
		for range max(r.Times, 1) {
			line++
			number := strconv.Itoa(line)
			values := []*string{&number, &op, &group, &there, &done}
			for i := range t.Columns {
				var b, n *string
				if r.Before != nil {
					b = r.Before[i]
				}
				if r.Now != nil {
					n = r.Now[i]
				}
				values = append(values, b, n)
			}
			if _, err := io.WriteString(out, csvLine(values)); err != nil {
				return err
			}
		}
	}
	return sc.Err()
}

// key compares a row of the table, t, with a staged one, x.
func (t *Table) key(side string) string {
	var out []string
	for i, c := range t.Columns {
		if c.Key {
			out = append(out, fmt.Sprintf("t.%s = x.%s%d::%s", quote(c.Name), side, i, c.Type))
		}
	}
	return strings.Join(out, " AND ")
}

// equals compares columns of a row with a staged one, as texts.
func (t *Table) equals(side string, cols []int) string {
	out := []string{"true"}
	for _, i := range cols {
		out = append(out, fmt.Sprintf("t.%s::text IS NOT DISTINCT FROM x.%s%d", quote(t.Columns[i].Name), side, i))
	}
	return strings.Join(out, " AND ")
}

func (t *Table) indexes(pick func(Column) bool) []int {
	var out []int
	for i, c := range t.Columns {
		if pick(c) {
			out = append(out, i)
		}
	}
	return out
}

// count runs a statement that returns one number.
func (w *back) count(ctx context.Context, sql string) (int64, error) {
	rows, err := query(ctx, w.conn, sql)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(*rows[0][0], 10, 64)
}

func (w *back) deletes(ctx context.Context, t *Table, x string, out *Written) (err error) {
	if t.Keyless {
		return nil
	}
	all := t.indexes(func(Column) bool { return true })
	out.Deleted, err = w.count(ctx, fmt.Sprintf(`WITH gone AS (DELETE FROM %s t USING %s x WHERE x.op = 'delete' AND %s AND %s RETURNING x.line),
		noted AS (SELECT count(*) FROM gone) SELECT * FROM noted`, t.onlyNow(), x, t.key("n"), t.equals("n", all)))
	if err != nil || out.Deleted == 0 {
		return err
	}
	return exec(ctx, w.conn, fmt.Sprintf("UPDATE %s x SET done = true WHERE op = 'delete' AND NOT EXISTS (SELECT 1 FROM %s t WHERE %s)", x, t.onlyNow(), t.key("n")))
}

// rows inserts and updates.
func (w *back) rows(ctx context.Context, t *Table, x string, out *Written) (err error) {
	if out.Inserted, err = w.inserts(ctx, t, x); err != nil {
		return err
	}
	if !t.Keyless {
		if out.Updated, err = w.updates(ctx, t, x); err != nil {
			return err
		}
	}
	if out.Left, err = w.count(ctx, "SELECT count(*) FROM "+x+" WHERE NOT done"); err != nil || out.Left == 0 {
		return err
	}
	var key []string
	for i, c := range t.Columns {
		if c.Key || t.Keyless {
			key = append(key, fmt.Sprintf("coalesce(b%d, n%d)", i, i))
		}
	}
	rows, err := query(ctx, w.conn, fmt.Sprintf("SELECT concat_ws(', ', %s) FROM %s WHERE NOT done ORDER BY line LIMIT %d", strings.Join(key, ", "), x, maxExamples))
	for _, r := range rows {
		out.Examples = append(out.Examples, *r[0])
	}
	return err
}

func (w *back) inserts(ctx context.Context, t *Table, x string) (int64, error) {
	var values []string
	for i, c := range t.Columns {
		if !c.Generated {
			values = append(values, fmt.Sprintf("x.b%d::%s", i, c.Type))
		}
	}
	insert := fmt.Sprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s x WHERE x.op = 'insert'", t.Now, t.columnNames(), strings.Join(values, ", "), x)
	if !t.Keyless {
		var keys []string
		for _, c := range t.Columns {
			if c.Key {
				keys = append(keys, c.Name)
			}
		}
		var same []string
		for j, i := range t.indexes(func(c Column) bool { return c.Key }) {
			same = append(same, fmt.Sprintf("got.k%d::text = x.b%d", j, i))
		}
		returning := make([]string, len(keys))
		for j, k := range keys {
			returning[j] = fmt.Sprintf("%s AS k%d", quote(k), j)
		}
		if err := exec(ctx, w.conn, fmt.Sprintf("WITH got AS (%s ORDER BY x.line ON CONFLICT DO NOTHING RETURNING %s) UPDATE %s x SET done = true FROM got WHERE x.op = 'insert' AND %s",
			insert, strings.Join(returning, ", "), x, strings.Join(same, " AND "))); err != nil {
			return 0, err
		}
		return w.count(ctx, "SELECT count(*) FROM "+x+" WHERE op = 'insert' AND done")
	}
	// Nothing but a lock keeps others from changing how many copies there are.
	if err := exec(ctx, w.conn, "LOCK TABLE "+t.onlyNow()+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return 0, err
	}
	var is, were []string
	for i, c := range t.Columns {
		is, were = append(is, "t."+quote(c.Name)+"::text"), append(were, fmt.Sprintf("x.b%d", i))
	}
	if err := exec(ctx, w.conn, fmt.Sprintf(`UPDATE %s x SET done = true WHERE op = 'insert' AND there = coalesce((SELECT g.n FROM
		(SELECT ROW(%s)::text AS k, count(*) AS n FROM %s t GROUP BY 1) g WHERE g.k = ROW(%s)::text), 0)`, x, strings.Join(is, ", "), t.onlyNow(), strings.Join(were, ", "))); err != nil {
		return 0, err
	}
	if err := exec(ctx, w.conn, insert+" AND x.done ORDER BY x.line"); err != nil {
		return 0, err
	}
	return w.count(ctx, "SELECT count(*) FROM "+x+" WHERE op = 'insert' AND done")
}

// updates writes back, for each set of columns, rows in which these are still as they
// were when they were compared.
func (w *back) updates(ctx context.Context, t *Table, x string) (n int64, err error) {
	groups, err := w.groups(ctx, t, x)
	if err != nil {
		return 0, err
	}
	for text, cols := range groups {
		set := make([]string, len(cols))
		for j, i := range cols {
			set[j] = fmt.Sprintf("%s = x.b%d::%s", quote(t.Columns[i].Name), i, t.Columns[i].Type)
		}
		got, err := w.count(ctx, fmt.Sprintf(`WITH got AS (UPDATE %s t SET %s FROM %s x WHERE x.op = 'update' AND x.grp = %s AND %s AND %s RETURNING x.line),
			noted AS (UPDATE %s s SET done = true FROM got WHERE s.line = got.line RETURNING 1) SELECT count(*) FROM noted`,
			t.onlyNow(), strings.Join(set, ", "), x, literal(&text), t.key("n"), t.equals("n", cols), x))
		if err != nil {
			return n, err
		}
		n += got
	}
	return n, nil
}

// groups lists the sets of columns of the staged updates.
func (w *back) groups(ctx context.Context, t *Table, x string) (map[string][]int, error) {
	rows, err := query(ctx, w.conn, "SELECT DISTINCT grp FROM "+x+" WHERE op = 'update'")
	if err != nil {
		return nil, err
	}
	if len(rows) > maxSets {
		return nil, fmt.Errorf("%d sets of columns, more than %d", len(rows), maxSets)
	}
	out := map[string][]int{}
	for _, r := range rows {
		for _, f := range strings.Fields(strings.Trim(*r[0], "[]")) {
			i, err := strconv.Atoi(f)
			if err != nil || i < 0 || i >= len(t.Columns) {
				return nil, fmt.Errorf("set of columns %q", *r[0])
			}
			out[*r[0]] = append(out[*r[0]], i)
		}
	}
	return out, nil
}

// verify reads back what was written: a trigger may have made something else of it.
func (w *back) verify(ctx context.Context, t *Table, x string, out *Written) error {
	if t.Keyless {
		return nil // copies were counted under the lock
	}
	groups, err := w.groups(ctx, t, x)
	if err != nil {
		return err
	}
	conds := []string{fmt.Sprintf("x.op = 'insert' AND %s", t.equals("b", t.indexes(func(c Column) bool { return !c.Generated })))}
	for text, cols := range groups {
		conds = append(conds, fmt.Sprintf("x.op = 'update' AND x.grp = %s AND %s", literal(&text), t.equals("b", cols)))
	}
	n, err := w.count(ctx, fmt.Sprintf("SELECT count(*) FROM %s x WHERE x.done AND x.op <> 'delete' AND NOT EXISTS (SELECT 1 FROM %s t WHERE %s AND (%s))",
		x, t.onlyNow(), t.key("b"), strings.Join(conds, " OR ")))
	if err != nil {
		return err
	}
	if n > 0 {
		return holdfast.WithHint(fmt.Errorf("%d of %d rows are not what was written", n, out.Inserted+out.Updated), "a trigger changes them: disable it for this, or write them back by hand from %s", t.CSV)
	}
	return nil
}

// define makes a table that is gone.
func (w *back) define(ctx context.Context, t *Table) error {
	schema, _, _ := strings.Cut(t.Name, ".")
	if strings.HasPrefix(t.Name, `"`) {
		schema = t.Name[:strings.Index(t.Name[1:], `".`)+2]
	}
	rows, err := query(ctx, w.conn, "SELECT to_regnamespace("+literal(&schema)+") IS NULL")
	if err != nil {
		return err
	}
	if *rows[0][0] == "t" {
		if err := exec(ctx, w.conn, "CREATE SCHEMA "+schema); err != nil {
			return err
		}
	}
	return w.file(ctx, t.Define)
}

func (w *back) complete(ctx context.Context, t *Table) error { return w.file(ctx, t.Complete) }

// file runs the statements of a file of the extract, and takes the session's settings
// back to ours.
func (w *back) file(ctx context.Context, name string) error {
	sql, err := os.ReadFile(filepath.Join(w.e.Dir, name)) // at most maxDump, and of the hash that was checked
	if err != nil {
		return err
	}
	if err := exec(ctx, w.conn, string(sql)); err != nil {
		return err
	}
	return exec(ctx, w.conn, "RESET ALL") // to what the session began with
}

// fill copies the rows of a table that was just made.
func (w *back) fill(ctx context.Context, t *Table, out *Written) error {
	in, err := os.Open(filepath.Join(w.e.Dir, t.CSV))
	if err != nil {
		return err
	}
	defer in.Close()
	tag, err := w.conn.CopyFrom(ctx, in, "COPY "+t.Name+" ("+t.columnNames()+") FROM STDIN (FORMAT csv)")
	if err != nil {
		return plain(err)
	}
	if out.Inserted = tag.RowsAffected(); out.Inserted != t.Deleted {
		return fmt.Errorf("%d rows were written instead of %d", out.Inserted, t.Deleted)
	}
	for _, s := range t.Sequences {
		if err := exec(ctx, w.conn, fmt.Sprintf("SELECT setval(%s, %d, %t)", literal(&s.Name), s.Last, s.Called)); err != nil {
			return err
		}
	}
	return nil
}
