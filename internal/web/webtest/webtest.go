// Package webtest looks at pages in a real browser, and hears everything that goes
// wrong in it. What it needs and does not find fails the test.
package webtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience bounds each visit; a page that needs it has failed.
const Patience = time.Minute

// Chromium starts one browser for a test. Its switches keep it from talking to
// anybody but the page.
func Chromium(t *testing.T) context.Context {
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

// A Visit is one tab, and all that went wrong in it.
type Visit struct {
	context.Context
	mu    sync.Mutex
	wrong []string
	urls  []string
}

func (v *Visit) heard(url string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.urls = append(v.urls, url)
}

// Answers counts the answers that came for a path.
func (v *Visit) Answers(path string) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, u := range v.urls {
		if p, err := url.Parse(u); err == nil && p.Path == path {
			n++
		}
	}
	return n
}

func (v *Visit) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// Complaints are everything that went wrong so far.
func (v *Visit) Complaints() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.wrong...)
}

// Open makes a tab that notes console messages, exceptions, failed answers and
// every request to another host.
func Open(t *testing.T, browser context.Context, server string) *Visit {
	t.Helper()
	return OpenFor(t, browser, server, Patience)
}

// OpenFor is Open for a visit of many pages.
func OpenFor(t *testing.T, browser context.Context, server string, within time.Duration) *Visit {
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
	ctx, end := context.WithTimeout(tab, within)
	t.Cleanup(end)
	v := &Visit{Context: ctx}
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
	Do(t, v, Call(network.Enable, network.EnableParams{}), Call(log.Enable, cdp.Empty{}), Call(runtime.Enable, cdp.Empty{}))
	return v
}

// Call makes an action of a command of the browser.
func Call[P, R any](c cdp.Command[P, R], p P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, p)
		return err
	})
}

// Do runs actions, each of which must succeed.
func Do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// Ask runs an action that answers something.
func Ask[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Script evaluates an expression in the page.
func Script[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	return Ask(t, ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Scheme makes the page light or dark, and still.
func Scheme(name string) chromedp.Action[chromedp.Void] {
	return Call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// Screenshot keeps the page as people see it, if a folder for it is named.
func Screenshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return
	}
	b := Ask(t, ctx, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Views are the looks in which every page is seen.
var Views = []struct {
	Name          string
	Width, Height int64
	Scheme        string
}{{"light", 1440, 900, "light"}, {"dark", 1440, 900, "dark"}, {"phone", 375, 812, "light"}, {"phone-dark", 375, 812, "dark"}}

const axeRun = `axe.run(document, {resultTypes: ["violations"], runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}})
	.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + n.target.join(" ") + " — " + (n.any[0]?.message || v.help))))`

// checker is axe-core, the accessibility checker that runs in the page.
func checker(t *testing.T) string {
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

// Look checks the page that the tab shows: its typeface is there, it is no wider
// than the screen, nobody is shut out, and nothing went wrong on the way.
func Look(t *testing.T, v *Visit, name string) {
	t.Helper()
	if !Script[bool](t, v, `document.fonts.ready.then(() => document.fonts.check("16px Inter"))`) {
		t.Errorf("%s: the typeface was not loaded", name)
	}
	if wide := Script[int](t, v, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		t.Errorf("%s: the page is %d px wider than the screen", name, wide)
	}
	Screenshot(t, v, name)
	Script[int](t, v, checker(t)+";0")
	for _, s := range Script[[]string](t, v, axeRun) {
		t.Errorf("%s: accessibility: %s", name, s)
	}
	for _, s := range v.Complaints() {
		t.Errorf("%s: %s", name, s)
	}
}
