package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"holdfast"
)

// A narrator tells the story as it happens.
type narrator struct {
	w     io.Writer
	began time.Time
	n     int
}

func (n *narrator) chapter(title string) {
	n.n++
	fmt.Fprintf(n.w, "\n%d. %s\n", n.n, title)
}

func (n *narrator) line(format string, args ...any) {
	fmt.Fprintf(n.w, "   %6.1fs  %s\n", time.Since(n.began).Seconds(), fmt.Sprintf(format, args...))
}

// table ends the story with what a person reads at a glance.
func (n *narrator) table(r Result) {
	verdict := func(ok bool) string {
		if ok {
			return "met"
		}
		return "MISSED"
	}
	seconds := func(s float64) string { return holdfast.FormatDuration(time.Duration(s * float64(time.Second))) }
	fmt.Fprintln(n.w)
	w := tabwriter.NewWriter(n.w, 3, 0, 3, ' ', 0)
	fmt.Fprintln(w, "   \tpromised\tmeasured\t")
	fmt.Fprintf(w, "   loss of database rows (RPO)\t%s\t%s, %d of %d rows lost\t%s\n", seconds(r.ObjectiveRPO), seconds(r.RPO), r.RowsLost, r.RowsAcknowledged, verdict(r.RPO <= r.ObjectiveRPO))
	fmt.Fprintf(w, "   loss of files (RPO)\t%s\t%s, %d of %d files lost\t%s\n", seconds(r.ObjectiveFilesRPO), seconds(r.FilesRPO), r.FilesLost, r.FilesAcknowledged, verdict(r.FilesRPO <= r.ObjectiveFilesRPO))
	fmt.Fprintf(w, "   usable again (RTO)\t%s\t%s from %s\t%s\n", seconds(r.ObjectiveRTO), seconds(r.RTO), r.Location, verdict(r.RTO <= r.ObjectiveRTO))
	for _, p := range r.Parts {
		fmt.Fprintf(w, "      %s\t\t%s\t%s\n", p.Name, holdfast.FormatDuration(p.Duration), p.Basis)
	}
	fmt.Fprintf(w, "   drill to %s\tL6\t%s\t%s\n", r.DrillTarget.Format("15:04:05.000Z"), r.DrillRung, verdict(r.DrillRung == "L6"))
	fmt.Fprintf(w, "   evidence\tverifiable\tverified %t, removal noticed %t\t%s\n", r.Verified, r.TamperNoticed, verdict(r.Verified && r.TamperNoticed))
	fmt.Fprintf(w, "   incident\t\t%s, closed with its review\t\n", r.Incident)
	w.Flush()
	for _, m := range r.Missed {
		fmt.Fprintf(n.w, "\n   missed: %s\n", m)
	}
}
