package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a plan is said with its file, line and column and with the nearest
// word or the form that is meant, whatever is wrong with it. What can be read is judged
// as well, so the finding that is wanted need not be the only one.
func TestFaultsOfAPlanAreSaidAtTheirPlace(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: holdfast/v1\nplan: {id: x}\n"
	const db = head + "stores: {db: {kind: postgres, postgres: {dsn: \"host=h user=u dbname=d\"}, invariants: {a: {sql: \"select 1\", expect: '%'}}}}\n"
	nines := "[1,2,3,4,5,6,7,8,9]"
	for _, tt := range []struct {
		name   string
		files  map[string]string // of the plan's folder
		status int
		code   string
		file   string
		line   int
		column int
		words  string // of message and hint
	}{
		{"a typo", map[string]string{"a": head + "servces: {}\n"}, 2, "HF-Y4", "a", 3, 1, `did you mean "services"?`},
		{"an unknown field inside a union", map[string]string{"a": head + "tiers:\n  a:\n    rto: {targt: 2h, max: 4h}\n"}, 2, "HF-Y4", "a", 5, 11, `did you mean "target"?`},
		{"a key twice in one file", map[string]string{"a": head + "tiers: {a: {rto: 4h}}\norg: {name: x}\ntiers: {b: {rto: 4h}}\n"}, 2, "HF-Y5", "a", 5, 1, "a.yaml:3"},
		{"an id twice across files", map[string]string{"a": head + "tiers: {a: {rto: 4h}}\n", "b": "\ntiers: {b: {rto: 4h}, a: {rto: 5h}}\n"}, 2, "HF-Y5", "b", 2, 23, "a.yaml:3"},
		{"a section twice in the second file", map[string]string{"a": head + "tiers: {a: {rto: 4h}}\n", "b": "tiers: {b: {rto: 4h}}\ntiers: {c: {rto: 5h}}\n"}, 2, "HF-Y5", "b", 2, 1, "b.yaml:1"},
		{"an id of two kinds across files", map[string]string{"a": head + "services: {a: {tier: t}}\n", "b": "stores: {a: {kind: files, files: {path: /x}}}\n"}, 3, "HF-P1", "", 0, 0, `"a"`},
		{"a second document", map[string]string{"a": head, "b": "tiers: {a: {rto: 4h}}\n---\norg: {name: x}\n"}, 2, "HF-Y2", "b", 2, 1, "---"},
		{"an anchor", map[string]string{"a": head + "tiers: &t {a: {rto: 4h}}\n"}, 2, "HF-Y3", "a", 3, 8, "write the value out"},
		{"an alias", map[string]string{"a": head + "tiers: {a: {rto: 4h}, b: *a}\n"}, 2, "HF-Y1", "a", 3, 26, "unknown anchor"},
		{"a merge key", map[string]string{"a": head + "tiers: {a: {<<: {rto: 4h}}}\n"}, 2, "HF-Y3", "a", 3, 13, "write the values out"},
		{"a tag", map[string]string{"a": head + "org: {name: !!str x}\n"}, 2, "HF-Y3", "a", 3, 13, "tag"},
		{"text of another alphabet", map[string]string{"a": "\xff\xfea\x00p\x00i\x00"}, 2, "HF-Y1", "a", 1, 1, "UTF-8"},
		{"an empty value", map[string]string{"a": head + "tiers:\n  a:\n    rto:\n    rpo: 1h\n"}, 2, "HF-Y7", "a", 5, 9, "write a value"},
		{"not UTF-8", map[string]string{"a": head, "b": "org:\n  name: \"caf\xe9\"\n"}, 2, "HF-Y1", "b", 2, 13, "UTF-8"},
		{"a character that nobody sees", map[string]string{"a": head + "org: {name: \"a\x00b\"}\n"}, 2, "HF-Y1", "a", 3, 15, "remove the character"},
		{"a tab that indents", map[string]string{"a": head + "tiers:\n\ta: {rto: 4h}\n"}, 2, "HF-Y1", "a", 4, 1, "spaces"},
		{"a thousand typos", map[string]string{"a": head + strings.Repeat("serivces: {}\n", 1000)}, 2, "HF-Y8", "a", 202, 1, "mend these first"},
		{"a period in other words", map[string]string{"a": head + "tiers: {a: {rto: 1.5 hours}}\n"}, 2, "HF-Y6", "a", 3, 18, `did you mean "90m"?`},
		{"a period of another standard", map[string]string{"a": head + "tiers: {a: {rto: PT4H}}\n"}, 0, "HF-L1", "a", 3, 13, `did you mean "4h"?`},
		{"a recurrence in words", map[string]string{"a": head + "backups: {a: {every: nightly}}\n"}, 2, "HF-Y6", "a", 3, 22, `did you mean "1d"?`},
		{"too deep", map[string]string{"a": head + "org: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"}, 2, "HF-Y8", "a", 3, 38, "flatten"},
		{"a reference to nothing", map[string]string{"a": head + "tiers: {gold: {rto: 4h}}\n", "b": "services:\n  web:\n    tier: glod\n"}, 3, "HF-L25", "b", 3, 5, `did you mean "gold"?`},
		{"a circle of services", map[string]string{"a": head + "services: {s: {needs: {t: hard}}, t: {needs: {s: hard}}}\n"}, 3, "HF-L23", "a", 3, 24, "s -> t -> s"},
		{"a circle of steps", map[string]string{"a": head + "runbooks: {r: {steps: {a: {human: x, after: [b]}, b: {human: x, after: [a]}}}}\n"}, 3, "HF-L23", "a", 3, 38, "a -> b -> a"},
		{"a period of ages", map[string]string{"a": head + "tiers: {a: {rto: 99999y}}\n"}, 2, "HF-Y6", "a", 3, 18, "period"},
		{"a period below nothing", map[string]string{"a": head + "tiers: {a: {rto: -4h}}\n"}, 2, "HF-Y6", "a", 3, 18, "period"},
		{"a promise of a lifetime", map[string]string{"a": head + "tiers: {a: {rto: 40y, rpo: 1h}}\n"}, 0, "HF-P7", "a", 3, 13, "units"},
		{"a time that the clock skips", map[string]string{"a": head + "org: {timezone: Europe/Stockholm}\nlocations: {b: {kind: dir, path: b}}\nbackups: {a: {every: 1d at 02:30, copies: [b]}}\n"}, 3, "HF-P6", "a", 5, 15, "no clock in Europe/Stockholm shows 02:30"},
		{"a time that no clock shows", map[string]string{"a": head + "backups: {a: {every: 1d at 25:00, copies: [b]}}\n"}, 2, "HF-Y6", "a", 3, 22, "1d at 03:00"},
		{"an unknown time zone", map[string]string{"a": head + "org: {timezone: Europe/Stokholm}\n"}, 2, "HF-Y6", "a", 3, 7, "Europe/Stokholm"},
		{"an expression with a typo", map[string]string{"a": strings.Replace(db, "%", "valeu > 0", 1)}, 3, "HF-L24", "a", 3, 117, "did you mean 'value'?"},
		{"an expression that breaks off", map[string]string{"a": strings.Replace(db, "%", "value > ", 1)}, 3, "HF-L24", "a", 3, 125, "Syntax error"},
		{"an expression of no truth", map[string]string{"a": strings.Replace(db, "%", "1 + 1", 1)}, 3, "HF-L24", "a", 3, 0, "not true or false"},
		{"an expression that fails for a count", map[string]string{"a": strings.Replace(db, "%", "value >= 0.98 * last", 1)}, 3, "HF-L24", "a", 3, 108, "double(value)"},
		{"an expression that never ends", map[string]string{"a": strings.Replace(db, "%", nines+".all(a, "+nines+".all(b, "+nines+".all(c, "+nines+".all(d, "+nines+".all(e, a+b+c+d+e < value)))))", 1)}, 3, "HF-L24", "a", 3, 0, "is given up after"},
		{"a condition of nothing", map[string]string{"a": head + "activation:\n  when: ['incident.severty == \"high\"']\n"}, 3, "HF-L25", "a", 4, 11, `did you mean "severity"?`},
		{"a condition of no store", map[string]string{"a": head + "activation:\n  when: ['stores[\"bd\"] == \"lost\"']\nstores: {db: {kind: files, files: {path: /x}}}\n"}, 3, "HF-L25", "a", 4, 18, `did you mean "db"?`},
		{"a typo beside the plan", map[string]string{"a": head + "people: {ann: {can: [x]}}\n", "people.private": "people:\n  ann: {nmae: \"Ann\"}\n"}, 2, "HF-Y4", "people.private", 2, 9, `did you mean "name"?`},
		{"somebody whom the plan does not know", map[string]string{"a": head + "people: {ann: {can: [x]}}\n", "people.private": "people:\n  ana: {name: \"Ann\"}\n"}, 2, "HF-L25", "people.private", 2, 3, `did you mean "ann"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				write(t, filepath.Join(dir, name+".yaml"), text, 0o600)
			}
			var v struct{ Findings []finding }
			e := hf(t, "check", dir, "--json")
			e.object(t, &v)
			if e.status != tt.status {
				t.Errorf("exit status %d, want %d: %s", e.status, tt.status, e.out)
			}
			for _, f := range v.Findings {
				if f.Code != tt.code || !strings.Contains(f.Message+" "+f.Hint, tt.words) {
					continue
				}
				if tt.file != "" && filepath.Base(f.File) != tt.file+".yaml" || tt.line != 0 && f.Line != tt.line || tt.column != 0 && f.Column != tt.column {
					t.Errorf("%s:%d:%d, want %s.yaml:%d:%d: %+v", f.File, f.Line, f.Column, tt.file, tt.line, tt.column, f)
				}
				if f.Hint == "" {
					t.Errorf("no way out: %+v", f)
				}
				return
			}
			t.Errorf("no %s that says %q: %+v", tt.code, tt.words, v.Findings)
		})
	}
	// A hundred megabytes of nothing: holes, so that they take no room.
	big := filepath.Join(t.TempDir(), "big.yaml")
	write(t, big, "", 0o600)
	if err := os.Truncate(big, 100<<20); err != nil {
		t.Fatal(err)
	}
	var v struct{ Findings []finding }
	hf(t, "check", big, "--json").want(t, 2).object(t, &v)
	if f := one(t, v.Findings, "HF-Y8"); f.Line != 1 || f.Column != 1 || !strings.Contains(f.Message+f.Hint, "larger than") || !strings.Contains(f.Hint, "split") {
		t.Errorf("%+v", f)
	}
	// Something that is no plan at all.
	if _, err := os.Stat("/dev/null"); err == nil {
		hf(t, "check", "/dev/null").want(t, 2)
	}
}
