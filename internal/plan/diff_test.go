package plan

import (
	"slices"
	"strings"
	"testing"
)

// changed returns the changes that replacements in everything.yaml make.
func changes(t *testing.T, replace ...string) []Change {
	t.Helper()
	text := all(t)
	for i := 0; i+1 < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the plan does not hold %q", replace[i])
		}
		text = strings.Replace(text, replace[i], replace[i+1], 1)
	}
	return Diff(parsed(t, all(t)), parsed(t, text))
}

// Each weakening is named as one, with what it does; taken back, it is none.
func TestWeakeningIsNamed(t *testing.T) {
	for _, tt := range []struct{ old, new, path, text, back string }{
		{"rto: 2h, rpo: 15m, mtd: 1d", "rto: 3h, rpo: 15m, mtd: 1d", "tiers.critical.rto", "is 3h, was 2h: a longer outage is accepted", "stronger"},
		{"rto: 2h, rpo: 15m, mtd: 1d", "rto: soon, rpo: 15m, mtd: 1d", "tiers.critical.rto", "nobody can say any more whether it was met", "stronger"},
		{"rto: 2h, rpo: 15m, mtd: 1d", "rto: 2h, rpo: 1h, mtd: 1d", "tiers.critical.rpo", "more data may be lost", "stronger"},
		{"{total-failure: {rto: 24h, rpo: 24h, mtd: 4d}}", "{total-failure: {rto: 24h, rpo: 36h, mtd: 4d}}", "tiers.critical.scenarios.total-failure.rpo", "is 36h, was 24h", "stronger"},
		{"rollback: {max: 24h}", "rollback: {max: 30h}", "scenarios.total-failure.rto", "rollback 30h", "stronger"},
		{"every: 1d at 02:00, log", "every: 1w on mon at 02:00, log", "backups.database.every", "replays more log", "stronger"},
		{"folder: {every: 1h,", "folder: {every: 2h,", "backups.folder.every", "more is lost between two backups", "stronger"},
		{"log: {max_lag: 1m}, ", "", "backups.database.log", "is gone: everything since the last backup is lost", "stronger"},
		{"max_lag: 1m", "max_lag: 10m", "backups.database.log.max_lag", "is 10m, was 1m", "stronger"},
		{"copies: [near, far], keep: 30d", "copies: [near], keep: 30d", "backups.database.copies.far", "one copy less", "stronger"},
		{"copies: [near, far], keep: 30d", "copies: {near: {}, far: {every: 12h}}, keep: 30d", "backups.database.copies.far.every", "that copy is older", "stronger"},
		{"keep: 30d, retention: {min: 30d, max: 90d,", "keep: 30d, retention: {min: 10d, max: 90d,", "backups.database.retention.min", "what is older may go", "stronger"},
		{"keep: 30d, retention: {min: 30d, max: 90d,", "keep: 30d, retention: {min: 30d, max: 60d,", "backups.database.retention.max", "what is older goes", "stronger"},
		{"retention: {exact: 30d}", "retention: {exact: 7d}", "backups.folder.retention.exact", "is 7d, was 30d", "stronger"},
		{"weekly: 8w, ", "", "backups.database.retention.history.weekly", "older backups go", "stronger"},
		{"of: [db], why: a court, by: ceo, from: \"2026-01-01\", until: \"2027-01-01\"", "of: [db], why: a court, by: ceo, from: \"2026-01-01\", until: \"2026-06-01\"", "holds.case-1.until", "a court", "stronger"},
		{"  b: {recipient: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj, holders: [bob], offline: true}\n", "  b: {recipient: age1u7pxhenpzjfq4q257yg8eswkxfzcjaryrtht2kk5j668tpltdeqsx4fart, holders: [bob], offline: true}\n", "keys.b.recipient", "who can read the backups", "weaker"},
		{"encrypt_to: [a, b]", "encrypt_to: [a]", "repository.encrypt_to", "is a, was a, b", "weaker"},
		{"offline: true}\ncredentials", "offline: false}\ncredentials", "keys.b.offline", "stolen", "stronger"},
		{"k1: \"ssh-ed25519 AAAA1\"", "k1: \"ssh-ed25519 AAAA2\"", "people.ann.ssh.k1", "who can sign is not who it was", "weaker"},
		{"every: 1w, after: [engine-major]", "every: 1mo, after: [engine-major]", "drills.db-drill.every", "proved more rarely", "stronger"},
		{"fresh_for: 10d", "fresh_for: 30d", "drills.db-drill.fresh_for", "older proofs count", "stronger"},
		{", fresh_for: 10d", "", "drills.db-drill.fresh_for", "is nothing, was 10d", "stronger"},
		{"    invariants: {rows: {sql: select 1, expect: value > 0}}\n", "", "stores.db.invariants.rows", "one question less", "stronger"},
		{"expect: value > 0", "expect: value >= 0", "stores.db.invariants.rows.expect", "nobody can tell", "weaker"},
		{"needs: {db: hard, hosting", "needs: {db: soft, hosting", "services.api.needs.db", "without something", "stronger"},
		{"    text: the interface\n    tier: critical", "    text: the interface\n    tier: network", "services.api.tier", "rpo 30m instead of 15m", "stronger"},
		{"protect: database\n", "protect: folder\n", "stores.db.protect", "log is gone", "stronger"},
		{"files: {path: /srv/uploads}", "files: {path: /srv/uploads, exclude: [tmp]}", "stores.uploads.files.exclude", "more is left out", "stronger"},
		{"people: 2, fallback: {delay: 2d", "people: 1, fallback: {delay: 2d", "approvals.exception-high.people", "fewer people decide", "stronger"},
		{"weaken-plan: {roles: [ceo, cto]}", "weaken-plan: {roles: [cto], people: 1}", "approvals.weaken-plan.roles", "others decide", "weaker"},
		{"  EX-7:", "  EX-8: {rule: HF-L11, of: stores.guest, why: x, by: ann, approved_by: [bob], until: \"2027-01-01\"}\n  EX-7:", "exceptions.EX-8", "a finding is waived", "stronger"},
		{"until: \"2027-03-29\"", "until: \"2027-04-29\"", "exceptions.EX-7.until", "for longer", "stronger"},
		{"[db-drill, \"metric:backup-success\", passwords]", "[passwords]", "controls.iso27001/A.8.13", "less proves that clause", "stronger"},
		{"locations: [near, far]", "locations: [near, far, third]", "repository.approved.locations", "more places", "stronger"},
		{"recovery_kit: {key: a,", "recovery_kit: {key: b,", "recovery_kit.key", "others can open the recovery kit", "weaker"},
		{", check_in: {every: every 1mo, by: [ann], within: 3d}", "", "recovery_kit.check_in", "silent", "stronger"},
		{"{every: every 1mo, by: [ann]", "{every: every 1q, by: [ann]", "recovery_kit.check_in.every", "silence is noticed later", "stronger"},
		{"every: 180d, check_in", "every: 360d, check_in", "recovery_kit.every", "older", "stronger"},
		{"kinds: [dir], ", "", "repository.approved.kinds", "everything is allowed", "stronger"},
		{"class: confidential\n    contains", "class: internal\n    contains", "stores.db.class", "copies of \"db\" go sooner", "stronger"},
		{"keep_max: 1y, standard", "keep_max: 40d, standard", "classes.confidential.keep_max", "copies of \"db\" go sooner", "stronger"},
		{"keep_min: 40d", "keep_min: 10d", "classes.confidential.keep_min", "go sooner", "stronger"},
		{"  standard_retention: 30d\n", "", "repository.standard_retention", "no reason", "stronger"},
		{"encryption: AES256", "encryption: none", "locations.near.encryption", "encrypt less", "weaker"},
		{"activates_plan: true", "activates_plan: false", "severities.high.activates_plan", "does not start", "stronger"},
		{"    live_data: true\n    data: {customer: [store], as: both}", "    live_data: false\n    data: {customer: [store], as: both}", "stores.db.live_data", "rules for production", "stronger"},
	} {
		weak := Weakens(changes(t, tt.old, tt.new))
		i := slices.IndexFunc(weak, func(c Change) bool { return c.Path == tt.path })
		if i < 0 || !strings.Contains(weak[i].String(), tt.text) {
			t.Errorf("%q for %q: no weakening of %s that says %q: %v", tt.new, tt.old, tt.path, tt.text, weak)
			continue
		}
		if weak[i].Position.Line < 2 {
			t.Errorf("%s has no place", tt.path)
		}
		was := parsed(t, strings.Replace(all(t), tt.old, tt.new, 1))
		back := Diff(was, parsed(t, all(t)))
		i = slices.IndexFunc(back, func(c Change) bool { return c.Path == tt.path })
		if i < 0 || string(back[i].Effect) != tt.back {
			t.Errorf("%s taken back: %v, want %s", tt.path, back, tt.back)
		}
	}
}

// What protects more, or is only described otherwise, weakens nothing.
func TestStrengtheningIsNoWeakening(t *testing.T) {
	for _, tt := range [][]string{
		{"rto: 2h, rpo: 15m, mtd: 1d", "rto: 1h, rpo: 5m, mtd: 12h"},
		{"text: the interface", "text: an interface"},
		{"every: 1w, after: [engine-major]", "every: 1d, after: [engine-major, schema-change]"},
		{"title: Continuity policy", "title: Policy"},
		{"# Everything", "# All"},
		{"retention: {exact: 30d}", "retention: {exact: 60d}"},
		{"  old: {kind: mysql", "  more: {kind: files, files: {path: /x}, protect: folder}\n  old: {kind: mysql"},
		{"team: small", "team: ordinary"},
		{"    rpo: {none: holds no data}", "    rpo: {none: it holds no data}"},
		{"keep_min: 40d, keep_max: 1y, standard_retention: 40d", "keep_min: 50d, keep_max: 1y, standard_retention: 50d"},
		{"class: internal, git", "class: confidential, git"},
		{"why: the law asks for no more, ", ""},
		{"far: {kind: dir, path: far, domain: eu-2}", "far: {kind: dir, path: far, domain: eu-2, encryption: dm-crypt}"},
	} {
		if weak := Weakens(changes(t, tt...)); len(weak) > 0 {
			t.Errorf("%q for %q weakens: %v", tt[1], tt[0], weak)
		}
	}
	// An own value is looser than before. Of all that apply the strictest counts: here the
	// tier's 2h.
	cs := changes(t, "rto: {target: 30m, max: 1h}", "rto: 3h")
	if len(cs) != 1 || cs[0].Effect != Weaker || !strings.Contains(cs[0].String(), "3h") {
		t.Errorf("2h instead of 1h counts now: %v", cs)
	}
}

func TestNoDifference(t *testing.T) {
	if cs := changes(t, "# Everything", "# All", "rto: 2h, rpo: 15m, mtd: 1d", "rpo: 15m, rto: 2h, mtd: 1d"); len(cs) != 0 {
		t.Errorf("comments and order are no difference: %v", cs)
	}
}
