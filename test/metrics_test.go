package test

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestMetricRows(t *testing.T) {
	t.Parallel()
	t.Run("EVD-14 what a person attested stands as attested in the pack, as in explain", func(t *testing.T) {
		t.Parallel()
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, `"iso27001/A.8.13": [uploads-drill]`, `"iso27001/A.8.13": ["review:backups", "review:never"]`, 1) + `
reviews:
  backups: {every: 1q, by: [technical_lead], text: "what the backups did"}
  never: {every: 1q, by: [technical_lead], text: "what nobody looks at"}
`
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		w.run(t, "backup", "uploads").want(t, 0) // takes the plan into force
		w.owed(t, 0)
		w.run(t, "review", "done", "reviews.backups", "--by", "founder-b", "--note", "all well").want(t, 0)
		pack := filepath.Join(w.root, "e.zip")
		w.run(t, "evidence", "export", "--out", pack).want(t, 0)
		controls := unzip(t, pack)["controls.csv"]
		for _, want := range []string{"unknown", "review backups: attested by founder-b on ", "review never: nothing is on record", "0 proved by a machine, 1 attested by a person, 0 claimed"} {
			if !strings.Contains(controls, want) {
				t.Errorf("the pack lacks %q:\n%s", want, controls)
			}
		}
		var x struct{ Posture string }
		w.run(t, "explain", "controls.iso27001/A.8.13", "--json").want(t, 0).object(t, &x)
		if x.Posture != "unknown" {
			t.Errorf("explain calls it %q", x.Posture)
		}
	})
}
