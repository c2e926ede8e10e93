package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast/internal/access"
	"holdfast/internal/ledger"
)

// actionKey is where an operation keeps its action.
const actionKey = "action"

// operation is one operation with its action: whoever may not do it is refused.
func operation(act access.Action, method, id, path, summary string) huma.Operation {
	op := huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: MaxBody, BodyReadTimeout: bodyWithin,
		Metadata: map[string]any{actionKey: act}, Extensions: map[string]any{"x-holdfast-action": string(act)},
		Security: []map[string][]string{{"token": {}}}}
	if method == http.MethodGet {
		op.MaxBodyBytes = 0
	}
	return op
}

// bodyWithin is how long a client may take to send what it asks.
const bodyWithin = 15 * time.Second

// gate lets through whoever may do what the operation is, and has it recorded.
func gate(m *access.Module) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		act, _ := c.Operation().Metadata[actionKey].(access.Action)
		done, err := m.Enter(c.Context(), act, c.Method()+" "+c.URL().Path)
		if err != nil {
			_, w := humago.Unwrap(c)
			p, _ := problem(err).(*Problem)
			write(w, p)
			return
		}
		next(c)
		done(c.Status())
	}
}

// An Invite asks for somebody to be let in.
type Invite struct {
	Person string    `json:"person" minLength:"1" maxLength:"64"`
	Roles  []string  `json:"roles" minItems:"1" maxItems:"10"`
	Until  time.Time `json:"until,omitzero" required:"false" doc:"the day on which an auditor's access ends"`
	By     string    `json:"by,omitempty" required:"false" maxLength:"200"`
}

// A NewToken asks for a token.
type NewToken struct {
	Person  string    `json:"person" minLength:"1" maxLength:"64" doc:"who answers for the program"`
	Name    string    `json:"name" minLength:"1" maxLength:"100"`
	Actions []string  `json:"actions" minItems:"1" maxItems:"20"`
	Until   time.Time `json:"until"`
}

// A MadeToken is a token with its secret, which is shown this once.
type MadeToken struct {
	access.Token
	Secret string `json:"secret"`
}

// A Decision is somebody's word on an emergency or a review.
type Decision struct {
	What string `json:"what" enum:"approve,refuse,end,review,keep,remove"`
	Note string `json:"note,omitempty" required:"false" maxLength:"4000"`
	By   string `json:"by,omitempty" required:"false" maxLength:"200"`
}

// A Change is a change to somebody's access.
type Change struct {
	Roles  []string `json:"roles,omitempty" required:"false" maxItems:"10"`
	Reason string   `json:"reason,omitempty" required:"false" maxLength:"1000"`
	By     string   `json:"by,omitempty" required:"false" maxLength:"200"`
}

// by settles who asks; what nobody says through the socket is the account's word.
func by(ctx context.Context, named string) (string, error) {
	who, err := access.By(ctx, named)
	if err == nil && who == "" {
		who = access.From(ctx).Actor()
	}
	return who, err
}

func people(a huma.API, m *access.Module) {
	get(a, access.Audit, "access", "/api/v1/access", "Who may do what, now", func(ctx context.Context, _ *struct{}) (*body[access.List], error) {
		return answer(m.List(ctx))
	})
	get(a, access.Audit, "access-log", "/api/v1/access/log", "Who did what, newest first", func(ctx context.Context, in *struct {
		Person string `query:"person" maxLength:"64"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) (*body[[]ledger.Fact], error) {
		return answer(m.Log(ctx, in.Person, in.Limit))
	})
	post(a, access.People, "invite", "/api/v1/people", "Let a person of the plan, or an auditor, in", func(ctx context.Context, in *body[Invite]) (*body[access.Invitation], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		roles, err := access.ParseRoles(in.Body.Roles...)
		if err != nil {
			return nil, problem(err)
		}
		return answer(m.Invite(ctx, in.Body.Person, roles, in.Body.Until, who))
	})
	post(a, access.People, "link", "/api/v1/people/{id}/link", "Make a new link to enrol with", func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body Change
	}) (*body[access.Invitation], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		return answer(m.Link(ctx, in.ID, who))
	})
	post(a, access.People, "roles", "/api/v1/people/{id}/roles", "Change what somebody is for", func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body Change
	}) (*body[access.List], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		roles, err := access.ParseRoles(in.Body.Roles...)
		if err != nil {
			return nil, problem(err)
		}
		if err := m.SetRoles(ctx, in.ID, roles, who); err != nil {
			return nil, problem(err)
		}
		return answer(m.List(ctx))
	})
	post(a, access.People, "leave", "/api/v1/people/{id}/leave", "End all access of somebody", func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body Change
	}) (*body[access.Departure], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		return answer(m.Leave(ctx, in.ID, who, in.Body.Reason))
	})
	post(a, access.People, "new-token", "/api/v1/tokens", "Make a token for a program", func(ctx context.Context, in *body[NewToken]) (*body[MadeToken], error) {
		actions, err := access.ParseActions(in.Body.Actions...)
		if err != nil {
			return nil, problem(err)
		}
		t, secret, err := m.NewToken(ctx, in.Body.Person, in.Body.Name, actions, in.Body.Until, access.From(ctx).Actor())
		return answer(MadeToken{t, secret}, err)
	})
	post(a, access.People, "end-token", "/api/v1/tokens/{id}/end", "End a token", func(ctx context.Context, in *byID[string]) (*struct{}, error) {
		if err := m.EndToken(ctx, in.ID, "", access.From(ctx).Actor()); err != nil {
			return nil, problem(err)
		}
		return nil, nil
	})
	emergencies(a, m)
}

func emergencies(a huma.API, m *access.Module) {
	post(a, access.Self, "ask-emergency", "/api/v1/emergencies", "Ask for emergency access, or break the glass", func(ctx context.Context, in *body[access.Emergency]) (*body[access.Grant], error) {
		who, err := access.By(ctx, in.Body.Person)
		if err != nil {
			return nil, problem(err)
		}
		in.Body.Person = who
		return answer(m.AskEmergency(ctx, in.Body, who))
	})
	get(a, access.Audit, "emergency", "/api/v1/emergencies/{id}", "An emergency access with everything that was done with it", func(ctx context.Context, in *byID[int64]) (*body[access.GrantUse], error) {
		return answer(m.Emergency(ctx, in.ID))
	})
	post(a, access.Approve, "decide-emergency", "/api/v1/emergencies/{id}", "Approve, refuse, end or review an emergency access", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body Decision
	}) (*body[access.Grant], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		switch in.Body.What {
		case "end":
			return answer(m.EndEmergency(ctx, in.ID, who))
		case "review":
			return answer(m.ReviewEmergency(ctx, in.ID, in.Body.Note, who))
		}
		return answer(m.DecideEmergency(ctx, in.ID, in.Body.What == "approve", who))
	})
	post(a, access.People, "open-access-review", "/api/v1/access/reviews", "Ask about everybody who has access", func(ctx context.Context, in *body[Change]) (*body[[]access.ReviewItem], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		return answer(m.OpenReview(ctx, who))
	})
	post(a, access.People, "decide-access", "/api/v1/access/reviews/{id}", "Keep or remove somebody's access", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body Decision
	}) (*body[access.Departure], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		return answer(m.Decide(ctx, in.ID, in.Body.What, in.Body.Note, who))
	})
}

// Access asks who may do what.
func (c *Client) Access(ctx context.Context) (l access.List, err error) {
	return l, c.do(ctx, http.MethodGet, "/api/v1/access", nil, &l)
}

// AccessLog asks who did what.
func (c *Client) AccessLog(ctx context.Context, person string, limit int) (fs []ledger.Fact, err error) {
	return fs, c.do(ctx, http.MethodGet, "/api/v1/access/log?person="+url.QueryEscape(person)+"&limit="+strconv.Itoa(limit), nil, &fs)
}

// Invite lets somebody in.
func (c *Client) Invite(ctx context.Context, in Invite) (i access.Invitation, err error) {
	return i, c.do(ctx, http.MethodPost, "/api/v1/people", in, &i)
}

// Link makes a new link for somebody.
func (c *Client) Link(ctx context.Context, person, by string) (i access.Invitation, err error) {
	return i, c.do(ctx, http.MethodPost, "/api/v1/people/"+url.PathEscape(person)+"/link", Change{By: by}, &i)
}

// SetRoles changes what somebody is for.
func (c *Client) SetRoles(ctx context.Context, person string, in Change) (l access.List, err error) {
	return l, c.do(ctx, http.MethodPost, "/api/v1/people/"+url.PathEscape(person)+"/roles", in, &l)
}

// Leave ends all access of somebody.
func (c *Client) Leave(ctx context.Context, person string, in Change) (d access.Departure, err error) {
	return d, c.do(ctx, http.MethodPost, "/api/v1/people/"+url.PathEscape(person)+"/leave", in, &d)
}

// NewToken makes a token.
func (c *Client) NewToken(ctx context.Context, in NewToken) (t MadeToken, err error) {
	return t, c.do(ctx, http.MethodPost, "/api/v1/tokens", in, &t)
}

// EndToken ends a token.
func (c *Client) EndToken(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/api/v1/tokens/"+url.PathEscape(id)+"/end", nil, nil)
}

// AskEmergency asks for emergency access.
func (c *Client) AskEmergency(ctx context.Context, e access.Emergency) (g access.Grant, err error) {
	return g, c.do(ctx, http.MethodPost, "/api/v1/emergencies", e, &g)
}

// Emergency returns an emergency access with what was done with it.
func (c *Client) Emergency(ctx context.Context, id int64) (u access.GrantUse, err error) {
	return u, c.do(ctx, http.MethodGet, "/api/v1/emergencies/"+strconv.FormatInt(id, 10), nil, &u)
}

// DecideEmergency approves, refuses, ends or reviews one.
func (c *Client) DecideEmergency(ctx context.Context, id int64, d Decision) (g access.Grant, err error) {
	return g, c.do(ctx, http.MethodPost, "/api/v1/emergencies/"+strconv.FormatInt(id, 10), d, &g)
}

// OpenAccessReview asks about everybody.
func (c *Client) OpenAccessReview(ctx context.Context, by string) (is []access.ReviewItem, err error) {
	return is, c.do(ctx, http.MethodPost, "/api/v1/access/reviews", Change{By: by}, &is)
}

// DecideAccess keeps or removes somebody's access.
func (c *Client) DecideAccess(ctx context.Context, id int64, d Decision) (out access.Departure, err error) {
	return out, c.do(ctx, http.MethodPost, "/api/v1/access/reviews/"+strconv.FormatInt(id, 10), d, &out)
}
