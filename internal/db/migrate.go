package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"holdfast"
)

// A Module owns some tables and brings their migrations: goose SQL files
// ("00001_jobs.sql" with "-- +goose Up") at the root of Migrations. Each module
// counts its versions for itself, in the table goose_<name>.
type Module struct {
	Name       string
	Migrations fs.FS
}

var moduleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

// Migrate brings the tables of the modules up to date, each migration in its own
// transaction. If the state is ahead of any module it changes nothing and returns
// an error that wraps [ErrNewer].
//
// A crash in between leaves some migrations done and the others not; the next
// call goes on. On PostgreSQL an advisory lock lets one server migrate at a time.
func (d *DB) Migrate(ctx context.Context, modules ...Module) error {
	d.migrating.Lock()
	defer d.migrating.Unlock()
	if d.dialect == Postgres {
		unlock, err := d.lockMigrations(ctx)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		defer unlock()
	}
	providers := make([]*goose.Provider, len(modules))
	for i, m := range modules {
		p, err := d.provider(m)
		if err != nil {
			return fmt.Errorf("migrate %s: %w", m.Name, err)
		}
		current, target, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("migrate %s: %w", m.Name, err)
		}
		if current > target {
			return holdfast.WithHint(fmt.Errorf("migrate %s: state has version %d, this holdfast knows %d: %w", m.Name, current, target, ErrNewer),
				"run the newer holdfast, or restore the state that this one wrote")
		}
		providers[i] = p
	}
	for i, p := range providers {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("migrate %s: %w", modules[i].Name, err)
		}
	}
	return nil
}

// migrationLock is the key of the advisory lock; it means nothing but is ours.
const migrationLock = 0x486f6c6466617374

// lockMigrations waits for the lock on a connection of its own. If the process
// dies, the server frees the lock with the connection.
func (d *DB) lockMigrations(ctx context.Context) (unlock func(), err error) {
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		conn.Close()
		return nil, err
	}
	return func() {
		// Without the unlock the connection would take the lock back to the
		// pool; if it fails, the connection is broken and the lock is gone.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(migrationLock))
		conn.Close()
	}, nil
}

func (d *DB) provider(m Module) (*goose.Provider, error) {
	if !moduleName.MatchString(m.Name) {
		return nil, fmt.Errorf("module name %q: lower-case letters, digits and underscores only", m.Name)
	}
	dialect := database.DialectSQLite3
	if d.dialect == Postgres {
		dialect = database.DialectPostgres
	}
	store, err := database.NewStore(dialect, "goose_"+m.Name)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider("", d.write, portableFS{m.Migrations, d.dialect},
		goose.WithStore(store), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

// portableFS shows migrations in the dialect's own text.
type portableFS struct {
	fs.FS
	dialect string
}

// maxMigration bounds one migration file.
const maxMigration = 1 << 20

func (p portableFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err != nil || path.Ext(name) != ".sql" {
		return f, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxMigration+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxMigration {
		return nil, fmt.Errorf("migration %q is larger than %d bytes", name, maxMigration)
	}
	return &textFile{Reader: bytes.NewReader([]byte(migrationText(p.dialect, string(text)))), fsys: p.FS, name: name}, nil
}

type textFile struct {
	*bytes.Reader
	fsys fs.FS
	name string
}

func (f *textFile) Stat() (fs.FileInfo, error) { return fs.Stat(f.fsys, f.name) }
func (f *textFile) Close() error               { return nil }
