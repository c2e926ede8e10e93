package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A row is one comparison. Ours and Peer are medians; the ranges say how far the
// runs lie apart.
type row struct {
	Name      string     `json:"name"`
	Ours      float64    `json:"ours"`
	Peer      float64    `json:"peer"`
	PeerName  string     `json:"peer_name"`
	Unit      string     `json:"unit"`
	Ratio     float64    `json:"ratio"` // ours / peer: below 1 is better
	OursRange [2]float64 `json:"ours_range"`
	PeerRange [2]float64 `json:"peer_range"`
	Runs      int        `json:"runs"`
}

// A table is what a run has measured.
type table struct {
	rows  []row
	notes []string
}

// add compares what several runs measured.
func (t *table) add(name string, ours []float64, peerName string, peer []float64, unit string) {
	r := row{Name: name, Ours: median(ours), Peer: median(peer), PeerName: peerName, Unit: unit, OursRange: spread(ours), PeerRange: spread(peer), Runs: len(ours)}
	if r.Peer > 0 {
		r.Ratio = r.Ours / r.Peer
	}
	t.rows = append(t.rows, r)
}

func median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// percentile returns the value that a part p of xs does not exceed.
func percentile(xs []float64, p float64) float64 {
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

func (t *table) print(out io.Writer) error {
	for _, n := range t.notes {
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measure\tours\t(min to max)\tpeer\t(min to max)\t\tratio\tagainst")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, figure(r.Ours), between(r, r.OursRange), figure(r.Peer), between(r, r.PeerRange), r.Unit, ratio(r), r.PeerName)
	}
	return w.Flush()
}

func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func between(r row, x [2]float64) string {
	if r.Runs < 2 {
		return ""
	}
	return figure(x[0]) + " to " + figure(x[1])
}

func ratio(r row) string {
	if r.Peer <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", r.Ratio)
}
