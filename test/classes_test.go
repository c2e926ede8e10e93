package test

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// keeping are the findings about how long backups are kept.
func (w workspace) keeping(t *testing.T) []finding {
	t.Helper()
	return slices.DeleteFunc(w.findings(t), func(f finding) bool { return f.Code != "HF-L61" })
}

func TestClassRows(t *testing.T) {
	t.Parallel()
	t.Run("STO-06 another time than the standard is justified in writing", func(t *testing.T) {
		w := filesOnly(t)
		if p, err := os.ReadFile(w.plan()); err != nil || !strings.Contains(string(p), "  standard_retention: 30d\n") {
			t.Fatalf("init writes no standard: %v", err)
		}
		if fs := w.keeping(t); len(fs) != 0 {
			t.Fatalf("as long as the standard: %+v", fs)
		}
		was := "30d"
		for _, is := range []string{"90d", "7d"} {
			edit(t, w.plan(), func(s string) string { return strings.Replace(s, "    keep: "+was+"\n", "    keep: "+is+"\n", 1) })
			was = is
			fs := w.keeping(t)
			if len(fs) != 1 || fs[0].Severity != "error" || fs[0].Line == 0 || !strings.Contains(fs[0].Message, is) || !strings.Contains(fs[0].Hint, "retention: {why") {
				t.Fatalf("%s without a reason: %+v", is, fs)
			}
			w.run(t, "check").want(t, 3)
		}
		edit(t, w.plan(), func(s string) string {
			i := strings.Index(s, "\n  folder:\n")
			return s[:i] + strings.Replace(s[i:], "    copies:", "    retention: {why: \"the uploads can be made again from the mail\"}\n    copies:", 1)
		})
		if fs := w.keeping(t); len(fs) != 0 {
			t.Errorf("with a reason: %+v", fs)
		}
		if out := w.run(t, "render").want(t, 0).out; !strings.Contains(out, "the uploads can be made again from the mail") || !strings.Contains(out, "The standard is 30d") {
			t.Errorf("the document does not say why:\n%s", out)
		}
	})
	t.Run("STO-07 the class of the data decides, also over what is stored", func(t *testing.T) {
		w, keys := vaultWorkspace(t)
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, "    keep: 30d\n", "    keep: 10d\n    retention: {why: \"it is made again from the mail\"}\n", 1)
			return s + "\nclasses:\n  confidential: {keep_min: 60d}\n  brief: {keep_max: 10d, owner: founder-b}\n"
		})
		if fs := w.keeping(t); len(fs) != 1 || !strings.Contains(fs[0].Message, "60d") || !strings.Contains(fs[0].Message, "10d") {
			t.Errorf("a backup that keeps less than its class: %+v", fs)
		}
		w.backup(t)
		w.backup(t)
		w.night(t, 19*dayHours, 20*dayHours+12)
		w.backup(t)
		w.run(t, "drill", "uploads", "--pick", "latest").want(t, 0)
		p := w.prune(t, 0)
		if p.going() != 0 || !strings.Contains(p.Shelves[0].Snapshots[0].Why, `kept 60d from its receipt by the class "confidential"`) {
			t.Fatalf("before the minimum of the class: %+v", p)
		}
		// Another class takes copies away, so people sign for it.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "    class: confidential\n", "    class: brief\n", 1)
		})
		if p := w.prune(t, 0); p.going() != 0 || len(p.Findings) != 1 || p.Findings[0].Code != "HF-V7" || !strings.Contains(p.Findings[0].Message, "class") {
			t.Fatalf("a shorter class without a signature: %+v", p)
		}
		before := listed(t, w.near)
		w.run(t, "prune", "--apply", "--json").want(t, 0)
		id := w.waitingFor(t)
		w.sign(t, id, "ana", keys["ana"], "", 4)
		w.sign(t, id, "ben", keys["ben"], "", 0)
		p = w.prune(t, 0)
		var flagged []string
		for _, s := range p.Shelves {
			for _, d := range s.Snapshots {
				if !d.Keep && d.Must && strings.Contains(d.Why, `kept at most 10d by the class "brief"`) {
					flagged = append(flagged, s.Location+" "+d.Snapshot)
				}
			}
		}
		if want := []string{"near " + before[0], "near " + before[1], "offsite " + before[0], "offsite " + before[1]}; !slices.Equal(flagged, want) {
			t.Errorf("flagged are %q, want %q: %+v", flagged, want, p)
		}
		// A hold beats the maximum, and somebody answers for what stays.
		edit(t, w.plan(), func(s string) string {
			return s + "\nholds:\n  case-7: {of: [uploads], why: \"a claim\", by: ana}\n"
		})
		p = w.prune(t, 0, "--apply")
		if p.going() != 0 || !slices.Equal(listed(t, w.near), before) {
			t.Errorf("past the maximum and held: %+v", p)
		}
		if len(p.Findings) != 2 || p.Findings[0].Code != "HF-V16" || !strings.Contains(p.Findings[0].Message, "owner: founder-b") || !strings.Contains(p.Findings[0].Message, "case-7") {
			t.Errorf("nobody is told of what stays: %+v", p.Findings)
		}
		if out := w.run(t, "review", "list").out; !strings.Contains(out, "keeping.stores.uploads") {
			t.Errorf("nobody owes a decision about what stays:\n%s", out)
		}
	})
}
