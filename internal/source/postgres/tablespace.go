package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/repo"
)

// tablespaceMap is the file of a base backup that tells a server where the source has
// its tablespaces. A restore leaves it out: on the source's own host the replay would
// go into the live folders.
const tablespaceMap = "tablespace_map"

// tablespaceDir is the folder in a restored data directory that holds its tablespaces,
// one folder for each, named by number. Whoever wants them on disks of their own
// moves them there, with the server stopped, and sets the links in pg_tblspc anew.
const tablespaceDir = "holdfast_tablespaces"

// tablespaces are the numbers of those outside the source's data directory.
type tablespaces map[string]bool

func tablespacesOf(m *repo.Manifest) tablespaces {
	ts := tablespaces{}
	for _, number := range strings.Fields(m.Labels[LabelTablespaces]) {
		ts[number] = true
	}
	return ts
}

// place returns where a file of the data directory lies in a restored one. Every other
// tablespace there lies in place, and stays so.
func (ts tablespaces) place(name string) string {
	rest, ok := strings.CutPrefix(name, linksPrefix)
	if !ok || len(ts) == 0 {
		return name
	}
	if number, _, _ := strings.Cut(rest, "/"); !ts[number] {
		return name
	}
	return tablespaceDir + "/" + rest
}

// link makes the links to the tablespaces of a restored data directory. The server
// opens none before: recovery has not begun.
func (ts tablespaces) link(dir string) error {
	for number := range ts {
		if !tablespaceNumber.MatchString(number) {
			return fmt.Errorf("the base backup names a tablespace %q instead of its number", number)
		}
		if err := os.MkdirAll(filepath.Join(dir, linksPrefix), 0o700); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join(dir, tablespaceDir, number), filepath.Join(dir, linksPrefix, number)); err != nil {
			return err
		}
	}
	return nil
}
