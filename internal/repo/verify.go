package repo

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"holdfast/internal/seal"
)

// maxDamagedPaths bounds how many paths one Damage names.
const maxDamagedPaths = 10_000

// Verify reads every byte of every pack that the snapshot names, compares it with
// the manifest's hash, opens and decompresses every segment and compares it with
// its chunk ids; then it reads every entry and sees that its extents exist. What
// is wrong comes back by name, with the paths it costs. The error is for what kept
// Verify from looking: a place that does not answer, a key that does not fit.
//
// progress, if not nil, gets the number of stored bytes read so far.
func (s *Snapshot) Verify(ctx context.Context, progress func(bytes int64)) ([]Damage, error) {
	return s.VerifyPacks(ctx, nil, progress)
}

// VerifyPacks is Verify for some packs, by the names of their objects, and for what
// lies in them. Nil is all.
func (s *Snapshot) VerifyPacks(ctx context.Context, only map[string]bool, progress func(bytes int64)) ([]Damage, error) {
	v := &verifier{s: s, only: only, progress: progress, lengths: make([][]uint32, len(s.m.Packs))}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	packs := make(chan int)
	largest := int64(0)
	for _, ref := range s.m.Packs {
		largest = max(largest, ref.Size)
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(s.m.Packs)) {
		wg.Go(func() {
			buf, err := allocate(int(largest))
			if err != nil {
				cancel(err)
			}
			defer deallocate(buf)
			for n := range packs {
				if ctx.Err() != nil {
					continue
				}
				if err := v.pack(ctx, n, buf); err != nil {
					cancel(err)
				}
			}
		})
	}
	for n := range s.m.Packs {
		if v.wants(n) {
			packs <- n
		}
	}
	close(packs)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("verify snapshot %q: %w", s.m.ID, context.Cause(ctx))
	}
	if err := v.entries(ctx); err != nil {
		return nil, fmt.Errorf("verify snapshot %q: %w", s.m.ID, err)
	}
	slices.SortStableFunc(v.damage, func(a, b Damage) int {
		if a.Pack != b.Pack {
			return comparePaths(a.Pack, b.Pack)
		}
		return a.Segment - b.Segment
	})
	return v.damage, nil
}

// wants reports whether a pack is looked at.
func (v *verifier) wants(n int) bool {
	if v.only == nil {
		return true
	}
	id, err := parsePackID(v.s.m.Packs[n].ID)
	return err != nil || v.only[id.object()]
}

type verifier struct {
	s        *Snapshot
	only     map[string]bool
	progress func(int64)

	mu      sync.Mutex
	read    int64
	damage  []Damage
	lengths [][]uint32 // plain length of each content segment by pack; nil for a pack that does not open
}

func (v *verifier) add(d Damage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.damage = append(v.damage, d)
}

// pack reads one pack into buf. Its error is what kept it from looking.
func (v *verifier) pack(ctx context.Context, n int, buf []byte) error {
	ref := v.s.m.Packs[n]
	id, err := parsePackID(ref.ID)
	if err != nil {
		return err
	}
	whole := func(err error) error {
		if !isDamage(err) {
			return err
		}
		v.add(Damage{Pack: id.object(), Segment: -1, Err: err})
		return nil
	}
	b := buf[:ref.Size]
	if err := readRange(ctx, v.s.repo.store, id.object(), 0, b); isDamage(err) {
		good, gerr := v.s.repo.wholePack(ctx, id, ref)
		if gerr != nil {
			return whole(err)
		}
		b = good
	} else if err != nil {
		return err
	}
	if v.progress != nil {
		v.mu.Lock()
		v.read += ref.Size
		v.progress(v.read)
		v.mu.Unlock()
	}
	same := hexHash(b) == ref.Hash
	if !same {
		if good, err := v.s.repo.wholePack(ctx, id, ref); err == nil {
			b, same = good, true // a replacement lies beside it
		}
	}
	_, wrapped, err := checkHeader(b, id)
	if err != nil {
		return whole(err)
	}
	var f *footer
	var box *seal.Box
	err = v.s.repo.unwrap(ctx, v.s.m.Scope, id.object(), wrapped, v.s.ids, func(key seal.Key) (err error) {
		f, box, err = openWhole(b, v.s.repo.id, id, key)
		return err
	})
	if err != nil {
		return whole(err)
	}
	lengths := make([]uint32, len(f.segs))
	found := false
	if err := verifyWhole(f, box, b, func(i int, err error) error {
		if err != nil {
			found = true
			v.add(Damage{Pack: id.object(), Segment: i, Err: err})
		}
		if f.segs[i].kind == kindContent {
			lengths[i] = f.segs[i].plain
		}
		return ctx.Err()
	}); err != nil {
		return err
	}
	v.lengths[n] = lengths
	if !found && !same {
		return whole(fmt.Errorf("bytes are not those that the manifest signs: %w", ErrDamaged))
	}
	return nil
}

// entries reads the list, checks every extent, and names the paths that damage costs.
func (v *verifier) entries(ctx context.Context) error {
	type at struct {
		pack    string
		segment int
	}
	costs := map[at]*Damage{}
	for i := range v.damage {
		costs[at{v.damage[i].Pack, v.damage[i].Segment}] = &v.damage[i]
	}
	names := make([]string, len(v.s.m.Packs))
	for i, ref := range v.s.m.Packs {
		id, err := parsePackID(ref.ID)
		if err != nil {
			return err
		}
		names[i] = id.object()
	}
	var wrong []Damage
	err := v.s.walk(ctx, func(e Entry) error {
		for _, x := range e.Extents {
			d := costs[at{names[x.Pack], -1}]
			if d == nil {
				d = costs[at{names[x.Pack], int(x.Segment)}]
			}
			if d != nil {
				if n := len(d.Paths); n < maxDamagedPaths && (n == 0 || d.Paths[n-1] != e.Path) {
					d.Paths = append(d.Paths, e.Path)
				}
				continue
			}
			if !v.wants(int(x.Pack)) {
				continue
			}
			l := v.lengths[x.Pack]
			if int64(x.Segment) >= int64(len(l)) || int64(x.At)+x.Length > int64(l[x.Segment]) {
				wrong = append(wrong, Damage{Pack: names[x.Pack], Segment: int(x.Segment), Paths: []string{e.Path},
					Err: fmt.Errorf("extent of %q at %d: %w", e.Path, x.Offset, ErrDamaged)})
			}
		}
		return nil
	}, func(d Damage) {
		if costs[at{d.Pack, -1}] == nil && costs[at{d.Pack, d.Segment}] == nil {
			wrong = append(wrong, d)
		}
	})
	v.damage = append(v.damage, wrong...)
	if err != nil && isDamage(err) {
		v.damage = append(v.damage, Damage{Pack: v.s.m.Object(), Segment: -1, Err: err})
		return nil
	}
	return err
}
