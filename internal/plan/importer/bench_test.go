package importer

import (
	"os"
	"testing"
)

func BenchmarkImport(b *testing.B) {
	text, err := os.ReadFile("testdata/policies/d-industrial.md")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Import("policy.md", text, today); err != nil {
			b.Fatal(err)
		}
	}
}
