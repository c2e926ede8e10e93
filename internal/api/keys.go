package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/survive"
)

// Keys is what is known of the keys that read the backups.
type Keys struct {
	Holders  []survive.Standing `json:"holders"`
	Register []survive.Life     `json:"register" doc:"every key that a plan in force has named, with its life"`
	Findings []holdfast.Finding `json:"findings"`
}

// A Rewrap is what gave the keys of older objects to the keys in force.
type Rewrap struct {
	Recipients []string      `json:"recipients" doc:"fingerprints of who can read now"`
	Purpose    string        `json:"purpose" minLength:"1" maxLength:"1000"`
	By         string        `json:"by" minLength:"1" maxLength:"200"`
	Places     []RewrapPlace `json:"places"`
}

// A RewrapPlace is one store at one location.
type RewrapPlace struct {
	Store    string `json:"store"`
	Location string `json:"location"`
	Objects  int    `json:"objects"`
	Readable int    `json:"readable"` // before
	Given    int    `json:"given"`
	Stuck    int    `json:"stuck"`
	Error    string `json:"error,omitempty" required:"false"`
}

// Custody is what people do about the keys that read the backups.
type Custody interface {
	KeyHolders(ctx context.Context) (Keys, error)
	Encryption(ctx context.Context) (Encryption, error)
	Challenges(ctx context.Context) ([]survive.Challenge, error)
	AskForKey(ctx context.Context, key, holder string) ([]survive.Challenge, error)
	AnswerForKey(ctx context.Context, challenge, answer, by string) (survive.Challenge, error)
	Rewrapped(ctx context.Context, r Rewrap) error
	DestroyedKey(ctx context.Context, key, by, how string) (survive.Life, error)
}

func custody(a huma.API, c Custody) {
	encryption(a, c)
	get(a, access.View, "keys", "/api/v1/keys", "Who holds which key, and has shown that it opens", func(ctx context.Context, _ *struct{}) (*body[Keys], error) {
		return answer(c.KeyHolders(ctx))
	})
	get(a, access.View, "challenges", "/api/v1/challenges", "Challenges to holders of keys that are not answered", func(ctx context.Context, _ *struct{}) (*body[[]survive.Challenge], error) {
		return answer(c.Challenges(ctx))
	})
	post(a, access.Configure, "ask-for-key", "/api/v1/keys/{id}/challenges", "Ask the holders of a key to show that it opens", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			Holder string `json:"holder" required:"false" maxLength:"200" doc:"only this one"`
		}
	}) (*body[[]survive.Challenge], error) {
		return answer(c.AskForKey(ctx, in.ID, in.Body.Holder))
	})
	post(a, access.Configure, "destroyed-key", "/api/v1/keys/{id}/destroyed", "A person's word that the private half of a key is no more", func(ctx context.Context, in *struct {
		ID   string `path:"id" doc:"the key's name in the plan, or its fingerprint"`
		Body struct {
			By  string `json:"by" minLength:"1" maxLength:"200" doc:"a person of the plan"`
			How string `json:"how" minLength:"1" maxLength:"1000"`
		}
	}) (*body[survive.Life], error) {
		return answer(c.DestroyedKey(ctx, in.ID, in.Body.By, in.Body.How))
	})
	post(a, access.Configure, "rewrapped", "/api/v1/keys/rewraps", "Record that the keys of older objects were given to the keys in force", func(ctx context.Context, in *struct{ Body Rewrap }) (*body[bool], error) {
		return answer(true, c.Rewrapped(ctx, in.Body))
	})
	post(a, access.Respond, "answer-for-key", "/api/v1/challenges/{id}/answer", "The answer of a holder", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			Answer string `json:"answer" minLength:"1" maxLength:"1000"`
			By     string `json:"by" required:"false" maxLength:"200" doc:"who brings it: a person of the plan"`
		}
	}) (*body[survive.Challenge], error) {
		return answer(c.AnswerForKey(ctx, in.ID, in.Body.Answer, in.Body.By))
	})
}

// DestroyedKey records that the private half of a key is no more.
func (c *Client) DestroyedKey(ctx context.Context, key, by, how string) (l survive.Life, err error) {
	return l, c.do(ctx, http.MethodPost, "/api/v1/keys/"+url.PathEscape(key)+"/destroyed", map[string]string{"by": by, "how": how}, &l)
}

// Rewrapped records what was done.
func (c *Client) Rewrapped(ctx context.Context, r Rewrap) error {
	var done bool
	return c.do(ctx, http.MethodPost, "/api/v1/keys/rewraps", r, &done)
}

// Keys asks who holds which key.
func (c *Client) Keys(ctx context.Context) (k Keys, err error) {
	return k, c.do(ctx, http.MethodGet, "/api/v1/keys", nil, &k)
}

// Challenges lists the challenges that are not answered.
func (c *Client) Challenges(ctx context.Context) (cs []survive.Challenge, err error) {
	return cs, c.do(ctx, http.MethodGet, "/api/v1/challenges", nil, &cs)
}

// AskForKey asks the holders of a key.
func (c *Client) AskForKey(ctx context.Context, key, holder string) (cs []survive.Challenge, err error) {
	return cs, c.do(ctx, http.MethodPost, "/api/v1/keys/"+url.PathEscape(key)+"/challenges", map[string]string{"holder": holder}, &cs)
}

// AnswerForKey brings the answer of a holder.
func (c *Client) AnswerForKey(ctx context.Context, challenge, answer, by string) (ch survive.Challenge, err error) {
	return ch, c.do(ctx, http.MethodPost, "/api/v1/challenges/"+url.PathEscape(challenge)+"/answer", map[string]string{"answer": answer, "by": by}, &ch)
}
