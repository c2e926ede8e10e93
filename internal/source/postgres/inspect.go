package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// An Inspection is what a server says of itself: what a plan can be compared with.
type Inspection struct {
	Major  string // "15"
	Schema string // digest of the tables, columns and their types in the database of the connection
	Bytes  int64  // of the databases that the role may look at
	// Databases are all of the server but its templates.
	Databases []Database
}

// A Database is one of a server.
type Database struct {
	Name  string
	Bytes int64 // 0 if the role may not know
}

// maxDatabases bounds what is listed.
const maxDatabases = 10000

// inspection is, in one statement: the server's version, the digest of the structure of
// this database, and the databases. The catalogue is readable by every role; the size of
// a database only by one that may connect to it.
const inspection = `SELECT json_build_object(
	'version', current_setting('server_version_num'),
	'schema', (SELECT md5(coalesce(string_agg(n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull, ',' ORDER BY n.nspname, c.relname, a.attnum), ''))
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'),
	'databases', (SELECT coalesce(json_agg(json_build_object('Name', datname, 'Bytes', CASE WHEN has_database_privilege(datname, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END) ORDER BY datname), '[]')
		FROM (SELECT oid, datname FROM pg_database WHERE NOT datistemplate LIMIT 10000) d))` // maxDatabases

// Inspect asks the server what it is. It needs a connection to the database of the
// connection string, which log shipping alone does not.
func (s *Source) Inspect(ctx context.Context) (Inspection, error) {
	var got struct {
		Version, Schema string
		Databases       []Database
	}
	if err := s.queryJSON(ctx, inspection, &got); err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	n, err := strconv.Atoi(got.Version)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect: server version %q is no number", got.Version)
	}
	out := Inspection{Major: strconv.Itoa(n / 10000), Schema: got.Schema, Databases: got.Databases[:min(len(got.Databases), maxDatabases)]}
	for _, d := range out.Databases {
		out.Bytes += d.Bytes
	}
	return out, nil
}

// Serves says which database of which server a connection string means: "host:port" and
// the name. A host that is a path is the folder of a socket.
func Serves(dsn string) (server, database string, err error) {
	c, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", "", err
	}
	database = c.Database
	if database == "" {
		database = c.User
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port), database, nil
}
