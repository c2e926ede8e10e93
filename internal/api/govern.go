package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/govern"
)

// Governance is what the API needs of what people owe.
type Governance interface {
	Reviews(ctx context.Context, all bool) ([]govern.Duty, error)
	ReviewText(ctx context.Context, id string, w govern.Word) (string, error)
	ReviewDone(ctx context.Context, id string, w govern.Word) (govern.Duty, error)
}

// A Part is one person's part of a duty.
type Part struct {
	By        string    `json:"by" minLength:"1" maxLength:"200" doc:"a person of the plan"`
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
	get(a, "reviews", "/api/v1/reviews", "What people owe: overdue first", func(ctx context.Context, in *struct {
		All bool `query:"all" doc:"also what was done, missed or withdrawn"`
	}) (*body[[]govern.Duty], error) {
		return answer(g.Reviews(ctx, in.All))
	})
	post(a, "review-text", "/api/v1/reviews/{id}/text", "What a person signs", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Part
	}) (*body[Text], error) {
		t, err := g.ReviewText(ctx, in.ID, in.Body.word())
		return answer(Text{t}, err)
	})
	post(a, "review-done", "/api/v1/reviews/{id}", "A person did their part", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Part
	}) (*body[govern.Duty], error) {
		return answer(g.ReviewDone(ctx, in.ID, in.Body.word()))
	})
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
