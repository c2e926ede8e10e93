package gateway

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Config is what a gateway stands on.
type Config struct {
	Place   repo.Store // what it guards; the gateway alone should have its credentials
	Budget  Budget     // of every writer
	Deletes bool       // the vault may delete
	Revoked func(serial string) (bool, error)
	Clock   func() time.Time
	Log     *slog.Logger
}

// Handler returns the guard. It trusts the TLS connection that a request came by.
func Handler(cfg Config) http.Handler {
	g := &guard{cfg: cfg, busy: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+objectPath+"{name...}", g.put)
	mux.HandleFunc("GET "+objectPath+"{name...}", g.get)
	mux.HandleFunc("DELETE "+objectPath+"{name...}", g.delete)
	mux.HandleFunc("GET "+listPath, g.list)
	return g.admit(mux)
}

// tidyEvery is how often a gateway looks for what killed writers left behind it: only it
// has the place's credentials.
const tidyEvery = 24 * time.Hour

// Serve answers on a listener until ctx ends. identity is what seal.Certify made for the
// server. A client that sends slowly, or nothing, is cut off. At its start and once a day
// it removes files that a gateway or a machine before it, when it was killed, left
// half-written in the place.
func Serve(ctx context.Context, ln net.Listener, identity []byte, cfg Config) error {
	settings, err := seal.TLSConfig(identity)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	s := &http.Server{
		Handler: Handler(cfg), ReadHeaderTimeout: patience, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Shutdown(end) // who does not finish is cut off: nothing half is stored
		_ = s.Close()
	}()
	var tidy sync.WaitGroup
	serving, stop := context.WithCancel(ctx)
	tidy.Go(func() { cfg.tidy(serving) })
	defer tidy.Wait()
	defer stop()
	err = s.Serve(tls.NewListener(&few{Listener: ln, free: make(chan struct{}, MaxClients)}, settings))
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return err
}

// tidy removes what is half-written and old, again and again until ctx ends.
func (cfg Config) tidy(ctx context.Context) {
	for {
		switch n, err := repo.RemoveTemps(ctx, cfg.Place, cfg.Clock().Add(-repo.GarbageWait)); {
		case err != nil && ctx.Err() == nil:
			cfg.Log.Warn("half-written files stay", "err", err, "hint", holdfast.Hint(err))
		case n > 0:
			cfg.Log.Info("half-written files removed", "files", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tidyEvery):
		}
	}
}

// few limits the connections at once.
type few struct {
	net.Listener
	free chan struct{}
}

func (l *few) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, done: sync.OnceFunc(func() { <-l.free })}, nil
}

type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error { defer c.done(); return c.Conn.Close() }

type guard struct {
	cfg  Config
	mu   sync.Mutex
	busy map[string]int // requests by client
}

// A denial is why a request is refused, with its status.
type denial struct {
	status  int
	reason  string
	message string
}

func (d *denial) Error() string { return d.message }

type clientKey struct{}

func client(r *http.Request) seal.Peer { p, _ := r.Context().Value(clientKey{}).(seal.Peer); return p }

// admit knows the client, and lets it do what its role may.
func (g *guard) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := seal.PeerOf(r.TLS)
		if !ok || CheckRole(Role(p.Role)) != nil {
			g.refuse(w, r, &denial{http.StatusForbidden, reasonDenied, "no certificate with a role"})
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), clientKey{}, p))
		if revoked, err := g.cfg.Revoked(p.Serial); err != nil || revoked {
			// What cannot be looked up is not believed.
			g.refuse(w, r, &denial{http.StatusForbidden, reasonRevoked, fmt.Sprintf("the certificate of %q was taken back", p.Name)})
			return
		}
		if !may(Role(p.Role), r.Method, g.cfg.Deletes) {
			g.refuse(w, r, &denial{http.StatusForbidden, reasonDenied, fmt.Sprintf("a %s may not %s", p.Role, strings.ToLower(r.Method))})
			return
		}
		if !g.enter(p.Serial) {
			g.refuse(w, r, &denial{http.StatusTooManyRequests, reasonBusy, fmt.Sprintf("%q has %d requests at once", p.Name, MaxRequests)})
			return
		}
		defer g.leave(p.Serial)
		next.ServeHTTP(w, r)
	})
}

// may is the whole table of rights.
func may(role Role, method string, deletes bool) bool {
	switch method {
	case http.MethodPut:
		return role == Writer || role == Vault
	case http.MethodGet:
		return role == Reader || role == Vault
	case http.MethodDelete:
		return role == Vault && deletes
	}
	return false
}

func (g *guard) enter(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[id] >= MaxRequests {
		return false
	}
	g.busy[id]++
	return true
}

func (g *guard) leave(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[id]--; g.busy[id] == 0 {
		delete(g.busy, id)
	}
}

// put stores a body if nothing is there. Cut off anywhere, nothing is visible: the place
// behind the gateway promises that. An answer that is lost leaves the client not knowing;
// it puts again, and hears that the name is taken.
func (g *guard) put(w http.ResponseWriter, r *http.Request) {
	p, name, size := client(r), r.PathValue("name"), r.ContentLength
	want, herr := hex.DecodeString(r.Header.Get(hashHeader))
	switch {
	case location.CheckName(name) != nil, Role(p.Role) == Writer && !writerNames.MatchString(name):
		g.refuse(w, r, &denial{http.StatusBadRequest, reasonName, fmt.Sprintf("%.100q is no name that a %s may put", name, p.Role)})
		return
	case size < 0 || size > MaxObject:
		g.refuse(w, r, &denial{http.StatusRequestEntityTooLarge, reasonSize, fmt.Sprintf("a body of 0 to %d bytes, announced before", MaxObject)})
		return
	case herr != nil || len(want) != 32:
		g.refuse(w, r, &denial{http.StatusBadRequest, reasonSize, "the hash of the body is missing"})
		return
	}
	if Role(p.Role) == Writer {
		if err := g.cfg.Budget.Spend(p.Name, size, g.cfg.Clock()); err != nil {
			g.refuse(w, r, err)
			return
		}
	}
	// A body that trickles is cut off; so is an answer that nobody takes.
	limit := time.Now().Add(patience + time.Duration(size/minRate)*time.Second)
	rc := http.NewResponseController(w)
	if err := errors.Join(rc.SetReadDeadline(limit), rc.SetWriteDeadline(limit.Add(patience))); err != nil {
		g.refuse(w, r, err)
		return
	}
	body := &hashed{r: r.Body, sum: seal.NewHash(), want: want, left: size}
	err := g.cfg.Place.Put(r.Context(), name, size, body)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// hashed gives the last byte of a body only if all of them are what was announced.
type hashed struct {
	r   io.Reader
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	want []byte
	left int64
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	_, _ = h.sum.Write(p[:n]) // a hash never fails
	h.left -= int64(n)
	if h.left <= 0 && n > 0 && string(h.sum.Sum(nil)) != string(h.want) {
		return 0, fmt.Errorf("content is not what was announced: %w", location.ErrSize)
	}
	return n, err
}

func (g *guard) get(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	off, oerr := strconv.ParseInt(r.URL.Query().Get("off"), 10, 64)
	n, nerr := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if oerr != nil || nerr != nil || off < 0 {
		g.refuse(w, r, &denial{http.StatusRequestedRangeNotSatisfiable, reasonRange, "want off and n"})
		return
	}
	if err := location.CheckName(name); err != nil {
		g.refuse(w, r, err)
		return
	}
	body, err := g.cfg.Place.Get(r.Context(), name, off, n)
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	defer body.Close()
	// Objects are bounded, so a range is read whole before it is promised: a place that
	// ends early must not look like an object that ends there.
	limit := int64(MaxObject)
	if n >= 0 {
		limit = min(n, limit)
	}
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && n >= 0 && int64(len(b)) != n {
		err = &denial{http.StatusRequestedRangeNotSatisfiable, reasonRange, fmt.Sprintf("%q ends before that", name)}
	}
	if err == nil && int64(len(b)) > MaxObject {
		err = &denial{http.StatusRequestEntityTooLarge, reasonSize, fmt.Sprintf("%q is longer than %d bytes: ask for parts", name, MaxObject)}
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience + time.Duration(len(b)/minRate)*time.Second))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the reader went away, and knows
}

func (g *guard) delete(w http.ResponseWriter, r *http.Request) {
	p, name := client(r), r.PathValue("name")
	err := location.CheckName(name)
	if err == nil {
		err = g.cfg.Place.Delete(r.Context(), name)
	}
	if err != nil {
		g.refuse(w, r, err)
		return
	}
	g.cfg.Log.Info("deleted", "by", p.Name, "object", name)
	w.WriteHeader(http.StatusNoContent)
}

func (g *guard) list(w http.ResponseWriter, r *http.Request) {
	prefix := r.URL.Query().Get("prefix")
	rc := http.NewResponseController(w)
	e := json.NewEncoder(w)
	count := 0
	err := g.cfg.Place.List(r.Context(), prefix, func(o repo.Object) error {
		if count%1000 == 0 {
			if err := rc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
		}
		count++
		l := listed{Name: o.Name, Size: o.Size}
		if !o.Modified.IsZero() {
			l.Modified = &o.Modified
		}
		return e.Encode(l)
	})
	switch {
	case err != nil && count == 0:
		g.refuse(w, r, err)
	case err != nil:
		d := reasonOf(err)
		_ = e.Encode(listed{Failed: &refusal{d.reason, d.message}}) // without the end it failed anyhow
	default:
		_ = e.Encode(listed{End: true, Count: count})
	}
}

// refuse answers with a reason. What a writer is told shows nothing of the place.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	d := reasonOf(err)
	p := client(r)
	g.cfg.Log.Info("refused", "by", p.Name, "role", p.Role, "verb", r.Method, "object", r.URL.Path, "reason", d.reason, "err", err)
	if Role(p.Role) == Writer && d.status >= 500 {
		d.message = "the place behind the gateway could not take it"
	}
	b, jerr := json.Marshal(refusal{d.reason, d.message})
	if jerr != nil {
		b = nil
	}
	w.Header().Set("Content-Type", "application/json")
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // a body that nobody wants is not read to its end
	}
	w.WriteHeader(d.status)
	_, _ = w.Write(b)
}

func reasonOf(err error) *denial {
	if d, ok := errors.AsType[*denial](err); ok {
		return d
	}
	for _, k := range places {
		if errors.Is(err, k.err) {
			return &denial{k.status, k.reason, err.Error()}
		}
	}
	return &denial{http.StatusBadGateway, reasonFailed, err.Error()}
}

// places pairs the errors of a place with the words that travel. Both ends use it.
var places = []struct {
	err    error
	reason string
	status int
}{
	{location.ErrUnreachable, reasonUnready, http.StatusServiceUnavailable},
	{location.ErrFull, reasonFull, http.StatusInsufficientStorage},
	{location.ErrReadOnly, reasonReadOnly, http.StatusServiceUnavailable},
	{location.ErrLocked, reasonLocked, http.StatusLocked},
	{location.ErrDenied, reasonBehind, http.StatusBadGateway},
	{location.ErrOverwrites, reasonOverwrites, http.StatusBadGateway},
	{location.ErrName, reasonName, http.StatusBadRequest},
	{location.ErrSize, reasonSize, http.StatusBadRequest},
	{fs.ErrNotExist, reasonMissing, http.StatusNotFound},
	{fs.ErrExist, reasonExists, http.StatusConflict},
}
