package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"holdfast"
)

// A quorum is what synchronous_standby_names asks for: Need of Members confirm a
// commit before it is acknowledged.
type quorum struct {
	any     bool // whichever are first; else the first Need of the list that are there
	need    int
	members []string
}

var quorumPattern = regexp.MustCompile(`(?is)^\s*(?:(?:(any|first)\s+)?(\d+)\s*\(\s*(.*?)\s*\)|(.*?))\s*$`)

// parseQuorum reads the setting as the server does; ok is false if nobody is waited
// for, or the text is none that a server accepts.
func parseQuorum(text string) (q quorum, ok bool) {
	m := quorumPattern.FindStringSubmatch(text)
	if m == nil {
		return q, false
	}
	list := m[4]
	q.need = 1
	if m[2] != "" {
		n, err := strconv.Atoi(m[2])
		if err != nil || n < 1 {
			return q, false
		}
		q.any, q.need, list = strings.EqualFold(m[1], "any"), n, m[3]
	}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if quoted, is := strings.CutPrefix(name, `"`); is {
			name = strings.ReplaceAll(strings.TrimSuffix(quoted, `"`), `""`, `"`)
		}
		if name == "" {
			return quorum{}, false
		}
		q.members = append(q.members, name)
	}
	return q, true
}

// has reports whether the standby of that name can be waited for. Names are compared
// as the server does, without regard to case.
func (q quorum) has(name string) bool {
	return slices.ContainsFunc(q.members, func(m string) bool { return m == "*" || strings.EqualFold(m, name) })
}

// always reports whether no commit is acknowledged without every named standby. "*"
// stands for any number of them.
func (q quorum) always() bool { return q.need >= len(q.members) && !slices.Contains(q.members, "*") }

// Demoted says why commits are acknowledged before their log is here, "" if none is.
// While we are away from a server that waits for us in every quorum, it acknowledges
// nothing, which is no demotion. (Rule 23: falling back to asynchronous is an event, and
// never silent.) A session that asks for less by itself is not seen.
func (s *Source) Demoted(ctx context.Context) (why string, err error) {
	rows, err := s.query(ctx, `SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),
		coalesce((SELECT max(sync_state) FROM pg_stat_replication WHERE application_name = '`+s.cfg.Slot+`'), '')`)
	if err != nil || len(rows) != 1 || len(rows[0]) != 3 {
		return "", errors.Join(err, holdfast.WithHint(fmt.Errorf("whether the server waits for %q is not known", s.cfg.Slot), "GRANT pg_monitor to the role of the connection string"))
	}
	return demotedBy(s.cfg.Slot, rows[0][0], rows[0][1], rows[0][2]), nil
}

// demotedBy judges what the server says: its setting, what sessions ask for, and what our
// stream is to it ("" while there is none).
func demotedBy(slot, names, commit, state string) string {
	q, ok := parseQuorum(names)
	switch {
	case !ok || !q.has(slot):
		return fmt.Sprintf("synchronous_standby_names is %q and does not name %q: commits are acknowledged before their log is here", names, slot)
	case !q.always():
		return fmt.Sprintf("synchronous_standby_names is %q: commits wait for %d of %d, and %q need not be among them", names, q.need, len(q.members), slot)
	case commit == "off" || commit == "local":
		return fmt.Sprintf("synchronous_commit is %s: commits wait for nobody", commit)
	case state == "async" || state == "potential":
		return fmt.Sprintf("the server calls %q %s: it does not wait for it", slot, state)
	}
	return ""
}

// checkSync says what synchronous commits mean for this store: whether losing the
// server can lose an acknowledged commit, and whether losing us can stop the server.
func (s *Source) checkSync(settings map[string]string) []holdfast.Finding {
	q, ok := parseQuorum(settings["synchronous_standby_names"])
	if !ok || !q.has(s.cfg.Slot) {
		return nil
	}
	var fs []holdfast.Finding
	if settings["synchronous_commit"] == "remote_apply" {
		fs = append(fs, s.finding(CodeRemoteApply, holdfast.SeverityError, "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf(): a commit then waits until its log is durable here, which is what protects it",
			"synchronous_commit is remote_apply and %q is among the synchronous standbys: it promises a replay, and holdfast keeps the log without replaying it", s.cfg.Slot))
	}
	switch others := fmt.Sprintf("%d of %d", q.need, len(q.members)); {
	case q.always() && len(q.members) == 1:
		fs = append(fs, s.finding(CodeSync, holdfast.SeverityWarning, fmt.Sprintf("add a standby that may stand in, for example synchronous_standby_names = 'ANY 1 (standby, %s)'; know that a commit may then be on the standby only", s.cfg.Slot),
			"%q is the only synchronous standby: no acknowledged commit is lost with the server, and every commit waits while this agent is away", s.cfg.Slot))
	case q.always():
		fs = append(fs, s.finding(CodeSync, holdfast.SeverityNote, "keep it so if an RPO of 0 is what the plan promises; the server waits while one of them is away",
			"every commit waits for %q (%s): no acknowledged commit is lost with the server", s.cfg.Slot, others))
	default:
		fs = append(fs, s.finding(CodeSync, holdfast.SeverityNote, fmt.Sprintf("an RPO of 0 in the repository needs %q in every quorum, for example ANY 2 (standby, %s)", s.cfg.Slot, s.cfg.Slot),
			"commits wait for %s synchronous standbys, and %q need not be among them: an acknowledged commit may be on another standby only", others, s.cfg.Slot))
	}
	return fs
}
