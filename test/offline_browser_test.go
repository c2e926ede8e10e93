package test

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

// browserOf opens a file in a browser whose network is off. Whatever it asks for beside
// the file fails the test.
func browserOf(t *testing.T, browser context.Context, file string) *webtest.Visit {
	t.Helper()
	v := webtest.OpenFor(t, browser, "file://"+file, 2*killWithin)
	webtest.Do(t, v, webtest.Call(network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: true}),
		chromedp.EmulateViewport(375, 812), chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS("#passphrase")))
	if webtest.Script[bool](t, v, "navigator.onLine") {
		t.Error("the network is on")
	}
	return v
}

// openInBrowser types a wrong passphrase and then the right one, and returns the text that
// is then seen.
func openInBrowser(t *testing.T, v *webtest.Visit, c offlineCopy) string {
	t.Helper()
	try := func(passphrase, until string) {
		webtest.Do(t, v, chromedp.SetValue(chromedp.CSS("#passphrase"), passphrase), chromedp.Click(chromedp.CSS("#open")))
		webtest.Script[bool](t, v, `new Promise(done => { const look = () => (`+until+`) ? done(true) : setTimeout(look, 50); look(); })`)
	}
	try(c.passphrase+"x", `document.querySelector("#said").textContent.includes("does not open")`)
	if webtest.Script[bool](t, v, `document.body.dataset.opened === "yes"`) {
		t.Error("a wrong passphrase opens it")
	}
	try(c.passphrase, `document.body.dataset.opened === "yes"`)
	if got := webtest.Script[string](t, v, `document.querySelector("#sealed-digest").textContent`); got != c.sealed {
		t.Errorf("the page shows the digest %s, recorded is %s", got, c.sealed)
	}
	if got := webtest.Script[string](t, v, `document.querySelector("#code").textContent`); got != c.code {
		t.Errorf("the page shows the code %s, want %s", got, c.code)
	}
	if wide := webtest.Script[int](t, v, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		t.Errorf("the page is %d px wider than a telephone", wide)
	}
	if n := webtest.Script[int](t, v, `performance.getEntriesByType("resource").length + document.querySelectorAll("img, link, iframe, object, [src]").length`); n != 0 {
		t.Errorf("the page loads %d things", n)
	}
	for _, s := range v.Complaints() {
		t.Error(s)
	}
	return webtest.Script[string](t, v, "document.body.innerText")
}

// offlineOnPaper prints an open copy: black on white, no wider than the sheet, nothing of
// the screen on it, and what is in a box on the screen is whole.
func offlineOnPaper(t *testing.T, v *webtest.Visit, c offlineCopy) {
	t.Helper()
	openInBrowser(t, v, c)
	webtest.Screenshot(t, v, "offline-open")
	printed := webtest.Ask(t, v, func(ctx context.Context, tab *chromedp.Target) (page.PrintToPDFResult, error) {
		return cdp.Call(ctx, tab, page.PrintToPDF, page.PrintToPDFParams{PreferCSSPageSize: new(true)})
	})
	if len(printed.Data) < 1000 {
		t.Errorf("what is printed has %d bytes", len(printed.Data))
	}
	const sheet = 673 // A4 without its margins, in CSS pixels
	webtest.Do(t, v, chromedp.EmulateViewport(sheet, 952), webtest.Call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}))
	if wide := webtest.Script[int](t, v, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		t.Errorf("the page is %d px wider than the sheet", wide)
	}
	for what, not := range map[string]string{
		"a button is on paper":        `document.querySelector("#print").offsetParent !== null`,
		"something is cut off":        `[...document.querySelectorAll("section, .wide, pre, table")].some(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible")`,
		"a table is wider than paper": `[...document.querySelectorAll("table")].some(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)`,
		"it is not black on white":    `getComputedStyle(document.body).color !== "rgb(16, 21, 29)"`,
	} {
		if webtest.Script[bool](t, v, not) {
			t.Error(what)
		}
	}
	if first := webtest.Script[string](t, v, `document.querySelector(".cover").innerText`); !strings.Contains(first, c.id) || !strings.Contains(first, c.sealed) {
		t.Errorf("the first lines on paper do not name the copy and its digest: %s", first)
	}
}
