package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A lintCase is one fault in a plan that has none, and the plan beside it that differs
// from the faulty one in the one thing.
type lintCase struct {
	name  string
	fault []string // old, new, …: "§" stands where the finding is to be, and is taken out
	// What is found.
	severity, subject string
	words             string   // of message and hint
	clean             []string // old, new, … of the faulty plan
	also              []string // codes, or severity and code, that may be found besides
}

// Texts of the first plan of a company, which the cases change.
const (
	lintOwner     = "  owner: technical_lead\n  approvers: [founder-a, founder-b]\n"
	lintScenario  = "  corruption: {detection_delay: 7d}\n"
	lintDatabase  = "    copies: [near, offsite]\n    keep: 30d\n  folder"
	lintFolder    = "    copies: [near, offsite]\n    keep: 30d\n\n"
	lintNeeds     = "needs: {db: hard, uploads: hard}"
	lintCritical  = "  critical: {rto: 4h, rpo: 15m, mtd: 1d}\n"
	lintNear      = `domain: "this-host"}`
	lintOffsite   = `domain: "offsite-disk"}`
	lintUndrilled = "  uploads-drill: {of: [uploads], every: 1w, pick: random, rung: 3, fresh_for: 10d}\n"
	lintActivate  = "may: [activate-plan, close-incident]}\n"
	lintControls  = "controls:\n"
	lintDelete    = "approvals:\n  delete: {roles: [incident_commander, technical_lead], requester_counts: true}\n"
	lintBackups   = "# How it is copied."
)

// twoPeople is found in every plan with risks and two people.
var twoPeople = []string{"note HF-L30"}

// lints are the rules that a plan alone can break; L12 and L16 are about what runs.
var lints = map[string][]lintCase{
	"HF-L1": {
		{"near zero", []string{"rpo: 15m,", "§rpo: near zero,"}, "warning", "tiers.critical.rpo", `"near zero" is not a number`, []string{"rpo: near zero", "rpo: {stated: near zero, bound: 15m}"}, nil},
		{"minutes, of a store alone", []string{"    kind: files\n", "    kind: files\n    §rpo: minutes\n"}, "warning", "stores.uploads.rpo", `"minutes" is not a number`, []string{"rpo: minutes", "rpo: {stated: minutes, bound: 15m}"}, nil},
		{"minutes, of a severity", []string{lintControls, "severities:\n  high: {rto: 4h, §rpo: {stated: minutes}}\n" + lintControls}, "warning", "severities.high.rpo", `"minutes" is not a number`, []string{"{stated: minutes}", "{stated: minutes, bound: 5m}"}, nil},
	},
	"HF-L2": {
		{"a daily snapshot for a tier of one hour", []string{"rpo: 15m,", "rpo: 1h,", "    every: 5m\n", "    §every: 1d\n"}, "error", "backups.folder.every", "24h between snapshots, and its RPO is 1h", []string{"every: 1d\n", "every: 30m\n"}, nil},
		{"a snapshot that takes time", []string{"    every: 5m\n", "    §every: 5m\n    takes: 11m\n"}, "error", "backups.folder.every", "5m between snapshots + 11m for the snapshot = 16m", []string{"takes: 11m", "takes: 9m"}, nil},
		{"an interval that is the whole RPO", []string{"rpo: 15m,", "rpo: 24h,", "    every: 5m\n", "    §every: 24h\n"}, "warning", "backups.folder.every", "its whole RPO", []string{"every: 24h", "every: 23h"}, nil},
		{"a lag that is the whole RPO", []string{"    log: {max_lag: 1m} ", "    §log: {max_lag: 15m} "}, "warning", "backups.database.log", "its whole RPO", []string{"max_lag: 15m", "max_lag: 14m"}, nil},
		{"a weekly copy elsewhere for a day", []string{lintScenario, lintScenario + "  site: {lose: [near]}\n", "mtd: 1d}", "mtd: 1d, scenarios: {site: {rto: 8h, rpo: 24h}}}", lintDatabase, "    copies: {near: {}, §offsite: {every: 1w}}\n    keep: 30d\n  folder"},
			"error", "backups.database.copies.offsite", "7d between copies to offsite", []string{"every: 1w}", "every: 23h}"}, nil},
		{"a log that is not in the second region", []string{lintControls, "severities:\n  high: {rpo: 5m, scenarios: [region-lost]}\n" + lintControls, lintScenario, lintScenario + "  region-lost: {lose: [near]}\n", lintDatabase, "    copies: {near: {}, §offsite: {every: 1d}}\n    keep: 30d\n  folder"},
			"error", "backups.database.copies.offsite", "region-lost", []string{"{near: {}, offsite: {every: 1d}}", "[near, offsite]"}, nil},
	},
	"HF-L3": {
		{"steps that are longer", []string{"rto: 4h,", "rto: 20m,", "  rebuild:\n", "  §rebuild:\n"}, "error", "runbooks.rebuild", "15m reconnect + 10m hand-over = 26m", []string{"rto: 20m", "rto: 2h"}, nil},
		{"steps that leave little for the restore", []string{"rto: 4h,", "rto: 2h,", "  rebuild:\n", "  §rebuild:\n", "est: 15m", "est: 80m"}, "warning", "runbooks.rebuild", "leaves 29m for the restore", []string{"est: 80m", "est: 56m"}, nil},
		{"what comes before", []string{"  support: {rto: 1d,", "  support: {rto: 4h,", "    needs: {api: hard}\n    runbook: rebuild\n", "    needs: {§api: hard}\n    runbook: front\n", "runbooks:\n", "runbooks:\n  front: {detect: 1m, steps: {deploy: {human: technical_lead, est: 230m}}}\n"},
			"error", "services.web.needs.api", `25m for "api" + 3h 50m for "web" = 4h 16m`, []string{"est: 230m", "est: 120m"}, nil},
	},
	"HF-L4": {
		{"a need of a looser tier", []string{"    kind: files\n    tier: critical", "    kind: files\n    tier: support", lintNeeds, "needs: {db: hard, §uploads: hard}", "{none: \"holds no data of its own\"}", "15m"}, "error", "services.api.needs.uploads", `cannot run without "uploads", which may take 24h`, []string{"uploads: hard}", "uploads: soft}"}, nil},
		{"a need that leaves no time for what comes after it", []string{"    kind: files\n    tier: critical", "    kind: files\n    tier: critical\n    rto: 230m", lintNeeds, "needs: {db: hard, §uploads: hard}"}, "error", "services.api.needs.uploads", "needs 25m more", []string{"rto: 230m", "rto: 200m"}, nil},
	},
	"HF-L5": {
		{"a guarantee that nobody knows", []string{lintNeeds, "needs: {db: hard, uploads: hard, hosting: hard}", lintControls, "suppliers:\n  §hosting: {provides: machines}\n" + lintControls}, "warning", "suppliers.hosting", "its guarantee is unknown", []string{"{provides: machines}", "{provides: machines, rto: 1h}"}, nil},
		{"a guarantee that is weaker", []string{lintNeeds, "needs: {db: hard, uploads: hard, hosting: hard}", lintControls, "suppliers:\n  hosting: {§rto: 24h}\n" + lintControls}, "error", "suppliers.hosting.rto", "guarantees 24h", []string{"rto: 24h}", "rto: 24h, contingency: rebuild, test_every: 1y}"}, nil},
		{"a contingency that nobody tried", []string{lintNeeds, "needs: {db: hard, uploads: hard, hosting: hard}", lintControls, "suppliers:\n  §hosting: {contingency: rebuild}\n" + lintControls}, "warning", "suppliers.hosting", "not tested", []string{"{contingency: rebuild}", "{contingency: rebuild, test_every: 1y}"}, nil},
	},
	"HF-L6": {{"an RTO as long as what the company bears", []string{"{rto: 4h, rpo: 15m, mtd: 1d}", "{§rto: 4h, rpo: 15m, mtd: 4h}"}, "error", "tiers.critical.rto", "no margin", []string{"mtd: 4h", "mtd: 5h"}, nil}},
	"HF-L7": {{"a wider loss in less time", []string{lintScenario, lintScenario + "  fire: {lose: [near]}\n", "mtd: 1d}", "mtd: 1d, scenarios: {fire: {§rto: 2h}}}"}, "warning", "tiers.critical.scenarios.fire.rto", "losing more", []string{"{rto: 2h}", "{rto: 8h}"}, nil}},
	"HF-L8": {
		{"proof that ends first", []string{"  db-drill: {of: [db], every: 1w", "  §db-drill: {of: [db], every: 2w"}, "error", "drills.db-drill", "nothing is proven", []string{"every: 2w", "every: 9d"}, nil},
		{"a rung that a folder does not have", []string{"{of: [uploads], every: 1w, pick: random, rung: 3", "{of: [§uploads], every: 1w, pick: random, rung: 5"}, "warning", "drills.uploads-drill.of[0]", "no engine", []string{"rung: 5", "rung: 3"}, nil},
	},
	"HF-L9":  {{"kept for less than a loss is unnoticed", []string{"  standard_retention: 30d\n", "", "    keep: 30d\n  folder", "    §keep: 6d\n  folder"}, "error", "backups.database.keep", "corruption", []string{"keep: 6d", "keep: 8d"}, nil}},
	"HF-L10": {{"a floor of a day for a tier of minutes", []string{"    every: 5m\n", "    every: 5m\n    §floor: 24h\n"}, "warning", "backups.folder.floor", "15m", []string{"floor: 24h", "floor: 15m"}, nil}},
	"HF-L11": {
		{"nothing protects", []string{"  uploads:\n    kind", "  §uploads:\n    kind", "    protect: folder\n", "", "  folder:\n    every: 5m\n" + lintFolder, "\n"}, "error", "stores.uploads", "nothing protects", []string{"    kind: files\n", "    kind: files\n    not_protected: \"made anew from the database\"\n"}, []string{"HF-L38", "HF-L32"}},
		{"an exception that has ended", []string{"  uploads:\n    kind", "  §uploads:\n    kind", "    protect: folder\n", "", "  folder:\n    every: 5m\n" + lintFolder, "\n", lintControls, "exceptions:\n  ex-1: {rule: HF-L11, of: stores.uploads, why: \"can be asked for again\", by: founder-a, approved_by: [founder-b], until: \"2026-01-31\"}\n" + lintControls},
			"error", "stores.uploads", "nothing protects", []string{"2026-01-31", "2099-01-31"}, []string{"HF-X1", "HF-L38", "HF-L32", "note HF-L11"}},
		{"a backup that goes nowhere", []string{lintFolder, "    §copies: []\n    keep: 30d\n\n"}, "error", "backups.folder.copies", "goes nowhere", []string{"copies: []", "copies: [near, offsite]"}, nil},
	},
	"HF-L13": {
		{"one place", []string{lintFolder, "    §copies: [near]\n    keep: 30d\n\n"}, "error", "backups.folder.copies", "only copy", []string{"copies: [near]", "copies: [near, offsite]"}, nil},
		{"one domain", []string{lintOffsite, lintNear, lintFolder, "    §copies: [near, offsite]\n    keep: 30d\n\n", lintDatabase, strings.Replace(lintDatabase, "[near, offsite]", "[near, offsite, third]", 1), "  # A bucket that", "  third: {kind: dir, path: /mnt/third, domain: third}\n  # A bucket that"}, "error", "backups.folder.copies", "count as one copy", []string{"copies: [near, offsite]\n", "copies: [near, offsite, third]\n"}, nil},
		{"one account", sharing("account: prod, provider: cloud-a", "account: prod, provider: cloud-a"), "warning", "backups.folder.copies", `share the account "prod"`, []string{"domain: offsite-disk, account: prod, provider: cloud-a", "domain: offsite-disk, account: backup, provider: cloud-b"}, nil},
		{"one provider", sharing("provider: cloud-a", "provider: cloud-a"), "warning", "backups.folder.copies", `provider "cloud-a"`, []string{"domain: offsite-disk, provider: cloud-a", "domain: offsite-disk, provider: cloud-b"}, nil},
		{"one region", sharing("region: eu-1", "region: eu-1"), "warning", "backups.folder.copies", `region "eu-1"`, []string{"domain: offsite-disk, region: eu-1", "domain: offsite-disk, region: eu-2"}, nil},
		{"one credential", append(sharing("credential: admin", "credential: admin"), lintControls, "credentials:\n  admin: {holders: [founder-a, founder-b], test_every: 90d}\n  other: {holders: [founder-a, founder-b], test_every: 90d}\n"+lintControls), "warning", "backups.folder.copies", `"admin"`, []string{"domain: offsite-disk, credential: admin", "domain: offsite-disk, credential: other"}, nil},
	},
	"HF-L14": {
		{"a key that nobody declared", []string{"encrypt_to: [key-a, key-b]", "§encrypt_to: [key-a]"}, "error", "repository.encrypt_to", "one key alone", []string{"[key-a]", "[key-a, key-b]"}, []string{"HF-L38"}},
		{"one holder of all", []string{"holders: [founder-b]", "holders: [founder-a]", "  encrypt_to", "  §encrypt_to"}, "error", "repository.encrypt_to", `one holder, "founder-a"`, []string{"holders: [founder-a], offline", "holders: [founder-b], offline"}, nil},
		{"none offline", []string{", offline: true", "", "  encrypt_to", "  §encrypt_to"}, "warning", "repository.encrypt_to", "no key is kept offline", []string{"[founder-b]}", "[founder-b], offline: true}"}, nil},
		{"kept where it is lost with the place", []string{"holders: [founder-a]}", "holders: [founder-a], stored: near}", "holders: [founder-b], offline: true}", "holders: [founder-b], offline: true, stored: near}", lintScenario, lintScenario + "  site: {lose: [near]}\n", "  encrypt_to", "  §encrypt_to"}, "error", "repository.encrypt_to", "no key is left", []string{"offline: true, stored: near}", "offline: true, stored: \"safe at the notary\"}"}, nil},
	},
	"HF-L15": {{"a host that says so", []string{"  uploads:\n    kind: files\n", "  uploads:\n    kind: files\n    §delegated: {to: hosting, rpo: 5m}\n", "    protect: folder\n", "", "  folder:\n    every: 5m\n" + lintFolder, "\n", lintControls, "suppliers:\n  hosting: {rto: 1h}\n" + lintControls}, "warning", "stores.uploads.delegated", "nobody has tried", []string{"rpo: 5m}", "rpo: 5m, adapter: [./ask], test_every: 1q}"}, []string{"HF-L32"}}},
	"HF-L17": {
		{"a sector without its data", []string{lintControls, lintControls + "  §\"hipaa/164.308(a)(7)\": [db-drill]\n"}, "warning", "controls.hipaa/164.308(a)(7)", "health", []string{"    class: confidential\n", "    class: confidential\n    contains: [health]\n"}, nil},
		{"health data without the sector's rules", []string{"    class: confidential\n", "    class: confidential\n    §contains: [health]\n"}, "note", "stores.db.contains", "health", []string{lintControls, lintControls + "  \"hipaa/164.308(a)(7)\": [db-drill]\n"}, nil},
	},
	"HF-L18": {{"nobody stands in", []string{"  incident_commander: {holder: founder-a, deputy: founder-b, ", "  §incident_commander: {holder: founder-a, "}, "warning", "roles.incident_commander", "no deputy", []string{"{holder: founder-a, may", "{holder: founder-a, deputy: founder-b, may"}, nil}},
	"HF-L19": {
		{"three roles and two people", []string{"  approvers: [founder-a, founder-b]", "  §approvers: [founder-a, founder-b, technical_lead]"}, "error", "plan.approvers", "held by 2", []string{"people:\n", "people:\n  founder-c: {name: \"Founder C\"}\n", "technical_lead: {holder: founder-b", "technical_lead: {holder: founder-c"}, nil},
		{"two, and one of them asks", []string{lintControls, "approvals:\n  §weaken-plan: {roles: [incident_commander, technical_lead]}\n" + lintControls}, "warning", "approvals.weaken-plan", "besides the one who asks", []string{"technical_lead]}\ncontrols", "technical_lead], requester_counts: true}\ncontrols"}, nil},
		{"nobody may start", []string{"activation:\n  automatic: [store-lost]\n  by: [incident_commander, technical_lead]\n", "§activation:\n"}, "error", "activation", "nobody may start", []string{"activation:\n", "activation:\n  by: [incident_commander]\n"}, nil},
	},
	"HF-L20": {
		{"one person in every role", []string{"roles:\n", "§roles:\n", "holder: founder-a, deputy: founder-b", "holder: founder-b, deputy: founder-b", "deputy: founder-a", "deputy: founder-b"}, "warning", "roles", `ends with "founder-b"`, []string{"incident_commander: {holder: founder-b, deputy: founder-b", "incident_commander: {holder: founder-a, deputy: founder-b"}, []string{"HF-L18", "HF-L45"}},
		{"one who can", []string{`{name: "Founder A"}`, `{name: "Founder A", can: [rebuild]}`, "  rebuild:\n", "  §rebuild:\n"}, "warning", "runbooks.rebuild", `only "founder-a"`, []string{`{name: "Founder B"}`, `{name: "Founder B", can: [rebuild]}`}, nil},
		{"one who can open it", []string{lintControls, "credentials:\n  admin: {§holders: [founder-a], test_every: 90d}\n" + lintControls}, "warning", "credentials.admin.holders", `only "founder-a"`, []string{"[founder-a], test", "[founder-a, founder-b], test"}, nil},
	},
	"HF-L21": {
		{"a credential that nobody tries", []string{lintControls, "credentials:\n  §admin: {holders: [founder-a, founder-b]}\n" + lintControls}, "warning", "credentials.admin", "nobody tries", []string{"founder-b]}\ncontrols", "founder-b], test_every: 90d}\ncontrols"}, nil},
		{"no copy for when nothing works", []string{`{name: "Founder A"}`, `{name: "Founder A", offline_copy: 90d}`, "  founder-b: {name", "  §founder-b: {name"}, "warning", "people.founder-b", "no copy of the plan", []string{`{name: "Founder B"}`, `{name: "Founder B", offline_copy: 90d}`}, nil},
	},
	"HF-L22": {
		{"a step without an estimate", []string{"      restore-db: {restore: db, est: measured}", "      §restore-db: {restore: db}"}, "warning", "runbooks.rebuild.steps.restore-db", "no estimate", []string{"{restore: db}", "{restore: db, est: measured}"}, nil},
		{"an approval without an estimate", []string{"      hand-over: {approve: [technical_lead], after: [reconnect], est: 10m}", "      §hand-over: {approve: [technical_lead], after: [reconnect]}"}, "warning", "runbooks.rebuild.steps.hand-over", "no estimate", []string{"after: [reconnect]}", "after: [reconnect], est: 10m}"}, nil},
	},
	"HF-L23": {
		{"a circle of needs", []string{lintNeeds, "needs: {db: hard, uploads: hard, §web: hard}"}, "error", "services.api.needs.web", "api -> web -> api", []string{"web: hard}", "web: soft}"}, []string{"HF-L4"}},
		{"a circle of steps", []string{"restore-db: {restore: db, est: measured}", "restore-db: {restore: db, est: measured, §after: [check-db]}"}, "error", "runbooks.rebuild.steps.restore-db.after", "circle", []string{"est: measured, after: [check-db]}", "est: measured}"}, nil},
	},
	"HF-L24": {
		{"passes on zero", []string{"        expect: \"value > 0\"", "        §expect: \"value >= 0\""}, "warning", "stores.db.invariants.data-is-there.expect", "an empty database would pass", []string{"value >= 0", "value >= 1"}, nil},
		{"cannot be evaluated for a count", []string{"        expect: \"value > 0\"", "        §expect: \"value >= 0.98 * last\""}, "warning", "stores.db.invariants.data-is-there.expect", "a whole number", []string{"value >= 0.98 * last", "value >= 0.98 * double(last)"}, nil},
		{"an unknown name", []string{"        expect: \"value > 0\"", "        expect: \"§valeu > 0\""}, "error", "stores.db.invariants.data-is-there.expect", "did you mean 'value'?", []string{"valeu", "value"}, nil},
	},
	"HF-L25": {{"an id of nothing", []string{"    kind: files\n    tier: critical", "    kind: files\n    §tier: critcal"}, "error", "stores.uploads.tier", `did you mean "critical"?`, []string{"critcal", "critical"}, []string{"HF-L35", "HF-L4"}}},
	"HF-L26": {{"a header unlike the history", []string{"  version: \"1.0\"", "  §version: \"1.0\"", lintOwner, "  history: [{version: \"4.0\", on: \"2026-06-06\", approved_by: [founder-a]}]\n" + lintOwner}, "warning", "plan.version", "4.0", []string{"version: \"1.0\"", "version: \"4.0\""}, nil}},
	"HF-L27": {
		{"last updated years ago", []string{lintOwner, "  §updated: \"2020-12-16\"\n" + lintOwner}, "warning", "plan.updated", "overdue since 2021-12-16", []string{"2020-12-16", "2099-01-01"}, nil},
		{"an edition that nobody approved for 758 days", []string{"version: \"1.0\"", "version: \"4.0\"", "every: 1y, after", "every: 99y, after", lintOwner, "  history:\n    - {version: \"2.0\", on: \"2022-01-14\", approved_by: [founder-a]}\n    - §{version: \"3.0\", on: \"2022-12-10\"}\n    - {version: \"4.0\", on: \"2025-01-06\", approved_by: [founder-a]}\n" + lintOwner},
			"warning", "plan.history[1]", "758 days", []string{"2022-12-10\"}", "2022-12-10\", approved_by: [founder-b]}"}, nil},
		{"a review that is due", []string{"version: \"1.0\"", "version: \"4.0\"", lintOwner, "  history:\n    - {version: \"4.0\", §on: \"2025-01-06\", approved_by: [founder-a]}\n" + lintOwner}, "warning", "plan.history[0].on", "overdue since 2026-01-06", []string{"2025-01-06", "2099-01-06"}, nil},
		{"a supplier's report that is over", []string{lintControls, "suppliers:\n  hosting: {evidence: {report: {stated: \"audit report\", §until: \"2025-12-31\"}}}\n" + lintControls}, "warning", "suppliers.hosting.evidence.report.until", "was shown until 2025-12-31", []string{"2025-12-31", "2099-12-31"}, []string{"HF-L38"}},
	},
	"HF-L28": {
		{"empty signatures", []string{lintOwner, "  §signatures: {incident_commander: {none: empty}, technical_lead: {none: empty}}\n" + lintOwner}, "warning", "plan.signatures", "0 of 2 signed", []string{"{incident_commander: {none: empty}, technical_lead: {none: empty}}", "{incident_commander: {by: founder-a, on: \"2026-01-01\"}, technical_lead: {by: founder-b, on: \"2026-01-01\"}}"}, nil},
		{"of others than the approvers", []string{"  approvers: [founder-a, founder-b]", "  §approvers: [founder-a, founder-b]", "  owner: technical_lead\n", "  signatures: {technical_lead: {by: founder-b, on: \"2026-01-01\"}}\n  owner: technical_lead\n"}, "warning", "plan.approvers", "founder-a must approve", []string{"{technical_lead: {by", "{incident_commander: {by: founder-a, on: \"2026-01-01\"}, technical_lead: {by"}, nil},
	},
	"HF-L29": {
		{"SR 7.1 for a backup", []string{lintControls, lintControls + "  §\"iec62443/SR7.1\": [db-drill]\n", "    class: confidential\n", "    class: confidential\n    contains: [industrial-control]\n"}, "warning", "controls.iec62443/SR7.1", "denial of service", []string{"SR7.1", "SR7.3"}, nil},
		{"a control that does not exist", []string{`  "iso27001/A.8.13"`, `  §"iso27001/A.8.113"`}, "warning", "controls.iso27001/A.8.113", "A.8.13", []string{"A.8.113", "A.8.13"}, nil},
	},
	"HF-L30": {
		{"mitigated by nothing", []string{lintControls, "risks:\n  §r1: {event: \"an engineer leaves\", likelihood: 3, impact: 4, treat: mitigate, owner: technical_lead}\n" + lintControls}, "warning", "risks.r1", "nothing says by what", []string{"treat: mitigate,", "treat: mitigate, by: [db-drill],"}, twoPeople},
		{"accepted by nobody", []string{lintControls, "risks:\n  §r1: {event: \"an engineer leaves\", likelihood: 3, impact: 4, treat: accept, owner: technical_lead}\n" + lintControls}, "warning", "risks.r1", "accepted by nobody", []string{"treat: accept,", "treat: accept, accepted_by: [founder-a],"}, twoPeople},
	},
	"HF-L31": {{"one restore for every loss", []string{lintScenario, lintScenario + "  disk: {hazards: [hardware]}\n  bug: {hazards: [software]}\n", "{of: [db], every: 1w, pick: random,", "{of: [db], §scenarios: [corruption, disk, bug], every: 1w, pick: random,"}, "warning", "drills.db-drill.scenarios", "one restore", []string{"[corruption, disk, bug]", "[corruption]"}, nil}},
	"HF-L45": {
		{"who opens the backups has a key that signs", []string{`  founder-a: {name: "Founder A"}`, `  §founder-a: {name: "Founder A", ssh: {own: "ssh-ed25519 AAAA1"}}`}, "warning", "people.founder-a", "every backup with key-a, and has a key that signs for what guards the backups and is one of those who agree to deletions",
			[]string{"holders: [founder-a]", "holders: [notary]", "people:\n", "people:\n  notary: {name: \"Notary\"}\n"}, nil},
		{"who opens the backups agrees to deletions", []string{"  founder-b: {name", "  notary: {name: \"Notary\"}\n  §founder-b: {name", "holders: [founder-a]", "holders: [notary]", lintControls, lintDelete + lintControls}, "warning", "people.founder-b", "with key-b, and is one of those who agree",
			[]string{"holders: [founder-b]", "holders: [founder-c]", "people:\n", "people:\n  founder-c: {name: \"Founder C\"}\n"}, nil},
		{"the same in a small team", []string{"org:\n", "org:\n  team: small\n", "  founder-b: {name", "  notary: {name: \"Notary\"}\n  §founder-b: {name", "holders: [founder-a]", "holders: [notary]", lintControls, lintDelete + lintControls}, "note", "people.founder-b", "scored as a weakness",
			[]string{"holders: [founder-b]", "holders: [founder-c]", "people:\n", "people:\n  founder-c: {name: \"Founder C\"}\n"}, nil},
	},
}

// sharing is a plan in which two locations of one backup have something in common: the
// other backup has a third one, which has not.
func sharing(near, offsite string) []string {
	return []string{`domain: "this-host"}`, "domain: this-host, " + near + "}", `domain: "offsite-disk"}`, "domain: offsite-disk, " + offsite + "}", "  # A bucket that", "  third: {kind: dir, path: /mnt/third, domain: third, account: c, provider: c, region: c}\n  # A bucket that",
		lintDatabase, strings.Replace(lintDatabase, "[near, offsite]", "[near, offsite, third]", 1), lintFolder, "    §copies: [near, offsite]\n    keep: 30d\n\n"}
}

// Every rule about a plan finds its fault, with code, severity, place and subject, and
// nothing else is found; the plan beside it, which differs in the one thing, has no such
// finding.
func TestEveryRuleFindsItsFault(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(newDraft(t).plan())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	check := func(t *testing.T, plan string) (found []finding) {
		t.Helper()
		path := filepath.Join(dir, "plan.yaml")
		write(t, path, plan, 0o600)
		var v struct{ Findings []finding }
		hf(t, "check", path, "--json").object(t, &v)
		return v.Findings
	}
	for n := 1; n <= 45; n++ {
		code := fmt.Sprintf("HF-L%d", n)
		if code == "HF-L12" || code == "HF-L16" || n > 31 && n < 45 {
			continue
		}
		if len(lints[code]) == 0 {
			t.Errorf("no case finds %s", code)
		}
		for _, tt := range lints[code] {
			t.Run(code+" "+tt.name, func(t *testing.T) {
				plan := replaced(t, string(text), tt.fault)
				before, after, ok := strings.Cut(plan, "§")
				if !ok || strings.Contains(after, "§") {
					t.Fatal("the case does not say where the finding is to be")
				}
				line, column := 1+strings.Count(before, "\n"), len(before)-strings.LastIndex(before, "\n")
				plan = before + after
				fs := check(t, plan)
				got := 0
				for _, f := range fs {
					switch {
					case slices.Contains(tt.also, f.Code) || slices.Contains(tt.also, f.Severity+" "+f.Code):
					case f.Code != code:
						t.Errorf("found besides: %+v", f)
					case f.Subject != tt.subject || f.Severity != tt.severity || filepath.Base(f.File) != "plan.yaml" || f.Line != line || f.Column != column || f.Hint == "" || !strings.Contains(f.Message+" "+f.Hint, tt.words):
						t.Errorf("want %s of %s at %d:%d, with %q: %+v", tt.severity, tt.subject, line, column, tt.words, f)
					default:
						got++
					}
				}
				if got != 1 {
					t.Errorf("found %d times: %+v", got, fs)
				}
				for _, f := range check(t, replaced(t, plan, tt.clean)) {
					if !slices.Contains(tt.also, f.Code) && !slices.Contains(tt.also, f.Severity+" "+f.Code) {
						t.Errorf("found without the fault: %+v", f)
					}
				}
			})
		}
	}
}

// replaced replaces each first of two texts by the second one, once.
func replaced(t *testing.T, text string, edits []string) string {
	t.Helper()
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("the plan does not hold %q:\n%s", edits[i], text)
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

// What runs is compared with the plan by those who can look at it: L12, what is otherwise
// than the plan says, and L16, what the plan does not know.
func TestEveryRuleOfWhatRunsFindsItsFault(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		code, subject string
		fault, mend   func(t *testing.T, w workspace)
	}{
		{"HF-L12", "keys", func(t *testing.T, w workspace) { mode(t, filepath.Join(w.dir, "keys", "recovery.age"), 0o644) },
			func(t *testing.T, w workspace) { mode(t, filepath.Join(w.dir, "keys", "recovery.age"), 0o600) }},
		{"HF-L16", "stores.uploads.beside.scans", func(t *testing.T, w workspace) { write(t, filepath.Join(w.root, "scans", "a.pdf"), "pdf", 0o644) },
			func(t *testing.T, w workspace) {
				if err := os.RemoveAll(filepath.Join(w.root, "scans")); err != nil {
					t.Fatal(err)
				}
			}},
	} {
		t.Run(tt.code, func(t *testing.T) {
			w := filesOnly(t)
			write(t, filepath.Join(w.uploads, "a.txt"), "a", 0o644)
			w.run(t, "location", "init", "--all").want(t, 0)
			serve(t, w.dir).stop(t) // from here on a plan is in force
			found := func() []finding {
				var v struct{ Findings []finding }
				w.run(t, "check", "--live", "--json").object(t, &v)
				return about(v.Findings, tt.code, "")
			}
			if got := found(); len(got) != 0 {
				t.Fatalf("nothing is wrong yet: %+v", got)
			}
			tt.fault(t, w)
			if got := found(); len(got) != 1 || got[0].Subject != tt.subject || got[0].Hint == "" {
				t.Errorf("want one of %q: %+v", tt.subject, got)
			}
			tt.mend(t, w)
			if got := found(); len(got) != 0 {
				t.Errorf("it is mended: %+v", got)
			}
		})
	}
}

func mode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
