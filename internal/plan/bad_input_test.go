package plan

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What is wrong with a text is said at its exact place, with the nearest word or the
// form that is meant. Nothing else is said of it.
func TestBadInput(t *testing.T) {
	const head = "apiVersion: holdfast/v1\nplan: {id: x}\n"
	for _, tt := range []struct {
		name, text   string
		code         string
		line, column int
		hint         string
	}{
		{"typo in a section", head + "servces: {}\n", codeField, 3, 1, `"services"`},
		{"typo in a field", head + "stores:\n  db:\n    kind: files\n    files: {pth: /srv}\n", codeField, 6, 13, `"path"`},
		{"typo inside an objective", head + "tiers:\n  a:\n    rto: {targt: 2h, max: 4h}\n", codeField, 5, 11, `"target"`},
		{"typo inside a stage", head + "tiers:\n  a:\n    rto:\n      stages:\n        back: {mx: 4h}\n", codeField, 7, 16, `"max"`},
		{"typo inside a copy", head + "backups: {a: {every: 1d, copies: {near: {evry: 1h}}}}\n", codeField, 3, 42, `"every"`},
		{"typo inside a step", head + "runbooks: {a: {steps: {b: {restor: db}}}}\n", codeField, 3, 28, `"restore"`},
		{"typo in a short form written out", head + "definitions: {rto: {meens: x}}\n", codeField, 3, 21, `"means"`},
		{"a word that is none of the known", head + "stores: {db: {kind: postgre, files: {path: /x}}}\n", codeValue, 3, 21, `"postgres"`},
		{"twice", head + "tiers: {a: {rto: 4h}, a: {rto: 5h}}\n", codeDuplicate, 3, 23, "keep one"},
		{"a second document", head + "---\nplan: {id: y}\n", codeDocuments, 3, 1, "---"},
		{"an anchor", head + "tiers: &t {a: {rto: 4h}}\n", codeAnchor, 3, 8, "write the value out"},
		{"a merge", head + "tiers: {a: {<<: {rto: 4h}}}\n", codeAnchor, 3, 13, "write the values out"},
		{"a tag", head + "tiers: {a: {rto: !!str 4h}}\n", codeAnchor, 3, 18, "quotes"},
		{"an empty value", head + "tiers:\n  a:\n    rto:\n    rpo: 1h\n", codeEmpty, 5, 9, "write a value"},
		{"a null", head + "org: {name: ~}\n", codeEmpty, 3, 13, "write a value"},
		{"an absurd period", head + "tiers: {a: {rto: 99999y}}\n", codeValue, 3, 18, "period"},
		{"a very absurd period", head + "tiers: {a: {mtd: 99999999999999999999s}}\n", codeValue, 3, 18, "period"},
		{"a period of 900 years", head + "tiers: {a: {mtd: 900y}}\n", codeValue, 3, 18, "shorter"},
		{"a negative period", head + "tiers: {a: {mtd: -5h}}\n", codeValue, 3, 18, "period"},
		{"no time of day", head + "backups: {a: {every: 1d at 25:00, copies: [b]}}\n", codeValue, 3, 22, "1d at 03:00"},
		{"no day", head + "exclusions: {a: {why: x, on: \"2026-02-30\"}}\n", codeValue, 3, 30, "year, month and day"},
		{"ends before it begins", head + "holds: {a: {of: [b], why: x, by: c, from: \"2026-02-01\", until: \"2026-01-01\"}}\n", codeValue, 3, 57, "swap"},
		{"a window without a question", head + "services: {a: {probe: {url: \"http://a/\", window: 1s, every: 2s}}}\n", codeValue, 3, 16, "from 1 to 100000"},
		{"a window with too many", head + "services: {a: {probe: {url: \"http://a/\", window: 1y, every: 1ms}}}\n", codeValue, 3, 16, "from 1 to 100000"},
		{"a stage without a beginning", head + "tiers: {a: {rto: {stages: {b: {max: 1h, from: c}}}}}\n", codeValue, 3, 41, "disruption"},
		{"a loss of no kind", head + "scenarios: {a: {lose: [\"regoin:eu\"]}}\n", codeValue, 3, 24, `"region"`},
		{"a loss of nothing", head + "scenarios: {a: {lose: [\"region:\"]}}\n", codeEmpty, 3, 24, "region:name"},
		{"an impact without a time", head + "services: {a: {bia: {impact: {soon: {level: 1}}}}}\n", codeValue, 3, 31, "period"},
		{"an impact beyond the scale", head + "services: {a: {bia: {impact: {1h: {level: 9}}}}}\n", codeValue, 3, 36, "0 to 5"},
		{"retention that contradicts itself", head + "backups: {a: {every: 1d, copies: [b], retention: {min: 30d, max: 10d}}}\n", codeValue, 3, 61, "swap"},
		{"kept for less than demanded", head + "backups: {a: {every: 1d, copies: [b], keep: 1d, retention: {min: 30d}}}\n", codeValue, 3, 39, "30d or longer"},
		{"nobody approves", head + "approvals: {weaken-plan: {requester_counts: true}}\n", codeValue, 3, 13, "roles"},
		{"more than there are", head + "services: {a: {any_of: {m: {of: [x, y], at_least: 3}}}}\n", codeValue, 3, 41, "1 to 2"},
		{"protected and not", head + "stores: {a: {kind: files, files: {path: /x}, protect: b, not_protected: no}}\n", codeValue, 3, 58, "keep one"},
		{"a password in an address", head + "stores: {a: {kind: git, git: {url: \"https://me:secret@git.example/x\"}}}\n", codeSecret, 3, 31, "token_file"},
		{"a password for MySQL", head + "stores: {a: {kind: mysql, mysql: {dsn: \"me:secret@db:3306/x\"}}}\n", codeSecret, 3, 35, "password_file"},
		{"yes for true", head + "org: {name: x}\nkeys: {a: {recipient: b, offline: yes}}\n", codeValue, 4, 35, "true or false"},
		{"an octal", head + "stores: {a: {kind: files, files: {path: /x}, recover: {to: /y, start: {port: 010}}}}\n", codeValue, 3, 78, "leading zeros"},
		{"editions out of order", "apiVersion: holdfast/v1\nplan: {id: x, history: [{version: \"2\", on: \"2026-01-01\"}, {version: \"1\", on: \"2025-01-01\"}]}\n", codeValue, 2, 74, "order"},
		{"not UTF-8", head + "org: {name: \"caf\xe9\"}\n", codeSyntax, 3, 17, "UTF-8"},
		{"not YAML", head + "org: {name: x\n", codeSyntax, 4, 1, "indentation"},
		{"too deep", head + "org: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\n", codeLimit, 3, 38, "flatten"},
		{"a large file", head + strings.Repeat("#", MaxFileBytes), codeLimit, 1, 1, "split"},
		{"too many values", head + "org: [" + strings.Repeat("a,", MaxMarks) + "a]\n", codeLimit, 1, 1, "whether this is a plan"},
		{"nothing", "", codeEmpty, 1, 1, "holdfast init"},
	} {
		_, err := Parse("plan.yaml", []byte(tt.text))
		fs := FindingsOf(err)
		if len(fs) != 1 {
			t.Errorf("%s: %d findings: %s", tt.name, len(fs), render(fs))
			continue
		}
		f := fs[0]
		if f.Code != tt.code || f.Line != tt.line || f.Column != tt.column || !strings.Contains(f.Hint, tt.hint) {
			t.Errorf("%s: want %s at %d:%d with a hint of %q: %s", tt.name, tt.code, tt.line, tt.column, tt.hint, render(fs))
		}
		if strings.Contains(f.Message+f.Hint, "secret@") {
			t.Errorf("%s: the secret is shown: %s", tt.name, render(fs))
		}
	}
}

// A file of 100 MB is refused with a sentence, and is not read whole.
func TestHugeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.yaml")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(100 << 20); err != nil { // a hole: it takes no place
		t.Fatal(err)
	}
	f.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = Load(path)
	runtime.ReadMemStats(&after)
	fs := FindingsOf(err)
	if len(fs) != 1 || fs[0].Code != codeLimit || !strings.Contains(fs[0].Message, "16 MiB") {
		t.Errorf("%v %s", err, render(fs))
	}
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 150 {
		t.Errorf("%d MiB were used for a file that is refused", n)
	}
}
