package drill

import (
	"cmp"
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// MaxInPeriod bounds the drills of one period that are looked at, the newest first.
const MaxInPeriod = 20_000

// An Age is how old the data was that a drill went back to, as one of a few classes: a
// backup fails in another way when it is old.
type Age struct {
	Name     string
	From, To time.Duration // To is not in it
}

// Ages are the classes, the youngest first. Together they are all ages.
var Ages = []Age{
	{"under 1d", 0, 24 * time.Hour},
	{"1d to 7d", 24 * time.Hour, 7 * 24 * time.Hour},
	{"7d to 30d", 7 * 24 * time.Hour, 30 * 24 * time.Hour},
	{"over 30d", 30 * 24 * time.Hour, 1<<63 - 1},
}

// A Cell is one combination that restore tests should reach in each period.
type Cell struct {
	Kind     string `json:"kind"` // of store
	Location string `json:"location"`
	Age      string `json:"age"`
}

func (c Cell) String() string {
	return fmt.Sprintf("%s at %s, %s old", c.Kind, c.Location, c.Age)
}

func compareCells(a, b Cell) int {
	age := func(c Cell) int { return slices.IndexFunc(Ages, func(x Age) bool { return x.Name == c.Age }) }
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Location, b.Location), cmp.Compare(age(a), age(b)))
}

// ageOf is the class of an instant, seen from now.
func ageOf(at, now time.Time) string {
	for _, a := range Ages {
		if now.Sub(at) < a.To {
			return a.Name
		}
	}
	return Ages[len(Ages)-1].Name
}

// An Aim is what a random draw was to reach, as it was known before the draw: with the
// seed and the windows of the locations it gives the same draw again.
type Aim struct {
	From time.Time `json:"from"` // of the period
	To   time.Time `json:"to"`
	Open []Cell    `json:"open"` // on offer, and not drilled in the period; empty: all were
}

// aim draws one of the cells that nobody has drilled in the period, and returns the parts
// of the windows that are in it. Where all that are on offer were drilled, any of them is
// drawn, so that a small company's weekly drill goes round and round.
func aim(kind string, offers []holdfast.Window, done map[Cell]bool, now time.Time, r *mathrand.Rand) (parts []holdfast.Window, open []Cell) {
	now = now.Truncate(time.Microsecond) // as fine as engines know time
	byCell := map[Cell][]holdfast.Window{}
	for _, o := range offers {
		for _, a := range Ages {
			w := o
			if oldest := now.Add(-a.To); a.To < 1<<62 && !w.From.After(oldest) {
				w.From = oldest.Add(time.Microsecond)
			}
			if newest := now.Add(-a.From); a.From > 0 && w.To.After(newest) {
				w.To = newest
			}
			if !w.To.Before(w.From) {
				c := Cell{kind, o.Location, a.Name}
				byCell[c] = append(byCell[c], w)
			}
		}
	}
	var cells []Cell
	for c := range byCell {
		cells = append(cells, c)
		if !done[c] {
			open = append(open, c)
		}
	}
	from := open
	if len(from) == 0 {
		from = cells
	}
	slices.SortFunc(from, compareCells)
	if len(from) == 0 {
		return offers, nil // windows that end before they begin: the restore says what is wrong
	}
	return byCell[from[r.IntN(len(from))]], open
}

// cell is where a drill that was drawn goes, as far as its instant is known before.
func (d Drill) cell(w holdfast.Window) *Cell {
	at := d.Target.Time
	switch d.Target.Kind {
	case holdfast.TargetTime:
	case holdfast.TargetLatest:
		at = w.To
	default:
		return nil
	}
	return &Cell{d.Kind, d.Location, ageOf(at, d.Planned)}
}

// InPeriod returns the drills that were planned in a period, the oldest first.
func (m *Module) InPeriod(ctx context.Context, from, to time.Time) (ds []Drill, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		ds, err = m.query(ctx, tx, `WHERE planned >= ? AND planned < ? ORDER BY planned DESC, id DESC LIMIT ?`, db.Micros(from), db.Micros(to), MaxInPeriod)
		return err
	})
	slices.Reverse(ds)
	return ds, err
}

// States of a cell.
const (
	CellProved = "proved" // a drill of it passed
	CellFailed = "failed" // it was drilled, and no drill passed
	CellEmpty  = "empty"  // there were copies, and no drill went to them
	CellAbsent = "absent" // there was no copy of that age, so nothing could be drilled
)

// A Covered is one cell with what restore tests did there in a period.
type Covered struct {
	Cell
	State  string    `json:"state"`
	Tested int       `json:"tested"` // drills that ended
	Passed int       `json:"passed"`
	Last   string    `json:"last_drill,omitempty"`
	At     time.Time `json:"at,omitzero"` // when it ended
}

// A Coverage is which of the cells restore tests reached in a period.
type Coverage struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Over  bool      `json:"over"` // the period is
	Cells []Covered `json:"cells"`
}

// Empty are the cells that hold copies to which no drill went.
func (c Coverage) Empty() (out []Covered) {
	for _, x := range c.Cells {
		if x.State == CellEmpty {
			out = append(out, x)
		}
	}
	return out
}

// Cover says which cells were reached. there are the cells that the plan's stores have,
// and whether there was a copy of that age at some time of the period. A cell that was
// drilled and that the plan does not have any more stands in it too.
func Cover(ds []Drill, there map[Cell]bool, from, to, now time.Time) Coverage {
	c := Coverage{From: from.UTC(), To: to.UTC(), Over: !now.Before(to), Cells: []Covered{}}
	cells := map[Cell]*Covered{}
	for cell, is := range there {
		cells[cell] = &Covered{Cell: cell, State: CellAbsent}
		if is {
			cells[cell].State = CellEmpty
		}
	}
	for _, d := range ds {
		if d.Cell == nil || !d.Ended() || d.Goal < holdfast.L3 {
			continue // below L3 nothing is restored
		}
		x := cells[*d.Cell]
		if x == nil {
			x = &Covered{Cell: *d.Cell}
			cells[*d.Cell] = x
		}
		x.Tested++
		x.Last, x.At = d.ID, d.Finished
		if d.State == StatePassed {
			x.Passed++
		}
		x.State = CellFailed
		if x.Passed > 0 {
			x.State = CellProved
		}
	}
	for _, x := range cells {
		c.Cells = append(c.Cells, *x)
	}
	slices.SortFunc(c.Cells, func(a, b Covered) int { return compareCells(a.Cell, b.Cell) })
	return c
}

// codeUncovered is the finding that a period ended without a restore test of something
// that was there.
const codeUncovered = "HF-D1"

// shownCells is how many empty cells are named one by one.
const shownCells = 5

// Findings names the cells that stayed empty in a period that is over.
func (c Coverage) Findings() (out []holdfast.Finding) {
	if !c.Over {
		return nil
	}
	empty := c.Empty()
	hint := fmt.Sprintf("\"holdfast drill coverage\" shows what the period of now still lacks; more drills, or more often, reach more: %d cells stayed empty", len(empty))
	for i, x := range empty {
		f := holdfast.Finding{Code: codeUncovered, Severity: holdfast.SeverityWarning, Subject: "locations." + x.Location, Hint: hint,
			Message: fmt.Sprintf("no restore test from %s to %s reached %s", c.From.Format(time.DateOnly), c.To.Add(-1).Format(time.DateOnly), x.Cell)}
		if i == shownCells {
			f.Message = fmt.Sprintf("and %d more that no restore test reached", len(empty)-i)
			return append(out, f)
		}
		out = append(out, f)
	}
	return out
}
