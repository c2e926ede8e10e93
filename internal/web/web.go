package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/plan/render"
)

// Limits of a request.
const (
	MaxForm = 4 << 10 // bytes of a posted form
	MaxID   = 200     // bytes of an id in a path or a form
	MaxWait = 15 * time.Second
)

// DefaultRefresh is how often a page asks for its live part.
const DefaultRefresh = 5 * time.Second

// Config says what the pages show and what they may start.
type Config struct {
	Source   Source   // required
	Stories  Stories  // nil: no incidents and recoveries
	Commands Commands // nil: the pages only show

	// Access knows people and what they may do; nil: whoever reaches the pages may do
	// everything, and there is no log-in.
	Access *access.Module

	// Reviews lists what people owe, most urgent first; nil: no such page.
	Reviews func(ctx context.Context) ([]ReviewLine, error)

	// Links answers calls by links in messages; nil: no such page.
	Links Links

	// Jobs is the history of work; nil: no such page.
	Jobs func(ctx context.Context, now time.Time) (Jobs, error)

	// Copies are the offline copies of the plan; nil: no such page.
	Copies Copies

	// Coverage is what restore tests reached in the quarter of now; nil: it is not shown.
	Coverage func(ctx context.Context) (Coverage, error)

	// Policy is the internal edition of the plan in force; nil: no such page.
	Policy func() render.Document

	Clock   func() time.Time      // required: every page is made for an instant
	Zone    func() *time.Location // of the reader; nil is UTC
	Refresh time.Duration         // DefaultRefresh when zero; whole seconds, at least one
	Log     *slog.Logger          // nil discards

	// Hosts are the names under which the server is reached, without port.
	// Loopback names and literal addresses are always taken. Any other name is
	// refused: a foreign site whose name was pointed here would otherwise read
	// the pages in a visitor's browser.
	Hosts []string
}

type site struct {
	Config
	*routes
}

// Handler serves the pages. It is safe for concurrent use.
func Handler(c Config) (http.Handler, error) {
	s, err := newSite(c)
	if err != nil {
		return nil, err
	}
	// The refusals of the guard and of the mux look like every other page.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusForbidden, "Refused", "This request came from another site, so nothing was started.", "Open Holdfast itself and press the button there.")
	}))
	return s.headers(s.host(guard.Handler(http.HandlerFunc(s.route)))), nil
}

func newSite(c Config) (*site, error) {
	if c.Source == nil || c.Clock == nil {
		return nil, errors.New("web: Source and Clock are required")
	}
	if c.Zone == nil {
		c.Zone = func() *time.Location { return time.UTC }
	}
	if c.Refresh == 0 {
		c.Refresh = DefaultRefresh
	}
	c.Refresh = max(c.Refresh.Truncate(time.Second), time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &site{Config: c}
	s.routes = &routes{mux: http.NewServeMux(), enter: s.enter}
	s.on("GET /{$}", access.View, s.overview)
	s.on("GET /store/{id}", access.View, s.store)
	s.on("GET /drills", access.View, s.drills)
	s.on("GET /drills/{id}", access.View, s.drill)
	s.on("GET /incidents", access.View, s.incidents)
	s.on("GET /incidents/{id}", access.View, s.incident)
	s.on("GET /recoveries", access.View, s.recoveries)
	s.on("GET /recoveries/{id}", access.View, s.recovery)
	s.on("GET /jobs", access.View, s.jobs)
	s.on("GET /reviews", access.View, s.reviews)
	s.on("GET /offline", access.View, s.offline)
	s.on("POST /offline", access.Self, s.confirmCopy)
	s.on("GET /plan", access.Document, s.policy)
	s.on("POST /drills", access.Run, s.startDrill)
	s.on("POST /backups", access.Run, s.backUp)
	s.everybody("GET /ack/{secret}", s.ack)
	s.everybody("POST /ack/{secret}", s.ack)
	s.everybody("GET /assets/", serveAsset)
	if s.Access != nil {
		s.peopleRoutes()
	}
	return s, nil
}

// route answers what the mux does not know with our own page, keeping the status
// and the list of methods that the mux found.
func (s *site) route(w http.ResponseWriter, r *http.Request) {
	h, pattern := s.find(r)
	if pattern != "" {
		s.serve(w, r)
		return
	}
	refused := &refusal{header: http.Header{}}
	h.ServeHTTP(refused, r)
	if allow := refused.header.Get("Allow"); refused.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		s.problem(w, r, refused.status, "Not possible", "This address does not take "+r.Method+".", "")
		return
	}
	s.missing(w, r)
}

// A refusal keeps the status and header of an answer and drops its text.
type refusal struct {
	header http.Header
	status int
}

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) WriteHeader(status int)      { r.status = status }

// contentPolicy allows what the binary itself serves, and nothing else: no inline
// script or style, no other host, no frame.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func (s *site) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

func (s *site) host(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if h, _, err := net.SplitHostPort(r.Host); err == nil {
			name = h
		}
		name = strings.ToLower(strings.Trim(name, "[]"))
		if name != "localhost" && net.ParseIP(name) == nil && !slices.Contains(s.Hosts, name) {
			s.Log.Warn("request for an unknown host name refused", "host", name)
			http.Error(w, "holdfast: this host name is not one of this server's", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *site) frame(r *http.Request, section, title string, now time.Time) frame {
	f := frame{clock: clock{now, s.Zone()}, Reviews: s.Reviews != nil, Jobs: s.Jobs != nil, Copies: s.Copies != nil, Title: title, Section: section, Path: r.URL.EscapedPath(),
		Refresh: int(s.Refresh / time.Second), Version: holdfast.Version, Live: true}
	if s.Access != nil {
		f.Who, f.People = access.From(r.Context()), true
	}
	switch r.URL.Query().Get("started") {
	case "backup":
		f.Notice = "The backup has been asked for. It shows under Running as soon as it starts."
	case "drill":
		f.Notice = "The drill has been asked for."
	}
	return f
}

// render writes the page, or only its live part when the page asks for that. It
// renders into memory first, so that an error never ends as half a page.
func (s *site) render(w http.ResponseWriter, r *http.Request, status int, whole, part templ.Component) {
	c := whole
	if part != nil && r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-Request-Type") == "partial" {
		c = part
	}
	var b bytes.Buffer
	if err := c.Render(r.Context(), &b); err != nil {
		s.Log.Error("page not rendered", "path", r.URL.Path, "error", err)
		http.Error(w, "holdfast: this page could not be made; the log of the server says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Add("Vary", "HX-Request, HX-Request-Type")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a reader that has gone away needs no answer
}

func (s *site) problem(w http.ResponseWriter, r *http.Request, status int, title, text, hint string) {
	f := s.frame(r, "", title, s.Clock())
	f.Live = false
	s.render(w, r, status, problem(f, title, text, hint, ""), nil)
}

func (s *site) missing(w http.ResponseWriter, r *http.Request) {
	s.problem(w, r, http.StatusNotFound, "Not found", "There is nothing at this address. It may have been pruned, or the link was cut short.", "")
}

// fail answers an error. The browser sees text that was meant for it; everything
// else goes to the log under a reference that the page names.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, ErrNotFound) {
		s.missing(w, r)
		return
	}
	var public *PublicError
	if errors.As(err, &public) {
		status := http.StatusConflict
		if errors.Is(err, holdfast.ErrRefused) {
			status = http.StatusForbidden
		}
		s.Log.Info("request refused", "path", r.URL.Path, "error", err)
		s.problem(w, r, status, "Not done", public.Message, public.Hint)
		return
	}
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	ref := hex.EncodeToString(b[:])
	s.Log.Error("request failed", "reference", ref, "method", r.Method, "path", r.URL.Path, "error", err)
	f := s.frame(r, "", "Something went wrong", s.Clock())
	f.Live = false
	s.render(w, r, http.StatusInternalServerError, problem(f, "Something went wrong", "Holdfast could not make this page. Backups and drills do not depend on it.", "", ref), nil)
}

// within bounds how long a page may wait for its source.
func within(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), MaxWait)
}

func (s *site) overview(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	now := s.Clock()
	o, err := s.Source.Overview(ctx, now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, "overview", "Overview", now)
	s.render(w, r, http.StatusOK, overviewPage(f, o, s.may(r, access.Run)), overviewLive(f, o))
}

func (s *site) store(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	now := s.Clock()
	v, err := s.Source.Store(ctx, id, now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, "store", v.ID, now)
	s.render(w, r, http.StatusOK, storePage(f, v, s.may(r, access.Run)), storeLive(f, v))
}

func (s *site) drills(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	now := s.Clock()
	ds, err := s.Source.Drills(ctx, now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var k Coverage
	if s.Coverage != nil {
		if k, err = s.Coverage(ctx); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	f := s.frame(r, "drills", "Drills", now)
	s.render(w, r, http.StatusOK, drillsPage(f, ds, k), drillsLive(f, ds, k))
}

func (s *site) drill(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	now := s.Clock()
	d, err := s.Source.Drill(ctx, id, now)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, "drills", "Drill "+d.Name, now)
	f.Live = d.State == RunRunning || d.State == RunWaiting
	s.render(w, r, http.StatusOK, drillPage(f, d), drillLive(f, d))
}

func (s *site) incidents(w http.ResponseWriter, r *http.Request)  { s.stories(w, r, "incident") }
func (s *site) recoveries(w http.ResponseWriter, r *http.Request) { s.stories(w, r, "recovery") }
func (s *site) incident(w http.ResponseWriter, r *http.Request)   { s.story(w, r, "incident") }
func (s *site) recovery(w http.ResponseWriter, r *http.Request)   { s.story(w, r, "recovery") }

func (s *site) stories(w http.ResponseWriter, r *http.Request, kind string) {
	ctx, stop := within(r)
	defer stop()
	now := s.Clock()
	var ls []StoryLine
	var err error
	section, title := "incidents", "Incidents"
	if kind == "recovery" {
		section, title = "recoveries", "Recoveries"
	}
	switch {
	case s.Stories == nil:
	case kind == "recovery":
		ls, err = s.Stories.Recoveries(ctx, now)
	default:
		ls, err = s.Stories.Incidents(ctx, now)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, section, title, now)
	s.render(w, r, http.StatusOK, storiesPage(f, kind, ls), storiesLive(f, kind, ls))
}

func (s *site) story(w http.ResponseWriter, r *http.Request, kind string) {
	ctx, stop := within(r)
	defer stop()
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	now := s.Clock()
	v, err := Story{}, ErrNotFound
	section := "incidents"
	if kind == "recovery" {
		section = "recoveries"
	}
	switch {
	case s.Stories == nil:
	case kind == "recovery":
		v, err = s.Stories.Recovery(ctx, id, now)
	default:
		v, err = s.Stories.Incident(ctx, id, now)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := s.frame(r, section, v.Title, now)
	f.Live = v.Open
	s.render(w, r, http.StatusOK, storyPage(f, v), storyLive(f, v))
}

// id reads the id of the path; one that cannot be an id is simply not found.
func (s *site) id(w http.ResponseWriter, r *http.Request) (string, bool) {
	id := r.PathValue("id")
	if id == "" || len(id) > MaxID {
		s.missing(w, r)
		return "", false
	}
	return id, true
}

// field reads one field of a posted form.
func (s *site) field(w http.ResponseWriter, r *http.Request, name string) (string, bool) {
	if s.Commands == nil {
		s.problem(w, r, http.StatusForbidden, "Not possible here", "These pages only show; they cannot start anything.", "use the command line on the server: holdfast drill, holdfast backup")
		return "", false
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	if err := r.ParseForm(); err != nil {
		s.problem(w, r, http.StatusBadRequest, "Not understood", "The form was too large or damaged.", "")
		return "", false
	}
	v := r.PostForm.Get(name)
	if v == "" || len(v) > MaxID {
		s.problem(w, r, http.StatusBadRequest, "Not understood", fmt.Sprintf("The form names no %s.", name), "go back and choose one")
		return "", false
	}
	return v, true
}

func (s *site) startDrill(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	name, ok := s.field(w, r, "drill")
	if !ok {
		return
	}
	id, err := s.Commands.StartDrill(ctx, name, s.Clock())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/drills/"+url.PathEscape(id)+"?started=drill", http.StatusSeeOther)
}

func (s *site) backUp(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	store, ok := s.field(w, r, "store")
	if !ok {
		return
	}
	if err := s.Commands.BackUp(ctx, store, s.Clock()); err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, "/store/"+url.PathEscape(store)+"?started=backup", http.StatusSeeOther)
}
