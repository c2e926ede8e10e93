package app

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/db"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/sandbox"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/postgres/undo"
	"holdfast/internal/vault"
)

// An UndoRequest asks what a mistake did to a database.
type UndoRequest struct {
	Store, Location string
	Connect         string    // how to reach production; the plan's connection string if empty
	At              time.Time // the last good instant; zero: before the newest event that destroyed something
	Until           time.Time // when the mistake had happened; zero: behind the first such event after At
	Everything      bool      // every difference since At is the mistake's
	Rows            int64     // a transaction that changes so many rows counts as an event
	Tables          []string
	Where           string
	Out             string // folder of the extract; none if empty
	Purpose         string
	Identities      []seal.Identity
	Use             func() // records the use of the identities; called once, before they open anything
	Row             func(t *undo.Table, r *undo.Row) error
	Progress        func(holdfast.Progress)
}

// undoFrom is how far back the newest mistake is looked for.
const undoFrom = 24 * time.Hour

// Undo restores a database as it was before a mistake and after it, in a sandbox, and
// compares both with production, which is only read.
//
// A crash leaves the sandbox's folder, which the next Undo of this workspace removes,
// and an extract without its extract.json, from which nothing is written back.
func Undo(ctx context.Context, p *plan.Plan, opt Options, r UndoRequest) (e *undo.Extract, err error) {
	src, err := openRestorer(p, r.Store, opt)
	if err != nil {
		return nil, err
	}
	if _, ok := src.(*postgres.Store); !ok {
		return nil, holdfast.WithHint(fmt.Errorf("store %q is no PostgreSQL: %w", r.Store, holdfast.ErrUsage), "\"holdfast restore %s --path …\" brings back parts of a folder", r.Store)
	}
	now, err := ProductionDSN(p, r.Store, r.Connect)
	if err != nil {
		return nil, err
	}
	database, err := undo.Database(now)
	if err != nil {
		return nil, err
	}
	if r.Progress == nil {
		r.Progress = func(holdfast.Progress) {}
	}
	r.Use()
	before, after, because, err := mistake(ctx, p, opt, &r)
	if err != nil {
		return nil, err
	}
	box, err := undoBox(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, box.end()) }()
	b, until, err := box.restore(ctx, p, opt, r, "before", before)
	if err != nil {
		return nil, err
	}
	cfg := undo.Config{Before: b.ConnStringTo(database), Now: now, Tables: r.Tables, Where: r.Where, Dir: r.Out, Row: r.Row, Progress: r.Progress,
		Dump: func(ctx context.Context, tables []string, section string) ([]byte, error) {
			return b.Dump(ctx, database, tables, section)
		},
		Extract: undo.Extract{Store: r.Store, Database: database, Made: opt.Clock().UTC(), Purpose: r.Purpose, Because: because, Before: until, After: "now", Location: r.Location}}
	if after != nil {
		a, until, err := box.restore(ctx, p, opt, r, "after", *after)
		if err != nil {
			return nil, err
		}
		cfg.After, cfg.Extract.After = a.ConnStringTo(database), until
	}
	if e, err = undo.Compare(ctx, cfg); err != nil {
		return nil, fmt.Errorf("undo in %s: %w", r.Store, err)
	}
	return e, nil
}

// ProductionDSN is how a person who looks or writes reaches the database.
func ProductionDSN(p *plan.Plan, store, connect string) (string, error) {
	st, ok := p.Stores[store]
	if !ok || st.Kind != plan.KindPostgres {
		return "", holdfast.WithHint(fmt.Errorf("store %q is no PostgreSQL of the plan: %w", store, holdfast.ErrUsage), "name a store of kind postgres")
	}
	if connect != "" {
		return connect, nil
	}
	return postgresDSN(p, st.Postgres)
}

// mistake finds the two states to restore, from what was asked or from the time line,
// and says in words what lies between them. after is nil if production is the state
// after it.
func mistake(ctx context.Context, p *plan.Plan, opt Options, r *UndoRequest) (before holdfast.Target, after *holdfast.Target, because string, err error) {
	const instant = "2006-01-02 15:04:05.000000Z"
	before = holdfast.Target{Kind: holdfast.TargetTime, Time: r.At}
	if !r.At.IsZero() && !r.Until.IsZero() {
		if !r.At.Before(r.Until) {
			return before, nil, "", holdfast.WithHint(fmt.Errorf("the mistake ends before it begins: %s to %s: %w", r.At.UTC().Format(instant), r.Until.UTC().Format(instant), holdfast.ErrUsage), "--at must be earlier than --until")
		}
		return before, &holdfast.Target{Kind: holdfast.TargetTime, Time: r.Until}, fmt.Sprintf("what was written between %s and %s", r.At.UTC().Format(instant), r.Until.UTC().Format(instant)), nil
	}
	if r.Everything {
		if r.At.IsZero() {
			return before, nil, "", holdfast.WithHint(fmt.Errorf("no instant is given since which everything counts: %w", holdfast.ErrUsage), "--everything needs the last good instant: --at TIME")
		}
		return before, nil, "everything that was written since " + r.At.UTC().Format(instant), nil
	}
	end := opt.Clock()
	rep, err := Timeline(ctx, p, opt, TimelineRequest{Store: r.Store, Location: r.Location, From: cmp.Or(r.At, end.Add(-undoFrom)), To: end, Rows: r.Rows, Identities: r.Identities})
	if err != nil {
		return before, nil, "", err
	}
	r.Location = rep.Location
	var found source.Event
	if r.At.IsZero() {
		_, found, _ = rep.Timeline.Suggest()
	} else {
		for _, e := range rep.Events {
			if e.What.Destructive() && e.At.After(r.At) && found.At.IsZero() {
				found = e
			}
		}
	}
	if found.At.IsZero() {
		return before, nil, "", holdfast.WithHint(fmt.Errorf("the log at %q shows nothing since %s that destroyed data or changed %d rows at once", rep.Location, rep.From.UTC().Format(instant), r.Rows),
			"name when the mistake had happened with --until TIME, or look for smaller ones with --rows; \"holdfast timeline %s --rows 1\" lists them", r.Store)
	}
	if r.At.IsZero() {
		before = holdfast.Target{Kind: holdfast.TargetLSN, Value: found.Position}
	}
	return before, &holdfast.Target{Kind: holdfast.TargetLSN, Value: found.End}, fmt.Sprintf("transaction %d at %s: %s", found.Transaction, found.At.UTC().Format(instant), strings.Join(whatItDid(rep.Events, found), ", ")), nil
}

// whatItDid lists all that the transaction of an event destroyed.
func whatItDid(events []source.Event, of source.Event) (out []string) {
	for _, e := range events {
		if e.Position != of.Position || !e.What.Destructive() {
			continue
		}
		text := e.Name + " " + string(e.What)
		if e.Rows > 0 {
			text += fmt.Sprintf(" (%d rows)", e.Rows)
		}
		out = append(out, text)
	}
	return out
}

// An undoing holds the restored states while they are compared.
type undoing struct {
	*sandbox.Sandbox
	lock *durable.FileLock
	open []source.Restored
}

// undoBox makes a sandbox for one comparison; there is one at a time for each
// workspace, so what lies in its folder was left by one that was killed.
func undoBox(ctx context.Context, opt Options) (*undoing, error) {
	h := seal.Hash([]byte(opt.Workspace.Dir))
	parent := filepath.Join(os.TempDir(), "holdfast-undo-"+hex.EncodeToString(h[:6]))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(parent + ".lock")
	if err != nil {
		return nil, holdfast.WithHint(err, "another \"holdfast undo\" of this workspace runs: wait for it")
	}
	es, err := os.ReadDir(parent)
	for _, e := range es {
		err = errors.Join(err, os.RemoveAll(filepath.Join(parent, e.Name())))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	box, err := sandbox.New(ctx, sandbox.Config{Parent: parent, Log: opt.Log})
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return &undoing{Sandbox: box, lock: lock}, nil
}

// end stops the servers and removes what was restored.
func (u *undoing) end() error {
	var errs []error
	for _, g := range u.open {
		errs = append(errs, g.Close(context.Background()))
	}
	return errors.Join(append(errs, u.Close(), u.lock.Unlock())...)
}

// restore brings one state back and says how far it is.
func (u *undoing) restore(ctx context.Context, p *plan.Plan, opt Options, r UndoRequest, name string, t holdfast.Target) (*postgres.Server, string, error) {
	src, err := openRestorer(p, r.Store, opt)
	if err != nil {
		return nil, "", err
	}
	w, err := ChooseWindow(ctx, p, opt, RestoreRequest{Store: r.Store, Location: r.Location, Target: t})
	if err != nil {
		return nil, "", err
	}
	repository, err := NewPlaces(p, writers(opt.Workspace, p)...).Open(ctx, w.Location)
	if err != nil {
		return nil, "", err
	}
	got, err := src.Restore(ctx, source.Request{Repo: repository, Identities: r.Identities, Target: t, Dir: filepath.Join(u.Dir(), name), Runner: u, Progress: r.Progress})
	if err != nil {
		return nil, "", unreadable(r.Store, w.Location, "", err)
	}
	u.open = append(u.open, got)
	for _, c := range got.Report().Checks {
		if c.Outcome == holdfast.Failed {
			return nil, "", fmt.Errorf("the state %s the mistake came back, but %s failed: %s", name, c.Name, c.Detail)
		}
	}
	srv := postgres.Private(got)
	if srv == nil {
		return nil, "", errors.New("no server was started")
	}
	return srv, got.Report().Reached, nil
}

// Facts about rows that were written back.
const (
	factUndoBegun = "undo.begun"
	factUndoEnded = "undo.ended"
)

// WriteBack asks for the approval of writing rows back, or uses it up: then the fact
// that it begins is durable when the call returns. Whoever called writes, and reports
// the end with WroteBack. A crash in between leaves an approval that was used and a
// transaction that the server rolled back, or not: comparing again tells which.
func (a *App) WriteBack(ctx context.Context, q api.WriteBack) (out api.WriteBackAnswer, err error) {
	if st, ok := a.Plan().Stores[q.Store]; !ok || st.Kind != plan.KindPostgres {
		return out, fmt.Errorf("store %q is no PostgreSQL of the plan in force: %w", q.Store, holdfast.ErrUsage)
	}
	act := vault.Act{Kind: plan.ActWriteBack, Subject: "stores." + q.Store, Does: q.Does}
	if out.Request, err = a.Vault.Ask(ctx, act, q.By); err != nil {
		return out, err
	}
	if !q.Begin || out.Request.State != vault.StateApproved || a.opt.Clock().Before(out.Request.NotBefore) {
		return out, nil
	}
	err = a.DB.Tx(ctx, func(tx *db.Tx) error {
		if err := a.Vault.Take(ctx, tx, out.Request.ID, act); err != nil {
			return err
		}
		return a.fact(ctx, tx, factUndoBegun, act.Subject, map[string]any{"request": out.Request.ID, "does": act.Does, "by": q.By})
	})
	out.Begun = err == nil
	return out, err
}

// WroteBack records how writing back ended.
func (a *App) WroteBack(ctx context.Context, q api.WroteBack) error {
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		return a.fact(ctx, tx, factUndoEnded, "stores."+q.Store, q)
	})
}
