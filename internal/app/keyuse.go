package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// factKeyUsed is the use of a read key, by this process or by a command.
const factKeyUsed = "key.used"

// A KeyUse is one use of a read key. Commands must work without a server and without the
// state, so they leave it as a file in the workspace, before the key opens anything; the
// server takes it into the ledger.
type KeyUse struct {
	ID          string    `json:"id"`
	At          time.Time `json:"at"`
	Fingerprint string    `json:"fingerprint"`
	Purpose     string    `json:"purpose"`
	By          string    `json:"by"` // the account of the machine: documented, not proved
	Subject     string    `json:"subject,omitempty"`
}

// Limits of recorded uses.
const (
	maxKeyUse     = 16 << 10 // bytes of one
	takeUsesEvery = 5 * time.Second
)

func (w Workspace) keyUses() string { return filepath.Join(w.State(), "key-uses") }

// NoteKeyUse records that a read key is about to be used. The record is durable when it
// returns; a crash behind it leaves a use that was not, which is the right way round.
func NoteKeyUse(w Workspace, u KeyUse) error {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	u.ID = hex.EncodeToString(b[:])
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(durable.OS, w.keyUses(), 0o700); err != nil {
		return fmt.Errorf("record the use of the key: %w", err)
	}
	if err := durable.WriteFile(durable.OS, filepath.Join(w.keyUses(), u.ID+".json"), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("record the use of the key: %w", err)
	}
	return nil
}

// keepKeyUses takes recorded uses into the ledger until ctx ends.
func (a *App) keepKeyUses(ctx context.Context) {
	every := time.NewTicker(takeUsesEvery)
	defer every.Stop()
	for {
		if err := a.takeKeyUses(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Warn("uses of keys not taken into the ledger", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// takeKeyUses makes facts of the uses that commands recorded. A crash between fact and
// removal leaves a file whose use is a fact already; it is recognised by its id.
func (a *App) takeKeyUses(ctx context.Context) error {
	dir := a.opt.Workspace.keyUses()
	es, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range es {
		if !strings.HasSuffix(e.Name(), ".json") || durable.IsTemp(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := a.takeKeyUse(ctx, path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err)) // the others do not wait for it
			continue
		}
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (a *App) takeKeyUse(ctx context.Context, path string) error {
	b, err := durable.ReadFile(durable.OS, path, maxKeyUse)
	if err != nil {
		return err
	}
	var u KeyUse
	if err := json.Unmarshal(b, &u); err != nil {
		return err
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		same, err := a.Ledger.FindTx(ctx, tx, ledger.Query{Type: factKeyUsed, From: u.At, To: u.At.Add(time.Microsecond)})
		if err != nil {
			return err
		}
		for _, f := range same {
			var old KeyUse
			if decodeFact(f, &old) == nil && old.ID == u.ID {
				return nil
			}
		}
		data, err := json.Marshal(u)
		if err != nil {
			return err
		}
		_, err = facts{a}.Append(ctx, tx, ledger.Fact{Type: factKeyUsed, Subject: "keys." + u.Fingerprint, Actor: u.By, At: u.At, Data: data})
		return err
	})
}
