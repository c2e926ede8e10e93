package web

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast"
)

// text writes the sentence with its figures marked, without a space too many.
func (s sentence) text() templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		for i, piece := range []string{s.Before, s.Loss, s.Middle, s.Time, s.After} {
			piece = templ.EscapeString(piece)
			if i%2 == 1 && piece != "" {
				piece = "<em>" + piece + "</em>"
			}
			if _, err := io.WriteString(w, piece); err != nil {
				return err
			}
		}
		return nil
	})
}

// A sentence is the answer at the top of the first page, in pieces so that the
// two figures can stand out.
type sentence struct {
	Tone   tone
	Before string
	Loss   string
	Middle string
	Time   string
	After  string
	Notes  []string // what the figures rest on
	Next   string   // a command, when there is a next step
}

// answerOf says in one sentence what the overview means: what is lost with this
// host, and how long it takes to be back. A loss that is not known and a time that
// nobody proved are said, never left out.
func answerOf(o Overview) sentence {
	switch {
	case len(o.Stores) == 0:
		return sentence{Tone: warn, Before: "If it burned down now, Holdfast could bring nothing back: no store is protected yet.",
			Notes: []string{"Write down what you depend on, then let Holdfast check the plan."}, Next: "holdfast init"}
	case len(o.Answers) == 0:
		return sentence{Tone: bad, Before: "If it burned down now, ", Loss: "everything", Middle: " would be gone: the plan names no location for backups.",
			Notes: []string{"A location is a directory on another disk or machine."}, Next: "holdfast check plan.yaml"}
	}
	left := survivors(o.Answers)
	if len(left) == 0 {
		return sentence{Tone: bad, Before: "If it burned down now, ", Loss: "everything", Middle: " would be gone: every location stands on this host.",
			Notes: []string{"Add a location in another place, and let Holdfast check the plan."}, Next: "holdfast check plan.yaml"}
	}
	worst, back := lossOfHost(left), o.Back
	s := sentence{Tone: toneOf(o)}
	const lead = "If it burned down now, "
	switch l := worst.Loss; {
	case l.All:
		s.Tone, s.Before, s.Loss, s.Middle = bad, lead+"we would lose ", "all of "+nameOr(worst.Gone, "the data"), "."
		s.Notes = notes(o, left, worst)
		return s // how long it takes to be back is no question
	case !l.Known:
		s.Tone, s.Before, s.Loss, s.Middle = bad, lead, "nobody knows", " what we would lose"
	case l.Span <= 0:
		s.Before, s.Loss = lead+"we would lose ", "nothing"
	default:
		s.Before, s.Loss = lead+"we would lose the last ", spoken(l.Span)
	}
	lossKnown := worst.Loss.All || worst.Loss.Known
	switch t := back; {
	case t.Known && lossKnown:
		s.Middle, s.Time, s.After = " and be back in ", about(t)+spoken(t.Value), "."
	case t.Known:
		s.Middle, s.Time, s.After = s.Middle+"; to be back would take ", about(t)+spoken(t.Value), "."
	case lossKnown:
		s.Middle, s.Time, s.After = ", and ", "nobody can say", " how long it would take to be back."
	default:
		s.Middle, s.Time, s.After = s.Middle+", or ", "how long", " it would take to be back."
	}
	if (!back.Known || back.AtLeast) && s.Tone == good {
		s.Tone = warn
	}
	s.Notes = notes(o, left, worst)
	return s
}

// A hostLoss is the loss that the sentence names, and the location that decides it.
type hostLoss struct {
	Loss
	Location string
	Gone     string // the stores of which nothing comes back, in words
}

// lossOfHost is what is lost with this host: of each store, what the best of the
// surviving locations does not give back; and of the stores, the worst.
func lossOfHost(left []Answer) hostLoss {
	best := map[string]hostLoss{}
	var stores []string
	for _, a := range left {
		losses := a.Losses
		if len(losses) == 0 {
			losses = []Loss{a.Loss}
		}
		for _, l := range losses {
			if !l.Known && l.Note == "" && a.Why != "" {
				l.Note = a.Location + " " + a.Why
			}
			old, seen := best[l.Store]
			if !seen {
				stores = append(stores, l.Store)
			}
			if !seen || lossRank(old.Loss).worse(lossRank(l)) {
				best[l.Store] = hostLoss{Loss: l, Location: a.Location}
			}
		}
	}
	var worst hostLoss
	var gone []string
	for i, s := range stores {
		if best[s].All && s != "" {
			gone = append(gone, s)
		}
		if i == 0 || lossRank(best[s].Loss).worse(lossRank(worst.Loss)) {
			worst = best[s]
		}
	}
	worst.Gone = listed(gone)
	return worst
}

func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func notes(o Overview, left []Answer, worst hostLoss) []string {
	var out []string
	var names, there []string
	for _, a := range left {
		names = append(names, a.Location)
		if a.Reachable {
			there = append(there, a.Location)
		}
	}
	switch {
	case len(left) == 1:
		out = append(out, fmt.Sprintf("Only %s would survive. If it is lost as well, everything is.", names[0]))
	case len(there) == 0:
		out = append(out, "Of the locations that would survive, "+listed(names)+", none answers.")
	case len(there) < len(left):
		out = append(out, "Of the locations that would survive, "+listed(names)+", only "+listed(there)+" answers.")
	default:
		out = append(out, "These would survive: "+listed(names)+". Each store comes from the one that has most of it.")
	}
	if worst.All {
		return append(out, sentenceCase(strings.TrimPrefix(nameOr(worst.Note, "no location holds a copy of it"), ": "))+".")
	}
	if l := worst.Loss; l.Known && l.Store != "" && l.Span > 0 {
		out = append(out, fmt.Sprintf("The loss is decided by %s.", l.Store))
	} else if l.Note != "" {
		out = append(out, sentenceCase(l.Note)+".")
	}
	switch t := o.Back; {
	case t.Note != "":
		out = append(out, fmt.Sprintf("The time is decided by %s (%s).", nameOr(o.BackService, "the slowest service"), strings.TrimSuffix(t.Note, ".")))
	case !t.Known:
		out = append(out, "No restore has been timed.")
	case o.BackService != "":
		out = append(out, fmt.Sprintf("The time is decided by %s.", o.BackService))
	}
	return out
}

func about(m Measure) string {
	switch {
	case m.AtLeast:
		return "at least "
	case m.Basis == holdfast.Measured:
		return ""
	default:
		return "about "
	}
}

// aboutShort is about for a table.
func aboutShort(m Measure) string {
	switch {
	case m.AtLeast:
		return "≥ "
	case m.Basis == holdfast.Measured:
		return ""
	default:
		return "≈ "
	}
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}

func sentenceCase(s string) string {
	s = strings.TrimSuffix(strings.TrimSpace(s), ".")
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// survivors are the locations that do not burn with the host.
func survivors(as []Answer) []Answer {
	var out []Answer
	for _, a := range as {
		if !a.Burns {
			out = append(out, a)
		}
	}
	return out
}

// survivorsFirst puts what burns with the host at the end.
func survivorsFirst(as []Answer) []Answer {
	out := survivors(as)
	for _, a := range as {
		if a.Burns {
			out = append(out, a)
		}
	}
	return out
}

// toneOf is good only when every service is proved and keeps its promises.
func toneOf(o Overview) tone {
	t := good
	for _, a := range o.Answers {
		if !a.Reachable {
			t = warn // one loss more than yesterday is one too many
		}
	}
	for _, s := range o.Services {
		if s.RPO.Missed || s.RTO.Missed {
			return bad
		}
		switch b := postureBadge(s.Posture); b.Tone {
		case bad:
			return bad
		case warn:
			t = warn
		}
	}
	return t
}

// A rank orders durations by how bad they are; not knowing is worse than any
// figure, and losing all is worse than not knowing.
type rank struct {
	class int
	d     time.Duration
}

func (r rank) worse(o rank) bool { return r.class > o.class || r.class == o.class && r.d > o.d }

func lossRank(l Loss) rank {
	switch {
	case l.All:
		return rank{class: 2}
	case !l.Known:
		return rank{class: 1}
	default:
		return rank{d: l.Span}
	}
}

// Of what a card or the list of findings shows, this many come first; more than
// that is no help at first sight.
const (
	mostLosses   = 6
	mostFindings = 24
)

// worstFirst cuts a long list of losses in two, the worst ones first. A short one
// keeps the order that people know.
func worstFirst(ls []Loss) (first, rest []Loss) {
	if len(ls) <= mostLosses {
		return ls, nil
	}
	ls = slices.Clone(ls)
	slices.SortStableFunc(ls, func(a, b Loss) int {
		switch x, y := lossRank(a), lossRank(b); {
		case x.worse(y):
			return -1
		case y.worse(x):
			return 1
		}
		return 0
	})
	return ls[:mostLosses], ls[mostLosses:]
}

func lossWords(l Loss) string {
	if l.Span <= 0 {
		return "nothing"
	}
	return "the last " + brief(l.Span)
}

// join puts the words that there are side by side.
func join(words ...string) string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}
