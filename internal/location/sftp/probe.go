package sftp

import (
	"context"
	"fmt"
	"path"
	"time"

	client "github.com/pkg/sftp"

	"holdfast/internal/location"
	"holdfast/internal/location/probe"
)

// Probe makes an empty place in the folder to try things in. No listing of the
// repository shows it.
func Probe(ctx context.Context, cfg Config, id string) (probe.Place, error) {
	if cfg.Timeout <= 0 || cfg.Timeout > 10*time.Second {
		cfg.Timeout = 10 * time.Second
	}
	outer, err := New(cfg)
	if err != nil {
		return probe.Place{}, err
	}
	dir := path.Join(cfg.Path, location.ProbePrefix+id)
	// Mkdir and not MkdirAll: a folder that is not there may be an unmounted disk's.
	if err := outer.do(ctx, func(c *conn) error { return c.Mkdir(dir) }); err != nil {
		return probe.Place{}, outer.explain(ctx, "make", "", err)
	}
	cfg.Path = dir
	s, err := New(cfg)
	if err != nil {
		return probe.Place{}, err
	}
	again, err := New(cfg)
	if err != nil {
		return probe.Place{}, err
	}
	return probe.Place{
		Store: s, Again: again, Traits: s.traits,
		Remove: func(ctx context.Context) error {
			defer outer.Close()
			defer again.Close()
			defer s.Close()
			// The folder has a name that only we know: everything in it is ours.
			return outer.do(ctx, func(c *conn) error { return c.RemoveAll(dir) })
		},
	}, nil
}

// traits says what the server offers.
func (s *Store) traits(ctx context.Context) []probe.Check {
	var syncs, links bool
	var version string
	var vfs *client.StatVFS
	err := s.do(ctx, func(c *conn) error {
		syncs, links, version = c.syncs, c.links, string(c.ssh.ServerVersion())
		if v, err := c.StatVFS(s.cfg.Path); err == nil {
			vfs = v
		}
		return nil
	})
	if err != nil {
		return []probe.Check{{Name: "server", Outcome: probe.Unknown, Detail: err.Error()}}
	}
	durable := probe.Check{Name: "durable writes", Outcome: probe.Holds, Detail: "the server syncs files to its disk when asked (fsync@openssh.com)"}
	if !syncs {
		durable = probe.Check{Name: "durable writes", Outcome: probe.Missing, Detail: "the server cannot be asked to sync (it does not offer fsync@openssh.com)",
			Consequence: "a backup that was reported complete can be lost when the server loses power", Hint: "use OpenSSH 6.5 or newer as the server"}
	}
	naming := "by hard link"
	if !links {
		naming = "by the protocol's rename, which must not replace a file"
	}
	out := []probe.Check{
		{Name: "line", Outcome: probe.Holds, Detail: s.Line().String() + ", to a pinned host key; the server is " + version},
		durable,
		{Name: "names", Outcome: probe.Told, Detail: "objects get their names " + naming},
		{Name: "object lock", Outcome: probe.Open, Detail: "SFTP has none", Consequence: "who has the key can delete every backup there",
			Hint: "let the server take snapshots that this account cannot delete, and keep another copy in a place that locks"},
	}
	if vfs != nil {
		out = append(out, probe.Check{Name: "space", Outcome: probe.Told, Detail: fmt.Sprintf("%.1f GB free", float64(vfs.Bavail*vfs.Frsize)/1e9)})
	}
	return out
}
