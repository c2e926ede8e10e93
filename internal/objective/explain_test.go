package objective

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

func TestExplain(t *testing.T) {
	p, f := template(t), healthy()
	for selector, want := range map[string][]string{
		"services.api.rto":   {"declared: 4h", "tiers.critical says 4h, and that counts", "it would take", "decide 30s, estimated", "drill 1 restored db", "the last drill of uploads passed at L3", "drill: never measured"},
		"stores.db.rto":      {"its consumers leave it", "drill: 1 measured, the latest 3m 6s", "a sandbox has no detection"},
		"stores.db.rpo":      {"declared: 15m", "what would be lost now:", `"near" gives back everything until 2.0s ago`, "by the schedule it may be 1m old", "countersigned the newest snapshot"},
		"services.api.rpo":   {"it cannot run without db", "it cannot run without uploads"},
		"services.web.order": {"it cannot run without api, which is in wave 2", `runbook "rebuild" brings it back`},
		"stores.db.order":    {"api waits for it", "it needs nothing"},
		"stores.db.exposure": {`"offsite" gives back everything`},
		"stores.db":          {"rto", "rpo", "exposure"},
		"services.api":       {"order"},
		"services.api.bia":   {"no impact analysis"},
		"hf-l14":             {},
	} {
		e, err := Explain(p, f, true, selector)
		if err != nil {
			t.Errorf("%s: %v", selector, err)
			continue
		}
		var text strings.Builder
		lines, facts := 0, 0
		for _, r := range e.Reasons {
			text.WriteString(r.Text + "\n")
			if strings.HasPrefix(r.Plan, "plan.yaml:") {
				lines++
			}
			if r.Fact != "" {
				facts++
			}
		}
		for _, w := range want {
			if !strings.Contains(text.String(), w) {
				t.Errorf("%s does not say %q:\n%s", selector, w, text.String())
			}
		}
		if strings.HasSuffix(selector, ".rto") && (lines == 0 || facts == 0) {
			t.Errorf("%s rests on %d lines of the plan and %d facts", selector, lines, facts)
		}
		if b, err := json.Marshal(e); err != nil || strings.Contains(string(b), ":null") {
			t.Errorf("%v: %s", err, b)
		}
	}
	for _, bad := range []string{"", "services", "services.nobody", "services.api.rtto", "stores.db.bia", "tiers.critical.rto", "HF-L999", "services.api.rto.x", "HF-L14 stores.db"} {
		e, err := Explain(p, f, true, bad)
		if err == nil && len(e.Reasons) > 0 && !strings.HasPrefix(bad, "HF-L14") || err != nil && holdfast.Hint(err) == "" {
			t.Errorf("%q: %v, %+v", bad, err, e)
		}
	}
	lax := parse(t, strings.Replace(string(p.Source()), "rpo: 15m", "rpo: 1m", 1))
	e, err := Explain(lax, Facts{Now: noon}, false, "HF-L2")
	if err != nil || len(e.Reasons) < 3 || e.Answer == "" {
		t.Errorf("%v: %+v", err, e)
	}
}

func TestExplainImpact(t *testing.T) {
	p := parse(t, strings.Replace(company, "runbook: rebuild}", "runbook: rebuild, bia: {impact: {1h: {level: 2, cost: 100, text: queues}, 4h: {level: 4}}}}", 1))
	e, err := Explain(p, Facts{Now: noon}, false, "services.api.bia")
	if err != nil || e.Answer != "at most 4h" {
		t.Fatalf("%v: %+v", err, e)
	}
	var text strings.Builder
	for _, r := range e.Reasons {
		text.WriteString(r.Text + "\n")
	}
	for _, want := range []string{"impact 4 from 4h on", "after 4h: impact 4, cost 300 until then", "derived rto: 1h", "no tier of the scheme"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, text.String())
		}
	}
	s := ask(t, p, Facts{Now: noon}, false, "store:db", "store:files", "person:ben", "person:cleo")
	if v := service(t, s, "api"); !v.Harmed || v.MTD.Duration() != 4*time.Hour || v.Harm != plan.MaxImpact {
		t.Errorf("%+v", v)
	}
}

// Every item has one state, and the counts add up, on good days and bad ones.
func TestCoverage(t *testing.T) {
	text := strings.Replace(string(plan.Template(plan.Values{Unattended: true})), "\nstores:\n", `
stores:
  bare: {kind: files, tier: support, owner: technical_lead, files: {path: /bare}}
  git: {kind: git, tier: support, owner: technical_lead, git: {url: "https://git.example.com/a.git"}, protect: folder}
  hosted: {kind: git, tier: support, owner: technical_lead, git: {url: "https://git.example.com/b.git"}, delegated: {to: forge}}
  cache: {kind: files, tier: support, owner: technical_lead, files: {path: /cache}, not_protected: "rebuilt from db"}
`, 1)
	text = strings.Replace(text, "\nservices:\n", "\nsuppliers: {forge: {}}\nservices:\n  mixed: {tier: support, owner: technical_lead, needs: {db: hard, bare: hard}}\n  plain: {tier: support, owner: technical_lead}\n", 1)
	p := parse(t, text)
	f := healthy()
	f.Copies = append(f.Copies, Copy{Store: "git", Location: "near", Received: noon, Windows: []holdfast.Window{{From: noon, To: noon}}})
	look := func(f Facts) map[string]CoverageItem {
		c := Look(p, f).Coverage
		out := map[string]CoverageItem{}
		sum := 0
		for _, n := range c.Counts {
			sum += n
		}
		for _, x := range c.Items {
			out[x.ID] = x
			if x.Why == "" {
				t.Errorf("%+v says not why", x)
			}
		}
		if want := len(p.Services) + len(p.Stores); sum != want || c.Total != want || len(out) != want || len(c.Items) != want {
			t.Errorf("%d items, %d in the counts, %d listed, inventory %d", c.Total, sum, len(out), want)
		}
		return out
	}
	got := look(f)
	for id, want := range map[string]CoverageState{"db": Covered, "uploads": Covered, "bare": Uncovered, "git": Uncovered, "hosted": Delegated, "cache": Excepted, "mixed": PartCovered, "api": Covered, "plain": Covered} {
		if got[id].State != want {
			t.Errorf("%s: %+v, want %s", id, got[id], want)
		}
	}
	if !got["db"].LastGood.Equal(ago(2*time.Second)) || !got["api"].LastGood.Equal(ago(3*time.Minute)) {
		t.Errorf("%s, %s", got["db"].LastGood, got["api"].LastGood)
	}
	f.Locations[0].Reachable = false
	if got = look(f); got["db"].State != PartCovered || got["api"].State != PartCovered {
		t.Errorf("%+v", got["db"])
	}
	if got = look(Facts{Now: noon}); got["db"].State != Uncovered {
		t.Errorf("%+v", got["db"])
	}
}

// Each of the seven postures, and unknown, is reached by a plan and facts.
func TestEveryPosture(t *testing.T) {
	text := strings.Replace(string(plan.Template(plan.Values{Unattended: true})), "\nstores:\n", `
suppliers: {forge: {}}
stores:
  claimed: {kind: git, tier: critical, git: {url: "https://git.example.com/b.git"}, delegated: {to: forge, rpo: 10m, rto: 1h}}
  worded: {kind: git, tier: critical, git: {url: "https://git.example.com/c.git"}, delegated: {to: forge, says: "daily"}}
  loose: {kind: git, tier: critical, git: {url: "https://git.example.com/d.git"}, delegated: {to: forge, rpo: 1d, rto: 1h}}
  cache: {kind: files, tier: critical, files: {path: /cache}, not_protected: "rebuilt from db"}
`, 1)
	p := parse(t, text)
	reached := map[holdfast.Posture]bool{}
	rpo := func(f Facts, id string) holdfast.Posture {
		for _, s := range Look(p, f).Stores {
			if s.ID == id {
				reached[s.RPO.Posture] = true
				return s.RPO.Posture
			}
		}
		t.Fatalf("no store %q", id)
		return ""
	}
	aged := func(d time.Duration) Facts {
		f := healthy()
		for i := range f.Proofs {
			f.Proofs[i].At = ago(d)
		}
		return f
	}
	failed := healthy()
	failed.Proofs[0].Outcome = holdfast.Failed
	for _, tt := range []struct {
		f    Facts
		id   string
		want holdfast.Posture
	}{
		{healthy(), "db", holdfast.PostureProved}, {aged(8 * 24 * time.Hour), "db", holdfast.PostureDue}, {aged(11 * 24 * time.Hour), "db", holdfast.PostureOverdue},
		{failed, "db", holdfast.PostureFailed}, {healthy(), "cache", holdfast.PostureExcepted}, {healthy(), "claimed", holdfast.PostureClaimed},
		{healthy(), "worded", holdfast.PostureUnknown}, {healthy(), "loose", holdfast.PostureFailed}, {Facts{Now: noon}, "db", holdfast.PostureUnknown},
	} {
		if got := rpo(tt.f, tt.id); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.id, got, tt.want)
		}
	}
	for _, s := range Look(p, healthy()).Services {
		reached[s.RPO.Posture] = true // web promises none
	}
	if len(reached) != len(badness) {
		t.Errorf("only %v are reached", reached)
	}
}

// What people type is answered or refused with a way out; it never panics.
func FuzzWhatPeopleAsk(f *testing.F) {
	for _, s := range []string{"services.api.rto", "stores.db", "HF-L2 stores.db", "hf-l14 .", "region:eu-1", "person:", "control-plane", ":", "near", "services..rto", "\x00.\xff.x"} {
		f.Add(s)
	}
	p := parse(f, company)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := Explain(p, Facts{Now: noon}, false, s); err != nil && holdfast.Hint(err) == "" {
			t.Errorf("explain %q: %v has no way out", s, err)
		}
		q, err := QuestionOf(p, []string{s}, "")
		if err != nil {
			if holdfast.Hint(err) == "" {
				t.Errorf("lose %q: %v has no way out", s, err)
			}
			return
		}
		if _, err := Simulate(p, Facts{Now: noon}, q); err != nil {
			t.Errorf("lose %q: %v", s, err)
		}
	})
}
