package web

import (
	"context"
	"net/http"
)

// Links answers calls by the links that messages hold.
type Links interface {
	// Link shows what a link answers. It changes nothing and may be called by any program
	// that follows links.
	Link(ctx context.Context, secret string) (Ack, error)
	// AnswerLink answers it, once.
	AnswerLink(ctx context.Context, secret, note string) (Ack, error)
}

// maxSecret bounds the secret of a link.
const maxSecret = 100

// ack asks whoever opened a link whether they see to it. It needs no log-in: the link
// itself says who they are, and answers nothing but what it was sent for.
func (s *site) ack(w http.ResponseWriter, r *http.Request) {
	secret := r.PathValue("secret")
	if s.Links == nil || len(secret) > maxSecret {
		s.missing(w, r)
		return
	}
	ctx, stop := within(r)
	defer stop()
	var a Ack
	var err error
	done := r.Method == http.MethodPost
	if done {
		if !s.form(w, r) {
			return
		}
		a, err = s.Links.AnswerLink(ctx, secret, r.PostFormValue("note"))
	} else {
		a, err = s.Links.Link(ctx, secret)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, ackPage(s.still(r, "", "Do you see to it?"), secret, a, done), nil)
}
