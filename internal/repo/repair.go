package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"holdfast/internal/seal"
)

// A damaged object is never deleted to make room for a whole one: what looks damaged
// may be all that there is, and a place may refuse. Its replacement lies beside it,
// under repairPrefix, a number and its name. A reader tries the object itself first,
// so a replacement that somebody slipped in costs nothing.
const (
	repairPrefix = "repairs/"
	maxRepairs   = 16 // of one object
)

func repairName(n int, name string) string { return fmt.Sprintf("%s%02d/%s", repairPrefix, n, name) }

// repairedName returns the name of the object that a replacement is for.
func repairedName(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, repairPrefix)
	number, of, cut := strings.Cut(rest, "/")
	return of, ok && cut && len(number) == 2 && of != ""
}

// replacements lists the replacements of an object, the newest first.
func (r *Repository) replacements(ctx context.Context, name string) ([]string, error) {
	var all []string
	for n := 1; n <= maxRepairs; n++ {
		err := r.store.List(ctx, repairName(n, name), func(o Object) error {
			if o.Name == repairName(n, name) {
				all = append([]string{o.Name}, all...)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list replacements of %q: %w", name, err)
		}
		if len(all) < n {
			break
		}
	}
	return all, nil
}

// Repairs lists the replacements of a place, each with the name of the object that it is
// for.
func (r *Repository) Repairs(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	if err := r.store.List(ctx, repairPrefix, func(o Object) error {
		if of, ok := repairedName(o.Name); ok {
			all[o.Name] = of
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list replacements: %w", err)
	}
	return all, nil
}

// instead tries an act on an object, and where that finds it damaged, on each of its
// replacements. If none is better, the first error counts.
func (r *Repository) instead(ctx context.Context, name string, act func(name string) error) error {
	first := act(name)
	if first == nil || !isDamage(first) && !errors.Is(first, ErrUntrusted) && !errors.Is(first, io.ErrUnexpectedEOF) || errors.Is(first, seal.ErrNoIdentity) {
		return first
	}
	others, err := r.replacements(ctx, name)
	if err != nil {
		return first // it is about the object
	}
	for _, o := range others {
		if act(o) == nil {
			return nil
		}
	}
	return first
}

// CheckPack reads every byte of a pack and compares it with the manifest's hash. It
// needs no key. Damage, and only damage, is an error that IsDamage reports.
func (r *Repository) CheckPack(ctx context.Context, p PackRef) error {
	id, err := parsePackID(p.ID)
	if err != nil {
		return err
	}
	return r.instead(ctx, id.object(), func(name string) error { return r.checkPack(ctx, name, p) })
}

func (r *Repository) checkPack(ctx context.Context, name string, p PackRef) error {
	rc, err := r.store.Get(ctx, name, 0, -1)
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	defer rc.Close()
	h := seal.NewHash()
	buf := readRooms.Get().(*[readRoom]byte)
	defer readRooms.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, io.LimitReader(rc, p.Size+1), buf[:])
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	if n != p.Size {
		return fmt.Errorf("%q has %s bytes, the manifest says %d: %w", name, atMost(n, p.Size), p.Size, ErrDamaged)
	}
	if fmt.Sprintf("%x", h.Sum(nil)) != p.Hash {
		return fmt.Errorf("%q: bytes are not those that the manifest signs: %w", name, ErrDamaged)
	}
	return nil
}

// readRoom is how much of a pack is read at once to be hashed: small enough to be in
// the processor's cache when the hash comes to it, and big enough that a read costs
// nothing beside it. Half a MiB is a tenth faster than io.Copy's 32 KiB.
const readRoom = 512 << 10

var readRooms = sync.Pool{New: func() any { return new([readRoom]byte) }}

func atMost(n, limit int64) string {
	if n > limit {
		return "more"
	}
	return fmt.Sprint(n)
}

// CheckLog reads every byte of a piece of log and checks its signature and place. It
// needs no key. With no trusted keys only the structure is checked.
func (r *Repository) CheckLog(ctx context.Context, l LogInfo) error {
	_, err := r.InspectLog(ctx, l)
	return err
}

// readLogRaw reads a log object that lies at name and belongs at as.
func (r *Repository) readLogRaw(ctx context.Context, name, as string) ([]byte, error) {
	b, err := readObject(ctx, r.store, name, maxLogObject)
	if err != nil {
		return nil, err
	}
	if err := checkLogObject(b, r.id, as, r.trust); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return b, nil
}

// checkLogObject checks all of a log object that needs no key.
func checkLogObject(b []byte, repository, name string, trust []seal.VerifyKey) error {
	_, err := splitLog(b, repository, name, trust)
	return err
}

// IsDamage reports whether an error is about what is stored, and not about a place
// that does not answer or a caller that may not ask.
func IsDamage(err error) bool {
	var missing *MissingError
	return errors.As(err, &missing) || isDamage(err) && !errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrUntrusted)
}

// Extend locks an object for longer, where the place can; able is false where it
// cannot.
func (r *Repository) Extend(ctx context.Context, name string, until time.Time) (able bool, err error) {
	l, able := as[Locker](r.store)
	if !able {
		return false, nil
	}
	return true, l.Extend(ctx, name, until)
}

// RepairPack brings a pack that is damaged or missing back from another place. It
// compares what it brings with the manifest's hash, and deletes nothing: a missing
// pack gets its name back, a damaged one a replacement beside it.
//
// A crash leaves the replacement whole or absent.
func (r *Repository) RepairPack(ctx context.Context, from *Repository, p PackRef) error {
	id, err := parsePackID(p.ID)
	if err != nil {
		return err
	}
	if r.id != from.id {
		return fmt.Errorf("repair %q from %q: %w", r.id, from.id, ErrForeign)
	}
	good, err := from.wholePack(ctx, id, p)
	if err != nil {
		return err
	}
	return r.replace(ctx, id.object(), good, func(name string) error { return r.checkPack(ctx, name, p) })
}

// RepairLog brings a piece of log back, as RepairPack does a pack. The signature of
// what it brings is checked.
func (r *Repository) RepairLog(ctx context.Context, from *Repository, name string) error {
	var good []byte
	if err := from.instead(ctx, name, func(at string) (err error) {
		good, err = from.readLogRaw(ctx, at, name)
		return err
	}); err != nil {
		return err
	}
	return r.replace(ctx, name, good, func(at string) error {
		_, err := r.readLogRaw(ctx, at, name)
		return err
	})
}

// RepairManifest brings a manifest back. The bytes must have the given hash, which
// the caller has from a receipt or from its own memory.
func (r *Repository) RepairManifest(ctx context.Context, from *Repository, scope, id, hash string) error {
	name := snapshotName(scope, id)
	var good []byte
	if err := from.instead(ctx, name, func(at string) error {
		b, err := readObject(ctx, from.store, at, maxManifest)
		if err == nil && hexHash(b) != hash {
			err = fmt.Errorf("%q is not what the receipt says: %w", at, ErrDamaged)
		}
		good = b
		return err
	}); err != nil {
		return err
	}
	return r.replace(ctx, name, good, func(at string) error {
		b, err := readObject(ctx, r.store, at, maxManifest)
		if err == nil && hexHash(b) != hash {
			err = ErrDamaged
		}
		return err
	})
}

// replace puts good where name, or a replacement of it, is whole afterwards.
func (r *Repository) replace(ctx context.Context, name string, good []byte, check func(name string) error) error {
	for n := 0; n <= maxRepairs; n++ {
		at := name
		if n > 0 {
			at = repairName(n, name)
		}
		err := check(at)
		if err == nil {
			return nil // somebody was faster, or it was never broken
		}
		if !IsDamage(err) {
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			continue // it stays as it is
		}
		if err := putObject(ctx, r.store, at, good); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%q has %d damaged replacements: %w", name, maxRepairs, ErrLimit)
}
