package incident

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

// Limits of one query.
const (
	MaxIncidents = 1000
	MaxEvents    = 10000
)

const columns = `id, title, kind, services, stores, severity, phase, commander, declared_by, occurred_at, detected_at,
	acknowledged_at, assessed_at, contained_at, recovered_at, closed_at, activation, recovery, outcome`

func (m *Module) query(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Incident, error) {
	rows, err := tx.Query(ctx, `SELECT `+columns+` FROM incident_incidents `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Incident
	for rows.Next() {
		var i Incident
		var services, stores string
		var times [7]int64
		if err := rows.Scan(&i.ID, &i.Title, &i.Kind, &services, &stores, &i.Severity, &i.Phase, &i.Commander, &i.DeclaredBy,
			&times[0], &times[1], &times[2], &times[3], &times[4], &times[5], &times[6], &i.Activation, &i.Recovery, &i.Outcome); err != nil {
			return nil, err
		}
		for k, t := range []*time.Time{&i.OccurredAt, &i.DetectedAt, &i.AcknowledgedAt, &i.AssessedAt, &i.ContainedAt, &i.RecoveredAt, &i.ClosedAt} {
			*t = db.Time(times[k])
		}
		if err := json.Unmarshal([]byte(services), &i.Services); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(stores), &i.Stores); err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, rows.Err()
}

func (m *Module) get(ctx context.Context, tx *db.Tx, id int64) (Incident, error) {
	is, err := m.query(ctx, tx, `WHERE id = ?`, id)
	if err != nil {
		return Incident{}, err
	}
	if len(is) == 0 {
		return Incident{}, holdfast.WithHint(fmt.Errorf("INC-%d: %w", id, ErrNotFound), "\"holdfast incident list\" lists the incidents")
	}
	return is[0], nil
}

func (m *Module) list(ctx context.Context, tx *db.Tx, open bool) ([]Incident, error) {
	where := ``
	if open {
		where = `WHERE phase <> 'closed' `
	}
	return m.query(ctx, tx, where+`ORDER BY id DESC LIMIT ?`, MaxIncidents)
}

func (m *Module) values(i Incident) ([]any, error) {
	services, err := json.Marshal(i.Services)
	if err != nil {
		return nil, err
	}
	stores, err := json.Marshal(i.Stores)
	if err != nil {
		return nil, err
	}
	return []any{db.Text(i.Title), i.Kind, string(services), string(stores), string(i.Severity), string(i.Phase), i.Commander, db.Text(i.DeclaredBy),
		db.Micros(i.OccurredAt), db.Micros(i.DetectedAt), db.Micros(i.AcknowledgedAt), db.Micros(i.AssessedAt), db.Micros(i.ContainedAt),
		db.Micros(i.RecoveredAt), db.Micros(i.ClosedAt), db.Text(i.Activation), db.Text(i.Recovery), db.Text(i.Outcome)}, nil
}

func (m *Module) insert(ctx context.Context, tx *db.Tx, i Incident) (id int64, err error) {
	v, err := m.values(i)
	if err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, `INSERT INTO incident_incidents (title, kind, services, stores, severity, phase, commander, declared_by, occurred_at, detected_at,
		acknowledged_at, assessed_at, contained_at, recovered_at, closed_at, activation, recovery, outcome)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`, v...).Scan(&id)
	return id, err
}

func (m *Module) save(ctx context.Context, tx *db.Tx, i Incident) error {
	v, err := m.values(i)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE incident_incidents SET title = ?, kind = ?, services = ?, stores = ?, severity = ?, phase = ?, commander = ?, declared_by = ?,
		occurred_at = ?, detected_at = ?, acknowledged_at = ?, assessed_at = ?, contained_at = ?, recovered_at = ?, closed_at = ?, activation = ?,
		recovery = ?, outcome = ? WHERE id = ?`, append(v, i.ID)...)
	return err
}

// signal returns the incident that a signal belongs to, 0 if it is new, and
// whether it fires.
func (m *Module) signal(ctx context.Context, tx *db.Tx, dedup string) (id int64, firing bool, err error) {
	var state string
	err = tx.QueryRow(ctx, `SELECT incident, state FROM incident_signals WHERE dedup = ?`, dedup).Scan(&id, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return id, state == "open", err
}

// firing lists the keys of an incident's signals that have not ended.
func (m *Module) firing(ctx context.Context, tx *db.Tx, id int64) ([]string, error) {
	return db.Collect(func(r *sql.Rows) (key string, err error) { return key, r.Scan(&key) })(
		tx.Query(ctx, `SELECT dedup FROM incident_signals WHERE incident = ? AND state = 'open' ORDER BY dedup LIMIT ?`, id, MaxIncidents))
}

// Events returns the log of an incident, oldest first.
func (m *Module) Events(ctx context.Context, id int64) (out []Event, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT seq, at, actor, type, text, payload FROM incident_events WHERE incident = ? ORDER BY seq LIMIT ?`, id, MaxEvents)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Event
			var at int64
			var payload string
			if err := rows.Scan(&e.Seq, &at, &e.Actor, &e.Type, &e.Text, &payload); err != nil {
				return err
			}
			e.At, e.Payload = db.Time(at), json.RawMessage(payload)
			out = append(out, e)
		}
		return rows.Err()
	})
	return out, err
}
