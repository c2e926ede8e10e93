package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"holdfast"
)

// invariantTimeout is how long the server lets one invariant run.
const invariantTimeout = 5 * time.Minute

// maxInvariant bounds a text value.
const maxInvariant = 1 << 20

// Invariant runs one statement that returns one value, in a read-only transaction.
// The value is nil, bool, int64, float64, string or time.Time.
func Invariant(ctx context.Context, connString, sql string) (any, error) {
	v, err := invariant(ctx, connString, sql)
	if err != nil {
		return nil, fmt.Errorf("invariant: %w", err)
	}
	return v, nil
}

func invariant(ctx context.Context, connString, sql string) (any, error) {
	cfg, err := pgx.ParseConfig(connString)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["statement_timeout"] = strconv.FormatInt(invariantTimeout.Milliseconds(), 10)
	cfg.RuntimeParams["application_name"] = "holdfast invariant"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, plainConnectError(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing to keep

	// The extended protocol takes a single statement, so none can leave the
	// read-only transaction and go on behind it.
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	wantOne := func(got string) error {
		return holdfast.WithHint(fmt.Errorf("it returned %s", got), "write a statement that returns one row with one column")
	}
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, wantOne("no row")
	}
	values, err := rows.Values()
	if err != nil {
		return nil, err
	}
	if len(values) != 1 {
		return nil, wantOne(fmt.Sprintf("%d columns", len(values)))
	}
	if rows.Next() {
		return nil, wantOne("more than one row")
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return plainValue(values[0])
}

// plainValue turns what the driver returns into the few types that conditions know.
func plainValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64, time.Time:
		return v, nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case string:
		if len(v) > maxInvariant {
			return nil, fmt.Errorf("its value has %d bytes, more than %d", len(v), maxInvariant)
		}
		return v, nil
	case pgtype.Numeric:
		return plainNumeric(v)
	case fmt.Stringer:
		return v.String(), nil
	case [16]byte: // uuid
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[0:4], v[4:6], v[6:8], v[8:10], v[10:16]), nil
	default:
		return nil, holdfast.WithHint(fmt.Errorf("its value has a type that cannot be compared (%T)", v), "cast it, for example to text")
	}
}

// plainNumeric keeps whole numbers whole: a count that became a float would compare
// wrongly beyond 2^53.
func plainNumeric(n pgtype.Numeric) (any, error) {
	if !n.Valid {
		return nil, nil
	}
	if n.NaN || n.InfinityModifier != pgtype.Finite || n.Int == nil {
		return nil, errors.New("its value is not a finite number")
	}
	if n.Exp >= 0 && n.Exp < 19 {
		whole := new(big.Int).Mul(n.Int, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n.Exp)), nil))
		if whole.IsInt64() {
			return whole.Int64(), nil
		}
	}
	f, err := n.Float64Value()
	if err != nil {
		return nil, err
	}
	return f.Float64, nil
}
