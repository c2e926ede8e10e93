package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

// A Registry is the folder of one gateway: its authority, its own certificate, and whom
// it has enrolled. It lies on the gateway's machine only.
type Registry struct{ dir string }

// Files of a registry.
const (
	fileAuthority = "authority.pem" // certificate and key: whoever has it can enroll anybody
	fileServer    = "server.pem"
	fileClients   = "clients.json"
	fileSpent     = "spent.json"
	fileLock      = "lock"
)

// Limits of a registry.
const (
	maxClientsFile = 1 << 20
	serverDays     = 10 * 365
	MaxDays        = 5 * 365 // longest life of a client's certificate
)

var clientName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// A Client is somebody who was enrolled.
type Client struct {
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Serial   string    `json:"serial"`
	Enrolled time.Time `json:"enrolled"`
	Until    time.Time `json:"until"`
	Revoked  time.Time `json:"revoked,omitzero"`
}

// InitRegistry makes the authority and the server's certificate, for the names and
// addresses under which clients reach it. It refuses a folder that has one. A crash in
// the middle leaves an authority without a server; running it again goes on.
func InitRegistry(dir string, hosts []string, now time.Time) (Registry, error) {
	r := Registry{dir}
	if len(hosts) == 0 {
		return r, fmt.Errorf("gateway: no name under which it is reached: %w", holdfast.ErrUsage)
	}
	if err := durable.MkdirAll(durable.OS, dir, 0o700); err != nil {
		return r, err
	}
	if _, err := seal.ReadKeyFile(r.path(fileAuthority)); isMissing(err) {
		text, err := seal.NewAuthority("holdfast gateway "+hosts[0], now)
		if err != nil {
			return r, err
		}
		if err := seal.WriteKeyFile(r.path(fileAuthority), string(text)); err != nil {
			return r, err
		}
	}
	ca, err := seal.ReadKeyFile(r.path(fileAuthority))
	if err != nil {
		return r, err
	}
	text, err := seal.Certify([]byte(ca), seal.Subject{Name: hosts[0], Hosts: hosts, Days: serverDays}, now)
	if err != nil {
		return r, err
	}
	return r, seal.WriteKeyFile(r.path(fileServer), string(text))
}

// OpenRegistry returns the registry in a folder.
func OpenRegistry(dir string) (Registry, error) {
	r := Registry{dir}
	if _, err := seal.ReadKeyFile(r.path(fileServer)); err != nil {
		if isMissing(err) {
			return r, holdfast.WithHint(fmt.Errorf("no gateway is in %s: %w", dir, holdfast.ErrUsage), "\"holdfast gateway init %s --host NAME\" makes one", dir)
		}
		return r, err
	}
	return r, nil
}

func (r Registry) path(name string) string { return filepath.Join(r.dir, name) }

// Identity is the server's own.
func (r Registry) Identity() ([]byte, error) {
	text, err := seal.ReadKeyFile(r.path(fileServer))
	return []byte(text), err
}

// SpentFile is where the budget of writers is kept.
func (r Registry) SpentFile() string { return r.path(fileSpent) }

// Clients lists whom the gateway has enrolled, in order.
func (r Registry) Clients() (cs []Client, err error) {
	b, err := durable.ReadFile(durable.OS, r.path(fileClients), maxClientsFile)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if err := json.Unmarshal(b, &cs); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("gateway: %s is damaged", r.path(fileClients)), "bring it back from a backup; until then the gateway admits nobody")
	}
	return cs, nil
}

// Revoked reports whether a certificate is not believed: because it was taken back, or
// because it is not one of those that were enrolled.
func (r Registry) Revoked(serial string) (bool, error) {
	cs, err := r.Clients()
	if err != nil {
		return true, err
	}
	i := slices.IndexFunc(cs, func(c Client) bool { return c.Serial == serial })
	return i < 0 || !cs[i].Revoked.IsZero(), nil
}

// Enroll makes the identity of a client. The client is noted before its identity exists
// anywhere else: a crash leaves a name that nobody can use.
func (r Registry) Enroll(name string, role Role, days int, now time.Time) (identity []byte, c Client, err error) {
	switch {
	case !clientName.MatchString(name):
		return nil, c, holdfast.WithHint(fmt.Errorf("client %q: %w", name, holdfast.ErrUsage), "use small letters, digits, dots and dashes, such as db1")
	case CheckRole(role) != nil:
		return nil, c, holdfast.WithHint(fmt.Errorf("%w: %w", CheckRole(role), holdfast.ErrUsage), "a source agent is a writer")
	case days < 1 || days > MaxDays:
		return nil, c, holdfast.WithHint(fmt.Errorf("%d days: %w", days, holdfast.ErrUsage), "an identity holds for 1 to %d days", MaxDays)
	}
	ca, err := seal.ReadKeyFile(r.path(fileAuthority))
	if err != nil {
		return nil, c, err
	}
	if identity, err = seal.Certify([]byte(ca), seal.Subject{Name: name, Role: string(role), Days: days}, now); err != nil {
		return nil, c, err
	}
	peer, err := seal.Certified(identity)
	if err != nil {
		return nil, c, err
	}
	c = Client{Name: name, Role: role, Serial: peer.Serial, Enrolled: now.UTC(), Until: peer.Until}
	return identity, c, r.change(func(cs []Client) ([]Client, error) {
		if i := slices.IndexFunc(cs, func(o Client) bool { return o.Name == name && o.Role != role && o.Revoked.IsZero() }); i >= 0 {
			return nil, holdfast.WithHint(fmt.Errorf("%q is enrolled as a %s: %w", name, cs[i].Role, holdfast.ErrRefused), "nobody should hold two roles: give it another name, or revoke the first")
		}
		return append(cs, c), nil
	})
}

// Revoke takes every identity of a name back. A running gateway sees it at once.
func (r Registry) Revoke(name string, now time.Time) (n int, err error) {
	err = r.change(func(cs []Client) ([]Client, error) {
		var names []string
		for i, c := range cs {
			if c.Name == name && c.Revoked.IsZero() {
				cs[i].Revoked = now.UTC()
				n++
			}
			names = append(names, c.Name)
		}
		if n == 0 {
			return nil, holdfast.WithHint(fmt.Errorf("nobody called %q is enrolled: %w", name, holdfast.ErrUsage), "enrolled are %s", strings.Join(names, ", "))
		}
		return cs, nil
	})
	return n, err
}

// change rewrites the list of clients, one process at a time.
func (r Registry) change(f func([]Client) ([]Client, error)) (err error) {
	lock, err := durable.Lock(r.path(fileLock))
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	cs, err := r.Clients()
	if err != nil {
		return err
	}
	if cs, err = f(cs); err != nil {
		return err
	}
	b, err := json.MarshalIndent(cs, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, r.path(fileClients), append(b, '\n'), 0o600)
}
