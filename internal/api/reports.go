package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
	"holdfast/internal/objective"
)

// A Series is what was measured of one objective over time, oldest first: drills and
// incidents apart, as they measure different things.
type Series struct {
	Item     string            `json:"item"`   // "services.api", "stores.db"
	Metric   string            `json:"metric"` // "rto", "rpo"
	Declared string            `json:"declared"`
	Target   objective.Seconds `json:"target_seconds,omitempty"`
	Limit    objective.Seconds `json:"limit_seconds,omitempty"`
	// Trends are "worse", "better" or "steady" by kind of source; absent for fewer than
	// three measurements.
	Trends map[string]string  `json:"trends,omitempty"`
	Points []objective.Judged `json:"points"` // each with the limit of the plan of its time
}

// An Output is one of the documents that a policy asks for.
type Output struct {
	Name      string    `json:"name"`
	What      string    `json:"what"`
	File      string    `json:"file"`
	Generated time.Time `json:"generated,omitzero"` // last; zero: never
	Digest    string    `json:"digest,omitempty"`
	Bytes     int       `json:"bytes,omitempty"`
	By        string    `json:"by,omitempty"`
	Fact      int64     `json:"fact"` // -1: never generated
	// Content is there for who has just generated it.
	Content []byte `json:"content,omitempty"`
}

// Reporter makes series and documents.
type Reporter interface {
	Series(ctx context.Context, item string) ([]Series, error)
	Outputs(ctx context.Context) ([]Output, error)
	GenerateOutputs(ctx context.Context, by string) ([]Output, error)
}

func reports(a huma.API, r Reporter) {
	get(a, access.View, "series", "/api/v1/series", "What was measured of each RTO and RPO over time, against what was promised then", func(ctx context.Context, in *struct {
		Item string `query:"item" doc:"services.api, stores.db; all without it" maxLength:"200"`
	}) (*body[[]Series], error) {
		return answer(r.Series(ctx, in.Item))
	})
	get(a, access.View, "outputs", "/api/v1/outputs", "The documents that a policy asks for, and when each was generated last", func(ctx context.Context, _ *struct{}) (*body[[]Output], error) {
		return answer(r.Outputs(ctx))
	})
	post(a, access.Export, "generate-outputs", "/api/v1/outputs", "Generate every document that a policy asks for", func(ctx context.Context, in *body[word]) (*body[[]Output], error) {
		return answer(r.GenerateOutputs(ctx, in.Body.By))
	})
}

// Series asks what was measured over time.
func (c *Client) Series(ctx context.Context, item string) (ss []Series, err error) {
	return ss, c.do(ctx, http.MethodGet, "/api/v1/series?item="+url.QueryEscape(item), nil, &ss)
}

// Outputs asks which documents there are.
func (c *Client) Outputs(ctx context.Context) (os []Output, err error) {
	return os, c.do(ctx, http.MethodGet, "/api/v1/outputs", nil, &os)
}

// GenerateOutputs has every document generated.
func (c *Client) GenerateOutputs(ctx context.Context, by string) (os []Output, err error) {
	return os, c.do(ctx, http.MethodPost, "/api/v1/outputs", word{By: by}, &os)
}
