package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"holdfast/internal/seal"
)

const (
	rewrapAtOnce = 8   // headers that are read side by side
	maxStuck     = 100 // objects that are named
)

// A Rewrap gives recipients the keys of what a place holds of one scope: of every pack
// that a listed snapshot names, and of every piece of log. It reads headers and no
// content, changes no object, and puts key epochs beside them.
//
// It takes nothing away: whoever could open an object before can still.
type Rewrap struct {
	At         *Repository
	Scope      string
	Recipients []seal.Recipient // all who shall be able to read
	AllowOne   bool
	// Identities open the objects as they are. Without any nothing is put, and Run only
	// counts.
	Identities []seal.Identity
	Signer     seal.SigningKey
	Now        time.Time
	Progress   func(done, total int) // may be nil
}

// Rewrapped is what a Rewrap found and did.
type Rewrapped struct {
	Objects  int `json:"objects"`  // packs and pieces of log
	Readable int `json:"readable"` // by every recipient already, by the object's own header or an epoch
	Given    int `json:"given"`    // whose keys were put into an epoch now
	Epochs   int `json:"epochs"`   // that were put
	Stuck    int `json:"stuck"`    // that none of the identities opens, or that are damaged
	// Why names the first of the stuck ones, each with its reason.
	Why []string `json:"why,omitempty"`
}

// Left is how many objects some recipient cannot open yet.
func (w Rewrapped) Left() int { return w.Objects - w.Readable - w.Given }

// Run does it. Objects that cannot be opened do not keep it from the others; the error is
// for what kept it from looking or from putting an epoch.
//
// A crash leaves the epochs that were put, each whole; the next run finds what they cover
// and goes on with the rest. An epoch whose put failed and landed is found in the same way.
func (w Rewrap) Run(ctx context.Context) (out Rewrapped, err error) {
	fail := func(err error) (Rewrapped, error) {
		return out, fmt.Errorf("rewrap keys of %q: %w", w.Scope, err)
	}
	if err := checkPart("scope", w.Scope); err != nil {
		return fail(err)
	}
	if err := checkRecipients(w.Recipients, w.AllowOne); err != nil {
		return fail(err)
	}
	objects, err := w.objects(ctx, &out)
	if err != nil {
		return fail(err)
	}
	covered, err := w.covered(ctx)
	if err != nil {
		return fail(err)
	}
	out.Objects += len(objects)
	for done := 0; done < len(objects); {
		n := min(maxEpochObjects, len(objects)-done)
		if err := w.batch(ctx, objects[done:done+n], covered, &out); err != nil {
			return fail(err)
		}
		if done += n; w.Progress != nil {
			w.Progress(done, len(objects))
		}
	}
	return out, nil
}

// stuck notes an object whose key cannot be given.
func (out *Rewrapped) stuck(why error) {
	if out.Stuck++; len(out.Why) < maxStuck {
		out.Why = append(out.Why, why.Error())
	}
}

// objects lists what must be readable, in the order of names.
func (w Rewrap) objects(ctx context.Context, out *Rewrapped) ([]string, error) {
	names, err := w.At.snapshotNames(ctx, w.Scope)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, name := range names {
		m, err := w.At.manifest(ctx, name)
		if err == nil && len(w.At.trust) > 0 {
			err = m.Verify(w.At.trust...)
		}
		if IsDamage(err) {
			out.Objects++
			out.stuck(err)
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, p := range m.Packs {
			id, err := parsePackID(p.ID)
			if err != nil {
				return nil, err
			}
			all[id.object()] = true
		}
	}
	pieces, named, err := w.At.ListLog(ctx, w.Scope)
	if err != nil {
		return nil, err
	}
	for _, l := range pieces {
		all[l.Name] = true
	}
	for _, n := range named {
		all[namedName(n.Scope, n.Lineage, n.Name)] = true
	}
	return sortedKeys(all), nil
}

// covered are the objects whose keys an epoch holds for every recipient.
func (w Rewrap) covered(ctx context.Context) (map[string]bool, error) {
	names, err := w.At.epochNames(ctx, w.Scope)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, name := range names {
		e, err := w.At.readEpoch(ctx, name)
		var to []string
		if err == nil {
			to, err = e.recipients()
		}
		if IsDamage(err) {
			continue // it is as good as none
		}
		if err != nil {
			return nil, err
		}
		if w.reaches(to) {
			for _, o := range e.Objects {
				all[o] = true
			}
		}
	}
	return all, nil
}

// reaches reports whether every recipient is among the fingerprints.
func (w Rewrap) reaches(to []string) bool {
	return !slices.ContainsFunc(w.Recipients, func(r seal.Recipient) bool { return !slices.Contains(to, r.Fingerprint()) })
}

// batch reads the headers of some objects and puts one epoch for those that need it.
func (w Rewrap) batch(ctx context.Context, objects []string, covered map[string]bool, out *Rewrapped) error {
	wrapped, errs := make([][]byte, len(objects)), make([]error, len(objects))
	var next int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range min(rewrapAtOnce, len(objects)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(objects) || ctx.Err() != nil {
					return
				}
				if !covered[objects[i]] {
					wrapped[i], errs[i] = w.At.wrappedKey(ctx, objects[i])
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	keys := map[string]seal.Key{}
	for i, name := range objects {
		if covered[name] {
			out.Readable++
			continue
		}
		to, err := []string(nil), errs[i]
		if err == nil {
			to, err = seal.WrappedTo(wrapped[i])
		}
		switch {
		case err != nil && !IsDamage(err):
			return err
		case err != nil:
			out.stuck(fmt.Errorf("%q: %w", name, err))
			continue
		case w.reaches(to):
			out.Readable++
			continue
		case len(w.Identities) == 0:
			continue
		}
		err = w.At.unwrap(ctx, w.Scope, name, wrapped[i], w.Identities, func(k seal.Key) error { keys[name] = k; return nil })
		switch {
		case errors.Is(err, seal.ErrNoIdentity) || IsDamage(err):
			out.stuck(fmt.Errorf("%q: %w", name, err))
		case err != nil:
			return err
		}
	}
	if len(keys) == 0 {
		return nil
	}
	e, err := makeEpoch(w.At.id, w.Scope, w.Now, keys, w.Recipients, w.Signer)
	if err != nil {
		return err
	}
	if err := putObject(ctx, w.At.store, epochName(e.Scope, e.ID), e.raw); err != nil {
		return err
	}
	out.Given += len(keys)
	out.Epochs++
	return nil
}

// wrappedKey reads the wrapped key of a pack, or of a log object, from its clear part.
func (r *Repository) wrappedKey(ctx context.Context, name string) (wrapped []byte, err error) {
	id, pack := packOfObject(name)
	return wrapped, r.instead(ctx, name, func(at string) error {
		for want := int64(logPeek); ; want = int64(len(logMagic) + 4 + maxLogHeader + 4 + seal.MaxWrapped) {
			head, err := readHead(ctx, r.store, at, want)
			if err != nil {
				return err
			}
			if pack {
				_, wrapped, err = checkHeader(head, id)
			} else {
				wrapped, err = logWrapped(head, r.id, name)
			}
			if err == nil || int64(len(head)) < want || want > logPeek {
				return err
			}
		}
	})
}

// logWrapped returns the wrapped key from the beginning of a log object.
func logWrapped(head []byte, repository, name string) ([]byte, error) {
	h, n, err := parseLogHeader(head)
	if err == nil {
		err = h.check(repository, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	wrapped, _, ok := takeBytes(head[n:], seal.MaxWrapped)
	if !ok {
		return nil, fmt.Errorf("%q: wrapped key: %w", name, ErrDamaged)
	}
	return wrapped, nil
}

// readHead reads at most n bytes from the start of an object, fewer if it is shorter.
func readHead(ctx context.Context, s Store, name string, n int64) ([]byte, error) {
	rc, err := s.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, n))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return b, nil
}
