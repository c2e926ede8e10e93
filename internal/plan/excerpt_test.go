package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"holdfast"
)

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("a b ", 100) + "here: x" + strings.Repeat(" c", 100)
	for _, tt := range []struct {
		name, line string
		column     int
		word       string
	}{
		{"a key", "  db-main: {kind: postgres}", 3, "db-main"},
		{"a flow value", "  db: {kind: postgres}", 14, "postgres"},
		{"beyond the end", "short", 90, ""},
		{"column zero", "word: x", 0, "word"},
		{"cut at both ends", long, 401, "here"},
		{"runes, not bytes", "  name: \"Åsa\", rto: 4h", 16, "rto"},
		{"an escape", "  a\x1b[31m: b", 3, "a"},
		{"a tab", "\ttiers: x", 2, "tiers"},
	} {
		e := excerpt([]byte(tt.line), tt.column)
		r := []rune(e.Text)
		if len(r) > MaxExcerpt || e.Length < 1 || e.Begin > len(r) {
			t.Errorf("%s: %+v", tt.name, e)
			continue
		}
		if strings.ContainsFunc(e.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%s: %q is not safe to print", tt.name, e.Text)
		}
		if got := string(r[e.Begin:min(e.Begin+e.Length, len(r))]); got != tt.word {
			t.Errorf("%s: points at %q, want %q, in %q", tt.name, got, tt.word, e.Text)
		}
	}
}

// A line with a secret is never shown, whatever the finding on it is about, and
// neither is one that only looks like it in a file that cannot be read.
func TestExcerptsHideSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.yaml")
	lines := []string{"stores: x", `dsn: "postgres://me:hunter2@db/app"`, "dsn: \"user=me password=hunter2", "s3: {secret_access_key: hunter2}", "key: AGE-SECRET-KEY-1HUNTER2", "nothing: here"}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(code string, line int) holdfast.Finding {
		return holdfast.Finding{Code: code, File: file, Line: line, Column: 1}
	}
	fs := []holdfast.Finding{at(codeSecret, 6), at(codeDeputy, 6)}
	x := NewExcerpts(fs)
	for line := range lines {
		e, ok := x.Of(at(codeSyntax, line+1))
		if ok != (line == 0) || strings.Contains(e.Text, "hunter2") {
			t.Errorf("line %d: shown %t: %q", line+1, ok, e.Text)
		}
	}
	for _, f := range []holdfast.Finding{{}, at(codeSyntax, 99), {File: file + ".gone", Line: 1, Column: 1}} {
		if _, ok := x.Of(f); ok {
			t.Errorf("%+v has no line, and one is shown", f)
		}
	}
}

func FuzzExcerpt(f *testing.F) {
	f.Add([]byte("  db: {kind: postgres}"), 3)
	f.Add([]byte("\xff\xfe\x00"), 900)
	f.Add([]byte(strings.Repeat("ü", 500)), 499)
	f.Fuzz(func(t *testing.T, line []byte, column int) {
		e := excerpt(line, column)
		if n := utf8.RuneCountInString(e.Text); n > MaxExcerpt || e.Begin < 0 || e.Begin > n || e.Length < 1 || strings.ContainsFunc(e.Text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%+v", e)
		}
	})
}
