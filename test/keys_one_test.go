package test

import (
	"path/filepath"
	"regexp"
	"testing"
)

// oneKey lets a plan seal to its first key only, which it permits.
func oneKey(s string) string {
	return regexp.MustCompile(`(?m)^(\s*)encrypt_to: \[key-a.*\]$`).ReplaceAllString(s, "${1}encrypt_to: [key-a]\n${1}allow_one_recipient: true")
}

// A plan that permits a single key is not only checked and initialised: its stores are
// backed up, their log is followed, by the server and by an agent, and all of it comes back.
func TestOneRecipient(t *testing.T) {
	t.Parallel()
	t.Run("by the server", func(t *testing.T) {
		t.Parallel()
		f := protect(t, oneKey)
		f.run(t, "check").want(t, 0)
		f.reaches(t, f.cluster.clock(t), 2) // the log has it
		to := filepath.Join(f.root, "back")
		f.run(t, "restore", "uploads", "--to", to).want(t, 0)
		treeOf(t, f.uploads).unchanged(t, to)
		f.back(t, "ledger", "--latest")
	})
	t.Run("by an agent, and not if the plan does not permit it", func(t *testing.T) {
		t.Parallel()
		s := splitDuties(t)
		for _, plan := range []string{s.host.plan(), s.server.plan()} {
			edit(t, plan, func(p string) string {
				return regexp.MustCompile(`(?m)^\s*allow_one_recipient: true\n`).ReplaceAllString(oneKey(p), "")
			})
		}
		s.host.run(t, "agent", "source", "--once").refuses(t, 1, "fewer than two recipients", "allow_one_recipient")
		for _, plan := range []string{s.host.plan(), s.server.plan()} {
			edit(t, plan, oneKey)
		}
		s.host.run(t, "agent", "source", "--once").want(t, 0)
		to := filepath.Join(s.server.root, "back")
		s.server.run(t, "restore", "uploads", "--to", to).want(t, 0)
		treeOf(t, s.host.uploads).unchanged(t, to)
	})
}
