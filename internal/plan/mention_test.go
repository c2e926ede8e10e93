package plan

import (
	"strings"
	"testing"
)

// A condition that asks for what nothing has is found when it is written, at its place,
// with the nearest name; so is one that would be given up before it has an answer.
func TestMentions(t *testing.T) {
	for _, tt := range []struct {
		when, code, message, hint string
		column                    int // of the condition's text, from 1; 0: nothing is found
	}{
		{`incident.severity == "high"`, "", "", "", 0},
		{`stores["db"] == "lost" || services["api"] == "down"`, "", "", "", 0},
		{`incident.severty == "high"`, codeUndeclared, `no field "severty"`, `"severity"`, 1},
		{`incident["sevrity"] == "high"`, codeUndeclared, `"sevrity"`, `"severity"`, 10},
		{`has(incident.expected_duraton)`, codeUndeclared, `"expected_duraton"`, `"expected_duration"`, 5},
		{`stores["bd"] == "lost"`, codeUndeclared, `no store is called "bd"`, `"db"`, 8},
		{`stores.uplods == "lost"`, codeUndeclared, `no store is called "uplods"`, `"uploads"`, 1},
		{`true || services["apj"] == "down"`, codeUndeclared, `no service is called "apj"`, `"api"`, 18},
		{`stores.exists(a, stores.exists(b, stores.exists(c, stores[a] == stores[b])))`, codeZero, "is given up after", "ask for less", 1},
		{`[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a+b+c+d+e > 1)))))`, codeZero, "is given up after", "ask for less", 1},
	} {
		const at = "  confirm_after: 30s\n  when: ['"
		text := strings.Replace(string(clean()), "  confirm_after: 30s", at+tt.when+"']", 1)
		begin := strings.Index(text, at) + len(at)
		line := 1 + strings.Count(text[:begin], "\n")
		var got []string
		for _, f := range findings(text) {
			if !strings.HasPrefix(f.Subject, "activation.when") {
				continue
			}
			got = append(got, f.Message)
			if f.Code != tt.code || f.Line != line || f.Column != len("  when: ['")+tt.column || !strings.Contains(f.Message, tt.message) || !strings.Contains(f.Hint, tt.hint) {
				t.Errorf("%s: %s %d:%d %s (%s); want %s at %d:%d", tt.when, f.Code, f.Line, f.Column, f.Message, f.Hint, tt.code, line, len("  when: ['")+tt.column)
			}
		}
		if want := min(tt.column, 1); len(got) != want {
			t.Errorf("%s: %d findings, want %d: %q", tt.when, len(got), want, got)
		}
	}
}

// A section may go on in another file of a folder, once in each.
func TestSectionTwiceInAFile(t *testing.T) {
	const head = "#=== file: a.yaml ===\napiVersion: holdfast/v1\nplan: {id: x}\ntiers: {a: {rto: 4h}}\n#=== file: b.yaml ===\ntiers: {b: {rto: 4h}}\n"
	if _, err := Parse("plan", []byte(head)); err != nil {
		t.Error(err)
	}
	_, err := Parse("plan", []byte(head+"tiers: {c: {rto: 4h}}\n"))
	if fs := FindingsOf(err); len(fs) != 1 || fs[0].Code != codeDuplicate || fs[0].Line != 2 || !strings.HasSuffix(fs[0].File, "b.yaml") || !strings.Contains(fs[0].Message, "b.yaml:1") {
		t.Errorf("%s", render(fs))
	}
}
