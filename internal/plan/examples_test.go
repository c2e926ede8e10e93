package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

// The examples are written after real policies, whose faults are known: check finds
// each of them, at its subject, and nothing that is not in the golden list.
func TestExamplesHaveTheFaultsOfTheirSources(t *testing.T) {
	type fault struct{ row, code, subject, message string }
	sources := map[string][]fault{
		"care-practice": {
			{"X18 words without a number", codeVague, "statements.where-feasible", "where feasible"},
			{"OBJ-06 objectives that nobody approved", codeUnapproved, "tiers.core", "0 of 2"},
		},
		"compliance-ai": {
			{"T21 the escalation ends with the commander", codeChain, "incidents.escalation.high-severity", "commands the incident already"},
		},
		"volunteer-vms": {
			{"T1 the copy elsewhere is weekly", codeSchedule, "backups.database.copies.off-site", "7d between copies"},
			{"T2 24 hours and the duration are more than 24 hours", codeSchedule, "backups.code-and-content.every", "24h between snapshots + 1h for the snapshot = 25h"},
			{"T3 three windows, 72 or 96 hours", codeStages, "scenarios.total-failure.rto", "4d or 3d"},
			{"T5 failover tests without a frequency", codeVague, "exercises.failover", "failover testing"},
			{"T6 a figure that is not there", codeCited, "documents.flow", "not there"},
			{"T7 customers who refuse updates", codeException, "customers.every-customer.opt_outs", "declined"},
			{"T8 last updated in 2020", codeLapsed, "plan.updated", "2167 days"},
			{"T23 encrypted with salts", codeUnclear, "measures.stored-passwords", "salts"},
			{"T24 nobody leads", codeUnfilled, "roles", "nobody leads"},
			{"T24 nobody may start", codeApproval, "activation", "nobody may start"},
			{"T25 a contact spelled otherwise", codeUnclear, "org.contacts.support", "spelled unlike"},
			{"T26 truncated cabling", codeUnclear, "facilities.hall.attested.cabling", "truncated"},
		},
		"industrial-remote-access": {
			{"T9 header and history", codeVersion, "plan.version", "1.0, and its history ends with 4.0"},
			{"T10 the unapproved edition", codeLapsed, "plan.history[2]", "758 days"},
			{"T10 the review that is due", codeLapsed, "plan.history[3].on", "2026-01-06, 320 days ago"},
			{"T11 other signatures than approvers", codeUnsigned, "plan.approvers", "ceo"},
			{"T11 empty signatures", codeUnsigned, "plan.signatures", "0 of 3"},
			{"T12 SC-12 is cited and not listed", codeUnlisted, "frameworks.nist80053.cited[0]", "SC-12"},
			{"T12 SC-13 is cited and not listed", codeUnlisted, "frameworks.nist80053.cited[1]", "SC-13"},
			{"T12 CC6.x is cited and not listed", codeUnlisted, "frameworks.soc2.cited[0]", "CC6.x"},
			{"T13 SR 7.1", codeDoubtful, "controls.iec62443/SR7.1", "denial of service"},
			{"T13 SR 7.2", codeDoubtful, "controls.iec62443/SR7.2", "management of resources"},
			{"T13 A1.3 is absent", CodeUnproved, "frameworks.soc2", "A1.3"},
			{"T14 24 hours against 15 minutes", codeFloor, "backups.database.floor", "15m"},
			{"T15 the host protects the code", codeClaimed, "stores.source-code", "code-host"},
			{"T16 the policy cites itself", codeCited, "documents.backup-policy", "cites itself"},
			{"OBJ-13 two hours on a network of 48", codeLooser, "services.remote-access.needs.network", "2d"},
		},
		"two-person-ai": {
			{"T17 the worst severity has the longest RTO", codeScheme, "severities.high.rto", "24h"},
			{"T18 the log is not said to be in the second region", codeSchedule, "backups.database.copies.ireland", "region-lost"},
			{"T19 one restore for every loss", codeOneTest, "drills.yearly-restore", "component-lost"},
			{"T27 one captured session reaches every copy", codeSurvivors, "backups.database", "credentials-stolen"},
			{"SUP-10 data and copies with one supplier", codeConcentration, "stores.db.on", "cloud"},
		},
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "findings.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // of the table of contradictions
	for line := range strings.Lines(string(docs)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 && strings.HasPrefix(cells[1], " T") {
			rows[strings.TrimSpace(cells[1])] = cells[3]
		}
	}
	for _, faults := range sources {
		for _, want := range faults {
			if row, _, _ := strings.Cut(want.row, " "); row[0] == 'T' && !strings.Contains(rows[row], want.code) {
				t.Errorf("docs/findings.md answers %s with %q, and %s finds it", row, rows[row], want.code)
			}
		}
	}
	if len(rows) != 27 {
		t.Errorf("docs/findings.md answers %d contradictions of 27", len(rows))
	}
	for name, faults := range sources {
		t.Run(name, func(t *testing.T) {
			p, err := Load(filepath.Join("..", "..", "examples", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			fs := Check(p, checkTime)
			for _, want := range faults {
				found := false
				for _, f := range fs {
					found = found || f.Code == want.code && strings.HasPrefix(f.Subject, want.subject) && strings.Contains(f.Message, want.message)
				}
				if !found {
					t.Errorf("%s: no %s at %s that says %q", want.row, want.code, want.subject, want.message)
				}
			}
			var b strings.Builder
			for _, f := range fs {
				if f.Hint == "" || f.Line == 0 || f.Severity != holdfast.SeverityError && f.Severity != holdfast.SeverityWarning && f.Severity != holdfast.SeverityNote {
					t.Errorf("incomplete finding: %+v", f)
				}
				fmt.Fprintf(&b, "%s %s %s\n", f.Severity, f.Code, f.Subject)
			}
			golden := filepath.Join("testdata", "examples", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.String(); got != string(want) {
				t.Errorf("findings:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}
