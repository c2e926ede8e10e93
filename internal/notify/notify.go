// Package notify says what a channel is: a way by which a message leaves the house.
//
// The children are the ways: mail (SMTP), webhook (signed HTTP) and file (a line of JSON
// in a file). A channel makes one attempt and says how it ended. It keeps nothing, tries
// nothing twice and knows no people; package message does all that.
//
// # What an attempt can end with
//
//   - nil: somebody else has taken the message over and answers for it.
//   - an error marked by [Permanent]: they looked at this message and will not take it.
//     Trying again would be refused again.
//   - any other error: it is not known, or it was refused for now. A cut line may well
//     have been cut after the other side took the message. So the attempt is repeated,
//     with the same [Message.ID], by which the other side can tell a repetition.
//
// Errors of a channel are shown to people and recorded. They name the host, never a
// password, a token or the path of an address: such paths are often secrets.
package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Limits of one message. What is longer is cut, and says so.
const (
	MaxSubject = 200       // bytes
	MaxText    = 64 << 10  // bytes
	MaxData    = 256 << 10 // bytes
	MaxSaid    = 300       // bytes of what the other side said that are kept
)

// A Message is what one attempt carries.
type Message struct {
	ID      string          // the same at every attempt: letters, digits and dashes
	Kind    string          // what it is about: "call", "incident.opened"
	At      time.Time       // of its cause
	To      string          // address of a person; "" where the channel is the receiver
	Name    string          // of that person
	Subject string          // one line
	Text    string          // plain
	Data    json.RawMessage // the same for machines; may be empty
	Urgent  bool
}

// A permanent error would meet another attempt again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error after which trying again is in vain. A nil err stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether trying again is in vain.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}

// Line makes one line of at most n bytes from text that somebody else may have written:
// what would end a line, or a header, is a blank.
func Line(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "�"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	return Cut(s, n)
}

// Cut shortens text to at most n bytes, and says so in it.
func Cut(s string, n int) string {
	const mark = " …"
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:max(0, n-len(mark))], "") + mark
}

// Host names the other side in an error without showing more of its address.
func Host(host string, err error) error { return fmt.Errorf("%s: %w", host, err) }
