package holdfast

import (
	"errors"
	"fmt"
	"strings"
)

// Exit statuses of the command line. They are part of the interface: scripts
// and schedulers read them.
const (
	ExitDone    = 0 // done and within objectives
	ExitError   = 1 // not done
	ExitUsage   = 2 // the command line was wrong
	ExitMissed  = 3 // done, but an objective was missed or a finding of severity error exists
	ExitRefused = 4 // refused by policy, or waiting for an approval
)

// ErrMissed marks work that was done and missed an objective.
var ErrMissed = errors.New("an objective was missed")

// ErrRefused marks work that policy forbids or that waits for an approval.
var ErrRefused = errors.New("refused by policy")

// ErrUsage marks a command line, request or file that cannot be understood.
var ErrUsage = errors.New("usage")

// hinted is an error that carries what the person should do next.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// WithHint adds to err what to do next: one lower-case sentence, often a command.
// A nil err stays nil.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err: err, hint: fmt.Sprintf(format, args...)}
}

// Hint returns the outermost hint in err's chain, or "".
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// Sentence is an error as a person reads it: one line, without the words that
// only say what kind of error it is (the exit status says that).
func Sentence(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	text := strings.Join(lines, "; ")
	for {
		short := text
		for _, kind := range []error{ErrUsage, ErrRefused, ErrMissed} {
			short = strings.TrimSuffix(short, ": "+kind.Error())
		}
		if short == text {
			return text
		}
		text = short
	}
}

// ExitStatus maps an error to the exit status of the command line.
func ExitStatus(err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, ErrUsage):
		return ExitUsage
	case errors.Is(err, ErrMissed):
		return ExitMissed
	case errors.Is(err, ErrRefused):
		return ExitRefused
	default:
		return ExitError
	}
}

// hintMark separates message and hint where only text is kept.
const hintMark = "\nhint: "

// told is an error whose text carries its hint.
type told struct{ error }

func (t told) Error() string { return t.error.Error() + hintMark + Hint(t.error) }
func (t told) Unwrap() error { return t.error }

// Tell returns err with its hint as part of its text, for places that keep only
// the text of an error, such as a job. Heard takes it apart again.
func Tell(err error) error {
	if err == nil || Hint(err) == "" {
		return err
	}
	return told{err}
}

// Heard splits a text that Tell made.
func Heard(text string) (message, hint string) {
	message, hint, _ = strings.Cut(text, hintMark)
	return message, hint
}
