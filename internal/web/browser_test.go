package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	printing "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

// Every page, in every look: nothing goes wrong in the console, nothing leaves
// for another host, nothing is wider than the screen, nobody is shut out.
func TestPagesInBrowser(t *testing.T) {
	browser := webtest.Chromium(t)
	full := httptest.NewServer(serve(t, config(&stage{overview: busy()})))
	t.Cleanup(full.Close)
	quiet := httptest.NewServer(serve(t, config(&stage{overview: calm()})))
	t.Cleanup(quiet.Close)
	bare := httptest.NewServer(serve(t, config(&stage{})))
	t.Cleanup(bare.Close)
	pages := []struct{ name, server, path string }{
		{"overview", full.URL, "/"}, {"overview-calm", quiet.URL, "/"}, {"overview-empty", bare.URL, "/"},
		{"drills", full.URL, "/drills"}, {"drill", full.URL, "/drills/118"}, {"drill-failed", full.URL, "/drills/71"}, {"drill-running", full.URL, "/drills/119"},
		{"store", full.URL, "/store/orders-db"}, {"store-uploads", full.URL, "/store/uploads"}, {"incident", full.URL, "/incidents/31"}, {"recovery", full.URL, "/recoveries/9"}, {"incidents", full.URL, "/incidents"}, {"plan", full.URL, "/plan"},
	}
	for _, p := range pages {
		for _, view := range webtest.Views {
			if view.Name == "phone-dark" && p.name != "overview" && p.name != "drill" {
				continue // shape and colours were each looked at
			}
			t.Run(p.name+"/"+view.Name, func(t *testing.T) {
				v := webtest.Open(t, browser, p.server)
				webtest.Do(t, v, chromedp.EmulateViewport(view.Width, view.Height), webtest.Scheme(view.Scheme), chromedp.Navigate(p.server+p.path), chromedp.WaitVisible(chromedp.CSS("h1")))
				webtest.Look(t, v, p.name+"-"+view.Name)
				if v.Answers(p.path) == 0 {
					t.Error("no answer was seen on the network: what went wrong would not be seen either")
				}
			})
		}
	}
}

// What changes at the source reaches an open page by itself, without disturbing
// where the reader is.
func TestLiveUpdate(t *testing.T) {
	s := &stage{overview: calm()}
	server := httptest.NewServer(serve(t, config(s)))
	t.Cleanup(server.Close)
	v := webtest.Open(t, webtest.Chromium(t), server.URL)
	webtest.Do(t, v, chromedp.Navigate(server.URL))
	if first := webtest.Ask(t, v, chromedp.Text(chromedp.CSS("#answer"))); !strings.Contains(first, "lose the last 2 seconds") {
		t.Fatalf("first answer: %s", first)
	}
	webtest.Script[bool](t, v, `window.stayed = true; document.querySelector(".graph").focus(); true`)
	s.set(func(s *stage) { s.overview = busy() })
	webtest.Ask(t, v, chromedp.Poll[bool](`document.querySelector("#answer").textContent.includes("78 minutes")`, chromedp.WithPollingTimeout(webtest.Patience)))
	if !webtest.Script[bool](t, v, "window.stayed === true") {
		t.Error("the page was loaded again instead of being updated")
	}
	if !webtest.Script[bool](t, v, `document.activeElement.className === "graph"`) {
		t.Error("the update took the keyboard focus away")
	}

	// Somebody may stop the updates: the button says so, and it stays so until it
	// is pressed again.
	webtest.Do(t, v, chromedp.Click(chromedp.CSS("#pause")))
	if text := webtest.Ask(t, v, chromedp.Text(chromedp.CSS("#pause"))); text != "Go on updating" {
		t.Errorf("the button says %q", text)
	}
	s.set(func(s *stage) { s.overview = calm() })
	paused := webtest.Script[int](t, v, `new Promise(done => { let asked = 0; document.addEventListener("htmx:before:request", () => { if (++asked === 2) done(document.querySelector("#answer").textContent.includes("78 minutes") ? 1 : 0) }) })`)
	if paused != 1 {
		t.Error("the page went on updating while it was stopped")
	}
	webtest.Do(t, v, chromedp.Click(chromedp.CSS("#pause")))
	webtest.Ask(t, v, chromedp.Poll[bool](`document.querySelector("#answer").textContent.includes("2 seconds")`, chromedp.WithPollingTimeout(webtest.Patience)))
	for _, s := range v.Complaints() {
		t.Error(s)
	}
}

// A page that no longer gets an answer must not go on looking as if all were well.
func TestStalePageSaysSo(t *testing.T) {
	s := &stage{overview: calm()}
	h := serve(t, config(s))
	var broken atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	v := webtest.Open(t, webtest.Chromium(t), server.URL)
	webtest.Do(t, v, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(server.URL))
	before := webtest.Ask(t, v, chromedp.Text(chromedp.CSS("#answer")))
	broken.Store(true)
	webtest.Do(t, v, chromedp.WaitVisible(chromedp.CSS("#stale")))
	if after := webtest.Ask(t, v, chromedp.Text(chromedp.CSS("#answer"))); after != before {
		t.Errorf("the failed answer replaced the page: %q", after)
	}
	webtest.Screenshot(t, v, "overview-stale")
	broken.Store(false)
	webtest.Do(t, v, chromedp.WaitNotVisible(chromedp.CSS("#stale")))
}

// With the keyboard alone, every stop can be seen, and the panels and forms work.
func TestKeyboard(t *testing.T) {
	s := &stage{overview: busy()}
	server := httptest.NewServer(serve(t, config(s)))
	t.Cleanup(server.Close)
	v := webtest.Open(t, webtest.Chromium(t), server.URL)
	webtest.Do(t, v, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#answer")))
	type stop struct {
		Name    string
		Outline float64
		Visible bool
	}
	seen := map[string]bool{}
	const most = 60 // stops of the page, with room
	for range most {
		webtest.Do(t, v, chromedp.KeyEvent("\t"))
		at := webtest.Script[stop](t, v, `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
			return {Name: e === document.body ? "" : e.tagName + " " + (e.textContent || e.id).trim().slice(0, 40), Outline: s.outlineStyle === "none" ? 0 : parseFloat(s.outlineWidth), Visible: r.width > 0 && r.bottom > 0 && r.top < innerHeight} })()`)
		if at.Name == "" {
			break
		}
		seen[at.Name] = true
		if at.Outline < 2 || !at.Visible {
			t.Errorf("the focus cannot be seen on %s (outline %g px, on screen %t)", at.Name, at.Outline, at.Visible)
		}
	}
	for _, want := range []string{"A Skip to the content", "BUTTON Start a drill", "A Drills", "A orders-db"} {
		if !seen[want] {
			t.Errorf("%q is not reached with the keyboard; reached: %v", want, seen)
		}
	}
	webtest.Do(t, v, chromedp.Focus(chromedp.CSS(`[popovertarget="do-drill"]`)), chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS("#drill-name")))
	webtest.Screenshot(t, v, "panel")
	webtest.Do(t, v, chromedp.Focus(chromedp.CSS("#do-drill button[type=submit]")), chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS(".ladder")))
	if got := strings.Join(s.asked(), "; "); got != "drill orders-db-monthly" {
		t.Errorf("started %q", got)
	}
	for _, s := range v.Complaints() {
		t.Error(s)
	}
}

// Without scripts the pages and forms still work.
func TestWithoutScripts(t *testing.T) {
	s := &stage{overview: busy()}
	server := httptest.NewServer(serve(t, config(s)))
	t.Cleanup(server.Close)
	v := webtest.Open(t, webtest.Chromium(t), server.URL)
	webtest.Do(t, v, webtest.Call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}),
		chromedp.Navigate(server.URL+"/"), chromedp.Click(chromedp.CSS(`[popovertarget="do-backup"]`)), chromedp.WaitVisible(chromedp.CSS("#backup-store")),
		chromedp.Click(chromedp.CSS("#do-backup button[type=submit]")), chromedp.WaitVisible(chromedp.CSS(".notice")))
	if got := strings.Join(s.asked(), "; "); got != "backup orders-db" {
		t.Errorf("started %q", got)
	}
	for _, s := range v.Complaints() {
		t.Error(s)
	}
}

// The printed sheet holds the answer and leaves the buttons out.
func TestPrint(t *testing.T) {
	server := httptest.NewServer(serve(t, config(&stage{overview: busy()})))
	t.Cleanup(server.Close)
	v := webtest.Open(t, webtest.Chromium(t), server.URL)
	webtest.Do(t, v, webtest.Call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}), chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#answer")))
	if webtest.Script[int](t, v, `document.querySelector(".actions").offsetHeight`) > 0 {
		t.Error("the buttons are printed")
	}
	pdf, err := chromedp.Call(v, printing.PrintToPDF, printing.PrintToPDFParams{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(pdf.Data), "%PDF") {
		t.Errorf("%d bytes are no document", len(pdf.Data))
	}
}
