package repo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/seal"
)

// ErrStray means that something in a place is no object of the format: nobody sealed or
// signed it for this repository.
var ErrStray = errors.New("not an object of this repository")

// A StrayLister is a Store that can also list what lies in its place under names that no
// object can have. A name that ends with a slash is all that lies below it.
type StrayLister interface {
	Strays(ctx context.Context, fn func(Object) error) error
}

// as finds an ability of a store, also behind others that wrap it and say so with a
// method Unwrap.
func as[T any](s Store) (able T, ok bool) {
	for {
		if able, ok = s.(T); ok {
			return able, true
		}
		w, wraps := s.(interface{ Unwrap() Store })
		if !wraps {
			return able, false
		}
		s = w.Unwrap()
	}
}

// All lists every object of the place, and what lies there under names that no object
// can have, where the place can tell (Inspect calls those strays).
func (r *Repository) All(ctx context.Context, fn func(Object) error) error {
	if err := r.store.List(ctx, "", fn); err != nil {
		return fmt.Errorf("list all objects: %w", err)
	}
	if s, ok := as[StrayLister](r.store); ok {
		if err := s.Strays(ctx, fn); err != nil {
			return fmt.Errorf("list what is no object: %w", err)
		}
	}
	return nil
}

// Inspected is what the clear part of an object says.
type Inspected struct {
	Sealed bool      // it holds something for holders of keys: a pack, or log
	To     []string  // fingerprints of their recipients, as the writer says
	Made   time.Time // on the writer's clock; zero: it does not say
}

// Inspect reads as much of an object as it takes to say that it is what its name claims:
// the clear head and the end of a pack, and all of what is small and signed. It needs no
// key.
//
// What does not belong there is an error that IsDamage reports: ErrStray, or why it is
// not what it claims. It does not see what was sealed: that a pack is whole is CheckPack's
// to say, and whether its key fits only a holder of one.
func (r *Repository) Inspect(ctx context.Context, name string, size int64) (is Inspected, err error) {
	if of, repaired := repairedName(name); repaired {
		is, err = r.inspect(ctx, name, of, size)
	} else if _, pack := packOfObject(name); pack {
		is, err = r.inspect(ctx, name, name, size)
	} else {
		err = r.instead(ctx, name, func(at string) error {
			is, err = r.inspect(ctx, at, name, size)
			return err
		})
	}
	if err != nil {
		return Inspected{}, fmt.Errorf("%q: %w", name, err)
	}
	return is, nil
}

// inspect looks at an object that lies at at and belongs at name.
func (r *Repository) inspect(ctx context.Context, at, name string, size int64) (none Inspected, _ error) {
	kind, rest, _ := strings.Cut(name, "/")
	scope, id, _ := strings.Cut(rest, "/")
	scoped := checkPart("scope", scope) == nil && checkSnapshotID(id) == nil
	signed := func(limit int64, parse func(raw []byte) error) error {
		raw, err := readObject(ctx, r.store, at, limit)
		if err != nil {
			return err
		}
		return parse(raw)
	}
	switch {
	case name == markerName, name == recoveryName:
		return none, nil // Open reads the one, and people the other
	case kind == "packs":
		if id, ok := packOfObject(name); ok {
			return r.inspectPack(ctx, at, id, size)
		}
	case kind == "logs":
		_, piece := parseLogName(Object{Name: name})
		if _, named := parseNamed(Object{Name: name}); piece || named {
			return r.inspectLog(ctx, at, name)
		}
	case kind == "snapshots" && scoped:
		_, err := r.readManifest(ctx, at, name)
		return none, err
	case kind == "receipts" && scoped:
		return none, signed(maxReceipt, func(raw []byte) error {
			_, err := parseReceipt(raw, r.id, name)
			return err
		})
	case kind == "keys" && scoped:
		return none, signed(maxEpoch, func(raw []byte) error {
			e, err := parseEpoch(raw, r.id, name)
			if err == nil && len(r.trust) > 0 {
				err = verifySigned(raw, domainKeys, e.Signer, r.trust)
			}
			return err
		})
	case kind == "anchors" && checkPart("anchor", rest) == nil:
		return none, signed(maxAnchor, func(raw []byte) error {
			if !bytes.Contains(raw, []byte("\n\n\u2014 ")) {
				return fmt.Errorf("no signed note: %w", ErrStray)
			}
			return nil
		})
	case kind == "tombstones" && tombstoneName(rest):
		return none, signed(maxTombstoneSet, func(raw []byte) error { return r.inspectTombstone(raw, name) })
	}
	return none, ErrStray
}

// inspectPack reads the head and the end of a pack.
func (r *Repository) inspectPack(ctx context.Context, at string, id packID, size int64) (is Inspected, err error) {
	head, err := readHead(ctx, r.store, at, int64(len(packMagic)+4+seal.MaxWrapped))
	if err != nil {
		return is, err
	}
	_, wrapped, err := checkHeader(head, id)
	if err != nil {
		return is, err
	}
	if size < int64(trailerLen) {
		return is, fmt.Errorf("pack of %d bytes: %w", size, ErrDamaged)
	}
	end := make([]byte, trailerLen)
	if err := readRange(ctx, r.store, at, size-int64(trailerLen), end); err != nil {
		return is, err
	}
	if _, err := parseTrailer(end, size); err != nil {
		return is, err
	}
	to, err := seal.WrappedTo(wrapped)
	return Inspected{Sealed: true, To: to}, err
}

// inspectLog reads a piece of log or a named file of one. Its signature is not asked for:
// who may have signed it changes with the plan, and CheckLog looks at that.
func (r *Repository) inspectLog(ctx context.Context, at, name string) (is Inspected, err error) {
	raw, err := readObject(ctx, r.store, at, maxLogObject)
	if err != nil {
		return is, err
	}
	p, err := splitLog(raw, r.id, name, nil)
	if err != nil {
		return is, err
	}
	to, err := seal.WrappedTo(p.wrapped)
	return Inspected{Sealed: true, To: to, Made: p.Created}, err
}

// tombstoneName reports whether a name below tombstones/ is one of the format.
func tombstoneName(rest string) bool {
	kind, rest, _ := strings.Cut(rest, "/")
	if scope, id, ok := strings.Cut(rest, "/"); kind == "removed" && ok {
		return checkPart("scope", scope) == nil && checkSnapshotID(id) == nil
	}
	return kind == "garbage" && checkSnapshotID(strings.TrimSuffix(rest, tombstoneEnd)) == nil
}

func (r *Repository) inspectTombstone(raw []byte, name string) error {
	switch base, end := strings.CutSuffix(name, tombstoneEnd); {
	case end:
		line, _, err := splitSigned(raw)
		if err != nil {
			return err
		}
		var l struct{ Repository, ID string }
		if json.Unmarshal(line, &l) != nil || l.Repository != r.id || tombstonePrefix+l.ID != base {
			return ErrStray
		}
		return nil
	case strings.HasPrefix(name, tombstonePrefix):
		_, err := parseTombstones(raw, r.id, name)
		return err
	}
	_, err := parseRemoval(raw, r.id, name)
	return err
}

// InspectLog is CheckLog, and says what the clear part of the piece says.
func (r *Repository) InspectLog(ctx context.Context, l LogInfo) (is Inspected, err error) {
	err = r.instead(ctx, l.Name, func(name string) error {
		raw, err := r.readLogRaw(ctx, name, l.Name)
		if err != nil {
			return err
		}
		p, err := splitLog(raw, r.id, l.Name, nil)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		is = Inspected{Sealed: true, Made: p.Created}
		is.To, err = seal.WrappedTo(p.wrapped)
		return err
	})
	return is, err
}

// PackSealedTo returns the fingerprints of the recipients of a pack, as its writer says.
func (r *Repository) PackSealedTo(ctx context.Context, p PackRef) ([]string, error) {
	id, err := parsePackID(p.ID)
	if err != nil {
		return nil, err
	}
	wrapped, err := r.wrappedKey(ctx, id.object())
	if err != nil {
		return nil, err
	}
	return seal.WrappedTo(wrapped)
}
