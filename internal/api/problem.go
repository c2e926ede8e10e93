package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/recovery"
)

// A Problem is an error as it travels: a problem document (RFC 9457) with the
// hint and the exit status of the command line.
type Problem struct {
	Type   string `json:"type" doc:"always about:blank: the code says what kind it is"`
	Status int    `json:"status"`
	Code   string `json:"code" doc:"usage, login, refused, not-found, method, too-large, too-long, missed, failed"`
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
	case errors.Is(err, access.ErrLogin):
		p.Status = http.StatusUnauthorized
	case errors.Is(err, access.ErrForbidden):
		p.Status = http.StatusForbidden
	case errors.Is(err, access.ErrNotFound), errors.Is(err, drill.ErrNotFound), errors.Is(err, incident.ErrNotFound), errors.Is(err, recovery.ErrNotFound):
		// A name that nothing has is a slip in the request, as an unknown store is.
		p.Status, p.Exit = http.StatusNotFound, holdfast.ExitUsage
	case errors.Is(err, holdfast.ErrUsage):
		p.Status = http.StatusUnprocessableEntity
	case errors.Is(err, holdfast.ErrRefused):
		p.Status = http.StatusConflict
	}
	return p.named()
}

// named fills in what follows from the status.
func (p *Problem) named() *Problem {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	if p.Code == "" {
		p.Code = codes[p.Status]
	}
	if p.Code == "" {
		p.Code = "failed"
		if p.Status < http.StatusInternalServerError {
			p.Code = "usage"
		}
	}
	if p.Exit == 0 {
		p.Exit = holdfast.ExitError
		if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
			p.Exit = holdfast.ExitRefused
		} else if p.Status < http.StatusInternalServerError {
			p.Exit = holdfast.ExitUsage
		}
	}
	return p
}

var codes = map[int]string{
	http.StatusUnauthorized: "login", http.StatusForbidden: "refused", http.StatusConflict: "refused", http.StatusNotFound: "not-found",
	http.StatusMethodNotAllowed: "method", http.StatusRequestEntityTooLarge: "too-large", http.StatusRequestTimeout: "too-long",
}

// statusOf is the status of the answer to an error.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	var p *Problem
	_ = errors.As(problem(err), &p) // problem makes nothing else
	return p.Status
}

// problems lets every error of the library be a problem of ours: a body that is no
// JSON, a value out of its range, a header that is too long.
var problems = sync.OnceFunc(func() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		if status == http.StatusUnprocessableEntity && len(errs) > 0 || status == http.StatusBadRequest {
			var said []string
			for _, e := range errs {
				if e != nil {
					said = append(said, e.Error())
				}
			}
			if len(said) > 0 {
				message += ": " + strings.Join(said[:min(len(said), maxSaid)], "; ")
			}
		}
		return (&Problem{Status: status, Detail: message, Hint: "/api/openapi.json says what every operation takes"}).named()
	}
})

// maxSaid bounds how many mistakes of one request are named.
const maxSaid = 10

// ours answers what no operation takes as a problem too.
func ours(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refused := &refusal{header: http.Header{}}
		h.ServeHTTP(refused, r)
		p := &Problem{Status: http.StatusNotFound, Detail: "there is no operation at this address", Hint: "/api/openapi.json lists every operation"}
		if refused.status == http.StatusMethodNotAllowed {
			p.Status, p.Detail = refused.status, "this address does not take "+r.Method
			w.Header().Set("Allow", refused.header.Get("Allow"))
		}
		write(w, p.named())
	})
}

// write answers with a problem.
func write(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a reader that has gone away needs no answer
}

// A refusal keeps the status and header of an answer and drops its text.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) WriteHeader(status int)      { r.status = status }

// unreachable is the error of a client that found nobody.
func unreachable(err error) error {
	return holdfast.WithHint(fmt.Errorf("no server answers: %w", err), "start one with \"holdfast serve\"")
}
