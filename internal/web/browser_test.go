package web

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	printing "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds each visit; a page that needs it has failed.
const patience = time.Minute

// chromium starts one browser for a test. Its switches keep it from talking to
// anybody but the page.
func chromium(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("HOLDFAST_CHROMIUM")
	if path == "" {
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if p, err := exec.LookPath(name); err == nil {
				path = p
				break
			}
		}
	}
	if path == "" {
		t.Fatal("no chromium is installed, so the pages cannot be tested in a browser: run make test-tools, or name one in HOLDFAST_CHROMIUM")
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))...)
	t.Cleanup(stop)
	ctx, stopBrowser := chromedp.NewContext(alloc)
	t.Cleanup(stopBrowser)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%s does not start: %v", path, err)
	}
	return ctx
}

// axe is the accessibility checker that runs in the page.
func axe(t *testing.T) string {
	t.Helper()
	path := os.Getenv("HOLDFAST_AXE")
	if path == "" {
		if dir, err := os.UserCacheDir(); err == nil {
			path = filepath.Join(dir, "holdfast-test-tools", "axe.min.js")
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("axe-core is missing, so accessibility cannot be checked: run make test-tools, or name axe.min.js in HOLDFAST_AXE: %v", err)
	}
	return string(b)
}

// A visit is one tab, and all that went wrong in it.
type visit struct {
	context.Context
	mu    sync.Mutex
	wrong []string
	urls  []string
}

func (v *visit) heard(url string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.urls = append(v.urls, url)
}

// answers counts the answers that came for a path.
func (v *visit) answers(path string) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, u := range v.urls {
		if p, err := url.Parse(u); err == nil && p.Path == path {
			n++
		}
	}
	return n
}

func (v *visit) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

func (v *visit) complaints() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.wrong...)
}

// open makes a tab that notes console messages, exceptions, failed answers and
// every request to another host.
func open(t *testing.T, browser context.Context, server string) *visit {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	tab, stop := chromedp.NewContext(browser)
	t.Cleanup(stop)
	if err := chromedp.Do(tab); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(tab, patience)
	t.Cleanup(end)
	v := &visit{Context: ctx}
	err = chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *network.EventRequestWillBeSent:
			if r, err := url.Parse(e.Request.URL); err != nil || r.Host != u.Host && r.Scheme != "data" {
				v.complain("request to another host: %s", e.Request.URL)
			}
		case *network.EventResponseReceived:
			v.heard(e.Response.URL)
			if e.Response.Status >= 400 {
				v.complain("%d for %s", e.Response.Status, e.Response.URL)
			}
		case *runtime.EventConsoleAPICalled:
			v.complain("console %s: %v", e.Type, e.Args)
		case *runtime.EventExceptionThrown:
			v.complain("exception: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			v.complain("browser log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do(t, v, call(network.Enable, network.EnableParams{}), call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}))
	return v
}

// call makes an action of a command of the browser.
func call[P, R any](c cdp.Command[P, R], p P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, p)
		return err
	})
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// ask runs an action that answers something.
func ask[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func script[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	return ask(t, ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func scheme(name string) chromedp.Action[chromedp.Void] {
	return call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// screenshot keeps the page as people see it, if a folder for it is named.
func screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return
	}
	b := ask(t, ctx, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

var views = []struct {
	name          string
	width, height int64
	scheme        string
}{{"light", 1440, 900, "light"}, {"dark", 1440, 900, "dark"}, {"phone", 375, 812, "light"}, {"phone-dark", 375, 812, "dark"}}

const axeRun = `axe.run(document, {resultTypes: ["violations"], runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}})
	.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target.join(" ") + " — " + (n.any[0]?.message || v.help))))`

// Every page, in every look: nothing goes wrong in the console, nothing leaves
// for another host, nothing is wider than the screen, nobody is shut out.
func TestPagesInBrowser(t *testing.T) {
	checker := axe(t)
	browser := chromium(t)
	full := httptest.NewServer(serve(t, config(&stage{overview: busy()})))
	t.Cleanup(full.Close)
	quiet := httptest.NewServer(serve(t, config(&stage{overview: calm()})))
	t.Cleanup(quiet.Close)
	bare := httptest.NewServer(serve(t, config(&stage{})))
	t.Cleanup(bare.Close)
	pages := []struct{ name, server, path string }{
		{"overview", full.URL, "/"}, {"overview-calm", quiet.URL, "/"}, {"overview-empty", bare.URL, "/"},
		{"drills", full.URL, "/drills"}, {"drill", full.URL, "/drills/118"}, {"drill-failed", full.URL, "/drills/71"}, {"drill-running", full.URL, "/drills/119"},
		{"store", full.URL, "/store/orders-db"}, {"store-uploads", full.URL, "/store/uploads"}, {"incident", full.URL, "/incidents/31"}, {"recovery", full.URL, "/recoveries/9"}, {"incidents", full.URL, "/incidents"},
	}
	for _, p := range pages {
		for _, view := range views {
			if view.name == "phone-dark" && p.name != "overview" && p.name != "drill" {
				continue // shape and colours were each looked at
			}
			t.Run(p.name+"/"+view.name, func(t *testing.T) {
				v := open(t, browser, p.server)
				do(t, v, chromedp.EmulateViewport(view.width, view.height), scheme(view.scheme), chromedp.Navigate(p.server+p.path), chromedp.WaitVisible(chromedp.CSS("h1")))
				if !script[bool](t, v, `document.fonts.ready.then(() => document.fonts.check("16px Inter"))`) {
					t.Error("the typeface was not loaded")
				}
				if wide := script[int](t, v, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
					t.Errorf("the page is %d px wider than the screen", wide)
				}
				screenshot(t, v, p.name+"-"+view.name)
				script[int](t, v, checker+";0")
				for _, s := range script[[]string](t, v, axeRun) {
					t.Errorf("accessibility: %s", s)
				}
				if v.answers(p.path) == 0 {
					t.Error("no answer was seen on the network: what went wrong would not be seen either")
				}
				for _, s := range v.complaints() {
					t.Error(s)
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
	v := open(t, chromium(t), server.URL)
	do(t, v, chromedp.Navigate(server.URL))
	if first := ask(t, v, chromedp.Text(chromedp.CSS("#answer"))); !strings.Contains(first, "lose the last 2 seconds") {
		t.Fatalf("first answer: %s", first)
	}
	script[bool](t, v, `window.stayed = true; document.querySelector(".graph").focus(); true`)
	s.set(func(s *stage) { s.overview = busy() })
	ask(t, v, chromedp.Poll[bool](`document.querySelector("#answer").textContent.includes("78 minutes")`, chromedp.WithPollingTimeout(patience)))
	if !script[bool](t, v, "window.stayed === true") {
		t.Error("the page was loaded again instead of being updated")
	}
	if !script[bool](t, v, `document.activeElement.className === "graph"`) {
		t.Error("the update took the keyboard focus away")
	}

	// Somebody may stop the updates: the button says so, and it stays so until it
	// is pressed again.
	do(t, v, chromedp.Click(chromedp.CSS("#pause")))
	if text := ask(t, v, chromedp.Text(chromedp.CSS("#pause"))); text != "Go on updating" {
		t.Errorf("the button says %q", text)
	}
	s.set(func(s *stage) { s.overview = calm() })
	paused := script[int](t, v, `new Promise(done => { let asked = 0; document.addEventListener("htmx:before:request", () => { if (++asked === 2) done(document.querySelector("#answer").textContent.includes("78 minutes") ? 1 : 0) }) })`)
	if paused != 1 {
		t.Error("the page went on updating while it was stopped")
	}
	do(t, v, chromedp.Click(chromedp.CSS("#pause")))
	ask(t, v, chromedp.Poll[bool](`document.querySelector("#answer").textContent.includes("2 seconds")`, chromedp.WithPollingTimeout(patience)))
	for _, s := range v.complaints() {
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
	v := open(t, chromium(t), server.URL)
	do(t, v, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(server.URL))
	before := ask(t, v, chromedp.Text(chromedp.CSS("#answer")))
	broken.Store(true)
	do(t, v, chromedp.WaitVisible(chromedp.CSS("#stale")))
	if after := ask(t, v, chromedp.Text(chromedp.CSS("#answer"))); after != before {
		t.Errorf("the failed answer replaced the page: %q", after)
	}
	screenshot(t, v, "overview-stale")
	broken.Store(false)
	do(t, v, chromedp.WaitNotVisible(chromedp.CSS("#stale")))
}

// With the keyboard alone, every stop can be seen, and the panels and forms work.
func TestKeyboard(t *testing.T) {
	s := &stage{overview: busy()}
	server := httptest.NewServer(serve(t, config(s)))
	t.Cleanup(server.Close)
	v := open(t, chromium(t), server.URL)
	do(t, v, chromedp.EmulateViewport(1440, 900), chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#answer")))
	type stop struct {
		Name    string
		Outline float64
		Visible bool
	}
	seen := map[string]bool{}
	const most = 60 // stops of the page, with room
	for range most {
		do(t, v, chromedp.KeyEvent("\t"))
		at := script[stop](t, v, `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
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
	do(t, v, chromedp.Focus(chromedp.CSS(`[popovertarget="do-drill"]`)), chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS("#drill-name")))
	screenshot(t, v, "panel")
	do(t, v, chromedp.Focus(chromedp.CSS("#do-drill button[type=submit]")), chromedp.KeyEvent("\r"), chromedp.WaitVisible(chromedp.CSS(".ladder")))
	if got := strings.Join(s.asked(), "; "); got != "drill orders-db-monthly" {
		t.Errorf("started %q", got)
	}
	for _, s := range v.complaints() {
		t.Error(s)
	}
}

// Without scripts the pages and forms still work.
func TestWithoutScripts(t *testing.T) {
	s := &stage{overview: busy()}
	server := httptest.NewServer(serve(t, config(s)))
	t.Cleanup(server.Close)
	v := open(t, chromium(t), server.URL)
	do(t, v, call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}),
		chromedp.Navigate(server.URL+"/"), chromedp.Click(chromedp.CSS(`[popovertarget="do-backup"]`)), chromedp.WaitVisible(chromedp.CSS("#backup-store")),
		chromedp.Click(chromedp.CSS("#do-backup button[type=submit]")), chromedp.WaitVisible(chromedp.CSS(".notice")))
	if got := strings.Join(s.asked(), "; "); got != "backup orders-db" {
		t.Errorf("started %q", got)
	}
	for _, s := range v.complaints() {
		t.Error(s)
	}
}

// The printed sheet holds the answer and leaves the buttons out.
func TestPrint(t *testing.T) {
	server := httptest.NewServer(serve(t, config(&stage{overview: busy()})))
	t.Cleanup(server.Close)
	v := open(t, chromium(t), server.URL)
	do(t, v, call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}), chromedp.Navigate(server.URL), chromedp.WaitVisible(chromedp.CSS("#answer")))
	if script[int](t, v, `document.querySelector(".actions").offsetHeight`) > 0 {
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
