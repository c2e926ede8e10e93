package plan

import (
	"bytes"
	"fmt"
	"testing"
)

// large is a plan of n services, each on a store of its own and on the service before.
func large(n int) []byte {
	var b bytes.Buffer
	text := clean()
	at := bytes.Index([]byte(text), []byte("# Where the data lives.\nstores:\n"))
	b.WriteString(text[:at])
	for i := range n {
		fmt.Fprintf(&b, "  svc-%d:\n    tier: critical\n    owner: technical_lead\n    needs: {st-%d: hard, uploads: hard", i, i)
		if i%10 > 0 {
			fmt.Fprintf(&b, ", svc-%d: hard", i-1)
		}
		fmt.Fprintf(&b, "}\n    runbook: rebuild\n")
	}
	text = text[at:]
	at = bytes.Index([]byte(text), []byte("  uploads:\n"))
	b.WriteString(text[:at])
	for i := range n {
		fmt.Fprintf(&b, "  st-%d:\n    kind: files\n    tier: critical\n    owner: technical_lead\n    files: {path: /srv/%d}\n    protect: folder\n    recover: {to: /rec/%d}\n", i, i, i)
	}
	b.WriteString(text[at:])
	return b.Bytes()
}

func BenchmarkParseAndCheck10000(b *testing.B) {
	text := large(10_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := Parse("plan.yaml", text)
		if err != nil {
			b.Fatal(err)
		}
		Check(p, checkTime)
	}
}
