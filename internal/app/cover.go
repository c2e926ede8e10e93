package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
	"holdfast/internal/web"
)

// quarter is the calendar quarter in which an instant lies: the period in which restore
// tests go once to every location, kind and age.
func (a *App) quarter(at time.Time) (from, to time.Time) {
	at = at.In(a.Plan().Location())
	from = time.Date(at.Year(), 1+3*((at.Month()-1)/3), 1, 0, 0, 0, 0, at.Location())
	return from, from.AddDate(0, 3, 0)
}

// Coverage says which cells restore tests reached in a period; without one, in the
// quarter of now.
func (a *App) Coverage(ctx context.Context, from, to time.Time) (drill.Coverage, error) {
	now := a.opt.Clock()
	if from.IsZero() {
		from, to = a.quarter(now)
	}
	if !from.Before(to) {
		return drill.Coverage{}, holdfast.WithHint(fmt.Errorf("the period ends before it begins: %w", holdfast.ErrUsage), "give a beginning and a later end")
	}
	ds, err := a.Drills.InPeriod(ctx, from, to)
	if err != nil {
		return drill.Coverage{}, err
	}
	there, err := a.cells(ctx, from, to)
	return drill.Cover(ds, there, from, to, now), err
}

// cells are the cells of the plan's stores, and whether a copy of that age was there at
// some time of the period, as far as the state remembers. A store with a log comes back to
// every instant since its first copy.
func (a *App) cells(ctx context.Context, from, to time.Time) (map[drill.Cell]bool, error) {
	p := a.Plan()
	if now := a.opt.Clock(); to.After(now) {
		to = now
	}
	out := map[drill.Cell]bool{}
	for _, pol := range a.policies() {
		st := p.Stores[pol.Store]
		b := p.Backups[st.Protect]
		least, _ := p.Kept(pol.Store)
		copies, err := a.Backups.Copies(ctx, pol.Store)
		if err != nil {
			return nil, err
		}
		for _, l := range pol.Locations {
			for _, age := range drill.Ages {
				if !least.IsZero() && age.From >= least.Approx() {
					continue // nothing must be kept for so long
				}
				c := drill.Cell{Kind: string(st.Kind), Location: l, Age: age.Name}
				out[c] = out[c] || wasThere(copies, l, age, from, to, b.Log != nil)
			}
		}
	}
	return out, nil
}

// wasThere reports whether a copy at a location was of an age at some time of a period.
func wasThere(cs []backup.Copy, location string, age drill.Age, from, to time.Time, log bool) bool {
	for _, c := range cs {
		if c.Location != location || c.Received.IsZero() || to.Sub(c.Created) < age.From {
			continue
		}
		if log || age.To >= 1<<62 || from.Sub(c.Created) < age.To {
			return true
		}
	}
	return false
}

// coverFindings names what the restore tests of the last quarter did not reach.
func (a *App) coverFindings(ctx context.Context) ([]holdfast.Finding, error) {
	from, _ := a.quarter(a.opt.Clock())
	last, _ := a.quarter(from.Add(-time.Hour))
	k, err := a.Coverage(ctx, last, from)
	return k.Findings(), err
}

// coverRows is the matrix of each quarter of a period.
func (a *App) coverRows(ctx context.Context, from, to time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "drill-coverage", Query: "for each quarter that the period touches, every combination of kind of store, location and age of the data that the plan's stores have or a drill went to",
		Columns: []string{"from", "to", "kind", "location", "age", "state", "tested", "passed", "last_drill", "at"}}
	const most = 400 // a century
	for begin, end := a.quarter(from); begin.Before(to) && len(p.Rows) < most*100; begin, end = a.quarter(end) {
		k, err := a.Coverage(ctx, begin, end)
		if err != nil {
			return p, err
		}
		for _, x := range k.Cells {
			p.Rows = append(p.Rows, []string{stamp(k.From), stamp(k.To), x.Kind, x.Location, x.Age, x.State, strconv.Itoa(x.Tested), strconv.Itoa(x.Passed), x.Last, stamp(x.At)})
		}
	}
	return p, nil
}

// Coverage is what the page says of restore tests.
func (p pages) Coverage(ctx context.Context) (out web.Coverage, err error) {
	k, err := p.a.Coverage(ctx, time.Time{}, time.Time{})
	out.From, out.To = k.From, k.To
	for _, x := range k.Cells {
		out.Cells = append(out.Cells, web.CoverageCell{Kind: x.Kind, Location: x.Location, Age: x.Age, State: x.State, Passed: x.Passed, Tested: x.Tested, Drill: x.Last, At: x.At})
	}
	return out, err
}
