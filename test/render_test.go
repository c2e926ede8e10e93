package test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

// A rendering is what "render --json" prints.
type rendering struct {
	Digest, Text, Title string
	Sections            []string
}

// render writes the document of the workspace's plan.
func (w workspace) render(t *testing.T, args ...string) (r rendering) {
	t.Helper()
	w.run(t, append([]string{"render", "--json"}, args...)...).want(t, 0).object(t, &r)
	return r
}

// page reads a page of a running server.
func (s *serving) page(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(strings.TrimRight(s.url, "/") + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(b)
}

var (
	tag     = regexp.MustCompile(`<[^>]*>`)
	spaces  = regexp.MustCompile(`\s+`)
	section = regexp.MustCompile(`(?s)<section class="card" id="backup".*?</section>`)
)

// words are what a reader sees of a page.
func words(html string) string { return spaces.ReplaceAllString(tag.ReplaceAllString(html, " "), " ") }

func TestRenderRows(t *testing.T) {
	t.Parallel()
	t.Run("BKP-16 the document of schedules is the configuration that runs", func(t *testing.T) {
		w := filesOnly(t)
		check := func(every, not string) {
			t.Helper()
			s := serve(t, w.dir)
			defer s.stop(t)
			var v struct {
				PlanDigest string `json:"plan_digest"`
			}
			w.run(t, "status", "--json").object(t, &v)
			doc, shown := w.render(t), words(section.FindString(s.page(t, "/plan")))
			if v.PlanDigest == "" || doc.Digest != v.PlanDigest {
				t.Errorf("the server runs %q, and the document is made from %q", v.PlanDigest, doc.Digest)
			}
			row := "| uploads | folder | " + every + " |"
			if !strings.Contains(doc.Text, row) || strings.Contains(doc.Text, not) {
				t.Errorf("the document does not say %q, or still says %q:\n%s", row, not, doc.Text)
			}
			if !strings.Contains(shown, "uploads folder "+every) || strings.Contains(shown, not) || !strings.Contains(shown, "near, offsite") {
				t.Errorf("the server's page does not say %q: %s", every, shown)
			}
			if !strings.Contains(shown, v.PlanDigest[:20]) {
				t.Errorf("the page does not name the plan that runs: %s", shown)
			}
		}
		w.run(t, "location", "init", "--all").want(t, 0)
		check("every 5 minutes", "every 2 minutes")
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 5m", "every: 2m", 1) })
		check("every 2 minutes", "every 5 minutes")
	})

	t.Run("POL-11 two editions from one source", func(t *testing.T) {
		w := initAt(t, place(t), "host=dbhost.internal port=5444 user=replicant dbname=appdb")
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, `founder-a: {name: "Founder A"}`, `founder-a: {name: "Astrid Kanari", email: "astrid@acme.example", phone: "+46 8 123 45 67"}`, 1)
			s = strings.Replace(s, `rpo: {none: "holds no data of its own"}`, `rpo: {none: "ask Astrid Kanari, 08-123 45 67, https://wiki.acme.example/web"}`, 1)
			return strings.Replace(s, "Point the services at", "Log in to 192.0.2.44 and point the services at", 1)
		})
		hidden := []string{"Astrid", "Kanari", "astrid@", "founder-a", "founder-b", "Founder B", "123 45 67", "08-123", "wiki.acme", "dbhost", "replicant", "5444", "192.0.2.44", "age1", w.root, w.uploads, "db-password"}
		inside := w.render(t)
		for _, s := range []string{"Astrid Kanari", "astrid@acme.example", "+46 8 123 45 67", "192.0.2.44", "dbhost.internal"} {
			if !strings.Contains(strings.ReplaceAll(inside.Text, `\`, ""), s) {
				t.Errorf("the internal edition lacks %q", s)
			}
		}
		for _, style := range []string{"general", "A", "B", "C", "D", "E"} {
			for _, format := range []string{"markdown", "html", "print"} {
				outside := w.render(t, "--edition", "public", "--style", style, "--format", format)
				if outside.Digest != inside.Digest {
					t.Error("the editions are made from two plans")
				}
				for _, s := range hidden {
					if strings.Contains(strings.ToLower(outside.Text), strings.ToLower(s)) {
						t.Errorf("style %s as %s: the public edition holds %q", style, format, s)
					}
				}
				for _, s := range []string{"4 hours", "15 minutes", "every day at ", "incident_commander"} {
					if !strings.Contains(outside.Text, s) {
						t.Errorf("style %s as %s: the public edition lacks %q", style, format, s)
					}
				}
			}
		}
	})

	t.Run("POL-13 no certificate without its record", func(t *testing.T) {
		w := initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app")
		says := func(plan, want string) {
			t.Helper()
			b, err := os.ReadFile(w.plan())
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			i := strings.LastIndex(text, "# CERTIFICATE")
			if i < 0 {
				i = len(text)
			}
			write(t, w.plan(), text[:i]+"# CERTIFICATE\n"+plan, 0o644)
			for _, edition := range []string{"internal", "public"} {
				doc := w.render(t, "--edition", edition)
				if !strings.Contains(doc.Text, want) {
					t.Errorf("the %s edition does not say %q of %q", edition, want, plan)
				}
				if held := strings.Contains(doc.Text, "| held"); held != strings.Contains(want, "held") {
					t.Errorf("the %s edition says that a certificate is held: %t, of %q", edition, held, plan)
				}
			}
		}
		says(`frameworks: {iso27001: {edition: "2022", status: "fully certified!"}}`, "| iso27001 | 2022 | none on record")
		says(`frameworks: {iso27001: {edition: "2022", status: "in preparation"}}`, "| iso27001 | 2022 | none: in preparation |")
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "org:\n", "org:\n  certified: {iso27001: {stated: certified}}\n", 1)
		})
		says(`frameworks: {iso27001: "2022"}`, "| iso27001 | 2022 | none on record")
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "{stated: certified}", "{stated: certified, document: certificate, until: \"2027-01-01\"}", 1)
		})
		says("frameworks: {iso27001: \"2022\"}\ndocuments: {certificate: Certificate 7}", "| iso27001 | 2022 | held until 2027-01-01")
	})
}

// What is rendered can be imported: the objectives and schedules are those of the plan
// that it came from, and what was proposed loads.
func TestRenderedPolicyIsImported(t *testing.T) {
	t.Parallel()
	w := initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app")
	doc := filepath.Join(w.root, "policy.md")
	w.run(t, "render", "-o", doc).want(t, 0)
	back := workspace{dir: filepath.Join(w.root, "back"), root: w.root}
	if err := os.Mkdir(back.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hf(t, "import", doc, "-o", back.plan(), "--report", filepath.Join(w.root, "report.md")).want(t, 0)
	same := regexp.MustCompile(`(?m)^\| (critical|support|database|folder|db-drill|uploads-drill|api|web|db|uploads) \|.*$`)
	var rows [2][]string
	for i, from := range []workspace{w, back} {
		var r rendering
		hf(t, "render", from.plan(), "--json").want(t, 0).object(t, &r)
		for _, id := range []string{"Recovery objectives", "Backup schedule and configuration", "Restore tests and exercises"} {
			_, text, _ := strings.Cut(r.Text, id+"\n")
			text, _, _ = strings.Cut(text, "### Further")
			text, _, _ = strings.Cut(text, "\n## ")
			rows[i] = append(rows[i], same.FindAllString(text, -1)...)
		}
	}
	if a, b := strings.Join(rows[0], "\n"), strings.Join(rows[1], "\n"); len(rows[0]) < 10 || a != b {
		t.Errorf("the document said\n%s\nand what was imported says\n%s", a, b)
	}
}

// What no rule reads is said, and what is no text is refused at once.
func TestImportSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	dir := place(t)
	policy := filepath.Join(dir, "policy.md")
	write(t, policy, "# Example Ltd: Plan\n\nThe RTO of the shop is 4 hours.\nAfter 17 days something happens to the tapes.\nEverybody shall be careful.\nReviews are done periodically.\n", 0o644)
	var v struct {
		Plan   string
		Values []struct {
			Path, Value string
			Line        int
		}
		Uncovered, Unread []struct {
			Line      int
			Text      string
			Normative bool
		}
		Vague []struct {
			Line int
			Word string
		}
	}
	hf(t, "import", policy, "--json").want(t, 0).object(t, &v)
	lines := map[int]bool{}
	for _, s := range v.Uncovered {
		lines[s.Line] = true
	}
	if !lines[4] || !lines[5] || !lines[6] || lines[3] || len(v.Unread) != 1 || v.Unread[0].Line != 4 || len(v.Vague) != 1 || v.Vague[0].Line != 6 {
		t.Errorf("%+v", v)
	}
	big := filepath.Join(dir, "big.md")
	f, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(100 << 20); err != nil { // holes: it takes no room
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	hf(t, "import", big).refuses(t, 2, "larger than", "part by part")
	out := filepath.Join(dir, "none.yaml")
	hf(t, "import", binary, "-o", out).refuses(t, 2, "is (larger than|no text)", "import|Markdown")
	if _, err := os.Stat(out); err == nil {
		t.Error("a refusal wrote a file")
	}
}

// The HTML is one file that everybody can read, on a screen, a phone and paper.
func TestRenderedPageInBrowser(t *testing.T) {
	t.Parallel()
	dir := place(t)
	hf(t, "render", abs(t, "../examples/two-person-ai.yaml"), "--format", "html", "--style", "E", "-o", filepath.Join(dir, "policy.html")).want(t, 0)
	hf(t, "render", abs(t, "../examples/two-person-ai.yaml"), "--format", "print", "--sheet", "ciso", "-o", filepath.Join(dir, "sheet.html")).want(t, 0)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	browser := webtest.Chromium(t)
	for _, name := range []string{"policy.html", "sheet.html"} {
		for _, view := range webtest.Views {
			if view.Name == "phone-dark" || name == "sheet.html" && view.Name != "light" {
				continue // shape and colours were each looked at
			}
			v := webtest.Open(t, browser, server.URL)
			webtest.Do(t, v, chromedp.EmulateViewport(view.Width, view.Height), webtest.Scheme(view.Scheme), chromedp.Navigate(server.URL+"/"+name), chromedp.WaitVisible(chromedp.CSS("h1")))
			webtest.Look(t, v, strings.TrimSuffix(name, ".html")+"-"+view.Name)
		}
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
