package access

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/seal"
)

// A Site is how the browser reaches this server: a passkey is bound to it.
type Site struct {
	Host   string // name without port; never a literal address
	Origin string // scheme, name and port
}

// MaxCredential bounds what a browser sends of a passkey.
const MaxCredential = 64 << 10

// A Ceremony is one use of a passkey: the browser gets Options, and brings its answer
// with ID within CeremonyTime, once.
type Ceremony struct {
	ID      string `json:"id"`
	Options any    `json:"options"`
}

// ceremony is what the state keeps of one.
type ceremony struct {
	What   string               `json:"what"` // enrol, add, login
	Link   string               `json:"link,omitempty"`
	Person string               `json:"person,omitempty"`
	Host   string               `json:"host"`
	Data   webauthn.SessionData `json:"data"`
}

// A passkeyUser is a person as the library sees one.
type passkeyUser struct {
	id   string
	keys []webauthn.Credential
}

func (u passkeyUser) WebAuthnID() []byte                         { return []byte(u.id) }
func (u passkeyUser) WebAuthnName() string                       { return u.id }
func (u passkeyUser) WebAuthnDisplayName() string                { return u.id }
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.keys }

// relying is the library for one site. The person must be verified by the device (a
// finger, a face, a PIN), so that a passkey is two factors; who made the device is not
// asked, which works without the internet.
func relying(s Site) (*webauthn.WebAuthn, error) {
	return webauthn.New(&webauthn.Config{
		RPID: s.Host, RPDisplayName: "Holdfast", RPOrigins: []string{s.Origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired},
	})
}

// BeginEnrolKey begins the making of a passkey with a link.
func (m *Module) BeginEnrolKey(ctx context.Context, secret, person, address string, s Site) (c Ceremony, err error) {
	if m.tries.over(address, m.now()) {
		return c, refuse("wait a minute", "too many tries from this address")
	}
	var l linkRow
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		l, err = m.readLink(ctx, tx, secret)
		return err
	})
	if err != nil {
		return c, err
	}
	if l.person != "" {
		person = l.person
	} else if err := m.mayBeFirst(person); err != nil {
		return c, err
	}
	return m.beginKey(ctx, ceremony{What: "enrol", Link: secret, Person: person, Host: s.Host}, s)
}

// BeginAddKey begins the making of another passkey for the person who asks.
func (m *Module) BeginAddKey(ctx context.Context, s Site) (c Ceremony, err error) {
	id := From(ctx).Person()
	if id == "" {
		return c, ErrLogin
	}
	return m.beginKey(ctx, ceremony{What: "add", Person: id, Host: s.Host}, s)
}

func (m *Module) beginKey(ctx context.Context, c ceremony, s Site) (Ceremony, error) {
	rp, err := relying(s)
	if err != nil {
		return Ceremony{}, err
	}
	u := passkeyUser{id: c.Person}
	var exclude []protocol.CredentialDescriptor
	if c.What == "add" {
		if u.keys, err = m.keysOf(ctx, c.Person, s.Host); err != nil {
			return Ceremony{}, err
		}
		for _, k := range u.keys {
			exclude = append(exclude, k.Descriptor())
		}
	}
	options, data, err := rp.BeginRegistration(u, webauthn.WithExclusions(exclude))
	if err != nil {
		return Ceremony{}, err
	}
	c.Data = *data
	return m.keepCeremony(ctx, c, options)
}

// BeginKeyLogin begins a log-in with a passkey: the device says who it is.
func (m *Module) BeginKeyLogin(ctx context.Context, address string, s Site) (Ceremony, error) {
	if m.tries.over(address, m.now()) {
		return Ceremony{}, refuse("wait a minute", "too many tries from this address")
	}
	rp, err := relying(s)
	if err != nil {
		return Ceremony{}, err
	}
	options, data, err := rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, err
	}
	return m.keepCeremony(ctx, ceremony{What: "login", Host: s.Host, Data: *data}, options)
}

// keepCeremony remembers a challenge. It is forgotten after a few minutes, or first, if
// strangers begin too many.
func (m *Module) keepCeremony(ctx context.Context, c ceremony, options any) (Ceremony, error) {
	now := m.now()
	// The library's own end is a clock that we do not set.
	c.Data.Expires = time.Time{}
	b, err := json.Marshal(c)
	if err != nil {
		return Ceremony{}, err
	}
	id := seal.Token()
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM access_ceremonies WHERE expires <= ?`, now); err != nil {
			return err
		}
		if n, err := count(ctx, tx, "access_ceremonies", "expires > ?", 0); err != nil {
			return err
		} else if n >= maxCeremonies {
			return refuse("wait some minutes, or use password and code", "too many log-ins are under way")
		}
		_, err := tx.Exec(ctx, `INSERT INTO access_ceremonies (hash, data, expires) VALUES (?, ?, ?)`, seal.TokenHash(id), string(b), now.Add(CeremonyTime))
		return err
	})
	return Ceremony{ID: id, Options: options}, err
}

// takeCeremony returns a challenge and forgets it, whatever comes of it.
func (m *Module) takeCeremony(ctx context.Context, id string, s Site) (c ceremony, err error) {
	var text string
	var expires int64
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		err := tx.QueryRow(ctx, `SELECT data, expires FROM access_ceremonies WHERE hash = ?`, seal.TokenHash(id)).Scan(&text, &expires)
		if err := none(err, "log-in"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM access_ceremonies WHERE hash = ?`, seal.TokenHash(id))
		return err
	})
	if errors.Is(err, ErrNotFound) || err == nil && !m.now().Before(db.Time(expires)) {
		return c, refuse("begin again", "this use of a passkey is over, or was answered already")
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, err
	}
	if c.Host != s.Host {
		return c, refuse("begin again under one name of this server", "this use of a passkey began under another name")
	}
	return c, nil
}

// FinishKey keeps the passkey that the browser made. With a link it ends the enrolment
// and logs the person in; otherwise the entry is empty.
func (m *Module) FinishKey(ctx context.Context, id, name string, answer []byte, s Site, address, agent string) (e Entry, err error) {
	if m.tries.over(address, m.now()) {
		return e, refuse("wait a minute", "too many tries from this address")
	}
	c, err := m.takeCeremony(ctx, id, s)
	if err != nil {
		return e, err
	}
	if c.What == "add" && c.Person != From(ctx).Person() || c.What == "login" {
		return e, denied()
	}
	rp, err := relying(s)
	if err != nil {
		return e, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return e, unusable(err)
	}
	key, err := rp.CreateCredential(passkeyUser{id: c.Person}, c.Data, parsed)
	if err != nil {
		return e, unusable(err)
	}
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		if c.What == "add" {
			if n, err := count(ctx, tx, "access_passkeys", "person = ?", c.Person); err != nil || n >= MaxPerPerson {
				return refuse("end some that are not used", "%s has %d passkeys", c.Person, n)
			}
			if err := m.insertKey(ctx, tx, c, name, key); err != nil {
				return err
			}
			return m.fact(ctx, tx, FactFactor, "people."+c.Person, c.Person, personFact{Person: c.Person, What: "a passkey was added"})
		}
		l, err := m.readLink(ctx, tx, c.Link)
		if err != nil {
			return err
		}
		l.chosen = c.Person
		p, err := m.enrolled(ctx, tx, l)
		if err != nil {
			return err
		}
		p.password, p.totp = "", nil
		if err := m.useLink(ctx, tx, c.Link, p, "passkey"); err != nil {
			return err
		}
		if err := m.insertKey(ctx, tx, c, name, key); err != nil {
			return err
		}
		e, err = m.admit(ctx, tx, p, "passkey", address, agent)
		return err
	})
	if err == nil {
		m.known.Store(true)
	}
	return e, err
}

func unusable(err error) error {
	var p *protocol.Error
	if errors.As(err, &p) {
		err = errors.New(p.Details)
	}
	return holdfast.WithHint(fmt.Errorf("the passkey was not accepted: %w: %w", err, holdfast.ErrRefused), "begin again; a device must ask for a finger, a face or a PIN")
}

func (m *Module) insertKey(ctx context.Context, tx *db.Tx, c ceremony, name string, key *webauthn.Credential) error {
	b, err := json.Marshal(key)
	if err != nil {
		return err
	}
	if name == "" {
		name = "passkey"
	}
	_, err = tx.Exec(ctx, `INSERT INTO access_passkeys (id, person, host, name, credential, created, used) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		base64.RawURLEncoding.EncodeToString(key.ID), c.Person, c.Host, clip(name, 100), string(b), m.now(), 0)
	return err
}

func (m *Module) keysOf(ctx context.Context, person, host string) (out []webauthn.Credential, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, `SELECT credential FROM access_passkeys WHERE person = ? AND host = ? LIMIT ?`, person, host, MaxPerPerson)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			var k webauthn.Credential
			if err := rows.Scan(&text); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(text), &k); err != nil {
				return err
			}
			out = append(out, k)
		}
		return rows.Err()
	})
	return out, err
}

// FinishKeyLogin admits whom a passkey belongs to. A device whose counter went back may
// have been copied: it admits nobody any more, and that is recorded.
func (m *Module) FinishKeyLogin(ctx context.Context, id string, answer []byte, s Site, address, agent string) (e Entry, err error) {
	if m.tries.over(address, m.now()) {
		return e, refuse("wait a minute", "too many tries from this address")
	}
	c, err := m.takeCeremony(ctx, id, s)
	if err != nil {
		return e, err
	}
	if c.What != "login" {
		return e, denied()
	}
	rp, err := relying(s)
	if err != nil {
		return e, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return e, unusable(err)
	}
	user, key, err := rp.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		keys, err := m.keysOf(ctx, string(handle), s.Host)
		return passkeyUser{string(handle), keys}, err
	}, c.Data, parsed)
	if err != nil {
		return e, m.deny(ctx, Login{Person: "(passkey)", Address: address}, "the passkey does not fit")
	}
	person := string(user.WebAuthnID())
	b, err := json.Marshal(key)
	if err != nil {
		return e, err
	}
	kid := base64.RawURLEncoding.EncodeToString(key.ID)
	why := ""
	err = m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		why = ""
		p, err := m.person(ctx, tx, person)
		if err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE access_passkeys SET credential = ?, used = ? WHERE id = ? AND person = ?`, string(b), m.now(), kid, person)
		if err != nil {
			return err
		}
		switch {
		case n == 0 || p.State != Active || !p.Until.IsZero() && !m.now().Before(p.Until):
			why = "the access has ended"
		case key.Authenticator.CloneWarning:
			why = "the passkey may have been copied"
		}
		if why != "" {
			return nil
		}
		e, err = m.admit(ctx, tx, p, "passkey", address, agent)
		return err
	})
	if err == nil && why != "" {
		return Entry{}, m.deny(ctx, Login{Person: person, Address: address}, why)
	}
	return e, err
}

// A Passkey is one in a person's list.
type Passkey struct {
	ID, Name, Host string
	Created, Used  time.Time
}

// Passkeys lists those of the person who asks.
func (m *Module) Passkeys(ctx context.Context) (out []Passkey, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id, name, host, created, used FROM access_passkeys WHERE person = ? ORDER BY created LIMIT ?`, From(ctx).Person(), MaxPerPerson)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k Passkey
			var created, used int64
			if err := rows.Scan(&k.ID, &k.Name, &k.Host, &created, &used); err != nil {
				return err
			}
			k.Created, k.Used = db.Time(created), db.Time(used)
			out = append(out, k)
		}
		return rows.Err()
	})
	return out, err
}

// EndPasskey ends one of the person who asks, unless nothing else would admit them.
func (m *Module) EndPasskey(ctx context.Context, id string) error {
	who := From(ctx).Person()
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		p, err := m.person(ctx, tx, who)
		if err != nil {
			return err
		}
		n, err := count(ctx, tx, "access_passkeys", "person = ?", who)
		if err != nil {
			return err
		}
		if n <= 1 && len(p.totp) == 0 {
			return refuse("add another one first", "without this passkey you could not log in any more")
		}
		if n, err := tx.Exec(ctx, `DELETE FROM access_passkeys WHERE id = ? AND person = ?`, id, who); err != nil || n == 0 {
			return err
		}
		return m.fact(ctx, tx, FactFactor, "people."+who, who, personFact{Person: who, What: "a passkey was ended"})
	})
}
