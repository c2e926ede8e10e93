package web

import (
	"context"
	"net/http"
	"strings"

	"holdfast/internal/access"
)

// Copies are the offline copies of the plan.
type Copies interface {
	OfflineCopies(ctx context.Context) ([]CopyLine, error)
	// ConfirmCopy records that a person's copy opens. A code that is not the one is a
	// PublicError.
	ConfirmCopy(ctx context.Context, id, code, by string) error
}

// offline shows who holds which version of the plan.
func (s *site) offline(w http.ResponseWriter, r *http.Request) {
	if s.Copies == nil {
		s.missing(w, r)
		return
	}
	ctx, stop := within(r)
	defer stop()
	ls, err := s.Copies.OfflineCopies(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.still(r, "offline", "Offline copies")
	if r.URL.Query().Get("confirmed") != "" {
		f.Notice = "It is recorded that your copy opens."
	}
	s.render(w, r, http.StatusOK, offlinePage(f, ls, f.Who.Person()), nil)
}

// confirmCopy takes the code of a copy. Nobody confirms for somebody else.
func (s *site) confirmCopy(w http.ResponseWriter, r *http.Request) {
	if s.Copies == nil {
		s.missing(w, r)
		return
	}
	ctx, stop := within(r)
	defer stop()
	if !s.form(w, r) {
		return
	}
	by, err := access.By(r.Context(), strings.TrimSpace(r.PostForm.Get("person")))
	if err == nil {
		err = s.Copies.ConfirmCopy(ctx, strings.TrimSpace(r.PostForm.Get("copy")), r.PostForm.Get("code"), by)
	}
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	http.Redirect(w, r, "/offline?confirmed=1", http.StatusSeeOther)
}
