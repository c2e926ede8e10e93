package message

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"holdfast"
	"holdfast/internal/db"
)

const columns = "id, cause, kind, person, channel, otherwise, urgent, subject, body, data, state, tries, said, created_at, patient, tried_at, settled_at"

func (m *Module) query(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Message, error) {
	return db.Collect(func(r *sql.Rows) (x Message, err error) {
		var otherwise, data string
		var created, until, tried, settled int64
		if err := r.Scan(&x.ID, &x.Cause, &x.Kind, &x.Person, &x.Channel, &otherwise, &x.Urgent, &x.Subject, &x.Text, &data, &x.State, &x.Tries, &x.Said,
			&created, &until, &tried, &settled); err != nil {
			return x, err
		}
		x.Data = json.RawMessage(data)
		if data == "" {
			x.Data = nil
		}
		x.Created, x.Until, x.Tried, x.Settled = db.Time(created), db.Time(until), db.Time(tried), db.Time(settled)
		return x, json.Unmarshal([]byte(otherwise), &x.Otherwise)
	})(tx.Query(ctx, "SELECT "+columns+" FROM message_messages "+where, args...))
}

func (m *Module) get(ctx context.Context, tx *db.Tx, id string) (Message, error) {
	xs, err := m.query(ctx, tx, "WHERE id = ?", id)
	if err == nil && len(xs) == 0 {
		err = holdfast.WithHint(fmt.Errorf("message %q: %w", id, ErrNotFound), "\"holdfast message list\" lists them")
	}
	if err != nil {
		return Message{}, err
	}
	return xs[0], nil
}

// insert reports whether the message is new.
func (m *Module) insert(ctx context.Context, tx *db.Tx, x Message) (bool, error) {
	otherwise, err := json.Marshal(x.Otherwise)
	if err != nil {
		return false, err
	}
	urgent := 0
	if x.Urgent {
		urgent = 1
	}
	n, err := tx.Exec(ctx, "INSERT INTO message_messages ("+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, 0, 0) ON CONFLICT (id) DO NOTHING",
		x.ID, db.Text(x.Cause), x.Kind, x.Person, x.Channel, string(otherwise), urgent, db.Text(x.Subject), db.Text(x.Text), db.Text(string(x.Data)), x.State, x.Created, x.Until)
	return n > 0, err
}

func (m *Module) save(ctx context.Context, tx *db.Tx, x Message) error {
	otherwise, err := json.Marshal(x.Otherwise)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE message_messages SET otherwise = ?, state = ?, tries = ?, said = ?, patient = ?, tried_at = ?, settled_at = ? WHERE id = ?",
		string(otherwise), x.State, x.Tries, db.Text(x.Said), x.Until, db.Micros(x.Tried), db.Micros(x.Settled), x.ID)
	return err
}
