package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Results is what came of the work of a period, for whoever looks at it.
type Results struct {
	// Clear is true if all that was expected was done in time and nothing failed: then the
	// machine may say so itself, where the plan lets it.
	Clear bool
	Lines []string
}

// A FailedRun is an attempt of a backup that failed, lacked something, or whose process
// vanished.
type FailedRun struct {
	ID    string
	Store string
	At    time.Time
	Why   string
}

const (
	// repairDue is how long people have to find the cause of a failure and mend it.
	repairDue = 7 * 24 * time.Hour
	// clearWithin is how late the machine may still give an all-clear: later than that,
	// nobody looked when somebody should have.
	clearWithin = time.Hour
)

// looks fills in what there is to see at looks whose time has come, and ends those that are
// all clear, where the plan lets the machine do that (BKP-22, MON-08). What is signed is
// what was filled in: it does not change afterwards.
func (s *settling) looks() error {
	for _, name := range sorted(s.open) {
		d, w := s.open[name], s.byName[name]
		res, looked := s.results[d.ID]
		if !looked || len(d.Items) > 0 {
			continue
		}
		d.Items = res.Lines
		if err := s.save(s.ctx, s.tx, *d); err != nil {
			return err
		}
		if err := s.fact(s.ctx, s.tx, FactChanged, d.Subject, "holdfast", map[string]any{"duty": d.ID, "due": d.Due, "items": d.Items}); err != nil {
			return err
		}
		if !w.clears || !res.Clear || s.now.Sub(d.Due) > max(clearWithin, d.Late.Sub(d.Due)) {
			continue
		}
		d.DoneOn = d.Due
		if err := s.end(d, Done, FactAllClear, "automatic all-clear: "+list(res.Lines)); err != nil {
			return err
		}
		if err := s.begin(w); err != nil {
			return err
		}
	}
	return nil
}

// look asks for the results of the periods of looks whose time has come. It is done before
// the transaction: the state is read by others, too.
func (m *Module) look(ctx context.Context, wants map[string]want, open []Duty, now time.Time) (map[string]Results, error) {
	out := map[string]Results{}
	for _, d := range open {
		if w := wants[d.Name]; !w.looks || now.Before(d.Due) || len(d.Items) > 0 {
			continue
		}
		r, err := m.cfg.Results(ctx, d.After, d.Due)
		if err != nil {
			return nil, fmt.Errorf("look at the results of work: %w", err)
		}
		out[d.ID] = r
	}
	return out, nil
}

// Unwatched lists the looks at results that were missed and for which nobody has accounted
// since, the oldest first.
func (m *Module) Unwatched(ctx context.Context) (out []Duty, err error) {
	ds, err := m.Open(ctx, true)
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		if d.State == Missed && d.Watch && len(d.Signatures) == 0 {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b Duty) int { return a.Due.Compare(b.Due) })
	return out, nil
}

// repairs opens a duty for what failed, one for each store, and adds to it what fails
// meanwhile (BKP-23). It ends with a cause and a good run after the last failure.
func (s *settling) repairs() error {
	for _, f := range s.obs.Failed { // oldest first
		subject := "stores." + f.Store
		key := "failed-run." + subject
		if at, err := time.Parse(time.RFC3339Nano, s.seen[key]); err == nil && !f.At.After(at) {
			continue
		}
		at := f.At.UTC().Format(time.RFC3339Nano)
		if err := s.remember(s.ctx, s.tx, key, at); err != nil {
			return err
		}
		s.seen[key] = at
		store, there := s.p.Stores[f.Store]
		if !there {
			continue
		}
		cause := fmt.Sprintf("run %s failed at %s: %s", f.ID, f.At.UTC().Format(time.RFC3339), f.Why)
		w := want{name: "failure." + subject, kind: Failure, subject: subject, what: fmt.Sprintf("find the cause why the backup of %q failed, and mend it", f.Store), by: []string{or(store.Owner, fallbackRoles(s.p)[0])}}
		if err := s.demand(w, oneLine(cause), repairDue); err != nil {
			return err
		}
		d := s.open[w.name]
		d.After = f.At.UTC()
		if err := s.save(s.ctx, s.tx, *d); err != nil {
			return err
		}
	}
	return nil
}

// logins ends what a log-in proves: that the person's own administrator access works, with
// its second factor (PER-04).
func (s *settling) logins() error {
	for _, name := range sorted(s.open) {
		d := s.open[name]
		if d.Kind != AccessCheck {
			continue
		}
		for _, at := range s.obs.Logins[strings.TrimPrefix(d.Subject, "people.")] {
			if at.Before(d.remindAt()) || !at.After(d.After) {
				continue
			}
			d.DoneOn = at
			if err := s.end(d, Done, FactDone, "logged in as administrator with a second factor of their own at "+at.UTC().Format(time.RFC3339)); err != nil {
				return err
			}
			if w, ok := s.byName[name]; ok {
				if err := s.begin(w); err != nil {
					return err
				}
			}
			break
		}
	}
	return nil
}

// mended refuses the end of a failure without a cause, or before a good run of the same
// item: a failure is over when it is known why, and when it is shown that it is.
func (m *Module) mended(ctx context.Context, d Duty, note string) error {
	if d.Kind != Failure {
		return nil
	}
	if len(strings.TrimSpace(note)) < 3 {
		return refuse("say what the cause was and what was done: --note TEXT", "%s ends with a cause", d.ID)
	}
	obs, err := m.cfg.Observe(ctx)
	if err != nil {
		return err
	}
	store := strings.TrimPrefix(d.Subject, "stores.")
	for _, f := range obs.Failed {
		if f.Store == store && f.At.After(d.After) {
			d.After = f.At // a failure that no look has seen yet
		}
	}
	if good := obs.Good[store]; !good.After(d.After) {
		return refuse(fmt.Sprintf("\"holdfast backup %s\" backs up now", store), "no good run of %s has followed the failure of %s yet", d.Subject, d.After.UTC().Format(time.RFC3339))
	}
	return nil
}

// account takes a person's word on a look that was missed. It stays missed; from then on
// somebody has said what they know of that time.
func (m *Module) account(d Duty, w Word, now time.Time) (key string, err error) {
	p := m.cfg.Plan()
	if !slices.ContainsFunc(d.By, func(r string) bool { return holds(p, r, w.By) }) {
		return "", refuse("who may: "+list(d.By), "%q is none of those who must: %s", w.By, list(d.By))
	}
	if strings.TrimSpace(w.Note) == "" {
		return "", refuse("say what you saw: --note TEXT", "%s was missed, and wants a word on it", d.ID)
	}
	return verify(p, w.By, d.Text(p.Repository.ID, w.By, w.Note, w.On), w.Signature, d.Keyed, d.Signatures)
}

// missedWatch is the finding of one look that nobody did.
func missedWatch(d Duty) holdfast.Finding {
	return holdfast.Finding{Code: "HF-G5", Severity: holdfast.SeverityError, Subject: d.Subject,
		Message: fmt.Sprintf("nobody looked on %s: %s (%s)", d.Due.UTC().Format(time.DateOnly), d.What, list(d.By)),
		Hint:    fmt.Sprintf("look now, and say what you saw: holdfast review done %s --by PERSON --note TEXT", d.ID)}
}

// WatchFindings are the looks at the results of work that nobody did: those that were
// missed, and the open one whose time is over.
func (m *Module) WatchFindings(ctx context.Context) ([]holdfast.Finding, error) {
	ds, err := m.Unwatched(ctx)
	if err != nil {
		return nil, err
	}
	open, err := m.Open(ctx, false)
	if err != nil {
		return nil, err
	}
	now, p := m.cfg.Clock(), m.cfg.Plan()
	for _, d := range open {
		waits := time.Duration(0)
		if p.Reviews[strings.TrimPrefix(d.Name, "reviews.")].AllClear {
			waits = allClearTakes
		}
		// Each time since that no look has written down yet is one, too.
		for range maxMissed {
			if !d.Watch || now.Before(d.Late.Add(waits)) {
				break
			}
			ds = append(ds, d)
			due, ok := next(d.Every, d.Due, p.Location())
			if !ok {
				break
			}
			d.Late, d.Due = due.UTC().Add(d.Late.Sub(d.Due)), due.UTC()
		}
	}
	var out []holdfast.Finding
	for _, d := range ds[:min(len(ds), shownWatches)] {
		out = append(out, missedWatch(d))
	}
	if n := len(ds) - shownWatches; n > 0 {
		out = append(out, holdfast.Finding{Code: "HF-G5", Severity: holdfast.SeverityError, Subject: "reviews", Message: fmt.Sprintf("and %d more looks that nobody did", n), Hint: "\"holdfast review list --all\" lists them"})
	}
	return out, nil
}

// allClearTakes is how long a server has to give its own all-clear before a look counts as
// missed.
const allClearTakes = 5 * time.Minute

// shownWatches is how many of them are told one by one.
const shownWatches = 35
