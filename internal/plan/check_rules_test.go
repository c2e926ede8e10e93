package plan

import (
	"slices"
	"strings"
	"testing"

	"holdfast"
)

// Each case makes one fault in a clean plan, and then takes the way out: the finding
// must come, and it must go.
func TestCheckAndWayOut(t *testing.T) {
	const (
		scenarioLine = "  corruption: {detection_delay: 7d}\n"
		apiNeeds     = "needs: {db: hard, uploads: hard}"
		uploadsLine  = "    files: {path: \"/srv/app/uploads\"}\n"
	)
	add := func(text string) []string { return []string{"controls:\n", text + "controls:\n"} }
	tests := []struct {
		name, code string
		fault      []string
		out        []string
	}{
		{"supplier-unknown", codeSupplier, append(add("suppliers:\n  hosting: {name: Hosting}\n"), apiNeeds, "needs: {db: hard, uploads: hard, hosting: hard}"),
			[]string{"{name: Hosting}", "{name: Hosting, rto: 1h}"}},
		{"supplier-weaker", codeSupplier, append(add("suppliers:\n  hosting: {rto: 24h}\n"), apiNeeds, "needs: {db: hard, uploads: hard, hosting: hard}"),
			[]string{"{rto: 24h}", "{rto: 24h, mitigation: \"a cache answers meanwhile\"}"}},
		{"supplier-untested", codeSupplier, append(add("suppliers:\n  hosting: {rto: 1h, contingency: rebuild}\n"), apiNeeds, "needs: {db: hard, uploads: hard, hosting: hard}"),
			[]string{"contingency: rebuild}", "contingency: rebuild, test_every: 1y}"}},
		{"chain-too-long", codeSteps, []string{"    runbook: rebuild\n\n# Where the data", "    runbook: front\n\n# Where the data", "  support: {rto: 1d,", "  support: {rto: 4h,", "runbooks:\n", "runbooks:\n  front: {detect: 1m, steps: {deploy: {human: technical_lead, est: 230m}}}\n"},
			[]string{"est: 230m", "est: 30m"}},
		{"unjustified-time", codeKeeping, []string{"    copies: [near, offsite]\n    keep: 30d\n  folder", "    copies: [near, offsite]\n    keep: 7d\n  folder"},
			[]string{"keep: 7d\n", "keep: 7d\n    retention: {why: \"derived from the ledger\"}\n"}},
		{"unjustified-forever", codeKeeping, []string{"    copies: [near, offsite]\n    keep: 30d\n  folder", "    copies: [near, offsite]\n  folder"},
			[]string{"copies: [near, offsite]\n  folder", "copies: [near, offsite]\n    keep: 30d\n  folder"}},
		{"class-minimum", codeKeeping, add("classes:\n  confidential: {keep_min: 60d}\n"), []string{"copies: [near, offsite]\n    keep: 30d\n  folder", "copies: [near, offsite]\n    keep: 60d\n  folder", "    copies: [near, offsite]\n    keep: 30d\n\n", "    copies: [near, offsite]\n    keep: 60d\n\n"}},
		{"class-maximum", codeKeeping, add("classes:\n  confidential: {keep_max: 20d}\n"), []string{"keep_max: 20d", "keep_max: 30d"}},
		{"class-lock", codeKeeping, append(add("classes:\n  confidential: {keep_max: 30d}\n"), offsite, bucket("s3.example.com", "lock: 60d")), []string{"lock: 60d", "lock: 30d"}},
		{"class-undeclared", codeUndeclared, add("classes:\n  internal: {keep_max: 30d}\n"), []string{"  internal: {keep", "  confidential: {keep"}},
		{"floor", codeFloor, []string{"    every: 1d at 04:30        # a base backup\n", "    every: 1d at 04:30\n    floor: 24h\n"},
			[]string{"floor: 24h", "floor: 15m"}},
		{"claimed", codeClaimed, []string{"    protect: folder\n", "    delegated: {to: hosting, rpo: 5m}\n", "controls:\n", "suppliers:\n  hosting: {rto: 1h}\ncontrols:\n", "  folder:\n    every: 5m\n    copies: [near, offsite]\n    keep: 30d\n", ""},
			[]string{"rpo: 5m}", "rpo: 5m, adapter: [./ask], test_every: 1q}"}},
		{"claimed-weaker", codeClaimed, []string{"    protect: folder\n", "    delegated: {to: hosting, rpo: 24h, adapter: [./ask], test_every: 1q}\n", "controls:\n", "suppliers:\n  hosting: {rto: 1h}\ncontrols:\n", "  folder:\n    every: 5m\n    copies: [near, offsite]\n    keep: 30d\n", ""},
			[]string{"rpo: 24h,", "rpo: 10m,"}},
		{"untested-without-adapter", codeClaimed, []string{"    protect: folder\n", "    delegated: {to: hosting, rpo: 10m, test_every: 1q}\n", "controls:\n", "suppliers:\n  hosting: {rto: 1h}\ncontrols:\n", "  folder:\n    every: 5m\n    copies: [near, offsite]\n    keep: 30d\n", ""},
			[]string{"rpo: 10m,", "rpo: 10m, adapter: [./ask],"}},
		{"asked-too-rarely", codeClaimed, []string{"    protect: folder\n", "    delegated: {to: hosting, rpo: 10m, adapter: [./ask], probe_every: 1h, test_every: 1q}\n", "controls:\n", "suppliers:\n  hosting: {rto: 1h}\ncontrols:\n", "  folder:\n    every: 5m\n    copies: [near, offsite]\n    keep: 30d\n", ""},
			[]string{"probe_every: 1h", "probe_every: 5m"}},
		{"sector-without-data", codeSector, []string{"controls:\n", "controls:\n  \"hipaa/164.308(a)(7)\": [db-drill]\n"},
			[]string{"    class: confidential\n", "    class: confidential\n    contains: [health]\n"}},
		{"data-without-sector", codeSector, []string{"    class: confidential\n", "    class: confidential\n    contains: [health]\n"},
			[]string{"controls:\n", "controls:\n  \"hipaa/164.308(a)(7)\": [db-drill]\n"}},
		{"stale-credential", codeStale, add("credentials:\n  break-glass: {for: hosting, holders: [founder-a, founder-b]}\n"),
			[]string{"founder-b]}\ncontrols", "founder-b], test_every: 90d}\ncontrols"}},
		{"no-offline-copy", codeStale, []string{`{name: "Founder A"}`, `{name: "Founder A", offline_copy: 90d}`},
			[]string{`{name: "Founder B"}`, `{name: "Founder B", offline_copy: 90d}`}},
		{"head", codeHead, []string{"  owner: technical_lead\n  approvers", "  title: Continuity policy\n  owner: technical_lead\n  approvers"}, []string{"  title: Continuity policy\n", "  title: Continuity policy\n  label: internal\n"}},
		{"version", codeVersion, []string{"  owner: technical_lead\n  approvers", "  history:\n    - {version: \"4.0\", on: \"2026-01-06\", approved_by: [founder-a]}\n  owner: technical_lead\n  approvers"},
			[]string{"version: \"1.0\"", "version: \"4.0\""}},
		{"lapsed", codeLapsed, []string{"  owner: technical_lead\n  approvers", "  updated: \"2020-12-16\"\n  owner: technical_lead\n  approvers"},
			[]string{"2020-12-16", "2026-06-16"}},
		{"lapsed-history", codeLapsed, []string{"  owner: technical_lead\n  approvers", "  history:\n    - {version: \"0.8\", on: \"2022-01-14\", approved_by: [founder-a]}\n    - {version: \"0.9\", on: \"2022-12-10\"}\n    - {version: \"1.0\", on: \"2025-01-06\", approved_by: [founder-a]}\n  owner: technical_lead\n  approvers"},
			[]string{"2022-12-10\"}", "2022-12-10\", approved_by: [founder-a]}", "2025-01-06", "2023-12-06", "2023-12-06\", approved_by: [founder-a]}", "2023-12-06\", approved_by: [founder-a]}\n    - {version: \"1.0\", on: \"2024-11-30\", approved_by: [founder-a]}\n    - {version: \"1.0\", on: \"2025-11-30\", approved_by: [founder-a]}"}},
		{"unsigned", codeUnsigned, []string{"  owner: technical_lead\n  approvers", "  signatures:\n    incident_commander: {none: empty}\n    technical_lead: {none: empty}\n  owner: technical_lead\n  approvers"},
			[]string{"incident_commander: {none: empty}\n    technical_lead: {none: empty}", "incident_commander: {by: founder-a, on: \"2026-01-01\"}\n    technical_lead: {by: founder-b, on: \"2026-01-01\"}"}},
		{"unsigned-approvers", codeUnsigned, []string{"  owner: technical_lead\n  approvers: [founder-a, founder-b]", "  signatures:\n    technical_lead: {by: founder-b, on: \"2026-01-01\"}\n  owner: technical_lead\n  approvers: [founder-a]"},
			[]string{"approvers: [founder-a]", "approvers: [founder-b, technical_lead]", "owner: technical_lead\n  appr", "owner: founder-a\n  appr"}},
		{"doubtful", codeDoubtful, []string{"controls:\n", "controls:\n  \"iec62443/SR7.1\": [db-drill]\n", "    class: confidential\n", "    class: confidential\n    contains: [industrial-control]\n"},
			[]string{"SR7.1", "SR7.3"}},
		{"no-such-control", codeDoubtful, []string{"iso27001/A.8.13", "iso27001/A.8.113"}, []string{"A.8.113", "A.8.13"}},
		{"no-such-set", codeDoubtful, []string{"controls:\n", "controls:\n  \"own/BR-01\": [db-drill]\n"},
			[]string{"controls:\n", "frameworks:\n  own: {edition: \"1\", own: {BR-01: \"everything is backed up\"}}\ncontrols:\n"}},
		{"untreated", CodeTreatment, add("risks:\n  lost: {event: \"the engineer leaves\", likelihood: 3, impact: 4, owner: founder-a, treat: mitigate, of: [founder-a, founder-b]}\n"),
			[]string{"treat: mitigate,", "treat: mitigate, by: [db-drill],"}},
		{"one-test", codeOneTest, append(add("exercises:\n  yearly: {kind: tabletop, every: 1y, severities: [low, high], confirms: [rto, rpo]}\nseverities:\n  low: {rto: 4h, scenarios: [disk]}\n  high: {rto: 4h, scenarios: [region]}\n"),
			scenarioLine, scenarioLine+"  disk: {text: \"a disk\"}\n  region: {text: \"a region\"}\n"),
			[]string{"db-drill: {of: [db],", "db-drill: {of: [db], scenarios: [disk, region],", "kind: tabletop, every: 1y, severities: [low, high], confirms: [rto, rpo]", "kind: tabletop, every: 1y"}},
		{"production", codeProduction, []string{"    owner: technical_lead\n    class: confidential\n    files:", "    environment: staging\n    class: confidential\n    files:"},
			[]string{"environment: staging", "owner: technical_lead"}},
		{"staging-live", codeProduction, []string{"    kind: files\n    tier: critical\n", "    kind: files\n    environment: staging\n    live_data: true\n"},
			[]string{"live_data: true", "tier: critical"}},
		{"unclassified", codeClass, []string{"    class: confidential\n    files:", "    files:"}, []string{"    files: {", "    class: internal\n    files: {"}},
		{"exclusion", codeExclusion, add("exclusions:\n  facility-loss: {why: \"there is no office\"}\n"), []string{`office"}`, `office", accepted_by: founder-a}`}},
		{"exclusion-planned", codeExclusion, append(add("exclusions:\n  burning: {why: \"there is no office\", accepted_by: founder-a, hazards: [fire]}\n"), scenarioLine, scenarioLine+"  burnt: {hazards: [fire]}\n"),
			[]string{"hazards: [fire]}\ncontrols", "hazards: [flood]}\ncontrols"}},
		{"orphan", codeOrphan, []string{apiNeeds, "needs: {db: hard}"}, []string{"needs: {db: hard}", apiNeeds}},
		{"outside-scope", codeOrphan, []string{"  owner: technical_lead\n  approvers", "  scope: {all: {text: systems, of: [api, web, db]}}\n  owner: technical_lead\n  approvers"},
			[]string{"[api, web, db]", "[api, web, db, uploads]"}},
		{"worst-longest", codeScheme, add("schemes:\n  severities: {kind: severity, order: [high, low]}\nseverities:\n  low: {rto: 4h}\n  high: {rto: 24h}\n"),
			[]string{"order: [high, low]", "order: [low, high]"}},
		{"contract", codeTerms, add("customers:\n  acme: {services: [api], rto: 2h}\n"), []string{"rto: 2h", "rto: 8h"}},
		{"contract-keeps", codeTerms, add("obligations:\n  law: {law: \"Bookkeeping Act\", of: [db], keep_min: 90d}\n"), []string{"keep: 30d", "keep: 90d"}},
		{"impact", codeImpact, []string{"    runbook: rebuild\n    # probe", "    bia: {impact: {1h: {level: 1}, 2h: {level: 4, text: \"no orders\"}}, by: founder-a, on: \"2026-10-01\"}\n    mtd: 1h\n    runbook: rebuild\n    # probe", "  critical: {rto: 4h, rpo: 15m, mtd: 1d}", "  critical: {rto: 4h, rpo: 15m}"},
			[]string{"2h: {level: 4", "5h: {level: 4"}},
		{"no-survivor", codeSurvivors, []string{scenarioLine, scenarioLine + "  all: {lose: [near, offsite]}\n"}, []string{"[near, offsite]", "[near]"}},
		{"scenario-loss", codeSchedule, []string{scenarioLine, scenarioLine + "  site: {lose: [near]}\n", "    copies: [near, offsite]\n    keep: 30d\n  folder", "    copies: {near: {}, offsite: {every: 1w}}\n    keep: 30d\n  folder", "mtd: 1d}", "mtd: 1d, scenarios: {site: {rto: 8h, rpo: 24h}}}"},
			[]string{"every: 1w}", "every: 12h}"}},
		{"severity-loss", codeSchedule, append(add("severities:\n  high: {rpo: 5m, scenarios: [site]}\n"), scenarioLine, scenarioLine+"  site: {lose: [near]}\n", "    copies: [near, offsite]\n    keep: 30d\n  folder", "    copies: {near: {}, offsite: {every: 10m}}\n    keep: 30d\n  folder"),
			[]string{"every: 10m}", "every: 2m}"}},
		{"scenario-region", codeSurvivors, []string{scenarioLine, scenarioLine + "  region: {lose: [\"region:eu-1\"]}\n", `domain: "this-host"}`, `domain: "this-host", region: eu-1}`, `domain: "offsite-disk"}`, `domain: "offsite-disk", region: eu-1}`},
			[]string{`"offsite-disk", region: eu-1`, `"offsite-disk", region: eu-2`}},
		{"concentration", codeConcentration, []string{uploadsLine, uploadsLine + "    on: hosting\n", `domain: "this-host"}`, `domain: "this-host", supplier: hosting}`, `domain: "offsite-disk"}`, `domain: "offsite-disk", supplier: hosting}`, "controls:\n", "suppliers:\n  hosting: {rto: 1h}\n  other: {rto: 1h}\ncontrols:\n"},
			[]string{`"offsite-disk", supplier: hosting`, `"offsite-disk", supplier: other`}},
		{"critical-supplier", codeRegister, append(add("suppliers:\n  hosting: {rto: 1h, criticality: high, provides: machines, holds: [], contingency: rebuild, test_every: 1y, owner: founder-a, contacts: {desk: \"+46 1\"}, contract: c, regions: [eu-1]}\ndocuments:\n  c: {title: Contract, url: \"https://example.com/c\"}\n"), apiNeeds, "needs: {db: hard, uploads: hard, hosting: hard}"),
			[]string{"criticality: high,", "criticality: high, review: {every: 1y},"}},
		{"chain", codeChain, append(add("incidents:\n  roles: {commander: incident_commander, technical: technical_lead, communication: incident_commander}\n  escalation:\n    high: {to: [leadership]}\n"), "roles:\n", "roles:\n  leadership: {holder: founder-a, deputy: founder-b}\n"),
			[]string{"leadership: {holder: founder-a, deputy: founder-b}", "leadership: {holder: founder-b, deputy: founder-a}"}},
		{"not-apart", codeChain, []string{"may: [activate-plan, close-incident]}", "may: [activate-plan, close-incident], apart_from: [auditor]}\n  auditor: {holder: founder-a, deputy: founder-b}"},
			[]string{"auditor: {holder: founder-a, deputy: founder-b}", "auditor: {holder: founder-b, deputy: founder-a}"}},
		{"reads-and-deletes", codeChain, append(add("approvals:\n  delete: {roles: [incident_commander, technical_lead], requester_counts: true}\n"), "  founder-b: {name", "  notary: {name: Notary}\n  founder-b: {name"),
			[]string{"holders: [founder-a]", "holders: [notary]", "holders: [founder-b]", "holders: [notary]"}},
		{"nobody-leads", codeUnfilled, add("incidents:\n  roles: {commander: incident_commander, communication: incident_commander}\n"),
			[]string{"roles: {commander", "roles: {technical: technical_lead, commander"}},
		{"vague", codeVague, add("statements:\n  s1: {stated: \"Access is reviewed periodically\", by: [db-drill]}\n"), []string{"by: [db-drill]}", "by: [db-drill], bound: 90d, bound_by: founder-a}"}},
		{"without-parameter", codeVague, add("exercises:\n  failover: {kind: failover, stated: \"Failover testing\"}\n"), []string{"kind: failover,", "kind: failover, every: 1q,"}},
		{"self-citation", codeCited, add("documents:\n  policy: {title: \"Backup Policy\", path: policy.md, self: true}\n"), []string{", self: true", ""}},
		{"missing-figure", codeCited, add("documents:\n  flow: {title: \"Process flow\", path: flow.png, missing: \"the figure of section 4 is not there\"}\n"), []string{", missing: \"the figure of section 4 is not there\"", ""}},
		{"stale-document", codeCited, add("documents:\n  other: {title: \"Access policy\", path: access.md, updated: \"2024-01-01\", review: {every: 1y}}\n"), []string{"2024-01-01", "2026-01-01"}},
		{"unlisted", codeUnlisted, add("frameworks:\n  nist80053: {edition: rev5, clauses: [CP-9, CP-10], cited: [SC-12]}\n"), []string{"CP-10], cited", "CP-10, SC-12], cited"}},
		{"unproved", CodeUnproved, add("frameworks:\n  soc2: {edition: \"2017\", clauses: [CC7.5, A1.2, A1.3]}\n"),
			[]string{"controls:\n", "controls:\n  \"soc2/CC7.5\": [db-drill]\n  \"soc2/A1.2\": [db-drill]\n"}},
		{"unchecked", codeUnchecked, add("statements:\n  s1: {stated: \"Backups are encrypted\"}\n"), []string{`encrypted"}`, `encrypted", by: [db-drill]}`}},
		{"residency", codeResidency, append(add("residency:\n  eu: {jurisdictions: [EU]}\n"), `domain: "this-host"}`, `domain: "this-host", jurisdiction: EU}`, `domain: "offsite-disk"}`, `domain: "offsite-disk", jurisdiction: US}`),
			[]string{"jurisdiction: US", "jurisdiction: EU"}},
		{"stages", codeStages, []string{"rto: 4h,", "rto: {stages: {back: {max: 4h}, full: {max: 8h}}},"}, []string{"full: {max: 8h}", "full: {max: 8h, from: back}"}},
		{"level-in-words", codeUnbound, []string{"rto: 4h,", "rto: {stages: {back: {max: 4h}, full: {max: 8h, from: disruption, level: almost all of it}}},"}, []string{"almost all of it", "97%"}},
		{"level-of-a-service", codeUnbound, []string{"  web:\n", "  web:\n    level: nearly normal\n"}, []string{"nearly normal", "97%"}},
		{"single-point", codeSingle, []string{apiNeeds, "needs: {db: hard, uploads: hard, gateway: hard}", "needs: {api: hard}", "needs: {api: hard, gateway: hard}", "  web:\n", "  gateway: {tier: support, owner: technical_lead, runbook: rebuild, rto: 1h, rpo: 15m}\n  web:\n"},
			[]string{"rpo: 15m}\n  web", "rpo: 15m, redundancy: {none: \"one address is all that the registry gives\"}}\n  web"}},
		{"absurd-objective", codePeriod, []string{"support: {rto: 1d,", "support: {rto: 40y,"}, []string{"rto: 40y", "rto: 40h"}},
		{"kind-rebuilt", codeKind, []string{"  web:\n", "  worker: {kind: worker, tier: support, owner: technical_lead}\n  web:\n"}, []string{"kind: worker,", "kind: worker, runbook: rebuild,"}},
		{"kind-stands-in", codeKind, []string{"  web:\n", "  model: {kind: inference, tier: support, owner: technical_lead, runbook: rebuild}\n  web:\n"}, []string{"kind: inference,", "kind: inference, redundancy: {none: \"one model answers as we need\"},"}},
		{"overload", codeOverload, []string{"may: [activate-plan, close-incident]}", "may: [activate-plan, close-incident]}\n  r2: {holder: founder-a, deputy: founder-b}\n  r3: {holder: founder-a, deputy: founder-b}"},
			[]string{"r3: {holder: founder-a, deputy: founder-b}", "r3: {holder: founder-b, deputy: founder-a}"}},
		{"unapproved", codeUnapproved, append(add("approvals:\n  objectives: {roles: [incident_commander, technical_lead]}\n"), "  critical: {rto: 4h, rpo: 15m, mtd: 1d}", "  critical: {rto: {max: 4h, approved_by: [founder-a]}, rpo: {max: 15m, approved_by: [founder-a, founder-b]}, mtd: 1d}", "  support: {rto: 1d,", "  support: {rto: {max: 1d, approved_by: [founder-a, founder-b]},"),
			[]string{"max: 4h, approved_by: [founder-a]", "max: 4h, approved_by: [founder-a, founder-b]"}},
		{"unclear", codeUnclear, add("measures:\n  cabling: {stated: \"truncated cabling\", ask: \"is trunked meant?\"}\n"), []string{", ask: \"is trunked meant?\"", ""}},
		{"address", codeUnclear, []string{`timezone: "UTC"`, "domains: [volunteers.example]\n  contacts: {support: help@volunters.example}\n  timezone: \"UTC\""}, []string{"volunters", "volunteers"}},
		{"unapproved-place", codePlace, []string{"repository:\n", "repository:\n  approved: {locations: [near]}\n"}, []string{"locations: [near]", "locations: [near, offsite]"}},
		{"no-skill", codeBusFactor, []string{`{name: "Founder A"}`, `{name: "Founder A", can: [rebuild]}`}, []string{`{name: "Founder B"}`, `{name: "Founder B", can: [rebuild]}`}},
		{"requester", codeApproval, add("approvals:\n  weaken-plan: {roles: [incident_commander, technical_lead]}\n"), []string{"[incident_commander, technical_lead]}\ncontrols", "[incident_commander, technical_lead], fallback: {delay: 1d, review_within: 7d}}\ncontrols"}},
		{"exception-short", codeException, []string{"controls:\n", "approvals:\n  exception-high: {roles: [incident_commander, technical_lead], requester_counts: true}\n" + exception("founder-b", "2026-12-31") + "controls:\n", "rule: HF-L32, of: stores.uploads,", "rule: HF-L32, of: stores.uploads, risk: high, impact: none, compensating: none, remedy: none,"},
			[]string{"approved_by: [founder-b]", "approved_by: [founder-a, founder-b]"}},
		{"rule-of-exception", codeUndeclared, []string{"controls:\n", strings.Replace(exception("founder-b", "2026-12-31"), "HF-L32", "HF-L320", 1) + "controls:\n"}, []string{"HF-L320", "HF-L32"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := apply(t, clean(), tt.fault)
			checkCase(t, tt.name, tt.code, text)
			was := findings(text)
			is := findings(apply(t, text, tt.out))
			for _, f := range is {
				if slices.ContainsFunc(was, func(w holdfast.Finding) bool {
					return w.Code == tt.code && w.Subject == f.Subject && w.Message == f.Message
				}) && f.Code == tt.code {
					t.Errorf("the way out leaves:\n%s", render([]holdfast.Finding{f}))
				}
			}
		})
	}
}
