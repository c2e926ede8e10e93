package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
	"holdfast/internal/message"
	"holdfast/internal/oncall"
)

// Callers is what a person may do about calls and channels. by is the person.
type Callers interface {
	Answer(ctx context.Context, id int64, by, note string) (oncall.Call, error)
	TryChannel(ctx context.Context, channel, person string) (said string, err error)
}

// A Trial asks for a message for testing.
type Trial struct {
	Channel string `json:"channel,omitempty" required:"false" maxLength:"200" doc:"of the plan; without it the first by which people are told"`
	Person  string `json:"person,omitempty" required:"false" maxLength:"200" doc:"who receives it; a webhook needs none"`
}

// A Tried is what came of it.
type Tried struct {
	Said string `json:"said" doc:"what the other side said"`
}

func messages(a huma.API, cfg Config) {
	get(a, access.View, "messages", "/api/v1/messages", "Messages, newest first, without their text", func(ctx context.Context, in *struct {
		State string `query:"state" maxLength:"20" doc:"waiting, handed, failed or withdrawn; all without it"`
	}) (*body[[]message.Message], error) {
		return answer(cfg.Messages.List(ctx, in.State))
	})
	get(a, access.View, "message", "/api/v1/messages/{id}", "One message", func(ctx context.Context, in *byID[string]) (*body[message.Message], error) {
		return answer(cfg.Messages.Get(ctx, in.ID))
	})
	post(a, access.Respond, "resend", "/api/v1/messages/{id}/resend", "Send a message that has ended once more, with the same id", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body word
	}) (*body[message.Message], error) {
		who, err := by(ctx, in.Body.By)
		if err != nil {
			return nil, problem(err)
		}
		return answer(cfg.Messages.Resend(ctx, in.ID, who))
	})
	post(a, access.Configure, "try-channel", "/api/v1/channels/trials", "Send a message for testing, now", func(ctx context.Context, in *body[Trial]) (*body[Tried], error) {
		said, err := cfg.Callers.TryChannel(ctx, in.Body.Channel, in.Body.Person)
		return answer(Tried{said}, err)
	})
	get(a, access.View, "calls", "/api/v1/calls", "Who is called for what, newest first", func(ctx context.Context, in *struct {
		All bool `query:"all" doc:"also what is over, and notices"`
	}) (*body[[]oncall.Call], error) {
		return answer(cfg.Calls.List(ctx, in.All))
	})
	get(a, access.View, "call", "/api/v1/calls/{id}", "One call", func(ctx context.Context, in *byID[int64]) (*body[oncall.Call], error) {
		return answer(cfg.Calls.Get(ctx, in.ID))
	})
	post(a, access.Respond, "answer-call", "/api/v1/calls/{id}/answer", "A person sees to it", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body word
	}) (*body[oncall.Call], error) {
		return answer(cfg.Callers.Answer(ctx, in.ID, in.Body.By, in.Body.Note))
	})
}

// Messages lists messages of a state, of all for "".
func (c *Client) Messages(ctx context.Context, state string) (ms []message.Message, err error) {
	return ms, c.do(ctx, http.MethodGet, "/api/v1/messages?state="+url.QueryEscape(state), nil, &ms)
}

// Message asks for one message.
func (c *Client) Message(ctx context.Context, id string) (m message.Message, err error) {
	return m, c.do(ctx, http.MethodGet, "/api/v1/messages/"+url.PathEscape(id), nil, &m)
}

// Resend sends a message once more.
func (c *Client) Resend(ctx context.Context, id, by string) (m message.Message, err error) {
	return m, c.do(ctx, http.MethodPost, "/api/v1/messages/"+url.PathEscape(id)+"/resend", word{By: by}, &m)
}

// TryChannel sends a message for testing.
func (c *Client) TryChannel(ctx context.Context, t Trial) (out Tried, err error) {
	return out, c.do(ctx, http.MethodPost, "/api/v1/channels/trials", t, &out)
}

// Calls lists calls.
func (c *Client) Calls(ctx context.Context, all bool) (cs []oncall.Call, err error) {
	return cs, c.do(ctx, http.MethodGet, "/api/v1/calls?all="+strconv.FormatBool(all), nil, &cs)
}

// Call asks for one call.
func (c *Client) Call(ctx context.Context, id int64) (call oncall.Call, err error) {
	return call, c.do(ctx, http.MethodGet, fmt.Sprintf("/api/v1/calls/%d", id), nil, &call)
}

// AnswerCall says that a person sees to it.
func (c *Client) AnswerCall(ctx context.Context, id int64, by, note string) (call oncall.Call, err error) {
	return call, c.do(ctx, http.MethodPost, fmt.Sprintf("/api/v1/calls/%d/answer", id), word{by, note}, &call)
}
