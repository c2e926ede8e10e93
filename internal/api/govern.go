package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/govern"
)

// Governance is what the API needs of what people owe.
type Governance interface {
	Reviews(ctx context.Context, all bool) ([]govern.Duty, error)
	ReviewText(ctx context.Context, id string, w govern.Word) (string, error)
	ReviewDone(ctx context.Context, id string, w govern.Word) (govern.Duty, error)
	Enforced(ctx context.Context) ([]holdfast.Finding, error)
	Inventory(ctx context.Context) ([]Item, error)
	ReviewPack(ctx context.Context, from time.Time) (govern.Pack, error)
	Metrics(ctx context.Context, name string) ([]govern.Metric, error)
	Risks(ctx context.Context) ([]govern.Risk, error)
	AssessRisk(ctx context.Context, id string, a govern.Assessment) (govern.Risk, error)
	CloseRisk(ctx context.Context, id, by, note string) (govern.Risk, error)
	Exceptions(ctx context.Context) ([]govern.Exception, error)
	AskException(ctx context.Context, e govern.Exception) (govern.Exception, error)
	ExceptionText(ctx context.Context, id string) (string, error)
	ApproveException(ctx context.Context, id string, w govern.Word) (govern.Exception, error)
	Launches(ctx context.Context) ([]govern.Launch, error)
	GoLive(ctx context.Context, store, by string) (govern.Launch, error)
}

// An Item is something that must come back, or that brings others back.
type Item struct {
	ID        string `json:"id"`   // "stores.db", "keys.recovery", "holdfast.state"
	Kind      string `json:"kind"` // store, service, platform, repository, key
	Owner     string `json:"owner"`
	Class     string `json:"class,omitempty"`
	Objective string `json:"objective"`
	State     string `json:"state" doc:"covered, part covered, delegated, excepted or uncovered"`
	Why       string `json:"why"`
}

// A Waiver asks for an exception.
type Waiver struct {
	Rule         string    `json:"rule" maxLength:"20" doc:"the code of the finding"`
	Of           string    `json:"of" maxLength:"300" doc:"what it is about: stores.queue"`
	Why          string    `json:"why" maxLength:"4000"`
	Risk         string    `json:"risk" required:"false" doc:"low, medium, high or critical"`
	Impact       string    `json:"impact,omitempty" required:"false" maxLength:"4000"`
	Compensating string    `json:"compensating,omitempty" required:"false" maxLength:"4000"`
	Remedy       string    `json:"remedy,omitempty" required:"false" maxLength:"4000"`
	By           string    `json:"by" maxLength:"200" doc:"who asks"`
	Until        time.Time `json:"until"`
}

func (w Waiver) exception() govern.Exception {
	return govern.Exception{Rule: w.Rule, Of: w.Of, Why: w.Why, Risk: w.Risk, Impact: w.Impact, Compensating: w.Compensating, Remedy: w.Remedy, By: w.By, Until: w.Until}
}

// A Part is one person's part of a duty.
type Part struct {
	By        string    `json:"by" required:"false" maxLength:"200" doc:"a person of the plan; one who is logged in may leave it out"`
	Note      string    `json:"note,omitempty" required:"false" maxLength:"4000" doc:"what was found"`
	On        time.Time `json:"on,omitzero" required:"false" doc:"when it was done; now without it"`
	Signature string    `json:"signature,omitempty" required:"false" maxLength:"20000"`
}

func (p Part) word() govern.Word {
	return govern.Word{By: p.By, Note: p.Note, On: p.On, Signature: []byte(p.Signature)}
}

// A Text is what a person signs.
type Text struct {
	Text string `json:"text"`
}

func governance(a huma.API, g Governance) {
	get(a, access.View, "reviews", "/api/v1/reviews", "What people owe: overdue first", func(ctx context.Context, in *struct {
		All bool `query:"all" doc:"also what was done, missed or withdrawn"`
	}) (*body[[]govern.Duty], error) {
		return answer(g.Reviews(ctx, in.All))
	})
	post(a, access.Respond, "review-text", "/api/v1/reviews/{id}/text", "What a person signs", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Part
	}) (*body[Text], error) {
		t, err := g.ReviewText(ctx, in.ID, in.Body.word())
		return answer(Text{t}, err)
	})
	post(a, access.Respond, "review-done", "/api/v1/reviews/{id}", "A person did their part", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Part
	}) (*body[govern.Duty], error) {
		return answer(g.ReviewDone(ctx, in.ID, in.Body.word()))
	})
	get(a, access.View, "enforced", "/api/v1/enforced", "What runs otherwise than the plan in force says", func(ctx context.Context, _ *struct{}) (*body[[]holdfast.Finding], error) {
		return answer(g.Enforced(ctx))
	})
	get(a, access.View, "inventory", "/api/v1/inventory", "What must come back, and what brings it back", func(ctx context.Context, _ *struct{}) (*body[[]Item], error) {
		return answer(g.Inventory(ctx))
	})
	get(a, access.View, "review-pack", "/api/v1/review-pack", "What a review by management looks at", func(ctx context.Context, in *struct {
		From time.Time `query:"from" required:"true"`
	}) (*body[govern.Pack], error) {
		return answer(g.ReviewPack(ctx, in.From))
	})
	get(a, access.View, "metrics", "/api/v1/metrics", "The values of the plan's metrics, oldest first, and of open periods so far", func(ctx context.Context, in *struct {
		Name string `query:"name" maxLength:"200" doc:"of this metric only"`
	}) (*body[[]govern.Metric], error) {
		return answer(g.Metrics(ctx, in.Name))
	})
	get(a, access.View, "risks", "/api/v1/risks", "The register of risks", func(ctx context.Context, _ *struct{}) (*body[[]govern.Risk], error) {
		return answer(g.Risks(ctx))
	})
	post(a, access.Respond, "assess-risk", "/api/v1/risks/{id}/assessment", "A person judges one risk", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body govern.Assessment
	}) (*body[govern.Risk], error) {
		return answer(g.AssessRisk(ctx, in.ID, in.Body))
	})
	post(a, access.Respond, "close-risk", "/api/v1/risks/{id}/close", "End a risk, with proof", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body word
	}) (*body[govern.Risk], error) {
		return answer(g.CloseRisk(ctx, in.ID, in.Body.By, in.Body.Note))
	})
	get(a, access.View, "exceptions", "/api/v1/exceptions", "Waivers: of the plan, and asked for since", func(ctx context.Context, _ *struct{}) (*body[[]govern.Exception], error) {
		return answer(g.Exceptions(ctx))
	})
	post(a, access.Respond, "ask-exception", "/api/v1/exceptions", "Ask for a waiver", func(ctx context.Context, in *body[Waiver]) (*body[govern.Exception], error) {
		return answer(g.AskException(ctx, in.Body.exception()))
	})
	get(a, access.View, "exception-text", "/api/v1/exceptions/{id}/text", "What a person signs", func(ctx context.Context, in *byID[string]) (*body[Text], error) {
		t, err := g.ExceptionText(ctx, in.ID)
		return answer(Text{t}, err)
	})
	post(a, access.Approve, "approve-exception", "/api/v1/exceptions/{id}", "A person agrees to a waiver", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Part
	}) (*body[govern.Exception], error) {
		return answer(g.ApproveException(ctx, in.ID, in.Body.word()))
	})
	get(a, access.View, "launches", "/api/v1/stores", "Which stores are live, and what the others lack", func(ctx context.Context, _ *struct{}) (*body[[]govern.Launch], error) {
		return answer(g.Launches(ctx))
	})
	post(a, access.Configure, "go-live", "/api/v1/stores/{id}/live", "Declare a store live", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body word
	}) (*body[govern.Launch], error) {
		return answer(g.GoLive(ctx, in.ID, in.Body.By))
	})
}

// Enforced asks what runs otherwise than the plan in force says.
func (c *Client) Enforced(ctx context.Context) (fs []holdfast.Finding, err error) {
	return fs, c.do(ctx, http.MethodGet, "/api/v1/enforced", nil, &fs)
}

// Inventory asks what must come back, and what brings it back.
func (c *Client) Inventory(ctx context.Context) (is []Item, err error) {
	return is, c.do(ctx, http.MethodGet, "/api/v1/inventory", nil, &is)
}

// ReviewPack asks for what a review by management looks at.
func (c *Client) ReviewPack(ctx context.Context, from time.Time) (p govern.Pack, err error) {
	return p, c.do(ctx, http.MethodGet, "/api/v1/review-pack?from="+url.QueryEscape(from.UTC().Format(time.RFC3339)), nil, &p)
}

// Risks asks for the register.
func (c *Client) Risks(ctx context.Context) (rs []govern.Risk, err error) {
	return rs, c.do(ctx, http.MethodGet, "/api/v1/risks", nil, &rs)
}

// AssessRisk records a judgement.
func (c *Client) AssessRisk(ctx context.Context, id string, a govern.Assessment) (r govern.Risk, err error) {
	return r, c.do(ctx, http.MethodPost, "/api/v1/risks/"+url.PathEscape(id)+"/assessment", a, &r)
}

// CloseRisk ends a risk.
func (c *Client) CloseRisk(ctx context.Context, id, by, note string) (r govern.Risk, err error) {
	return r, c.do(ctx, http.MethodPost, "/api/v1/risks/"+url.PathEscape(id)+"/close", word{by, note}, &r)
}

// Exceptions lists the waivers.
func (c *Client) Exceptions(ctx context.Context) (es []govern.Exception, err error) {
	return es, c.do(ctx, http.MethodGet, "/api/v1/exceptions", nil, &es)
}

// AskException asks for a waiver.
func (c *Client) AskException(ctx context.Context, w Waiver) (e govern.Exception, err error) {
	return e, c.do(ctx, http.MethodPost, "/api/v1/exceptions", w, &e)
}

// ExceptionText asks for the text that a person signs.
func (c *Client) ExceptionText(ctx context.Context, id string) (string, error) {
	var t Text
	err := c.do(ctx, http.MethodGet, "/api/v1/exceptions/"+url.PathEscape(id)+"/text", nil, &t)
	return t.Text, err
}

// ApproveException agrees to a waiver.
func (c *Client) ApproveException(ctx context.Context, id string, p Part) (e govern.Exception, err error) {
	return e, c.do(ctx, http.MethodPost, "/api/v1/exceptions/"+url.PathEscape(id), p, &e)
}

// Launches asks which stores are live.
func (c *Client) Launches(ctx context.Context) (ls []govern.Launch, err error) {
	return ls, c.do(ctx, http.MethodGet, "/api/v1/stores", nil, &ls)
}

// GoLive declares a store live.
func (c *Client) GoLive(ctx context.Context, store, by string) (l govern.Launch, err error) {
	return l, c.do(ctx, http.MethodPost, "/api/v1/stores/"+url.PathEscape(store)+"/live", word{By: by}, &l)
}

// Metrics asks for the values of a metric, of all for "".
func (c *Client) Metrics(ctx context.Context, name string) (ms []govern.Metric, err error) {
	return ms, c.do(ctx, http.MethodGet, "/api/v1/metrics?name="+url.QueryEscape(name), nil, &ms)
}

// Reviews lists what people owe.
func (c *Client) Reviews(ctx context.Context, all bool) (ds []govern.Duty, err error) {
	return ds, c.do(ctx, http.MethodGet, "/api/v1/reviews?all="+strconv.FormatBool(all), nil, &ds)
}

// ReviewText asks for the text that a person signs.
func (c *Client) ReviewText(ctx context.Context, id string, p Part) (string, error) {
	var t Text
	err := c.do(ctx, http.MethodPost, "/api/v1/reviews/"+url.PathEscape(id)+"/text", p, &t)
	return t.Text, err
}

// ReviewDone records a person's part.
func (c *Client) ReviewDone(ctx context.Context, id string, p Part) (d govern.Duty, err error) {
	return d, c.do(ctx, http.MethodPost, "/api/v1/reviews/"+url.PathEscape(id), p, &d)
}
