package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
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
	return app.Options{Workspace: w, State: c.state, Clock: time.Now, Log: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: level}))}, nil
}

// withServer calls f with a client of the running server. Without one it starts
// the product in this process for as long as f runs: the same code answers.
func (c *cli) withServer(ctx context.Context, f func(ctx context.Context, api *api.Client) error) error {
	opt, err := c.options(slog.LevelError)
	if err != nil {
		return err
	}
	if conn, err := net.DialTimeout("unix", opt.Workspace.Socket(), time.Second); err == nil {
		conn.Close()
		return f(ctx, api.NewClient(opt.Workspace.Socket()))
	}
	a, err := app.Open(ctx, opt)
	if err != nil {
		return err
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

// wait follows a job to its end and shows its progress on a terminal.
func (c *cli) wait(ctx context.Context, cl *api.Client, id int64, what string) (job.Job, error) {
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
			return j, holdfast.WithHint(fmt.Errorf("%s: %s", what, j.Error), "%s", hintOf(j.Error))
		case job.Waiting:
			if j.Attempt > 0 && j.Error != "" {
				// It will be tried again later; the person at the terminal wants to know now.
				return j, holdfast.WithHint(fmt.Errorf("%s: %s", what, j.Error), "the server tries again by itself; mend the cause, and \"holdfast status\" shows how it went")
			}
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func hintOf(string) string { return "\"holdfast status\" shows what is protected now" }

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
