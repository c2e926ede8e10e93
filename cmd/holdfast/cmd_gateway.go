package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/app"
	"holdfast/internal/location/gateway"
	"holdfast/internal/seal"
)

func (c *cli) gatewayCmd() *cobra.Command {
	var dir string
	g := group("gateway", "Guard a location, so that writers can only write",
		c.gatewayInitCmd(&dir), c.gatewayEnrollCmd(&dir), c.gatewayRevokeCmd(&dir), c.gatewayListCmd(&dir), c.gatewayServeCmd(&dir))
	g.PersistentFlags().StringVar(&dir, "registry", "", "folder of the gateway's authority and clients (default: gateway in the workspace)")
	return g
}

// registryDir is where the gateway keeps whom it knows.
func (c *cli) registryDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	w, err := app.Find(c.dir)
	if err != nil {
		return "", holdfast.WithHint(err, "name the folder of the gateway: --registry DIR")
	}
	return filepath.Join(w.Dir, "gateway"), nil
}

func (c *cli) registry(dir string) (gateway.Registry, error) {
	dir, err := c.registryDir(dir)
	if err != nil {
		return gateway.Registry{}, err
	}
	return gateway.OpenRegistry(dir)
}

func (c *cli) gatewayInitCmd(dir *string) *cobra.Command {
	var hosts []string
	cmd := &cobra.Command{
		Use:   "init --host NAME...",
		Short: "Make the authority and the certificate of a gateway",
		Long: `Make what a gateway needs to be known by, on the machine on which it will run: an
authority of its own, which vouches for nothing else, and a certificate for the names
and addresses under which clients reach it. A crash in the middle is mended by
running it again; what is there is never overwritten.

Exit status: 0 made, 1 error (also when it is there already).`,
		Example: "  $ holdfast gateway init --host backup.example.com --host 10.0.0.7",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			d, err := c.registryDir(*dir)
			if err != nil {
				return err
			}
			if len(hosts) == 0 {
				return &usageError{holdfast.WithHint(errors.New("no name under which the gateway is reached"), "give --host NAME, once for each name and address")}
			}
			if _, err := gateway.InitRegistry(d, hosts, time.Now()); err != nil {
				return err
			}
			return c.print(map[string]any{"registry": d, "hosts": hosts}, func(o io.Writer) {
				fmt.Fprintf(o, "gateway made in %s\nnext: holdfast gateway enroll NAME --role writer --to FILE\n", d)
			})
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "name or address of the gateway; once for each")
	return cmd
}

func (c *cli) gatewayEnrollCmd(dir *string) *cobra.Command {
	var role, to string
	var days int
	cmd := &cobra.Command{
		Use:   "enroll NAME --role ROLE --to FILE",
		Short: "Make the identity of a client: a writer, a reader or the vault",
		Long: `Make a certificate and its key for the client NAME and write both into FILE, for its
owner only. Carry the file to the client's machine, name it in the plan there
(locations.X.gateway.identity_file), and delete it here.

A writer puts new packs, snapshots and log pieces and learns nothing back: it is for
the machine that makes backups. A reader reads and lists: for drills and recoveries.
The vault reads, lists and puts receipts, and deletes if the gateway allows it.
Enrolling a name again gives it a second identity; nobody holds two roles.

Exit status: 0 made, 1 error, 2 usage, 4 the name has another role.`,
		Example: "  $ holdfast gateway enroll db1 --role writer --to /media/usb/db1.pem",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			r, err := c.registry(*dir)
			if err != nil {
				return err
			}
			identity, cl, err := r.Enroll(a[0], gateway.Role(role), days, time.Now())
			if err != nil {
				return err
			}
			if err := seal.WriteKeyFile(to, string(identity)); err != nil {
				return err
			}
			return c.print(cl, func(o io.Writer) {
				fmt.Fprintf(o, "%s is a %s until %s; its identity is in %s\n", cl.Name, cl.Role, when(cl.Until), to)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "writer, reader or vault")
	f.StringVar(&to, "to", "", "file for the identity; must be absent")
	f.IntVar(&days, "days", 365, "how many days it holds")
	_ = cmd.MarkFlagRequired("role")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func (c *cli) gatewayRevokeCmd(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Take every identity of a client back, at once",
		Long: `Take back all identities of NAME. A running gateway refuses them from the next
request on. What the client has put stays.

Exit status: 0 done, 1 error, 2 nobody of that name is enrolled.`,
		Example: "  $ holdfast gateway revoke db1",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, a []string) error {
			r, err := c.registry(*dir)
			if err != nil {
				return err
			}
			n, err := r.Revoke(a[0], time.Now())
			if err != nil {
				return err
			}
			return c.print(map[string]any{"name": a[0], "revoked": n}, func(o io.Writer) { fmt.Fprintf(o, "%s: %d identities taken back\n", a[0], n) })
		},
	}
}

func (c *cli) gatewayListCmd(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Whom the gateway knows",
		Long:    "List the clients that were enrolled, with their roles and until when they hold.\n\nExit status: 0 listed, 1 error.",
		Example: "  $ holdfast gateway list",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			r, err := c.registry(*dir)
			if err != nil {
				return err
			}
			cs, err := r.Clients()
			if err != nil {
				return err
			}
			return c.print(map[string]any{"clients": notNil(cs)}, func(o io.Writer) {
				w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "CLIENT\tROLE\tENROLLED\tUNTIL\tREVOKED")
				for _, cl := range cs {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", cl.Name, cl.Role, when(cl.Enrolled), when(cl.Until), when(cl.Revoked))
				}
				w.Flush()
			})
		},
	}
}

func (c *cli) gatewayServeCmd(dir *string) *cobra.Command {
	var listen, name, budget string
	var deletes bool
	cmd := &cobra.Command{
		Use:   "serve --location NAME",
		Short: "Run the gateway in front of a location",
		Long: `Guard the location NAME of the plan, until interrupted. Only this machine should have
that location's credentials. Clients come with the identities that "gateway enroll"
made, over TLS 1.3, and do what their role may.

A writer can put --budget bytes in a day of UTC, so that a captured host cannot fill the
place in a night. The vault can delete only with --deletes.

Exit status: 0 stopped, 1 error, 2 usage.`,
		Example: "  $ holdfast gateway serve --location disk --listen :8443 --budget 200GB\n  holdfast: gateway for disk at https://[::]:8443",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, err := parseSize(budget)
			if err != nil {
				return &usageError{err}
			}
			_, p, err := c.workspacePlan()
			if err != nil {
				return err
			}
			r, err := c.registry(*dir)
			if err != nil {
				return err
			}
			identity, err := r.Identity()
			if err != nil {
				return err
			}
			place, err := app.NewPlaces(p).Store(name)
			if err != nil {
				return err
			}
			spent, err := gateway.NewBudget(r.SpentFile(), limit)
			if err != nil {
				return err
			}
			ln, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return holdfast.WithHint(err, "choose an address of this machine that is free: --listen HOST:PORT")
			}
			address := "https://" + ln.Addr().String()
			if err := c.print(map[string]string{"location": name, "url": address}, func(o io.Writer) {
				fmt.Fprintf(o, "holdfast: gateway for %s at %s\n", name, address)
			}); err != nil {
				return errors.Join(err, ln.Close())
			}
			return gateway.Serve(cmd.Context(), ln, identity, gateway.Config{
				Place: place, Budget: spent, Deletes: deletes, Revoked: r.Revoked, Clock: time.Now,
				Log: slog.New(slog.NewTextHandler(c.stderr, nil)),
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "location", "", "the location of the plan that is guarded")
	f.StringVar(&listen, "listen", "127.0.0.1:8443", "address to listen on")
	f.StringVar(&budget, "budget", "1TB", "what one writer may put in a day, such as 200GB; 0 is no limit")
	f.BoolVar(&deletes, "deletes", false, "let the vault delete")
	_ = cmd.MarkFlagRequired("location")
	return cmd
}

// parseSize reads a number of bytes: 500, 10MB, 200GB, 1TB.
func parseSize(s string) (int64, error) {
	digits, factor := strings.ToUpper(strings.TrimSpace(s)), int64(1)
	for i, unit := range []string{"KB", "MB", "GB", "TB"} {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			digits = strings.TrimSpace(rest)
			for range i + 1 {
				factor *= 1000
			}
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<62/factor {
		return 0, holdfast.WithHint(fmt.Errorf("%q is no size", s), "write bytes, or a number with KB, MB, GB or TB, such as 200GB")
	}
	return n * factor, nil
}
