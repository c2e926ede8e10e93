package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
	"holdfast/internal/vault"
)

// A Location is a place for backups, alone and beside the others.
type Location struct {
	Name         string              `json:"name"`
	Kind         string              `json:"kind"`
	Address      string              `json:"address"`
	Domain       string              `json:"domain"`
	Provider     string              `json:"provider,omitempty"`
	Account      string              `json:"account,omitempty"`
	Region       string              `json:"region,omitempty"`
	Jurisdiction string              `json:"jurisdiction,omitempty"`
	Owner        string              `json:"owner,omitempty"`
	Locked       bool                `json:"locked"`
	Line         string              `json:"line,omitempty"`  // how it was reached just now
	Err          string              `json:"error,omitempty"` // why it is out of reach
	Stores       []Kept              `json:"stores"`
	Reading      vault.Reading       `json:"reading"`
	Shares       map[string][]string `json:"shares"` // what: with which locations
}

// Kept is one store at a location.
type Kept struct {
	Store     string        `json:"store"`
	Snapshots int           `json:"snapshots"`
	Of        int           `json:"of"`      // that the fullest location has
	Waiting   int           `json:"waiting"` // without a receipt
	Newest    time.Time     `json:"newest,omitzero"`
	Received  time.Time     `json:"received,omitzero"`
	Lag       time.Duration `json:"lag_ns"` // behind the newest snapshot anywhere
}

// Pruned is what pruning would do, or the job that does it.
type Pruned struct {
	Asked
	Report vault.Report `json:"report,omitzero"`
}

// The votes on a request.
const (
	VoteSign   = "sign"
	VoteReject = "reject"
	VoteReview = "review"
)

// A Vote is a person's word on a request. A signature speaks for itself; the others
// are taken on the person's word.
type Vote struct {
	By        string `json:"by" required:"false" maxLength:"200"`
	What      string `json:"what" enum:"sign,reject,review"`
	Signature string `json:"signature,omitempty" required:"false" maxLength:"20000"`
	Note      string `json:"note,omitempty" required:"false" maxLength:"4000"`
}

// Vault is what the API needs of what keeps and deletes.
type Vault interface {
	Prune(ctx context.Context, q vault.PruneRequest) (Pruned, error)
	Verify(ctx context.Context, q vault.VerifyRequest) (Asked, error)
	Repair(ctx context.Context, q vault.RepairRequest) (Asked, error)
	Files(ctx context.Context, ds []vault.Damage) ([]vault.Damage, error)
	Locations(ctx context.Context) ([]Location, error)
	Requests(ctx context.Context) ([]vault.Request, error)
	Approve(ctx context.Context, id string, v Vote) (vault.Request, error)
}

func vaultOperations(a huma.API, cfg Config) {
	v := cfg.Vault
	get(a, access.View, "locations", "/api/v1/locations", "Every location, alone and beside the others", func(ctx context.Context, _ *struct{}) (*body[[]Location], error) {
		return answer(v.Locations(ctx))
	})
	get(a, access.View, "requests", "/api/v1/requests", "What people are asked to sign", func(ctx context.Context, _ *struct{}) (*body[[]vault.Request], error) {
		return answer(v.Requests(ctx))
	})
	post(a, access.Approve, "vote", "/api/v1/requests/{id}", "A person signs, rejects or reviews", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body Vote
	}) (*body[vault.Request], error) {
		return answer(v.Approve(ctx, in.ID, in.Body))
	})
	post(a, access.View, "prune", "/api/v1/prune", "What would be deleted, or its deletion", func(ctx context.Context, in *body[vault.PruneRequest]) (*body[Pruned], error) {
		if !in.Body.Apply {
			return answer(v.Prune(ctx, in.Body))
		}
		// To look is to view; to delete is more.
		done, err := cfg.Access.Enter(ctx, access.Delete, "POST /api/v1/prune, to delete")
		if err != nil {
			return nil, problem(err)
		}
		out, err := v.Prune(ctx, in.Body)
		done(statusOf(err))
		return answer(out, err)
	})
	post(a, access.Run, "verify", "/api/v1/verify", "Read stored bytes back", func(ctx context.Context, in *body[vault.VerifyRequest]) (*body[Asked], error) {
		return answer(v.Verify(ctx, in.Body))
	})
	post(a, access.Run, "repair", "/api/v1/repair", "Mend what is damaged from another location", func(ctx context.Context, in *body[vault.RepairRequest]) (*body[Asked], error) {
		return answer(v.Repair(ctx, in.Body))
	})
	post(a, access.Restore, "files", "/api/v1/damage/files", "Name the files that damage costs", func(ctx context.Context, in *body[[]vault.Damage]) (*body[[]vault.Damage], error) {
		return answer(v.Files(ctx, in.Body))
	})
}

// Locations asks for the state of every location.
func (c *Client) Locations(ctx context.Context) (ls []Location, err error) {
	return ls, c.do(ctx, http.MethodGet, "/api/v1/locations", nil, &ls)
}

// Requests lists what people are asked to sign.
func (c *Client) Requests(ctx context.Context) (rs []vault.Request, err error) {
	return rs, c.do(ctx, http.MethodGet, "/api/v1/requests", nil, &rs)
}

// Vote signs, rejects or reviews.
func (c *Client) Vote(ctx context.Context, id string, v Vote) (r vault.Request, err error) {
	return r, c.do(ctx, http.MethodPost, "/api/v1/requests/"+url.PathEscape(id), v, &r)
}

// Prune asks what would be deleted, or for its deletion.
func (c *Client) Prune(ctx context.Context, q vault.PruneRequest) (p Pruned, err error) {
	return p, c.do(ctx, http.MethodPost, "/api/v1/prune", q, &p)
}

// Verify asks for stored bytes to be read back.
func (c *Client) Verify(ctx context.Context, q vault.VerifyRequest) (a Asked, err error) {
	return a, c.do(ctx, http.MethodPost, "/api/v1/verify", q, &a)
}

// Repair asks for what is damaged to be mended.
func (c *Client) Repair(ctx context.Context, q vault.RepairRequest) (a Asked, err error) {
	return a, c.do(ctx, http.MethodPost, "/api/v1/repair", q, &a)
}

// Files asks which files damage costs.
func (c *Client) Files(ctx context.Context, ds []vault.Damage) (out []vault.Damage, err error) {
	return out, c.do(ctx, http.MethodPost, "/api/v1/damage/files", ds, &out)
}
