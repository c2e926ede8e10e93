package web

import (
	"encoding/json"
	"errors"
	"image/color"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"

	"holdfast"
	"holdfast/internal/access"
)

// MaxKeyBody bounds what a browser sends of a passkey.
const MaxKeyBody = 2 * access.MaxCredential

func (s *site) peopleRoutes() {
	s.everybody("GET /login", s.logInPage)
	s.everybody("POST /login", s.logIn)
	s.everybody("POST /login/passkey", s.beginKeyLogin)
	s.everybody("POST /login/passkey/answer", s.finishKeyLogin)
	s.everybody("GET /enrol/{secret}", s.enrolPage)
	s.everybody("POST /enrol/{secret}", s.choosePassword)
	s.everybody("POST /enrol/{secret}/code", s.enrolCode)
	s.everybody("POST /enrol/{secret}/passkey", s.beginEnrolKey)
	s.everybody("POST /enrol/{secret}/passkey/answer", s.finishEnrolKey)

	s.on("GET /account", access.Self, s.account)
	s.on("POST /account/codes", access.Self, s.newCodes)
	s.on("POST /account/logout", access.Self, s.logOut)
	s.on("POST /account/passkey", access.Self, s.beginAddKey)
	s.on("POST /account/passkey/answer", access.Self, s.finishAddKey)
	s.on("POST /account/passkey/end", access.Self, s.endKey)
	s.on("POST /account/emergency", access.Self, s.askEmergency)

	s.on("GET /people", access.Audit, s.people)
	s.on("GET /audit", access.Audit, s.audit)
	s.on("POST /people/invite", access.People, s.invite)
	s.on("POST /people/link", access.People, s.link)
	s.on("POST /people/roles", access.People, s.setRoles)
	s.on("POST /people/leave", access.People, s.leave)
	s.on("POST /people/token", access.People, s.newToken)
	s.on("POST /people/token/end", access.People, s.endToken)
	s.on("POST /people/reviews", access.People, s.openReview)
	s.on("POST /people/decide", access.People, s.decide)
	s.on("GET /emergencies", access.View, s.emergencies)
	s.on("POST /emergencies/decide", access.Approve, s.decideEmergency)
}

// shown lets the browser see a refusal of package access: its words are meant for it.
func shown(err error) error {
	if errors.Is(err, holdfast.ErrRefused) || errors.Is(err, holdfast.ErrUsage) || errors.Is(err, access.ErrNotFound) || errors.Is(err, access.ErrLogin) {
		return &PublicError{Message: upper(holdfast.Sentence(err)) + ".", Hint: holdfast.Hint(err), Err: err}
	}
	return err
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// form reads a posted form; every field of it is bounded by the whole.
func (s *site) form(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
	if err := r.ParseForm(); err != nil {
		s.problem(w, r, http.StatusBadRequest, "Not understood", "The form was too large or damaged.", "")
		return false
	}
	return true
}

// next is where a log-in leads: only to an address of this site.
func next(r *http.Request) string {
	to := r.FormValue("next")
	if u, err := url.Parse(to); err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") || len(to) > 500 {
		return "/"
	}
	return to
}

// reachedAs is how the browser reaches this server, for passkeys; ok is false where the
// browser allows none: at a literal address.
func reachedAs(r *http.Request) (access.Site, bool) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return access.Site{Host: host, Origin: scheme + "://" + r.Host}, net.ParseIP(strings.Trim(host, "[]")) == nil && (r.TLS != nil || host == "localhost")
}

// named says under which name passkeys work, if not under this one.
func named(r *http.Request) string {
	if _, ok := reachedAs(r); ok {
		return ""
	}
	if _, port, err := net.SplitHostPort(r.Host); err == nil && r.TLS == nil {
		return "http://localhost:" + port + r.URL.Path
	}
	return "the name of this server instead of its address"
}

func (s *site) still(r *http.Request, section, title string) frame {
	f := s.frame(r, section, title, s.Clock())
	f.Live = false
	return f
}

func (s *site) logInPage(w http.ResponseWriter, r *http.Request) {
	if access.From(r.Context()).Way == access.BySession {
		http.Redirect(w, r, next(r), http.StatusSeeOther)
		return
	}
	s.render(w, r, http.StatusOK, logInPage(s.still(r, "login", "Log in"), next(r), named(r), "", ""), nil)
}

func (s *site) logIn(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	if !s.form(w, r) {
		return
	}
	e, err := s.Access.LogIn(ctx, access.Login{Person: strings.TrimSpace(r.PostForm.Get("person")), Password: r.PostForm.Get("password"), Code: r.PostForm.Get("code"), Address: access.Address(r), Agent: r.UserAgent()})
	if errors.Is(err, holdfast.ErrRefused) {
		s.render(w, r, http.StatusForbidden, logInPage(s.still(r, "login", "Log in"), next(r), named(r), upper(holdfast.Sentence(err))+".", holdfast.Hint(err)), nil)
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	access.SetCookie(w, r, e)
	http.Redirect(w, r, next(r), http.StatusSeeOther)
}

// answerJSON answers the script of a passkey.
func (s *site) answerJSON(w http.ResponseWriter, r *http.Request, v any, err error) {
	status := http.StatusOK
	if err != nil {
		var p *PublicError
		if !errors.As(shown(err), &p) {
			s.Log.Error("request failed", "path", r.URL.Path, "error", err)
			p = &PublicError{Message: "Something went wrong; the log of the server says what."}
		}
		status, v = http.StatusForbidden, map[string]string{"error": p.Message, "hint": p.Hint}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a reader that has gone away needs no answer
}

// A keyAnswer is what the script of a passkey sends.
type keyAnswer struct {
	ID     string          `json:"id"`
	Name   string          `json:"name"`
	Person string          `json:"person"`
	Answer json.RawMessage `json:"answer"`
}

func readKey(w http.ResponseWriter, r *http.Request) (a keyAnswer, err error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxKeyBody))
	if err == nil && len(b) > 0 {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		err = &PublicError{Message: "What the browser sent was not understood.", Err: errors.Join(err, holdfast.ErrUsage)}
	}
	return a, err
}

// key runs one half of a use of a passkey.
func (s *site) key(w http.ResponseWriter, r *http.Request, f func(a keyAnswer, at access.Site) (any, error)) {
	at, ok := reachedAs(r)
	a, err := readKey(w, r)
	if err == nil && !ok {
		err = holdfast.WithHint(errors.Join(errors.New("browsers allow no passkeys at this address"), holdfast.ErrRefused), "open %s", named(r))
	}
	var v any
	if err == nil {
		v, err = f(a, at)
	}
	s.answerJSON(w, r, v, err)
}

func (s *site) beginKeyLogin(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(_ keyAnswer, at access.Site) (any, error) {
		return s.Access.BeginKeyLogin(r.Context(), access.Address(r), at)
	})
}

func (s *site) finishKeyLogin(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(a keyAnswer, at access.Site) (any, error) {
		e, err := s.Access.FinishKeyLogin(r.Context(), a.ID, a.Answer, at, access.Address(r), r.UserAgent())
		if err == nil {
			access.SetCookie(w, r, e)
		}
		return map[string]string{"next": ""}, err
	})
}

func (s *site) beginEnrolKey(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(a keyAnswer, at access.Site) (any, error) {
		return s.Access.BeginEnrolKey(r.Context(), r.PathValue("secret"), a.Person, access.Address(r), at)
	})
}

func (s *site) finishEnrolKey(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(a keyAnswer, at access.Site) (any, error) {
		e, err := s.Access.FinishKey(r.Context(), a.ID, a.Name, a.Answer, at, access.Address(r), r.UserAgent())
		if err == nil {
			access.SetCookie(w, r, e)
		}
		return map[string]string{"next": "/account"}, err
	})
}

func (s *site) beginAddKey(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(_ keyAnswer, at access.Site) (any, error) { return s.Access.BeginAddKey(r.Context(), at) })
}

func (s *site) finishAddKey(w http.ResponseWriter, r *http.Request) {
	s.key(w, r, func(a keyAnswer, at access.Site) (any, error) {
		_, err := s.Access.FinishKey(r.Context(), a.ID, a.Name, a.Answer, at, access.Address(r), r.UserAgent())
		return map[string]string{"next": "/account"}, err
	})
}

func (s *site) enrolPage(w http.ResponseWriter, r *http.Request) {
	s.enrol(w, r, http.StatusOK, "", "")
}

// enrol shows how far an enrolment is.
func (s *site) enrol(w http.ResponseWriter, r *http.Request, status int, wrong, hint string) {
	ctx, stop := within(r)
	defer stop()
	secret := r.PathValue("secret")
	if len(secret) > MaxID {
		s.missing(w, r)
		return
	}
	e, err := s.Access.Enrolment(ctx, secret)
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	v := enrolView{Enrolment: e, Path: "/enrol/" + url.PathEscape(secret), Elsewhere: named(r), Wrong: wrong, Hint: hint}
	if e.Address != "" {
		if v.Squares, v.Size, err = squares(e.Address); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.render(w, r, status, enrolPage(s.still(r, "login", "Enrol"), v), nil)
}

func (s *site) choosePassword(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	if !s.form(w, r) {
		return
	}
	err := s.Access.ChoosePassword(ctx, r.PathValue("secret"), r.PostForm.Get("person"), r.PostForm.Get("password"), access.Address(r))
	if s.enrolAgain(w, r, err) {
		return
	}
	http.Redirect(w, r, "/enrol/"+url.PathEscape(r.PathValue("secret")), http.StatusSeeOther)
}

// enrolAgain shows the page once more, with what was wrong.
func (s *site) enrolAgain(w http.ResponseWriter, r *http.Request, err error) bool {
	if err == nil {
		return false
	}
	var public *PublicError
	if errors.As(shown(err), &public) && !errors.Is(err, access.ErrNotFound) {
		s.enrol(w, r, http.StatusForbidden, public.Message, public.Hint)
	} else {
		s.fail(w, r, shown(err))
	}
	return true
}

func (s *site) enrolCode(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	if !s.form(w, r) {
		return
	}
	e, codes, err := s.Access.EnrolCode(ctx, r.PathValue("secret"), r.PostForm.Get("code"), access.Address(r), r.UserAgent())
	if s.enrolAgain(w, r, err) {
		return
	}
	access.SetCookie(w, r, e)
	s.render(w, r, http.StatusOK, codesPage(s.still(r, "account", "Recovery codes"), codes), nil)
}

// squares draws an address for the camera of a phone, as the path of an image.
func squares(text string) (path string, size int, err error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return "", 0, err
	}
	var b strings.Builder
	size = code.Bounds().Dx()
	for y := range size {
		for x := range size {
			if g, ok := color.GrayModel.Convert(code.At(x, y)).(color.Gray); ok && g.Y < 128 {
				b.WriteString("M" + strconv.Itoa(x+2) + " " + strconv.Itoa(y+2) + "h1v1h-1z")
			}
		}
	}
	return b.String(), size + 4, nil
}

func (s *site) account(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	v := accountView{Elsewhere: named(r)}
	who := access.From(ctx)
	l, err := s.Access.List(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, p := range l.People {
		if p.ID == who.Person() {
			v.Standing = p
		}
	}
	for _, g := range l.Grants {
		if g.Person == who.Person() {
			v.Grants = append(v.Grants, g)
		}
	}
	if v.Passkeys, err = s.Access.Passkeys(ctx); err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, accountPage(s.still(r, "account", "Account"), v), nil)
}

func (s *site) newCodes(w http.ResponseWriter, r *http.Request) {
	codes, err := s.Access.NewCodes(r.Context())
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	s.render(w, r, http.StatusOK, codesPage(s.still(r, "account", "Recovery codes"), codes), nil)
}

func (s *site) logOut(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	own := access.From(r.Context()).Session
	id := r.PostForm.Get("session")
	if id == "" {
		id = own
	}
	if err := s.Access.LogOut(r.Context(), id); err != nil {
		s.fail(w, r, shown(err))
		return
	}
	if id != own {
		http.Redirect(w, r, "/account", http.StatusSeeOther)
		return
	}
	access.ClearCookie(w, r)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// act reads a form, does something with it, and leads back to a page.
func (s *site) act(w http.ResponseWriter, r *http.Request, back string, do func(form url.Values, who string) error) {
	if !s.form(w, r) {
		return
	}
	if err := do(r.PostForm, access.From(r.Context()).Actor()); err != nil {
		s.fail(w, r, shown(err))
		return
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

func (s *site) endKey(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/account", func(f url.Values, _ string) error { return s.Access.EndPasskey(r.Context(), f.Get("id")) })
}

func (s *site) askEmergency(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/account", func(f url.Values, _ string) error {
		minutes, err := strconv.ParseInt(f.Get("minutes"), 10, 64)
		if err != nil {
			minutes = 0 // refused with its limits
		}
		who := access.From(r.Context()).Person()
		_, err = s.Access.AskEmergency(r.Context(), access.Emergency{Person: who, Reason: f.Get("reason"), Minutes: minutes, Glass: f.Get("glass") == "yes"}, who)
		return err
	})
}

func (s *site) people(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	l, err := s.Access.List(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, peoplePage(s.still(r, "people", "People and access"), l, access.From(ctx).May(access.People)), nil)
}

func (s *site) audit(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	person := r.URL.Query().Get("person")
	facts, err := s.Access.Log(ctx, person, auditLines)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, http.StatusOK, auditPage(s.still(r, "audit", "Audit trail"), auditOf(facts), person), nil)
}

// shownOnce shows a link or a token with which somebody gets in.
func (s *site) shownOnce(w http.ResponseWriter, r *http.Request, title, text, secret string) {
	s.render(w, r, http.StatusOK, oncePage(s.still(r, "people", title), text, secret), nil)
}

func origin(r *http.Request) string {
	at, _ := reachedAs(r)
	return at.Origin
}

func dayOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, holdfast.WithHint(errors.Join(errors.New("the day is not understood"), holdfast.ErrUsage), "write 2027-01-31")
	}
	return t.Add(24 * time.Hour), nil // to the end of the day
}

func (s *site) invite(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	roles, err := access.ParseRoles(r.PostForm["role"]...)
	var until time.Time
	if err == nil {
		until, err = dayOf(r.PostForm.Get("until"))
	}
	var inv access.Invitation
	if err == nil {
		inv, err = s.Access.Invite(r.Context(), r.PostForm.Get("person"), roles, until, access.From(r.Context()).Actor())
	}
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	s.shownOnce(w, r, "Invitation of "+inv.Person, "Give this link to "+inv.Person+", and to nobody else. It admits once, within three days.", origin(r)+inv.Path)
}

func (s *site) link(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	inv, err := s.Access.Link(r.Context(), r.PostForm.Get("person"), access.From(r.Context()).Actor())
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	s.shownOnce(w, r, "New link for "+inv.Person, "Give this link to "+inv.Person+", after you are sure that it is them who ask. When it is used, older passkeys and sessions end.", origin(r)+inv.Path)
}

func (s *site) setRoles(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/people", func(f url.Values, who string) error {
		roles, err := access.ParseRoles(f["role"]...)
		if err != nil {
			return err
		}
		return s.Access.SetRoles(r.Context(), f.Get("person"), roles, who)
	})
}

func (s *site) leave(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	d, err := s.Access.Leave(r.Context(), r.PostForm.Get("person"), access.From(r.Context()).Actor(), r.PostForm.Get("reason"))
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	s.render(w, r, http.StatusOK, leftPage(s.still(r, "people", d.Person+" has left"), d), nil)
}

func (s *site) newToken(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r) {
		return
	}
	actions, err := access.ParseActions(r.PostForm["action"]...)
	var until time.Time
	if err == nil {
		until, err = dayOf(r.PostForm.Get("until"))
	}
	var secret string
	if err == nil {
		_, secret, err = s.Access.NewToken(r.Context(), r.PostForm.Get("person"), r.PostForm.Get("name"), actions, until, access.From(r.Context()).Actor())
	}
	if err != nil {
		s.fail(w, r, shown(err))
		return
	}
	s.shownOnce(w, r, "New token", "The program sends it as \"Authorization: Bearer\". It is kept nowhere and shown only now.", secret)
}

func (s *site) endToken(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/people", func(f url.Values, who string) error { return s.Access.EndToken(r.Context(), f.Get("id"), "", who) })
}

func (s *site) openReview(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/people", func(_ url.Values, who string) error {
		_, err := s.Access.OpenReview(r.Context(), who)
		return err
	})
}

func (s *site) decide(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/people", func(f url.Values, who string) error {
		id, err := strconv.ParseInt(f.Get("id"), 10, 64)
		if err != nil {
			return errors.Join(errors.New("the form names no review"), holdfast.ErrUsage)
		}
		_, err = s.Access.Decide(r.Context(), id, f.Get("decision"), f.Get("note"), who)
		return err
	})
}

func (s *site) emergencies(w http.ResponseWriter, r *http.Request) {
	ctx, stop := within(r)
	defer stop()
	l, err := s.Access.List(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var uses []access.GrantUse
	for _, g := range l.Grants {
		u, err := s.Access.Emergency(ctx, g.ID)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		uses = append(uses, u)
		if len(uses) == mostEmergencies {
			break
		}
	}
	s.render(w, r, http.StatusOK, emergenciesPage(s.still(r, "emergencies", "Emergency access"), uses, access.From(ctx).May(access.Approve)), nil)
}

// mostEmergencies bounds the page.
const mostEmergencies = 50

func (s *site) decideEmergency(w http.ResponseWriter, r *http.Request) {
	s.act(w, r, "/emergencies", func(f url.Values, who string) error {
		id, err := strconv.ParseInt(f.Get("id"), 10, 64)
		if err != nil || !slices.Contains([]string{"approve", "refuse", "end", "review"}, f.Get("what")) {
			return errors.Join(errors.New("the form names no emergency"), holdfast.ErrUsage)
		}
		switch f.Get("what") {
		case "end":
			_, err = s.Access.EndEmergency(r.Context(), id, who)
		case "review":
			_, err = s.Access.ReviewEmergency(r.Context(), id, f.Get("note"), who)
		default:
			_, err = s.Access.DecideEmergency(r.Context(), id, f.Get("what") == "approve", who)
		}
		return err
	})
}
