package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// small is a catalogue of three rows.
const small = `# A catalogue

## BKP. Backups

| ID | Requirement | Sources | Figures | Black-box acceptance |
|---|---|---|---|---|
| BKP-01 | Copy it. | A1 | none | It is there. |
| BKP-02 | Copy it twice. | A2 | 2 | It is there twice. |

## ENC. Encryption

| ENC-01 | Seal it. | A3 | none | Nobody reads it. |

# Appendix

| **Total** | **3** | **1** |
| A1 | not a row | BKP-01 |
`

func catalogue(t *testing.T) *Catalogue {
	t.Helper()
	c, err := ReadCatalogue(strings.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogueOfTheProject(t *testing.T) {
	f, err := os.Open("../../docs/requirements/catalogue.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := ReadCatalogue(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 398 || len(c.Areas) != 27 {
		t.Errorf("%d rows in %d areas, want 398 in 27", len(c.Rows), len(c.Areas))
	}
	if !c.Has("BKP-21") || c.Has("BKP-99") {
		t.Error("Has does not tell rows from others")
	}
}

func TestCatalogueRefusesWhatIsNotWhole(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"a row lost", "| BKP-02 | Copy it twice. | A2 | 2 | It is there twice. |\n", "", "has 2 rows, and says itself that it has 3"},
		{"a row doubled", "BKP-02", "BKP-01", "BKP-01 is on line 7 already"},
		{"a row under another area", "| ENC-01", "| BKP-03", `BKP-03 stands under "ENC"`},
		{"a cell lost", " | none | It is there. |", " | It is there. |", "BKP-01 has 3 cells"},
		{"no total", "**Total**", "Total", "says itself that it has 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadCatalogue(strings.NewReader(strings.Replace(small, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRowsThatATestNames(t *testing.T) {
	for name, want := range map[string]string{
		"TestBackup":                                     "",
		"TestBackup/BKP-21_every_location":               "BKP-21",
		"TestBackup/BKP-21_every_location/far":           "BKP-21",
		"TestBackup/BKP-21":                              "BKP-21",
		"TestBackup/BKP-21#01":                           "BKP-21",
		"TestBackup/BKP-21,_BKP-22_every_location":       "BKP-21 BKP-22",
		"TestBackup/BKP-21_and_STO-13:_every_location":   "BKP-21 STO-13",
		"TestBackup/BKP-21_twice/BKP-21_in_the_same":     "BKP-21",
		"TestBackup/it_mentions_BKP-21_only_on_the_side": "",
		"TestBackup/BKP-211_one_digit_too_many":          "BKP-211",
		"TestBackup/bkp-21_in_small_letters":             "",
	} {
		if got := strings.Join((Test{Name: name}).Rows(), " "); got != want {
			t.Errorf("%s names %q, want %q", name, got, want)
		}
	}
}

// lines makes the output of "go test -json" of pairs of test and action.
func lines(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		b.WriteString(`{"Action":"run","Package":"p","Test":"` + pairs[i] + "\"}\n")
		if pairs[i+1] != "" {
			b.WriteString(`{"Action":"` + pairs[i+1] + `","Package":"p","Test":"` + pairs[i] + "\"}\n")
		}
	}
	return b.String()
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name, events, want string
	}{
		{"nothing ran", "", "untested untested untested"},
		{"passed", lines("T/BKP-01_x", "pass", "T", "pass"), "proved untested untested"},
		{"failed", lines("T/BKP-01_x", "fail", "T", "fail"), "failing untested untested"},
		{"skipped is no pass", lines("T/BKP-01_x", "skip", "T", "pass"), "failing untested untested"},
		{"a part skipped", lines("T/BKP-01_x/far", "skip", "T/BKP-01_x", "pass", "T", "pass"), "failing untested untested"},
		{"one of two failed", lines("T/BKP-01_x", "pass", "U/BKP-01_y", "fail"), "failing untested untested"},
		{"killed in the middle", lines("T/BKP-01_x", "pass", "U/BKP-01_y", ""), "failing untested untested"},
		{"another part failed", lines("T/BKP-01_x", "pass", "T/other", "fail", "T", "fail"), "proved untested untested"},
		{"two rows in one test", lines("T/BKP-01_and_ENC-01", "pass"), "proved untested proved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := ReadResults(strings.NewReader(tt.events))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range Judge(catalogue(t), res).Rows {
				got = append(got, string(r.State))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

// run makes a report of events in a folder of its own.
func run(t *testing.T, o options, events string) (stdout, stderr, status string, err error) {
	t.Helper()
	dir := t.TempDir()
	o.catalogue, o.results = filepath.Join(dir, "catalogue.md"), "-"
	if err := os.WriteFile(o.catalogue, []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	err = report(o, strings.NewReader(events), &out, &errs)
	b, rerr := os.ReadFile(filepath.Join(dir, "status.md"))
	if rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		t.Fatal(rerr)
	}
	return out.String(), errs.String(), string(b), err
}

func TestLastLine(t *testing.T) {
	out, _, status, err := run(t, options{}, lines("T/BKP-02_x", "pass"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if last := all[len(all)-1]; last != "1 proved, 0 failing, 2 untested of 3" {
		t.Errorf("last line %q", last)
	}
	for _, want := range []string{"BKP. Backups", "  BKP-02 proved   Copy it twice.", "passed: p T/BKP-02_x", "  untested: 01"} {
		if !slices.ContainsFunc(all, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if status != "" {
		t.Error("status.md was written without being asked for")
	}
}

func TestStatusPage(t *testing.T) {
	_, _, status, err := run(t, options{write: true, quiet: true}, lines("T/BKP-02_x", "pass", "T/BKP-02_x/far", "pass"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"**1 proved, 0 failing, 2 untested of 3**", "| BKP. Backups | 1 | 0 | 1 |", "| BKP-02 | Copy it twice. | `T/BKP-02_x` |"} {
		if !strings.Contains(status, want) {
			t.Errorf("%q is not in:\n%s", want, status)
		}
	}
	_, _, status, err = run(t, options{write: true, run: "T"}, lines("T/BKP-02_x", "pass"))
	if err == nil || status != "" {
		t.Errorf("a run of some tests only was kept: %v", err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for _, tt := range []struct{ name, events, stderr, err string }{
		{"failing", `{"Action":"output","Package":"p","Test":"T/BKP-01_x","Output":"the copy is not there\n"}` + "\n" + lines("T/BKP-01_x", "fail"), "the copy is not there", "not everything"},
		{"unknown row", lines("T/BKP-17_x", "pass"), "T/BKP-17_x names BKP-17", "not in the catalogue"},
		{"a package failed", `{"Action":"output","Package":"p","Output":"panic: in TestMain\n"}` + "\n" + `{"Action":"fail","Package":"p"}`, "panic: in TestMain", "not everything"},
		{"a build failed", `{"ImportPath":"p [p.test]","Action":"build-output","Output":"x.go:1: undefined: y\n"}` + "\n" + `{"ImportPath":"p [p.test]","Action":"build-fail"}`, "undefined: y", "not everything"},
		{"not JSON", "ok  \tp\t0.1s", "", `not the output of "go test -json"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, _, err := run(t, options{quiet: true}, tt.events)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if !strings.Contains(stderr, tt.stderr) {
				t.Errorf("%q is not in %q", tt.stderr, stderr)
			}
		})
	}
}
