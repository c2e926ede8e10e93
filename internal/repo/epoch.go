package repo

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/seal"
)

// A key epoch holds keys of objects that lie at a place already, for recipients to whom
// those objects were not sealed. The objects themselves stay as they are: they are
// written once. docs/format/repository.md, section 14.
const (
	domainKeys = "keys"
	typeKeys   = "keys"

	keysPrefix = "keys/"

	maxEpoch        = 16 << 20 // bytes of one
	maxEpochObjects = 50_000   // keys in one
	maxEpochs       = 10_000   // of one scope
)

func epochName(scope, id string) string { return keysPrefix + scope + "/" + id }

// An epoch is the clear part of a key epoch.
type epoch struct {
	Format     int       `json:"format"`
	Type       string    `json:"type"`
	Repository string    `json:"repository"`
	Scope      string    `json:"scope"`
	ID         string    `json:"id"`
	Created    time.Time `json:"created"`
	Objects    []string  `json:"objects"` // whose keys these are, in order
	Wrapped    string    `json:"wrapped"` // the epoch's own key, as an age file in base64
	Sealed     string    `json:"sealed"`  // the keys, in base64
	Signer     string    `json:"signer"`

	raw []byte
}

func (e *epoch) context() []byte {
	return []byte("holdfast/1 keys\n" + e.Repository + "\n" + e.Scope + "/" + e.ID + "\n" + hexHash([]byte(strings.Join(e.Objects, "\n"))))
}

// makeEpoch seals keys to recipients.
func makeEpoch(repository, scope string, now time.Time, keys map[string]seal.Key, to []seal.Recipient, key seal.SigningKey) (*epoch, error) {
	e := &epoch{Format: formatOne, Type: typeKeys, Repository: repository, Scope: scope, ID: newSnapshotID(now), Created: now.UTC(), Objects: sortedKeys(keys), Signer: key.Name()}
	own := seal.NewKey()
	wrapped, err := seal.Wrap(own, to)
	if err != nil {
		return nil, err
	}
	var plain []byte
	for _, name := range e.Objects {
		k := keys[name]
		plain = append(plain, k[:]...)
	}
	e.Wrapped = base64.StdEncoding.EncodeToString(wrapped)
	e.Sealed = base64.StdEncoding.EncodeToString(seal.NewBox(own, e.context()).Seal(nil, 0, plain))
	clear(plain)
	line, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if e.raw = signed(line, domainKeys, key); len(e.raw) > maxEpoch {
		return nil, fmt.Errorf("key epoch of %d bytes: %w", len(e.raw), ErrLimit)
	}
	return e, nil
}

// parseEpoch reads a key epoch and checks all of it that needs no key.
func parseEpoch(raw []byte, repository, name string) (*epoch, error) {
	line, _, err := splitSigned(raw)
	if err != nil {
		return nil, err
	}
	e := &epoch{raw: raw}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, fmt.Errorf("%v: %w", err, ErrDamaged)
	}
	switch {
	case e.Format != formatOne:
		return nil, fmt.Errorf("format %d: %w", e.Format, ErrFormat)
	case e.Type != typeKeys:
		return nil, fmt.Errorf("a %q where keys belong: %w", e.Type, ErrKind)
	case e.Repository != repository:
		return nil, fmt.Errorf("of repository %q: %w", e.Repository, ErrForeign)
	case epochName(e.Scope, e.ID) != name:
		return nil, fmt.Errorf("holds %q of %q: %w", e.ID, e.Scope, ErrSubstituted)
	case len(e.Objects) == 0 || len(e.Objects) > maxEpochObjects:
		return nil, fmt.Errorf("%d keys: %w", len(e.Objects), ErrDamaged)
	}
	for _, o := range e.Objects {
		if _, pack := packOfObject(o); !pack && !strings.HasPrefix(o, "logs/"+e.Scope+"/") {
			return nil, fmt.Errorf("a key of %q: %w", o, ErrKind)
		}
	}
	return e, nil
}

// recipients lists the fingerprints of who can open the epoch, as its writer says.
func (e *epoch) recipients() ([]string, error) {
	wrapped, err := base64.StdEncoding.DecodeString(e.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("wrapped key: %w", ErrDamaged)
	}
	return seal.WrappedTo(wrapped)
}

// open returns the keys, by the names of their objects.
func (e *epoch) open(ids []seal.Identity) (map[string]seal.Key, error) {
	wrapped, err := base64.StdEncoding.DecodeString(e.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("wrapped key: %w", ErrDamaged)
	}
	sealed, err := base64.StdEncoding.DecodeString(e.Sealed)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", ErrDamaged)
	}
	own, err := seal.Unwrap(wrapped, ids...)
	if err != nil {
		return nil, err
	}
	plain, err := seal.NewBox(own, e.context()).Open(nil, 0, sealed)
	if err != nil || len(plain) != len(e.Objects)*len(seal.Key{}) {
		return nil, fmt.Errorf("keys: %w", ErrDamaged)
	}
	out := make(map[string]seal.Key, len(e.Objects))
	for i, name := range e.Objects {
		out[name] = seal.Key(plain[i*len(seal.Key{}):][:len(seal.Key{})])
	}
	return out, nil
}

// epochNames lists the key epochs of a scope, oldest first.
func (r *Repository) epochNames(ctx context.Context, scope string) (names []string, err error) {
	err = r.store.List(ctx, keysPrefix+scope+"/", func(o Object) error {
		if idPattern.MatchString(strings.TrimPrefix(o.Name, keysPrefix+scope+"/")) {
			if names = append(names, o.Name); len(names) > maxEpochs {
				return fmt.Errorf("more than %d key epochs: %w", maxEpochs, ErrLimit)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list key epochs of %q: %w", scope, err)
	}
	return names, nil
}

// readEpoch reads a key epoch or a replacement of it. Where the repository trusts
// certain keys, one of them must have signed it.
func (r *Repository) readEpoch(ctx context.Context, name string) (e *epoch, err error) {
	return e, r.instead(ctx, name, func(at string) error {
		raw, err := readObject(ctx, r.store, at, maxEpoch)
		if err != nil {
			return err
		}
		got, err := parseEpoch(raw, r.id, name)
		if err == nil && len(r.trust) > 0 {
			err = verifySigned(raw, domainKeys, got.Signer, r.trust)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", at, err)
		}
		e = got
		return nil
	})
}

// Epochs lists the key epochs of a scope, by the names of their objects.
func (r *Repository) Epochs(ctx context.Context, scope string) ([]string, error) {
	if err := checkPart("scope", scope); err != nil {
		return nil, err
	}
	return r.epochNames(ctx, scope)
}

// A ring holds the keys that some identities opened in the key epochs of a scope.
type ring struct {
	mu   sync.Mutex
	seen map[string]bool
	keys map[string][]seal.Key
}

// ringOf returns the ring of a scope and some identities: what others opened is not
// given to who cannot.
func (r *Repository) ringOf(scope string, ids []seal.Identity) *ring {
	key := scope
	for _, id := range ids {
		key += " " + id.Recipient().String()
	}
	r.ringsMu.Lock()
	defer r.ringsMu.Unlock()
	if r.rings == nil {
		r.rings = map[string]*ring{}
	}
	g := r.rings[key]
	if g == nil {
		g = &ring{seen: map[string]bool{}, keys: map[string][]seal.Key{}}
		r.rings[key] = g
	}
	return g
}

// rewrapped returns the keys that the epochs of a scope hold for an object. It looks
// for new epochs when it knows of none.
func (r *Repository) rewrapped(ctx context.Context, scope, object string, ids []seal.Identity) ([]seal.Key, error) {
	g := r.ringOf(scope, ids)
	g.mu.Lock()
	defer g.mu.Unlock()
	if ks := g.keys[object]; ks != nil {
		return ks, nil
	}
	names, err := r.epochNames(ctx, scope)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if g.seen[name] {
			continue
		}
		e, err := r.readEpoch(ctx, name)
		var got map[string]seal.Key
		if err == nil {
			got, err = e.open(ids)
		}
		if err != nil && !isDamage(err) && !errors.Is(err, ErrUntrusted) {
			return nil, err // the place may answer the next time
		}
		g.seen[name] = true
		for o, k := range got {
			if !slices.Contains(g.keys[o], k) {
				g.keys[o] = append(g.keys[o], k)
			}
		}
	}
	return g.keys[object], nil
}

// unwrap calls try with the key of an object: the one in its own header or, if none of
// the identities opens that, those that key epochs hold for it. A key of an epoch is
// believed only if the object opens with it.
func (r *Repository) unwrap(ctx context.Context, scope, object string, wrapped []byte, ids []seal.Identity, try func(seal.Key) error) error {
	key, err := seal.Unwrap(wrapped, ids...)
	if err == nil {
		return try(key)
	}
	if !errors.Is(err, seal.ErrNoIdentity) || len(ids) == 0 {
		return err
	}
	keys, lerr := r.rewrapped(ctx, scope, object, ids)
	if lerr != nil {
		return lerr
	}
	for i, k := range slices.Backward(keys) { // the newest first
		if terr := try(k); terr == nil || i == 0 {
			return terr
		}
	}
	return err
}

// copyEpochs brings the key epochs of a scope along: what is readable where a snapshot
// comes from is readable where it goes.
func (r *Repository) copyEpochs(ctx context.Context, from *Repository, scope string) error {
	names, err := from.epochNames(ctx, scope)
	if err != nil || len(names) == 0 {
		return err
	}
	have, err := r.epochNames(ctx, scope)
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(have, name) {
			continue
		}
		e, err := from.readEpoch(ctx, name)
		if isDamage(err) || errors.Is(err, ErrUntrusted) {
			continue // it gives nobody anything
		}
		if err != nil {
			return err
		}
		if err := putObject(ctx, r.store, name, e.raw); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
