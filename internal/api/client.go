package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/objective"
	"holdfast/internal/recovery"
)

// A Client speaks to a server: on its socket, or over TLS with a token.
type Client struct {
	http  *http.Client
	base  string
	token string
}

// maxAnswer bounds what a client reads.
const maxAnswer = 1 << 30

// NewClient returns a client of the server that listens on a Unix socket.
func NewClient(socket string) *Client {
	return &Client{base: "http://holdfast", http: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	}}}}
}

// NewRemote returns a client of a server elsewhere. The token never travels in the clear:
// the address is https, or this machine's own.
func NewRemote(address, token string) (*Client, error) {
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || u.Host == "" || u.Path != "" || u.User != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%q is no address of a server: %w", address, holdfast.ErrUsage), "write https://holdfast.example.com:8443")
	}
	ip := net.ParseIP(u.Hostname())
	if local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(); u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, holdfast.WithHint(fmt.Errorf("%s: a token is sent over TLS only: %w", u.Redacted(), holdfast.ErrRefused), "write https://%s", u.Host)
	}
	if token == "" {
		return nil, holdfast.WithHint(fmt.Errorf("a server elsewhere asks who you are: %w", holdfast.ErrUsage), "put a token into HOLDFAST_TOKEN; \"holdfast access token\" on the server makes one")
	}
	return &Client{base: u.String(), token: token, http: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext},
		// Whoever is redirected would show the token to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Overview asks what would be lost now.
func (c *Client) Overview(ctx context.Context) (o objective.Overview, err error) {
	return o, c.do(ctx, http.MethodGet, "/api/v1/overview", nil, &o)
}

// Explain asks why something is as it is.
func (c *Client) Explain(ctx context.Context, selector string) (e objective.Explanation, err error) {
	return e, c.do(ctx, http.MethodGet, "/api/v1/explanations?of="+url.QueryEscape(selector), nil, &e)
}

// Objectives asks what the plan promises, and how each promise stands.
func (c *Client) Objectives(ctx context.Context) (ps []objective.Declared, err error) {
	return ps, c.do(ctx, http.MethodGet, "/api/v1/objectives", nil, &ps)
}

// Controls asks what stands for each clause of each framework.
func (c *Client) Controls(ctx context.Context) (cs []objective.ControlState, err error) {
	return cs, c.do(ctx, http.MethodGet, "/api/v1/controls", nil, &cs)
}

// Simulate asks what would happen if some things were lost.
func (c *Client) Simulate(ctx context.Context, r Simulation) (s objective.Simulation, err error) {
	if r.Lose == nil {
		r.Lose = []string{}
	}
	return s, c.do(ctx, http.MethodPost, "/api/v1/simulations", r, &s)
}

// Enumerate asks what every single loss and every pair would do.
func (c *Client) Enumerate(ctx context.Context, at time.Time) (e objective.Enumeration, err error) {
	path := "/api/v1/simulations"
	if !at.IsZero() {
		path += "?at=" + url.QueryEscape(at.UTC().Format(time.RFC3339Nano))
	}
	return e, c.do(ctx, http.MethodGet, path, nil, &e)
}

// Points asks for the recovery points of a store.
func (c *Client) Points(ctx context.Context, store string) (p Points, err error) {
	return p, c.do(ctx, http.MethodGet, "/api/v1/stores/"+url.PathEscape(store)+"/points", nil, &p)
}

// Backup asks for a backup now.
func (c *Client) Backup(ctx context.Context, store, reason string) (r Asked, err error) {
	return r, c.do(ctx, http.MethodPost, "/api/v1/stores/"+url.PathEscape(store)+"/backups", map[string]string{"reason": reason}, &r)
}

// Job returns a piece of work.
func (c *Client) Job(ctx context.Context, id int64) (j job.Job, err error) {
	return j, c.do(ctx, http.MethodGet, "/api/v1/jobs/"+strconv.FormatInt(id, 10), nil, &j)
}

// StartDrill asks for a drill and returns its id and job.
func (c *Client) StartDrill(ctx context.Context, r DrillRequest) (id string, jobID int64, err error) {
	var ref Asked
	err = c.do(ctx, http.MethodPost, "/api/v1/drills", r, &ref)
	return ref.Drill, ref.Job, err
}

// Drill returns one drill.
func (c *Client) Drill(ctx context.Context, id string) (d drill.Drill, err error) {
	return d, c.do(ctx, http.MethodGet, "/api/v1/drills/"+url.PathEscape(id), nil, &d)
}

// Drills lists the drills of a store, or of all with "".
func (c *Client) Drills(ctx context.Context, store string) (ds []drill.Drill, err error) {
	return ds, c.do(ctx, http.MethodGet, "/api/v1/drills?store="+url.QueryEscape(store), nil, &ds)
}

// ConfirmDrill records the owner's word.
func (c *Client) ConfirmDrill(ctx context.Context, id, by, note string) (d drill.Drill, err error) {
	return d, c.do(ctx, http.MethodPost, "/api/v1/drills/"+url.PathEscape(id)+"/confirm", word{by, note}, &d)
}

// Incidents lists incidents.
func (c *Client) Incidents(ctx context.Context, open bool) (is []incident.Incident, err error) {
	return is, c.do(ctx, http.MethodGet, "/api/v1/incidents?open="+strconv.FormatBool(open), nil, &is)
}

// Incident returns one incident with its log.
func (c *Client) Incident(ctx context.Context, id int64) (l IncidentLog, err error) {
	return l, c.do(ctx, http.MethodGet, "/api/v1/incidents/"+strconv.FormatInt(id, 10), nil, &l)
}

// CloseIncident ends an incident.
func (c *Client) CloseIncident(ctx context.Context, id int64, by, outcome string) (i incident.Incident, err error) {
	return i, c.do(ctx, http.MethodPost, "/api/v1/incidents/"+strconv.FormatInt(id, 10)+"/close", word{by, outcome}, &i)
}

// Recover activates the recovery of an incident.
func (c *Client) Recover(ctx context.Context, id int64, by, reason string) (int64, error) {
	var r Asked
	err := c.do(ctx, http.MethodPost, "/api/v1/incidents/"+strconv.FormatInt(id, 10)+"/recover", word{by, reason}, &r)
	return r.Job, err
}

// Recoveries lists recoveries.
func (c *Client) Recoveries(ctx context.Context) (rs []recovery.Run, err error) {
	return rs, c.do(ctx, http.MethodGet, "/api/v1/recoveries", nil, &rs)
}

// Recovery returns one recovery with its steps.
func (c *Client) Recovery(ctx context.Context, id string) (r recovery.Run, err error) {
	return r, c.do(ctx, http.MethodGet, "/api/v1/recoveries/"+url.PathEscape(id), nil, &r)
}

// ConfirmStep records that a person did a step.
func (c *Client) ConfirmStep(ctx context.Context, run, step, by, note string) (r recovery.Run, err error) {
	return r, c.do(ctx, http.MethodPost, "/api/v1/recoveries/"+url.PathEscape(run)+"/steps/"+url.PathEscape(step)+"/confirm", word{by, note}, &r)
}

// Evidence exports a pack.
func (c *Client) Evidence(ctx context.Context, e Export) ([]byte, error) {
	res, err := c.send(ctx, http.MethodPost, "/api/v1/evidence", e)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return readAll(res.Body)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := readAll(res.Body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer of %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, unreachable(op)
	}
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 400 {
		defer res.Body.Close()
		return nil, readProblem(res)
	}
	return res, nil
}

func readProblem(res *http.Response) error {
	b, err := readAll(res.Body)
	if err != nil {
		return err
	}
	p := &Problem{}
	if err := json.Unmarshal(b, p); err != nil || p.Detail == "" {
		return fmt.Errorf("the server answered %s", res.Status)
	}
	if p.Exit == 0 {
		p.Exit = holdfast.ExitError
	}
	return holdfast.WithHint(p, "%s", p.Hint)
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return b, err
}

// Coverage asks what restore tests reached in a period; in the quarter of now without one.
func (c *Client) Coverage(ctx context.Context, from, to time.Time) (k drill.Coverage, err error) {
	q := url.Values{}
	for name, at := range map[string]time.Time{"from": from, "to": to} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	return k, c.do(ctx, http.MethodGet, "/api/v1/coverage?"+q.Encode(), nil, &k)
}
