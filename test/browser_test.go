package test

import (
	"context"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

// The pages in a real browser, on the real program with a real database: from the
// first look, before there is any backup, to the recovery after a disaster. What
// people set in motion, they press; what changes, they see without reloading.
func TestPagesOfTheProduct(t *testing.T) {
	t.Parallel()
	w := newKillWorld(t, "")
	w.serve()
	b := &reader{t: t, w: w, browser: webtest.Chromium(t)}
	b.visit()

	// Nothing is backed up yet, and the page says so.
	b.goTo("/")
	b.see("#answer", "we would lose all of")
	b.look("new")

	// A backup by the button; the open page shows when it has arrived.
	b.press(`[popovertarget="do-backup"]`)
	b.sees("#backup-store")
	b.press("#do-backup button[type=submit]")
	b.settle("/store/db")
	b.see(".notice", "backup has been asked for")
	b.see("#live", "this second")
	b.sees(`svg.windows rect.window`)
	w.settled(w.backup("uploads"))
	b.goTo("/")
	b.see("#answer", "we would lose the last")

	// A drill by the button, seen while it runs, and then its rung.
	b.press(`[popovertarget="do-drill"]`)
	b.sees("#drill-name")
	webtest.Do(t, b.tab, chromedp.SetValue(chromedp.CSS("#drill-name"), "db-drill"))
	b.press("#do-drill button[type=submit]")
	b.until(`location.pathname.startsWith("/drills/")`, "the page of the drill")
	b.sees(".ladder")
	drill := webtest.Script[string](t, b.tab, "location.pathname")
	b.see("#live .lead", "db")
	if first := webtest.Ask(t, b.tab, chromedp.Text(chromedp.CSS("#live .lead .pill"))); first != "running" && first != "waiting" {
		t.Errorf("the drill that was just started is %q", first)
	}
	webtest.Script[bool](t, b.tab, "window.stayed = true")
	b.see("#live .lead", "proven up to L5")
	if !webtest.Script[bool](t, b.tab, "window.stayed === true") {
		t.Error("the page of the drill was loaded again instead of being updated")
	}
	b.see(".rung.climbed .rung-head", "integrity and security checks hold")
	b.goTo("/store/db")
	b.sees(`a[href="` + drill + `"]`)
	b.everyLook("", "/", "/store/db", "/store/uploads", "/drills", drill, "/incidents", "/recoveries")

	// A disaster: a location and a folder are gone. The open page says it by itself,
	// names the incident, and shows the recovery to its end.
	b.goTo("/")
	if err := os.Rename(w.location("near"), w.location("near")+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.uploads()); err != nil {
		t.Fatal(err)
	}
	b.see(".alarm", "Store uploads is lost")
	b.look("disaster")
	b.see(".answer.away", "does not answer")
	b.press(".alarm a")
	b.see("#live", "every service of the recovery is usable")
	b.press(`dl.facts a[href^="/recoveries/"]`)
	b.sees(".step")
	recovery := webtest.Script[string](t, b.tab, "location.pathname")
	b.see(".stack + .legend", "hand over")
	b.everyLook("after-", "/", "/store/uploads", "/incidents/INC-1", recovery)
	b.unscripted()
}

// A reader is a person at a browser.
type reader struct {
	t       *testing.T
	w       *killWorld
	browser context.Context
	tab     *webtest.Visit
}

func (b *reader) visit() {
	b.tab = webtest.OpenFor(b.t, b.browser, b.w.server.page, 2*killWithin)
	webtest.Do(b.t, b.tab, chromedp.EmulateViewport(1440, 900), webtest.Scheme("light"))
}

func (b *reader) goTo(path string) {
	b.t.Helper()
	webtest.Do(b.t, b.tab, chromedp.Navigate(b.w.server.page+path), chromedp.WaitVisible(chromedp.CSS("h1")))
}

func (b *reader) press(selector string) {
	b.t.Helper()
	webtest.Do(b.t, b.tab, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
}

func (b *reader) sees(selector string) {
	b.t.Helper()
	webtest.Do(b.t, b.tab, chromedp.WaitReady(chromedp.CSS(selector)))
}

// until waits for an expression to hold, over pages that come and go.
func (b *reader) until(expression, what string) {
	b.t.Helper()
	every := time.NewTicker(100 * time.Millisecond)
	defer every.Stop()
	deadline := time.NewTimer(killWithin)
	defer deadline.Stop()
	var last error
	for {
		holds, err := chromedp.Run(b.tab, chromedp.Evaluate[bool](expression))
		if err == nil && holds {
			return
		}
		last = err
		select {
		case <-every.C:
		case <-deadline.C:
			webtest.Screenshot(b.t, b.tab, "product-not-seen")
			b.t.Fatalf("%s is not seen: %v", what, last)
		}
	}
}

// settle waits until the browser stands at a path.
func (b *reader) settle(path string) {
	b.t.Helper()
	b.until(`location.pathname === "`+path+`"`, path)
}

// see waits until some element that the selector finds holds a text.
func (b *reader) see(selector, text string) {
	b.t.Helper()
	b.until(`[...document.querySelectorAll('`+selector+`')].some(e => e.textContent.includes("`+text+`"))`, strconv.Quote(text)+" in "+selector)
}

func (b *reader) look(name string) {
	b.t.Helper()
	webtest.Look(b.t, b.tab, "product-"+name)
}

// everyLook looks at pages in every size and colour.
func (b *reader) everyLook(prefix string, paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		name := strings.Split(strings.Trim(path, "/"), "/")
		if name[0] == "" {
			name[0] = "overview"
		} else if name[0] != "store" {
			name = []string{name[0], map[bool]string{true: "one", false: "all"}[len(name) > 1]}
		}
		b.goTo(path)
		for _, view := range webtest.Views[:3] {
			webtest.Do(b.t, b.tab, chromedp.EmulateViewport(view.Width, view.Height), webtest.Scheme(view.Scheme))
			b.look(prefix + strings.Join(name, "-") + "-" + view.Name)
		}
	}
}

// unscripted reads every page that the first one leads to, without scripts: no link
// leads nowhere.
func (b *reader) unscripted() {
	b.t.Helper()
	b.visit()
	webtest.Do(b.t, b.tab, webtest.Call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	b.goTo("/")
	seen := map[string]bool{"/": true}
	for _, path := range webtest.Script[[]string](b.t, b.tab, `[...document.links].map(a => a.getAttribute("href")).filter(h => h.startsWith("/"))`) {
		if seen[path] {
			continue
		}
		seen[path] = true
		res, err := http.Get(b.w.server.page + path)
		if err != nil {
			b.t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			b.t.Errorf("the link to %s is answered with %d", path, res.StatusCode)
		}
	}
	if len(seen) < 6 {
		b.t.Errorf("the first page leads only to %v", seen)
	}
}
