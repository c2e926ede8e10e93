package access

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

// The states of a person.
const (
	Invited = "invited"
	Active  = "active"
	Left    = "left"
)

// A Person is somebody who was ever invited.
type Person struct {
	ID        string    `json:"id"`
	Roles     []Role    `json:"roles"`
	State     string    `json:"state"`
	Until     time.Time `json:"until,omitzero"` // of an auditor
	InvitedBy string    `json:"invited_by"`
	Created   time.Time `json:"created"`
	Enrolled  time.Time `json:"enrolled,omitzero"`
	LastLogin time.Time `json:"last_login,omitzero"`
	LeftAt    time.Time `json:"left_at,omitzero"`

	password string
	totp     []byte
	step     int64
	failures int64
	locked   time.Time
}

// May lists what the roles of a person allow now, without grants.
func (p Person) May(now time.Time) []Action {
	if p.State != Active || !p.Until.IsZero() && !now.Before(p.Until) {
		return nil
	}
	var out []Action
	for _, a := range Actions {
		for _, r := range p.Roles {
			if r.Allows(a) {
				out = append(out, a)
				break
			}
		}
	}
	return out
}

const personColumns = `id, roles, state, until, password, totp, totp_step, failures, locked_until, invited_by, created, enrolled, last_login, left_at`

func scanPerson(r *sql.Rows) (p Person, err error) {
	var roles string
	var until, locked, created, enrolled, login, left int64
	if err := r.Scan(&p.ID, &roles, &p.State, &until, &p.password, &p.totp, &p.step, &p.failures, &locked, &p.InvitedBy, &created, &enrolled, &login, &left); err != nil {
		return p, err
	}
	p.Until, p.locked, p.Created, p.Enrolled, p.LastLogin, p.LeftAt = db.Time(until), db.Time(locked), db.Time(created), db.Time(enrolled), db.Time(login), db.Time(left)
	return p, json.Unmarshal([]byte(roles), &p.Roles)
}

func (m *Module) people(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Person, error) {
	return db.Collect(scanPerson)(tx.Query(ctx, `SELECT `+personColumns+` FROM access_people `+where, args...))
}

func (m *Module) person(ctx context.Context, tx *db.Tx, id string) (Person, error) {
	ps, err := m.people(ctx, tx, `WHERE id = ?`, id)
	if err != nil {
		return Person{}, err
	}
	if len(ps) == 0 {
		return Person{}, holdfast.WithHint(fmt.Errorf("person %q was never invited: %w", id, ErrNotFound), "\"holdfast access list\" names those who were")
	}
	return ps[0], nil
}

// save writes a person.
func (m *Module) save(ctx context.Context, tx *db.Tx, p Person) error {
	roles, err := json.Marshal(p.Roles)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO access_people (`+personColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET roles = excluded.roles, state = excluded.state, until = excluded.until, password = excluded.password, totp = excluded.totp,
		totp_step = excluded.totp_step, failures = excluded.failures, locked_until = excluded.locked_until, invited_by = excluded.invited_by,
		enrolled = excluded.enrolled, last_login = excluded.last_login, left_at = excluded.left_at`,
		p.ID, string(roles), p.State, p.Until, p.password, p.totp, p.step, p.failures, p.locked, p.InvitedBy, p.Created, p.Enrolled, p.LastLogin, p.LeftAt)
	return err
}

// A Session is one browser in which a person is logged in.
type Session struct {
	ID      string    `json:"id"`
	Person  string    `json:"person"`
	Factor  string    `json:"factor"` // passkey, code, recovery-code
	Address string    `json:"address"`
	Agent   string    `json:"agent"`
	Created time.Time `json:"created"`
	Seen    time.Time `json:"seen"`
	Expires time.Time `json:"expires"`

	hash string
}

const sessionColumns = `hash, id, person, factor, address, agent, created, seen, expires`

func scanSession(r *sql.Rows) (s Session, err error) {
	var created, seen, expires int64
	err = r.Scan(&s.hash, &s.ID, &s.Person, &s.Factor, &s.Address, &s.Agent, &created, &seen, &expires)
	s.Created, s.Seen, s.Expires = db.Time(created), db.Time(seen), db.Time(expires)
	return s, err
}

func (m *Module) sessions(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Session, error) {
	return db.Collect(scanSession)(tx.Query(ctx, `SELECT `+sessionColumns+` FROM access_sessions `+where, args...))
}

// A Token lets a program in, for which a person answers.
type Token struct {
	ID      string    `json:"id"`
	Person  string    `json:"person"`
	Name    string    `json:"name"`
	Actions []Action  `json:"actions"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`

	hash string
}

const tokenColumns = `hash, id, person, name, actions, created, expires, used`

func scanToken(r *sql.Rows) (t Token, err error) {
	var actions string
	var created, expires, used int64
	if err := r.Scan(&t.hash, &t.ID, &t.Person, &t.Name, &actions, &created, &expires, &used); err != nil {
		return t, err
	}
	t.Created, t.Expires, t.Used = db.Time(created), db.Time(expires), db.Time(used)
	return t, json.Unmarshal([]byte(actions), &t.Actions)
}

func (m *Module) tokens(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Token, error) {
	return db.Collect(scanToken)(tx.Query(ctx, `SELECT `+tokenColumns+` FROM access_tokens `+where, args...))
}

// count counts rows; the table is a constant of this package.
func count(ctx context.Context, tx *db.Tx, table, where string, args ...any) (n int64, err error) {
	err = tx.QueryRow(ctx, `SELECT COUNT(*) FROM `+table+` WHERE `+where, args...).Scan(&n)
	return n, err
}

// none makes an error of sql.ErrNoRows.
func none(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return err
}
