package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/ledger"
	"holdfast/internal/message"
	"holdfast/internal/notify"
	"holdfast/internal/oncall"
	"holdfast/internal/plan"
	"holdfast/internal/survive"
	"holdfast/internal/vault"
)

// callsEvery is how often a server looks whom to tell.
const callsEvery = time.Second

// settleCalls tells and calls people, again and again.
func (a *App) settleCalls(ctx context.Context) {
	pause := a.pauses(ctx)
	for {
		if err := a.Calls.Settle(ctx); err != nil && ctx.Err() == nil {
			a.opt.Log.Error("people are not called", "err", err)
		}
		if !pause(callsEvery) {
			return
		}
	}
}

// calls makes the module that calls people, by the plan in force.
func (a *App) calls() *oncall.Module {
	return oncall.New(oncall.Config{
		DB: a.DB, Ledger: facts{a}, Clock: a.opt.Clock, Withdraw: a.Messages.Withdraw,
		Send: func(ctx context.Context, tx *db.Tx, d oncall.Draft) error {
			_, err := a.Messages.Send(ctx, tx, message.Draft{Cause: d.Cause, Kind: d.Kind, Person: d.Person, Channels: a.Plan().Tellers(), Urgent: d.Urgent, Subject: d.Subject, Text: d.Text, Data: d.Calls})
			return err
		},
		Link: func(secret string) string {
			m := a.Plan().Messages
			if m == nil || m.Link == "" {
				return ""
			}
			return strings.TrimSuffix(m.Link, "/") + "/ack/" + secret
		},
		Gather: func() time.Duration {
			if m := a.Plan().Messages; m != nil && !m.Gather.IsZero() {
				return m.Gather.Approx()
			}
			return gather
		},
		Quiet: func(person string, now time.Time) time.Time {
			p := a.Plan()
			if p.Messages == nil {
				return time.Time{}
			}
			zone, err := time.LoadLocation(p.People[person].Timezone)
			if err != nil || p.People[person].Timezone == "" {
				zone = p.Location()
			}
			return p.Messages.Quiet.Ends(now.In(zone))
		},
	})
}

// gather is for how long messages to one person are gathered, where the plan says nothing.
const gather = 5 * time.Minute

// remind calls or reminds people because of a fact, in the transaction of the fact.
func (a *App) remind(ctx context.Context, tx *db.Tx, f ledger.Fact) error {
	p := a.Plan()
	if len(p.Tellers()) == 0 || a.Calls == nil {
		return nil
	}
	var c oncall.Call
	var who []string
	switch f.Type {
	case "incident.opened", "incident.signal", "incident.phase":
		return a.incidentMoved(ctx, tx, f)
	case govern.FactReminded, govern.FactOverdue:
		var d struct {
			Duty, What, Owner, Cause string
			By                       []string
			Due                      time.Time
		}
		if err := json.Unmarshal(f.Data, &d); err != nil {
			return err
		}
		when := "due on "
		if f.Type == govern.FactOverdue {
			when = "overdue since "
		}
		c.Title = when + d.Due.In(p.Location()).Format(time.DateOnly) + ": " + d.What
		c.Key, c.Detail = f.Type+" "+d.Duty, fmt.Sprintf("%s. \"holdfast review show %s\" says what to do.", d.Cause, d.Duty)
		who = append(d.By, d.Owner)
		if f.Type == govern.FactOverdue && f.Subject == "recovery_kit" {
			// It tells, and opens nothing: what opens the kit is in the hands of people only.
			c.Title = "nobody of the company has said since " + d.Due.In(p.Location()).Format(time.DateOnly) + " that they are there"
			c.Detail = fmt.Sprintf("You hold a share of the key of the recovery kit. Try to reach them; if you cannot, call the other holders (%s): README.txt beside the kit says how it is opened. This message opens nothing. Whoever is there ends it with \"holdfast review done %s\".", strings.Join(p.KitHolders(), ", "), d.Duty)
			who = append(who, p.KitHolders()...)
		}
	case survive.FactAsked:
		var q survive.Challenge
		if err := json.Unmarshal(f.Data, &q); err != nil {
			return err
		}
		c.Title = fmt.Sprintf("show until %s that you still open the key %q", q.Due.In(p.Location()).Format(time.DateOnly), q.Key)
		c.Key, c.Detail = fmt.Sprintf("%s %s %s %s", f.Type, q.Key, q.Holder, q.Asked.UTC().Format(time.RFC3339)), "\"holdfast key challenge --help\" says how; nothing secret leaves your machine."
		if who = []string{q.Holder}; q.Holder == "" {
			who = p.Keys[q.Key].Holders
		}
	case vault.FactAsked:
		var r struct {
			Request string
			Expires time.Time
			Rule    string
			Act     vault.Act
		}
		if err := json.Unmarshal(f.Data, &r); err != nil {
			return err
		}
		c.Title = fmt.Sprintf("an approval is asked for: %s of %s", r.Act.Kind, f.Subject)
		c.Key, c.Detail = f.Type+" "+r.Request, fmt.Sprintf("%s signs until %s; asked by %s. \"holdfast approve show %s\" shows what for.", r.Rule, r.Expires.UTC().Format(time.RFC3339), f.Actor, r.Request)
		who = append(slices.Clone(p.Approval(r.Act.Kind).Roles), p.Plan.Owner)
	default:
		return nil
	}
	c.Subject, c.Notice = f.Subject, true
	if c.Ladder = a.reachable(who...); len(c.Ladder) == 0 {
		return nil
	}
	return a.Calls.Raise(ctx, tx, c)
}

// incidentMoved calls people when an incident is opened or begins again, and tells them
// when nothing of it goes on.
func (a *App) incidentMoved(ctx context.Context, tx *db.Tx, f ledger.Fact) error {
	var d struct {
		Incident int64
		Text     string
		Payload  json.RawMessage
	}
	if err := json.Unmarshal(f.Data, &d); err != nil {
		return err
	}
	inc, firing, err := a.Incidents.Look(ctx, tx, d.Incident)
	if err != nil {
		return err
	}
	key := "incident " + inc.Name()
	cleared := f.Type == "incident.signal" && string(d.Payload) == "null"
	switch {
	case inc.Phase == incident.Review || !inc.Open():
		return a.Calls.End(ctx, tx, key, fmt.Sprintf("%s is in phase %s", inc.Name(), inc.Phase))
	case cleared && len(firing) == 0:
		return a.Calls.End(ctx, tx, key, d.Text)
	case cleared || f.Type == "incident.phase":
		return nil
	}
	return a.Calls.Raise(ctx, tx, oncall.Call{Key: key, Subject: inc.Name(), Title: fmt.Sprintf("%s %s: %s", inc.Name(), inc.Severity, inc.Title), Detail: d.Text,
		Urgent: inc.Severity == incident.SEV1 || inc.Severity == incident.SEV2, Ladder: a.ladder(inc), Within: a.Plan().AckWithin()})
}

// ladder is who is called for an incident: who is responsible for its stores, then who is
// on call, then who leads.
func (a *App) ladder(inc incident.Incident) []string {
	p := a.Plan()
	var who []string
	for _, s := range inc.Stores {
		who = append(who, p.Stores[s].Owner)
	}
	for _, s := range inc.Services {
		who = append(who, p.Services[s].Owner)
	}
	return a.reachable(append(who, leads(p)...)...)
}

// leads are who is called when nobody in particular is responsible: who is on call, then
// who leads.
func leads(p *plan.Plan) (who []string) {
	if oc := p.OnCall; oc != nil {
		who = slices.Concat(oc.Primary, oc.Secondary, oc.EscalateTo)
	}
	return append(who, "incident_commander", p.Plan.Owner)
}

// reachable are the people behind roles and people, each once, holders before deputies,
// who can be reached in any way.
func (a *App) reachable(who ...string) []string { return Reachable(a.Plan(), who...) }

// Reachable is the same for a plan.
func Reachable(p *plan.Plan, who ...string) (out []string) {
	add := func(id string) {
		if id == "" || slices.Contains(out, id) {
			return
		}
		for _, ch := range p.Tellers() {
			if _, _, err := ReceiverOf(p, id, ch); err == nil {
				out = append(out, id)
				return
			}
		}
	}
	for _, w := range who {
		for one := range strings.SplitSeq(w, " or ") {
			add(p.Person(one, false))
			add(p.Person(one, true))
		}
	}
	return out
}

// Answer records that a person sees to a call. An incident that waited for somebody to
// look at it is acknowledged with it.
func (a *App) Answer(ctx context.Context, id int64, by, note string) (oncall.Call, error) {
	if err := a.person(by); err != nil {
		return oncall.Call{}, err
	}
	c, err := a.Calls.Answer(ctx, id, by, note)
	if err != nil {
		return c, err
	}
	var number int64
	if n, err := fmt.Sscanf(c.Key, "incident INC-%d", &number); err != nil || n != 1 {
		return c, nil
	}
	return c, a.DB.Tx(ctx, func(tx *db.Tx) error {
		inc, _, err := a.Incidents.Look(ctx, tx, number)
		if err != nil || inc.Phase != incident.Detection {
			return err
		}
		_, err = a.Incidents.Advance(ctx, tx, number, incident.Move{To: incident.Assessment, Actor: by, Reason: by + " sees to it"})
		return err
	})
}

// AnswerLink answers what a link in a message is about, in the name of whom it was sent to.
func (a *App) AnswerLink(ctx context.Context, secret, note string) (oncall.Link, error) {
	l, err := a.Calls.UseLink(ctx, secret)
	if err != nil {
		return l, err
	}
	said := "by the link in a message"
	if note != "" {
		said = note + " (" + said + ")"
	}
	for i, c := range l.Calls {
		done, err := a.Answer(ctx, c.ID, l.Person, said)
		if err != nil && !errors.Is(err, holdfast.ErrRefused) {
			return l, err
		}
		if err == nil {
			l.Calls[i] = done
		} // else: it is over, and nothing is left to answer
	}
	return l, nil
}

// TryChannel sends a message for testing to a person by one channel, or by the first by
// which people are told, and says what came of it. Nothing is written down: it answers
// whoever asked.
func (a *App) TryChannel(ctx context.Context, channel, person string) (said string, err error) {
	p := a.Plan()
	if channel == "" {
		if len(p.Tellers()) == 0 {
			return "", holdfast.WithHint(fmt.Errorf("the plan in force declares no channel: %w", holdfast.ErrUsage), "add \"messages\" to the plan: docs/ops/messages.md")
		}
		channel = p.Tellers()[0]
	}
	if p.Messages == nil || p.Messages.Channels[channel].Kind == "" {
		return "", holdfast.WithHint(fmt.Errorf("the plan in force has no channel %q: %w", channel, holdfast.ErrUsage), "the channels stand under messages.channels of the plan")
	}
	ch, err := a.channel(channel)
	if err != nil {
		return "", fmt.Errorf("channel %q: %w", channel, err)
	}
	now := a.opt.Clock()
	m := notify.Message{ID: fmt.Sprintf("test-%d", now.UnixMicro()), Kind: "test", At: now, Subject: "Holdfast: a test of channel " + channel, Text: "If you read this, the channel works.\n"}
	if p.Messages.Channels[channel].Kind != plan.ChannelWebhook {
		if m.To, m.Name, err = ReceiverOf(p, person, channel); err != nil {
			return "", holdfast.WithHint(fmt.Errorf("channel %q: %w: %w", channel, err, holdfast.ErrUsage), "name a person of the plan who has an email: --to PERSON")
		}
	}
	if said, err = ch.Send(ctx, m); err != nil {
		return "", holdfast.WithHint(fmt.Errorf("channel %q: %w", channel, err), "correct messages.channels.%s of the plan, or what it leads to", channel)
	}
	return said, nil
}

// beat tells somebody outside that this server is alive, while it does its work: it can
// read its state, and what is urgent reaches people. Otherwise it is silent, and that is
// the alarm.
func (a *App) beat(ctx context.Context) {
	var last time.Time
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if m := a.Plan().Messages; m != nil && m.Heartbeat != nil {
			every := m.Heartbeat.Every.Approx()
			if every <= 0 {
				every = time.Minute
			}
			if now := time.Now(); now.Sub(last) >= every {
				last = now
				if err := a.beatOnce(ctx, m.Heartbeat); err != nil && ctx.Err() == nil {
					a.opt.Log.Warn("no heartbeat sent", "err", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// failedShown is how long a message that nobody took is told.
const failedShown = 7 * 24 * time.Hour

// messageFindings is what status says of messages that reached nobody.
func (a *App) messageFindings(ctx context.Context) ([]holdfast.Finding, error) {
	now := a.opt.Clock()
	c, err := a.Messages.Counts(ctx, now.Add(-failedShown))
	if err != nil {
		return nil, err
	}
	var out []holdfast.Finding
	add := func(severity holdfast.FindingSeverity, hint, format string, args ...any) {
		out = append(out, holdfast.Finding{Code: codeUnsent, Severity: severity, Subject: "messages", Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	waiting := fmt.Sprintf("%d messages wait since %s at the latest", c.Waiting, c.Oldest.UTC().Format(time.RFC3339))
	switch {
	case !c.Urgent.IsZero() && now.Sub(c.Urgent) > undelivered:
		add(holdfast.SeverityError, "\"holdfast message list --state waiting\" says what each channel answered", "undelivered: %s, an urgent one among them", waiting)
	case c.Waiting > 0 && now.Sub(c.Oldest) > undelivered:
		add(holdfast.SeverityWarning, "\"holdfast message list --state waiting\" says what each channel answered", "undelivered: %s", waiting)
	}
	switch hint := "\"holdfast message list --state failed\" lists them; \"holdfast message resend\" sends one again when its channel is mended"; {
	case c.Lost > 0:
		add(holdfast.SeverityError, hint, "undelivered: %d messages of the last 7 days were taken by no channel, %d of them urgent", c.Failed, c.Lost)
	case c.Failed > 0:
		add(holdfast.SeverityWarning, hint, "undelivered: %d messages of the last 7 days were taken by no channel", c.Failed)
	}
	return out, nil
}

// undelivered is how long an urgent message may wait before the heartbeat stops.
const undelivered = 15 * time.Minute

func (a *App) beatOnce(ctx context.Context, h *plan.Heartbeat) error {
	now := a.opt.Clock()
	c, err := a.Messages.Counts(ctx, now.Add(-undelivered))
	if err != nil {
		return fmt.Errorf("the state cannot be read: %w", err)
	}
	if !c.Urgent.IsZero() && now.Sub(c.Urgent) > undelivered {
		return fmt.Errorf("an urgent message waits since %s and no channel takes it", c.Urgent.UTC().Format(time.RFC3339))
	}
	ch, err := openWebhook(a.Plan(), h.Webhook, time.Now)
	if err != nil {
		return err
	}
	_, err = ch.Send(ctx, notify.Message{ID: fmt.Sprintf("beat-%d", time.Now().UnixMicro()), Kind: "heartbeat", At: time.Now(), Subject: "alive"})
	return err
}
