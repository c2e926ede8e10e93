package postgres

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// controlData reads a cluster's control file with the tool of its version.
func controlData(ctx context.Context, r Runner, binDir, dataDir string) (map[string]string, error) {
	out, err := r.Command(ctx, filepath.Join(binDir, "pg_controldata"), "-D", dataDir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pg_controldata %s: %w: %s", dataDir, err, lastLines(string(out), 2))
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return values, nil
}
