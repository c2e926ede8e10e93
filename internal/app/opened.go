package app

import (
	"context"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/drill"
)

// codeUnopened is the finding that nobody has opened what an agent wrote last.
const codeUnopened = "HF-K10"

// openedWithin is how long it counts that a drill opened what an agent wrote last.
const openedWithin = 35 * 24 * time.Hour

// unopened are the stores whose agents write what no drill has opened for long: an agent
// cannot try its own wrapping, and a captured one may seal to others.
func (a *App) unopened(ctx context.Context) ([]holdfast.Finding, error) {
	p, now := a.Plan(), a.opt.Clock()
	opened := map[string]time.Time{}
	ds, err := a.Drills.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		for _, c := range d.Checks {
			if c.Name == drill.CheckNewest && c.Outcome == holdfast.Passed && d.Finished.After(opened[d.Store]) {
				opened[d.Store] = d.Finished
			}
		}
	}
	var out []holdfast.Finding
	for _, id := range sortedKeys(p.Stores) {
		if p.Stores[id].Agent == nil || now.Sub(opened[id]) <= openedWithin {
			continue
		}
		copies, err := a.Backups.Copies(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(copies) == 0 {
			continue // which is said
		}
		since := "never"
		if !opened[id].IsZero() {
			since = "not since " + opened[id].UTC().Format(time.DateOnly)
		}
		out = append(out, holdfast.Finding{Code: codeUnopened, Severity: holdfast.SeverityWarning, Subject: "stores." + id,
			Message: fmt.Sprintf("what the agent of %q wrote last was %s opened with the drill's key", id, since), Hint: fmt.Sprintf("\"holdfast drill %s\" opens it", id)})
	}
	return out, nil
}
