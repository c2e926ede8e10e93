package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/job"
)

// options are what opens the product.
func (c *cli) options(level slog.Level) (app.Options, error) {
	w, err := app.Find(c.dir)
	if err != nil {
		return app.Options{}, err
	}
	clock, err := c.clock()
	if err != nil {
		return app.Options{}, err
	}
	return app.Options{Workspace: w, State: c.state, Clock: clock, Rehearsal: os.Getenv(clockVariable), Follows: strings.HasPrefix(os.Getenv(clockVariable), "@"), Log: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level}))}, nil
}

// tokenVariable holds the token for --server: an argument would show it to everybody on
// the machine.
const tokenVariable = "HOLDFAST_TOKEN"

// reading is the work of a command that only asks.
var reading = app.Work{Asked: true}

// withServer calls f with a client of the running server. Without one it opens the
// product in this process for as long as f runs, with just the work that f needs:
// the same code answers.
//
// With --server it asks that one instead, with the token in HOLDFAST_TOKEN: nothing of
// this machine is read.
func (c *cli) withServer(ctx context.Context, work app.Work, f func(ctx context.Context, api *api.Client) error) error {
	if c.server != "" {
		cl, err := api.NewRemote(c.server, os.Getenv(tokenVariable))
		if err != nil {
			return err
		}
		return f(ctx, cl)
	}
	opt, err := c.options(slog.LevelError)
	if err != nil {
		return err
	}
	opt.Work = work
	if conn, err := net.DialTimeout("unix", opt.Workspace.Socket(), time.Second); err == nil {
		conn.Close()
		return f(ctx, api.NewClient(opt.Workspace.Socket()))
	}
	c.alone = true
	a, err := app.Open(ctx, opt)
	if err != nil {
		return err
	}
	for _, f := range a.Waiting() {
		fmt.Fprintf(c.stderr, "holdfast: note: %s: %s\n", f.Code, f.Message)
	}
	s, err := a.Serve(ctx, app.Listen{Socket: true})
	if err != nil {
		return errors.Join(err, a.Stop())
	}
	ferr := f(ctx, api.NewClient(opt.Workspace.Socket()))
	return errors.Join(ferr, s.Stop(), a.Stop())
}

// pollEvery is how often a waiting command asks how far its job is.
const pollEvery = 300 * time.Millisecond

// wait follows a job to its end and shows its progress on a terminal. An attempt up
// to the number after is older than the request and no answer to it.
func (c *cli) wait(ctx context.Context, cl *api.Client, id int64, after int, what string) (job.Job, error) {
	bar := newBar(c.stderr, what)
	defer bar.end()
	for {
		j, err := cl.Job(ctx, id)
		if err != nil {
			return j, err
		}
		bar.show(j.Progress)
		switch j.State {
		case job.Done:
			return j, nil
		case job.Failed, job.Cancelled:
			return j, jobError(what, j.Error, "\"holdfast status\" shows what is protected now")
		case job.Waiting:
			if j.Attempt > after && j.Error != "" {
				// It will be tried again later; the person at the terminal wants to know now.
				return j, jobError(what, j.Error, "a running server tries again by itself; \"holdfast status\" shows how it went")
			}
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// jobError makes an error of what a job left: its own hint, or another one.
func jobError(what, text, otherwise string) error {
	message, hint := holdfast.Heard(text)
	if hint == "" {
		hint = otherwise
	}
	return holdfast.WithHint(fmt.Errorf("%s: %s", what, message), "%s", hint)
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
