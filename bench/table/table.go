// Package table holds what a benchmark has measured and prints it: medians, how far
// the runs lie apart, and the ratio to the peer.
package table

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// A Row is one comparison. Ours and Peer are medians; the ranges say how far the
// runs lie apart.
type Row struct {
	Name      string     `json:"name"`
	Ours      float64    `json:"ours"`
	Peer      float64    `json:"peer"`
	PeerName  string     `json:"peer_name"`
	Unit      string     `json:"unit"`
	Ratio     float64    `json:"ratio"`          // ours / peer
	Goal      float64    `json:"goal,omitempty"` // the ratio that is wanted; 0: none
	OursRange [2]float64 `json:"ours_range"`
	PeerRange [2]float64 `json:"peer_range"`
	Runs      int        `json:"runs"`
}

// A Table is what a run has measured.
type Table struct {
	Rows  []Row
	Notes []string
}

// Add compares what several runs measured.
func (t *Table) Add(name string, ours []float64, peerName string, peer []float64, unit string) {
	t.Goal(name, ours, peerName, peer, unit, 0)
}

// Goal is Add with the ratio that is wanted.
func (t *Table) Goal(name string, ours []float64, peerName string, peer []float64, unit string, goal float64) {
	r := Row{Name: name, Ours: Median(ours), Peer: Median(peer), PeerName: peerName, Unit: unit, Goal: goal, OursRange: spread(ours), PeerRange: spread(peer), Runs: len(ours)}
	if r.Peer > 0 {
		r.Ratio = r.Ours / r.Peer
	}
	t.Rows = append(t.Rows, r)
}

// Median is the middle of xs, 0 for none.
func Median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Percentile returns the value that a part p of xs does not exceed.
func Percentile(xs []float64, p float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	return s[min(int(p*float64(len(s))), len(s)-1)]
}

func spread(xs []float64) [2]float64 {
	if len(xs) == 0 {
		return [2]float64{}
	}
	return [2]float64{slices.Min(xs), slices.Max(xs)}
}

// Write leaves the rows behind as JSON. A table without rows is an error.
func (t *Table) Write(path string) error {
	if len(t.Rows) == 0 {
		return errors.New("nothing was measured")
	}
	text, err := json.MarshalIndent(t.Rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Print writes notes and rows for people.
func (t *Table) Print(out io.Writer) error {
	for _, n := range t.Notes {
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tours\t(min to max)\tpeer\t(min to max)\t\tratio\tgoal\tagainst")
	for _, r := range t.Rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, figure(r.Ours), between(r, r.OursRange), figure(r.Peer), between(r, r.PeerRange), r.Unit, r.ratio(), r.goal(), r.PeerName)
	}
	return w.Flush()
}

func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func between(r Row, x [2]float64) string {
	if r.Runs < 2 {
		return ""
	}
	return figure(x[0]) + " to " + figure(x[1])
}

func (r Row) ratio() string {
	if r.Peer <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Ratio)
}

func (r Row) goal() string {
	switch {
	case r.Goal == 0 || r.Peer <= 0:
		return ""
	case r.Ratio <= r.Goal:
		return fmt.Sprintf("%.2f reached", r.Goal)
	}
	return fmt.Sprintf("%.2f missed", r.Goal)
}
