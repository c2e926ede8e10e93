package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/notify"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// A Watch stands on another machine than the server, hears its heartbeat, and tells people
// when it stops. It has a copy of the plan, with the channels and their secrets, and
// nothing else of the server's: no keys and no state.
//
// A heartbeat counts when it is signed with the secret that both know, and is newer than
// the newest before: one that somebody recorded keeps nobody quiet.
//
// What it knows is in one small file, written before anybody is told: after a crash the
// same silence is told with the same ids, and only to whom it was not told yet.
type Watch struct {
	plan   *plan.Plan
	secret seal.HookSecret
	within time.Duration
	path   string
	clock  func() time.Time
	log    *slog.Logger

	mu    sync.Mutex
	heard heard
}

// heard is what a watch knows.
type heard struct {
	Last   time.Time `json:"last"` // when the newest heartbeat was sent; at first, since when we listen
	Any    bool      `json:"any"`  // there was one at all
	Silent time.Time `json:"silent,omitzero"`
	// Told are the people who know of the silence, Again those who are still to be told
	// that it is over.
	Told  []string `json:"told,omitempty"`
	Again []string `json:"again,omitempty"`
}

// Limits of a watch.
const (
	maxBeat    = 64 << 10         // bytes of one request
	watchRetry = 15 * time.Second // between attempts to tell people
)

// silentAfter is how long silence lasts before it is told, where nobody says otherwise:
// three heartbeats that did not come.
func silentAfter(h *plan.Heartbeat) time.Duration {
	every := h.Every.Approx()
	if every <= 0 {
		every = time.Minute
	}
	return 3 * every
}

// NewWatch prepares a watch. within is how long silence may last; zero: three heartbeats.
// path is the file in which it keeps what it knows.
func NewWatch(p *plan.Plan, path string, within time.Duration, clock func() time.Time, log *slog.Logger) (*Watch, error) {
	if p.Messages == nil || p.Messages.Heartbeat == nil || p.Messages.Heartbeat.Webhook.SecretFile == "" {
		return nil, holdfast.WithHint(fmt.Errorf("the plan declares no heartbeat that can be told from a forged one: %w", holdfast.ErrUsage),
			"write messages.heartbeat with webhook.url (this watch) and webhook.secret_file (on both machines) into the plan")
	}
	if len(Reachable(p, leads(p)...)) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("the plan names nobody whom a channel reaches: %w", holdfast.ErrUsage), "declare messages.channels, and an email for the incident commander")
	}
	text, err := readSecret(p.Resolve(p.Messages.Heartbeat.Webhook.SecretFile))
	if err != nil {
		return nil, err
	}
	w := &Watch{plan: p, path: path, within: within, clock: clock, log: log}
	if w.secret, err = seal.ParseHookSecret(text); err != nil {
		return nil, err
	}
	if w.within <= 0 {
		w.within = silentAfter(p.Messages.Heartbeat)
	}
	w.heard.Last = clock()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, w.keep()
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &w.heard); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "remove the file: the watch then begins anew")
	}
	return w, nil
}

// keep writes down what is known. Whoever calls it holds the lock or is alone.
func (w *Watch) keep() error {
	b, err := json.Marshal(w.heard)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, w.path, append(b, '\n'), 0o600)
}

// ServeHTTP hears a heartbeat.
func (w *Watch) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		http.Error(rw, "a heartbeat is posted", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBeat))
	if err != nil {
		http.Error(rw, "the request is too long", http.StatusRequestEntityTooLarge)
		return
	}
	at := r.Header.Get("webhook-timestamp")
	if err := w.secret.Verify(r.Header.Get("webhook-id"), at, r.Header.Get("webhook-signature"), body, w.clock()); err != nil {
		w.log.Warn("a heartbeat that does not count", "from", r.RemoteAddr, "err", err)
		http.Error(rw, "the signature does not verify", http.StatusForbidden)
		return
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		http.Error(rw, "the signature does not verify", http.StatusForbidden)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := time.Unix(seconds, 0).UTC()
	if w.heard.Any && !sent.After(w.heard.Last) {
		return // a repetition: it is no news, and no harm
	}
	w.heard.Last, w.heard.Any = sent, true
	if !w.heard.Silent.IsZero() {
		w.log.Info("the server is heard again", "silent_since", w.heard.Silent)
		w.heard.Silent, w.heard.Again, w.heard.Told = time.Time{}, w.heard.Told, nil
		if err := w.keep(); err != nil {
			w.log.Error("what was heard is not written down", "err", err)
		}
	}
}

// Run looks for silence until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var tried time.Time
	for {
		if waits := w.look(); waits && time.Since(tried) >= watchRetry {
			tried = time.Now()
			w.tell(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look notices silence, and reports whether somebody is to be told something.
func (w *Watch) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock()
	// A little more than a second may lie between what is sent and what we call now.
	if w.heard.Silent.IsZero() && now.Sub(w.heard.Last) > w.within {
		w.log.Error("the server is silent", "last", w.heard.Last)
		w.heard.Silent, w.heard.Again = w.heard.Last, nil
		if err := w.keep(); err != nil {
			w.log.Error("the silence is not written down", "err", err)
		}
	}
	return len(w.heard.Again) > 0 || !w.heard.Silent.IsZero() && len(w.heard.Told) < len(Reachable(w.plan, leads(w.plan)...))
}

// tell tells everybody who does not know yet: all leads at once, since nobody is left who
// could escalate.
func (w *Watch) tell(ctx context.Context) {
	w.mu.Lock()
	now := w.heard
	w.mu.Unlock()
	m := notify.Message{Kind: "heartbeat.stopped", At: now.Silent, Urgent: true, Subject: "URGENT: the Holdfast server is silent",
		Text: fmt.Sprintf("No heartbeat of the Holdfast server has arrived since %s.\n\nWhile it is away nothing is backed up by it, no drill runs and nobody is called for anything else.\n"+
			"Look at the machine that it runs on; \"holdfast status\" there says what it missed.\n", now.Silent.UTC().Format(time.RFC3339))}
	who, id := Reachable(w.plan, leads(w.plan)...), fmt.Sprintf("silent-%d", now.Silent.Unix())
	if now.Silent.IsZero() {
		m = notify.Message{Kind: "heartbeat.again", At: now.Last, Subject: "over: the Holdfast server is heard again", Text: fmt.Sprintf("A heartbeat arrived at %s.\n", now.Last.UTC().Format(time.RFC3339))}
		who, id = slices.Clone(now.Again), fmt.Sprintf("again-%d", now.Last.Unix())
	}
	for _, person := range who {
		if !now.Silent.IsZero() && slices.Contains(now.Told, person) {
			continue
		}
		m.ID = id + "-" + person
		if err := w.send(ctx, person, m); err != nil {
			w.log.Error("not told yet", "person", person, "err", err)
			continue
		}
		w.mu.Lock()
		switch {
		case now.Silent.IsZero():
			w.heard.Again = slices.DeleteFunc(w.heard.Again, func(p string) bool { return p == person })
		case w.heard.Silent.Equal(now.Silent):
			w.heard.Told = append(w.heard.Told, person)
		default: // it is over meanwhile
			w.heard.Again = append(w.heard.Again, person)
		}
		err := w.keep()
		w.mu.Unlock()
		if err != nil {
			w.log.Error("who was told is not written down", "err", err)
		}
	}
}

// send hands a message to the first channel that takes it.
func (w *Watch) send(ctx context.Context, person string, m notify.Message) error {
	var errs []error
	for _, name := range w.plan.Tellers() {
		err := func() (err error) {
			if m.To, m.Name, err = ReceiverOf(w.plan, person, name); err != nil {
				return err
			}
			ch, err := OpenChannel(w.plan, w.plan.Messages.Channels[name], w.clock)
			if err != nil {
				return err
			}
			_, err = ch.Send(ctx, m)
			return err
		}()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("channel %q: %w", name, err))
	}
	return errors.Join(errs...)
}
