package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/survive"
)

// A KitFile is a recovery kit that was made: sealed to a key that no server has.
type KitFile struct {
	Kit    survive.Kit `json:"kit"`
	Name   string      `json:"name"`
	Sealed []byte      `json:"sealed" doc:"a tar in an age file"`
	Readme string      `json:"readme" doc:"how it is opened; nothing of it is secret"`
}

// A KitState says what the recovery kit is worth.
type KitState struct {
	Key      string             `json:"key"`
	Needed   int                `json:"needed" doc:"shares that open it"`
	Holders  []string           `json:"holders"`
	Outside  []string           `json:"outside" doc:"those who do not work here"`
	Newest   *survive.Kit       `json:"newest,omitempty" required:"false"`
	Findings []holdfast.Finding `json:"findings"`
}

// RecoveryKit is what is done with the recovery kit. There is no way to open it.
type RecoveryKit interface {
	Kit(ctx context.Context) (KitState, error)
	MakeKit(ctx context.Context, by string) (KitFile, error)
}

func recoveryKit(a huma.API, k RecoveryKit) {
	get(a, access.View, "kit", "/api/v1/kit", "What the recovery kit is worth", func(ctx context.Context, _ *struct{}) (*body[KitState], error) {
		return answer(k.Kit(ctx))
	})
	post(a, access.Configure, "make-kit", "/api/v1/kit", "Make the recovery kit of the plan in force, sealed to the key of its holders", func(ctx context.Context, in *struct {
		Body struct {
			By string `json:"by" required:"false" maxLength:"200"`
		}
	}) (*body[KitFile], error) {
		return answer(k.MakeKit(ctx, in.Body.By))
	})
}

// Kit says what the recovery kit is worth.
func (c *Client) Kit(ctx context.Context) (k KitState, err error) {
	return k, c.do(ctx, http.MethodGet, "/api/v1/kit", nil, &k)
}

// MakeKit makes the recovery kit.
func (c *Client) MakeKit(ctx context.Context, by string) (k KitFile, err error) {
	return k, c.do(ctx, http.MethodPost, "/api/v1/kit", map[string]string{"by": by}, &k)
}
