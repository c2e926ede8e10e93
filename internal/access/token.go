package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/seal"
)

// tokenPrefix makes a token recognisable where it should not be.
const tokenPrefix = "hft_"

// TokenActions are what a program may be given: what needs a person is left out.
var TokenActions = []Action{View, Document, Run, Respond, Restore, Configure, Export, Audit}

// NewToken makes a token for a program, for which person answers, and returns it: it is
// shown once. It can do no more than the person may, now and at each use.
func (m *Module) NewToken(ctx context.Context, person, name string, actions []Action, until time.Time, by string) (t Token, secret string, err error) {
	now := m.now()
	switch {
	case name == "" || len(name) > 100:
		return t, "", wrong("say which program it is for: --name backup-report", "the token needs a name of at most 100 characters")
	case len(actions) == 0:
		return t, "", wrong("--may view,run", "the token may do nothing")
	case !until.After(now) || until.Sub(now) > MaxTokenTime:
		return t, "", wrong("name a day within a year: --until 2027-01-31", "a token ends on a day that comes, within a year")
	}
	for _, a := range actions {
		if !slices.Contains(TokenActions, a) {
			return t, "", refuse("the actions of tokens are "+join(TokenActions), "no program may %s: that needs a person", a)
		}
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, person)
		if err != nil {
			return err
		}
		for _, a := range actions {
			if !slices.Contains(p.May(now), a) {
				return refuse("a token does what its person may; the roles of "+person+" are "+join(p.Roles), "%s may not do this (%s)", person, a)
			}
		}
		if n, err := count(ctx, tx, "access_tokens", "person = ?", person); err != nil || n >= MaxPerPerson {
			return refuse("end some that are not used", "%s has %d tokens", person, n)
		}
		random := seal.Token()
		secret = tokenPrefix + random
		t = Token{ID: seal.Token()[:10], Person: person, Name: name, Actions: actions, Created: now, Expires: until, hash: seal.TokenHash(secret)}
		if _, err := tx.Exec(ctx, `INSERT INTO access_tokens (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, t.hash, t.ID, person, name, `["`+strings.ReplaceAll(join(actions), ", ", `","`)+`"]`, now, until, 0); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactToken, "people."+person, by, t)
	})
	return t, secret, err
}

// EndToken ends a token; person limits whose, "" is anybody's.
func (m *Module) EndToken(ctx context.Context, id, person, by string) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		ts, err := m.tokens(ctx, tx, `WHERE id = ?`, id)
		if err != nil {
			return err
		}
		if len(ts) == 0 || person != "" && ts[0].Person != person {
			return wrong("\"holdfast access list\" names the tokens", "there is no token %q", id)
		}
		if _, err := tx.Exec(ctx, `DELETE FROM access_tokens WHERE id = ?`, id); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactToken, "people."+ts[0].Person, by, map[string]string{"id": id, "name": ts[0].Name, "what": "ended"})
	})
}

// ByToken returns who a token stands for; a stranger, with the reason, if it holds no
// more. Guesses are as limited as those of passwords.
func (m *Module) ByToken(ctx context.Context, secret, address string) (p Principal, err error) {
	now := m.now()
	if len(secret) > 200 || !strings.HasPrefix(secret, tokenPrefix) {
		return Principal{Why: "the token is not one of this server's"}, nil
	}
	var t Token
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ts, err := m.tokens(ctx, tx, `WHERE hash = ?`, seal.TokenHash(secret))
		if err != nil {
			return err
		}
		if len(ts) == 0 {
			p.Why = "the token is not one of this server's, or was ended"
			return nil
		}
		t = ts[0]
		switch {
		case !now.Before(t.Expires):
			p.Why = "the token ended on " + t.Expires.Format(time.DateOnly)
			return nil
		case t.Created.Sub(now) > clockSlack:
			p.Why = "the token begins in the future: the clock of the server went back"
			return nil
		}
		p, err = m.principal(ctx, tx, t.Person, now)
		return err
	})
	if err != nil || p.Name == "" {
		if err == nil && m.tries.over(address, now) {
			p.Why = "too many wrong tokens from this address; wait a minute"
		}
		return p, err
	}
	p.actions = slices.DeleteFunc(p.actions, func(a Action) bool { return !slices.Contains(t.Actions, a) })
	p.granted = nil // an emergency is a person's
	p.Way, p.Token = ByToken, t.Name
	if now.Sub(t.Used) > time.Minute {
		err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE access_tokens SET used = ? WHERE hash = ?`, now, t.hash)
			return err
		})
	}
	return p, err
}
