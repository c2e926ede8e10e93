package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan/render"
)

func serve(t *testing.T, c Config) http.Handler {
	t.Helper()
	h, err := Handler(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, method, target string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "127.0.0.1:8080"
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func post(h http.Handler, target, form string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", target, strings.NewReader(form))
	r.Host = "127.0.0.1:8080"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestStatuses(t *testing.T) {
	h := serve(t, config(&stage{overview: busy()}))
	tests := []struct {
		method, target string
		status         int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/drills", 200}, {"GET", "/drills/118", 200}, {"GET", "/store/orders-db", 200},
		{"GET", "/incidents", 200}, {"GET", "/incidents/31", 200}, {"GET", "/recoveries", 200}, {"GET", "/recoveries/9", 200}, {"GET", "/plan", 200}, {"GET", "/plan/x", 404}, {"POST", "/plan", 405},
		{"GET", "/nothing", 404}, {"GET", "/drills/999", 404}, {"GET", "/store/none", 404}, {"GET", "/incidents/9", 404}, {"GET", "/recoveries/31", 404},
		{"GET", "/drills/118/more", 404}, {"GET", "/drills/" + strings.Repeat("a", MaxID+1), 404}, {"GET", "/assets/app.css", 404}, {"GET", "/assets/../web.go", 404},
		{"PUT", "/drills", 405}, {"DELETE", "/drills/118", 405}, {"POST", "/", 405}, {"GET", "/backups", 405},
	}
	for _, tt := range tests {
		w := get(h, tt.method, tt.target)
		if w.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.target, w.Code, tt.status)
		}
		if tt.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", tt.method, tt.target)
		}
		if w.Header().Get("Content-Security-Policy") != contentPolicy {
			t.Errorf("%s %s: no content security policy", tt.method, tt.target)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := serve(t, config(&stage{overview: busy()}))
	w := get(h, "GET", "/")
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if strings.Contains(contentPolicy, "unsafe") {
		t.Error("the policy allows something unsafe")
	}
	if w := get(h, "GET", "/", func(r *http.Request) { r.TLS = &tls.ConnectionState{} }); w.Header().Get("Strict-Transport-Security") == "" {
		t.Error("no Strict-Transport-Security over TLS")
	}
}

func TestAssets(t *testing.T) {
	h := serve(t, config(&stage{}))
	for name := range assetsByName {
		w := get(h, "GET", asset(name))
		if w.Code != 200 || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	if css := get(h, "GET", asset("app.css")).Body.String(); !strings.Contains(css, asset("inter.woff2")) {
		t.Error("the style does not name the hashed typeface")
	}
}

// The live part that a page asks for is, byte for byte, a piece of the page.
func TestFragmentIsPartOfPage(t *testing.T) {
	h := serve(t, config(&stage{overview: busy()}))
	for _, path := range []string{"/", "/drills", "/drills/119", "/store/orders-db", "/incidents", "/incidents/31", "/recoveries/9"} {
		page := get(h, "GET", path).Body.String()
		w := get(h, "GET", path, func(r *http.Request) {
			r.Header.Set("HX-Request", "true")
			r.Header.Set("HX-Request-Type", "partial")
		})
		part := w.Body.String()
		if !strings.HasPrefix(part, `<div id="live"`) || !strings.Contains(page, part) {
			t.Errorf("%s: the fragment is not a part of the page", path)
		}
		if !strings.Contains(w.Header().Get("Vary"), "HX-Request") {
			t.Errorf("%s: Vary %q", path, w.Header().Get("Vary"))
		}
	}
}

func TestFinishedPagesDoNotPoll(t *testing.T) {
	h := serve(t, config(&stage{}))
	if s := get(h, "GET", "/drills/118").Body.String(); strings.Contains(s, "hx-get") {
		t.Error("a finished drill asks for news")
	}
	if s := get(h, "GET", "/drills/119").Body.String(); !strings.Contains(s, `hx-get="/drills/119"`) {
		t.Error("a running drill does not ask for news")
	}
}

func TestForms(t *testing.T) {
	s := &stage{overview: busy()}
	h := serve(t, config(s))
	if w := post(h, "/drills", "drill=orders-db-monthly"); w.Code != 303 || w.Header().Get("Location") != "/drills/119?started=drill" {
		t.Errorf("drill: %d %s", w.Code, w.Header().Get("Location"))
	}
	if w := post(h, "/backups", "store=orders-db"); w.Code != 303 || w.Header().Get("Location") != "/store/orders-db?started=backup" {
		t.Errorf("backup: %d %s", w.Code, w.Header().Get("Location"))
	}
	if got := strings.Join(s.asked(), "; "); got != "drill orders-db-monthly; backup orders-db" {
		t.Errorf("asked for %q", got)
	}
	for _, form := range []string{"", "drill=", "drill=" + strings.Repeat("x", MaxID+1), "drill=" + strings.Repeat("x", MaxForm), "%zz"} {
		if w := post(h, "/drills", form); w.Code != 400 {
			t.Errorf("%.20q: %d", form, w.Code)
		}
	}
	if w := post(h, "/drills?drill=orders-db", ""); w.Code != 400 {
		t.Errorf("a drill named in the address only: %d", w.Code)
	}
	if n := len(s.asked()); n != 2 {
		t.Errorf("%d things were started, want 2", n)
	}
	if body := get(h, "GET", "/store/orders-db?started=backup").Body.String(); !strings.Contains(body, "has been asked for") {
		t.Error("no notice after the redirect")
	}
}

// A page of another site must not start anything in a visitor's browser.
func TestForeignOriginIsRefused(t *testing.T) {
	s := &stage{overview: busy()}
	h := serve(t, config(s))
	for name, change := range map[string]func(*http.Request){
		"fetch metadata": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"same site":      func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"origin":         func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"null origin":    func(r *http.Request) { r.Header.Set("Origin", "null") },
	} {
		w := post(h, "/backups", "store=orders-db", change)
		if w.Code != 403 || !strings.Contains(w.Body.String(), "another site") {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if got := s.asked(); len(got) != 0 {
		t.Errorf("started %v", got)
	}
	if w := post(h, "/backups", "store=orders-db", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }); w.Code != 303 {
		t.Errorf("own page: %d", w.Code)
	}
}

// A name that somebody else points at this address must not read the pages.
func TestForeignHostIsRefused(t *testing.T) {
	c := config(&stage{overview: busy()})
	c.Hosts = []string{"backup.example.org"}
	h := serve(t, c)
	for host, status := range map[string]int{
		"evil.example:8080": 421, "127.0.0.1.evil.example": 421, "": 421,
		"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "backup.example.org:443": 200, "BACKUP.example.org": 200,
	} {
		if w := get(h, "GET", "/", func(r *http.Request) { r.Host = host }); w.Code != status {
			t.Errorf("host %q: %d, want %d", host, w.Code, status)
		}
	}
}

func TestHostileIDs(t *testing.T) {
	o := busy()
	o.Stores[0].ID, o.Services[0].ID, o.Graph.Nodes[0].ID, o.Findings[0].Message = hostile, hostile, hostile, hostile
	o.Work[0].Href, o.Work[1].Href = "javascript:alert(1)", "//evil.example/"
	h := serve(t, config(&stage{overview: o}))
	for _, path := range []string{"/", "/drills/" + url.PathEscape(hostile), "/store/" + url.PathEscape(hostile)} {
		w := get(h, "GET", path)
		body := w.Body.String()
		if w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
		for _, s := range []string{"<script>alert", "javascript:", "//evil.example"} {
			if strings.Contains(body, s) {
				t.Errorf("%s: contains %q", path, s)
			}
		}
	}
	if s := get(h, "GET", "/incidents/31").Body.String(); strings.Contains(s, "evil.example") {
		t.Error("a link leads to another site")
	}
}

// What was not meant for a browser stays in the log, under the reference that the
// page names.
func TestErrors(t *testing.T) {
	var log strings.Builder
	s := &stage{err: fmt.Errorf("open /var/lib/holdfast/state.db: %w", errors.New("secret detail"))}
	c := config(s)
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	h := serve(t, c)
	w := get(h, "GET", "/")
	body := w.Body.String()
	if w.Code != 500 || strings.Contains(body, "secret") || strings.Contains(body, "/var/lib") {
		t.Errorf("%d: %s", w.Code, body)
	}
	_, rest, _ := strings.Cut(body, "Reference <code>")
	ref, _, found := strings.Cut(rest, "</code>")
	if !found || !strings.Contains(log.String(), ref) || !strings.Contains(log.String(), "secret detail") {
		t.Errorf("reference %q is not in the log: %s", ref, log.String())
	}

	s.set(func(s *stage) {
		s.err, s.overview = nil, busy()
		s.refuse = &PublicError{Message: `a drill of "orders-db" is already running`, Hint: "wait for it", Err: errors.New("secret detail")}
	})
	w = post(h, "/drills", "drill=orders-db")
	if body := w.Body.String(); w.Code != 409 || !strings.Contains(body, "already running") || !strings.Contains(body, "wait for it") || strings.Contains(body, "secret") {
		t.Errorf("%d: %s", w.Code, body)
	}
	s.set(func(s *stage) { s.refuse = &PublicError{Message: "needs an approval", Err: holdfast.ErrRefused} })
	if w := post(h, "/backups", "store=orders-db"); w.Code != 403 {
		t.Errorf("refused by policy: %d", w.Code)
	}
}

func TestReadOnly(t *testing.T) {
	c := config(&stage{overview: busy()})
	c.Commands, c.Stories = nil, nil
	h := serve(t, c)
	if s := get(h, "GET", "/").Body.String(); strings.Contains(s, "<form") {
		t.Error("a page that can start nothing shows a form")
	}
	if w := post(h, "/drills", "drill=orders-db"); w.Code != 403 {
		t.Errorf("drill: %d", w.Code)
	}
	if w := get(h, "GET", "/incidents/31"); w.Code != 404 {
		t.Errorf("incident: %d", w.Code)
	}
	if w := get(h, "GET", "/incidents"); w.Code != 200 {
		t.Errorf("incidents: %d", w.Code)
	}
}

func TestHandlerNeedsItsParts(t *testing.T) {
	if _, err := Handler(Config{}); err == nil {
		t.Error("no source, no clock, and no error")
	}
}

// A source that never answers must not hold a visitor for ever: the context that
// it receives ends.
func TestSourceGetsADeadline(t *testing.T) {
	src := &deadline{stage: &stage{overview: busy()}}
	c := config(src.stage)
	c.Source = src
	if w := get(serve(t, c), "GET", "/"); w.Code != 200 || !src.had {
		t.Errorf("%d, deadline %t", w.Code, src.had)
	}
}

type deadline struct {
	*stage
	had bool
}

func (d *deadline) Overview(ctx context.Context, now time.Time) (Overview, error) {
	_, d.had = ctx.Deadline()
	return d.stage.Overview(ctx, now)
}

// The policy shows every section of the document with the plan that it was made
// from, and what the plan holds stays text.
func TestPolicy(t *testing.T) {
	d := policy()
	body := get(serve(t, config(&stage{})), "GET", "/plan").Body.String()
	for _, s := range d.Sections {
		if !strings.Contains(body, `<section class="card" id="`+s.ID+`"`) || !strings.Contains(body, `<a href="#`+s.ID+`">`) {
			t.Errorf("the section %s is not on the page", s.ID)
		}
	}
	if n := strings.Count(body, render.Plain(d.Stamp)); n != len(d.Sections)+1 {
		t.Errorf("the plan is named %d times for %d sections", n, len(d.Sections))
	}
	if strings.Contains(body, "<Sons>") || !strings.Contains(body, "&lt;Sons&gt;") || !strings.Contains(body, `aria-current="page"`) {
		t.Error("a name of the plan became an element, or the page is not marked in the navigation")
	}
	c := config(&stage{})
	c.Policy = nil
	if w := get(serve(t, c), "GET", "/plan"); w.Code != 404 {
		t.Errorf("without a policy: %d", w.Code)
	}
}
