package access

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/seal"
)

// A Login is what somebody shows to come in, and from where.
type Login struct {
	Person   string
	Password string
	Code     string // of the app, or a recovery code
	Address  string // of the browser
	Agent    string // what it says it is
}

// An Entry is a new session.
type Entry struct {
	Session
	Secret string `json:"-"` // for the cookie; kept nowhere
}

// The parameters of one-time codes that every app knows (RFC 6238).
const (
	codeStep   = 30 // seconds
	codeDigits = otp.DigitsSix
	codeDrift  = 1 // steps that a clock may be off, either way
	seedBytes  = 20
)

// denied is the one answer to every wrong try: it does not say what was wrong.
func denied() error {
	return refuse("use the code that the app shows now, or a recovery code; an administrator can make a new link", "name, password or code is wrong")
}

// LogIn admits somebody with a password and a code: neither admits alone.
//
// A wrong try costs time: after five, each doubles a wait of a minute, up to an hour.
// The wait holds for passwords only, so that nobody can lock somebody with a passkey out.
func (m *Module) LogIn(ctx context.Context, l Login) (e Entry, err error) {
	now := m.now()
	if m.tries.over(l.Address, now) {
		return e, refuse("wait a minute", "too many tries from this address")
	}
	if len(l.Password) > seal.MaxPassword || len(l.Code) > 100 || len(l.Person) > 100 {
		return e, denied()
	}
	var p Person
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ps, err := m.people(ctx, tx, `WHERE id = ? AND state = 'active'`, l.Person)
		if len(ps) == 1 {
			p = ps[0]
		}
		return err
	})
	if err != nil {
		return e, err
	}
	// A stranger's name takes as long as a known one.
	good, err := m.checkPassword(ctx, p.password, l.Password)
	if err != nil {
		return e, err
	}
	if p.ID == "" {
		return e, m.deny(ctx, l, "no such person")
	}
	if wait := p.locked.Sub(now); wait > 0 && wait <= lockMost+clockSlack {
		return e, holdfast.WithHint(fmt.Errorf("too many wrong tries: %w", holdfast.ErrRefused), "wait %s, or use a passkey; an administrator can make a new link", holdfast.FormatDuration(wait.Round(time.Second)))
	}
	why := ""
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		why = ""
		p, err := m.person(ctx, tx, l.Person)
		if err != nil {
			return err
		}
		factor, wrongness := "", ""
		if good { // a slip in the password uses no code up
			if factor, wrongness, err = m.second(ctx, tx, &p, l.Code, now); err != nil {
				return err
			}
		}
		switch {
		case p.State != Active || !p.Until.IsZero() && !now.Before(p.Until):
			why = "the access has ended"
		case !good:
			why = "wrong password"
		case factor == "":
			why = wrongness
		}
		if why != "" {
			p.failures++
			if n := p.failures - freeFailures; n >= 0 {
				p.locked = now.Add(min(lockFirst<<min(n, lockFirstSteps), lockMost))
			}
			return m.save(ctx, tx, p)
		}
		p.failures, p.locked = 0, time.Time{}
		e, err = m.admit(ctx, tx, p, factor, l.Address, l.Agent)
		return err
	})
	if err == nil && why != "" {
		return Entry{}, m.deny(ctx, l, why)
	}
	return e, err
}

// deny records a wrong try once a minute for each name, and answers it.
func (m *Module) deny(ctx context.Context, l Login, why string) error {
	who := l.Person
	if why == "no such person" {
		who = "(unknown)" // what strangers type may be anything, even a password
	}
	if m.seen.first("denied\x00"+who+"\x00"+why, refusalsWithin, m.now()) {
		if err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
			return m.fact(ctx, tx, FactDenied, "people."+who, "unknown", map[string]string{"why": why})
		}); err != nil {
			m.seen.lost(err)
		}
	}
	return denied()
}

// checkPassword hashes in turn: each takes 64 MiB.
func (m *Module) checkPassword(ctx context.Context, hash, password string) (bool, error) {
	select {
	case m.hashes <- struct{}{}:
		defer func() { <-m.hashes }()
		return seal.CheckPassword(hash, password), nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (m *Module) hashPassword(ctx context.Context, password string) (string, error) {
	if n := len([]rune(password)); n < MinPassword || len(password) > seal.MaxPassword {
		return "", wrong(fmt.Sprintf("take %d characters or more; four random words do", MinPassword), "the password has %d characters", n)
	}
	select {
	case m.hashes <- struct{}{}:
		defer func() { <-m.hashes }()
		return seal.HashPassword(password), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// second looks whether a code admits, and uses it up. Without a factor it says why.
func (m *Module) second(ctx context.Context, tx *db.Tx, p *Person, code string, now time.Time) (factor, why string, err error) {
	code = strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(code))
	if len(code) == 6 && len(p.totp) > 0 {
		seed, err := m.open("totp."+p.ID, p.totp)
		if err != nil {
			return "", "", err
		}
		step, ok := matches(string(seed), code, now)
		switch {
		case !ok:
			return "", "wrong code", nil
		case step <= p.step:
			// Replayed; or the clock of this server went back.
			return "", "the code was used already", nil
		}
		p.step = step
		return "code", "", nil
	}
	n, err := tx.Exec(ctx, `DELETE FROM access_codes WHERE person = ? AND hash = ?`, p.ID, codeHash(p.ID, code))
	if err != nil || n == 1 {
		return "recovery-code", "", err
	}
	return "", "wrong code", nil
}

// matches finds the step near now whose code it is.
func matches(seed, code string, now time.Time) (int64, bool) {
	for d := int64(-codeDrift); d <= codeDrift; d++ {
		step := now.Unix()/codeStep + d
		if step < 0 {
			continue
		}
		if ok, err := hotp.ValidateCustom(code, uint64(step), seed, hotp.ValidateOpts{Digits: codeDigits, Algorithm: otp.AlgorithmSHA1}); err == nil && ok {
			return step, true
		}
	}
	return 0, false
}

func codeHash(person, code string) string { return seal.TokenHash(person + "\x00" + code) }

// newCodes replaces the recovery codes of a person and returns the new ones, which are
// shown once. Each has 80 random bits.
func (m *Module) newCodes(ctx context.Context, tx *db.Tx, person string) ([]string, error) {
	if _, err := tx.Exec(ctx, `DELETE FROM access_codes WHERE person = ?`, person); err != nil {
		return nil, err
	}
	var out []string
	for range recoveryCodes {
		var b [10]byte
		_, _ = rand.Read(b[:]) // never fails: it ends the program instead
		code := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
		if _, err := tx.Exec(ctx, `INSERT INTO access_codes (hash, person) VALUES (?, ?)`, codeHash(person, code), person); err != nil {
			return nil, err
		}
		out = append(out, strings.Join([]string{code[:4], code[4:8], code[8:12], code[12:]}, "-"))
	}
	return out, nil
}

// NewCodes makes new recovery codes for the person who asks; the old ones end.
func (m *Module) NewCodes(ctx context.Context) (codes []string, err error) {
	id := From(ctx).Person()
	if id == "" {
		return nil, ErrLogin
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if codes, err = m.newCodes(ctx, tx, id); err != nil {
			return err
		}
		return m.fact(ctx, tx, FactFactor, "people."+id, id, personFact{Person: id, What: "new recovery codes"})
	})
	return codes, err
}

// admit begins a session.
func (m *Module) admit(ctx context.Context, tx *db.Tx, p Person, factor, address, agent string) (Entry, error) {
	now := m.now()
	p.LastLogin = now
	if err := m.save(ctx, tx, p); err != nil {
		return Entry{}, err
	}
	e := Entry{Session: Session{ID: seal.Token()[:10], Person: p.ID, Factor: factor, Address: clip(address, 100), Agent: clip(agent, 200), Created: now, Seen: now, Expires: now.Add(SessionTime)}, Secret: seal.Token()}
	if !p.Until.IsZero() && p.Until.Before(e.Expires) {
		e.Expires = p.Until
	}
	// The oldest end when there are too many.
	old, err := m.sessions(ctx, tx, `WHERE person = ? ORDER BY created DESC LIMIT 1000`, p.ID)
	if err != nil {
		return e, err
	}
	for i, s := range old {
		if i >= MaxPerPerson-1 || !s.Expires.After(now) {
			if _, err := tx.Exec(ctx, `DELETE FROM access_sessions WHERE hash = ?`, s.hash); err != nil {
				return e, err
			}
		}
	}
	if _, err := tx.Exec(ctx, `INSERT INTO access_sessions (`+sessionColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		seal.TokenHash(e.Secret), e.ID, p.ID, factor, e.Address, e.Agent, e.Created, e.Seen, e.Expires); err != nil {
		return e, err
	}
	return e, m.fact(ctx, tx, FactLogin, "people."+p.ID, p.ID, map[string]string{"factor": factor, "session": e.ID})
}

// BySession returns who a cookie stands for: a stranger, with the reason, if nobody.
func (m *Module) BySession(ctx context.Context, secret string) (Principal, error) {
	now := m.now()
	var p Principal
	var s Session
	err := m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ss, err := m.sessions(ctx, tx, `WHERE hash = ?`, seal.TokenHash(secret))
		if err != nil {
			return err
		}
		if len(ss) == 0 {
			p.Why = "the session has ended"
			return nil
		}
		s = ss[0]
		switch {
		case !now.Before(s.Expires), now.Sub(s.Seen) > IdleTime:
			p.Why = "the session has ended: it is too old, or was not used for long"
			return nil
		case s.Created.Sub(now) > clockSlack:
			p.Why = "the session begins in the future: the clock of the server went back"
			return nil
		}
		p, err = m.principal(ctx, tx, s.Person, now)
		return err
	})
	if err != nil || p.Name == "" {
		return p, err
	}
	p.Way, p.Session = BySession, s.ID
	if now.Sub(s.Seen) > time.Minute {
		// A crash here loses a minute of the session's time to idle.
		err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE access_sessions SET seen = ? WHERE hash = ?`, now, s.hash)
			return err
		})
	}
	return p, err
}

// principal says what a person may do now, by roles and by grants.
func (m *Module) principal(ctx context.Context, tx *db.Tx, id string, now time.Time) (Principal, error) {
	who, err := m.person(ctx, tx, id)
	if err != nil {
		return Principal{}, err
	}
	if who.State != Active || !who.Until.IsZero() && !now.Before(who.Until) {
		return Principal{Why: "the access of " + id + " has ended"}, nil
	}
	p := Principal{Name: id, Roles: who.Roles, actions: who.May(now), granted: map[Action]int64{}}
	gs, err := m.grants(ctx, tx, `WHERE person = ? AND state = 'given' AND given <= ? AND until > ?`, id, now, now)
	for _, g := range gs {
		for _, a := range g.Actions {
			p.granted[a] = g.ID
		}
	}
	return p, err
}

// LogOut ends a session of the person who asks: the one of the request, or another.
func (m *Module) LogOut(ctx context.Context, session string) error {
	p := From(ctx)
	if p.Person() == "" {
		return ErrLogin
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `DELETE FROM access_sessions WHERE person = ? AND id = ?`, p.Name, session)
		if err != nil || n == 0 {
			return err
		}
		return m.fact(ctx, tx, FactLogout, "people."+p.Name, p.Actor(), map[string]string{"session": session})
	})
}

// An Enrolment is what a link is for.
type Enrolment struct {
	Person  string    // "" on the first link, until somebody says who it is
	First   bool      // of the first administrator
	Names   []string  // who the first administrator can be
	Seed    string    // of one-time codes, once the password is chosen
	Address string    // the same for an app: otpauth://…
	Expires time.Time // of the link
}

type linkRow struct {
	person, pending, chosen string
	totp                    []byte
	expires                 time.Time
}

func (m *Module) readLink(ctx context.Context, tx *db.Tx, secret string) (l linkRow, err error) {
	var expires int64
	err = tx.QueryRow(ctx, `SELECT person, totp, pending, chosen, expires FROM access_links WHERE hash = ?`, seal.TokenHash(secret)).Scan(&l.person, &l.totp, &l.pending, &l.chosen, &expires)
	l.expires = db.Time(expires)
	if err = none(err, "link"); err == nil && !m.now().Before(l.expires) || err == nil && l.person == "" && m.Known() {
		err = fmt.Errorf("link: %w", ErrNotFound)
	}
	return l, holdfast.WithHint(err, "a link admits once and for a time; an administrator makes a new one with \"holdfast access link\"")
}

// Enrolment says what a link is for.
func (m *Module) Enrolment(ctx context.Context, secret string) (e Enrolment, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		l, err := m.readLink(ctx, tx, secret)
		if err != nil {
			return err
		}
		e = Enrolment{Person: l.person, First: l.person == "", Expires: l.expires}
		if e.First {
			e.Person, e.Names = l.chosen, m.cfg.Names()
		}
		if len(l.totp) > 0 {
			seed, err := m.open("link."+seal.TokenHash(secret), l.totp)
			if err != nil {
				return err
			}
			e.Seed = string(seed)
			e.Address = (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/Holdfast:" + e.Person, RawQuery: url.Values{"secret": {e.Seed}, "issuer": {"Holdfast"}}.Encode()}).String()
		}
		return nil
	})
	return e, err
}

// ChoosePassword is the first step of enrolling with a code: it keeps the password
// aside and makes the seed. Nothing changes for the person until a code is shown.
func (m *Module) ChoosePassword(ctx context.Context, secret, person, password, address string) error {
	if m.tries.over(address, m.now()) {
		return refuse("wait a minute", "too many tries from this address")
	}
	hash, err := m.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	var b [seedBytes]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	sealed, err := m.seal("link."+seal.TokenHash(secret), []byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])))
	if err != nil {
		return err
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		l, err := m.readLink(ctx, tx, secret)
		if err != nil {
			return err
		}
		if l.person == "" {
			if err := m.mayBeFirst(person); err != nil {
				return err
			}
			l.chosen = person
		}
		_, err = tx.Exec(ctx, `UPDATE access_links SET totp = ?, pending = ?, chosen = ? WHERE hash = ?`, sealed, hash, l.chosen, seal.TokenHash(secret))
		return err
	})
}

func (m *Module) mayBeFirst(person string) error {
	if !personID.MatchString(person) || !slices.Contains(m.cfg.Names(), person) {
		return wrong("choose one of the people of the plan", "%q is not a person of the plan in force", person)
	}
	return nil
}

// EnrolCode ends enrolling with a code: the link is used up, what the person had before
// ends, and they are logged in. It returns the recovery codes, which are shown once.
func (m *Module) EnrolCode(ctx context.Context, secret, code, address, agent string) (e Entry, codes []string, err error) {
	now := m.now()
	if m.tries.over(address, now) {
		return e, nil, refuse("wait a minute", "too many tries from this address")
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		l, err := m.readLink(ctx, tx, secret)
		if err != nil {
			return err
		}
		if len(l.totp) == 0 {
			return refuse("choose a password first", "there is no code to show yet")
		}
		seed, err := m.open("link."+seal.TokenHash(secret), l.totp)
		if err != nil {
			return err
		}
		step, ok := matches(string(seed), strings.ReplaceAll(code, " ", ""), now)
		if !ok {
			return refuse("type the six digits that the app shows now; the clocks of phone and server must agree to half a minute", "the code is wrong")
		}
		p, err := m.enrolled(ctx, tx, l)
		if err != nil {
			return err
		}
		if p.totp, err = m.seal("totp."+p.ID, seed); err != nil {
			return err
		}
		p.password, p.step = l.pending, step
		if codes, err = m.newCodes(ctx, tx, p.ID); err != nil {
			return err
		}
		if err := m.useLink(ctx, tx, secret, p, "password and code"); err != nil {
			return err
		}
		e, err = m.admit(ctx, tx, p, "code", address, agent)
		return err
	})
	if err == nil {
		m.known.Store(true)
	}
	return e, codes, err
}

// enrolled is the person of a link, made active. The first administrator begins here.
func (m *Module) enrolled(ctx context.Context, tx *db.Tx, l linkRow) (Person, error) {
	now := m.now()
	if l.person == "" {
		return Person{ID: l.chosen, Roles: []Role{Administrator}, State: Active, InvitedBy: "first link", Created: now, Enrolled: now}, nil
	}
	p, err := m.person(ctx, tx, l.person)
	if err != nil {
		return p, err
	}
	if p.State == Left {
		return p, refuse("ask for an invitation", "%s has left", p.ID)
	}
	p.State, p.Enrolled, p.failures, p.locked = Active, now, 0, time.Time{}
	return p, nil
}

// useLink ends the link, and the sessions and passkeys that the person had before:
// whoever needs a new link has lost something.
func (m *Module) useLink(ctx context.Context, tx *db.Tx, secret string, p Person, what string) error {
	for _, q := range []string{`DELETE FROM access_sessions WHERE person = ?`, `DELETE FROM access_passkeys WHERE person = ?`} {
		if _, err := tx.Exec(ctx, q, p.ID); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `DELETE FROM access_links WHERE hash = ?`, seal.TokenHash(secret)); err != nil {
		return err
	}
	return m.fact(ctx, tx, FactEnrolled, "people."+p.ID, p.ID, personFact{Person: p.ID, Roles: p.Roles, What: what})
}
