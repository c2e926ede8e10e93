package undo

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"holdfast"
)

// gone takes a table that is not there any more into the extract, whole.
func (c *comparison) gone(ctx context.Context, b *relation) error {
	t := Table{Name: b.name, Gone: true, Keyless: len(b.key) == 0}
	for _, x := range b.columns {
		t.Columns = append(t.Columns, Column{Name: x.name, Type: x.typ, Generated: x.generated, Fixed: x.identity == "a"})
	}
	rows, err := query(ctx, c.before.conn, "SELECT count(*) FROM "+b.from())
	if err != nil {
		return err
	}
	t.Deleted, err = strconv.ParseInt(*rows[0][0], 10, 64)
	if err != nil {
		return err
	}
	tables := []string{b.name}
	if b.kind == "p" {
		if rows, err = query(ctx, c.before.conn, fmt.Sprintf(`SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_partition_tree(%d) p
			JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.level > 0 ORDER BY p.level, 1`, b.oid)); err != nil {
			return err
		}
		for _, r := range rows {
			tables = append(tables, *r[0])
		}
	}
	if rows, err = query(ctx, c.before.conn, fmt.Sprintf(`SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(s.relname) FROM pg_depend d
		JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %d AND d.deptype IN ('a', 'i') ORDER BY 1`, b.oid)); err != nil {
		return err
	}
	for _, r := range rows {
		got, err := query(ctx, c.before.conn, "SELECT last_value, is_called FROM "+*r[0])
		if err != nil {
			return err
		}
		s := Sequence{Name: *r[0], Called: *got[0][1] == "t"}
		if s.Last, err = strconv.ParseInt(*got[0][0], 10, 64); err != nil {
			return err
		}
		t.Sequences = append(t.Sequences, s)
	}
	if rows, err = query(ctx, c.before.conn, fmt.Sprintf(`SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint WHERE contype = 'f' AND confrelid = %d AND conrelid <> %d AND conparentid = 0 ORDER BY 1, 2`, b.oid, b.oid)); err != nil {
		return err
	}
	for _, r := range rows {
		t.Notes = append(t.Notes, fmt.Sprintf("foreign key %s of %s pointed to it: add that again by hand", *r[1], *r[0]))
	}
	if c.out != nil {
		if err := c.wholeTable(ctx, b, &t, tables); err != nil {
			return err
		}
	}
	c.found.Tables = append(c.found.Tables, t)
	return nil
}

// wholeTable writes the definition and the rows of a table that is gone.
func (c *comparison) wholeTable(ctx context.Context, b *relation, t *Table, tables []string) error {
	if c.cfg.Dump == nil {
		return holdfast.WithHint(fmt.Errorf("the table is gone, and nothing here can write its definition"), "install the client programs of PostgreSQL beside the server")
	}
	for _, part := range []struct {
		section string
		to      *string
	}{{"pre-data", &t.Define}, {"post-data", &t.Complete}} {
		sql, err := c.cfg.Dump(ctx, tables, part.section)
		if err != nil {
			return err
		}
		if len(sql) > maxDump {
			return fmt.Errorf("its definition has %d bytes, more than %d", len(sql), maxDump)
		}
		if *part.to, err = c.out.file(t, part.section+".sql", statements(sql)); err != nil {
			return err
		}
	}
	file, err := c.out.create(t, "csv")
	if err != nil {
		return err
	}
	tag, err := c.before.conn.CopyTo(ctx, file, "COPY (SELECT "+t.columnNames()+" FROM "+b.from()+") TO STDOUT (FORMAT csv)")
	if err != nil {
		return plain(err)
	}
	if t.CSV, err = c.out.done(file); err != nil {
		return err
	}
	if n := tag.RowsAffected(); n != t.Deleted {
		return fmt.Errorf("%d rows were written, and it has %d", n, t.Deleted)
	}
	return c.out.scriptGone(t)
}

// columnNames are the columns that can be written.
func (t *Table) columnNames() string {
	var out []string
	for _, c := range t.Columns {
		if !c.Generated {
			out = append(out, quote(c.Name))
		}
	}
	return strings.Join(out, ", ")
}

// statements takes what psql alone understands out of a dump: lines that begin with
// a backslash, which pg_dump writes around everything since 2025.
func statements(dump []byte) []byte {
	var out []byte
	for line := range bytes.Lines(dump) {
		if !bytes.HasPrefix(line, []byte(`\`)) {
			out = append(out, line...)
		}
	}
	return out
}
