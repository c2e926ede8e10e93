package repo

import (
	"context"

	"holdfast/internal/seal"
)

// SealedTo lists the fingerprints of who can open the contents of m by its own header, as
// its writer says. It needs no key. Packs of one snapshot are sealed to the same keys.
func (r *Repository) SealedTo(ctx context.Context, m *Manifest) ([]string, error) {
	return ofHead(ctx, r, m, seal.WrappedTo)
}

// SealedWith says how strong the wrapping of the keys of m is, as its writer says. It needs
// no key.
func (r *Repository) SealedWith(ctx context.Context, m *Manifest) (seal.Strength, error) {
	return ofHead(ctx, r, m, seal.WrappedStrength)
}

// ofHead reads the wrapped key of the pack that the contents of m begin in.
func ofHead[T any](ctx context.Context, r *Repository, m *Manifest, read func([]byte) (T, error)) (none T, err error) {
	id, err := parsePackID(m.Packs[m.Root.Pack].ID)
	if err != nil {
		return none, err
	}
	wrapped, err := r.wrappedKey(ctx, id.object())
	if err != nil {
		return none, err
	}
	return read(wrapped)
}
