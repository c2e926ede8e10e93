package survive

import (
	"context"
	"encoding/json"

	"holdfast/internal/db"
	"holdfast/internal/ledger"
)

// Rewrapped records what was done for one store at one location. What was done lies there
// already; a crash before the record leaves the use of the key recorded, and the next run
// finds nothing to do and says so.
func (m *Module) Rewrapped(ctx context.Context, store, by string, what any) error {
	b, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		_, err := m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: FactRewrapped, Subject: "stores." + store, Actor: by, At: m.cfg.Clock().UTC(), Data: b})
		return err
	})
}
