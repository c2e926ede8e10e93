package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
)

// The states of a grant.
const (
	GrantAsked    = "asked"
	GrantGiven    = "given"
	GrantRefused  = "refused"
	GrantEnded    = "ended"
	GrantReviewed = "reviewed"
)

// A Grant is emergency access: what somebody may do for a time, why, and who agreed.
// Afterwards somebody else looks at what was done with it.
type Grant struct {
	ID        int64     `json:"id"`
	Person    string    `json:"person"`
	Actions   []Action  `json:"actions"`
	Reason    string    `json:"reason"`
	Minutes   int64     `json:"minutes"`
	State     string    `json:"state"`
	Glass     bool      `json:"break_glass"` // taken: nobody was there to approve
	Asked     time.Time `json:"asked"`
	Approver  string    `json:"approver,omitempty"`
	Given     time.Time `json:"given,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	ReviewDue time.Time `json:"review_due,omitzero"`
	Reviewer  string    `json:"reviewer,omitempty"`
	Verdict   string    `json:"verdict,omitempty"`
	Reviewed  time.Time `json:"reviewed,omitzero"`
}

const grantColumns = `person, actions, reason, minutes, state, glass, asked, approver, given, until, review_due, reviewer, verdict, reviewed`

func scanGrant(r *sql.Rows) (g Grant, err error) {
	var actions string
	var glass, asked, given, until, due, reviewed int64
	if err := r.Scan(&g.ID, &g.Person, &actions, &g.Reason, &g.Minutes, &g.State, &glass, &asked, &g.Approver, &given, &until, &due, &g.Reviewer, &g.Verdict, &reviewed); err != nil {
		return g, err
	}
	g.Glass, g.Asked, g.Given, g.Until, g.ReviewDue, g.Reviewed = glass == 1, db.Time(asked), db.Time(given), db.Time(until), db.Time(due), db.Time(reviewed)
	return g, json.Unmarshal([]byte(actions), &g.Actions)
}

func (m *Module) grants(ctx context.Context, tx *db.Tx, where string, args ...any) ([]Grant, error) {
	return db.Collect(scanGrant)(tx.Query(ctx, `SELECT id, `+grantColumns+` FROM access_grants `+where, args...))
}

func (m *Module) grant(ctx context.Context, tx *db.Tx, id int64) (Grant, error) {
	gs, err := m.grants(ctx, tx, `WHERE id = ?`, id)
	if err == nil && len(gs) == 0 {
		err = holdfast.WithHint(fmt.Errorf("emergency access %d: %w", id, ErrNotFound), "\"holdfast access list\" names them")
	}
	if err != nil {
		return Grant{}, err
	}
	return gs[0], nil
}

func (m *Module) saveGrant(ctx context.Context, tx *db.Tx, g Grant, actor, what string) (Grant, error) {
	actions, err := json.Marshal(g.Actions)
	if err != nil {
		return g, err
	}
	args := []any{g.Person, string(actions), g.Reason, g.Minutes, g.State, g.Glass, g.Asked, g.Approver, g.Given, g.Until, g.ReviewDue, g.Reviewer, g.Verdict, g.Reviewed}
	if g.ID == 0 {
		err = tx.QueryRow(ctx, `INSERT INTO access_grants (`+grantColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`, args...).Scan(&g.ID)
	} else {
		_, err = tx.Exec(ctx, `UPDATE access_grants SET person = ?, actions = ?, reason = ?, minutes = ?, state = ?, glass = ?, asked = ?, approver = ?, given = ?, until = ?,
			review_due = ?, reviewer = ?, verdict = ?, reviewed = ? WHERE id = ?`, append(args, g.ID)...)
	}
	if err != nil {
		return g, err
	}
	return g, m.fact(ctx, tx, FactGrant, "people."+g.Person, actor, struct {
		What string `json:"what"`
		Grant
	}{what, g})
}

// An Emergency is what somebody asks for.
type Emergency struct {
	Person  string   `json:"person" minLength:"1" maxLength:"64"`
	Actions []Action `json:"actions" maxItems:"3"`
	Reason  string   `json:"reason" minLength:"1" maxLength:"1000"`
	Minutes int64    `json:"minutes" minimum:"1" maximum:"1440"`
	// Glass takes it at once: nobody who could approve can be reached. It is said to
	// everybody, and looked at afterwards.
	Glass bool `json:"break_glass,omitempty"`
}

// AskEmergency asks for access for a time, or takes it where nobody can approve.
func (m *Module) AskEmergency(ctx context.Context, e Emergency, by string) (g Grant, err error) {
	if e.Reason == "" || len(e.Reason) > 1000 {
		return g, wrong("say what happened and what has to be done", "emergency access needs a reason of at most 1000 bytes")
	}
	if len(e.Actions) == 0 {
		e.Actions = []Action{Restore}
	}
	for _, a := range e.Actions {
		if !slices.Contains(allowedInEmergency, a) {
			return g, refuse("what can be asked for is "+join(allowedInEmergency), "no emergency gives %q", a)
		}
	}
	most := MaxGrantTime
	if e.Glass {
		most = MaxGlassTime
	}
	if d := time.Duration(e.Minutes) * time.Minute; e.Minutes < 1 || d > most {
		return g, refuse("ask again when it is over", "this is for 1 to %d minutes", int64(most/time.Minute))
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, e.Person)
		if err != nil {
			return err
		}
		if len(p.May(m.now())) == 0 {
			return refuse("invite them, or let them enrol first", "%s has no access that an emergency could widen", e.Person)
		}
		open, err := count(ctx, tx, "access_grants", "person = ? AND state = 'asked'", e.Person)
		if err != nil || open >= 10 {
			return refuse("let somebody approve or refuse them", "%s waits for %d approvals already", e.Person, open)
		}
		g = Grant{Person: e.Person, Actions: e.Actions, Reason: clip(e.Reason, 1000), Minutes: e.Minutes, State: GrantAsked, Asked: m.now()}
		if !e.Glass {
			g, err = m.saveGrant(ctx, tx, g, by, "asked")
			return err
		}
		g.Glass = true
		m.begin(&g)
		if g, err = m.saveGrant(ctx, tx, g, by, "taken without approval"); err != nil {
			return err
		}
		return m.cfg.Announce(ctx, tx, g)
	})
	return g, err
}

var allowedInEmergency = []Action{Restore, Respond, Run}

func (m *Module) begin(g *Grant) {
	g.State, g.Given = GrantGiven, m.now()
	g.Until = g.Given.Add(time.Duration(g.Minutes) * time.Minute)
	g.ReviewDue = g.Until.Add(ReviewGlass)
}

// DecideEmergency approves or refuses what somebody else asked for. In a declared small
// team people may approve their own, and somebody else looks at it afterwards.
func (m *Module) DecideEmergency(ctx context.Context, id int64, approve bool, by string) (g Grant, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if g, err = m.grant(ctx, tx, id); err != nil {
			return err
		}
		if g.State != GrantAsked {
			return refuse("ask again", "the emergency access %d is %s", id, g.State)
		}
		if approve && by == g.Person && !m.cfg.Small() {
			return refuse("let somebody else approve it; if nobody can be reached: break glass", "%s asked for it, and cannot approve it", by)
		}
		if approve {
			if err := m.mayDecide(ctx, tx, by); err != nil {
				return err
			}
		}
		g.Approver = by
		if !approve {
			g.State = GrantRefused
			g, err = m.saveGrant(ctx, tx, g, by, "refused")
			return err
		}
		m.begin(&g)
		g, err = m.saveGrant(ctx, tx, g, by, "given")
		return err
	})
	return g, err
}

// mayDecide refuses the word of somebody who may not approve. Whoever is at the socket
// names a person, and that person must be one who could have done it alone.
func (m *Module) mayDecide(ctx context.Context, tx *db.Tx, by string) error {
	p, err := m.person(ctx, tx, by)
	if err != nil {
		return err
	}
	may := p.May(m.now())
	if !slices.Contains(may, Approve) && !slices.Contains(may, People) {
		return refuse("an approver or an administrator does", by+" does not approve emergency access (roles: %s)", join(p.Roles))
	}
	return nil
}

// EndEmergency ends it before its time.
func (m *Module) EndEmergency(ctx context.Context, id int64, by string) (g Grant, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if g, err = m.grant(ctx, tx, id); err != nil {
			return err
		}
		if g.State != GrantGiven {
			return refuse("there is nothing to end", "the emergency access %d is %s", id, g.State)
		}
		now := m.now()
		g.State = GrantEnded
		if now.Before(g.Until) {
			g.Until = now
		}
		g, err = m.saveGrant(ctx, tx, g, by, "ended")
		return err
	})
	return g, err
}

// ReviewEmergency is the look afterwards, by somebody else than who had it.
func (m *Module) ReviewEmergency(ctx context.Context, id int64, verdict, by string) (g Grant, err error) {
	if verdict == "" || len(verdict) > 4000 {
		return g, wrong("say what was done with it and whether that was right", "the review has no words")
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if g, err = m.grant(ctx, tx, id); err != nil {
			return err
		}
		switch {
		case g.State == GrantGiven && m.now().Before(g.Until):
			return refuse("end it first, or wait until it is over", "the emergency access %d goes on until %s", id, g.Until.Format(time.RFC3339))
		case g.State != GrantGiven && g.State != GrantEnded:
			return refuse("only what was given is looked at", "the emergency access %d is %s", id, g.State)
		case by == g.Person:
			return refuse("let somebody else look at it", "%s had it, and cannot review it", by)
		}
		g.State, g.Reviewer, g.Verdict, g.Reviewed = GrantReviewed, by, clip(verdict, 4000), m.now()
		g, err = m.saveGrant(ctx, tx, g, by, "reviewed")
		return err
	})
	return g, err
}

// GrantUse is an emergency access with everything that was done with it.
type GrantUse struct {
	Grant
	Done []ledger.Fact `json:"done"`
}

// Emergency returns a grant with what was done with it.
func (m *Module) Emergency(ctx context.Context, id int64) (u GrantUse, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		u.Grant, err = m.grant(ctx, tx, id)
		return err
	})
	if err != nil || u.Given.IsZero() {
		return u, err
	}
	for _, kind := range []string{FactDone, FactRead} {
		facts, err := m.cfg.Facts.Find(ctx, ledger.Query{Type: kind, From: u.Given, To: u.Until.Add(time.Minute), Limit: ledger.MaxFacts})
		if err != nil {
			return u, err
		}
		for _, f := range facts {
			var d doneFact
			if json.Unmarshal(f.Data, &d) == nil && d.Grant == id {
				u.Done = append(u.Done, f)
			}
		}
	}
	slices.SortFunc(u.Done, func(a, b ledger.Fact) int { return a.At.Compare(b.At) })
	return u, nil
}
