package objective

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// large is a company of n services, each with a store of its own, a backup to two
// places, a drill for each hundred stores and one for each, and facts about all of it.
func large(t interface {
	Helper()
	Fatalf(string, ...any)
}, n int) (*plan.Plan, Facts) {
	t.Helper()
	var b strings.Builder
	b.WriteString(string(plan.Template(plan.Values{Unattended: true})))
	text := b.String()
	text = strings.Replace(text, "\nservices:\n", "\nservices:\n"+repeat(n, func(i int) string {
		needs := fmt.Sprintf("s%d: hard", i)
		if i > 0 {
			needs += fmt.Sprintf(", v%d: hard", i/20)
		}
		return fmt.Sprintf("  v%d: {tier: critical, owner: technical_lead, needs: {%s}, runbook: r%d}\n", i, needs, i)
	}), 1)
	text = strings.Replace(text, "\nstores:\n", "\nstores:\n"+repeat(n, func(i int) string {
		return fmt.Sprintf("  s%d: {kind: files, tier: critical, owner: technical_lead, files: {path: /srv/s%d}, protect: folder, recover: {to: recovered/s%d}}\n", i, i, i)
	}), 1)
	text = strings.Replace(text, "\ndrills:\n", "\ndrills:\n"+repeat(n, func(i int) string {
		return fmt.Sprintf("  d%d: {of: [s%d], every: 1w, fresh_for: 10d}\n", i, i)
	}), 1)
	text = strings.Replace(text, "\nrunbooks:\n", "\nrunbooks:\n"+repeat(n, func(i int) string {
		return fmt.Sprintf("  r%d: {detect: 1m, steps: {restore: {restore: s%d, est: measured}, go: {human: technical_lead, text: go, after: [restore], est: 2m}}}\n", i, i)
	}), 1)
	p := parse(t, text)
	f := healthy()
	for i := range n {
		id := fmt.Sprintf("s%d", i)
		for _, loc := range []string{"near", "offsite"} {
			f.Copies = append(f.Copies, Copy{Store: id, Location: loc, Received: ago(2 * time.Minute), Windows: []holdfast.Window{{From: ago(3 * time.Minute), To: ago(3 * time.Minute)}}})
		}
		f.Proofs = append(f.Proofs, Proof{Kind: ProofDrill, ID: fmt.Sprint(i), Name: fmt.Sprintf("d%d", i), Store: id, At: ago(24 * time.Hour), Outcome: holdfast.Passed, Rung: holdfast.L3,
			Parts: holdfast.Parts{{Name: "fetch", Duration: time.Minute, Basis: holdfast.Measured}}, DataAge: time.Minute, DataAgeKnown: true})
	}
	return p, f
}

func repeat(n int, of func(int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(of(i))
	}
	return b.String()
}

// The first page of a company with 10,000 services and 10,000 stores.
func BenchmarkLook10000(b *testing.B) {
	p, f := large(b, 10_000)
	for b.Loop() {
		if o := Look(p, f); len(o.Stores) != 10_002 {
			b.Fatal(len(o.Stores))
		}
	}
}
