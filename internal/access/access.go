// Package access knows people: who they are, what they may do, and what they did.
//
// Somebody becomes known by an invitation, which is a link that admits once, and
// enrols with a passkey, or with a password and a one-time code. Nobody has a password
// that somebody else chose, and no password alone admits. Both ways work without the
// internet. What a role may do is one table (table.go); a route of the API or of the
// pages that names no action of it does not compile.
//
// # Invariants
//
//   - Every request has a [Principal], and every action of one is asked of [Module.Enter].
//   - Of passwords, codes, sessions, tokens and links only hashes are kept; the seeds of
//     one-time codes are sealed under a key that is not in the state.
//   - A one-time code, a recovery code, a link and a challenge admit once.
//   - Whoever leaves loses sessions, tokens, factors, roles and grants in one transaction.
//   - Once anybody was ever invited, nobody is let in unknown again.
//   - What is done, read, exported and refused is a fact. What repeats within a short
//     time (a page that looks again) is one.
//   - Memory is bounded whatever strangers send.
//
// # What it does not do
//
// It does not guard the workspace itself: whoever may open the socket, the keys or the
// state in it is the operator of the machine, and is recorded by the name of the account.
package access

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Tables is the module's part of the state.
func Tables() db.Module {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the embedded tree is fixed at build time
	}
	return db.Module{Name: "access", Migrations: sub}
}

// Fact types of this package. The subject is "people." and the person, or the object.
const (
	FactInvited  = "access.invited"
	FactEnrolled = "access.enrolled"
	FactFactor   = "access.factor" // a passkey or recovery codes were made or ended
	FactRoles    = "access.roles"
	FactLeft     = "access.left"
	FactLogin    = "access.login"
	FactLogout   = "access.logout"
	FactDenied   = "access.login-refused"
	FactToken    = "access.token"
	FactRead     = "access.read"
	FactDone     = "access.done"
	FactRefused  = "access.refused"
	FactGrant    = "access.grant"  // asked, given, taken, refused, ended, reviewed
	FactReview   = "access.review" // opened, decided, overdue
)

// Limits.
const (
	MaxPeople      = 10_000
	MaxPerPerson   = 100 // passkeys, tokens, sessions of one person
	MaxGrantTime   = 24 * time.Hour
	MaxGlassTime   = 4 * time.Hour
	MaxTokenTime   = 366 * 24 * time.Hour
	MinPassword    = 12 // characters
	SessionTime    = 12 * time.Hour
	IdleTime       = 2 * time.Hour
	LinkTime       = 72 * time.Hour
	FirstLinkTime  = time.Hour
	CeremonyTime   = 5 * time.Minute
	ReviewGlass    = 72 * time.Hour      // until an emergency is looked at by somebody else
	DecideWithin   = 14 * 24 * time.Hour // until an access review is decided
	LoginEvery     = 90 * 24 * time.Hour // a person who did not log in for so long is flagged
	maxCeremonies  = 10_000
	recoveryCodes  = 10
	clockSlack     = 5 * time.Minute // by which two looks at the clock may differ
	freeFailures   = 5               // wrong tries before somebody has to wait
	lockFirst      = time.Minute
	lockMost       = time.Hour
	lockFirstSteps = 6 // doublings of lockFirst that stay below lockMost
)

var (
	// ErrLogin means that the request has to say first who makes it.
	ErrLogin = errors.New("nobody is logged in")
	// ErrForbidden means that whoever is logged in may not do this.
	ErrForbidden = fmt.Errorf("not theirs to do: %w", holdfast.ErrRefused)
	// ErrNotFound means that there is no such person, grant or token.
	ErrNotFound = errors.New("not found")
)

// Ledger is where facts go.
type Ledger interface {
	Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error)
}

// Config is what the module stands on. All fields are required.
type Config struct {
	DB     *db.DB
	Ledger Ledger
	Facts  *ledger.Log // where they are read
	// Secret returns the key of the secrets in the state, made when it is first needed.
	Secret func() (seal.SecretKey, error)
	// Names lists the people of the plan in force.
	Names func() []string
	// Duties says what the plan in force still rests on a person: rota turns, roles,
	// keys, credentials, offline copies.
	Duties func(person string) []string
	// Small reports whether the plan declares a small team, in which a look afterwards
	// takes the place of a second person before.
	Small func() bool
	// Announce is told of an emergency that nobody approved, in the transaction that
	// records it.
	Announce func(ctx context.Context, tx *db.Tx, g Grant) error
	// ReviewEvery is how often somebody looks at who may do what; 0: only when asked.
	ReviewEvery func() time.Duration
	Clock       func() time.Time
}

// A Module keeps people, what they hold, and what they may do.
type Module struct {
	cfg    Config
	known  atomic.Bool
	seen   recorder
	tries  limiter
	hashes chan struct{} // bounds the memory of passwords that are checked at once
	secret sync.Mutex
}

// New returns the module. Load reads what it must know before the first request.
func New(cfg Config) *Module {
	return &Module{cfg: cfg, hashes: make(chan struct{}, 2)}
}

// Load looks whether anybody was ever invited.
func (m *Module) Load(ctx context.Context) error {
	return m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		var n int64
		if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM access_people`).Scan(&n); err != nil {
			return err
		}
		m.known.Store(n > 0)
		return nil
	})
}

// Known reports whether anybody was ever invited. Until then the server knows nobody,
// and only the loopback address is open.
func (m *Module) Known() bool { return m.known.Load() }

func (m *Module) now() time.Time { return m.cfg.Clock().UTC() }

// fact appends a fact of this package.
func (m *Module) fact(ctx context.Context, tx *db.Tx, kind, subject, actor string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: kind, Subject: subject, Actor: actor, At: m.now(), Data: b})
	return err
}

// seed and open keep a person's secrets.
func (m *Module) seal(what string, plain []byte) ([]byte, error) {
	m.secret.Lock()
	defer m.secret.Unlock()
	k, err := m.cfg.Secret()
	if err != nil {
		return nil, err
	}
	return k.Seal(what, plain), nil
}

func (m *Module) open(what string, sealed []byte) ([]byte, error) {
	m.secret.Lock()
	defer m.secret.Unlock()
	k, err := m.cfg.Secret()
	if err != nil {
		return nil, err
	}
	plain, err := k.Open(what, sealed)
	return plain, holdfast.WithHint(err, "the key file of the secrets is another one than they were sealed with: bring it back, or let the person enrol anew with \"holdfast access link\"")
}

var personID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$`)

// refuse is a refusal with what to do next.
func refuse(hint, format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf(format+": %w", append(args, holdfast.ErrRefused)...), "%s", hint)
}

func wrong(hint, format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf(format+": %w", append(args, holdfast.ErrUsage)...), "%s", hint)
}
