package undo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// session makes texts of values the same on every side, and keeps production from
// ending a comparison half way. row_security=off makes the server refuse where a
// policy would hide rows: hidden rows would look deleted.
var session = map[string]string{
	"client_encoding": "UTF8", "DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "1",
	"bytea_output": "hex", "lc_monetary": "C", "standard_conforming_strings": "on", "search_path": "pg_catalog", "row_security": "off",
	"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": lockWait, "application_name": "holdfast undo",
}

// closeWithin bounds the farewell to a server.
const closeWithin = 5 * time.Second

// A side is one state of the database.
type side struct {
	conn   *pgconn.PgConn
	what   string // "before the mistake"
	system string
	tables map[uint32]*relation
	byName map[string]*relation
}

// A relation is a table of one side.
type relation struct {
	oid      uint32
	name     string // quoted and qualified
	kind     string // r, p
	only     bool   // it has inheriting children
	readable bool
	columns  []attribute
	key      []int // numbers of columns
}

type attribute struct {
	num       int
	name, typ string
	generated bool
	identity  string
}

// open connects and begins a transaction in which nothing changes any more.
func open(ctx context.Context, connString, what string) (*side, error) {
	conn, err := connect(ctx, connString, map[string]string{"default_transaction_read_only": "on"})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", what, err)
	}
	s := &side{conn: conn, what: what}
	if err := s.begin(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("database %s: %w", what, err)
	}
	return s, nil
}

// Database is the database that a connection string names.
func Database(connString string) (string, error) {
	cfg, err := pgconn.ParseConfig(connString)
	if err != nil {
		return "", holdfast.WithHint(errors.New("the connection string cannot be read"), "write it as \"host=db1 user=ana dbname=billing\" or postgres://ana@db1/billing; a password belongs into ~/.pgpass or $PGPASSWORD")
	}
	return cmp.Or(cfg.Database, cfg.User), nil
}

// connect opens a session with our settings and with more, of which an empty one is the
// role's own.
func connect(ctx context.Context, connString string, more map[string]string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(connString)
	if err != nil {
		return nil, errors.New("the connection string cannot be read") // the cause repeats it, with its password
	}
	for k, v := range session {
		cfg.RuntimeParams[k] = v
	}
	for k, v := range more {
		if cfg.RuntimeParams[k] = v; v == "" {
			delete(cfg.RuntimeParams, k)
		}
	}
	return pgconn.ConnectConfig(ctx, cfg)
}

func (s *side) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = s.conn.Close(ctx) // nothing of ours is lost with it
}

func (s *side) begin(ctx context.Context) error {
	if err := exec(ctx, s.conn, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"); err != nil {
		return err
	}
	rows, err := query(ctx, s.conn, "SELECT system_identifier FROM pg_control_system()")
	if err == nil && len(rows) == 1 {
		s.system = *rows[0][0]
	} else if err := exec(ctx, s.conn, "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"); err != nil {
		return err // who may not ask for it is matched by name
	}
	return s.catalog(ctx)
}

const catalogTables = `SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind,
	c.relkind = 'r' AND EXISTS (SELECT 1 FROM pg_inherits h WHERE h.inhparent = c.oid),
	has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
	(SELECT i.indkey::text FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		AND NOT EXISTS (SELECT 1 FROM generate_series(0, i.indnkeyatts - 1) k JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[k] WHERE NOT a.attnotnull)
		ORDER BY NOT i.indisprimary, i.indnkeyatts, i.indexrelid LIMIT 1),
	(SELECT i.indnkeyatts FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		AND NOT EXISTS (SELECT 1 FROM generate_series(0, i.indnkeyatts - 1) k JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[k] WHERE NOT a.attnotnull)
		ORDER BY NOT i.indisprimary, i.indnkeyatts, i.indexrelid LIMIT 1)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND c.oid >= 16384
	AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%' ORDER BY 1`

const catalogColumns = `SELECT a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', a.attidentity
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2`

// catalog reads what tables there are.
func (s *side) catalog(ctx context.Context) error {
	s.tables, s.byName = map[uint32]*relation{}, map[string]*relation{}
	rows, err := query(ctx, s.conn, catalogTables)
	if err != nil {
		return err
	}
	if len(rows) > maxTables {
		return fmt.Errorf("the database has %d tables, more than %d", len(rows), maxTables)
	}
	for _, r := range rows {
		oid, err := strconv.ParseUint(*r[0], 10, 32)
		if err != nil {
			return err
		}
		t := &relation{oid: uint32(oid), name: *r[1], kind: *r[2], only: *r[3] == "t", readable: *r[4] == "t"}
		if r[5] != nil && r[6] != nil {
			n, _ := strconv.Atoi(*r[6])
			for _, f := range strings.Fields(*r[5])[:n] {
				num, err := strconv.Atoi(f)
				if err != nil {
					return err
				}
				t.key = append(t.key, num)
			}
		}
		s.tables[t.oid], s.byName[t.name] = t, t
	}
	if rows, err = query(ctx, s.conn, catalogColumns); err != nil {
		return err
	}
	for _, r := range rows {
		oid, err := strconv.ParseUint(*r[0], 10, 32)
		if err != nil {
			return err
		}
		num, err := strconv.Atoi(*r[1])
		if err != nil {
			return err
		}
		if t := s.tables[uint32(oid)]; t != nil {
			t.columns = append(t.columns, attribute{num: num, name: *r[2], typ: *r[3], generated: *r[4] == "t", identity: *r[5]})
		}
	}
	return nil
}

// like finds the table that t of another side is here, by its number in the same
// cluster and else by its name.
func (s *side) like(o *side, t *relation) (found *relation, sameNumbers bool) {
	if s.system != "" && s.system == o.system {
		if got := s.tables[t.oid]; got != nil {
			return got, true
		}
	}
	return s.byName[t.name], false
}

// column finds a column of another side's table.
func (t *relation) column(a attribute, sameNumbers bool) (attribute, bool) {
	i := slices.IndexFunc(t.columns, func(c attribute) bool {
		if sameNumbers {
			return c.num == a.num
		}
		return c.name == a.name
	})
	if i < 0 {
		return attribute{}, false
	}
	return t.columns[i], true
}

// from names the table in a query.
func (t *relation) from() string {
	if t.only {
		return "ONLY " + t.name
	}
	return t.name
}

// exec runs statements that return nothing of interest.
func exec(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return plain(err)
}

// query returns all rows of one statement as texts.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]*string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, plain(err)
	}
	var out [][]*string
	for _, r := range results {
		for _, row := range r.Rows {
			vs := make([]*string, len(row))
			for i, v := range row {
				if v != nil {
					text := string(v)
					vs[i] = &text
				}
			}
			out = append(out, vs)
		}
	}
	return out, nil
}

// plain says what the server said, with a way out where there is one.
func plain(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	text := pg.Message
	if pg.Detail != "" {
		text += " (" + pg.Detail + ")"
	}
	out := fmt.Errorf("the server says: %s, SQLSTATE %s", text, pg.Code)
	switch pg.Code {
	case "42501":
		return holdfast.WithHint(out, "connect as a role that may read and write these tables, and that no row security policy hides rows from: --connect")
	case "55P03":
		return holdfast.WithHint(out, "somebody holds a lock on the table; try again when that is over")
	case "23503":
		return holdfast.WithHint(out, "a row that this one points to is not there: bring that back too, or choose tables with --table")
	}
	return out
}

// quote writes a name for SQL.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal writes a value for SQL, with standard_conforming_strings on.
func literal(v *string) string {
	if v == nil {
		return "NULL"
	}
	return "'" + strings.ReplaceAll(*v, "'", "''") + "'"
}
