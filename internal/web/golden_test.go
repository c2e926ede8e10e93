package web

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/a-h/templ"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var tagStart = regexp.MustCompile(`(<(?:/?(?:html|head|body|main|header|nav|section|div|table|thead|tbody|tr|td|th|ul|ol|li|dl|dt|dd|p|h[1-3]|form|svg|g|rect|path|text|details|summary|progress|pre|script|link|meta|title|select|option|button|label|input)\b))`)

// Every page is compared as text, one element per line, so that a change of what
// people see reads like a change of code. Asset hashes are left out.
func TestPagesGolden(t *testing.T) {
	f := func(section, path string) frame { return testFrame(t, section, path) }
	quiet := f("drills", "/drills/118")
	quiet.Live = false
	noticed := f("overview", "/")
	noticed.Notice = "The drill has been asked for."
	pages := map[string]templ.Component{
		"overview":         overviewPage(f("overview", "/"), busy(), true),
		"overview-calm":    overviewPage(f("overview", "/"), calm(), false),
		"overview-empty":   overviewPage(noticed, Overview{}, true),
		"store":            storePage(f("store", "/store/orders-db"), busy().Stores[0], true),
		"store-empty":      storePage(f("store", "/store/wiki"), Store{ID: "wiki", Kind: "files"}, true),
		"drills":           drillsPage(f("drills", "/drills"), drillLines(), Coverage{}),
		"drills-empty":     drillsPage(f("drills", "/drills"), nil, Coverage{}),
		"drill":            drillPage(quiet, finishedDrill()),
		"drill-failed":     drillPage(quiet, failedDrill()),
		"drill-running":    drillPage(f("drills", "/drills/119"), runningDrill()),
		"incidents-empty":  storiesPage(f("incidents", "/incidents"), "incident", nil),
		"recoveries-empty": storiesPage(f("recoveries", "/recoveries"), "recovery", nil),
		"incident":         storyPage(f("incidents", "/incidents/31"), incidentStory()),
		"recovery":         storyPage(f("recoveries", "/recoveries/9"), recoveryStory()),
		"jobs":             jobsPage(f("jobs", "/jobs"), workHistory()),
		"jobs-empty":       jobsPage(f("jobs", "/jobs"), Jobs{}),
		"ack":              ackPage(quiet, "s3cret", Ack{Person: "bo", Expires: noon, Calls: []AckCall{{Name: "CALL-3", Title: "Store orders-db is lost", Detail: "it does not answer", State: "open"}}}, false),
		"ack-done":         ackPage(quiet, "s3cret", Ack{Person: "bo", Ended: "used", Calls: []AckCall{{Name: "CALL-3", Title: "Store orders-db is lost", State: "answered", By: "bo"}}}, true),
		"problem":          problem(quiet, "Not done", `a drill of "orders-db" is running`, "wait for it, or cancel it", "a1b2c3"),
	}
	hashes := regexp.MustCompile(`(/assets/[a-z.]+)\.[0-9a-f]{12}`)
	for name, c := range pages {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := c.Render(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			got := hashes.ReplaceAllString(tagStart.ReplaceAllString(b.String(), "\n$1"), "$1.HASH") + "\n"
			golden := filepath.Join("testdata", name+".golden.html")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s differs from %s; run go test ./internal/web -run Golden -update and read the diff\n%s", name, golden, firstDifference(got, string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got:  " + g[i] + "\nwant: " + w[i]
		}
	}
	return "one ends before the other"
}

// Inline styles and scripts are forbidden by the policy of the pages; a browser
// would drop them silently.
func TestNothingInline(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden.html")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden pages: %d found, %v", len(files), err)
	}
	forbidden := regexp.MustCompile(`(?i)<[^>]*\s(style|on[a-z]+)=|<style|<script[^>]*>[^<\n]|javascript:|https?://`)
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := forbidden.Find(b); m != nil {
			t.Errorf("%s: %q", name, m)
		}
	}
}
