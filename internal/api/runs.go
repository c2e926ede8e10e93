package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
	"holdfast/internal/job"
)

// A Run is the record of one attempt of a piece of work: kept for success, failure,
// cancelling and the end of its process alike.
type Run struct {
	ID      string    `json:"id"` // the job and which attempt of it was claimed: "412.1"
	Job     int64     `json:"job"`
	Item    string    `json:"item"` // "stores.uploads", "locations.near"
	Kind    string    `json:"kind"` // "backup.snapshot", "drill.run"
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"` // zero while it runs, and where nobody saw it end
	Seconds float64   `json:"seconds"`
	Result  string    `json:"result" enum:"running,succeeded,incomplete,failed,cancelled,crashed,stopped"`
	Bytes   int64     `json:"bytes"`  // that were read
	Stored  int64     `json:"stored"` // that were new
	// Digest names what was made: the hash of the manifest, whose bytes lie in each
	// location.
	Digest    string            `json:"digest,omitempty"`
	Snapshot  string            `json:"snapshot,omitempty"`
	Drill     string            `json:"drill,omitempty"`
	Locations map[string]string `json:"locations,omitempty"` // "complete", or why not
	Attempt   int               `json:"attempt"`
	Scheduled bool              `json:"scheduled"`
	Reason    string            `json:"reason,omitempty"`
	Program   string            `json:"program"` // the version of the software
	Owner     string            `json:"owner"`   // the workspace whose process ran it
	Error     string            `json:"error,omitempty"`
}

// Results of runs.
const (
	RunRunning    = "running"
	RunSucceeded  = "succeeded"
	RunIncomplete = "incomplete" // a copy that lacks something: kept, and no success
	RunFailed     = "failed"
	RunCancelled  = "cancelled"
	RunCrashed    = "crashed" // its process ended without a word
	RunStopped    = "stopped" // the server was stopped, and goes on at its next start
)

// A RunQuery asks for records; what is left out selects all.
type RunQuery struct {
	Item     string    `query:"item" doc:"stores.uploads, or uploads" maxLength:"200"`
	Kind     string    `query:"kind" doc:"backup.snapshot, or backup for all that begins so" maxLength:"200"`
	Result   string    `query:"result" enum:"running,succeeded,incomplete,failed,cancelled,crashed,stopped,"`
	Location string    `query:"location" doc:"that took part" maxLength:"200"`
	Digest   string    `query:"digest" doc:"the digest or its beginning, or the snapshot" maxLength:"200"`
	Program  string    `query:"program" doc:"the version of the software" maxLength:"200"`
	Error    string    `query:"error" doc:"words of the error" maxLength:"200"`
	Job      int64     `query:"job" minimum:"0"`
	From     time.Time `query:"from" doc:"began then or later"`
	Until    time.Time `query:"until" doc:"began before"`
	Ended    time.Time `query:"ended" doc:"ended then or later"`
	Bytes    int64     `query:"bytes" doc:"read at least so many" minimum:"0"`
	Seconds  float64   `query:"seconds" doc:"took at least so long" minimum:"0"`
	Limit    int       `query:"limit" doc:"1000 without it" minimum:"0" maximum:"10000"`
}

// Runner keeps the records of work, and ends work that somebody wants ended.
type Runner interface {
	Runs(ctx context.Context, q RunQuery) ([]Run, error)
	CancelJob(ctx context.Context, id int64, by string) (job.Job, error)
}

func runs(a huma.API, r Runner) {
	get(a, access.View, "runs", "/api/v1/runs", "Records of work, newest first: every attempt, however it ended", func(ctx context.Context, in *RunQuery) (*body[[]Run], error) {
		return answer(r.Runs(ctx, *in))
	})
	post(a, access.Run, "cancel-job", "/api/v1/jobs/{id}/cancel", "End a piece of work", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body word
	}) (*body[job.Job], error) {
		return answer(r.CancelJob(ctx, in.ID, in.Body.By))
	})
}

// Runs asks for records of work.
func (c *Client) Runs(ctx context.Context, q RunQuery) (rs []Run, err error) {
	v := url.Values{}
	for name, value := range map[string]string{"item": q.Item, "kind": q.Kind, "result": q.Result, "location": q.Location, "digest": q.Digest, "program": q.Program, "error": q.Error} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": q.From, "until": q.Until, "ended": q.Ended} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, n := range map[string]int64{"job": q.Job, "bytes": q.Bytes, "limit": int64(q.Limit)} {
		if n != 0 {
			v.Set(name, strconv.FormatInt(n, 10))
		}
	}
	if q.Seconds != 0 {
		v.Set("seconds", strconv.FormatFloat(q.Seconds, 'f', -1, 64))
	}
	return rs, c.do(ctx, http.MethodGet, "/api/v1/runs?"+v.Encode(), nil, &rs)
}

// CancelJob ends a piece of work.
func (c *Client) CancelJob(ctx context.Context, id int64, by string) (j job.Job, err error) {
	return j, c.do(ctx, http.MethodPost, "/api/v1/jobs/"+strconv.FormatInt(id, 10)+"/cancel", word{By: by}, &j)
}
