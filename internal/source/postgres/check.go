package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast"
)

// Codes of the findings of Source.Check. They are stable and documented.
const (
	CodeUnreachable  = "HF-PG01" // nobody answers at the address
	CodePassword     = "HF-PG02" // the role or its password is refused
	CodeNoAccess     = "HF-PG03" // pg_hba.conf does not let the role replicate
	CodeNoRight      = "HF-PG04" // the role has no REPLICATION attribute
	CodeWALLevel     = "HF-PG05" // wal_level=minimal
	CodeSenders      = "HF-PG06" // no wal sender left
	CodeSlots        = "HF-PG07" // no replication slot left, or the name is taken
	CodeUnbounded    = "HF-PG08" // the slot may fill the server's disk
	CodeVersion      = "HF-PG09" // older than 13
	CodeForeign      = "HF-PG10" // another cluster than the one that was protected
	CodeSlotDanger   = "HF-PG11" // the slot lags, or was invalidated
	CodeNoChecksums  = "HF-PG12" // page checksums are off
	CodeUnsafeWrites = "HF-PG13" // fsync or full_page_writes is off
	CodeUnlogged     = "HF-PG14" // tables that the log does not carry
	CodeNotStarted   = "HF-PG15" // the server starts, stops or has no room for a connection
	CodeRemoteApply  = "HF-PG16" // synchronous_commit=remote_apply waits for a replay that never comes
	CodeSync         = "HF-PG17" // what it means that the server waits for us
	CodeArchive      = "HF-PG18" // the server does not archive as the plan says
	CodeLine         = "HF-PG19" // plain, or older than TLS 1.2, and not within this machine
	CodeCertificate  = "HF-PG20" // nobody checks the server's certificate
	CodeOther        = "HF-PG99" // anything else that the server or the network says
)

// minSenders is what protection uses at its busiest: the stream, a base backup and the
// log that the base holds.
const minSenders = 3

// Check looks at the server the way the stream and the base backup will need it,
// and returns what stands in the way, worst first. It changes nothing.
func (s *Source) Check(ctx context.Context) []holdfast.Finding {
	fs := s.check(ctx)
	holdfast.SortFindings(fs)
	return fs
}

func (s *Source) finding(code string, sev holdfast.FindingSeverity, hint, format string, args ...any) holdfast.Finding {
	return holdfast.Finding{Code: code, Severity: sev, Subject: "stores." + s.cfg.Store, Message: fmt.Sprintf(format, args...), Hint: hint}
}

func (s *Source) check(ctx context.Context) []holdfast.Finding {
	c, err := s.connect(ctx)
	if err != nil {
		return []holdfast.Finding{s.connectFinding(ctx, err)}
	}
	defer c.close()
	const bad, warn, note = holdfast.SeverityError, holdfast.SeverityWarning, holdfast.SeverityNote
	var fs []holdfast.Finding
	add := func(code string, sev holdfast.FindingSeverity, hint, format string, args ...any) {
		fs = append(fs, s.finding(code, sev, hint, format, args...))
	}
	if c.version() < 130000 {
		add(CodeVersion, bad, "upgrade the server; PostgreSQL 13 is the oldest that can bound a replication slot", "server version %s is older than 13", c.pg.ParameterStatus("server_version"))
		return fs
	}
	sys, err := c.identify(ctx)
	if err != nil {
		add(CodeOther, bad, "see the server's log", "%v", err)
		return fs
	}
	if old := s.protected(); old != "" && old != sys.ID && s.cfg.AdoptSystem != sys.ID {
		add(CodeForeign, bad, "check the connection string; if the cluster was replaced on purpose, declare its system identifier "+sys.ID,
			"the store is cluster %s, but the server that answers is cluster %s", old, sys.ID)
	}
	settings := map[string]string{}
	for _, name := range []string{"wal_level", "max_slot_wal_keep_size", "max_wal_senders", "max_replication_slots", "fsync", "full_page_writes", "data_checksums", "synchronous_commit", "synchronous_standby_names"} {
		v, err := c.show(ctx, name)
		if err != nil {
			add(CodeOther, bad, "see the server's log", "%v", err)
			return fs
		}
		settings[name] = v
	}
	if settings["wal_level"] == "minimal" {
		add(CodeWALLevel, bad, walLevelHint, "wal_level is minimal: the log does not say enough to recover from")
	}
	if settings["max_slot_wal_keep_size"] == "-1" && s.cfg.Inbox == "" {
		sev, text := bad, "a replication slot may fill the server's disk and stop the database: max_slot_wal_keep_size is -1"
		if s.cfg.UnboundedSlot {
			sev, text = warn, text+"; this was acknowledged"
		}
		add(CodeUnbounded, sev, unboundedHint, "%s", text)
	}
	if n, err := strconv.Atoi(settings["max_wal_senders"]); err == nil && n < minSenders {
		add(CodeSenders, warn, "ALTER SYSTEM SET max_wal_senders = 10; then restart the server", "max_wal_senders is %d: the stream and a base backup need %d", n, minSenders)
	}
	for _, name := range []string{"fsync", "full_page_writes"} {
		if settings[name] == "off" {
			add(CodeUnsafeWrites, warn, "switch it on again, and take a new base backup", "%s is off: a crash of the server can damage it, and no base backup is sound meanwhile", name)
		}
	}
	if settings["data_checksums"] == "off" {
		add(CodeNoChecksums, warn, "stop the server in a maintenance window and run pg_checksums --enable", "page checksums are off: damage on the server's disk would be copied unnoticed")
	}
	fs = append(fs, s.checkLine()...)
	if s.cfg.Inbox != "" {
		fs = append(fs, s.checkArchive(ctx, c)...)
	} else {
		fs = append(fs, s.checkSync(settings)...)
		fs = append(fs, s.checkSlot(ctx, c, settings)...)
	}
	rows, err := s.query(ctx, "SELECT count(*) FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'")
	if err == nil && len(rows) == 1 && rows[0][0] != "0" {
		add(CodeUnlogged, note, "ALTER TABLE … SET LOGGED for those that matter", "%s unlogged tables in this database are not protected: they come back empty", rows[0][0])
	}
	return fs
}

// checkSlot looks at our slot, as far as the role may.
func (s *Source) checkSlot(ctx context.Context, c *replConn, settings map[string]string) []holdfast.Finding {
	name := s.cfg.Slot
	sl, err := c.readSlot(ctx, name)
	if err != nil {
		return []holdfast.Finding{s.finding(CodeOther, holdfast.SeverityError, "see the server's log", "%v", err)}
	}
	if sl.Exists && sl.Kind != "physical" {
		return []holdfast.Finding{s.finding(CodeSlots, holdfast.SeverityError, "name another slot for this store", "replication slot %q exists and is %s", name, sl.Kind)}
	}
	rows, err := s.query(ctx, `SELECT slot_name, coalesce(wal_status, ''), coalesce(safe_wal_size::text, ''),
		coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::text, '')
		FROM pg_replication_slots`)
	if err != nil {
		return nil // a role that may only replicate; the stream itself will tell
	}
	most, _ := strconv.Atoi(settings["max_replication_slots"])
	var fs []holdfast.Finding
	found := false
	for _, r := range rows {
		if r[0] != name {
			continue
		}
		found = true
		switch r[1] {
		case "lost":
			fs = append(fs, s.finding(CodeSlotDanger, holdfast.SeverityError, "the stream makes a new slot by itself; take a new base backup to close the gap, and raise max_slot_wal_keep_size",
				"the server invalidated replication slot %q to save its disk: log is lost", name))
			continue
		case "unreserved":
			fs = append(fs, s.finding(CodeSlotDanger, holdfast.SeverityError, "let the stream catch up now, or raise max_slot_wal_keep_size; else the log is lost at the next checkpoint",
				"replication slot %q is about to be invalidated", name))
			continue
		}
		safe, err1 := strconv.ParseInt(r[2], 10, 64)
		lag, err2 := strconv.ParseInt(r[3], 10, 64)
		if err1 != nil || err2 != nil || lag <= 0 || safe+lag <= 0 {
			continue
		}
		if used := 100 * lag / (safe + lag); used >= 25 {
			sev := holdfast.SeverityWarning
			if used >= 75 {
				sev = holdfast.SeverityError
			}
			fs = append(fs, s.finding(CodeSlotDanger, sev, "see why the stream does not keep up: the spool's disk, the places, the network",
				"replication slot %q has used %d%% of max_slot_wal_keep_size: %s behind", name, used, megabytes(lag)))
		}
	}
	if !found && most > 0 && len(rows) >= most {
		fs = append(fs, s.finding(CodeSlots, holdfast.SeverityError, "ALTER SYSTEM SET max_replication_slots, then restart; or drop a slot that nobody uses",
			"all %d replication slots are taken (max_replication_slots)", most))
	}
	return fs
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

const walLevelHint = "ALTER SYSTEM SET wal_level = replica; ALTER SYSTEM SET max_wal_senders = 10; then restart the server"

// connectFinding says why no replication connection came about.
func (s *Source) connectFinding(ctx context.Context, err error) holdfast.Finding {
	bad := holdfast.SeverityError
	user := s.conn.User
	text := err.Error()
	if errors.Is(err, ErrLine) {
		return s.finding(CodeLine, bad, holdfast.Hint(err), "%v", err)
	}
	switch sqlState(err) {
	case stateInvalidPassword:
		return s.finding(CodePassword, bad, "set the password in the password file or PGPASSFILE, and check the role's name", "the server refuses the password of role %q", user)
	case stateInvalidAuth:
		if strings.Contains(text, "pg_hba.conf") || strings.Contains(text, "no entry") {
			return s.finding(CodeNoAccess, bad, fmt.Sprintf("add to pg_hba.conf: host replication %s <this machine>/32 scram-sha-256; then SELECT pg_reload_conf()", user),
				"pg_hba.conf does not let role %q replicate from here", user)
		}
		return s.finding(CodePassword, bad, "check the role's name, and that it may log in", "the server refuses role %q: %v", user, err)
	case stateNoPrivilege:
		return s.finding(CodeNoRight, bad, fmt.Sprintf("ALTER ROLE %q REPLICATION;", user), "role %q may not replicate", user)
	case stateTooManyConns:
		if !strings.Contains(text, "max_wal_senders") {
			return s.finding(CodeNotStarted, bad, "raise max_connections or find who holds the connections", "the server has no connection left: %v", err)
		}
		level := ""
		if rows, qerr := s.query(ctx, "SHOW wal_level"); qerr == nil && len(rows) == 1 {
			level = rows[0][0]
		}
		switch {
		case level == "minimal":
			return s.finding(CodeWALLevel, bad, walLevelHint, "wal_level is minimal: the log does not say enough to recover from")
		case strings.Contains(text, "currently 0"):
			return s.finding(CodeSenders, bad, walLevelHint, "max_wal_senders is 0: the server streams to nobody")
		}
		return s.finding(CodeSenders, bad, "ALTER SYSTEM SET max_wal_senders = 10; then restart the server; or stop another receiver", "no wal sender is left: %v", err)
	case stateCannotConnectNow:
		return s.finding(CodeNotStarted, bad, "wait until the server is up; see its log if it does not come", "%v", err)
	case "":
		var ne *net.OpError
		if errors.As(err, &ne) || errors.Is(err, context.DeadlineExceeded) {
			return s.finding(CodeUnreachable, bad, "check that the server runs, its listen_addresses, the port and the firewall", "nobody answers at %s: %v", s.address(), err)
		}
	}
	return s.finding(CodeOther, bad, "check the connection string and the server's log", "no replication connection to %s: %v", s.address(), err)
}

func (s *Source) address() string {
	if strings.HasPrefix(s.conn.Host, "/") {
		return fmt.Sprintf("socket %q, port %d", s.conn.Host, s.conn.Port)
	}
	return net.JoinHostPort(s.conn.Host, strconv.Itoa(int(s.conn.Port)))
}

// protected returns the cluster that the spool belongs to, "" if there is none yet.
func (s *Source) protected() string {
	if s.cfg.SpoolDir == "" {
		return ""
	}
	text, err := readFile(s.cfg.FS, filepath.Join(s.cfg.SpoolDir, "cluster.json"))
	if err != nil {
		return ""
	}
	var c cluster
	if json.Unmarshal(text, &c) != nil {
		return "" // Stream says what is wrong with it
	}
	return c.System
}
