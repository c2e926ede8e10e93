package web

import "net/http"

// reviews lists what people owe.
func (s *site) reviews(w http.ResponseWriter, r *http.Request) {
	if s.Reviews == nil {
		s.missing(w, r)
		return
	}
	ctx, stop := within(r)
	defer stop()
	ds, err := s.Reviews(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, "reviews", "Owed", s.Clock())
	s.render(w, r, http.StatusOK, reviewsPage(f, ds), reviewsLive(f, ds))
}
