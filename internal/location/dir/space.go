//go:build linux

package dir

import (
	"context"

	"holdfast/internal/durable"
	"holdfast/internal/location"
)

// Space is the room of the file system on which the directory lies. A quota of this
// account is not seen.
func (s *Store) Space(context.Context) (location.Space, error) {
	total, free, err := durable.Room(s.path)
	if err != nil {
		return location.Space{}, s.explain("look at", "", err)
	}
	return location.Space{Total: int64(total), Free: int64(free)}, nil
}
