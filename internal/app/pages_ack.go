package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/oncall"
	"holdfast/internal/web"
)

// Link shows what a link in a message answers.
func (p pages) Link(ctx context.Context, secret string) (web.Ack, error) {
	l, err := p.a.Calls.Link(ctx, secret)
	if errors.Is(err, oncall.ErrNotFound) {
		return web.Ack{}, web.ErrNotFound
	}
	return ackOf(l, p.a.opt.Clock()), err
}

// AnswerLink answers it.
func (p pages) AnswerLink(ctx context.Context, secret, note string) (web.Ack, error) {
	l, err := p.a.AnswerLink(ctx, secret, note)
	switch {
	case errors.Is(err, oncall.ErrNotFound):
		return web.Ack{}, web.ErrNotFound
	case errors.Is(err, holdfast.ErrRefused):
		return web.Ack{}, &web.PublicError{Message: holdfast.Sentence(err), Hint: holdfast.Hint(err), Err: err}
	}
	return ackOf(l, p.a.opt.Clock()), err
}

func ackOf(l oncall.Link, now time.Time) web.Ack {
	a := web.Ack{Person: l.Person, Expires: l.Expires}
	switch {
	case !l.Used.IsZero():
		a.Ended = fmt.Sprintf("This link was used at %s.", l.Used.UTC().Format(time.RFC3339))
	case !now.Before(l.Expires):
		a.Ended = fmt.Sprintf("This link ended at %s. Log in, or use \"holdfast oncall ack\".", l.Expires.UTC().Format(time.RFC3339))
	}
	for _, c := range l.Calls {
		a.Calls = append(a.Calls, web.AckCall{Name: c.Name(), Title: c.Title, Detail: c.Detail, State: c.State, By: c.By})
	}
	return a
}
