package web

import "net/http"

// jobs shows the records of work.
func (s *site) jobs(w http.ResponseWriter, r *http.Request) {
	if s.Jobs == nil {
		s.missing(w, r)
		return
	}
	ctx, stop := within(r)
	defer stop()
	now := s.Clock()
	j, err := s.Jobs(ctx, now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, "jobs", "Jobs", now)
	s.render(w, r, http.StatusOK, jobsPage(f, j), jobsLive(f, j))
}
