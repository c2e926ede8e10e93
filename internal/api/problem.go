package api

import (
	"errors"
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/recovery"
)

// A Problem is an error as it travels: a problem document (RFC 9457) with the
// hint and the exit status of the command line.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	Exit   int    `json:"exit"`
}

// Error returns the detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus satisfies huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType says what the body is.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Is makes a problem that came over the wire the same error as at its source.
func (p *Problem) Is(target error) bool {
	switch target {
	case holdfast.ErrUsage:
		return p.Exit == holdfast.ExitUsage
	case holdfast.ErrMissed:
		return p.Exit == holdfast.ExitMissed
	case holdfast.ErrRefused:
		return p.Exit == holdfast.ExitRefused
	}
	return false
}

// problem makes a problem of an error.
func problem(err error) error {
	p := &Problem{Detail: holdfast.Sentence(err), Hint: holdfast.Hint(err), Exit: holdfast.ExitStatus(err), Status: http.StatusInternalServerError}
	switch {
	case errors.Is(err, drill.ErrNotFound), errors.Is(err, incident.ErrNotFound), errors.Is(err, recovery.ErrNotFound):
		// A name that nothing has is a slip in the request, as an unknown store is.
		p.Status, p.Exit = http.StatusNotFound, holdfast.ExitUsage
	case errors.Is(err, holdfast.ErrUsage):
		p.Status = http.StatusUnprocessableEntity
	case errors.Is(err, holdfast.ErrRefused):
		p.Status = http.StatusConflict
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// unreachable is the error of a client that found nobody.
func unreachable(err error) error {
	return holdfast.WithHint(fmt.Errorf("no server answers: %w", err), "start one with \"holdfast serve\"")
}
