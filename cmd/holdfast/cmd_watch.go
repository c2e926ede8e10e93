package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/plan"
)

func (c *cli) watchCmd() *cobra.Command {
	var file, listen, state string
	var within time.Duration
	cmd := &cobra.Command{
		Use: "watch --plan FILE", Short: "Stand elsewhere, hear the server's heartbeat, and tell people when it stops", Args: args(cobra.NoArgs),
		Long: `Hear the heartbeat that a server sends to messages.heartbeat of its plan, and tell
people by the plan's channels when it stops, and when it is there again. It belongs on
another machine, with another provider: it has a copy of the plan and of the secrets of
its channels, and no key and no state of the server.

A server is silent when it is down or cut off, when it cannot read its state, and when
urgent messages of its own have reached nobody for a quarter of an hour. It runs until it is stopped.

Exit status: 0 stopped, 1 error, 2 the plan has no heartbeat or reaches nobody.`,
		Example: "  $ holdfast watch --plan /etc/holdfast/plan.yaml --listen 10.0.0.9:7979",
		RunE: func(cmd *cobra.Command, _ []string) error {
			clock, err := c.clock()
			if err != nil {
				return err
			}
			p, err := plan.Load(file)
			if err != nil {
				return err
			}
			if state == "" {
				state = filepath.Join(p.Dir(), "watch.json")
			}
			w, err := app.NewWatch(p, state, within, clock, slog.New(slog.NewTextHandler(c.stderr, nil)))
			if err != nil {
				return err
			}
			return c.runWatch(cmd.Context(), w, listen)
		},
	}
	cmd.Flags().StringVar(&file, "plan", "", "the copy of the plan (required)")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7979", "address for heartbeats")
	cmd.Flags().StringVar(&state, "state", "", "file that keeps what it knows (default: watch.json beside the plan)")
	cmd.Flags().DurationVar(&within, "within", 0, "how long silence may last (default: three heartbeats)")
	_ = cmd.MarkFlagRequired("plan")
	return cmd
}

func (c *cli) runWatch(ctx context.Context, w *app.Watch, address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return holdfast.WithHint(err, "another program has that port, or the address is not of this machine: choose another one with --listen")
	}
	s := &http.Server{Handler: w, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	fmt.Fprintf(c.stdout, "watching: heartbeats at http://%s\n", ln.Addr())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		_ = s.Close()
	})
	err = s.Serve(ln)
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
