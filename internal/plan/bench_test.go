package plan

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// A shape is how a large plan is large.
type shape string

const (
	shapeShared shape = "shared" // one runbook, backup and drill for all
	shapeOwn    shape = "own"    // each service and store has its own
	shapeBad    shape = "bad"    // as shared, with five faults in each
)

// large is a plan of n services, each on a store of its own and on the service before.
func large(n int, as shape) []byte {
	var services, stores, drills, runbooks strings.Builder
	for i := range n {
		runbook, needs, class, protect := "rebuild", ", uploads: hard", "    class: internal\n", "folder"
		if i%10 > 0 {
			needs += fmt.Sprintf(", svc-%d: hard", i-1)
		}
		switch as {
		case shapeOwn:
			runbook = fmt.Sprintf("rb-%d", i)
			needs = strings.TrimPrefix(needs, ", uploads: hard")
			fmt.Fprintf(&runbooks, "  rb-%d: {detect: 1m, steps: {restore: {restore: st-%d, est: measured}, check: {check: svc-%d, after: [restore], est: 5m}}}\n", i, i, i)
			fmt.Fprintf(&drills, "  dr-%d: {of: [st-%d], every: 1w, rung: 3, fresh_for: 10d}\n", i, i)
		case shapeBad:
			needs += fmt.Sprintf(", nowhere-%d: hard", i)
			class, protect = "", fmt.Sprintf("fldr-%d", i)
		}
		fmt.Fprintf(&services, "  svc-%d:\n    tier: critical\n    owner: technical_lead\n    needs: {st-%d: hard%s}\n    runbook: %s\n", i, i, needs, runbook)
		fmt.Fprintf(&stores, "  st-%d:\n    kind: files\n    tier: critical\n    owner: technical_lead\n%s    files: {path: /srv/%d}\n    protect: %s\n    recover: {to: /rec/%d}\n", i, class, i, protect, i)
	}
	text := clean()
	for _, part := range []struct{ before, more string }{
		{"# Where the data lives.\nstores:\n", services.String()}, {"  uploads:\n", stores.String()}, {"  db-drill:", drills.String()}, {"  rebuild:\n", runbooks.String()},
	} {
		text = strings.Replace(text, part.before, part.more+part.before, 1)
	}
	return []byte(text)
}

func BenchmarkParseAndCheck10000(b *testing.B) {
	for _, as := range []shape{shapeShared, shapeOwn, shapeBad} {
		text := large(10_000, as)
		b.Run(string(as), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				p, err := Parse("plan.yaml", text)
				if err != nil {
					b.Fatal(err)
				}
				Check(p, checkTime)
			}
		})
	}
}

func TestLargePlanIsWhatItSays(t *testing.T) {
	for _, as := range []shape{shapeShared, shapeOwn, shapeBad} {
		p, err := Parse("plan.yaml", large(30, as))
		if err != nil {
			t.Fatal(err)
		}
		fs := Check(p, checkTime)
		if len(p.Services) != 32 || len(p.Stores) != 32 || !bytes.Contains(p.Source(), []byte("svc-29")) {
			t.Errorf("%s: %d services, %d stores", as, len(p.Services), len(p.Stores))
		}
		if faults := len(fs); as == shapeBad && faults < 90 {
			t.Errorf("only %d findings of a bad plan", faults)
		}
	}
}
