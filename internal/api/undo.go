package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
	"holdfast/internal/source/postgres/undo"
	"holdfast/internal/vault"
)

// A WriteBack asks for the approval of writing rows back to production.
type WriteBack struct {
	Store string   `json:"store"`
	Does  []string `json:"does" minItems:"1"` // line by line, as it is signed
	By    string   `json:"by" minLength:"1" maxLength:"200"`
	Begin bool     `json:"begin"` // use the approval up if there is one
}

// A WriteBackAnswer is the request, and whether writing may begin.
type WriteBackAnswer struct {
	Request vault.Request `json:"request"`
	Begun   bool          `json:"begun"`
}

// WroteBack says how it ended.
type WroteBack struct {
	Store   string         `json:"store"`
	Request string         `json:"request"`
	Extract string         `json:"extract"` // SHA-256
	Written []undo.Written `json:"written,omitempty"`
	Err     string         `json:"error,omitempty"`
}

// WritesBack is what the API needs of who keeps approvals and facts.
type WritesBack interface {
	WriteBack(ctx context.Context, q WriteBack) (WriteBackAnswer, error)
	WroteBack(ctx context.Context, q WroteBack) error
}

func undoOperations(a huma.API, w WritesBack) {
	post(a, access.Restore, "write-back", "/api/v1/write-back", "Ask for, or use, the approval of writing rows back", func(ctx context.Context, in *body[WriteBack]) (*body[WriteBackAnswer], error) {
		return answer(w.WriteBack(ctx, in.Body))
	})
	post(a, access.Restore, "wrote-back", "/api/v1/write-back/ended", "How writing rows back ended", func(ctx context.Context, in *body[WroteBack]) (*body[struct{}], error) {
		return answer(struct{}{}, w.WroteBack(ctx, in.Body))
	})
}

// WriteBack asks for an approval, or uses it.
func (c *Client) WriteBack(ctx context.Context, q WriteBack) (a WriteBackAnswer, err error) {
	return a, c.do(ctx, http.MethodPost, "/api/v1/write-back", q, &a)
}

// WroteBack records how it ended.
func (c *Client) WroteBack(ctx context.Context, q WroteBack) error {
	var none struct{}
	return c.do(ctx, http.MethodPost, "/api/v1/write-back/ended", q, &none)
}
