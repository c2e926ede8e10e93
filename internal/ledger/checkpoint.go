package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast/internal/db"
)

// A RefusedError says why nothing may be appended. It wraps [ErrRefused].
type RefusedError struct {
	Size   int64 // facts in the log
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: it has %d and %s", ErrRefused, e.Size, e.Reason)
}

// Unwrap returns ErrRefused.
func (e *RefusedError) Unwrap() error { return ErrRefused }

// Checkpoint signs the present size and root. At the same size it returns the
// same bytes again. Before it signs it checks that the tree still contains the
// last checkpoint that it stored, so a server does not sign a log that was
// tampered with below it.
//
// The note is returned only after it is stored. A crash before that leaves a
// signature that nobody has seen.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) {
	var tree Tree
	var last string
	err := l.db.View(ctx, func(tx *db.Tx) error {
		h, err := l.head(ctx, tx)
		if err != nil {
			return err
		}
		if tree, err = l.tree(ctx, tx, h.size); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT signed FROM ledger_checkpoint ORDER BY size DESC LIMIT 1`).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return l.extendsStored(ctx, tx, tree, last)
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if n, err := storedTree(last); err == nil && n == tree {
		return []byte(last), nil
	}
	signed, err := note.Sign(&note.Note{Text: tree.String()}, l.signer)
	if err != nil {
		return nil, fmt.Errorf("checkpoint at %d: %w", tree.Size, err)
	}
	err = l.db.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO ledger_checkpoint (size, signed, at) VALUES (?, ?, ?) ON CONFLICT (size) DO NOTHING`,
			tree.Size, string(signed), db.Micros(l.clock())); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT signed FROM ledger_checkpoint WHERE size = ?`, tree.Size).Scan(&last)
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint at %d: %w", tree.Size, err)
	}
	return []byte(last), nil
}

// storedTree reads a checkpoint of our own without its signature: the database
// that keeps it keeps the hashes as well.
func storedTree(signed string) (Tree, error) {
	text, _, ok := cutNote(signed)
	if !ok {
		return Tree{}, ErrNote
	}
	return ParseTree(text)
}

// cutNote separates the text of a note from its signatures.
func cutNote(signed string) (text, signatures string, ok bool) {
	for i := len(signed) - 2; i >= 0; i-- {
		if signed[i] == '\n' && signed[i+1] == '\n' {
			return signed[:i+1], signed[i+2:], true
		}
	}
	return "", "", false
}

func (l *Log) extendsStored(ctx context.Context, tx *db.Tx, tree Tree, last string) error {
	old, err := storedTree(last)
	if err != nil {
		return err
	}
	if old.Size > tree.Size {
		return &DamageError{ErrTruncated, tree.Size, fmt.Sprintf("the last checkpoint had %d facts", old.Size)}
	}
	now, err := l.tree(ctx, tx, old.Size)
	if err != nil {
		return err
	}
	if now != old {
		return &DamageError{ErrFork, -1, fmt.Sprintf("the first %d facts are not those of the last checkpoint", old.Size)}
	}
	return nil
}

// Checkpoints returns the newest stored checkpoints, newest first.
func (l *Log) Checkpoints(ctx context.Context, limit int) ([][]byte, error) {
	if limit <= 0 || limit > MaxFacts {
		return nil, fmt.Errorf("checkpoints: limit %d: want 1 to %d", limit, MaxFacts)
	}
	var all [][]byte
	err := l.db.View(ctx, func(tx *db.Tx) (err error) {
		all, err = db.Collect(func(r *sql.Rows) ([]byte, error) {
			var s string
			err := r.Scan(&s)
			return []byte(s), err
		})(tx.Query(ctx, `SELECT signed FROM ledger_checkpoint ORDER BY size DESC LIMIT ?`, limit))
		return err
	})
	return all, err
}

// tree returns what a checkpoint at size n says. It reads O(log n) hashes.
func (l *Log) tree(ctx context.Context, tx *db.Tx, n int64) (Tree, error) {
	root, err := tlog.TreeHash(n, hashReader(ctx, tx))
	if err != nil {
		return Tree{}, err
	}
	return Tree{l.origin, n, root}, nil
}

// Tree returns what a checkpoint at size n says, unsigned.
func (l *Log) Tree(ctx context.Context, n int64) (tree Tree, err error) {
	err = l.within(ctx, n, func(tx *db.Tx, _ int64) error {
		tree, err = l.tree(ctx, tx, n)
		return err
	})
	return tree, err
}

// within runs fn in a view of a log that has at least n facts.
func (l *Log) within(ctx context.Context, n int64, fn func(tx *db.Tx, size int64) error) error {
	return l.db.View(ctx, func(tx *db.Tx) error {
		h, err := l.head(ctx, tx)
		if err != nil {
			return err
		}
		if n < 0 || n > h.size {
			return &DamageError{ErrTruncated, h.size, fmt.Sprintf("%d facts asked for, the log has %d", n, h.size)}
		}
		return fn(tx, h.size)
	})
}

// Consistency proves that the tree of size newer contains the tree of size older.
func (l *Log) Consistency(ctx context.Context, older, newer int64) (proof tlog.TreeProof, err error) {
	if older <= 0 || older > newer {
		return nil, fmt.Errorf("consistency from %d to %d: want 1 to %d", older, newer, newer)
	}
	err = l.within(ctx, newer, func(tx *db.Tx, _ int64) error {
		proof, err = tlog.ProveTree(newer, older, hashReader(ctx, tx))
		return err
	})
	return proof, err
}

// Inclusion proves that the fact at index is in the tree of the given size.
func (l *Log) Inclusion(ctx context.Context, index, size int64) (proof tlog.RecordProof, err error) {
	if index < 0 || index >= size {
		return nil, fmt.Errorf("inclusion of %d in %d: not in the tree", index, size)
	}
	err = l.within(ctx, size, func(tx *db.Tx, _ int64) error {
		proof, err = tlog.ProveRecord(size, index, hashReader(ctx, tx))
		return err
	})
	return proof, err
}

// Extends checks that the log contains everything that an anchored checkpoint
// stands for. The caller shows it the newest anchor of every location when the
// server starts, before anything is appended.
//
// If the log is shorter (it was restored from a backup) or has another history,
// then from now on, on every server, it refuses to append: what it would write
// next would be a second history. The way back is [Log.Refill] with the facts
// that are missing, or, if they are lost for good, [Log.AcceptLoss] by a person.
// A successful Extends with the same or a later anchor also ends the refusal.
//
// The error wraps ErrTruncated, ErrFork or ErrNote.
func (l *Log) Extends(ctx context.Context, anchored []byte, v note.Verifier) error {
	anchor, err := OpenCheckpoint(anchored, l.origin, v)
	if err != nil {
		return fmt.Errorf("anchor: %w", err) // somebody else's text must not stop the log
	}
	var verdict error
	err = l.db.Tx(ctx, func(tx *db.Tx) error {
		if err := l.ensureHead(ctx, tx); err != nil {
			return err
		}
		h, err := l.head(ctx, tx)
		if err != nil {
			return err
		}
		if verdict, err = l.lacks(ctx, tx, h, anchor); err != nil {
			return err
		}
		switch {
		case verdict != nil:
			_, err = tx.Exec(ctx, `UPDATE ledger_head SET refused = ?, lacking = ? WHERE id = 1`,
				fmt.Sprintf("an anchored checkpoint has %d: %v", anchor.Size, errors.Unwrap(verdict)), anchor.String())
		case h.refused != "":
			// This anchor is fine. The one that stopped the log may be by now.
			err = l.relent(ctx, tx, h)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("anchor at %d: %w", anchor.Size, err)
	}
	return verdict
}

// lacks says in what way the log does not contain a tree of its own past; nil if it does.
func (l *Log) lacks(ctx context.Context, tx *db.Tx, h head, anchor Tree) (verdict, err error) {
	if anchor.Size <= h.size {
		now, err := l.tree(ctx, tx, anchor.Size)
		if err != nil {
			return nil, err
		}
		if now == anchor {
			return nil, nil
		}
		verdict = &DamageError{ErrFork, -1, fmt.Sprintf("two roots at size %d", anchor.Size)}
	} else {
		verdict = &DamageError{ErrTruncated, h.size, fmt.Sprintf("an anchored checkpoint has %d facts, the log %d", anchor.Size, h.size)}
	}
	// A loss that was accepted stays in the record and does not stop the log again.
	var accepted int
	err = tx.QueryRow(ctx, `SELECT count(*) FROM ledger_loss WHERE kept < ? AND lost >= ?`, anchor.Size, anchor.Size).Scan(&accepted)
	if err != nil || accepted > 0 {
		return nil, err
	}
	return verdict, nil
}

// relent ends a refusal if its reason is gone.
func (l *Log) relent(ctx context.Context, tx *db.Tx, h head) error {
	lacking, err := ParseTree(h.lacking)
	if err != nil {
		return err
	}
	if verdict, err := l.lacks(ctx, tx, h, lacking); verdict != nil || err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE ledger_head SET refused = '', lacking = '' WHERE id = 1`)
	return err
}

// Refill brings back the facts between the end of a log restored from a backup
// and an anchored checkpoint, byte for byte, for example from an evidence pack.
// All of them together must give the anchored root, or nothing is stored.
func (l *Log) Refill(ctx context.Context, anchored []byte, v note.Verifier, leaves []Leaf) error {
	anchor, err := OpenCheckpoint(anchored, l.origin, v)
	if err != nil {
		return fmt.Errorf("refill: %w", err)
	}
	if len(leaves) > maxRefill {
		return fmt.Errorf("refill: %d facts, at most %d at once", len(leaves), maxRefill)
	}
	return l.db.Tx(ctx, func(tx *db.Tx) error {
		if err := l.ensureHead(ctx, tx); err != nil {
			return err
		}
		h, err := l.head(ctx, tx)
		if err != nil {
			return err
		}
		for _, leaf := range leaves {
			if leaf.Index < h.size {
				continue // there already; the root at the end tells whether it is the same
			}
			f, err := leaf.Fact()
			if err != nil {
				return fmt.Errorf("refill: %w", err)
			}
			if leaf.Index != h.size || f.Index != h.size {
				return fmt.Errorf("refill: %w", &DamageError{ErrRemoved, h.size, ""})
			}
			if err := insert(ctx, tx, f, leaf.Bytes); err != nil {
				return fmt.Errorf("refill %d: %w", f.Index, err)
			}
			h.size++
		}
		// The stored size first: relent and lacks read the tree up to it.
		if _, err := tx.Exec(ctx, `UPDATE ledger_head SET size = ? WHERE id = 1`, h.size); err != nil {
			return err
		}
		verdict, err := l.lacks(ctx, tx, h, anchor)
		if err != nil {
			return err
		}
		if verdict != nil {
			return fmt.Errorf("refill: %w", verdict) // rolls back
		}
		if h.refused == "" {
			return nil
		}
		return l.relent(ctx, tx, h)
	})
}

// AcceptLoss records that the facts between the end of this log and an anchored
// checkpoint are gone for good, and lets the log go on. It is a person's decision
// and a fact of its own: the log says for ever what it lost. Whoever holds the
// anchor will go on seeing that this log does not extend it, and is right.
func (l *Log) AcceptLoss(ctx context.Context, tx *db.Tx, anchored []byte, v note.Verifier, actor, reason string) (int64, error) {
	anchor, err := OpenCheckpoint(anchored, l.origin, v)
	if err != nil {
		return 0, fmt.Errorf("accept loss: %w", err)
	}
	if err := l.ensureHead(ctx, tx); err != nil {
		return 0, err
	}
	h, err := l.head(ctx, tx)
	if err != nil {
		return 0, err
	}
	verdict, err := l.lacks(ctx, tx, h, anchor)
	if err != nil {
		return 0, err
	}
	if verdict == nil {
		return 0, fmt.Errorf("accept loss: the log contains all of the anchor at %d", anchor.Size)
	}
	if actor == "" || reason == "" {
		return 0, errors.New("accept loss: it needs a person and a reason")
	}
	// With a fork below its end the log cannot tell where it parted.
	kept := h.size
	if anchor.Size <= h.size {
		kept = anchor.Size - 1
	}
	if _, err := tx.Exec(ctx, `INSERT INTO ledger_loss (kept, lost, anchor) VALUES (?, ?, ?)`, kept, anchor.Size, string(anchored)); err != nil {
		return 0, err
	}
	if err := l.relent(ctx, tx, head{size: h.size, lacking: cmp.Or(h.lacking, anchor.String())}); err != nil {
		return 0, err
	}
	data, err := json.Marshal(struct {
		Kept   int64  `json:"kept"`
		Lost   int64  `json:"lost"`
		Anchor string `json:"anchor"`
		Reason string `json:"reason"`
	}{kept, anchor.Size, string(anchored), reason})
	if err != nil {
		return 0, err
	}
	return l.Append(ctx, tx, Fact{Type: "ledger.loss-accepted", Subject: "ledger", Actor: actor, At: l.clock(), Data: data})
}

func sortDamage(d []*DamageError) {
	slices.SortStableFunc(d, func(a, b *DamageError) int { return cmp.Compare(a.Index, b.Index) })
}

// LastCheckpoint returns the newest stored checkpoint and when it was signed, or
// nil if there is none.
func (l *Log) LastCheckpoint(ctx context.Context) (signed []byte, at time.Time, err error) {
	err = l.db.View(ctx, func(tx *db.Tx) error {
		var s string
		var us int64
		err := tx.QueryRow(ctx, `SELECT signed, at FROM ledger_checkpoint ORDER BY size DESC LIMIT 1`).Scan(&s, &us)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		signed, at = []byte(s), db.Time(us)
		return err
	})
	return signed, at, err
}

// ThinCheckpoints deletes stored checkpoints that were signed before an instant, but the
// last one of each stretch of time, as stretch names it; the newest of all stays. It returns
// how many went. A later checkpoint stands for every earlier one that it extends, and
// [Log.Checkpoint] has checked that it does before it signed.
func (l *Log) ThinCheckpoints(ctx context.Context, before time.Time, stretch func(at time.Time) string) (gone int, err error) {
	type stored struct{ size, at int64 }
	err = l.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		gone = 0
		all, err := db.Collect(func(r *sql.Rows) (s stored, err error) { return s, r.Scan(&s.size, &s.at) })(
			tx.Query(ctx, `SELECT size, at FROM ledger_checkpoint WHERE at < ? AND size < (SELECT MAX(size) FROM ledger_checkpoint) ORDER BY size`, before))
		if err != nil {
			return err
		}
		for i, s := range all {
			if gone == maxThinned || i == len(all)-1 || stretch(db.Time(s.at)) != stretch(db.Time(all[i+1].at)) {
				continue
			}
			if _, err := tx.Exec(ctx, `DELETE FROM ledger_checkpoint WHERE size = ?`, s.size); err != nil {
				return err
			}
			gone++
		}
		return nil
	})
	return gone, err
}

// maxThinned bounds what one ThinCheckpoints deletes.
const maxThinned = 5000

// CheckpointTimes says when this log signed its checkpoints before an instant, by their
// sizes. What an earlier life of the state signed is not among them.
func (l *Log) CheckpointTimes(ctx context.Context, before time.Time) (map[int64]time.Time, error) {
	times := map[int64]time.Time{}
	err := l.db.View(ctx, func(tx *db.Tx) error {
		clear(times)
		rows, err := tx.Query(ctx, `SELECT size, at FROM ledger_checkpoint WHERE at < ?`, db.Micros(before))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var size, at int64
			if err := rows.Scan(&size, &at); err != nil {
				return err
			}
			times[size] = db.Time(at)
		}
		return rows.Err()
	})
	return times, err
}
