package survive

import (
	"fmt"
	"strings"
	"time"

	"holdfast/internal/seal"
)

// maxChallengeText is the longest text of a challenge, in bytes.
const maxChallengeText = 32 << 10

// Text is the challenge as it is sent to its holder. docs/format/keys.md has the form.
func (c Challenge) Text() string {
	var out strings.Builder
	what := "the read key"
	if c.Share {
		what = "your share of the read key"
	}
	fmt.Fprintf(&out, "# Holdfast asks whether %s %q still opens. This text is no secret.\n", what, c.Key)
	out.WriteString("# holdfast key challenge answer THIS-FILE --key FILE-OF-YOUR-KEY-OR-SHARE   prints the answer; send it back.\n")
	fmt.Fprintf(&out, "challenge: %s\nkey: %s\nholder: %s\nrecipient: %s\ndue: %s\n\n", c.ID, c.Key, c.Holder, c.Recipient, c.Due.UTC().Format(time.RFC3339))
	for text := c.Sealed; text != ""; {
		n := min(len(text), 76)
		out.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return out.String()
}

// ParseChallenge reads what Text writes, as far as an answer needs it. Whether it is
// what was asked, the answer shows.
func ParseChallenge(text string) (c Challenge, err error) {
	if len(text) > maxChallengeText {
		return c, fmt.Errorf("challenge of %d bytes: %w: at most %d", len(text), seal.ErrKey, maxChallengeText)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, label := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case line == "", line[0] == '#':
		case !label:
			c.Sealed += line
		case name == "challenge":
			c.ID = value
		case name == "key":
			c.Key = value
		case name == "holder":
			c.Holder = value
		case name == "recipient":
			c.Recipient = value
		case name == "due":
			c.Due, err = time.Parse(time.RFC3339, value)
		}
		if err != nil {
			return c, fmt.Errorf("challenge: %w: %q is no instant", seal.ErrKey, value)
		}
	}
	if c.ID == "" || c.Sealed == "" {
		return c, fmt.Errorf("%w: not the text of a challenge", seal.ErrKey)
	}
	return c, nil
}
