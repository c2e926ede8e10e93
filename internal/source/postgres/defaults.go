package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/md5" // how PostgreSQL keeps old passwords, not our choice
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast"
)

// defaultPasswords are what products and images come with, and what people type first;
// a role's own name is tried as well.
var defaultPasswords = []string{"postgres", "password", "admin", "changeme", "123456", "root", "mysecretpassword"}

// Limits of looking for default passwords: each try is thousands of hashes by design.
const (
	maxRolesTried = 200
	maxIterations = 100_000 // of a stored password; more is not tried
)

// defaults looks for roles that may log in with a password that everybody knows. It
// compares with what is stored, as the server would, and never writes a password down.
func defaults(ctx context.Context, s *Server) (holdfast.Check, error) {
	c := holdfast.Check{Name: "no default passwords", Outcome: holdfast.Passed}
	rows, err := s.Query(ctx, fmt.Sprintf("SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL ORDER BY rolsuper DESC, rolname LIMIT %d", maxRolesTried+1))
	if err != nil {
		return c, err
	}
	var weak []string
	for _, r := range rows[:min(len(rows), maxRolesTried)] {
		if slices.ContainsFunc(append([]string{r[0]}, defaultPasswords...), func(p string) bool { return isPassword(r[1], r[0], p) }) {
			weak = append(weak, strconv.Quote(r[0]))
		}
	}
	c.Detail = fmt.Sprintf("%d roles with a password, none of %d that everybody tries first", len(rows), len(defaultPasswords)+1)
	switch {
	case len(weak) > 0:
		c.Outcome = holdfast.Failed
		c.Detail = fmt.Sprintf("%d roles have a default password: %s", len(weak), strings.Join(weak[:min(len(weak), maxNamed)], ", "))
	case len(rows) > maxRolesTried:
		c.Outcome = holdfast.NotProven
		c.Detail = fmt.Sprintf("only the first %d roles were tried", maxRolesTried)
	}
	return c, nil
}

// isPassword reports whether a stored password is that of a role's login with text.
func isPassword(stored, role, text string) bool {
	if strings.HasPrefix(stored, "md5") {
		sum := md5.Sum([]byte(text + role))
		return stored[3:] == hex.EncodeToString(sum[:])
	}
	// SCRAM-SHA-256$iterations:salt$stored key:server key
	rest, ok := strings.CutPrefix(stored, "SCRAM-SHA-256$")
	head, keys, ok2 := strings.Cut(rest, "$")
	count, salt64, ok3 := strings.Cut(head, ":")
	key64, _, ok4 := strings.Cut(keys, ":")
	n, err1 := strconv.Atoi(count)
	salt, err2 := base64.StdEncoding.DecodeString(salt64)
	key, err3 := base64.StdEncoding.DecodeString(key64)
	if !ok || !ok2 || !ok3 || !ok4 || err1 != nil || err2 != nil || err3 != nil || n < 1 || n > maxIterations {
		return false
	}
	salted, err := pbkdf2.Key(sha256.New, text, salt, n, sha256.Size)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, salted)
	mac.Write([]byte("Client Key")) // a hash never fails
	sum := sha256.Sum256(mac.Sum(nil))
	return hmac.Equal(sum[:], key)
}
