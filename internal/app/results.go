package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/access"
	"holdfast/internal/backup"
	"holdfast/internal/govern"
	"holdfast/internal/job"
	"holdfast/internal/ledger"
)

// What is looked back for failures and log-ins.
const (
	failuresBack = 35 * 24 * time.Hour
	loginsBack   = 400 * 24 * time.Hour
	maxLogins    = 10_000
)

// results says what came of the work of a period: slots that the plans in force expected,
// runs that failed, drills and incidents.
func (a *App) results(ctx context.Context, from, until time.Time) (govern.Results, error) {
	c, err := a.counted(ctx, from, until)
	if err != nil {
		return govern.Results{}, err
	}
	bad := 0
	for _, state := range []job.RunState{job.RunFailed, job.RunShort, job.RunLost} {
		rs, err := a.Jobs.Runs(ctx, job.RunFilter{State: state, From: from, Until: until})
		if err != nil {
			return govern.Results{}, err
		}
		bad += len(rs)
	}
	n := func(what string) int { return int(c.Counts[what]) }
	res := govern.Results{
		Clear: bad == 0 && n("backups.done") == n("backups.expected") && n("drills.done") == n("drills.expected") && n("incidents.opened") == 0,
		Lines: []string{
			fmt.Sprintf("period %s to %s", from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339)),
			fmt.Sprintf("jobs: %d backups expected, %d done, %d failed, %d missed, %d open; %d runs failed", n("backups.expected"), n("backups.done"), n("backups.failed"), n("backups.missed"), n("backups.open"), bad),
			fmt.Sprintf("tests: %d drills expected, %d passed, %d failed, %d missed, %d open", n("drills.expected"), n("drills.done"), n("drills.failed"), n("drills.missed"), n("drills.open")),
			fmt.Sprintf("incidents: %d opened (%d about backups), %d closed", n("incidents.opened"), n("incidents.backup"), n("incidents.closed")),
		},
	}
	return res, nil
}

// watched gathers what failures and log-ins tell about duties.
func (a *App) watched(ctx context.Context, now time.Time, out *govern.Observed) error {
	out.Good, out.Logins = map[string]time.Time{}, map[string][]time.Time{}
	for _, state := range []job.RunState{job.RunFailed, job.RunShort, job.RunLost} {
		rs, err := a.Jobs.Runs(ctx, job.RunFilter{Kind: backup.KindSnapshot, State: state, From: now.Add(-failuresBack)})
		if err != nil {
			return err
		}
		for _, x := range rs {
			r := a.runOf(x)
			out.Failed = append(out.Failed, govern.FailedRun{ID: r.ID, Store: r.Item[min(len("stores."), len(r.Item)):], At: x.Ended, Why: r.Error})
		}
	}
	slices.SortFunc(out.Failed, func(a, b govern.FailedRun) int { return a.At.Compare(b.At) })
	stores := map[string]bool{}
	for _, f := range out.Failed {
		stores[f.Store] = true
	}
	for store := range stores {
		rs, err := a.Jobs.Runs(ctx, job.RunFilter{Kind: backup.KindSnapshot, Item: "stores." + store, State: job.RunDone, Limit: 1})
		if err != nil {
			return err
		}
		for _, r := range rs {
			out.Good[store] = r.Ended
		}
	}
	return a.adminLogins(ctx, now, out.Logins)
}

// adminLogins are the log-ins of people who are administrators, with a passkey or a code:
// a recovery code is the way of the bad day, and shows nothing of the second factor.
func (a *App) adminLogins(ctx context.Context, now time.Time, out map[string][]time.Time) error {
	checked := false
	for _, p := range a.Plan().People {
		checked = checked || !p.AccessCheck.IsZero()
	}
	if !checked {
		return nil
	}
	l, err := a.Access.List(ctx)
	if err != nil {
		return err
	}
	admins := map[string]bool{}
	for _, p := range l.People {
		admins[p.ID] = p.State == access.Active && slices.Contains(p.Roles, access.Administrator)
	}
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: access.FactLogin, From: now.Add(-loginsBack), Limit: maxLogins, Newest: true})
	if err != nil {
		return err
	}
	for _, f := range fs {
		var with struct{ Factor string }
		if err := decodeFact(f, &with); err != nil {
			return err
		}
		if admins[f.Actor] && (with.Factor == "passkey" || with.Factor == "code") {
			out[f.Actor] = append(out[f.Actor], f.At)
		}
	}
	return nil
}
