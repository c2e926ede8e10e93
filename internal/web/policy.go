package web

import (
	"net/http"

	"holdfast/internal/plan/render"
)

// policy shows the plan in force as the document that people read. The document comes
// as Markdown whose values are escaped; what is made of it here is cleaned again.
func (s *site) policy(w http.ResponseWriter, r *http.Request) {
	if s.Policy == nil {
		s.missing(w, r)
		return
	}
	d := s.Policy()
	sections := make([]policySection, 0, len(d.Sections))
	for _, x := range d.Sections {
		body, err := x.HTML()
		if err != nil {
			s.fail(w, r, err)
			return
		}
		sections = append(sections, policySection{x.ID, x.Title, x.Number, body})
	}
	f := s.frame(r, "plan", render.Plain(d.Title), s.Clock())
	f.Live = false
	s.render(w, r, http.StatusOK, policyPage(f, render.Plain(d.Stamp), sections), nil)
}
