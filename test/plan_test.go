package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A draft is a plan that a test writes upon: the first plan of a company, changed step
// by step, and checked by the product.
type draft struct{ workspace }

func newDraft(t *testing.T) draft {
	t.Helper()
	return draft{initAt(t, place(t), "host=127.0.0.1 port=1 user=holdfast dbname=app")}
}

// change replaces one text of the plan by another.
func (d draft) change(t *testing.T, old, new string) {
	t.Helper()
	edit(t, d.plan(), func(s string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("the plan does not hold %q", old)
		}
		return strings.Replace(s, old, new, 1)
	})
}

// add puts sections at the end of the plan.
func (d draft) add(t *testing.T, text string) {
	t.Helper()
	edit(t, d.plan(), func(s string) string { return s + "\n" + text })
}

// about returns the findings with a code whose subject begins so.
func about(fs []finding, code, subject string) (out []finding) {
	for _, f := range fs {
		if f.Code == code && strings.HasPrefix(f.Subject, subject) {
			out = append(out, f)
		}
	}
	return out
}

// has wants exactly one such finding, on the line that holds its subject's last word,
// with all the words in its message and hint, and returns it.
func (d draft) has(t *testing.T, code, severity, subject string, words ...string) {
	t.Helper()
	fs := d.findings(t)
	got := about(fs, code, subject)
	if len(got) != 1 {
		t.Fatalf("%d findings %s of %s, want one: %+v", len(got), code, subject, fs)
	}
	f := got[0]
	if f.Severity != severity || f.Line == 0 || f.Column == 0 || f.Hint == "" || f.File == "" {
		t.Errorf("incomplete or of another severity than %s: %+v", severity, f)
	}
	for _, w := range words {
		if !strings.Contains(f.Message+" "+f.Hint, w) {
			t.Errorf("the finding does not say %q: %+v", w, f)
		}
	}
}

// hasNot wants no such finding.
func (d draft) hasNot(t *testing.T, code, subject string) {
	t.Helper()
	if got := about(d.findings(t), code, subject); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// profile returns what check says of an example.
func profile(t *testing.T, name string) []finding {
	t.Helper()
	path, err := filepath.Abs("../examples/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Findings []finding }
	hf(t, "check", path, "--json").object(t, &v)
	return v.Findings
}

// says wants a finding of an example, with the words in it.
func says(t *testing.T, fs []finding, code, subject string, words ...string) {
	t.Helper()
	for _, f := range about(fs, code, subject) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(f.Message+" "+f.Hint, w) }) {
			return
		}
	}
	t.Errorf("no %s of %s says %q: %+v", code, subject, words, about(fs, code, ""))
}

func TestInventoryRows(t *testing.T) {
	t.Parallel()
	t.Run("INV-01 a register of every item, with every field", func(t *testing.T) {
		d := newDraft(t)
		kinds := map[string]string{
			"mysql": "mysql: {dsn: \"me@db2:3306/app\"}", "sqlite": "sqlite: {path: lite.db}", "git": "git: {url: \"https://git.example.com/app.git\"}",
			"object": "object: {endpoint: \"https://s3.example.com\", bucket: pictures}", "vm": "vm: {name: web1}", "exec": "exec: {backup: [./dump], restore: [./load]}",
		}
		text := "stores:\n"
		for kind, fields := range kinds {
			text += fmt.Sprintf("  item-%s: {kind: %s, %s, environment: staging-%s, region: region-%s, owner: technical_lead, tier: support, class: class-%s, not_protected: \"rebuilt\"}\n", kind, kind, fields, kind, kind, kind)
		}
		d.change(t, "stores:\n", text)
		document := d.run(t, "render").want(t, 0).out
		for kind := range kinds {
			var row string
			for line := range strings.Lines(document) {
				if strings.Contains(line, "item-"+kind) {
					row += line
				}
			}
			for _, field := range []string{"| " + kind + " |", "staging-" + kind, "region-" + kind, "technical_lead", "support", "class-" + kind} {
				if !strings.Contains(strings.ReplaceAll(row, "\\", ""), field) {
					t.Errorf("the register of item-%s lacks %q:\n%s", kind, field, row)
				}
			}
			if got := about(d.findings(t), "HF-L35", "stores.item-"+kind); len(got) > 0 {
				t.Errorf("it is complete: %+v", got)
			}
		}
		d.change(t, "region: region-vm, owner: technical_lead", "region: region-vm")
		d.has(t, "HF-L35", "error", "stores.item-vm", "no owner")
		d.run(t, "check").want(t, 3)
	})
	t.Run("INV-02 live data makes staging production", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "  uploads:\n    kind: files\n    tier: critical\n", "  uploads:\n    kind: files\n    environment: staging\n    live_data: false\n")
		d.change(t, "    protect: folder\n", "")
		d.hasNot(t, "HF-L35", "stores.uploads")
		d.hasNot(t, "HF-L11", "stores.uploads")
		d.change(t, "live_data: false", "live_data: true")
		d.has(t, "HF-L35", "error", "stores.uploads", "RPO", "staging", "live data")
		d.has(t, "HF-L11", "error", "stores.uploads", "nothing protects", "protect: folder")
		d.run(t, "check").want(t, 3)
	})
	t.Run("INV-09 a circle, a reference to nothing, and what nothing reaches", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "needs: {db: hard, uploads: hard}", "needs: {db: hard, web: hard, queu: soft}")
		d.has(t, "HF-L23", "error", "services.", "api -> web -> api")
		d.has(t, "HF-L25", "error", "services.api.needs.queu", `"queu" is not declared`)
		d.has(t, "HF-L38", "warning", "stores.uploads", "no service needs")
		d.change(t, "web: hard, queu: soft", "uploads: hard")
		if fs := d.findings(t); len(fs) != 0 {
			t.Errorf("all three are mended: %+v", fs)
		}
	})
	t.Run("INV-13 exclusions have a reason and somebody who accepted it", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "exclusions:\n  facility-loss: {why: \" \", hazards: [fire]}\n")
		d.has(t, "HF-L37", "error", "exclusions.facility-loss.why", "without a reason")
		d.change(t, `why: " "`, `why: "there is no office"`)
		d.has(t, "HF-L37", "warning", "exclusions.facility-loss", "nobody has accepted")
		d.change(t, `no office"`, `no office", accepted_by: founder-a`)
		d.hasNot(t, "HF-L37", "")
		text := d.run(t, "render").want(t, 0).out
		if !strings.Contains(text, "there is no office") {
			t.Errorf("the document does not show the reason:\n%s", text)
		}
	})
	t.Run("INV-15 what lies outside the scope", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "  owner: technical_lead\n", "  scope: {product: {text: \"what customers use\", of: [api, web, db]}}\n  owner: technical_lead\n")
		d.has(t, "HF-L38", "warning", "stores.uploads", "outside the scope")
		d.add(t, "exclusions:\n  uploads: {why: \"customers keep the originals\", accepted_by: founder-a}\n")
		d.hasNot(t, "HF-L38", "stores.uploads")
		d.change(t, "  uploads: {why: \"customers keep the originals\", accepted_by: founder-a}\n", "  rest: {why: \"nothing\", accepted_by: founder-a}\n")
		d.change(t, "of: [api, web, db]", "of: [api, web, db, uploads]")
		d.hasNot(t, "HF-L38", "stores.uploads")
	})
	t.Run("FOV-12 a single point of failure is named until there is a reason", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "needs: {api: hard}", "needs: {api: hard, gateway: hard}")
		d.change(t, "needs: {db: hard, uploads: hard}", "needs: {db: hard, uploads: hard, gateway: hard}")
		d.change(t, "services:\n", "services:\n  gateway: {tier: support, rto: 1h, rpo: 15m, owner: technical_lead, runbook: rebuild}\n")
		d.has(t, "HF-L54", "note", "services.gateway", "single point of failure", "api and web")
		d.change(t, "runbook: rebuild}\n", "runbook: rebuild, redundancy: {none: \"the registry gives one address\"}}\n")
		d.hasNot(t, "HF-L54", "")
	})
}

func TestObjectiveRowsOfThePlan(t *testing.T) {
	t.Parallel()
	t.Run("OBJ-07 a contract tighter than what is declared", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "  critical: {rto: 4h, rpo: 15m, mtd: 1d}", "  critical: {rto: 12h, rpo: 15m, mtd: 1d}")
		d.add(t, "customers:\n  acme: {services: [api], contract: acme-2026, rto: 4h}\ndocuments:\n  acme-2026: {title: \"Contract with Acme\", version: \"2\"}\n")
		d.has(t, "HF-L40", "error", "customers.acme.rto", `customer "acme"`, "4h", `"api"`, "12h")
		d.run(t, "check").want(t, 3)
		d.change(t, "contract: acme-2026, rto: 4h", "contract: acme-2026, rto: 12h")
		d.hasNot(t, "HF-L40", "")
	})
	t.Run("OBJ-15 a label never decides strictness", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "schemes:\n  tiers: {kind: tier, order: [critical, support]}\n  severities: {kind: severity, order: [critical-incident, low]}\n"+
			"severities:\n  low: {rto: 4h}\n  critical-incident: {rto: 24h}\n")
		d.has(t, "HF-L39", "warning", "severities.critical-incident.rto", "longest RTO", "24h")
		if fs := d.findings(t); len(fs) != 1 {
			t.Errorf("the tiers, whose first label is the tightest, or a comparison of the two, are found as well: %+v", fs)
		}
		says(t, profile(t, "two-person-ai"), "HF-L39", "severities.high", "longest RTO")
		if got := about(profile(t, "industrial-remote-access"), "HF-L39", ""); len(got) > 0 {
			t.Errorf("its worst tier is its tightest: %+v", got)
		}
	})
	t.Run("OBJ-17 what law demands binds availability and retention", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "obligations:\n  bookkeeping: {law: \"Bookkeeping Act\", of: [db], keep_min: 90d, rto: 2h}\n")
		d.has(t, "HF-L40", "error", "obligations.bookkeeping.keep_min", "90d", "30d", "database")
		d.has(t, "HF-L40", "error", "obligations.bookkeeping.rto", "2h", "4h")
		d.change(t, "keep_min: 90d, rto: 2h", "keep_min: 30d, rto: 8h")
		d.hasNot(t, "HF-L40", "")
	})
}

func TestSupplierRowsOfThePlan(t *testing.T) {
	t.Parallel()
	supplied := func(t *testing.T, supplier string) draft {
		d := newDraft(t)
		d.change(t, "needs: {db: hard, uploads: hard}", "needs: {db: hard, uploads: hard, hosting: hard}")
		d.add(t, "suppliers:\n  hosting: {"+supplier+"}\n")
		return d
	}
	t.Run("SUP-01 a register of suppliers", func(t *testing.T) {
		fields := []string{"provides: machines", "owner: founder-a", "contacts: {desk: \"+46 8 1\"}", "contract: c1", "rto: 1h", "regions: [eu-1]", "review: {every: 1y}", "holds: [personal]"}
		d := supplied(t, "criticality: high, contingency: rebuild, test_every: 1y, "+strings.Join(fields, ", "))
		d.add(t, "documents:\n  c1: {title: \"Contract with Hosting\", version: \"3\"}\n")
		d.hasNot(t, "HF-L44", "")
		document := d.run(t, "render").want(t, 0).out
		for _, want := range []string{"machines", "founder-a", "+46 8 1", "c1", "1 hour", "eu-1", "personal", "high"} {
			if !strings.Contains(strings.ReplaceAll(document, "\\", ""), want) {
				t.Errorf("the register lacks %q", want)
			}
		}
		for _, f := range fields {
			d.change(t, ", "+f, "")
			name, _, _ := strings.Cut(f, ":")
			d.has(t, "HF-L44", "warning", "suppliers.hosting", name)
			d.change(t, "test_every: 1y", "test_every: 1y, "+f)
		}
	})
	t.Run("SUP-03 a guarantee weaker than what rests on it", func(t *testing.T) {
		d := supplied(t, "rto: 24h")
		d.change(t, "  critical: {rto: 4h,", "  critical: {rto: 2h,")
		d.has(t, "HF-L5", "error", "suppliers.hosting.rto", "2h", "24h", "mitigation")
		// A contingency makes up for it only when it is tried.
		d.change(t, "rto: 24h}", "rto: 24h, contingency: rebuild}")
		d.has(t, "HF-L5", "error", "suppliers.hosting.rto", "2h", "24h")
		d.change(t, "contingency: rebuild}", "contingency: rebuild, test_every: 1y}")
		d.hasNot(t, "HF-L5", "")
		d.change(t, "contingency: rebuild, test_every: 1y}", "mitigation: \"a second machine stands by elsewhere\"}")
		d.hasNot(t, "HF-L5", "")
		// Data that lie with it rest on it, too.
		d.change(t, ", mitigation: \"a second machine stands by elsewhere\"", "")
		d.change(t, ", hosting: hard}", "}")
		d.hasNot(t, "HF-L5", "")
		d.change(t, "    protect: database\n", "    protect: database\n    on: hosting\n")
		d.has(t, "HF-L5", "error", "suppliers.hosting.rto", `"db"`, "2h", "24h")
	})
	t.Run("SUP-07 who is responsible for what", func(t *testing.T) {
		d := supplied(t, "rto: 1h, responsible: {backup: supplier}")
		d.has(t, "HF-L44", "warning", "suppliers.hosting", "responsible.redundancy", "responsible.restore")
		d.has(t, "HF-L15", "warning", "suppliers.hosting.responsible.backup", "claimed")
		d.change(t, "{backup: supplier}", "{backup: supplier, redundancy: us, restore: us}, evidence: {report: {stated: \"audit report\", until: \"2099-01-01\"}}")
		d.hasNot(t, "HF-L44", "")
		d.hasNot(t, "HF-L15", "")
	})
	t.Run("SUP-10 data and its copies, or what stands in, with one supplier", func(t *testing.T) {
		d := supplied(t, "rto: 1h")
		d.change(t, "    protect: database\n", "    protect: database\n    on: hosting\n")
		d.change(t, `domain: "this-host"}`, `domain: "this-host", supplier: hosting}`)
		d.hasNot(t, "HF-L43", "")
		d.change(t, `domain: "this-host", supplier: hosting}`, `domain: "this-host"}`)
		d.change(t, `domain: "offsite-disk"}`, `domain: "offsite-disk", supplier: hosting}`)
		d.hasNot(t, "HF-L43", "") // whichever of the two it is
		d.change(t, `domain: "this-host"}`, `domain: "this-host", supplier: hosting}`)
		d.has(t, "HF-L43", "error", "stores.db.on", `"hosting"`, "every copy")
		d = supplied(t, "rto: 1h")
		d.change(t, "services:\n", "services:\n  model-a: {tier: support, owner: technical_lead, runbook: rebuild, needs: {hosting: hard}}\n  model-b: {tier: support, owner: technical_lead, runbook: rebuild, needs: {hosting: hard}}\n")
		d.change(t, "    needs: {db: hard,", "    any_of: {models: {of: [model-a, model-b], test_every: 1q}}\n    needs: {db: hard,")
		d.has(t, "HF-L43", "warning", "services.api.any_of.models", "model-a and model-b", `"hosting"`)
	})
}

func TestPeopleRowsOfThePlan(t *testing.T) {
	t.Parallel()
	t.Run("ROL-01 a critical role without a holder", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "incidents:\n  roles: {commander: incident_commander, technical: technical_lead}\noncall: {primary: [founder-a], ack_within: 15m}\n")
		d.has(t, "HF-L46", "warning", "incidents", "who speaks for the company")
		d.change(t, "technical: technical_lead}", "technical: technical_lead, communication: spokesperson}")
		d.has(t, "HF-L46", "error", "incidents.roles.communication", `"spokesperson"`)
		d.change(t, "roles:\n  incident_commander", "roles:\n  spokesperson: {deputy: founder-b}\n  incident_commander")
		var v struct{ Findings []finding }
		d.run(t, "check", "--json").want(t, 2).object(t, &v)
		if got := about(v.Findings, "HF-Y7", "roles.spokesperson"); len(got) != 1 || !strings.Contains(got[0].Message, "holder") {
			t.Errorf("a role without a holder is no role: %+v", v.Findings)
		}
		d.change(t, "{deputy: founder-b}", "{holder: founder-b, deputy: founder-a}")
		d.hasNot(t, "HF-L46", "")
		d.change(t, "deputy: founder-b, may: [activate-plan, close-incident]", "may: [activate-plan, close-incident]")
		d.has(t, "HF-L18", "warning", "roles.incident_commander", "no deputy")
	})
	t.Run("ROL-10 a chain that ends with the same person, and duties that must be apart", func(t *testing.T) {
		says(t, profile(t, "compliance-ai"), "HF-L45", "incidents.escalation", "leadership", "commands the incident already")
		d := newDraft(t)
		d.change(t, "may: [activate-plan, close-incident]", "may: [activate-plan, close-incident], apart_from: [auditor]")
		d.change(t, "roles:\n", "roles:\n  auditor: {holder: founder-a, deputy: founder-b}\n")
		d.has(t, "HF-L45", "error", "roles.incident_commander.apart_from", `"founder-a" holds both`)
		d.change(t, "auditor: {holder: founder-a, deputy: founder-b}", "auditor: {holder: founder-b, deputy: founder-a}")
		d.hasNot(t, "HF-L45", "")
		// On call, through roles that look like two.
		d.add(t, "oncall: {primary: [auditor], secondary: [technical_lead], escalate_to: [incident_commander], ack_within: 15m}\n")
		d.has(t, "HF-L45", "warning", "oncall.secondary", `both "founder-b"`)
		d.change(t, "escalate_to: [incident_commander]", "escalate_to: [technical_lead]")
		d.has(t, "HF-L45", "warning", "oncall.escalate_to", "founder-b")
		d.change(t, "primary: [auditor]", "primary: [incident_commander]")
		d.hasNot(t, "HF-L45", "")
	})
	t.Run("ROL-12 many duties on one person are allowed and shown", func(t *testing.T) {
		fs := profile(t, "two-person-ai")
		for _, who := range []string{"mona", "nils"} {
			says(t, fs, "HF-L55", "people."+who, "duties at once")
		}
		for _, f := range about(fs, "HF-L55", "") {
			if f.Severity != "note" {
				t.Errorf("it is allowed: %+v", f)
			}
		}
	})
	t.Run("PER-05 a procedure that one person can perform, or none", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, `{name: "Founder A"}`, `{name: "Founder A", can: [rebuild]}`)
		d.change(t, `{name: "Founder B"}`, `{name: "Founder B", can: [rebuild]}`)
		d.hasNot(t, "HF-L20", "")
		d.change(t, `{name: "Founder B", can: [rebuild]}`, `{name: "Founder B", can: []}`)
		d.has(t, "HF-L20", "warning", "runbooks.rebuild", `only "founder-a"`)
		d.change(t, `{name: "Founder A", can: [rebuild]}`, `{name: "Founder A", can: [other]}`)
		d.change(t, "runbooks:\n", "runbooks:\n  other: {steps: {go: {human: technical_lead, est: 5m}}}\n")
		d.has(t, "HF-L20", "warning", "runbooks.rebuild", "nobody can carry out")
	})
	t.Run("RSK-07 an exception is approved by the risk", func(t *testing.T) {
		people := []string{"founder-a", "founder-b", "ceo"}
		base := newDraft(t)
		base.change(t, "people:\n", "people:\n  ceo: {name: \"C\"}\n  asker: {name: \"D\"}\n")
		base.change(t, "roles:\n", "roles:\n  executive_management: {holder: ceo, deputy: founder-a}\n  policy_owner: {holder: founder-a, deputy: founder-b}\n  security_officer: {holder: founder-b, deputy: founder-a}\n  compliance_officer: {holder: ceo, deputy: founder-b}\n")
		base.change(t, "drills:\n", "drills:\n  # ")
		base.change(t, "[db-drill, uploads-drill]", "[uploads-drill]")
		base.change(t, "[db-drill, uploads-drill]", "[uploads-drill]")
		base.add(t, `approvals:
  exception-low: {roles: [policy_owner]}
  exception-medium: {roles: [policy_owner, security_officer]}
  exception-high: {roles: [policy_owner, security_officer, compliance_officer]}
  exception-critical: {roles: [executive_management]}
exceptions:
  ex: {rule: HF-L32, of: stores.db, risk: low, why: w, by: asker, approved_by: [ceo], impact: i, compensating: c, remedy: r, until: "2099-01-01"}
`)
		last := "risk: low, why: w, by: asker, approved_by: [ceo]"
		for _, tt := range []struct {
			risk   string
			people []string
			enough bool
		}{
			{"low", people[2:], false}, {"low", people[:1], true},
			{"medium", people[:1], false}, {"medium", people[:2], true},
			{"high", people[:2], false}, {"high", people, true},
			{"critical", people[1:2], false}, {"critical", people[2:], true},
		} {
			next := fmt.Sprintf("risk: %s, why: w, by: asker, approved_by: [%s]", tt.risk, strings.Join(tt.people, ", "))
			if next != last {
				base.change(t, last, next)
			}
			last = next
			fs := base.findings(t)
			waived, pending := about(fs, "HF-L32", "stores.db"), about(fs, "HF-X1", "exceptions.ex")
			if len(waived) != 1 || (waived[0].Severity == "note") != tt.enough || (len(pending) == 0) != tt.enough {
				t.Errorf("%s by %s: enough %t: %+v %+v", tt.risk, tt.people, tt.enough, waived, pending)
			}
		}
	})
	t.Run("RSK-01 a catalogue of hazards that can be extended and nested", func(t *testing.T) {
		d := newDraft(t)
		known := []string{"natural-disaster", "fire", "flood", "trade-stop", "company-sale", "hardware", "software", "attack", "data-breach", "litigation", "data-theft"}
		d.change(t, "corruption: {detection_delay: 7d}", "corruption: {detection_delay: 7d, hazards: ["+strings.Join(known, ", ")+", storm-surge]}")
		d.has(t, "HF-L25", "error", "scenarios.corruption.hazards", `"storm-surge"`)
		d.add(t, "hazards:\n  storm-surge: {title: \"Storm surge\", under: floods}\n")
		d.has(t, "HF-L25", "error", "hazards.storm-surge.under", `did you mean "flood"?`)
		d.change(t, "under: floods", "under: flood")
		d.hasNot(t, "HF-L25", "")
		// What stands below another hazard is assessed by itself; what only groups is not assessed.
		d.add(t, "  weather: {title: \"Weather\"}\nrisks:\n  r1: {event: \"a gale\", hazard: fire, likelihood: 1, impact: 2, owner: founder-a, treat: accept, accepted_by: [founder-b]}\n")
		d.has(t, "HF-L30", "warning", "hazards.storm-surge", "assessed by no risk")
		d.has(t, "HF-L30", "warning", "hazards.weather", "assessed by no risk")
		d.change(t, "under: flood", "under: weather")
		d.hasNot(t, "HF-L30", "hazards.weather")
		d.change(t, "hazard: fire", "hazard: storm-surge")
		d.hasNot(t, "HF-L30", "hazards.")
	})
}

func TestPolicyRowsOfThePlan(t *testing.T) {
	t.Parallel()
	industrial := profile(t, "industrial-remote-access")
	volunteers := profile(t, "volunteer-vms")
	t.Run("POL-01 documents are controlled by version, cadence, owner, approver, label and control references", func(t *testing.T) {
		text, err := os.ReadFile("../examples/industrial-remote-access.yaml")
		if err != nil {
			t.Fatal(err)
		}
		d := draft{workspace{root: place(t)}}
		d.dir = d.root
		write(t, d.plan(), string(text), 0o600)
		d.hasNot(t, "HF-L60", "")
		var v rendering
		hf(t, "render", d.plan(), "--bare", "--json").want(t, 0).object(t, &v)
		_, block, _ := strings.Cut(v.Text, "Document control\n")
		block, _, _ = strings.Cut(block, "\n## ")
		for item, value := range map[string]string{"Version": "1.0", "Reviewed": "every year", "Owner": "cto", "Approvers": "ceo", "Confidentiality": "internal"} {
			if !strings.Contains(block, "| "+item+" | "+value+" |") {
				t.Errorf("the block does not say %s %s:\n%s", item, value, block)
			}
		}
		for n := 1; n <= 43; n++ {
			if id := fmt.Sprintf("BR-%02d", n); !strings.Contains(strings.ReplaceAll(block, "\\", ""), id) {
				t.Errorf("the block does not name %s", id)
			}
		}
		for field, line := range map[string]string{"version": `(?m)^  version: .*\n`, "review": `(?m)^  review: .*\n`, "owner": `(?m)^  owner: .*\n`, "approvers": `(?m)^  approvers: .*\n`, "label": `(?m)^  label: .*\n`, "controls": `(?s)  controls: \[BR.*?\]\n|\ncontrols:\n.*`} {
			write(t, d.plan(), regexp.MustCompile(line).ReplaceAllString(string(text), ""), 0o600)
			d.has(t, "HF-L60", "error", "plan", "add "+field)
			d.run(t, "check").want(t, 3)
		}
		// An id that no table explains.
		write(t, d.plan(), strings.Replace(string(text), "BR-43]", "BR-44]", 1), 0o600)
		d.has(t, "HF-L49", "warning", "plan.controls[42]", "BR-44")
	})
	t.Run("POL-02 the header is unlike the history", func(t *testing.T) {
		says(t, industrial, "HF-L26", "plan.version", "1.0", "4.0")
		d := newDraft(t)
		const editions = "  history:\n    - {version: \"0.9\", on: \"2026-01-10\", what: \"created\", approved_by: [founder-a]}\n    - {version: \"1.0\", on: \"2026-10-01\", what: \"offsite added\", approved_by: [founder-b]}\n"
		d.change(t, "  owner: technical_lead\n", editions+"  owner: technical_lead\n")
		d.hasNot(t, "HF-L26", "")
		d.change(t, "  owner: technical_lead\n", "  updated: \"2026-11-02\"\n  owner: technical_lead\n")
		d.has(t, "HF-L26", "warning", "plan.updated", "2026-11-02", "2026-10-01")
		d.change(t, "2026-11-02", "2026-10-01")
		d.hasNot(t, "HF-L26", "")
		d.change(t, "version: \"1.0\", on", "version: \"1.1\", on")
		d.has(t, "HF-L26", "warning", "plan.version", "1.0", "1.1")
	})
	t.Run("POL-03 signatures that are missing", func(t *testing.T) {
		says(t, industrial, "HF-L28", "plan.signatures", "not in force: 0 of 3 signed")
		d := newDraft(t)
		d.change(t, "  owner: technical_lead\n", "  signatures: {incident_commander: {by: founder-a, on: \"2026-11-01\"}, technical_lead: {none: empty}}\n  owner: technical_lead\n")
		d.has(t, "HF-L28", "warning", "plan.signatures", "1 of 2 signed", "technical_lead")
		d.change(t, "{none: empty}", "{by: founder-b, on: \"2026-11-02\"}")
		d.hasNot(t, "HF-L28", "")
	})
	t.Run("POL-05 reviews that lapsed, now and in the past", func(t *testing.T) {
		says(t, industrial, "HF-L27", "plan.history", "758 days")
		says(t, industrial, "HF-L27", "plan.history", "overdue since 2026-01-06")
		says(t, volunteers, "HF-L27", "plan.updated", "2020-12-16", "overdue since 2021-12-16")
		// A past gap stays a gap, also when the newest edition is in time.
		d := newDraft(t)
		d.change(t, "  owner: technical_lead\n", "  history:\n    - {version: \"0.9\", on: \"2023-02-10\", what: \"created\", approved_by: [founder-a]}\n    - {version: \"1.0\", on: \"2026-10-01\", what: \"reviewed\", approved_by: [founder-b]}\n  owner: technical_lead\n")
		d.has(t, "HF-L27", "warning", "plan.history[1]", "due on 2024-02-10", "964 days earlier")
		later(t, 350*24*time.Hour)
		d.has(t, "HF-L27", "warning", "plan.history[1].on", "overdue since 2027-10-01", "2026-10-01")
	})
	t.Run("POL-09 documents that are missing, out of date, or the plan itself", func(t *testing.T) {
		says(t, industrial, "HF-L48", "documents.backup-policy", "cites itself")
		d := newDraft(t)
		d.change(t, "  owner: technical_lead\n", "  title: Continuity policy\n  owner: technical_lead\n")
		d.add(t, "documents:\n  gone: {title: Access policy, path: access.md}\n  old: {title: Encryption policy, version: \"1\", updated: \"2020-01-01\", review: {every: 1y}}\n  same: {title: \"continuity policy\", version: \"1\"}\n")
		d.has(t, "HF-L48", "warning", "documents.gone", "no such file", "access.md")
		d.has(t, "HF-L48", "warning", "documents.old", "2020-01-01", "overdue since 2021-01-01")
		d.has(t, "HF-L48", "warning", "documents.same", "cites itself")
		write(t, filepath.Join(d.dir, "access.md"), "# Access\n", 0o644)
		d.change(t, "2020-01-01\"", "2099-01-01\"")
		d.change(t, "title: \"continuity policy\"", "title: \"another policy\"")
		d.hasNot(t, "HF-L48", "")
	})
	t.Run("POL-10 sentences that nothing checks", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "statements:\n  s1: {stated: \"Backups are encrypted\"}\n  s2: {stated: \"Restores are tested\", by: [db-drill]}\n  s3: {stated: \"Two people hold keys\"}\n")
		if got := about(d.findings(t), "HF-L51", "statements."); len(got) != 2 || got[0].Line == got[1].Line {
			t.Errorf("two sentences of three are checked by nothing: %+v", got)
		}
		d.change(t, `encrypted"}`, `encrypted", by: [db-drill]}`)
		d.change(t, `keys"}`, `keys", by: [db-drill]}`)
		if fs := d.findings(t); len(fs) != 0 {
			t.Errorf("every sentence is checked by something: %+v", fs)
		}
	})
	t.Run("POL-12 words without a number, with their lines", func(t *testing.T) {
		for _, name := range []string{"care-practice", "compliance-ai", "volunteer-vms", "industrial-remote-access", "two-person-ai"} {
			text, err := os.ReadFile("../examples/" + name + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(text), "\n")
			found := about(profile(t, name), "HF-L47", "statements.")
			if len(found) == 0 {
				t.Errorf("%s: none of its vague words is found", name)
			}
			for _, f := range found {
				id := strings.TrimPrefix(f.Subject, "statements.")
				if f.Line < 1 || f.Line > len(lines) || !strings.Contains(lines[f.Line-1], id+":") || f.Hint == "" {
					t.Errorf("%s: %s is not on line %d", name, f.Subject, f.Line)
				}
			}
		}
		d := newDraft(t)
		d.add(t, "statements:\n  s1: {stated: \"Rights are reviewed periodically and after significant changes\", by: [db-drill]}\n")
		d.has(t, "HF-L47", "warning", "statements.s1", "periodically", "significant", "bound")
		d.change(t, "by: [db-drill]}", "by: [db-drill], bound: 90d, bound_by: founder-a}")
		d.hasNot(t, "HF-L47", "")
		// The words themselves: each alone in a sentence, and a sentence without any.
		d = newDraft(t)
		words := []string{"periodic", "timely", "significant", "where appropriate", "where feasible", "regularly", "promptly", "as needed", "material", "adequate", "sustained", "near-zero", "reasonable", "when warranted"}
		text := "statements:\n  none: {stated: \"Restores are tested every quarter\", by: [db-drill]}\n"
		for i, w := range words {
			text += fmt.Sprintf("  word-%d: {stated: \"What is done is %s, as we say\", by: [db-drill]}\n", i, w)
		}
		d.add(t, text)
		found := about(d.findings(t), "HF-L47", "statements.")
		if len(found) != len(words) {
			t.Errorf("%d of %d words are found: %+v", len(found), len(words), found)
		}
		for i, w := range words {
			says(t, found, "HF-L47", fmt.Sprintf("statements.word-%d", i), w)
		}
	})
	t.Run("POL-16 a figure that is not there", func(t *testing.T) {
		says(t, volunteers, "HF-L48", "documents.flow", "not there")
		d := newDraft(t)
		d.add(t, "documents:\n  flow: {title: \"Flow of the recovery\", path: flow.png}\n")
		d.has(t, "HF-L48", "warning", "documents.flow", "flow.png")
		write(t, filepath.Join(d.dir, "flow.png"), "\x89PNG\r\n", 0o644)
		d.hasNot(t, "HF-L48", "")
	})
	t.Run("EVD-03 controls that are cited and in no table", func(t *testing.T) {
		for i, cite := range []string{"SC-12", "SC-13"} {
			says(t, industrial, "HF-L49", fmt.Sprintf("frameworks.nist80053.cited[%d]", i), cite)
		}
		says(t, industrial, "HF-L49", "frameworks.soc2.cited[0]", "CC6.x")
		// Each section of a company's own policy, too.
		d := newDraft(t)
		d.add(t, "frameworks:\n  nist80053: {edition: rev5, clauses: [CP-9, CP-10]}\nstatements:\n  s1: {stated: \"Restores are tested\", clause: \"4.1\", by: [db-drill], controls: [CP-9, SC-12]}\n  s2: {stated: \"The database comes back\", clause: \"4.2\", by: [db-drill], controls: [\"nist80053/CP-10\"]}\n")
		d.has(t, "HF-L49", "warning", "statements.s1.controls[1]", "SC-12", "no table")
		d.change(t, "clauses: [CP-9, CP-10]", "clauses: [CP-9, CP-10, SC-12]")
		d.hasNot(t, "HF-L49", "")
	})
	t.Run("EVD-04 a control that is about something else", func(t *testing.T) {
		for _, id := range []string{"SR7.1", "SR7.2"} {
			says(t, industrial, "HF-L29", "controls.iec62443/"+id, "SR 7.3", "SR 7.4")
		}
		d := newDraft(t)
		d.change(t, "controls:\n", "controls:\n  \"nist80053/SC-5\": [db-drill]\n  \"iso27001/A.8.130\": [db-drill]\n")
		d.has(t, "HF-L29", "warning", "controls.nist80053/SC-5", "denial of service", "CP-9", "CP-10")
		d.has(t, "HF-L29", "warning", "controls.iso27001/A.8.130", "no control", "A.8.13")
	})
	t.Run("EVD-05 a company's own controls", func(t *testing.T) {
		d := newDraft(t)
		const count = 43
		own, mapped := "", ""
		for i := range count {
			own += fmt.Sprintf("      BR-%02d: \"own control %d\"\n", i+1, i+1)
			mapped += fmt.Sprintf("  \"own/BR-%02d\": [db-drill]\n", i+1)
		}
		d.add(t, "frameworks:\n  own:\n    edition: \"1\"\n    own:\n"+own)
		d.change(t, "controls:\n", "controls:\n"+mapped)
		if fs := d.findings(t); len(fs) != 0 {
			t.Errorf("all of them are declared: %+v", fs)
		}
		document := d.run(t, "render").want(t, 0).out
		for i := range count {
			if id := fmt.Sprintf("BR-%02d", i+1); !strings.Contains(strings.ReplaceAll(document, "\\", ""), id) {
				t.Errorf("the document lacks %s", id)
			}
		}
		d.change(t, "\"own/BR-07\"", "\"own/BR-77\"")
		d.has(t, "HF-L29", "warning", "controls.own/BR-77", "no control", "BR-07")
	})
	t.Run("EVD-13 rules of the health sector hold where health data is", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "frameworks:\n  hipaa: {edition: \"2013\", clauses: [\"164.308(a)(7)\", \"164.308(a)(8)\"], when: [health]}\n")
		if fs := d.findings(t); len(fs) != 0 {
			t.Errorf("nobody has health data: %+v", fs)
		}
		d.change(t, "    class: confidential\n", "    class: confidential\n    contains: [health]\n")
		d.has(t, "HF-L50", "warning", "frameworks.hipaa.clauses", "164.308(a)(7)", "164.308(a)(8)")
	})
}

// The form of an impact analysis is the plan; what follows from it is said, and what disagrees is found.
func TestImpactRows(t *testing.T) {
	t.Parallel()
	t.Run("OBJ-03 impact over time, what follows from it, and what disagrees", func(t *testing.T) {
		d := newDraft(t)
		d.add(t, "obligations:\n  orders: {law: \"Consumer Sales Act\", of: [api]}\n")
		d.change(t, "    runbook: rebuild\n    # probe", `    bia:
      impact: {1h: {level: 1, cost: 100}, 4h: {level: 3, cost: 1000}, 12h: {level: 4, text: "orders are lost"}}
      loss_impact: {1h: {level: 2}, 6h: {level: 4, text: "invoices are lost"}}
      peaks: {month-end: {when: "1mo on last at 08:00", for: 10h, text: "invoices", rto: 4h}}
      obligations: [orders]
      by: founder-a
      on: "2026-10-01"
    mtd: 12h
    runbook: rebuild
    # probe`)
		d.hasNot(t, "HF-L41", "services.api")
		follows := func(words ...string) {
			t.Helper()
			out := strings.Join(strings.Fields(d.run(t, "explain", "services.api.bia", "--plan-only").want(t, 0).out), " ")
			for _, w := range words {
				if !strings.Contains(out, w) {
					t.Errorf("what follows from the analysis lacks %q:\n%s", w, out)
				}
			}
		}
		follows("at most 12h", "impact 4 from 12h on", "orders are lost", "derived rto: 4h; declared: 4h", "data may be at most 6h old; derived rpo: 1h", "derived tier of the scheme", "critical; declared: critical")
		if out := d.run(t, "render").want(t, 0).out; !strings.Contains(out, "orders are lost") || !strings.Contains(out, "invoices") {
			t.Error("the analysis is not in the document")
		}
		// The harm comes earlier: the derived time tightens, and the declared one is too long.
		d.change(t, "4h: {level: 3, cost: 1000}", "2h: {level: 4, text: \"customers leave\"}")
		says(t, d.findings(t), "HF-L41", "services.api.bia.impact", "4h", "too late", "customers leave", "below 2h")
		says(t, d.findings(t), "HF-L41", "services.api.bia.impact", "maximum tolerable downtime", "12h", "from 2h on")
		d.run(t, "check").want(t, 3)
		follows("at most 2h", "derived rto: 1h; declared: 4h", "no tier of the scheme")
		d.change(t, "  critical: {rto: 4h,", "  critical: {rto: 1h,")
		d.change(t, "    mtd: 12h\n", "    mtd: 2h\n")
		d.hasNot(t, "HF-L41", "services.api")
		// So do data that are too old, and a peak.
		d.change(t, "6h: {level: 4, text: \"invoices are lost\"}", "10m: {level: 4, text: \"invoices are lost\"}")
		d.has(t, "HF-L41", "error", "services.api.bia.loss_impact", "15m", "invoices are lost")
		d.change(t, "10m: {level: 4", "6h: {level: 4")
		d.change(t, "text: \"invoices\", rto: 4h", "text: \"invoices\", rto: 30m")
		d.has(t, "HF-L41", "error", "services.api.bia.peaks.month-end", "30m")
	})
}
