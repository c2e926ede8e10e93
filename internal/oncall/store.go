package oncall

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

const columns = "key, subject, title, detail, urgent, notice, ladder, within, state, step, round, raised_at, told_at, told, cause, by_person, note, ended_at, news"

func (m *Module) query(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Call, error) {
	return db.Collect(func(r *sql.Rows) (c Call, err error) {
		var ladder, told, news string
		var within, raised, toldAt, ended int64
		if err := r.Scan(&c.ID, &c.Key, &c.Subject, &c.Title, &c.Detail, &c.Urgent, &c.Notice, &ladder, &within, &c.State, &c.Step, &c.Round, &raised, &toldAt, &told,
			&c.cause, &c.By, &c.Note, &ended, &news); err != nil {
			return c, err
		}
		c.Within = time.Duration(within) * time.Microsecond
		c.RaisedAt, c.ToldAt, c.EndedAt = db.Time(raised), db.Time(toldAt), db.Time(ended)
		return c, errors.Join(json.Unmarshal([]byte(ladder), &c.Ladder), json.Unmarshal([]byte(told), &c.Told), json.Unmarshal([]byte(news), &c.news))
	})(tx.Query(ctx, "SELECT id, "+columns+" FROM oncall_calls "+where, args...))
}

func (m *Module) get(ctx context.Context, tx *db.Tx, id int64) (Call, error) {
	cs, err := m.query(ctx, tx, "WHERE id = ?", id)
	if err == nil && len(cs) == 0 {
		err = holdfast.WithHint(fmt.Errorf("CALL-%d: %w", id, ErrNotFound), "\"holdfast oncall list --all\" lists them")
	}
	if err != nil {
		return Call{}, err
	}
	return cs[0], nil
}

func values(c Call) ([]any, error) {
	var lists [3]string
	for i, l := range [][]string{c.Ladder, c.Told, c.news} {
		b, err := json.Marshal(append([]string{}, l...)) // [], never null
		if err != nil {
			return nil, err
		}
		lists[i] = string(b)
	}
	bit := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return []any{db.Text(c.Key), c.Subject, db.Text(c.Title), db.Text(c.Detail), bit(c.Urgent), bit(c.Notice), lists[0], c.Within.Microseconds(), c.State, c.Step, c.Round,
		db.Micros(c.RaisedAt), db.Micros(c.ToldAt), lists[1], c.cause, db.Text(c.By), db.Text(c.Note), db.Micros(c.EndedAt), lists[2]}, nil
}

func (m *Module) insert(ctx context.Context, tx *db.Tx, c Call) (id int64, err error) {
	v, err := values(c)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, "INSERT INTO oncall_calls ("+columns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id", v...).Scan(&id)
	return id, err
}

func (m *Module) save(ctx context.Context, tx *db.Tx, c Call) error {
	v, err := values(c)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE oncall_calls SET key = ?, subject = ?, title = ?, detail = ?, urgent = ?, notice = ?, ladder = ?, within = ?, state = ?, step = ?, round = ?, "+
		"raised_at = ?, told_at = ?, told = ?, cause = ?, by_person = ?, note = ?, ended_at = ?, news = ? WHERE id = ?", append(v, c.ID)...)
	return err
}

// last is when a message was written to a person; zero if never.
func (m *Module) last(ctx context.Context, tx *db.Tx, person string) (time.Time, error) {
	var at int64
	err := tx.QueryRow(ctx, "SELECT last_at FROM oncall_people WHERE person = ?", person).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return db.Time(at), err
}

func (m *Module) wrote(ctx context.Context, tx *db.Tx, person string, at time.Time) error {
	_, err := tx.Exec(ctx, "INSERT INTO oncall_people (person, last_at) VALUES (?, ?) ON CONFLICT (person) DO UPDATE SET last_at = excluded.last_at", person, at)
	return err
}
