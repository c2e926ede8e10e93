package repo

import (
	"context"

	"holdfast/internal/seal"
)

// SealedTo lists the fingerprints of who can open the contents of m by its own header, as
// its writer says. It needs no key. Packs of one snapshot are sealed to the same keys.
func (r *Repository) SealedTo(ctx context.Context, m *Manifest) ([]string, error) {
	id, err := parsePackID(m.Packs[m.Root.Pack].ID)
	if err != nil {
		return nil, err
	}
	wrapped, err := r.wrappedKey(ctx, id.object())
	if err != nil {
		return nil, err
	}
	return seal.WrappedTo(wrapped)
}
