package api

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/survive"
)

// OfflineCopies says who holds which version of the plan for when nothing works.
type OfflineCopies struct {
	People   []survive.Held     `json:"people"`
	Copies   []survive.Copy     `json:"copies" doc:"every copy that was ever made, the oldest first"`
	Findings []holdfast.Finding `json:"findings"`
}

// An OfflineDraft is an offline copy before it is sealed. Whoever asked seals it: the
// passphrase never comes here.
type OfflineDraft struct {
	Statement survive.Statement `json:"statement" doc:"without what only the sealing gives"`
	Code      string            `json:"code" doc:"it stands in the page, and shows that the copy was opened"`
	Page      string            `json:"page"`
}

// An OfflineRecord says what was sealed.
type OfflineRecord struct {
	Copy   string    `json:"copy" minLength:"1" maxLength:"100"`
	Person string    `json:"person" minLength:"1" maxLength:"200"`
	Digest string    `json:"digest" maxLength:"100" doc:"of the plan"`
	Made   time.Time `json:"made"`
	Rounds int       `json:"rounds" minimum:"1" maximum:"10000000"`
	Code   string    `json:"code" maxLength:"64" doc:"HMAC over what is sealed"`
	Sealed string    `json:"sealed" maxLength:"100"`
	Hash   string    `json:"code_hash" maxLength:"100" doc:"of the code in the page"`
	By     string    `json:"by" required:"false" maxLength:"200"`
}

// An OfflineSigned is the signed statement of a copy.
type OfflineSigned struct {
	Statement survive.Statement `json:"statement"`
	Signature []byte            `json:"signature"`
	Key       string            `json:"key" doc:"public half of the evidence key"`
}

// Offline is what people do about offline copies of the plan.
type Offline interface {
	OfflineCopies(ctx context.Context) (OfflineCopies, error)
	DraftOfflineCopy(ctx context.Context, person string) (OfflineDraft, error)
	RecordOfflineCopy(ctx context.Context, r OfflineRecord) (OfflineSigned, error)
	ConfirmOfflineCopy(ctx context.Context, id, code, by string) (survive.Copy, error)
	EndOfflineCopy(ctx context.Context, id, by, how string) (survive.Copy, error)
}

func offline(a huma.API, o Offline) {
	get(a, access.View, "offline-copies", "/api/v1/offline", "Who holds which version of the plan for when nothing works", func(ctx context.Context, _ *struct{}) (*body[OfflineCopies], error) {
		return answer(o.OfflineCopies(ctx))
	})
	post(a, access.Configure, "draft-offline-copy", "/api/v1/offline/drafts", "The plan for one person, to be sealed by whoever asks", func(ctx context.Context, in *struct {
		Body struct {
			Person string `json:"person" minLength:"1" maxLength:"200"`
		}
	}) (*body[OfflineDraft], error) {
		return answer(o.DraftOfflineCopy(ctx, in.Body.Person))
	})
	post(a, access.Configure, "record-offline-copy", "/api/v1/offline", "Record a copy that was sealed, and sign its statement", func(ctx context.Context, in *struct{ Body OfflineRecord }) (*body[OfflineSigned], error) {
		return answer(o.RecordOfflineCopy(ctx, in.Body))
	})
	post(a, access.Self, "confirm-offline-copy", "/api/v1/offline/{id}/confirmation", "A person shows that their copy opens", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			Code string `json:"code" minLength:"1" maxLength:"100"`
			By   string `json:"by" required:"false" maxLength:"200"`
		}
	}) (*body[survive.Copy], error) {
		return answer(o.ConfirmOfflineCopy(ctx, in.ID, in.Body.Code, in.Body.By))
	})
	post(a, access.Configure, "end-offline-copy", "/api/v1/offline/{id}/end", "Record that a copy came back or was destroyed", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			How string `json:"how" minLength:"1" maxLength:"1000"`
			By  string `json:"by" required:"false" maxLength:"200"`
		}
	}) (*body[survive.Copy], error) {
		return answer(o.EndOfflineCopy(ctx, in.ID, in.Body.By, in.Body.How))
	})
}

// OfflineCopies asks who holds which version of the plan.
func (c *Client) OfflineCopies(ctx context.Context) (o OfflineCopies, err error) {
	return o, c.do(ctx, http.MethodGet, "/api/v1/offline", nil, &o)
}

// DraftOfflineCopy asks for the plan for one person.
func (c *Client) DraftOfflineCopy(ctx context.Context, person string) (d OfflineDraft, err error) {
	return d, c.do(ctx, http.MethodPost, "/api/v1/offline/drafts", map[string]string{"person": person}, &d)
}

// RecordOfflineCopy records a copy that was sealed.
func (c *Client) RecordOfflineCopy(ctx context.Context, r OfflineRecord) (s OfflineSigned, err error) {
	return s, c.do(ctx, http.MethodPost, "/api/v1/offline", r, &s)
}

// ConfirmOfflineCopy shows that a copy opens.
func (c *Client) ConfirmOfflineCopy(ctx context.Context, id, code, by string) (s survive.Copy, err error) {
	return s, c.do(ctx, http.MethodPost, "/api/v1/offline/"+url.PathEscape(id)+"/confirmation", map[string]string{"code": code, "by": by}, &s)
}

// EndOfflineCopy records that a copy came back or was destroyed.
func (c *Client) EndOfflineCopy(ctx context.Context, id, by, how string) (s survive.Copy, err error) {
	return s, c.do(ctx, http.MethodPost, "/api/v1/offline/"+url.PathEscape(id)+"/end", map[string]string{"how": how, "by": by}, &s)
}
