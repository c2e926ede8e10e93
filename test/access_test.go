package test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"holdfast/internal/web/webtest"
)

const secretPhrase = "four random words here"

// A visitor is a person at a browser without scripts.
type visitor struct {
	t      *testing.T
	name   string
	base   string
	client *http.Client
	seed   string
	codes  []string
	ahead  time.Duration // of the server's clock
	last   int64         // the step of the last code: each admits once
}

func newVisitor(t *testing.T, name, base string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, name: name, base: base, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// code is the one-time code of RFC 6238 that an app shows next.
func (v *visitor) code() string {
	v.t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(v.seed)
	if err != nil {
		v.t.Fatal(err)
	}
	// The server takes the code of the next half minute too, so two log-ins need not
	// wait for each other.
	step := max(time.Now().Add(v.ahead).Unix()/30, v.last+1)
	until(v.t, "the next half minute", func() bool { return step <= time.Now().Add(v.ahead).Unix()/30+1 })
	v.last = step
	mac := hmac.New(sha1.New, key)
	mac.Write(big.NewInt(step).FillBytes(make([]byte, 8)))
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", new(big.Int).SetBytes(sum[sum[19]&15:][:4]).Int64()&0x7fffffff%1000000)
}

// post sends a form and returns what came of it.
func (v *visitor) post(path string, form url.Values) (status int, body string) {
	v.t.Helper()
	res, err := v.client.PostForm(v.base+path, form)
	if err != nil {
		v.t.Fatal(err)
	}
	return answerOf(v.t, res)
}

func (v *visitor) get(path string) (status int, body string) {
	v.t.Helper()
	res, err := v.client.Get(v.base + path)
	if err != nil {
		v.t.Fatal(err)
	}
	return answerOf(v.t, res)
}

func answerOf(t *testing.T, res *http.Response) (int, string) {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// call asks the API as a script of the page would, or with a token.
func (v *visitor) call(method, path, token string, in any) (status int, body string) {
	v.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		v.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.base+path, bytes.NewReader(b))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	return answerOf(v.t, res)
}

var (
	seedOnPage  = regexp.MustCompile(`<code id="seed">([A-Z2-7]+)</code>`)
	codesOnPage = regexp.MustCompile(`<li><code>([a-z2-7-]+)</code></li>`)
)

// enrol follows a link with a password and a code.
func (v *visitor) enrol(path string) {
	v.t.Helper()
	status, body := v.post(path, url.Values{"person": {v.name}, "password": {secretPhrase}})
	m := seedOnPage.FindStringSubmatch(body)
	if status != 200 || m == nil {
		v.t.Fatalf("%s cannot choose a password: %d %s", v.name, status, body)
	}
	v.seed = m[1]
	status, body = v.post(path+"/code", url.Values{"code": {v.code()}})
	for _, c := range codesOnPage.FindAllStringSubmatch(body, -1) {
		v.codes = append(v.codes, c[1])
	}
	if status != 200 || len(v.codes) != 10 {
		v.t.Fatalf("%s does not get in with a code: %d %s", v.name, status, body)
	}
}

func (v *visitor) logIn(password, code string) (status int, body string) {
	v.t.Helper()
	return v.post("/login", url.Values{"person": {v.name}, "password": {password}, "code": {code}})
}

// serveWith starts the server with a clock and more arguments.
func serveWith(t *testing.T, dir, clock string, more ...string) *serving {
	t.Helper()
	s := &serving{out: &output{}, err: &output{}, gone: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"--dir", dir, "serve"}, more...)...)
	s.cmd.Env = append(os.Environ(), "HOLDFAST_DIR=", "HOLDFAST_STATE=", "HOLDFAST_CLOCK="+clock)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.err
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in ProcessState
		close(s.gone)
	}()
	t.Cleanup(func() { s.stop(t) })
	until(t, "the server to answer", func() bool {
		select {
		case <-s.gone:
			t.Fatalf("the server ended: %s", s.err)
		default:
		}
		_, u, ok := strings.Cut(s.out.String(), "page at ")
		s.url = strings.TrimSpace(u)
		return ok
	})
	return s
}

// firstLink is where the first administrator enrols.
func (s *serving) firstLink(t *testing.T) (path string) {
	t.Helper()
	until(t, "the link of the first administrator", func() bool {
		path = regexp.MustCompile(`/enrol/[A-Za-z0-9_-]{43}`).FindString(s.err.String())
		return path != ""
	})
	return path
}

// peopled is a workspace whose plan names four people with duties.
func peopled(t *testing.T) workspace {
	t.Helper()
	w := filesOnly(t)
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "\nroles:", "  carl: {name: Carl}\n  dora: {name: Dora}\n\noncall: {primary: [founder-a, founder-b], shift: 1w, ack_within: 15m}\n\nroles:", 1)
		return strings.Replace(s, "team: small", "team: ordinary", 1)
	})
	return w
}

type accessList struct {
	People []struct {
		ID       string
		Roles    []string
		Actions  []string
		Sessions []json.RawMessage
	}
	Reviews []struct {
		ID               int64
		Person, Decision string
	}
	Grants []struct {
		ID    int64
		State string
	}
	Findings []finding
}

func (w workspace) access(t *testing.T, status int) (l accessList) {
	t.Helper()
	w.run(t, "access", "list", "--json").want(t, status).object(t, &l)
	return l
}

// facts are the records of what people did.
func (w workspace) accessLog(t *testing.T) string {
	t.Helper()
	return w.run(t, "access", "log", "--limit", "1000").want(t, 0).out
}

// link invites somebody and returns where they enrol.
func (w workspace) link(t *testing.T, args ...string) string {
	t.Helper()
	var inv struct{ Path string }
	w.run(t, append([]string{"access", "--json"}, args...)...).want(t, 0).object(t, &inv)
	return inv.Path
}

// People, from the first link to the last: who gets in, what they may, what is kept of
// it, and how it ends.
func TestAccessRows(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	s := serveWith(t, w.dir, "", "--listen", "127.0.0.1:0")

	first := s.firstLink(t)
	t.Run("HRD-10", func(t *testing.T) {
		// A fresh install: no default password admits, nothing listens but loopback, and
		// the only way in is a link that admits once.
		w.run(t, "serve", "--listen", "0.0.0.0:0").refuses(t, 1, "another holdfast", "")
		stranger := newVisitor(t, "admin", s.url)
		for _, p := range []string{"admin", "password", "holdfast", ""} {
			if status, _ := stranger.logIn(p, "000000"); status != 403 {
				t.Errorf("%q: %d", p, status)
			}
		}
		host, _, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
		if err != nil || host != "127.0.0.1" {
			t.Errorf("it listens on %s", s.url)
		}
	})
	a := newVisitor(t, "founder-a", s.url)
	a.enrol(first)
	if status, _ := newVisitor(t, "founder-b", s.url).get(first); status == 200 {
		t.Error("the first link admits twice")
	}
	b := newVisitor(t, "founder-b", s.url)
	b.enrol(w.link(t, "invite", "founder-b", "--role", "approver,responder"))
	c := newVisitor(t, "carl", s.url)
	c.enrol(w.link(t, "invite", "carl", "--role", "viewer"))

	t.Run("ACC-01", func(t *testing.T) {
		// Real routes for every kind of action, asked by every kind of person.
		routes := []struct {
			action, method, path string
			in                   any
		}{
			{"view", "GET", "/api/v1/overview", nil}, {"run", "POST", "/api/v1/stores/none/backups", map[string]string{}}, {"restore", "POST", "/api/v1/incidents/999/recover", map[string]string{}},
			{"configure", "POST", "/api/v1/keys/none/challenges", map[string]string{}}, {"approve", "POST", "/api/v1/requests/none", map[string]string{"what": "reject"}}, {"audit", "GET", "/api/v1/access", nil},
			{"people", "POST", "/api/v1/people", map[string]any{"person": "founder-a", "roles": []string{"viewer"}}}, {"export", "POST", "/api/v1/evidence", map[string]string{}},
			{"delete", "POST", "/api/v1/prune", map[string]any{"apply": true, "location": "none"}},
		}
		log := ""
		for _, p := range []*visitor{a, b, c} {
			may := w.effective(t, p.name)
			for _, r := range routes {
				status, body := p.call(r.method, r.path, "", r.in)
				if allowed := slices.Contains(may, r.action); allowed == (status == 403) {
					t.Errorf("%s, %s: allowed %t, %d %s", p.name, r.action, allowed, status, body)
				}
				if status == 403 {
					log = w.accessLog(t)
					if !contains(log, regexp.QuoteMeta(p.name)+`\s+refused\s+`+r.method+` `+regexp.QuoteMeta(r.path)) {
						t.Errorf("%s, %s: refused without a record:\n%s", p.name, r.action, log)
					}
				}
			}
		}
		if status, _ := newVisitor(t, "", s.url).call("GET", "/api/v1/overview", "", nil); status != 401 {
			t.Errorf("a stranger: %d", status)
		}
	})
	t.Run("ACC-02", func(t *testing.T) {
		p := newVisitor(t, "carl", s.url)
		if status, _ := p.logIn(secretPhrase, ""); status != 403 {
			t.Errorf("a password alone: %d", status)
		}
		if status, _ := p.call("GET", "/api/v1/overview", "", nil); status != 401 {
			t.Errorf("after a password alone: %d", status)
		}
		w.link(t, "invite", "dora", "--role", "operator")
		found := w.access(t, 0).Findings
		if !slices.ContainsFunc(found, func(f finding) bool { return f.Code == "HF-P1" && f.Subject == "people.dora" }) {
			t.Errorf("who has no second factor is not flagged: %v", found)
		}
	})
	t.Run("ACC-13", func(t *testing.T) {
		// The program that runs here has no other network than this machine's: codes and
		// recovery codes admit all the same.
		p := newVisitor(t, "founder-b", s.url)
		p.seed, p.last = b.seed, b.last
		code := p.code()
		b.last = p.last
		if status, body := p.logIn(secretPhrase, code); status != 200 || !strings.Contains(body, "founder-b") && !strings.Contains(body, "Account") {
			t.Errorf("a code: %d", status)
		}
		if status, _ := newVisitor(t, "founder-b", s.url).logIn(secretPhrase, code); status != 403 {
			t.Errorf("the same code again: %d", status)
		}
		if status, _ := newVisitor(t, "founder-b", s.url).logIn(secretPhrase, b.codes[0]); status != 200 {
			t.Errorf("a recovery code: %d", status)
		}
		if status, _ := newVisitor(t, "founder-b", s.url).logIn(secretPhrase, b.codes[0]); status != 403 {
			t.Errorf("the same recovery code again: %d", status)
		}
	})
	t.Run("HRD-06", func(t *testing.T) {
		// Everybody took the same password; the state holds it salted one by one.
		b, err := os.ReadFile(filepath.Join(w.dir, "state", "holdfast.db"))
		if err != nil {
			t.Fatal(err)
		}
		if wal, err := os.ReadFile(filepath.Join(w.dir, "state", "holdfast.db-wal")); err == nil {
			b = append(b, wal...)
		}
		hashes := map[string]bool{}
		for _, h := range regexp.MustCompile(`\$argon2id\$v=19\$m=65536,t=3,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}`).FindAll(b, -1) {
			hashes[string(h)] = true
		}
		if len(hashes) < 3 || bytes.Contains(b, []byte(secretPhrase)) || bytes.Contains(b, []byte(a.seed)) {
			t.Errorf("%d hashes of three passwords; in the clear: %t, %t", len(hashes), bytes.Contains(b, []byte(secretPhrase)), bytes.Contains(b, []byte(a.seed)))
		}
	})
	t.Run("ACC-03", func(t *testing.T) {
		// Nobody speaks for somebody else; every record names a person.
		if status, body := b.call("POST", "/api/v1/incidents/999/close", "", map[string]string{"by": "founder-a", "note": "x"}); status != 403 || !strings.Contains(body, "cannot speak for") {
			t.Errorf("in another's name: %d %s", status, body)
		}
		if log := w.accessLog(t); !contains(log, `(?m)^\d+\s+\S+ \S+\s+founder-b\s+login`) || contains(log, `\s(admin|shared|operator)\s+(login|done)`) {
			t.Errorf("records without a person:\n%s", log)
		}
	})
	t.Run("ACC-15", func(t *testing.T) {
		if status, _ := c.get("/plan"); status != 403 {
			t.Errorf("a viewer reads the plan: %d", status)
		}
		if status, body := b.get("/plan"); status != 200 || !strings.Contains(body, "policy") {
			t.Errorf("an approver does not: %d", status)
		}
		if log := w.accessLog(t); !contains(log, `founder-b\s+read\s+GET /plan`) || !contains(log, `carl\s+refused\s+GET /plan`) {
			t.Errorf("who read the plan is not listed:\n%s", log)
		}
	})
	t.Run("ACC-05", func(t *testing.T) {
		// Looking into backups needs more than to be administrator.
		if status, _ := a.call("POST", "/api/v1/damage/files", "", []any{}); status != 403 {
			t.Errorf("an administrator looks into backups: %d", status)
		}
	})
	t.Run("ACC-06", func(t *testing.T) {
		var l struct {
			At time.Time
		}
		w.run(t, "access", "list", "--json").want(t, 0).object(t, &l)
		if time.Since(l.At) > time.Hour {
			t.Errorf("dated %s", l.At)
		}
	})
	t.Run("ACC-08", func(t *testing.T) {
		if status, _ := a.post("/backups", url.Values{"store": {"uploads"}}); status != 200 {
			t.Errorf("a backup: %d", status)
		}
		log := w.accessLog(t)
		for _, want := range []string{`founder-a\s+done\s+POST /backups\s+run 303`, `founder-a\s+read\s+GET /store/uploads`, `founder-b\s+done\s+POST /api/v1/incidents/999/recover`, `founder-a\s+enrolled`, `carl\s+refused\s+POST /api/v1/prune`, `local:\S+\s+invited`} {
			if !contains(log, want) {
				t.Errorf("not recorded: %s\n%s", want, log)
			}
		}
	})

	var grant struct{ ID int64 }
	t.Run("ACC-09", func(t *testing.T) {
		w.run(t, "access", "emergency", "--json", "--for", "founder-a", "--reason", "forensics for the authority", "--minutes", "60").want(t, 4).object(t, &grant)
		w.run(t, "access", "decide", fmt.Sprint(grant.ID), "approve", "--by", "founder-a").refuses(t, 4, "cannot approve", "somebody else")
	})
	w.run(t, "access", "decide", fmt.Sprint(grant.ID), "approve", "--by", "founder-b").want(t, 0)
	if status, _ := a.call("POST", "/api/v1/damage/files", "", []any{}); status != 200 {
		t.Errorf("an approved emergency gives nothing: %d", status)
	}
	t.Run("ACC-11", func(t *testing.T) {
		w.run(t, "access", "emergency", "--for", "founder-b", "--reason", "nobody answers", "--minutes", "30", "--break-glass").want(t, 0)
		if out := w.run(t, "incident", "list").want(t, 0).out; !strings.Contains(out, "broke the glass") {
			t.Errorf("broken glass is not said to everybody:\n%s", out)
		}
	})

	var token struct{ ID, Secret string }
	w.run(t, "access", "token", "carl", "--json", "--name", "report", "--may", "view", "--until", time.Now().AddDate(0, 1, 0).Format(time.DateOnly)).want(t, 0).object(t, &token)
	stranger := newVisitor(t, "", s.url)
	if status, _ := stranger.call("GET", "/api/v1/overview", token.Secret, nil); status != 200 {
		t.Errorf("a token: %d", status)
	}
	remote := exec.Command(binary, "--server", s.url, "status", "--json")
	remote.Env = append(os.Environ(), "HOLDFAST_TOKEN="+token.Secret)
	if out, err := remote.Output(); remote.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), `"stores"`) {
		t.Errorf("status from elsewhere: %v %s", err, out)
	}
	t.Run("MON-14", func(t *testing.T) {
		// A scraper with a token gets the open format; one without gets nothing.
		if status, _ := newVisitor(t, "", s.url).get("/metrics"); status != 401 {
			t.Errorf("a scrape by a stranger: %d", status)
		}
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Secret)
		req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		status, body := answerOf(t, res)
		if status != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
			t.Errorf("a scrape: %d %s", status, res.Header.Get("Content-Type"))
		}
		for _, want := range []string{`(?m)^holdfast_up 1`, `(?m)^holdfast_location_reachable\{location="near"\} [01]`, `(?m)^holdfast_service_posture\{posture="[a-z]+",service="api"\} 1`, `(?m)^holdfast_store_rpo_seconds\{store="uploads"\} `} {
			if !contains(body, want) {
				t.Errorf("no %s in:\n%s", want, body)
			}
		}
	})
	t.Run("HRD-07", func(t *testing.T) {
		// Over a network nothing goes in the clear: neither served nor called.
		hf(t, "--server", "http://192.0.2.1:7878", "status").refuses(t, 4, "over TLS only", "https://")
		other := peopled(t)
		other.run(t, "access", "invite", "carl", "--role", "administrator").want(t, 0)
		other.run(t, "serve", "--listen", "0.0.0.0:0").refuses(t, 4, "refused without TLS", "--tls-cert")
	})
	for _, row := range []string{"ACC-12", "PER-08"} {
		t.Run(row, func(t *testing.T) {
			if row == "PER-08" { // the same departure, looked at as the policy's rechecking
				if l := w.access(t, 0); slices.ContainsFunc(l.People, func(p struct {
					ID       string
					Roles    []string
					Actions  []string
					Sessions []json.RawMessage
				}) bool {
					return p.ID == "founder-b" && len(p.Actions)+len(p.Roles)+len(p.Sessions) > 0
				}) {
					t.Error("who left may do something")
				}
				return
			}
			taken := w.offline(t, "founder-b")
			var bt struct{ Secret string }
			w.run(t, "access", "token", "founder-b", "--json", "--name", "x", "--may", "view", "--until", time.Now().AddDate(0, 1, 0).Format(time.DateOnly)).want(t, 0).object(t, &bt)
			out := w.run(t, "access", "leave", "founder-b", "--reason", "left").want(t, 3).out
			for _, want := range []string{"oncall.primary", "are a gap", "keys.key-b: holds it; name another holder", "roles.technical_lead: the holder", "offline." + taken.id + ": an offline copy of the plan"} {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			if status, _ := stranger.call("GET", "/api/v1/overview", bt.Secret, nil); status != 401 {
				t.Errorf("the token lives: %d", status)
			}
			if status, _ := b.call("GET", "/api/v1/overview", "", nil); status != 401 {
				t.Errorf("the session lives: %d", status)
			}
			// What rests on them is owed by name and day; the entitlement to a copy is over.
			owed := w.run(t, "review", "list").out
			for _, want := range []string{"left.founder-b.keys.key-b ", "left.founder-b.oncall.primary ", "left.founder-b.offline." + taken.id} {
				if !strings.Contains(owed, want) {
					t.Errorf("nobody owes %q:\n%s", want, owed)
				}
			}
			w.run(t, "offline", "make", "--person", "founder-b", "--new-passphrase", filepath.Join(w.root, "late")).refuses(t, 4, "has left", "out of the plan")
			w.run(t, "offline", "confirm", taken.id, taken.code, "--by", "founder-b").refuses(t, 4, "has left", "bring it back")
			w.run(t, "offline", "end", taken.id, "--by", "founder-a", "--how", "stick handed in").want(t, 0)
			if owed := w.run(t, "review", "list").out; strings.Contains(owed, taken.id) {
				t.Errorf("a copy that came back is still owed:\n%s", owed)
			}
		})
	}

	// Half a year later.
	s.stop(t)
	const later = 181 * 24 * time.Hour
	s = serveWith(t, w.dir, "+"+later.String(), "--listen", "127.0.0.1:0")
	a.base, a.ahead, stranger.base = s.url, later, s.url
	t.Run("ACC-04", func(t *testing.T) {
		var u struct {
			State string
			Done  []struct{ Subject string }
		}
		w.run(t, "access", "decide", fmt.Sprint(grant.ID), "--json").want(t, 0).object(t, &u)
		if u.State != "ended" && u.State != "given" || !slices.ContainsFunc(u.Done, func(d struct{ Subject string }) bool { return strings.Contains(d.Subject, "/damage/files") }) {
			t.Errorf("after its time: %+v", u)
		}
		if status, _ := a.logIn(secretPhrase, a.code()); status != 200 {
			t.Fatalf("log-in half a year later: %d", status)
		}
		if status, _ := a.call("POST", "/api/v1/damage/files", "", []any{}); status != 403 {
			t.Errorf("the emergency goes on: %d", status)
		}
		until(t, "it to be ended", func() bool {
			return w.run(t, "access", "decide", fmt.Sprint(grant.ID), "review", "--by", "carl", "--note", "one look, no more").status == 0
		})
	})
	if status, _ := stranger.call("GET", "/api/v1/overview", token.Secret, nil); status == 200 {
		t.Error("a token outlives its day")
	}
	t.Run("ACC-07", func(t *testing.T) {
		var l accessList
		until(t, "the access review", func() bool {
			l = accessList{}
			e := w.run(t, "access", "list", "--json")
			_ = json.Unmarshal([]byte(e.out), &l) // asked again until it is there
			return len(l.Reviews) > 0
		})
		i := slices.IndexFunc(l.Reviews, func(r struct {
			ID               int64
			Person, Decision string
		}) bool {
			return r.Person == "founder-a"
		})
		j := slices.IndexFunc(l.Reviews, func(r struct {
			ID               int64
			Person, Decision string
		}) bool {
			return r.Person == "carl"
		})
		w.run(t, "access", "keep-or-remove", fmt.Sprint(l.Reviews[i].ID), "keep", "--by", "founder-a").refuses(t, 4, "their own", "somebody else")
		w.run(t, "access", "keep-or-remove", fmt.Sprint(l.Reviews[j].ID), "remove", "--by", "founder-a").want(t, 3)
		for _, p := range w.access(t, 3).People {
			if p.ID == "carl" && len(p.Actions) > 0 {
				t.Error("removed access goes on")
			}
		}
	})
}

// effective is what the access list says that somebody may.
func (w workspace) effective(t *testing.T, name string) []string {
	t.Helper()
	for _, p := range w.access(t, 0).People {
		if p.ID == name {
			return p.Actions
		}
	}
	t.Fatalf("%s is not in the access list", name)
	return nil
}

// A passkey in a real browser, and the pages for people in every look.
func TestAccessInBrowser(t *testing.T) {
	t.Parallel()
	w := peopled(t)
	s := serveWith(t, w.dir, "", "--listen", "127.0.0.1:0")
	base := strings.Replace(s.url, "127.0.0.1", "localhost", 1)
	first := s.firstLink(t)
	v := webtest.OpenFor(t, webtest.Chromium(t), base, 3*time.Minute)
	webtest.Do(t, v, chromedp.EmulateViewport(1440, 900), webtest.Scheme("light"), webtest.Call(webauthn.Enable, webauthn.EnableParams{}),
		webtest.Call(webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}}))
	at := func(path string) {
		t.Helper()
		webtest.Do(t, v, chromedp.Navigate(base+path), chromedp.WaitVisible(chromedp.CSS("h1")))
	}
	stands := func(path string) {
		t.Helper()
		until(t, path, func() bool { // over pages that come and go
			there, err := chromedp.Run(v, chromedp.Evaluate[bool](`location.pathname === "`+path+`" && document.readyState === "complete"`))
			return err == nil && there
		})
	}
	at(first)
	webtest.Look(t, v, "enrol")
	// A press that leads elsewhere is done in the page: waiting for it outside may never end.
	press := func(selector string) {
		t.Helper()
		webtest.Script[bool](t, v, `(document.querySelector('`+selector+`').click(), true)`)
	}
	webtest.Script[bool](t, v, `(document.querySelector("#person").value = "founder-a", true)`)
	press("[data-start]")
	stands("/account")
	webtest.Look(t, v, "account")
	press(`form[action="/account/logout"] button`)
	stands("/login")
	webtest.Look(t, v, "login")
	press("[data-start]")
	stands("/")
	for _, view := range webtest.Views {
		webtest.Do(t, v, chromedp.EmulateViewport(view.Width, view.Height), webtest.Scheme(view.Scheme))
		for _, path := range []string{"/people", "/audit", "/account", "/emergencies"} {
			at(path)
			webtest.Look(t, v, "access"+strings.ReplaceAll(path, "/", "-")+"-"+view.Name)
		}
	}
	if log := w.accessLog(t); !contains(log, `founder-a\s+login`) {
		t.Errorf("the log-in is not recorded:\n%s", log)
	}
}
