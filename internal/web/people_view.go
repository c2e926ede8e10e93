package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/access"
	"holdfast/internal/ledger"
)

// A keyView is one way to use a passkey.
type keyView struct {
	Title, Button string
	Begin         string // where the challenge comes from
	Next          string // where it leads
	Make          bool   // a new one
	Elsewhere     string // where browsers allow it, if not here
}

// An enrolView is how far an enrolment is.
type enrolView struct {
	access.Enrolment
	Path        string
	Elsewhere   string
	Squares     string // the address as a picture
	Size        int
	Wrong, Hint string
}

// An accountView is a person's own page.
type accountView struct {
	access.Standing
	Passkeys  []access.Passkey
	Grants    []access.Grant
	Elsewhere string
}

// auditLines is how many facts the audit trail shows.
const auditLines = 500

// An auditLine is one fact of the audit trail.
type auditLine struct {
	Index                        int64
	At                           time.Time
	Actor, What, Subject, Result string
}

var auditWords = map[string]string{
	access.FactInvited: "invited", access.FactEnrolled: "enrolled", access.FactFactor: "changed what admits them", access.FactRoles: "changed roles", access.FactLeft: "ended access",
	access.FactLogin: "logged in", access.FactLogout: "logged out", access.FactDenied: "was not let in", access.FactToken: "token", access.FactRead: "looked", access.FactDone: "did",
	access.FactRefused: "was refused", access.FactGrant: "emergency access", access.FactReview: "access review",
}

// auditOf puts facts into words.
func auditOf(facts []ledger.Fact) (out []auditLine) {
	for _, f := range facts {
		l := auditLine{Index: f.Index, At: f.At, Actor: f.Actor, What: nameOr(auditWords[f.Type], f.Type), Subject: f.Subject}
		var d struct {
			Action, Why, What, Factor string
			Result                    int
			Grant                     any
		}
		if json.Unmarshal(f.Data, &d) == nil {
			var parts []string
			for _, s := range []string{d.Action, d.What, d.Why, d.Factor} {
				if s != "" {
					parts = append(parts, s)
				}
			}
			if d.Result != 0 {
				parts = append(parts, fmt.Sprint(d.Result))
			}
			if n, ok := d.Grant.(float64); ok && n > 0 {
				parts = append(parts, fmt.Sprintf("emergency %d", int64(n)))
			}
			l.Result = strings.Join(parts, ", ")
		}
		out = append(out, l)
	}
	return out
}

func joined[T ~string](xs []T) string { return joinedOr(xs, "nothing") }

func joinedOr[T ~string](xs []T, none string) string {
	if len(xs) == 0 {
		return none
	}
	var out []string
	for _, x := range xs {
		out = append(out, string(x))
	}
	return strings.Join(out, ", ")
}

func holds(held []access.Role, r access.Role) bool { return slices.Contains(held, r) }

func untilText(c clock, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + c.full(t)
}

func usedText(c clock, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return c.full(t)
}

func grantText(c clock, g access.Grant) string {
	s := fmt.Sprintf("asked %s for %d minutes", c.full(g.Asked), g.Minutes)
	if g.Glass {
		s = "taken without approval"
	}
	if g.Approver != "" {
		s += "; " + g.Approver + " decided"
	}
	if !g.Given.IsZero() {
		s += fmt.Sprintf("; from %s until %s; to be reviewed by %s", c.full(g.Given), c.full(g.Until), c.full(g.ReviewDue))
	}
	return s
}
