package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/api"
	"holdfast/internal/web"
)

// DefaultAddress is where the page is served.
const DefaultAddress = "127.0.0.1:7878"

// Listen says where a server listens.
type Listen struct {
	Socket  bool   // on the workspace's socket, for commands
	Address string // "" for none
	// Cert and Key are files of a certificate and its key, as PEM. Without them only
	// loopback addresses are served. They are read again when they change.
	Cert, Key string
	// Hosts are the names under which browsers reach the server, beside those of the
	// certificate. Passkeys are bound to the name.
	Hosts []string
}

// A Server answers requests until it is stopped.
type Server struct {
	http      *http.Server
	listeners []net.Listener
	url       string
}

// URL is the address of the web page; empty without one.
func (s *Server) URL() string { return s.url }

// Serve starts the work and the listeners.
func (a *App) Serve(ctx context.Context, l Listen) (*Server, error) {
	certs, err := a.certificates(l)
	if err != nil {
		return nil, err
	}
	p := pages{a, &pace{}}
	pages, err := web.Handler(web.Config{Source: p, Stories: p, Commands: p, Access: a.Access, Policy: p.Policy, Reviews: p.Reviews, Jobs: p.Jobs, Links: p, Copies: p, Coverage: p.Coverage, Clock: a.opt.Clock, Zone: func() *time.Location { return a.Plan().Location() }, Log: a.opt.Log, Hosts: append(certs.names(), l.Hosts...)})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	// The same protection as for the pages: a foreign site must not start work
	// through a visitor's browser.
	mux.Handle("/api/", http.NewCrossOriginProtection().Handler(api.New(api.Config{
		Access: a.Access, Core: a, People: a, Jobs: a.Jobs, Drills: a.Drills, Incidents: a.Incidents, Recoveries: a.Recoveries, Custody: a, Offline: a, Kit: a, Vault: a, Governance: a, WritesBack: a, Messages: a.Messages, Calls: a.Calls, Callers: a, Runner: a, Reporter: a,
	})))
	mux.Handle("GET /metrics", a.metrics())
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.Handle("/", pages)
	s := &Server{http: &http.Server{Handler: a.Access.Identify(mux), ConnContext: access.KeepConn, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(a.opt.Log.Handler(), slog.LevelDebug)}}
	if err := s.listen(ctx, a, l, certs); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := a.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	for _, ln := range s.listeners {
		go func() {
			if err := s.http.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
				a.opt.Log.Error("listener ended", "address", ln.Addr(), "err", err)
			}
		}()
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, a *App, l Listen, certs *certificates) error {
	w := a.opt.Workspace
	var lc net.ListenConfig
	if l.Socket {
		// We hold the lock of the state, so a socket that is there belongs to a
		// process that was killed.
		if err := os.Remove(w.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		ln, err := lc.Listen(ctx, "unix", w.Socket())
		if err != nil {
			return holdfast.WithHint(err, "the path of a socket is limited to about 100 characters: a workspace with a shorter path helps")
		}
		s.listeners = append(s.listeners, ln)
		if err := os.Chmod(w.Socket(), 0o600); err != nil {
			return err
		}
	}
	if l.Address != "" {
		if err := a.mayListen(l); err != nil {
			return err
		}
		ln, err := lc.Listen(ctx, "tcp", l.Address)
		if err != nil {
			return holdfast.WithHint(err, "another program has that port: choose another one with --listen 127.0.0.1:PORT")
		}
		s.url = "http://" + ln.Addr().String()
		if certs != nil {
			ln, s.url = tls.NewListener(ln, certs.config()), certs.url(ln.Addr())
		}
		s.listeners = append(s.listeners, ln)
	}
	return nil
}

// mayListen refuses addresses that others can reach, unless they must say who they are
// and nobody on the way can listen.
func (a *App) mayListen(l Listen) error {
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil {
		return holdfast.WithHint(fmt.Errorf("%w: %w", err, holdfast.ErrUsage), "write an address and a port, for example %s", DefaultAddress)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if !a.Access.Known() {
		return holdfast.WithHint(fmt.Errorf("listening on %q is refused: nobody is known, so there is no log-in yet, and anybody there could start work: %w", l.Address, holdfast.ErrRefused),
			"listen on 127.0.0.1 (and reach it through SSH: ssh -L 7878:127.0.0.1:7878 this-host), or let somebody in first: holdfast access invite NAME --role administrator")
	}
	if l.Cert == "" {
		return holdfast.WithHint(fmt.Errorf("listening on %q is refused without TLS: passwords and backups would cross the network in the clear: %w", l.Address, holdfast.ErrRefused),
			"give it a certificate: --tls-cert FILE --tls-key FILE")
	}
	return nil
}

// Stop ends the listeners and waits for requests that are being answered.
func (s *Server) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	for _, l := range s.listeners {
		if cerr := l.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) && !strings.Contains(cerr.Error(), "no such file") {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
