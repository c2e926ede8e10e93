package survive

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"
	"text/template"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// MaxCopyFile bounds the file of an offline copy, in bytes.
const MaxCopyFile = 32 << 20

// copyDomain is what signatures over statements are for.
const copyDomain = "offline-copy"

// The lines around the parts of a file that tools take out of it. They stand at the
// beginning of a line.
const (
	statementBegins, statementEnds = "-----BEGIN HOLDFAST STATEMENT-----", "-----END HOLDFAST STATEMENT-----"
	signatureBegins, signatureEnds = "-----BEGIN HOLDFAST SIGNATURE-----", "-----END HOLDFAST SIGNATURE-----"
	sealedBegins, sealedEnds       = "-----BEGIN HOLDFAST OFFLINE COPY-----", "-----END HOLDFAST OFFLINE COPY-----"
)

//go:embed copy.html
var copyHTML string

//go:embed copy.js
var copyScript string

// The template escapes nothing: html/template would write + as &#43;, which a shell does
// not read. Whatever goes into it is a plain word, base64, or text of ours.
var copyTemplate = template.Must(template.New("copy").Parse(copyHTML))

// A Statement is what is signed of an offline copy: which plan is in it, for whom, and the
// digest of what is sealed.
type Statement struct {
	Copy    string    `json:"copy"`
	Person  string    `json:"person"`
	Plan    string    `json:"plan"`
	Version string    `json:"version"`
	Digest  string    `json:"digest"` // of the plan
	Made    time.Time `json:"made"`
	Rounds  int       `json:"rounds"`
	Code    string    `json:"code"`   // HMAC-SHA256 over what is sealed, in hexadecimal
	Sealed  string    `json:"sealed"` // "sha256:" and the digest of what is sealed
}

// Of completes a statement for what was locked.
func (s Statement) Of(l seal.Locked) Statement {
	s.Rounds, s.Code, s.Sealed = l.Rounds, hex.EncodeToString(l.Code[:]), digestOf(l.Body)
	return s
}

func digestOf(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// plainWord keeps a value to letters that are the same in a statement, in HTML and in a
// shell. The digest names the plan exactly, so nothing is lost that counts.
func plainWord(s string) string {
	s = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._:+/@-", c) {
			return c
		}
		return '_'
	}, s)
	return s[:min(len(s), 200)]
}

// Text is the statement as it is signed and stands in the file.
func (s Statement) Text() string {
	return fmt.Sprintf("holdfast offline copy 1\ncopy: %s\nperson: %s\nplan: %s\nversion: %s\ndigest: %s\nmade: %s\nrounds: %d\ncode: %s\nsealed: %s\n",
		plainWord(s.Copy), plainWord(s.Person), plainWord(s.Plan), plainWord(s.Version), plainWord(s.Digest), s.Made.UTC().Format(time.RFC3339), s.Rounds, plainWord(s.Code), plainWord(s.Sealed))
}

// Sign returns the signature over a statement.
func (s Statement) Sign(key seal.SigningKey) []byte { return key.Sign(copyDomain, []byte(s.Text())) }

func parseStatement(text string) (s Statement, err error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != 10 || lines[0] != "holdfast offline copy 1" {
		return s, fmt.Errorf("its statement is of a form that this version does not know")
	}
	var made, rounds string
	for i, f := range []struct {
		name string
		to   *string
	}{{"copy", &s.Copy}, {"person", &s.Person}, {"plan", &s.Plan}, {"version", &s.Version}, {"digest", &s.Digest}, {"made", &made}, {"rounds", &rounds}, {"code", &s.Code}, {"sealed", &s.Sealed}} {
		value, ok := strings.CutPrefix(lines[i+1], f.name+": ")
		if !ok {
			return s, fmt.Errorf("line %d of its statement does not say %q", i+2, f.name)
		}
		*f.to = value
	}
	if s.Made, err = time.Parse(time.RFC3339, made); err != nil {
		return s, fmt.Errorf("its statement: %w", err)
	}
	if s.Rounds, err = strconv.Atoi(rounds); err != nil {
		return s, fmt.Errorf("its statement: rounds: %w", err)
	}
	if s.Text() != text {
		return s, fmt.Errorf("its statement is not written as it should be")
	}
	return s, nil
}

// A CopyFile is the file of an offline copy, taken apart.
type CopyFile struct {
	Statement Statement
	Text      string // of the statement, as it stands in the file
	Signature []byte
	Locked    seal.Locked
}

// WriteCopy makes the one file of an offline copy: a page that opens itself in a browser,
// and says how it opens without one. It loads nothing and reaches nobody: its content
// policy allows its own script, by its hash, and no address.
func WriteCopy(s Statement, signature []byte, by seal.VerifyKey, l seal.Locked) ([]byte, error) {
	var b bytes.Buffer
	h := sha256.Sum256([]byte(copyScript))
	err := copyTemplate.Execute(&b, map[string]any{
		"Person": plainWord(s.Person), "Plan": plainWord(s.Plan), "Version": plainWord(s.Version), "Copy": plainWord(s.Copy), "Text": s.Text(), "Signature": base64.StdEncoding.EncodeToString(signature), "By": by.Name() + " " + by.Fingerprint(), "Made": s.Made.UTC().Format("2006-01-02 15:04 UTC"),
		"Body": folded(l.Body), "Script": copyScript, "ScriptHash": base64.StdEncoding.EncodeToString(h[:]),
		"Open": html.EscapeString(fmt.Sprintf("sed -n '/^%s/,/^%s/p' FILE | grep -v '^-----' | openssl enc -d -a -aes-256-cbc -pbkdf2 -iter %d -md sha256 > plan.html", sealedBegins, sealedEnds, s.Rounds)),
	})
	if err != nil {
		return nil, fmt.Errorf("offline copy: %w", err)
	}
	if b.Len() > MaxCopyFile {
		return nil, holdfast.WithHint(fmt.Errorf("the offline copy has %d bytes, at most %d", b.Len(), MaxCopyFile), "a plan of this size is split into several plans")
	}
	return b.Bytes(), nil
}

// folded is base64 in lines that openssl reads.
func folded(b []byte) string {
	var out strings.Builder
	for text := base64.StdEncoding.EncodeToString(b); text != ""; {
		n := min(len(text), 64)
		out.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return out.String()
}

// ReadCopy reads the file of an offline copy.
func ReadCopy(path string) (c CopyFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, holdfast.WithHint(err, "name the file that \"holdfast offline make\" wrote")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxCopyFile+1))
	if err != nil {
		return c, err
	}
	if c, err = ParseCopy(b); err != nil {
		return c, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "take another copy: this one is damaged, or no offline copy at all")
	}
	return c, nil
}

// ParseCopy takes the file of an offline copy apart. That it is unchanged, Verify says.
func ParseCopy(b []byte) (c CopyFile, err error) {
	if len(b) > MaxCopyFile {
		return c, fmt.Errorf("it has more than %d bytes", MaxCopyFile)
	}
	text := strings.ReplaceAll(string(b), "\r\n", "\n") // mail programs change the ends of lines
	if c.Text, err = between(text, statementBegins, statementEnds); err != nil {
		return c, err
	}
	if c.Statement, err = parseStatement(c.Text); err != nil {
		return c, err
	}
	signature, err := between(text, signatureBegins, signatureEnds)
	if err != nil {
		return c, err
	}
	if c.Signature, err = base64.StdEncoding.DecodeString(signature); err != nil {
		return c, fmt.Errorf("its signature: %w", err)
	}
	body, err := between(text, sealedBegins, sealedEnds)
	if err != nil {
		return c, err
	}
	if c.Locked.Body, err = base64.StdEncoding.DecodeString(body); err != nil {
		return c, fmt.Errorf("what is sealed in it: %w", err)
	}
	code, err := hex.DecodeString(c.Statement.Code)
	if err != nil || len(code) != len(c.Locked.Code) {
		return c, fmt.Errorf("the code in its statement is not 32 bytes")
	}
	c.Locked.Code, c.Locked.Rounds = [32]byte(code), c.Statement.Rounds
	return c, nil
}

func between(text, begins, ends string) (string, error) {
	_, rest, ok := strings.Cut("\n"+text, "\n"+begins+"\n")
	part, _, whole := strings.Cut("\n"+rest, "\n"+ends+"\n")
	if !ok || !whole {
		return "", fmt.Errorf("it has no part %q", strings.Trim(strings.TrimPrefix(begins, "-----BEGIN "), "-"))
	}
	return strings.TrimPrefix(part+"\n", "\n"), nil
}

// Verify says what is wrong with an offline copy: what is sealed is not what the statement
// names, or none of the keys signed it. A key that stands in the file counts for nothing.
func (c CopyFile) Verify(keys ...seal.VerifyKey) (out []holdfast.Finding) {
	add := func(code, hint, format string, args ...any) {
		out = append(out, holdfast.Finding{Code: code, Severity: holdfast.SeverityError, Subject: "people." + c.Statement.Person, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if got := digestOf(c.Locked.Body); got != c.Statement.Sealed {
		add(codeCopyChanged, "take another copy: this one was changed, or is not whole", "what is sealed has the digest %s, and the statement names %s", got, c.Statement.Sealed)
	}
	for _, k := range keys {
		if k.Verify(copyDomain, []byte(c.Text), c.Signature) == nil {
			return out
		}
	}
	add(codeCopyUnsigned, "do not trust it, unless you had it from the hand of somebody whom you trust", "none of the keys that you hold signed the statement of copy %s", c.Statement.Copy)
	return out
}
