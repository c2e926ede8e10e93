package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/govern"
	"holdfast/internal/plan"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
)

// What looking around finds.
const (
	codeFound     = govern.CodeFound // something is there that the plan does not know
	codeUnlooked  = "HF-A3"          // a place could not be looked at, so nobody knows what is there
	inspectWithin = 10 * time.Second // for one server
	maxBeside     = 50               // folders that are named of one place
)

// An inspector is a store that can say what it is.
type inspector interface {
	Inspect(ctx context.Context) (postgres.Inspection, error)
}

// discover looks around at the hosts of the plan's stores for what it does not know:
// the other databases of a server, and the folders beside one that is protected. What
// cannot be looked at is said, and is no "nothing found". seen gets what each server said
// of itself.
func discover(ctx context.Context, p *plan.Plan, open func(id string) (source.Store, error)) (fs []holdfast.Finding, seen map[string]govern.Seen) {
	seen = map[string]govern.Seen{}
	servers := map[string]bool{} // that were asked
	known := knownDatabases(p)
	for _, id := range sortedKeys(p.Stores) {
		st := p.Stores[id]
		switch {
		case st.Agent != nil:
			continue // its host is not ours to look at
		case st.Kind == plan.KindFiles:
			fs = append(fs, beside(p, id)...)
			continue
		case st.Kind != plan.KindPostgres:
			continue
		}
		src, err := open(id)
		if err != nil {
			continue // said elsewhere
		}
		in, ok := src.(inspector)
		if !ok {
			continue
		}
		within, cancel := context.WithTimeout(ctx, inspectWithin)
		got, err := in.Inspect(within)
		cancel()
		if err != nil {
			fs = append(fs, holdfast.Finding{Code: codeUnlooked, Severity: holdfast.SeverityNote, Subject: "stores." + id, Message: fmt.Sprintf("nobody knows which databases stand beside %q: %s", id, holdfast.Sentence(err)),
				Hint: "let the role connect to the database of the dsn (pg_hba.conf)"})
			continue
		}
		seen[id] = govern.Seen{Version: got.Major, Schema: got.Schema, Bytes: got.Bytes}
		server, _, err := postgres.Serves(st.Postgres.DSN)
		if err != nil || servers[server] {
			continue
		}
		servers[server] = true
		for _, d := range got.Databases {
			if known[server][d.Name] || excluded(p, d.Name) || excluded(p, server+"/"+d.Name) || d.Name == maintenance && known[server] != nil {
				continue
			}
			fs = append(fs, holdfast.Finding{Code: codeFound, Severity: holdfast.SeverityWarning, Subject: "stores." + id + ".databases." + d.Name,
				Message: fmt.Sprintf("the server of %q has a database %q that the plan does not know (%.1f MB)", id, d.Name, float64(d.Bytes)/1e6),
				Hint:    fmt.Sprintf("make it a store, name it under stores.%s.postgres.databases, or exclude it: exclusions.ID: {what: %q, why: …}", id, d.Name)})
		}
	}
	return fs, seen
}

// maintenance is the database that every server is made with, for tools to connect to.
// BUG: somebody who keeps data in it is not told.
const maintenance = "postgres"

// knownDatabases are those that the plan names, by server.
func knownDatabases(p *plan.Plan) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, id := range sortedKeys(p.Stores) {
		st := p.Stores[id]
		if st.Postgres == nil {
			continue
		}
		server, database, err := postgres.Serves(st.Postgres.DSN)
		if err != nil {
			continue
		}
		if out[server] == nil {
			out[server] = map[string]bool{}
		}
		for _, d := range append([]string{database}, st.Postgres.Databases...) {
			out[server][d] = true
		}
	}
	return out
}

// excluded reports whether the plan leaves something out by its name.
func excluded(p *plan.Plan, name string) bool {
	for id, x := range p.Exclusions {
		if id == name || x.What == name {
			return true
		}
	}
	return false
}

// beside names the folders that lie next to a protected one and that nothing in the plan
// covers. Hidden ones, those of the root folder, and what is Holdfast's own are left out.
func beside(p *plan.Plan, id string) []holdfast.Finding {
	own := p.Resolve(p.Stores[id].Files.Path)
	parent := filepath.Dir(own)
	if parent == "/" || parent == os.TempDir() || parent == own {
		return nil // of the system, not of the company
	}
	entries, err := os.ReadDir(parent)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the store is not there, which is said elsewhere
	}
	if err != nil {
		return []holdfast.Finding{{Code: codeUnlooked, Severity: holdfast.SeverityNote, Subject: "stores." + id, Message: fmt.Sprintf("nobody knows what lies beside %q: %v", id, err), Hint: "let Holdfast list " + parent}}
	}
	var out []holdfast.Finding
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || covered(p, path) || excluded(p, path) || excluded(p, e.Name()) {
			continue
		}
		if _, err := os.Stat(filepath.Join(path, "PG_VERSION")); err == nil {
			continue // a server's own, which is protected as one
		}
		out = append(out, holdfast.Finding{Code: codeFound, Severity: holdfast.SeverityWarning, Subject: "stores." + id + ".beside." + e.Name(),
			Message: fmt.Sprintf("beside %q lies a folder that the plan does not know: %s", id, path), Hint: fmt.Sprintf("make it a store of kind files, or exclude it: exclusions.ID: {what: %q, why: …}", path)})
		if len(out) == maxBeside {
			break
		}
	}
	return out
}

// covered reports whether a folder is, holds or lies in something of the plan.
func covered(p *plan.Plan, path string) bool {
	related := func(other string) bool {
		if other == "" {
			return false
		}
		other = p.Resolve(other)
		return other == path || strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/")
	}
	for _, st := range p.Stores {
		if st.Files != nil && related(st.Files.Path) || st.SQLite != nil && related(st.SQLite.Path) || st.Git != nil && related(st.Git.URL) || st.Recover != nil && related(st.Recover.To) {
			return true
		}
	}
	for _, l := range p.Locations {
		if l.Kind == plan.KindDir && related(l.Path) {
			return true
		}
	}
	return related(p.Dir())
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// lookAround is what the last look around found, for whoever asks between two looks.
type lookAround struct {
	findings []holdfast.Finding
	seen     map[string]govern.Seen
}

// lookAround looks around, compares what runs with the plan, and remembers what was found.
func (a *App) lookAround(ctx context.Context) error {
	fs, seen := discover(ctx, a.Plan(), a.source)
	now, err := a.Enforced(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	var before []holdfast.Finding
	if l := a.around.Load(); l != nil {
		before = l.findings
	}
	a.around.Store(&lookAround{append(fs, now...), seen})
	if err := a.noteSettings(ctx); err != nil {
		return err
	}
	return a.noteDeviations(ctx, before, now)
}
