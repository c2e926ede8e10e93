//go:build linux

package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/internal/durable"
	"holdfast/internal/location"
	"holdfast/internal/location/probe"
)

// Probe makes an empty place in a directory to try things in. No listing of the
// repository shows it.
func Probe(path, id string) (probe.Place, error) {
	s, err := New(path)
	if err != nil {
		return probe.Place{}, err
	}
	dir := filepath.Join(s.path, location.ProbePrefix+id)
	// Mkdir and not MkdirAll: a directory that is not there may be an unmounted disk's.
	if err := os.Mkdir(dir, dirPerm); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			_, _, err = s.begin(context.Background(), "list", "")
			return probe.Place{}, err
		}
		return probe.Place{}, s.explain("make", "", err)
	}
	inner, err := New(dir)
	if err != nil {
		return probe.Place{}, err
	}
	again, err := New(dir)
	if err != nil {
		return probe.Place{}, err
	}
	return probe.Place{
		Store: inner, Again: again,
		Traits: func(context.Context) []probe.Check {
			out := []probe.Check{
				inner.lineTrait(),
				{Name: "object lock", Outcome: probe.Open, Detail: "a directory has none", Consequence: "root of this machine can delete every backup there",
					Hint: "keep another copy in a place that locks, or that this machine cannot delete from"},
			}
			if free, err := durable.FreeBytes(dir); err == nil {
				out = append(out, probe.Check{Name: "space", Outcome: probe.Told, Detail: fmt.Sprintf("%.1f GB free", float64(free)/1e9)})
			}
			return out
		},
		// The directory has a name that only we know: everything in it is ours.
		Remove: func(context.Context) error { return os.RemoveAll(dir) },
	}, nil
}
