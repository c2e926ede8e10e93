package db_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
)

// Only one process takes a state, the refusal names the other one, and a session that
// ends, however it ends, lets go.
func TestHold(t *testing.T) {
	ctx := t.Context()
	dsn := dbtest.Postgres(t)
	open := func() *db.DB {
		d, err := db.Open(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	one, two := open(), open()
	first, err := one.Hold(ctx, "host-a:/srv/acme")
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.Hold(ctx, "host-b:/srv/copy")
	if !errors.Is(err, db.ErrHeld) || !strings.Contains(err.Error(), `"host-a:/srv/acme"`) || holdfast.Hint(err) == "" {
		t.Errorf("a second hold: %v, want a refusal that names the first, with a hint", err)
	}
	first.Release()
	first.Release()
	second, err := two.Hold(ctx, "host-b:/srv/copy")
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	defer second.Release()

	// The session is cut and the lock taken by another before it is back.
	thief, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close(context.WithoutCancel(ctx))
	const key = 0x686f6c6466617374
	if _, err := thief.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast: host-b%'"); err != nil {
		t.Fatal(err)
	}
	if _, err := thief.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(key)); err != nil {
		t.Fatal(err)
	}
	<-second.Lost()
}
