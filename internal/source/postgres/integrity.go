package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"holdfast"
)

// maxRules bounds how many lines of access rules are read.
const maxRules = 10_000

// Integrity runs the engine's own checks on a promoted server, and looks whether the
// security controls came back: rung L5. It stops the server for the page checksums
// and starts it again.
//
// A check that could not run is "not proven". It proves what PostgreSQL can see:
// with page checksums off, damage inside user data passes all of them, and only
// the comparison of rung L3 finds it.
func Integrity(ctx context.Context, s *Server) ([]holdfast.Check, error) {
	var checks []holdfast.Check
	for _, check := range []func(context.Context, *Server) (holdfast.Check, error){amcheck, checksums, accessRules, passwords, defaults, transport} {
		began := time.Now()
		c, err := check(ctx, s)
		if err != nil {
			return checks, fmt.Errorf("integrity: %w", err)
		}
		c.Rung, c.Grade, c.Duration = holdfast.L5, holdfast.Proved, time.Since(began)
		checks = append(checks, c)
	}
	return checks, nil
}

var amcheckDone = regexp.MustCompile(`(\d+)/(\d+) relations \(\s*100%\)`)

// amcheck verifies every table and every B-tree index, and that each row is in
// its indexes.
func amcheck(ctx context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "tables and indexes are sound (pg_amcheck, heapallindexed)", Outcome: holdfast.NotProven}
	tool := filepath.Join(s.cfg.BinDir, "pg_amcheck")
	if !executable(tool) {
		c.Detail = "pg_amcheck is not installed with this server"
		return c, nil
	}
	in, err := s.Value(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return c, err
	}
	if in == "t" {
		c.Detail = "the server is not promoted, so the amcheck extension cannot be installed"
		return c, nil
	}
	if n, err := s.Value(ctx, "SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck'"); err != nil || n == "0" {
		c.Detail = "the amcheck extension is not installed with this server"
		return c, err
	}
	s.mu.Lock()
	user := s.user
	s.mu.Unlock()
	cmd := s.runner.Command(ctx, tool, "--host="+s.cfg.SocketDir, fmt.Sprintf("--port=%d", s.cfg.Port), "--username="+user,
		"--no-password", "--all", "--heapallindexed", "--install-missing", "--progress", "--jobs=2")
	out, err := cmd.CombinedOutput()
	text := string(out)
	done := amcheckDone.FindAllStringSubmatch(text, -1)
	var exit *osexec.ExitError
	switch {
	case err == nil && len(done) > 0 && done[len(done)-1][1] != "0":
		c.Outcome = holdfast.Passed
		c.Detail = done[len(done)-1][1] + " relations"
	case err == nil:
		c.Detail = "pg_amcheck does not say that it checked anything: " + lastLines(text, 2)
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		c.Outcome = holdfast.Failed
		c.Detail = "corruption: " + corruptionLines(text)
	case ctx.Err() != nil:
		return c, context.Cause(ctx)
	default:
		c.Detail = fmt.Sprintf("pg_amcheck could not finish (%v): %s", err, corruptionLines(text))
	}
	return c, nil
}

// corruptionLines leaves out the progress.
func corruptionLines(text string) string {
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\r", "\n")) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, " relations (") && len(lines) < maxNamed {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

var checksumCount = regexp.MustCompile(`(Files scanned|Blocks scanned|Bad checksums):\s+(\d+)`)

// checksums reads every page of the stopped cluster.
func checksums(ctx context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "page checksums (pg_checksums)", Outcome: holdfast.NotProven}
	on, err := s.Value(ctx, "SHOW data_checksums")
	if err != nil {
		return c, err
	}
	if on != "on" {
		c.Detail = "the cluster has no page checksums: damage that its tools cannot see stays unseen; \"pg_checksums --enable\" on the source mends that"
		return c, nil
	}
	tool := filepath.Join(s.cfg.BinDir, "pg_checksums")
	if !executable(tool) {
		c.Detail = "pg_checksums is not installed with this server"
		return c, nil
	}
	if err := s.Stop(ctx); err != nil {
		return c, err
	}
	out, err := s.runner.Command(ctx, tool, "--check", "-D", s.DataDir).CombinedOutput()
	counts := map[string]string{}
	for _, m := range checksumCount.FindAllStringSubmatch(string(out), -1) {
		counts[m[1]] = m[2]
	}
	switch bad, ok := counts["Bad checksums"]; {
	case ok && bad != "0":
		c.Outcome = holdfast.Failed
		c.Detail = fmt.Sprintf("%s of %s pages have a wrong checksum: %s", bad, counts["Blocks scanned"], corruptionLines(string(out)))
	case err == nil && ok && counts["Blocks scanned"] != "0":
		c.Outcome = holdfast.Passed
		c.Detail = fmt.Sprintf("%s files, %s pages, none wrong", counts["Files scanned"], counts["Blocks scanned"])
	default:
		c.Detail = fmt.Sprintf("pg_checksums could not finish (%v): %s", err, lastLines(string(out), 2))
	}
	return c, s.Start(ctx)
}

// accessRules reads the restored pg_hba.conf: nobody may come over the network
// without proving who they are.
func accessRules(_ context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "no unauthenticated access over the network (pg_hba.conf)", Outcome: holdfast.NotProven}
	f, err := os.Open(filepath.Join(s.DataDir, "pg_hba.conf"))
	if errors.Is(err, fs.ErrNotExist) {
		c.Detail = "pg_hba.conf is not in the data directory"
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer f.Close()
	var open, included []string
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		n++
		if n > maxRules {
			c.Detail = fmt.Sprintf("pg_hba.conf has more than %d lines", maxRules)
			return c, nil
		}
		switch rule := parseRule(lines.Text()); {
		case rule.include:
			included = append(included, rule.text)
		case rule.open():
			open = append(open, rule.text)
		}
	}
	if err := lines.Err(); err != nil {
		return c, err
	}
	switch {
	case len(open) > 0:
		c.Outcome = holdfast.Failed
		c.Detail = "these rules let anybody in: " + strings.Join(open[:min(len(open), maxNamed)], "; ")
	case len(included) > 0:
		c.Detail = "rules in other files were not read: " + strings.Join(included[:min(len(included), maxNamed)], "; ")
	default:
		c.Outcome = holdfast.Passed
		c.Detail = fmt.Sprintf("%d lines, no \"trust\" and no clear-text password beyond this machine", n)
	}
	return c, nil
}

// A rule is one line of pg_hba.conf.
type rule struct {
	text, kind, address, method string
	include                     bool
}

// parseRule reads a line; an empty rule is open to nobody.
func parseRule(line string) rule {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	f := strings.Fields(line)
	r := rule{text: strings.Join(f, " ")}
	if len(f) == 0 {
		return rule{}
	}
	if strings.HasPrefix(f[0], "@") || strings.HasPrefix(f[0], "include") {
		r.include = true
		return r
	}
	r.kind = f[0]
	if r.kind == "local" || len(f) < 5 {
		if len(f) > 3 {
			r.method = f[3]
		}
		return r
	}
	r.address, r.method = f[3], f[4]
	if _, err := netip.ParseAddr(f[4]); err == nil && len(f) > 5 { // address and mask in two columns
		r.method = f[5]
	}
	return r
}

// open reports whether the rule lets people in from other machines without proof,
// or with a password that everybody on the way can read.
func (r rule) open() bool {
	if !strings.HasPrefix(r.kind, "host") {
		return false
	}
	if r.method != "trust" && (r.method != "password" || r.kind == "hostssl") {
		return false
	}
	if r.address == "localhost" || r.address == "samehost" {
		return false
	}
	if p, err := netip.ParsePrefix(r.address); err == nil {
		return !p.Addr().IsLoopback()
	}
	if a, err := netip.ParseAddr(r.address); err == nil {
		return !a.IsLoopback()
	}
	return true
}

// passwords looks how passwords are kept.
func passwords(ctx context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "passwords are kept as SCRAM", Outcome: holdfast.Passed}
	encryption, err := fileSetting(ctx, s, "password_encryption")
	if err != nil {
		return c, err
	}
	if encryption == "" && strings.HasPrefix(s.version, "13") {
		encryption = "md5" // the default until version 13
	}
	rows, err := s.Query(ctx, `SELECT count(*) FILTER (WHERE rolpassword LIKE 'SCRAM-SHA-256$%'), count(*) FILTER (WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'),
		count(*) FILTER (WHERE rolsuper AND rolcanlogin) FROM pg_catalog.pg_authid`)
	if err != nil {
		return c, err
	}
	if len(rows) != 1 {
		return c, errors.New("the server does not say which roles it has")
	}
	c.Detail = fmt.Sprintf("%s roles with SCRAM, %s with an older hash, %s superusers that may log in", rows[0][0], rows[0][1], rows[0][2])
	if rows[0][1] != "0" || encryption != "" && encryption != "scram-sha-256" {
		c.Outcome = holdfast.Failed
		c.Detail += fmt.Sprintf("; new passwords: %q", encryption)
	}
	return c, nil
}

// transport fails where the configuration that came back lets people in from other
// machines without TLS: what they send could be read on the way, and so could what they
// log in with. A server that listens on this machine only, or not at all, needs none.
func transport(ctx context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "transport encryption", Outcome: holdfast.Passed}
	tls, err := fileSetting(ctx, s, "ssl")
	if err != nil {
		return c, err
	}
	listen, err := fileSetting(ctx, s, "listen_addresses")
	if err != nil {
		return c, err
	}
	if tls == "" {
		tls = "off"
	}
	if tls == "off" && reachable(listen) {
		c.Outcome = holdfast.Failed
	}
	c.Detail = fmt.Sprintf("the restored configuration has ssl = %s, listen_addresses = %q", tls, listen)
	return c, nil
}

// reachable reports whether a server with this listen_addresses answers other machines.
// Empty is the default: it was not set.
func reachable(listen string) bool {
	for _, a := range strings.Split(listen, ",") {
		a = strings.TrimSpace(a)
		if ip, err := netip.ParseAddr(a); err == nil && ip.IsLoopback() || a == "" || a == "localhost" {
			continue
		}
		return true
	}
	return false
}

// fileSetting returns what the restored configuration files say, whatever the
// command line of this server overrides.
func fileSetting(ctx context.Context, s *Server, name string) (string, error) {
	rows, err := s.Query(ctx, "SELECT setting FROM pg_catalog.pg_file_settings WHERE name = '"+name+"' ORDER BY seqno DESC LIMIT 1")
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}
