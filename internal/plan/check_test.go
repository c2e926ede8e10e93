package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
)

var update = flag.Bool("update", false, "write the golden files")

var checkTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const (
	recipientA = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	recipientB = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
	notAKey    = "age1-replace-with-your-own-public-key"
	recipientC = "age1s9ld6dmwmgxd0ew4zxjrm3n98guwd9wyzsk3ph93j4acp0pkzc0qnxy0wp"
)

// withKit are the replacements that give the clean plan a recovery kit, with something of it
// said otherwise.
func withKit(old, new string) []string {
	kit := "\n  kit: {recipient: " + recipientC + ", offline: true, shares: {needed: 2, holders: {founder-a: " + recipientA + ", notary: " + recipientB + ", auditor: " + recipientC + "}}}\n" +
		"recovery_kit: {key: kit, outside: [notary, auditor], check_in: {every: every 1mo, by: [founder-a]}}\n"
	const founder = "  founder-b: {name: \"Founder B\"}\n"
	return []string{"holders: [founder-b], offline: true}\n", "holders: [founder-b], offline: true}" + strings.Replace(kit, old, new, 1), founder, founder + "  notary: {name: N}\n  auditor: {name: A}\n"}
}

// The form of two post-quantum recipients.
var quantumA, quantumB = "age1pq1" + strings.Repeat("q", 1952), "age1pq1" + strings.Repeat("p", 1952)

// clean is the template with keys of its own, which has no finding.
func clean() string {
	return string(Template(Values{RecipientA: recipientA, RecipientB: recipientB}))
}

func render(fs []holdfast.Finding) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&b, "%s %s %s:%d:%d %s\n    %s\n    %s\n", f.Severity, f.Code, f.File, f.Line, f.Column, f.Subject, f.Message, f.Hint)
	}
	return b.String()
}

func findings(text string) []holdfast.Finding {
	p, err := Parse("plan.yaml", []byte(text))
	if err != nil {
		return FindingsOf(err)
	}
	return Check(p, checkTime)
}

func TestTemplateIsClean(t *testing.T) {
	for name, v := range map[string]Values{
		"init":       {},
		"unattended": {Unattended: true},
		"probes":     {ProbeAPI: "http://127.0.0.1:8080/api", ProbeWeb: "http://127.0.0.1:8080/web"},
		"quotes":     {Organisation: `A "quoted" name: ltd # x`, PasswordFile: "secrets/db password", BinDir: "/usr/lib/postgresql/15/bin"},
		"fast": {Unattended: true, RTO: "5m", RPO: "15s", FolderRPO: "1m", FolderEvery: "15s", MaxLag: "5s", Confirm: "2s", ProbeAPI: "http://127.0.0.1:8080/api", ProbeWeb: "http://127.0.0.1:8080/web",
			InvariantExpect: "value > 0 && (last == null || value > 0)"},
		"fast and attended": {RTO: "10m", RPO: "15s", FolderRPO: "1m", FolderEvery: "15s", MaxLag: "5s", Confirm: "2s", ProbeAPI: "http://127.0.0.1:8080/api", ProbeWeb: "http://127.0.0.1:8080/web"},
	} {
		v.RecipientA, v.RecipientB = recipientA, recipientB
		p, err := Parse("plan.yaml", Template(v))
		if err != nil {
			t.Fatalf("%s: %s\n%s", name, render(FindingsOf(err)), Template(v))
		}
		if got := Check(p, checkTime); len(got) > 0 {
			t.Errorf("%s:\n%s", name, render(got))
		}
		if db := p.Stores["db"]; db.Recover.Start.Port == 0 || len(p.Locations) != 2 || len(p.EncryptTo()) != 2 || len(p.StoresOf("web")) != 2 {
			t.Errorf("%s: the plan is not complete", name)
		}
	}
	if got := findings(string(Template(Values{}))); len(got) > 0 {
		t.Errorf("the example has findings: %s", render(got))
	}
}

// Every case is the clean plan with one edit; the golden file holds all findings
// that the edit causes, so a lint that speaks out of turn is seen too.
func TestCheck(t *testing.T) {
	tests := []struct {
		name, code string
		edits      []string // old, new, old, new, ...
	}{
		{"unbound-words", codeUnbound, []string{"rpo: 15m,", "rpo: near zero,"}},
		{"unbound-stated", codeUnbound, []string{"rpo: 15m,", `rpo: {stated: "minutes, from PITR"},`}},
		{"bound-stated", "", []string{"rpo: 15m,", `rpo: {stated: "minutes, from PITR", bound: 15m},`}},
		{"range", "", []string{"rto: 4h,", "rto: {target: 4h, max: 8h},"}},
		{"zero-objective", codeValue, []string{"rpo: 15m,", "rpo: 0s,"}},
		{"daily-for-15m", codeSchedule, []string{"    log: {max_lag: 1m}        # the transaction log in between, continuously\n", ""}},
		{"lag-beyond-rpo", codeSchedule, []string{"max_lag: 1m", "max_lag: 20m"}},
		{"lag-equals-rpo", codeSchedule, []string{"max_lag: 1m", "max_lag: 15m"}},
		{"copy-cycle", codeSchedule, []string{"copies: [near, offsite]\n    keep: 30d\n  folder", "copies: {near: {}, offsite: {every: 12h}}\n    keep: 30d\n  folder"}},
		{"takes", codeSchedule, []string{"every: 5m", "every: 5m\n    takes: 11m"}},
		{"log-of-folder", codeSchedule, []string{"protect: folder", "protect: database"}},
		{"steps-beyond-rto", codeSteps, []string{"rto: 4h,", "rto: 20m,", "est: 15m", "est: 30m"}},
		{"steps-leave-little", codeSteps, []string{"rto: 4h,", "rto: 30m,"}},
		{"looser-need", codeLooser, []string{"needs: {db: hard, uploads: hard}", "needs: {db: hard, uploads: hard, web: hard}", "needs: {api: hard}", "needs: {uploads: hard}"}},
		{"soft-need", "", []string{"needs: {api: hard}", "needs: {api: soft, uploads: hard}"}},
		{"need-without-objective", codeLooser, []string{"kind: files\n    tier: critical", "kind: files"}},
		{"rto-beyond-mtd", codeTolerable, []string{"rto: 4h, rpo: 15m, mtd: 1d", "rto: 1d, rpo: 15m, mtd: 1d"}},
		{"wider-loss-tighter", codeWider, []string{"corruption: {detection_delay: 7d}", "corruption: {detection_delay: 7d}\n  fire: {lose: [near]}", "mtd: 1d}", "mtd: 1d, scenarios: {fire: {rto: 2h}}}"}},
		{"drill-too-rare", codeFreshness, []string{"db-drill: {of: [db], every: 1w", "db-drill: {of: [db], every: 2w"}},
		{"drill-just-in-time", codeFreshness, []string{"rung: 6, fresh_for: 10d", "rung: 6, fresh_for: 7d"}},
		{"drill-folder-rung", codeFreshness, []string{"rung: 3", "rung: 5"}},
		{"keep-too-short", codeRetention, []string{"keep: 30d\n  folder", "keep: 6d\n  folder"}},
		{"keep-a-minute", codeMinute, []string{"keep: 30d\n  folder", "keep: 1m\n  folder"}},
		{"every-minute", codeMinute, []string{"every: 5m", "every: 1m"}},
		{"no-backup", CodeUnprotected, []string{"    protect: folder\n", ""}},
		{"no-copies", CodeUnprotected, []string{"copies: [near, offsite]\n    keep: 30d\n  folder", "copies: []\n    keep: 30d\n  folder"}},
		{"one-copy", codeShared, []string{"copies: [near, offsite]\n    keep: 30d\n  folder", "copies: [near]\n    keep: 30d\n  folder"}},
		{"one-domain", codeShared, []string{`domain: "offsite-disk"`, `domain: "this-host"`}},
		{"no-domain", codeShared, []string{`, domain: "offsite-disk"`, "", `, domain: "this-host"`, ""}},
		{"one-account", codeShared, []string{`domain: "offsite-disk"`, `domain: eu-2, provider: cloud-a, account: prod`, `domain: "this-host"`, "domain: eu-1, provider: cloud-a, account: prod"}},
		{"one-provider", codeShared, []string{`domain: "offsite-disk"`, `domain: eu-2, provider: cloud-a, region: eu`, `domain: "this-host"`, "domain: eu-1, provider: cloud-a, region: eu"}},
		{"nested-locations", codeShared, []string{`path: "/mnt/offsite/holdfast"`, `path: backups/near/offsite`}},
		{"location-in-store", codeShared, []string{`path: "/mnt/offsite/holdfast"`, `path: /srv/app/uploads/backup`}},
		{"recover-into-location", codeShared, []string{`recover: {to: "recovered/uploads"}`, `recover: {to: backups/near}`}},
		{"bucket", "", []string{offsite, bucket("https://s3.eu-central-1.amazonaws.com", "region: eu-central-1, prefix: holdfast, style: host, credentials_file: secrets/bucket, ca_file: ca.pem, lock: 30d")}},
		{"bucket-short-lock", codeGuard, []string{offsite, bucket("s3.example.com", "lock: 7d")}},
		{"bucket-insecure", codeGuard, []string{offsite, bucket("http://127.0.0.1:9000", "insecure: true")}},
		{"bucket-plain-http", codeValue, []string{offsite, bucket("http://s3.example.com", "insecure: true")}},
		{"bucket-plain-here", codeValue, []string{offsite, bucket("http://127.0.0.1:9000", "prefix: x")}},
		{"tls-1.1", codeValue, []string{"  encrypt_to: [key-a, key-b]\n", "  encrypt_to: [key-a, key-b]\n  tls_min: \"1.1\"\n"}},
		{"bucket-login", codeSecret, []string{offsite, bucket("https://me:hunter2@s3.example.com", "prefix: x")}},
		{"bucket-in-endpoint", codeValue, []string{offsite, bucket("https://s3.example.com/example-backups", "prefix: x")}},
		{"bucket-prefix", codeValue, []string{offsite, bucket("s3.example.com", "prefix: ../x")}},
		{"bucket-style", codeValue, []string{offsite, bucket("s3.example.com", "style: hosts")}},
		{"bucket-secret-key", codeField, []string{offsite, bucket("s3.example.com", "secret_access_key: hunter2")}},
		{"bucket-without-fields", codeEmpty, []string{offsite, "{kind: s3}"}},
		{"bucket-with-path", codeField, []string{offsite, "{kind: s3, path: /srv, s3: {endpoint: s3.example.com, bucket: example-backups}}"}},
		{"bucket-lacks-bucket", codeEmpty, []string{offsite, "{kind: s3, s3: {endpoint: s3.example.com}}"}},
		{"one-bucket-twice", codeShared, []string{offsite, bucket("s3.example.com", "prefix: x"), `{kind: dir, path: "backups/near", domain: "this-host"}`, bucket("https://s3.example.com/", "prefix: x/")}},
		{"machine", "", []string{offsite, machine("backup.example.com:2222", `host_key: "SHA256:`+strings.Repeat("A", 43)+`"`)}},
		{"machine-known-hosts", "", []string{offsite, machine("backup.example.com", "known_hosts: known_hosts")}},
		{"machine-unknown", codeEmpty, []string{offsite, "{kind: sftp, sftp: {host: backup.example.com, user: holdfast, path: backups, key_file: secrets/machine}}"}},
		{"machine-known-twice", codeValue, []string{offsite, machine("backup.example.com", `known_hosts: known_hosts, host_key: "SHA256:`+strings.Repeat("A", 43)+`"`)}},
		{"machine-fingerprint", codeValue, []string{offsite, machine("backup.example.com", `host_key: "MD5:00:11"`)}},
		{"machine-login", codeSecret, []string{offsite, machine("me:hunter2@backup.example.com", "known_hosts: known_hosts")}},
		{"machine-password", codeField, []string{offsite, machine("backup.example.com", "password: hunter2")}},
		{"placeholder-key", codeKeys, []string{recipientA, notAKey}},
		{"placeholder-keys", codeKeys, []string{recipientA, notAKey, recipientB, notAKey}},
		{"private-key", codeSecret, []string{recipientA, "AGE-SECRET-KEY-1QQQQQQQQQQ"}},
		{"one-key", codeKeys, []string{"encrypt_to: [key-a, key-b]", "encrypt_to: [key-a]"}},
		{"one-key-allowed", codeKeys, []string{"encrypt_to: [key-a, key-b]", "encrypt_to: [key-a]\n  allow_one_recipient: true"}},
		{"post-quantum", "", []string{recipientA, quantumA, recipientB, quantumB}},
		{"post-quantum-mixed", codeKeys, []string{recipientA, quantumA}},
		{"post-quantum-short", codeKeys, []string{recipientA, quantumA[:900], recipientB, quantumB}},
		{"same-key-twice", codeKeys, []string{recipientB, recipientA}},
		{"one-holder", codeKeys, []string{"holders: [founder-b]", "holders: [founder-a]"}},
		{"no-holder", codeKeys, []string{`holders: [founder-b]`, `holders: []`}},
		{"agent-key", codeKeys, []string{"  uploads:\n    kind: files\n", "  uploads:\n    kind: files\n    agent: {key: secret}\n"}},
		{"gateway", codeValue, []string{"offsite: {kind: dir, path", "offsite: {kind: gateway, gateway: {address: \"http://b\", identity_file: x}, path"}},
		{"share-alone", codeKeys, []string{"holders: [founder-b]", "shares: {needed: 1, holders: {founder-a: " + recipientA + ", founder-b: " + recipientB + "}}"}},
		{"shares-too-few", codeKeys, []string{"holders: [founder-b]", "shares: {needed: 3, holders: {founder-a: " + recipientA + ", founder-b: " + recipientB + "}}"}},
		{"shares-all-needed", codeKeys, []string{"holders: [founder-b]", "shares: {needed: 2, holders: {founder-a: " + recipientA + ", founder-b: " + recipientB + "}}"}},
		{"share-twice", codeKeys, []string{"holders: [founder-b]", "shares: {needed: 2, holders: {founder-a: " + recipientA + ", founder-b: " + recipientA + "}}"}},
		{"share-no-recipient", codeKeys, []string{"holders: [founder-b]", "shares: {needed: 2, holders: {founder-a: x, founder-b: " + recipientA + "}}"}},
		{"kit", "", withKit("", "")},
		{"kit-not-split", codeKeys, withKit("key: kit,", "key: key-b,")},
		{"kit-nobody-outside", codeKeys, withKit("outside: [notary, auditor]", "outside: []")},
		{"kit-held-whole", codeKeys, withKit("kit: {recipient", "kit: {holders: [founder-a], recipient")},
		{"kit-too-few-outside", codeKeys, withKit("outside: [notary, auditor]", "outside: [notary]")},
		{"kit-no-check-in", codeKeys, withKit(", check_in: {every: every 1mo, by: [founder-a]}", "")},
		{"kit-undeclared", codeUndeclared, withKit("key: kit,", "key: kti,")},
		{"share-of-nobody", codeUndeclared, []string{"holders: [founder-b]", "shares: {needed: 2, holders: {founder-c: " + recipientB + ", founder-b: " + recipientA + "}}"}},
		{"no-offline-key", codeKeys, []string{", offline: true", ""}},
		{"no-keys", codeKeys, []string{"encrypt_to: [key-a, key-b]", "encrypt_to: []"}},
		{"no-deputy", codeDeputy, []string{"deputy: founder-b, ", ""}},
		{"own-deputy", codeDeputy, []string{"deputy: founder-b, ", "deputy: founder-a, "}},
		{"one-person", codeBusFactor, []string{"holder: founder-b, deputy: founder-a", "holder: founder-a, deputy: founder-a", "deputy: founder-b, ", "deputy: founder-a, "}},
		{"approval-unsatisfiable", codeApproval, []string{"approvers: [founder-a, founder-b]", "approvers: [founder-a, founder-b, technical_lead]"}},
		{"step-approval-unsatisfiable", codeApproval, []string{"approve: [technical_lead]", "approve: [technical_lead, incident_commander, founder-a]"}},
		{"nobody-activates", codeApproval, []string{"automatic: [store-lost]\n  by: [incident_commander, technical_lead]", "automatic: []\n  by: []"}},
		{"no-estimate", codeEstimate, []string{", after: [restore-db], est: measured}", ", after: [restore-db]}"}},
		{"human-measured", codeEstimate, []string{"est: 15m", "est: measured"}},
		{"needs-cycle", codeCycle, []string{"needs: {db: hard, uploads: hard}", "needs: {db: hard, uploads: hard, web: hard}"}},
		{"runbook-cycle", codeCycle, []string{"restore-db: {restore: db, est: measured}", "restore-db: {restore: db, est: measured, after: [hand-over]}"}},
		{"zero-passes", codeZero, []string{`"value > 0"`, `"value >= 0"`}},
		{"null-passes", codeZero, []string{`"value > 0"`, `"value == null || value > 0"`}},
		{"clock-gap", codeGap, []string{`timezone: "UTC"`, `timezone: Europe/Stockholm`, "every: 1d at 04:30", "every: 1d at 02:30"}},
		{"condition-junk", codeZero, []string{"  confirm_after: 30s", "  confirm_after: 30s\n  when: ['stores[\"db\"] == \"lost\"', 'incident.age > 4 && strs[\"db\"] == \"lost\"']"}},
		{"expect-junk", codeZero, []string{`"value > 0"`, `"valu > 0"`}},
		{"no-invariants", codeZero, []string{"    invariants:\n      data-is-there:\n        sql: \"select count(*) from information_schema.tables where table_schema = 'public'\"\n        expect: \"value > 0\"\n        confirmed_by: technical_lead\n", ""}},
		{"undeclared-tier", codeUndeclared, []string{"kind: files\n    tier: critical", "kind: files\n    tier: critcal"}},
		{"undeclared-need", codeUndeclared, []string{"needs: {api: hard}", "needs: {api: hard, quueue: soft}"}},
		{"undeclared-person", codeUndeclared, []string{"holder: founder-a, ", "holder: fuonder-a, "}},
		{"undeclared-location", codeUndeclared, []string{"copies: [near, offsite]\n    keep: 30d\n  folder", "copies: [near, ofsite, offsite]\n    keep: 30d\n  folder"}},
		{"undeclared-drill", codeUndeclared, []string{`"soc2/A1.3": [db-drill, uploads-drill]`, `"soc2/A1.3": [db-dril]`}},
		{"undrilled", CodeUndrilled, []string{"  uploads-drill: {of: [uploads], every: 1w, pick: random, rung: 3, fresh_for: 10d}\n", "", "[db-drill, uploads-drill]", "[db-drill]", "[db-drill, uploads-drill]", "[db-drill]"}},
		{"no-runbook", codeUnrecovered, []string{"needs: {api: hard}\n    runbook: rebuild", "needs: {api: hard}"}},
		{"store-not-restored", codeUnrecovered, []string{"      restore-uploads: {restore: uploads, est: measured}\n", "", "after: [check-db, restore-uploads]", "after: [check-db]"}},
		{"not-started", codeUnrecovered, []string{"      start: {port: 5433, listen: 127.0.0.1}\n", ""}},
		{"two-things-one-id", codeTwice, []string{"  near: {kind: dir", "  db: {kind: dir", "[near, offsite]", "[db, offsite]", "[near, offsite]", "[db, offsite]"}},
		{"exception", CodeUndrilled, append(undrilled(), "controls:", exception("founder-b", "2026-12-31")+"controls:")},
		{"exception-ended", codeException, append(undrilled(), "controls:", exception("founder-b", "2026-11-21")+"controls:")},
		{"exception-own-approval", codeException, append(undrilled(), "controls:", exception("founder-a", "2026-12-31")+"controls:")},
		{"exception-of-nothing", codeException, []string{"controls:", exception("founder-b", "2026-12-31") + "controls:"}},

		{"password-words", codeSecret, []string{"user=holdfast dbname=app", "user=holdfast password=hunter2 dbname=app"}},
		{"password-url", codeSecret, []string{"host=127.0.0.1 port=5432 user=holdfast dbname=app", "postgres://holdfast:hunter2@127.0.0.1/app"}},
		{"typo", codeField, []string{"max_lag: 1m", "max_lga: 1m"}},
		{"typo-in-objective", codeField, []string{"rto: 4h,", "rto: {targt: 2h, max: 4h},"}},
		{"empty-rto", codeEmpty, []string{"rto: 4h,", "rto: ,"}},
		{"null-value", codeEmpty, []string{"tier: support", "tier: ~"}},
		{"second-document", codeDocuments, []string{"controls:", "---\ncontrols:"}},
		{"anchor", codeAnchor, []string{"{holder: founder-b", "&x {holder: founder-b"}},
		{"merge-key", codeAnchor, []string{"{holder: founder-b", "{<<: {}, holder: founder-b"}},
		{"tag", codeAnchor, []string{"port: 5433", "port: !!str 5433"}},
		{"twice", codeDuplicate, []string{"  web:\n", "  api:\n"}},
		{"key-on", codeValue, []string{"  web:\n", "  on:\n"}},
		{"bool-word", codeValue, []string{"offline: true", "offline: yes"}},
		{"octal", codeValue, []string{"port: 5433", "port: 05433"}},
		{"bad-period", codeValue, []string{"max_lag: 1m", "max_lag: 13am"}},
		{"digits-only", codeValue, []string{"rto: 4h,", "rto: 4,"}},
		{"range-inverted", codeValue, []string{"rto: 4h,", "rto: {target: 8h, max: 4h},"}},
		{"none-without-reason", codeValue, []string{`{none: "holds no data of its own"}`, `{none: " "}`}},
		{"timezone", codeValue, []string{`timezone: "UTC"`, `timezone: "Europe/Stokholm"`}},
		{"step-with-two-acts", codeValue, []string{"restore-db: {restore: db,", "restore-db: {restore: db, check: db,"}},
		{"wrong-kind", codeValue, []string{"kind: files", "kind: file"}},
		{"api-version", codeValue, []string{"holdfast/v1", "holdfast/v2"}},
		{"scalar-for-list", codeValue, []string{"encrypt_to: [key-a, key-b]", "encrypt_to: key-a"}},
		{"not-yaml", codeSyntax, []string{"tiers:\n", "tiers:\n\t- x\n"}},
		{"not-utf8", codeSyntax, []string{"Example Ltd", "Ex\xe4mple"}},
		{"lacks-required", codeEmpty, []string{"kind: files\n    tier", "tier"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkCase(t, tt.name, tt.code, apply(t, clean(), tt.edits)) })
	}
}

// apply replaces each first of two texts by the second one, once.
func apply(t *testing.T, text string, edits []string) string {
	t.Helper()
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("the plan does not contain %q", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

// checkCase wants a finding with a code among those of a plan, which are a golden file.
// Without a code it wants none.
func checkCase(t *testing.T, name, code, text string) {
	t.Helper()
	fs := findings(text)
	got := render(fs)
	found := code == "" && len(fs) == 0
	for _, f := range fs {
		found = found || f.Code == code
		if f.Line == 0 || f.File != "plan.yaml" || f.Message == "" || f.Hint == "" || f.Subject == "" {
			t.Errorf("incomplete finding: %+v", f)
		}
		if strings.Contains(f.Message+f.Hint, "hunter2") {
			t.Errorf("a finding shows a secret: %s", f.Message)
		}
	}
	if !found {
		t.Errorf("no finding %q among:\n%s", code, got)
	}
	golden := filepath.Join("testdata", "check", name+".golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("findings:\n%s\nwant:\n%s", got, want)
	}
}

// offsite is the second location of the template; the others replace it.
const offsite = `{kind: dir, path: "/mnt/offsite/holdfast", domain: "offsite-disk"}`

func bucket(endpoint, more string) string {
	return fmt.Sprintf("{kind: s3, s3: {endpoint: %q, bucket: example-backups, %s}}", endpoint, more)
}

func machine(host, more string) string {
	return fmt.Sprintf("{kind: sftp, sftp: {host: %q, user: holdfast, path: backups, key_file: secrets/machine, %s}}", host, more)
}

func undrilled() []string {
	return []string{"  uploads-drill: {of: [uploads], every: 1w, pick: random, rung: 3, fresh_for: 10d}\n", "", "[db-drill, uploads-drill]", "[db-drill]", "[db-drill, uploads-drill]", "[db-drill]"}
}

func exception(approver, until string) string {
	return fmt.Sprintf("exceptions:\n  ex-1: {rule: HF-L32, of: stores.uploads, why: \"can be asked for again\", by: founder-a, approved_by: [%s], from: \"2026-11-01\", until: %q}\n", approver, until)
}
