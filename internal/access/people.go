package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/seal"
)

// An Invitation admits somebody once, to enrol.
type Invitation struct {
	Person  string    `json:"person,omitempty"`
	Path    string    `json:"path"` // of the page, with the secret
	Expires time.Time `json:"expires"`
}

type personFact struct {
	Person string    `json:"person"`
	Roles  []Role    `json:"roles,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	What   string    `json:"what,omitempty"`
}

// Invite makes somebody known, or gives somebody who left new roles, and returns the
// link with which they enrol. People stand in the plan; only an auditor comes from
// outside, and until a day.
func (m *Module) Invite(ctx context.Context, id string, roles []Role, until time.Time, by string) (inv Invitation, err error) {
	now := m.now()
	outside := len(roles) == 1 && roles[0] == Auditor
	switch {
	case !personID.MatchString(id):
		return inv, wrong("use the name under which the plan lists the person", "%q is no name of a person", id)
	case !slices.Contains(m.cfg.Names(), id) && !outside:
		return inv, refuse("add the person to \"people\" of the plan first; only an auditor comes from outside", "%q is not a person of the plan in force", id)
	case !slices.Contains(m.cfg.Names(), id) && until.IsZero():
		return inv, refuse("name the day on which it ends: --until 2027-01-31", "an auditor from outside has access until a day")
	case !until.IsZero() && !until.After(now):
		return inv, wrong("name a day that comes", "%s is over", until.Format(time.DateOnly))
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		old, err := m.people(ctx, tx, `WHERE id = ?`, id)
		if err != nil {
			return err
		}
		if len(old) == 1 && old[0].State != Left {
			return refuse("\"holdfast access link "+id+"\" makes a new link, \"holdfast access roles\" changes the roles", "%s has access already", id)
		}
		if err := m.save(ctx, tx, Person{ID: id, Roles: roles, State: Invited, Until: until, InvitedBy: by, Created: now}); err != nil {
			return err
		}
		if err := m.fact(ctx, tx, FactInvited, "people."+id, by, personFact{Person: id, Roles: roles, Until: until}); err != nil {
			return err
		}
		inv, err = m.link(ctx, tx, id, now.Add(LinkTime))
		return err
	})
	if err == nil {
		m.known.Store(true)
	}
	return inv, err
}

// Link makes a new link for somebody, for example after a lost phone. What they had
// goes on until they enrol with it.
func (m *Module) Link(ctx context.Context, id, by string) (inv Invitation, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.State == Left {
			return refuse("invite them again: \"holdfast access invite "+id+"\"", "%s has left", id)
		}
		if err := m.fact(ctx, tx, FactInvited, "people."+id, by, personFact{Person: id, What: "a new link"}); err != nil {
			return err
		}
		inv, err = m.link(ctx, tx, id, m.now().Add(LinkTime))
		return err
	})
	return inv, err
}

// First makes the link of the first administrator, who says on the page who it is. It
// replaces the one of an earlier start. Once somebody is known there is no first.
func (m *Module) First(ctx context.Context) (inv Invitation, ok bool, err error) {
	if m.Known() {
		return inv, false, nil
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		inv, err = m.link(ctx, tx, "", m.now().Add(FirstLinkTime))
		return err
	})
	return inv, err == nil, err
}

// link makes a link. Each person has one: a newer one ends the older.
func (m *Module) link(ctx context.Context, tx *db.Tx, person string, expires time.Time) (Invitation, error) {
	if _, err := tx.Exec(ctx, `DELETE FROM access_links WHERE person = ?`, person); err != nil {
		return Invitation{}, err
	}
	secret := seal.Token()
	_, err := tx.Exec(ctx, `INSERT INTO access_links (hash, person, totp, pending, chosen, created, expires) VALUES (?, ?, NULL, '', '', ?, ?)`, seal.TokenHash(secret), person, m.now(), expires)
	return Invitation{Person: person, Path: "/enrol/" + secret, Expires: expires}, err
}

// SetRoles changes what somebody is for. It holds from the next request.
func (m *Module) SetRoles(ctx context.Context, id string, roles []Role, by string) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.State == Left {
			return refuse("invite them again: \"holdfast access invite "+id+"\"", "%s has left", id)
		}
		if id == by {
			return refuse("let another administrator do it", "nobody changes their own roles")
		}
		if slices.Contains(p.Roles, Administrator) && !slices.Contains(roles, Administrator) {
			if err := m.notLast(ctx, tx, id); err != nil {
				return err
			}
		}
		p.Roles = roles
		if err := m.save(ctx, tx, p); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactRoles, "people."+id, by, personFact{Person: id, Roles: roles})
	})
}

// notLast refuses to take away the last administrator.
func (m *Module) notLast(ctx context.Context, tx *db.Tx, id string) error {
	ps, err := m.people(ctx, tx, `WHERE state <> 'left'`)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.ID != id && slices.Contains(p.Roles, Administrator) {
			return nil
		}
	}
	return refuse("make somebody else administrator first", "%s is the last administrator", id)
}

// A Departure is what ended when somebody left, and what the plan still rests on them.
type Departure struct {
	Person   string   `json:"person"`
	Roles    []Role   `json:"roles"`
	Sessions int64    `json:"sessions"`
	Tokens   int64    `json:"tokens"`
	Passkeys int64    `json:"passkeys"`
	Codes    int64    `json:"codes"`
	Links    int64    `json:"links"`
	Grants   int64    `json:"grants"`
	Duties   []string `json:"duties,omitempty"` // of the plan in force: each needs somebody else
}

// Leave ends all access of a person at once, and says what the plan still rests on
// them. A crash before the commit leaves them as they were.
func (m *Module) Leave(ctx context.Context, id, by, reason string) (d Departure, err error) {
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, id)
		if err != nil {
			return err
		}
		if p.State == Left {
			return refuse("there is nothing left to end", "%s has left already", id)
		}
		if slices.Contains(p.Roles, Administrator) {
			if err := m.notLast(ctx, tx, id); err != nil {
				return err
			}
		}
		d = Departure{Person: id, Roles: p.Roles, Duties: m.cfg.Duties(id)}
		for _, x := range []struct {
			n *int64
			q string
		}{
			{&d.Sessions, `DELETE FROM access_sessions WHERE person = ?`}, {&d.Tokens, `DELETE FROM access_tokens WHERE person = ?`},
			{&d.Passkeys, `DELETE FROM access_passkeys WHERE person = ?`}, {&d.Codes, `DELETE FROM access_codes WHERE person = ?`},
			{&d.Links, `DELETE FROM access_links WHERE person = ?`},
			{&d.Grants, `UPDATE access_grants SET state = 'ended' WHERE person = ? AND state IN ('asked', 'given')`},
		} {
			if *x.n, err = tx.Exec(ctx, x.q, id); err != nil {
				return err
			}
		}
		p.State, p.Roles, p.LeftAt, p.password, p.totp = Left, []Role{}, m.now(), "", nil
		if err := m.save(ctx, tx, p); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactLeft, "people."+id, by, struct {
			Departure
			Reason string `json:"reason,omitempty"`
		}{d, clip(reason, 1000)})
	})
	return d, err
}

// Leavers lists who has left.
func (m *Module) Leavers(ctx context.Context) (out []string, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ps, err := m.people(ctx, tx, `WHERE state = ? ORDER BY id LIMIT ?`, Left, MaxPeople)
		out = nil
		for _, p := range ps {
			out = append(out, p.ID)
		}
		return err
	})
	return out, err
}

// A Standing is a person with all that they hold.
type Standing struct {
	Person
	Actions  []Action  `json:"actions"`
	Second   []string  `json:"second_factors"` // what admits beside or instead of a password
	Codes    int64     `json:"recovery_codes"`
	Sessions []Session `json:"sessions"`
	Tokens   []Token   `json:"tokens"`
	InPlan   bool      `json:"in_plan"`
}

// A List is who may do what, at an instant: the access list that auditors ask for.
type List struct {
	At       time.Time          `json:"at"`
	People   []Standing         `json:"people"`
	Table    map[Role][]Action  `json:"table"`
	Grants   []Grant            `json:"grants"`
	Reviews  []ReviewItem       `json:"reviews"`
	Findings []holdfast.Finding `json:"findings"`
}

// List returns who may do what now.
func (m *Module) List(ctx context.Context) (l List, err error) {
	l.At, l.Table = m.now(), table
	names := m.cfg.Names()
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ps, err := m.people(ctx, tx, `ORDER BY id LIMIT ?`, MaxPeople)
		if err != nil {
			return err
		}
		for _, p := range ps {
			s := Standing{Person: p, Actions: p.May(l.At), InPlan: slices.Contains(names, p.ID), Second: []string{}}
			n, err := count(ctx, tx, "access_passkeys", "person = ?", p.ID)
			if err != nil {
				return err
			}
			if n > 0 {
				s.Second = append(s.Second, "passkey")
			}
			if len(p.totp) > 0 {
				s.Second = append(s.Second, "code")
			}
			if s.Codes, err = count(ctx, tx, "access_codes", "person = ?", p.ID); err != nil {
				return err
			}
			if s.Sessions, err = m.sessions(ctx, tx, `WHERE person = ? AND expires > ? ORDER BY created LIMIT ?`, p.ID, l.At, MaxPerPerson); err != nil {
				return err
			}
			if s.Tokens, err = m.tokens(ctx, tx, `WHERE person = ? ORDER BY created LIMIT ?`, p.ID, MaxPerPerson); err != nil {
				return err
			}
			l.People = append(l.People, s)
		}
		if l.Grants, err = m.grants(ctx, tx, `ORDER BY id DESC LIMIT 200`); err != nil {
			return err
		}
		l.Reviews, err = m.reviewItems(ctx, tx, `ORDER BY id DESC LIMIT 500`)
		return err
	})
	l.Findings = l.findings()
	return l, err
}

// Codes of findings.
const (
	codeNoFactor  = "HF-P1" // a person has no second factor, or never enrolled
	codeTwoPlaces = "HF-P2" // one account is used in two places at once
	codeIdle      = "HF-P3" // a person did not log in for long: nobody knows that it works
	codeNotInPlan = "HF-P4" // somebody has access and is not in the plan
	codeToReview  = "HF-P5" // an emergency was not looked at in time
	codeUndecided = "HF-P6" // an access review is overdue
	codeFewCodes  = "HF-P7" // a lost phone would shut a person out
)

func (l List) findings() []holdfast.Finding {
	var out []holdfast.Finding
	add := func(code string, severity holdfast.FindingSeverity, person, hint, format string, args ...any) {
		out = append(out, holdfast.Finding{Code: code, Severity: severity, Subject: "people." + person, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	for _, p := range l.People {
		if p.State == Left {
			continue
		}
		if len(p.Second) == 0 {
			add(codeNoFactor, holdfast.SeverityWarning, p.ID, "let them open their link; \"holdfast access link "+p.ID+"\" makes a new one", "%s has not enrolled a second factor and cannot log in", p.ID)
			continue
		}
		if !p.InPlan && p.Until.IsZero() {
			add(codeNotInPlan, holdfast.SeverityError, p.ID, "\"holdfast access leave "+p.ID+"\", or add them to the plan", "%s has access and is not a person of the plan in force", p.ID)
		}
		if l.At.Sub(p.LastLogin) > LoginEvery {
			add(codeIdle, holdfast.SeverityWarning, p.ID, "let them log in once, with the second factor that they would use on the bad day", "%s last logged in on %s: nobody knows that it still works", p.ID, p.LastLogin.Format(time.DateOnly))
		}
		if p.Codes < 3 {
			add(codeFewCodes, holdfast.SeverityNote, p.ID, "new recovery codes are made under Account", "%s has %d recovery codes left", p.ID, p.Codes)
		}
		for i, a := range p.Sessions {
			for _, b := range p.Sessions[i+1:] {
				if a.Address != b.Address && a.Seen.Sub(b.Seen).Abs() < sameTime {
					add(codeTwoPlaces, holdfast.SeverityWarning, p.ID, "ask them; if it is not them, \"holdfast access leave "+p.ID+"\"; if two people share it, invite the other", "%s is used from %s and %s at once", p.ID, a.Address, b.Address)
				}
			}
		}
	}
	for _, g := range l.Grants {
		if g.Reviewed.IsZero() && !g.ReviewDue.IsZero() && l.At.After(g.ReviewDue) {
			add(codeToReview, holdfast.SeverityError, g.Person, fmt.Sprintf("\"holdfast access decide %d review --by PERSON --note TEXT\"", g.ID), "the emergency access %d of %s was not looked at by %s", g.ID, g.Person, g.ReviewDue.Format(time.DateOnly))
		}
	}
	for _, r := range l.Reviews {
		if r.Decision == "" && l.At.After(r.Due) {
			add(codeUndecided, holdfast.SeverityError, r.Person, fmt.Sprintf("\"holdfast access keep-or-remove %d keep|remove --by PERSON\"", r.ID), "nobody decided by %s whether %s keeps access", r.Due.Format(time.DateOnly), r.Person)
		}
	}
	return out
}

// sameTime is how near two requests are for one account to be in two places at once.
const sameTime = 5 * time.Minute
