package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast/internal/db"
)

// Size returns the number of facts.
func (l *Log) Size(ctx context.Context) (size int64, err error) {
	err = l.within(ctx, 0, func(_ *db.Tx, n int64) error {
		size = n
		return nil
	})
	return size, err
}

// Facts returns the leaves with indexes from, inclusive, to to, exclusive; at
// most MaxFacts. A leaf that is not there is an error, never a shorter list.
func (l *Log) Facts(ctx context.Context, from, to int64) (leaves []Leaf, err error) {
	if from < 0 || from > to || to-from > MaxFacts {
		return nil, fmt.Errorf("facts %d to %d: want at most %d in order", from, to, MaxFacts)
	}
	err = l.within(ctx, to, func(tx *db.Tx, _ int64) error {
		leaves, err = db.Collect(scanLeaf)(
			tx.Query(ctx, `SELECT idx, bytes FROM ledger_leaf WHERE idx >= ? AND idx < ? ORDER BY idx`, from, to))
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			if i-from >= int64(len(leaves)) || leaves[i-from].Index != i {
				return &DamageError{ErrRemoved, i, ""}
			}
		}
		return nil
	})
	return leaves, err
}

func scanLeaf(r *sql.Rows) (l Leaf, err error) { return l, r.Scan(&l.Index, &l.Bytes) }

// A Query selects facts. Zero fields select everything.
type Query struct {
	Type    string    // exact, or a prefix that ends in "*"
	Subject string    // exact
	From    time.Time // event time, inclusive
	To      time.Time // event time, exclusive
	Limit   int       // at most this many; 0 means MaxFacts
	Newest  bool      // newest first by index; otherwise oldest first
}

// Find returns facts in the order of their indexes. It is for people and screens:
// it does not prove that nothing is missing, Facts and a checkpoint do.
func (l *Log) Find(ctx context.Context, q Query) (facts []Fact, err error) {
	err = l.db.View(ctx, func(tx *db.Tx) error {
		facts, err = l.FindTx(ctx, tx, q)
		return err
	})
	return facts, err
}

// FindTx is Find in the caller's transaction.
func (l *Log) FindTx(ctx context.Context, tx *db.Tx, q Query) ([]Fact, error) {
	var where []string
	var args []any
	add := func(cond string, arg any) {
		where, args = append(where, cond), append(args, arg)
	}
	if prefix, ok := strings.CutSuffix(q.Type, "*"); ok {
		// Not LIKE: it ignores case on SQLite, and "_" is no wildcard here.
		add("substr(type, 1, CAST(? AS INTEGER)) = ?", len([]rune(prefix)))
		args = append(args, prefix)
	} else if q.Type != "" {
		add("type = ?", q.Type)
	}
	if q.Subject != "" {
		add("subject = ?", q.Subject)
	}
	if !q.From.IsZero() {
		add("at >= ?", db.Micros(q.From))
	}
	if !q.To.IsZero() {
		add("at < ?", db.Micros(q.To))
	}
	text := `SELECT idx, bytes FROM ledger_leaf`
	if len(where) > 0 {
		text += ` WHERE ` + strings.Join(where, ` AND `)
	}
	text += ` ORDER BY idx`
	if q.Newest {
		text += ` DESC`
	}
	limit := q.Limit
	if limit <= 0 || limit > MaxFacts {
		limit = MaxFacts
	}
	leaves, err := db.Collect(scanLeaf)(tx.Query(ctx, text+` LIMIT ?`, append(args, limit)...))
	if err != nil {
		return nil, fmt.Errorf("find facts: %w", err)
	}
	facts := make([]Fact, len(leaves))
	for i, leaf := range leaves {
		if facts[i], err = leaf.Fact(); err != nil {
			return nil, fmt.Errorf("fact %d: %w", leaf.Index, err)
		}
	}
	return facts, nil
}

// LeafHashes returns the hashes of the first n facts: all that somebody needs,
// who holds only the later facts, to compute the root himself.
func (l *Log) LeafHashes(ctx context.Context, n int64) (hashes []tlog.Hash, err error) {
	err = l.within(ctx, n, func(tx *db.Tx, _ int64) error {
		hashes, err = db.Collect(func(r *sql.Rows) (tlog.Hash, error) {
			var b []byte
			if err := r.Scan(&b); err != nil {
				return tlog.Hash{}, err
			}
			if len(b) != tlog.HashSize {
				return tlog.Hash{}, fmt.Errorf("a stored hash has %d bytes: %w", len(b), ErrChanged)
			}
			return tlog.Hash(b), nil
		})(tx.Query(ctx, `SELECT hash FROM ledger_hash WHERE level = 0 AND id < ? ORDER BY id`, tlog.StoredHashIndex(0, n)))
		if err == nil && int64(len(hashes)) != n {
			err = &DamageError{ErrRemoved, -1, fmt.Sprintf("%d stored hashes of %d facts", len(hashes), n)}
		}
		return err
	})
	return hashes, err
}

// Verify reads the whole log and recomputes it from the stored bytes: every leaf
// is there, has its own index and gives its stored hash, and all together give
// the roots of all stored checkpoints. It returns the first damage. It takes time
// in proportion to the log, and sees the log as it is when it starts.
func (l *Log) Verify(ctx context.Context) error {
	return l.within(ctx, 0, func(tx *db.Tx, size int64) error {
		roots := map[int64]Tree{}
		checkpoints, err := db.Collect(func(r *sql.Rows) (s string, err error) { return s, r.Scan(&s) })(
			tx.Query(ctx, `SELECT signed FROM ledger_checkpoint`))
		if err != nil {
			return err
		}
		for _, s := range checkpoints {
			t, err := storedTree(s)
			if err != nil {
				return err
			}
			if t.Size > size {
				return &DamageError{ErrTruncated, size, fmt.Sprintf("a stored checkpoint has %d facts", t.Size)}
			}
			roots[t.Size] = t
		}
		var r rootBuilder
		for r.n < size {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := verifyPage(ctx, tx, &r, roots, size); err != nil {
				return err
			}
		}
		// One leaf more than the head knows was put there by somebody else.
		var more int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM ledger_leaf WHERE idx >= ? OR idx < 0`, size).Scan(&more); err != nil {
			return err
		}
		if more > 0 {
			return &DamageError{ErrChanged, size, "there are facts beyond the end of the log"}
		}
		tree, err := l.tree(ctx, tx, size)
		if err != nil {
			return err
		}
		if tree.Root != r.root() {
			return &DamageError{ErrChanged, -1, "the stored hashes do not give the root of the facts"}
		}
		return nil
	})
}

const verifyPageSize = 1000

func verifyPage(ctx context.Context, tx *db.Tx, r *rootBuilder, roots map[int64]Tree, size int64) error {
	from := r.n
	to := min(from+verifyPageSize, size)
	leaves, err := db.Collect(scanLeaf)(tx.Query(ctx,
		`SELECT idx, bytes FROM ledger_leaf WHERE idx >= ? AND idx < ? ORDER BY idx`, from, to))
	if err != nil {
		return err
	}
	hashes, err := db.Collect(func(rows *sql.Rows) (b []byte, err error) { return b, rows.Scan(&b) })(tx.Query(ctx,
		`SELECT hash FROM ledger_hash WHERE level = 0 AND id >= ? AND id < ? ORDER BY id`,
		tlog.StoredHashIndex(0, from), tlog.StoredHashIndex(0, to)))
	if err != nil {
		return err
	}
	for i := from; i < to; i++ {
		n := i - from
		if n >= int64(len(leaves)) || leaves[n].Index != i {
			return &DamageError{ErrRemoved, i, ""}
		}
		h := tlog.RecordHash(leaves[n].Bytes)
		if n >= int64(len(hashes)) || string(hashes[n]) != string(h[:]) {
			return &DamageError{ErrChanged, i, "its bytes do not give its stored hash"}
		}
		if f, err := leaves[n].Fact(); err != nil || f.Index != i {
			return &DamageError{ErrReordered, i, "it says that it is another"}
		}
		if t, ok := roots[i]; ok && t.Root != r.root() {
			return &DamageError{ErrFork, -1, fmt.Sprintf("the first %d facts are not those of the checkpoint", i)}
		}
		r.add(h)
	}
	if t, ok := roots[to]; ok && t.Root != r.root() {
		return &DamageError{ErrFork, -1, fmt.Sprintf("the first %d facts are not those of the checkpoint", to)}
	}
	return nil
}

// Refused returns why the log refuses new facts, or nil if it does not.
func (l *Log) Refused(ctx context.Context) error {
	return l.db.View(ctx, func(tx *db.Tx) error {
		h, err := l.head(ctx, tx)
		if err == nil && h.refused != "" {
			err = &RefusedError{h.size, h.refused}
		}
		return err
	})
}
