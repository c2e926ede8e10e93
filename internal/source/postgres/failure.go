package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"holdfast"
)

// ErrEnded says that a server ended when it should have run. What it said before
// is in the error.
var ErrEnded = errors.New("the server ended")

// maxReasons bounds how many log lines an error carries.
const maxReasons = 3

// logLine finds "2026-01-01 00:00:00.000 UTC [12] FATAL:  text".
var logLine = regexp.MustCompile(`^.*?\[\d+\] (FATAL|PANIC|ERROR|DETAIL|HINT):\s+(.*)$`)

// An explanation turns what the server says when it gives up into what that means
// and what to do.
type explanation struct {
	says, means, hint string
}

var explanations = []explanation{
	{"recovery ended before configured recovery target was reached",
		"the log ends before the target", "run \"holdfast points\" to see what this location can reach, or restore from another location"},
	{"must specify restore_command",
		"the folder holds an unfinished restore", "remove it and restore again"},
	{"is not a child of this server's history",
		"the base backup does not belong to the timeline of the target", "choose an older base backup or a target on its timeline"},
	{"could not access file",
		"a library that the database loads is not installed here", "install the same extensions as on the source"},
	{"could not load library",
		"a library that the database loads does not fit here", "install the same extensions as on the source"},
	{"WAL was generated with wal_level",
		"the source wrote a part of the log with wal_level=minimal", "restore to a point before that, or from a base backup taken after it"},
	{"insufficient parameter settings",
		"the source ran with larger limits than this server", "give the server the same max_connections and worker settings as the source"},
	{"database files are incompatible with server",
		"the files belong to another version or build of PostgreSQL", "install the version that wrote them"},
	{"could not bind",
		"the address or port is taken", "choose another port, or stop what uses it"},
	{"lock file \"postmaster.pid\" already exists",
		"a server already runs on this folder", "stop it first"},
	{"could not map anonymous shared memory",
		"this machine has less memory than the configuration asks for", "set a smaller shared_buffers in the options of the restore"},
	{"could not locate a valid checkpoint record",
		"the log from the start of the base backup is missing", "restore from another location or base backup"},
	{"could not locate required checkpoint record",
		"the log from the start of the base backup is missing", "restore from another location or base backup"},
	{"No space left on device", "the disk is full", "free some space, or restore to a larger disk"},
	{"has wrong ownership", "the folder belongs to another account", "give it to the account that runs the server"},
	{"tablespace", "a tablespace has no folder here", "restore by hand with a folder for each tablespace"},
}

// failure says in one sentence why the server ended, from its log.
func (s *Server) failure(what string) error {
	tail := s.logTail()
	reasons := reasonsOf(tail)
	s.mu.Lock()
	exit := s.exit
	s.mu.Unlock()
	if len(reasons) == 0 {
		err := fmt.Errorf("%s: %w (%v)", what, ErrEnded, exit)
		return holdfast.WithHint(err, "its log is %s", s.logPath)
	}
	said := strings.Join(reasons, "; ")
	for _, e := range explanations {
		if strings.Contains(said, e.says) {
			return holdfast.WithHint(fmt.Errorf("%s: %s: %w: %s", what, e.means, ErrEnded, said), "%s", e.hint)
		}
	}
	return holdfast.WithHint(fmt.Errorf("%s: %w: %s", what, ErrEnded, said), "its log is %s", s.logPath)
}

// reasonsOf picks what our restore command refused, and the last lines in which
// the server says why it gives up.
func reasonsOf(log string) []string {
	var reasons []string
	fatal := false
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, restoreCommandPrefix); ok {
			reasons = append(reasons, rest)
			continue
		}
		m := logLine.FindStringSubmatch(line)
		if m == nil {
			// Before the log is set up lines have no prefix.
			if rest, ok := strings.CutPrefix(line, "postgres: "); ok {
				reasons = append(reasons, rest)
			}
			continue
		}
		switch m[1] {
		case "FATAL", "PANIC":
			// A client that comes too early is not why the server ended.
			fatal = !strings.HasPrefix(m[2], "the database system is ") && !strings.HasPrefix(m[2], "terminating connection")
		case "ERROR":
			fatal = false
		}
		if fatal {
			reasons = append(reasons, m[2])
		}
	}
	reasons = slices.Compact(reasons)
	if len(reasons) > maxReasons {
		reasons = reasons[len(reasons)-maxReasons:]
	}
	return reasons
}
