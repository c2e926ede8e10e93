package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/location/probe"
	"holdfast/internal/repo"
)

// Probe says what the gateway lets this client do. It stores nothing: what the place
// behind the gateway guarantees is probed on the gateway's machine.
func (s *Store) Probe(ctx context.Context, clock func() time.Time) probe.Report {
	began := clock()
	ctx, cancel := context.WithTimeout(ctx, probe.Budget)
	defer cancel()
	r := probe.Report{Checks: []probe.Check{s.reach(ctx)}}
	if r.Checks[0].Outcome == probe.Holds {
		r.Checks = append(r.Checks, s.overwrite(ctx), s.reading(ctx), s.listing(ctx), s.deletion(ctx))
	}
	line := probe.Check{Name: "line", Outcome: probe.Unknown, Detail: s.Line().String()}
	if s.Line().Protocol != "" {
		line.Outcome, line.Detail = probe.Holds, line.Detail+", with certificates of the gateway's own authority on both ends"
	}
	r.Checks = append(r.Checks, line,
		probe.Check{Name: "role", Outcome: probe.Told, Detail: fmt.Sprintf("this identity is of a %s", s.role)})
	r.Seconds = clock().Sub(began).Seconds()
	return r
}

// probeObject is a name that nobody uses: no pack begins with a header whose hash is zero.
const probeObject = "packs/00/00000000000000000000000000000000"

// refused reports whether the gateway said no, and nothing else went wrong.
func refused(err error) bool { return errors.Is(err, errRole) || errors.Is(err, location.ErrName) }

func (s *Store) reach(ctx context.Context) probe.Check {
	c := probe.Check{Name: "reachable", Outcome: probe.Holds, Detail: "the gateway answers, and knows this identity"}
	// A put of a name that no client may put is refused by the guard itself.
	err := s.Put(ctx, location.Marker, 1, bytes.NewReader([]byte("x")))
	switch {
	case errors.Is(err, fs.ErrExist):
		c.Detail = "the gateway answers, knows this identity, and a repository is behind it"
	case err != nil && !refused(err):
		return probe.Check{Name: "reachable", Outcome: probe.Missing, Detail: err.Error(), Consequence: "nothing can be backed up there", Hint: holdfast.Hint(err)}
	}
	return c
}

func (s *Store) overwrite(ctx context.Context) probe.Check {
	c := probe.Check{Name: "no overwrite", Outcome: probe.Holds, Detail: "a put of what is there, or of what is not this role's, is refused"}
	if err := s.Put(ctx, location.Marker, 1, bytes.NewReader([]byte("x"))); err == nil {
		c.Outcome, c.Detail, c.Consequence = probe.Missing, "the marker of the repository was put anew", "old backups can be replaced"
	}
	return c
}

func (s *Store) reading(ctx context.Context) probe.Check {
	b, err := s.Get(ctx, location.Marker, 0, -1)
	if err == nil {
		_, err = io.Copy(io.Discard, b)
		_ = b.Close()
	}
	return s.right("reading", err, s.role != Writer, "this identity reads what is stored", "older backups can be read by who takes this machine, sealed as they are")
}

func (s *Store) listing(ctx context.Context) probe.Check {
	stop := errors.New("one is enough")
	err := s.List(ctx, "", func(repo.Object) error { return stop })
	if errors.Is(err, stop) {
		err = nil
	}
	return s.right("listing", err, s.role != Writer, "this identity lists what is stored", "names and sizes of older backups are known to who takes this machine")
}

func (s *Store) deletion(ctx context.Context) probe.Check {
	err := s.Delete(ctx, probeObject)
	if errors.Is(err, fs.ErrNotExist) {
		return probe.Check{Name: "deletion", Outcome: probe.Open, Detail: "this identity may delete", Consequence: "who takes over this machine can destroy the backups there",
			Hint: "start the gateway without --deletes, or keep this identity on the vault's machine"}
	}
	return s.right("deletion", err, false, "", "")
}

// right judges what the gateway lets this role do.
func (s *Store) right(name string, err error, wanted bool, detail, consequence string) probe.Check {
	switch {
	case err == nil && wanted:
		return probe.Check{Name: name, Outcome: probe.Holds, Detail: detail}
	case err == nil:
		return probe.Check{Name: name, Outcome: probe.Open, Detail: detail, Consequence: consequence, Hint: "enroll this machine as a writer"}
	case refused(err):
		return probe.Check{Name: name, Outcome: probe.Holds, Detail: fmt.Sprintf("refused: a %s may not", s.role)}
	}
	return probe.Check{Name: name, Outcome: probe.Unknown, Detail: err.Error(), Hint: holdfast.Hint(err)}
}
