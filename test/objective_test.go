package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A promised is one objective that "objectives --json" lists.
type promised struct {
	Selector, Kind, Label, Scheme, Scenario, Metric, Declared, Words, Form, Reason, File string
	Target                                                                               float64 `json:"target_seconds"`
	Limit                                                                                float64 `json:"limit_seconds"`
	Clock                                                                                string  `json:"rto_clock"`
	Line                                                                                 int
	Stages                                                                               []struct {
		ID, From, Level string
		Limit           float64 `json:"limit_seconds"`
	}
	Holds []struct{ ID, Posture, Why string } `json:"holds_for"`
}

// objectives lists what plans promise, by plan.
func objectives(t *testing.T, e ending) (out [][]promised) {
	t.Helper()
	var v struct {
		Plans []struct{ Objectives []promised }
	}
	e.want(t, 0).object(t, &v)
	for _, p := range v.Plans {
		out = append(out, p.Objectives)
	}
	return out
}

func TestObjectiveRows(t *testing.T) {
	t.Parallel()
	t.Run("OBJ-01 every profile in its own vocabulary", func(t *testing.T) {
		names := []string{"care-practice", "compliance-ai", "volunteer-vms", "industrial-remote-access", "two-person-ai"}
		args := []string{"objectives"}
		for _, n := range names {
			path, err := filepath.Abs("../examples/" + n + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		all := objectives(t, hf(t, append(args, "--json")...))
		text := hf(t, args...).want(t, 0).out
		if len(all) != len(names) {
			t.Fatalf("%d plans", len(all))
		}
		for i, want := range [][]string{
			{"tier core rto 14400", "tier core rpo 900", "tier support rto 86400"},
			{"severity sev1 rto 28800", "service product rpo 3600", "store db rto 21600"},
			{"tier standard rto 172800", "tier standard rpo 86400", "scenario misconfiguration rpo 900", "scenario site-lost rto 172800"},
			{"tier critical-online rto 7200", "tier critical-online rpo 900", "tier support rto 86400", "tier support rpo 3600", "tier network-tier rto 172800", "tier network-tier rpo 0", "tier billing-tier rto 172800", "tier billing-tier rpo 900"},
			{"severity high rto 86400", "severity medium rto 43200", "severity low rto 14400", "service api rto 86400", "store db rto 43200"},
		} {
			got := map[string]promised{}
			for _, x := range all[i] {
				got[fmt.Sprintf("%s %s %s %g", x.Kind, x.Label, x.Metric, x.Limit)] = x
				if x.Line == 0 || x.Declared == "" || x.Form == "" || (x.Kind == "tier" || x.Kind == "severity") != (x.Scheme != "") {
					t.Errorf("%s: incomplete: %+v", names[i], x)
				}
				for _, word := range []string{x.Label, x.Words, x.Reason} {
					if !strings.Contains(strings.Join(strings.Fields(text), " "), word) {
						t.Errorf("%s: the list for people lacks %q", names[i], word)
					}
				}
			}
			for _, w := range want {
				if _, ok := got[w]; !ok {
					t.Errorf("%s: %s is not listed: %v", names[i], w, all[i])
				}
			}
		}
		// A range, stages with anchors of their own, and what does not apply, without loss.
		for _, want := range []string{`24h, at most 48h ("24-48 hours")`, "not applicable: stateless", "roll-back within 24h of interruption", "fully-normal within 24h of roll-back, at 100%"} {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
				t.Errorf("the list lacks %q", want)
			}
		}
	})
	t.Run("OBJ-02 words, a number, and a verdict that cites both", func(t *testing.T) {
		w := filesOnly(t)
		w.run(t, "location", "init", "--all").want(t, 0)
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "critical: {rto: 4h,", "critical: {rto: soon,", 1) })
		if f := one(t, w.findings(t), "HF-L1"); !strings.Contains(f.Message, "soon") {
			t.Errorf("%+v", f)
		}
		serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "drill", "uploads").want(t, 0)
		rto := func() promised {
			t.Helper()
			for _, x := range objectives(t, w.run(t, "objectives", "--json"))[0] {
				if x.Selector == "tiers.critical" && x.Metric == "rto" {
					return x
				}
			}
			t.Fatal("no rto of critical")
			return promised{}
		}
		standsAt := func(x promised, id string) (posture, why string) {
			for _, h := range x.Holds {
				if h.ID == id {
					return h.Posture, h.Why
				}
			}
			t.Fatalf("%s is not said to stand under it: %+v", id, x)
			return "", ""
		}
		x := rto()
		if posture, why := standsAt(x, "uploads"); x.Form != "unbound" || x.Limit != 0 || posture != "unknown" || !strings.Contains(why, "no number") {
			t.Errorf("%+v", x)
		}
		if out := w.run(t, "objectives").want(t, 0).out; !strings.Contains(out, `"soon", not bound to a number: nobody can test it`) {
			t.Error(out)
		}
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "rto: soon,", `rto: {stated: soon, bound: 4h},`, 1) })
		until(t, "the number to be in force", func() bool { return rto().Form == "worded" })
		x = rto()
		if _, why := standsAt(x, "uploads"); x.Words != "soon" || x.Limit != 4*3600 || !strings.Contains(why, `of 4h ("soon")`) {
			t.Errorf("the verdict does not cite both: %+v", x)
		}
	})
	t.Run("EVD-02 EVD-14 EVD-15 from a clause to dated evidence and back", func(t *testing.T) {
		w := filesOnly(t)
		edit(t, w.plan(), func(s string) string {
			s = strings.Replace(s, `"iso27001/A.8.13": [uploads-drill]`, `"iso27001/A.8.13": [uploads-drill, "measure:copies", "review:backups"]`, 1)
			return s + `
measures:
  copies: {stated: "The copies are kept apart."}
reviews:
  backups: {every: 1q, by: [technical_lead], text: "what the backups did"}
statements:
  tested: {stated: "Restores are tested.", by: [uploads-drill], controls: ["iso27001/A.8.13"]}
`
		})
		w.run(t, "location", "init", "--all").want(t, 0)
		serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		type explained struct {
			Answer  string
			Reasons []struct{ Text, Fact, Plan string }
		}
		ask := func(selector string) (text string, x explained) {
			t.Helper()
			w.run(t, "explain", selector, "--json").want(t, 0).object(t, &x)
			for _, r := range x.Reasons {
				text += r.Text + " " + r.Fact + "\n"
			}
			return text, x
		}
		if text, _ := ask("controls.iso27001/A.8.13"); !strings.Contains(text, "never done") || !strings.Contains(text, "0 proved by a machine, 0 attested by a person, 1 claimed") {
			t.Errorf("what did not happen is not said:\n%s", text)
		}
		var ids []string
		for range 2 {
			var d struct{ ID string }
			w.run(t, "drill", "uploads", "--json").want(t, 0).object(t, &d)
			ids = append(ids, d.ID)
		}
		// A clause, its evidence with dates, and each grade apart.
		text, x := ask("controls.iso27001/A.8.13")
		for _, want := range append(ids, "2 proved by a machine, 0 attested by a person, 1 claimed", "the plan claims it", "nothing is on record", "Restores are tested.", time.Now().UTC().Format("2006-01-02")) {
			if !strings.Contains(text, want) {
				t.Errorf("the evidence lacks %q:\n%s", want, text)
			}
		}
		if x.Answer == "" {
			t.Error("the control has no name")
		}
		// And back: from the result's drill to the clauses that it stands for.
		if text, _ := ask("drills.uploads-drill"); !strings.Contains(text, "the control iso27001/A.8.13") || !strings.Contains(text, "the statement tested") || !strings.Contains(text, ids[0]) {
			t.Errorf("no way back:\n%s", text)
		}
		if text, _ := ask("statements.tested"); !strings.Contains(text, ids[1]) || !strings.Contains(text, "it cites iso27001/A.8.13") {
			t.Errorf("no way from the sentence:\n%s", text)
		}
		w.run(t, "explain", "controls.iso27001/A.8.14").refuses(t, 2, "no such entry", "A.8.13")
	})
	t.Run("INV-14 the definition of the clock is the company's own", func(t *testing.T) {
		w := filesOnly(t)
		keys := w.keyed(t, "founder-a", "founder-b")
		w.run(t, "location", "init", "--all").want(t, 0)
		serve(t, w.dir)
		w.run(t, "backup", "uploads").want(t, 0)
		w.run(t, "drill", "uploads").want(t, 0)
		type service struct {
			ID, Drill string
			RTO       struct {
				Posture, Why string
				Clock        string `json:"rto_clock"`
			}
			Outage struct {
				Total   float64 `json:"total_seconds"`
				Counted float64 `json:"counted_seconds"`
			}
		}
		api := func() (s service) {
			t.Helper()
			var v struct {
				Services []service
				Stores   []struct {
					LastDrill struct{ ID string } `json:"last_drill"`
				}
			}
			w.run(t, "status", "--json").object(t, &v)
			for _, s := range v.Services {
				if s.ID == "api" {
					s.Drill = v.Stores[0].LastDrill.ID
					return s
				}
			}
			t.Fatal("no service api")
			return s
		}
		outage := api()
		if outage.RTO.Clock != "disruption" || outage.Outage.Counted != outage.Outage.Total || outage.Drill == "" {
			t.Fatalf("%+v", outage)
		}
		// An RTO that is missed from the disruption, and kept from the declaration.
		edit(t, w.plan(), func(s string) string {
			return strings.Replace(s, "critical: {rto: 4h,", fmt.Sprintf("critical: {rto: %ds,", int(outage.Outage.Total)-30), 1)
		})
		until(t, "the tight objective to be missed", func() bool { return api().RTO.Posture == "failed" })
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "plan:\n", "plan:\n  rto_clock: declaration\n", 1) })
		until(t, "the other definition to be asked for", func() bool {
			return len(w.requests(t, "open")) > 0
		})
		id := w.waitingFor(t)
		w.sign(t, id, "founder-a", keys["founder-a"], "", 4)
		w.sign(t, id, "founder-b", keys["founder-b"], "", 0)
		until(t, "the other definition to be in force", func() bool { return api().RTO.Clock == "declaration" })
		declared := api()
		if declared.Drill != outage.Drill || declared.Outage.Total != outage.Outage.Total || declared.Outage.Counted >= outage.Outage.Counted {
			t.Errorf("the same drill is not recomputed: %+v, before %+v", declared, outage)
		}
		if declared.RTO.Posture == "failed" || !strings.Contains(declared.RTO.Why, "from declaration") {
			t.Errorf("%+v", declared.RTO)
		}
		out := w.run(t, "explain", "services.api.rto").want(t, 0).out
		if !strings.Contains(out, "its time begins with the declaration") {
			t.Errorf("the definition is not stated:\n%s", out)
		}
	})
}
