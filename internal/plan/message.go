package plan

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"time"
)

// Messages says how people and other systems are told.
type Messages struct {
	// Channels are the ways, by a name of their own.
	Channels map[string]Channel `yaml:"channels"`
	// By names the channels by which people are told, the first first. The next one is
	// taken when one refuses, and for what is urgent also when one does not answer.
	//
	// Defaults to every channel of kind mail, by name.
	By []string `yaml:"by"`
	// AckWithin is how long the person who is called has to say that they see to it,
	// before the next one is called.
	//
	// Defaults to oncall.ack_within, and without it to 15m.
	AckWithin Period `yaml:"ack_within"`
	// Gather is for how long after a message to a person what else happens is put
	// together into the next one. Urgent messages are gathered for a minute at most.
	//
	// Defaults to 5m.
	Gather Period `yaml:"gather"`
	// Quiet is when people are told only what is urgent, by the time zone of each.
	Quiet *Quiet `yaml:"quiet"`
	// Link is the address at which people reach the server from where they read their
	// messages: "https://holdfast.example.com:8443". With it a message that calls somebody
	// holds a link that answers once, after a press of a button.
	Link string `yaml:"link"`
	// Keep is how long messages that have ended are kept with their text. The ledger
	// keeps that they were sent, to whom and whether they arrived, for ever.
	//
	// Defaults to 90d; the minimum is 7d.
	Keep Period `yaml:"keep"`
	// Heartbeat tells somebody outside that the server is alive.
	Heartbeat *Heartbeat `yaml:"heartbeat"`
}

// A ChannelKind is a way by which messages go.
type ChannelKind string

// The kinds of channels.
const (
	ChannelMail    ChannelKind = "mail"
	ChannelWebhook ChannelKind = "webhook"
	ChannelFile    ChannelKind = "file"
)

func (ChannelKind) words() []string {
	return []string{string(ChannelMail), string(ChannelWebhook), string(ChannelFile)}
}

// A Channel is one way by which messages go.
type Channel struct {
	Kind ChannelKind `yaml:"kind" plan:"required"` // the way; the section of that name says where to
	// Mail, Webhook and File say where to; the one of the kind.
	Mail    *MailChannel    `yaml:"mail"`
	Webhook *WebhookChannel `yaml:"webhook"` // the receiver, for kind webhook
	File    *FileChannel    `yaml:"file"`    // the file, for kind file
	// Events are the facts that go to this channel by themselves, each in a message of
	// its own, for other systems: "incident.opened", "backup.failed", "drill.*".
	Events []string `yaml:"events"`
}

// A MailChannel is a mail server.
type MailChannel struct {
	Host string `yaml:"host" plan:"required"` // the name or address of the server
	// Port of the server.
	//
	// Defaults to 587; for tls "tls" to 465, for "none" to 25.
	Port int `yaml:"port"`
	// TLS is how the connection is protected: "starttls", "tls" from the first byte, or
	// "none", which only a server on this machine may have.
	//
	// Defaults to starttls.
	TLS MailTLS `yaml:"tls"`
	// User logs in with the password that PasswordFile holds alone, readable by its
	// owner only.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file" plan:"path"` // holds the password alone; readable by its owner only
	// From is the sender: "Holdfast <holdfast@example.com>".
	From string `yaml:"from" plan:"required"`
	// CAFile holds further authorities for the server's certificate, as PEM.
	CAFile string `yaml:"ca_file" plan:"path"`
}

// MailTLS is how a connection to a mail server is protected.
type MailTLS string

func (MailTLS) words() []string { return []string{"starttls", "tls", "none"} }

// A WebhookChannel is a receiver of signed HTTP requests.
type WebhookChannel struct {
	// URL is the address. If it is a secret itself, write it into a file that only its
	// owner can read, and name that by URLFile.
	URL     string `yaml:"url"`
	URLFile string `yaml:"url_file" plan:"path"` // holds the address where it is a secret; readable by its owner only
	// SecretFile holds what the requests are signed with: at least 24 characters. Without
	// it they are not signed.
	SecretFile string `yaml:"secret_file" plan:"path"`
	// Private is true for a receiver in a private network or on this machine. It may then
	// be reached without TLS.
	Private bool `yaml:"private"`
	// CAFile holds further authorities for its certificate, as PEM.
	CAFile string `yaml:"ca_file" plan:"path"`
}

// A FileChannel is a file that gets a line of JSON for each message.
type FileChannel struct {
	Path string `yaml:"path" plan:"path,required"` // the file, to which lines are added
}

// Quiet is a part of each day, by the clock on the wall: from "22:00" until "07:00".
type Quiet struct {
	From  string `yaml:"from" plan:"required"`  // a time of day, such as "22:00"
	Until string `yaml:"until" plan:"required"` // a time of day, such as "07:00"
}

// A Heartbeat is posted again and again, while the server does its work, to somebody who
// raises the alarm when it stops: "holdfast watch" on another machine, or a service.
type Heartbeat struct {
	// Webhook is who is told. Its requests are signed like those of channels.
	Webhook *WebhookChannel `yaml:"webhook" plan:"required"`
	// Every is how often.
	//
	// Defaults to 1m.
	Every Period `yaml:"every"`
}

// clock reads a time of day.
func clock(s string) (time.Duration, bool) {
	t, err := time.Parse("15:04", s)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err == nil
}

// Ends says until when an instant is quiet; the zero time if it is not.
func (q *Quiet) Ends(now time.Time) time.Time {
	if q == nil {
		return time.Time{}
	}
	from, ok := clock(q.From)
	until, ok2 := clock(q.Until)
	if !ok || !ok2 || from == until {
		return time.Time{}
	}
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	day := now
	switch {
	case from < until && (at < from || at >= until), from > until && at < from && at >= until:
		return time.Time{}
	case at >= until:
		day = now.AddDate(0, 0, 1)
	}
	return time.Date(day.Year(), day.Month(), day.Day(), int(until/time.Hour), int(until%time.Hour/time.Minute), 0, 0, now.Location())
}

// Tellers are the channels by which people are told, the first first.
func (p *Plan) Tellers() (out []string) {
	if p.Messages == nil {
		return nil
	}
	if len(p.Messages.By) > 0 {
		return p.Messages.By
	}
	for _, name := range sorted(p.Messages.Channels) {
		if p.Messages.Channels[name].Kind == ChannelMail {
			out = append(out, name)
		}
	}
	return out
}

// AckWithin is how long somebody who is called has to answer.
func (p *Plan) AckWithin() time.Duration {
	switch {
	case p.Messages != nil && !p.Messages.AckWithin.IsZero():
		return p.Messages.AckWithin.Approx()
	case p.OnCall != nil && !p.OnCall.AckWithin.IsZero():
		return p.OnCall.AckWithin.Approx()
	}
	return 15 * time.Minute
}

// messages checks the form of the section.
func (d *decoder) messages(complain complainer, m *Messages) {
	for _, name := range sorted(m.Channels) {
		c, path := m.Channels[name], "messages.channels."+name
		for _, k := range []struct {
			kind ChannelKind
			set  bool
		}{{ChannelMail, c.Mail != nil}, {ChannelWebhook, c.Webhook != nil}, {ChannelFile, c.File != nil}} {
			switch {
			case c.Kind == k.kind && !k.set && !d.complained(path):
				complain(codeEmpty, path, fmt.Sprintf("add \"%s:\" with its fields", k.kind), "%q is of kind %s and lacks %q", path, k.kind, k.kind)
			case c.Kind != "" && c.Kind != k.kind && k.set:
				complain(codeField, path+"."+string(k.kind), "remove it, or change the kind", "%q is of kind %s and has fields for %s", path, c.Kind, k.kind)
			}
		}
		if x := c.Mail; x != nil {
			x.check(complain, path+".mail")
		}
		if c.Webhook != nil {
			c.Webhook.check(complain, path+".webhook")
		}
	}
	if q := m.Quiet; q != nil {
		for field, s := range map[string]string{"from": q.From, "until": q.Until} {
			if _, ok := clock(s); !ok && s != "" {
				complain(codeValue, "messages.quiet."+field, "write a time of day such as \"22:00\", in quotes", "%q is not a time of day", s)
			}
		}
	}
	if h := m.Heartbeat; h != nil && h.Webhook != nil {
		h.Webhook.check(complain, "messages.heartbeat.webhook")
	}
	if m.Link != "" {
		u, err := url.Parse(m.Link)
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https":
			complain(codeValue, "messages.link", "write the address of the server, such as https://holdfast.example.com:8443", "%q is not the address of a server", m.Link)
		case u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback():
			complain(codeValue, "messages.link", "write https", "%q is not encrypted: whoever listens could answer a call", m.Link)
		}
	}
	if !m.Keep.IsZero() && m.Keep.Approx() < 7*24*time.Hour {
		complain(codeValue, "messages.keep", "write 7d or more", "messages that ended are kept for %s only: nobody could look into what was sent last week", m.Keep)
	}
}

func (x *MailChannel) check(complain complainer, path string) {
	if _, err := mail.ParseAddress(x.From); err != nil && x.From != "" {
		complain(codeValue, path+".from", "write \"Holdfast <holdfast@example.com>\"", "%q is not a mail address", x.From)
	}
	if x.Port < 0 || x.Port > 65535 {
		complain(codeValue, path+".port", "write a port from 1 to 65535", "%d is not a port", x.Port)
	}
	local := x.Host == "localhost" || net.ParseIP(x.Host).IsLoopback()
	switch {
	case x.TLS == "none" && !local:
		complain(codeValue, path+".tls", "write starttls or tls", "mail to %q without encryption: everybody on the way could read and change it", x.Host)
	case x.TLS == "none" && x.User != "":
		complain(codeValue, path+".user", "write tls: starttls, or take user away", "a log-in without encryption would show the password")
	case (x.User == "") != (x.PasswordFile == ""):
		complain(codeValue, path+".user", "write both user and password_file, or none of them", "%q has half of a log-in", path)
	}
}

func (x *WebhookChannel) check(complain complainer, path string) {
	if (x.URL == "") == (x.URLFile == "") {
		complain(codeValue, path, "write url or url_file", "%q needs either a url or a url_file", path)
		return
	}
	if x.URL == "" {
		return
	}
	u, err := url.Parse(x.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		complain(codeValue, path+".url", "write an address such as https://hooks.example.com/holdfast", "%q is not a web address", path+".url")
	case u.User != nil:
		complain(codeSecret, path+".url", "write the address into a file that only its owner can read, and name it by url_file", "%q holds a login; secrets are never in a plan", path+".url")
	case u.Scheme == "http" && !x.Private:
		complain(codeValue, path+".url", "write https, or private: true for a receiver in your own network", "%q sends without encryption", path+".url")
	}
}

// messageReferences reports channels that nobody declared.
func (l *linter) messageReferences() {
	if m := l.p.Messages; m != nil {
		l.needAll("messages.by", "the channel", m.By, sorted(m.Channels))
	}
}
