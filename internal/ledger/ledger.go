// Package ledger is an append-only log of facts that nobody can quietly change,
// not even the person who runs the server.
//
// Each fact is one leaf of a Merkle tree. A [Log.Checkpoint] is a few lines of
// text, the size of the tree and its root hash, signed as a note. Whoever holds
// an old checkpoint can later ask for a proof that today's log still contains
// everything that it stood for. So checkpoints are worth as much as the number of
// places out of our reach in which they lie; package ledger makes and checks
// them, its caller carries them away.
//
// # Invariants
//
//   - A fact is appended in the transaction that makes it true: both or neither.
//   - Indexes have no gaps. Appends stand in line on one row, also when several
//     servers share a PostgreSQL database.
//   - A leaf is the exact bytes that were stored. They are never parsed and
//     written again to compute a hash.
//   - Append, Checkpoint and the proofs read a logarithmic number of hashes.
//   - Nothing is appended to a log that is older than a checkpoint of its own
//     that was shown to it ([Log.Extends]): the second life of a log restored
//     from a backup would contradict the first.
//
// # What it does not do
//
// It does not know whether a fact is true. It does not keep what may have to be
// erased: a leaf is for ever, so a caller puts a salted digest of personal data
// into it and the data elsewhere. And between the newest checkpoint that somebody
// else holds and the end of the log, it proves nothing against its own operator.
//
// The format is described in docs/format/ledger.md.
package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/internal/db"
)

// Limits.
const (
	MaxLeaf    = 1 << 20 // longest leaf, in bytes
	MaxText    = 512     // longest type, subject, actor or plan digest, in bytes
	MaxFacts   = 10_000  // most facts of one call of Facts or Find
	MaxOrigin  = 255     // longest origin, in bytes
	MaxNote    = 16 << 10
	maxRefill  = 1_000_000 // most leaves that one Refill brings back
	leafFormat = 1
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables returns the tables of the ledger, for db.Migrate.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return db.Module{Name: "ledger", Migrations: sub}
}

// A Fact is something that happened, or that was expected to.
type Fact struct {
	Index   int64           // given by Append
	Type    string          // such as "drill.finished"
	Subject string          // what it is about, such as "stores.db"
	Actor   string          // who or what did it
	At      time.Time       // when it happened; decides the period to which it belongs
	Logged  time.Time       // when it was appended, by the server's clock; given by Append
	Plan    string          // digest of the plan in force at that time
	Data    json.RawMessage // the rest, by type; empty means null
}

// A Leaf is a fact as it is stored and hashed.
type Leaf struct {
	Index int64
	Bytes []byte
}

// Fact decodes the leaf.
func (l Leaf) Fact() (Fact, error) { return ParseLeaf(l.Bytes) }

// leafJSON is the stored form. Its field order is part of no promise: a leaf is
// hashed as it stands, whoever wrote it.
type leafJSON struct {
	Format  int             `json:"holdfast_fact"`
	Index   int64           `json:"index"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Actor   string          `json:"actor"`
	At      time.Time       `json:"at"`
	Logged  time.Time       `json:"logged"`
	Plan    string          `json:"plan"`
	Data    json.RawMessage `json:"data"`
}

// ParseLeaf decodes a leaf.
func ParseLeaf(b []byte) (Fact, error) {
	if len(b) > MaxLeaf {
		return Fact{}, fmt.Errorf("leaf: %d bytes, at most %d", len(b), MaxLeaf)
	}
	var l leafJSON
	if err := json.Unmarshal(b, &l); err != nil {
		return Fact{}, fmt.Errorf("leaf: %w", err)
	}
	if l.Format != leafFormat {
		return Fact{}, fmt.Errorf("leaf: format %d is not known", l.Format)
	}
	return Fact{l.Index, l.Type, l.Subject, l.Actor, l.At, l.Logged, l.Plan, l.Data}, nil
}

// leaf encodes f. The result is one line.
func (f Fact) leaf() ([]byte, error) {
	if f.Type == "" {
		return nil, errors.New("fact: no type")
	}
	if f.At.IsZero() {
		return nil, fmt.Errorf("fact %q: no time of the event", f.Type)
	}
	for what, s := range map[string]string{"type": f.Type, "subject": f.Subject, "actor": f.Actor, "plan": f.Plan} {
		if len(s) > MaxText || !utf8.ValidString(s) {
			return nil, fmt.Errorf("fact %q: %s: want at most %d bytes of UTF-8", f.Type, what, MaxText)
		}
	}
	if len(f.Data) == 0 {
		f.Data = json.RawMessage("null")
	}
	if len(f.Data) > MaxLeaf || !utf8.Valid(f.Data) {
		return nil, fmt.Errorf("fact %q: data: want at most %d bytes of UTF-8", f.Type, MaxLeaf)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(leafJSON{leafFormat, f.Index, f.Type, f.Subject, f.Actor, micros(f.At), micros(f.Logged), f.Plan, f.Data})
	if err != nil {
		return nil, fmt.Errorf("fact %q: %w", f.Type, err)
	}
	leaf := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if len(leaf) > MaxLeaf {
		return nil, fmt.Errorf("fact %q: %d bytes, at most %d", f.Type, len(leaf), MaxLeaf)
	}
	return leaf, nil
}

// micros is t as the database keeps it, so that a fact reads the same before and after.
func micros(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Config says which log this is.
type Config struct {
	Origin string           // the name of the log, for ever, such as "example.com/holdfast"
	Signer note.Signer      // signs checkpoints
	Clock  func() time.Time // time.Now if nil
}

// A Log is the log in a database. It may be used by any number of goroutines, and
// by several servers on one database.
type Log struct {
	db     *db.DB
	origin string
	signer note.Signer
	clock  func() time.Time
}

// Open returns the log in d, which has the tables of [Tables]. It reads nothing yet.
func Open(d *db.DB, c Config) (*Log, error) {
	if err := checkOrigin(c.Origin); err != nil {
		return nil, err
	}
	if c.Signer == nil {
		return nil, errors.New("ledger: no signer for checkpoints")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Log{d, c.Origin, c.Signer, c.Clock}, nil
}

// Origin returns the name of the log.
func (l *Log) Origin() string { return l.origin }

// Append adds f in the caller's transaction and returns its index.
//
// The fact and what it tells of commit together: a crash before the commit leaves
// neither, and the index is given to the next fact. After an error the caller must
// not commit. From Append to the end of the transaction other appends wait or run
// again, so a caller appends last.
//
// The error wraps [ErrRefused] while the log does not extend its anchors.
func (l *Log) Append(ctx context.Context, tx *db.Tx, f Fact) (int64, error) {
	f.Index, f.Logged = 0, l.clock()
	if _, err := f.leaf(); err != nil {
		return 0, err // before anything was written
	}
	index, err := l.next(ctx, tx)
	if err != nil {
		return 0, fmt.Errorf("append %q: %w", f.Type, err)
	}
	f.Index = index
	leaf, err := f.leaf()
	if err != nil {
		return 0, err
	}
	if err := insert(ctx, tx, f, leaf); err != nil {
		return 0, fmt.Errorf("append %q at %d: %w", f.Type, index, err)
	}
	return index, nil
}

// next takes the next index, and with it the place in the line of writers.
func (l *Log) next(ctx context.Context, tx *db.Tx) (int64, error) {
	if err := l.ensureHead(ctx, tx); err != nil {
		return 0, err
	}
	var index int64
	err := tx.QueryRow(ctx, `UPDATE ledger_head SET size = size + 1 WHERE id = 1 AND origin = ? AND refused = '' RETURNING size - 1`,
		l.origin).Scan(&index)
	if errors.Is(err, sql.ErrNoRows) {
		h, err := l.head(ctx, tx)
		if err != nil {
			return 0, err
		}
		return 0, &RefusedError{Size: h.size, Reason: h.refused}
	}
	return index, err
}

func (l *Log) ensureHead(ctx context.Context, tx *db.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO ledger_head (id, origin, size) SELECT 1, CAST(? AS TEXT), 0
		WHERE NOT EXISTS (SELECT 1 FROM ledger_head WHERE id = 1) ON CONFLICT (id) DO NOTHING`, l.origin)
	return err
}

// insert stores a leaf and the hashes of the subtrees that it completes. Level 0
// is the leaf itself; the number of further ones is logarithmic, two on average.
func insert(ctx context.Context, tx *db.Tx, f Fact, leaf []byte) error {
	hashes, err := tlog.StoredHashes(f.Index, leaf, hashReader(ctx, tx))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO ledger_leaf (idx, type, subject, at, bytes) VALUES (?, ?, ?, ?, ?)`,
		f.Index, f.Type, f.Subject, db.Micros(f.At), leaf); err != nil {
		return err
	}
	for level, h := range hashes {
		id := tlog.StoredHashIndex(level, f.Index>>level)
		if _, err := tx.Exec(ctx, `INSERT INTO ledger_hash (id, level, hash) VALUES (?, ?, ?)`, id, level, h[:]); err != nil {
			return err
		}
	}
	return nil
}

type head struct {
	size             int64
	refused, lacking string
}

// head reads the one row. A log to which nothing was ever appended has size 0.
func (l *Log) head(ctx context.Context, tx *db.Tx) (head, error) {
	var h head
	var origin string
	err := tx.QueryRow(ctx, `SELECT origin, size, refused, lacking FROM ledger_head WHERE id = 1`).
		Scan(&origin, &h.size, &h.refused, &h.lacking)
	if errors.Is(err, sql.ErrNoRows) {
		return head{}, nil
	}
	if err != nil {
		return head{}, err
	}
	if origin != l.origin {
		return head{}, fmt.Errorf("ledger: this is the log %q, not %q", origin, l.origin)
	}
	return h, nil
}

// hashReader reads stored hashes in one statement.
func hashReader(ctx context.Context, tx *db.Tx) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(indexes) == 0 {
			return nil, nil
		}
		args := make([]any, len(indexes))
		for i, n := range indexes {
			args[i] = n
		}
		type stored struct {
			id   int64
			hash []byte
		}
		rows, err := db.Collect(func(r *sql.Rows) (s stored, err error) { return s, r.Scan(&s.id, &s.hash) })(
			tx.Query(ctx, `SELECT id, hash FROM ledger_hash WHERE id IN (?`+strings.Repeat(", ?", len(indexes)-1)+`)`, args...))
		if err != nil {
			return nil, err
		}
		byID := make(map[int64][]byte, len(rows))
		for _, s := range rows {
			byID[s.id] = s.hash
		}
		hashes := make([]tlog.Hash, len(indexes))
		for i, id := range indexes {
			if len(byID[id]) != tlog.HashSize {
				level, n := tlog.SplitStoredHashIndex(id)
				return nil, &DamageError{Kind: ErrRemoved, Index: n << level, Detail: "its stored hash is missing"}
			}
			hashes[i] = tlog.Hash(byID[id])
		}
		return hashes, nil
	})
}
