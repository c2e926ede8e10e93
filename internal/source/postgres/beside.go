package postgres

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"holdfast"
	"holdfast/internal/source"
)

// Private returns the server that a Restore started beside production, for those who
// want to compare the two; nil if none was started or it serves.
func Private(r source.Restored) *Server {
	g, ok := r.(*restored)
	if !ok || g.serving {
		return nil
	}
	return g.server
}

// Dump writes the definition of tables of a database, without rows: section is
// "pre-data" or "post-data". Names are quoted and qualified, and mean no patterns.
func (s *Server) Dump(ctx context.Context, database string, tables []string, section string) ([]byte, error) {
	args := []string{"--schema-only", "--section=" + section, "--host=" + s.cfg.SocketDir, "--port=" + strconv.Itoa(s.cfg.Port), "--username=" + s.user, "--dbname=" + database}
	for _, t := range tables {
		args = append(args, "--table="+exactName(t))
	}
	cmd := s.runner.Command(ctx, filepath.Join(s.cfg.BinDir, "pg_dump"), args...)
	var out, why bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &why
	if err := cmd.Run(); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("pg_dump of %s: %w: %s", tables[0], err, lastLines(why.String(), 3)), "pg_dump of the server's version must lie beside the server, in %s", s.cfg.BinDir)
	}
	return out.Bytes(), nil
}

// exactName writes a name so that pg_dump takes it as it is: a part without quotes
// would be a pattern.
func exactName(name string) string {
	var out []byte
	quoted := false
	part := func(i int) bool { return i == 0 || name[i-1] == '.' && !quoted }
	for i := 0; i < len(name); i++ {
		switch {
		case part(i) && name[i] != '"':
			j := i
			for j < len(name) && name[j] != '.' {
				j++
			}
			out = append(out, '"')
			out = append(out, name[i:j]...)
			out = append(out, '"')
			i = j - 1
		default:
			if name[i] == '"' {
				quoted = !quoted
			}
			out = append(out, name[i])
		}
	}
	return string(out)
}
