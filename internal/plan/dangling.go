package plan

import (
	"slices"
	"time"

	"holdfast"
)

// Dangling returns what the new plan still refers to and does not declare any more, or
// never did, and the old one had no such fault. Taking such a plan would delete something
// that others depend on.
func Dangling(old, new *Plan) []holdfast.Finding {
	was := map[[2]string]bool{}
	for _, f := range undeclared(old) {
		was[[2]string{f.Subject, f.Message}] = true
	}
	return slices.DeleteFunc(undeclared(new), func(f holdfast.Finding) bool { return was[[2]string{f.Subject, f.Message}] })
}

func undeclared(p *Plan) []holdfast.Finding {
	l := newLinter(p, time.Time{})
	l.references()
	return slices.DeleteFunc(l.findings, func(f holdfast.Finding) bool { return f.Code != codeUndeclared || f.Severity != holdfast.SeverityError })
}
