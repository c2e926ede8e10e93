package holdfast

import (
	"cmp"
	"slices"
)

// FindingSeverity says how bad a finding is. Only SeverityError changes an exit status.
type FindingSeverity string

// The severities, worst first.
const (
	SeverityError   FindingSeverity = "error"   // a promise that cannot be kept, or work that cannot be done
	SeverityWarning FindingSeverity = "warning" // will hurt on the bad day
	SeverityNote    FindingSeverity = "note"    // worth knowing
)

// A Finding is something that is not as promised, or cannot be: in a plan, in a
// store, in a place. It always names its way out.
type Finding struct {
	Code     string          `json:"code"` // stable, e.g. "HF-L2"; documented, searchable
	Severity FindingSeverity `json:"severity"`
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Column   int             `json:"column,omitempty"`
	Subject  string          `json:"subject"` // what it is about, e.g. "stores.db"
	Message  string          `json:"message"`
	Hint     string          `json:"hint"`
}

var severityOrder = map[FindingSeverity]int{SeverityError: 0, SeverityWarning: 1, SeverityNote: 2}

// SortFindings orders findings worst first, then by place, then by code.
func SortFindings(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(severityOrder[a.Severity], severityOrder[b.Severity]),
			cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Subject, b.Subject))
	})
}

// AnyErrors reports whether a finding of severity error is among fs.
func AnyErrors(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return f.Severity == SeverityError })
}
