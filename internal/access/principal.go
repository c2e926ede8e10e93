package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// A Way is how somebody came in.
type Way string

// The ways.
const (
	Nobody    Way = ""        // a stranger
	BySocket  Way = "socket"  // an account of the machine that may open the workspace
	ByOpen    Way = "open"    // the loopback address, while nobody is known
	BySession Way = "session" // a person in a browser
	ByToken   Way = "token"   // a program, for which a person answers
)

// A Principal is who makes a request.
type Principal struct {
	Way     Way
	Name    string // the person; the account of the machine; empty for a stranger
	Session string // its id in lists
	Token   string // the name of the token
	Roles   []Role
	// Why says why somebody who showed something is still a stranger.
	Why     string
	actions []Action
	granted map[Action]int64 // by an emergency grant, and which
}

// Actor is how facts name the principal.
func (p Principal) Actor() string {
	switch p.Way {
	case BySession:
		return p.Name
	case ByToken:
		return p.Name + " (token " + p.Token + ")"
	case BySocket:
		return "local:" + p.Name
	case ByOpen:
		return "loopback"
	}
	return "unknown"
}

// Person is the person, or "" where nobody in particular is known.
func (p Principal) Person() string {
	if p.Way == BySession || p.Way == ByToken {
		return p.Name
	}
	return ""
}

// May reports whether the principal may do something now.
func (p Principal) May(a Action) bool {
	if p.Way == BySocket || p.Way == ByOpen {
		return true
	}
	_, granted := p.granted[a]
	return granted || slices.Contains(p.actions, a)
}

type principalKey struct{}

// With puts a principal into a context.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns who makes a request; a stranger if nobody said.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// Local is an account of the machine that opened the workspace's socket.
func Local(account string) Principal { return Principal{Way: BySocket, Name: account} }

// By settles whose word something is: the person who is logged in, who cannot speak for
// somebody else. Through the socket it is who the request names.
func By(ctx context.Context, named string) (string, error) {
	who := From(ctx).Person()
	switch {
	case who == "":
		return named, nil
	case named == "" || named == who:
		return who, nil
	}
	return "", holdfast.WithHint(fmt.Errorf("%s cannot speak for %s%w", who, named, quiet{ErrForbidden}), "leave the name out, or let %s do it", named)
}

// Enter asks whether the request's principal may do action to object, and returns what
// to call with the status of the answer. A refusal is recorded here; the caller answers
// it and goes no further.
func (m *Module) Enter(ctx context.Context, action Action, object string) (done func(status int), err error) {
	p := From(ctx)
	if p.May(action) {
		return func(status int) { m.record(ctx, p, action, object, status) }, nil
	}
	m.refused(ctx, p, action, object)
	if p.Way == Nobody {
		err := fmt.Errorf("%w: %w", ErrLogin, holdfast.ErrRefused)
		if p.Why != "" {
			err = fmt.Errorf("%s: %w", p.Why, err)
		}
		return nil, holdfast.WithHint(err, "log in on the page, or send a token: Authorization: Bearer …")
	}
	var roles []Role
	for _, r := range Roles {
		if r.Allows(action) {
			roles = append(roles, r)
		}
	}
	hint := "the roles that may are " + join(roles) + "; an administrator gives them"
	if slices.Contains(allowedInEmergency, action) && p.Way == BySession {
		hint += "; in an emergency ask for it under People"
	}
	if p.Way == ByToken {
		hint = "give the program a token with the action " + string(action) + ", from a person who may"
	}
	return nil, holdfast.WithHint(fmt.Errorf("%s may not do this (%s)%w", p.Name, action, quiet{ErrForbidden}), "%s", hint)
}

// What is recorded once within these times, though it is done again.
const (
	readsWithin    = 10 * time.Minute
	refusalsWithin = time.Minute
)

// reading reports whether an action only looks. Taking evidence away and looking into
// backups are recorded each time.
func reading(object string) bool { return strings.HasPrefix(object, "GET ") }

// quiet is an error whose words are said already.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

type doneFact struct {
	Action Action `json:"action"`
	Object string `json:"object"`
	Result int    `json:"result,omitempty"` // status of the answer
	Way    Way    `json:"way"`
	Grant  int64  `json:"grant,omitempty"`
}

// record keeps what was done. Until somebody is known there is nobody to record.
func (m *Module) record(ctx context.Context, p Principal, a Action, object string, status int) {
	if !m.Known() {
		return
	}
	kind := FactDone
	if reading(object) {
		kind = FactRead
		if a != Export && !m.seen.first(p.Actor()+"\x00"+object+"\x00"+p.Session, readsWithin, m.now()) {
			return
		}
	}
	m.keep(ctx, kind, object, p, doneFact{a, object, status, p.Way, p.granted[a]})
}

// refused keeps a refusal. Strangers can cause any number of them, so theirs are kept
// once a minute for each action, without what they asked for.
func (m *Module) refused(ctx context.Context, p Principal, a Action, object string) {
	if !m.Known() {
		return
	}
	if p.Way == Nobody {
		object = "(a stranger)"
	}
	if !m.seen.first("refused\x00"+p.Actor()+"\x00"+string(a)+"\x00"+object, refusalsWithin, m.now()) {
		return
	}
	m.keep(ctx, FactRefused, object, p, doneFact{Action: a, Object: object, Way: p.Way})
}

func (m *Module) keep(ctx context.Context, kind, object string, p Principal, data any) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	err := m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		return m.fact(ctx, tx, kind, clip(object, 400), p.Actor(), data)
	})
	if err != nil {
		m.seen.lost(err)
	}
}

// Unrecorded returns why records could not be kept since the last call, nil if all were.
func (m *Module) Unrecorded() error { return m.seen.take() }

func clip(s string, n int) string {
	s = db.Text(s)
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// maxSeen bounds what the recorder remembers. What it forgets is recorded once more.
const maxSeen = 20_000

// A recorder remembers what was recorded a short while ago.
type recorder struct {
	mu   sync.Mutex
	at   map[string]time.Time
	errs []error
}

func (r *recorder) first(key string, within time.Duration, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil || len(r.at) >= maxSeen {
		r.at = map[string]time.Time{}
	}
	last, ok := r.at[key]
	if age := now.Sub(last); ok && age >= 0 && age < within {
		return false
	}
	r.at[key] = now
	return true
}

func (r *recorder) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errs) < 10 {
		r.errs = append(r.errs, err)
	}
}

func (r *recorder) take() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.errs...)
	r.errs = nil
	return err
}

// Limits of tries from one address.
const (
	maxAddresses = 4096
	triesWithin  = time.Minute
	maxTries     = 30
)

// A limiter counts tries by address. When too many addresses come at once, those that
// it does not know share one count.
type limiter struct {
	mu sync.Mutex
	by map[string]*tries
}

type tries struct {
	since time.Time
	n     int
}

// over counts a try and reports whether it is one too many.
func (l *limiter) over(address string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*tries{}
	}
	old := func(t *tries) bool { return now.Sub(t.since) >= triesWithin || now.Before(t.since) }
	t := l.by[address]
	if t == nil && len(l.by) >= maxAddresses {
		for k, v := range l.by {
			if old(v) {
				delete(l.by, k)
			}
		}
		if len(l.by) >= maxAddresses {
			address = "others"
			t = l.by[address]
		}
	}
	if t == nil || old(t) {
		t = &tries{since: now}
		l.by[address] = t
	}
	t.n++
	return t.n > maxTries
}
