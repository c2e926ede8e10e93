package message

import (
	"context"
	"errors"
	"fmt"

	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/notify"
)

type args struct {
	ID string `json:"id"`
}

// attempt hands one message to its channel.
//
// A crash while the channel works leaves it unknown whether the other side took the
// message. The job is taken back and the message handed over again, with the same id.
func (m *Module) attempt(ctx context.Context, w *job.Work) error {
	var a args
	if err := w.Decode(&a); err != nil {
		return err
	}
	x, err := m.Get(ctx, a.ID)
	if errors.Is(err, ErrNotFound) {
		return job.Permanent(err)
	}
	if err != nil {
		return err
	}
	if x.State != Waiting {
		return w.Done(ctx, x.State, nil)
	}
	said, err := m.hand(ctx, x)
	if errors.Is(context.Cause(ctx), job.ErrStopping) || errors.Is(context.Cause(ctx), job.ErrLost) {
		return err // whatever it was, we ended it
	}
	x.Tries, x.Tried = x.Tries+1, m.cfg.Clock()
	if err == nil {
		return w.Done(ctx, Handed, func(tx *db.Tx) error { return m.end(ctx, tx, &x, Handed, FactHanded, said) })
	}
	if over := !m.cfg.Clock().Before(x.Until); over || notify.IsPermanent(err) {
		said := err.Error()
		if over && !notify.IsPermanent(err) {
			said = fmt.Sprintf("given up after %s: %s", Patience, said)
		}
		return w.Done(ctx, Failed, func(tx *db.Tx) error {
			y := x // it may run again after a conflict
			if err := m.end(ctx, tx, &y, Failed, FactFailed, said); err != nil {
				return err
			}
			return m.next(ctx, tx, &y)
		})
	}
	said = err.Error()
	if terr := m.cfg.DB.Tx(context.WithoutCancel(ctx), func(tx *db.Tx) error {
		now, err := m.get(ctx, tx, x.ID)
		if err != nil || now.State != Waiting {
			return err
		}
		if err := m.fact(ctx, tx, FactAttempt, x, "holdfast", said); err != nil {
			return err
		}
		next := x
		next.Said = said
		if x.Urgent {
			if err := m.next(ctx, tx, &next); err != nil {
				return err
			}
		}
		return m.save(ctx, tx, next)
	}); terr != nil {
		return errors.Join(err, terr)
	}
	return err
}

// hand makes the attempt.
func (m *Module) hand(ctx context.Context, x Message) (said string, err error) {
	ch, err := m.cfg.Channel(x.Channel)
	if err != nil {
		return "", fmt.Errorf("channel %q: %w", x.Channel, err)
	}
	out := notify.Message{ID: x.ID, Kind: x.Kind, At: x.Created, Subject: x.Subject, Text: x.Text, Data: x.Data, Urgent: x.Urgent}
	if x.Person != "" {
		if out.To, out.Name, err = m.cfg.Receiver(x.Person, x.Channel); err != nil {
			return "", fmt.Errorf("channel %q: %w", x.Channel, err)
		}
	}
	if said, err = ch.Send(ctx, out); err != nil {
		return "", fmt.Errorf("channel %q: %w", x.Channel, err)
	}
	return said, nil
}

// settle ends a message.
func (m *Module) settle(ctx context.Context, tx *db.Tx, x *Message, state, said string) error {
	x.State, x.Said, x.Settled = state, notify.Line(said, 2*notify.MaxSaid), m.cfg.Clock()
	return m.save(ctx, tx, *x)
}

func (m *Module) end(ctx context.Context, tx *db.Tx, x *Message, state, fact, said string) error {
	if err := m.settle(ctx, tx, x, state, said); err != nil {
		return err
	}
	return m.fact(ctx, tx, fact, *x, "holdfast", x.Said)
}

// next writes the same message on the next channel of the person, once.
func (m *Module) next(ctx context.Context, tx *db.Tx, x *Message) error {
	if len(x.Otherwise) == 0 {
		return nil
	}
	y := Message{ID: id(x.Cause, x.Person, x.Otherwise[0]), Cause: x.Cause, Kind: x.Kind, Person: x.Person, Channel: x.Otherwise[0], Otherwise: x.Otherwise[1:], Urgent: x.Urgent,
		Subject: x.Subject, Text: x.Text, Data: x.Data, State: Waiting, Created: m.cfg.Clock(), Until: x.Until}
	x.Otherwise = nil
	if err := m.save(ctx, tx, *x); err != nil {
		return err
	}
	return m.enqueue(ctx, tx, y)
}
