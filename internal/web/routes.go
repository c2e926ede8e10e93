package web

import (
	"errors"
	"net/http"
	"net/url"

	"holdfast/internal/access"
)

// routes are the addresses of the site. Each names the action that it is: there is no
// way to add one that does not.
type routes struct {
	mux   *http.ServeMux
	enter func(w http.ResponseWriter, r *http.Request, a access.Action) (done func(status int), ok bool)
	list  []route
}

// A route is one address; Action is empty where strangers are answered too.
type route struct {
	pattern string
	action  access.Action
}

// on answers pattern with h for whoever may do a.
func (s *routes) on(pattern string, a access.Action, h http.HandlerFunc) {
	s.list = append(s.list, route{pattern, a})
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		done, ok := s.enter(w, r, a)
		if !ok {
			return
		}
		seen := &answered{ResponseWriter: w, status: http.StatusOK}
		h(seen, r)
		done(seen.status)
	})
}

// everybody answers strangers too: only what admits people, and what looks.
func (s *routes) everybody(pattern string, h http.HandlerFunc) {
	s.list = append(s.list, route{pattern, ""})
	s.mux.HandleFunc(pattern, h)
}

func (s *routes) find(r *http.Request) (http.Handler, string) { return s.mux.Handler(r) }

func (s *routes) serve(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// An answered writer remembers the status of the answer.
type answered struct {
	http.ResponseWriter
	status int
}

// WriteHeader satisfies http.ResponseWriter.
func (a *answered) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// enter lets through whoever may. A stranger who wants to look is led to the log-in; who
// may not is told so, and it is recorded.
func (s *site) enter(w http.ResponseWriter, r *http.Request, a access.Action) (done func(int), ok bool) {
	if s.Access == nil {
		return func(int) {}, true
	}
	done, err := s.Access.Enter(r.Context(), a, r.Method+" "+r.URL.Path)
	switch {
	case err == nil:
		return done, true
	case !errors.Is(err, access.ErrLogin):
		s.fail(w, r, shown(err))
	case r.Method == http.MethodGet && r.Header.Get("HX-Request") == "":
		http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.EscapedPath()), http.StatusSeeOther)
	default:
		s.problem(w, r, http.StatusUnauthorized, "Not logged in", "The session has ended, so nothing was started.", "Log in, and press the button again.")
	}
	return nil, false
}

// may reports whether the buttons for an action are shown.
func (s *site) may(r *http.Request, a access.Action) bool {
	return s.Commands != nil && (s.Access == nil || access.From(r.Context()).May(a))
}
