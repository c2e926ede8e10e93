package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/message"
	"holdfast/internal/notify"
	"holdfast/internal/notify/file"
	"holdfast/internal/notify/mail"
	"holdfast/internal/notify/webhook"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// OpenChannel opens a channel of a plan. Its secrets are read now, so that a file that is
// mended or replaced counts from the next message on.
func OpenChannel(p *plan.Plan, c plan.Channel, clock func() time.Time) (message.Channel, error) {
	switch {
	case c.Mail != nil:
		return openMail(p, c.Mail)
	case c.Webhook != nil:
		return openWebhook(p, c.Webhook, clock)
	case c.File != nil:
		return lines(p.Resolve(c.File.Path)), nil
	}
	return nil, fmt.Errorf("a channel of kind %q goes nowhere", c.Kind)
}

func openMail(p *plan.Plan, m *plan.MailChannel) (message.Channel, error) {
	port := map[plan.MailTLS]int{"": 587, "starttls": 587, "tls": 465, "none": 25}[m.TLS]
	cfg := mail.Config{Host: m.Host, Port: cmp.Or(m.Port, port), TLS: cmp.Or(string(m.TLS), mail.STARTTLS), User: m.User, From: m.From, CAFile: resolve(p, m.CAFile)}
	if m.PasswordFile != "" {
		pw, err := readSecret(p.Resolve(m.PasswordFile))
		if err != nil {
			return nil, err
		}
		cfg.Password = pw
	}
	return mail.New(cfg)
}

func openWebhook(p *plan.Plan, h *plan.WebhookChannel, clock func() time.Time) (*webhook.Channel, error) {
	cfg := webhook.Config{URL: h.URL, Private: h.Private, CAFile: resolve(p, h.CAFile), Clock: clock}
	var err error
	if h.URLFile != "" {
		if cfg.URL, err = readSecret(p.Resolve(h.URLFile)); err != nil {
			return nil, err
		}
	}
	if h.SecretFile != "" {
		text, err := readSecret(p.Resolve(h.SecretFile))
		if err != nil {
			return nil, err
		}
		if cfg.Secret, err = seal.ParseHookSecret(text); err != nil {
			return nil, err
		}
	}
	return webhook.New(cfg)
}

func resolve(p *plan.Plan, path string) string {
	if path == "" {
		return ""
	}
	return p.Resolve(path)
}

// readSecret reads a file that holds a secret alone.
func readSecret(path string) (string, error) {
	text, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is missing%w", path, silent{err})
	}
	if err != nil {
		return "", holdfast.WithHint(fmt.Errorf("secret of a channel: %w", err), "write the secret alone into %s and chmod 600 it", path)
	}
	return strings.TrimSpace(text), nil
}

// written are the open channels of kind file: all that write to one file take turns.
var written sync.Map

func lines(path string) *file.Channel {
	c, _ := written.LoadOrStore(path, file.New(path))
	return c.(*file.Channel)
}

// channel opens a channel of the plan in force.
func (a *App) channel(name string) (message.Channel, error) {
	p := a.Plan()
	if p.Messages == nil || p.Messages.Channels[name].Kind == "" {
		return nil, notify.Permanent(fmt.Errorf("%q is not in the plan in force any more", name))
	}
	return OpenChannel(p, p.Messages.Channels[name], a.opt.Clock)
}

// receiver says by which address a channel reaches a person.
func (a *App) receiver(person, channel string) (address, name string, err error) {
	return ReceiverOf(a.Plan(), person, channel)
}

// ReceiverOf is the address of a person on a channel of a plan.
func ReceiverOf(p *plan.Plan, person, channel string) (address, name string, err error) {
	x, ok := p.People[person]
	if !ok {
		return "", "", notify.Permanent(fmt.Errorf("%q is not a person of the plan in force", person))
	}
	name = cmp.Or(x.Name, person)
	if p.Messages.Channels[channel].Kind == plan.ChannelMail && x.Email == "" {
		return "", "", notify.Permanent(fmt.Errorf("people.%s of the plan has no email", person))
	}
	return x.Email, name, nil
}

// announce tells the channels that asked for a fact, in the transaction of the fact.
func (a *App) announce(ctx context.Context, tx *db.Tx, index int64, f ledger.Fact) error {
	if strings.HasPrefix(f.Type, message.Prefix) || a.Plan().Messages == nil || a.Messages == nil {
		return nil // what is said about messages would be said about that again
	}
	for name, c := range a.Plan().Messages.Channels {
		if !subscribed(c.Events, f.Type) {
			continue
		}
		if _, err := a.Messages.Send(ctx, tx, message.Draft{
			Cause: fmt.Sprintf("fact %d", index), Kind: f.Type, Channels: []string{name}, Subject: f.Type + " " + f.Subject,
			Data: event{index, f.Type, f.Subject, f.Actor, f.At, f.Plan, f.Data},
		}); err != nil {
			return err
		}
	}
	return nil
}

// An event is a fact as receivers of webhooks get it.
type event struct {
	Fact    int64           `json:"fact"` // its index in the ledger
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Actor   string          `json:"actor"`
	At      time.Time       `json:"at"`
	Plan    string          `json:"plan"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func subscribed(events []string, kind string) bool {
	for _, e := range events {
		if ok, err := path.Match(e, kind); err == nil && ok {
			return true
		}
	}
	return false
}
