package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An item of the register, as "holdfast plan items --json" says it.
type item struct {
	ID, Section, Kind, Owner, Tier, Class, Protection, Coverage string
	Contains, Company, Customer                                 []string
	Wave                                                        int
}

// items runs "plan items" on the draft.
func (d draft) items(t *testing.T, flags ...string) []item {
	t.Helper()
	var v struct{ Items []item }
	d.run(t, append([]string{"plan", "items", "--json"}, flags...)...).want(t, 0).object(t, &v)
	return v.Items
}

func ids(items []item) string {
	var out []string
	for _, i := range items {
		out = append(out, i.ID)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestRegisterOfThePlan(t *testing.T) {
	t.Parallel()
	t.Run("INV-03 what each item does with whose data", func(t *testing.T) {
		d := newDraft(t)
		text := "stores:\n"
		acts := []string{"create", "receive", "store", "transmit"}
		whose := []string{"company", "customer"}
		for n := range 16 { // every combination of acts, for each owner of data
			for _, w := range whose {
				var does []string
				for b, act := range acts {
					if n>>b&1 == 1 {
						does = append(does, act)
					}
				}
				data := ""
				if n > 0 {
					data = fmt.Sprintf(", data: {%s: [%s]}", w, strings.Join(does, ", "))
				}
				text += fmt.Sprintf("  %s-%02d: {kind: files, files: {path: /srv/%d}, owner: technical_lead, tier: support, class: internal, not_protected: rebuilt%s}\n", w, n, n, data)
			}
		}
		d.change(t, "stores:\n", text)
		for _, w := range whose {
			for b, act := range acts {
				var want []string
				for n := range 16 {
					if n>>b&1 == 1 {
						want = append(want, fmt.Sprintf("%s-%02d", w, n))
					}
				}
				if got := ids(d.items(t, "--act", act, "--data", w)); got != strings.Join(want, " ") {
					t.Errorf("%s data of the %s: %s, want %v", act, w, got, want)
				}
			}
		}
		if got := len(d.items(t, "--act", "store")); got != 16 {
			t.Errorf("%d items store data of anybody, want 16", got)
		}
		if e := d.run(t, "plan", "items", "--act", "stores").want(t, 2); !strings.Contains(e.errout, "known are create, receive, store, transmit") {
			t.Errorf("an unknown word: %v", e)
		}
		// A role that changes is a change of the plan, at its line.
		b, err := os.ReadFile(d.plan())
		if err != nil {
			t.Fatal(err)
		}
		old := filepath.Join(place(t), "old.yaml")
		write(t, old, string(b), 0o600)
		d.change(t, "data: {customer: [create]}", "data: {customer: [create, transmit]}")
		out := d.run(t, "plan", "diff", old, d.plan()).want(t, 0).out
		if !strings.Contains(out, "stores.customer-01.data.customer") || !strings.Contains(out, "transmit") {
			t.Errorf("the history does not say what changed: %s", out)
		}
	})
	t.Run("INV-04 no class, and what the health marker adds", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "    class: confidential\n", "")
		d.run(t, "check").want(t, 3)
		d.has(t, "HF-L36", "error", "stores.db", "not classified")
		// A marker is no class.
		d.change(t, "    protect: database\n", "    protect: database\n    contains: [personal]\n")
		d.has(t, "HF-L36", "error", "stores.db", "not classified")
		d = newDraft(t)
		elements := []string{"164.308(a)(7)(ii)(A)", "164.308(a)(7)(ii)(B)", "164.308(a)(7)(ii)(C)", "164.308(a)(7)(ii)(D)", "164.308(a)(7)(ii)(E)"}
		d.add(t, "frameworks:\n  hipaa: {edition: \"2013\", clauses: [\""+strings.Join(elements, `", "`)+"\"], when: [health]}\n")
		if fs := d.findings(t); len(fs) != 0 {
			t.Errorf("nobody has health data: %+v", fs)
		}
		d.change(t, "    class: confidential\n", "    class: confidential\n    contains: [health]\n")
		text := ""
		for _, f := range d.findings(t) {
			if text += f.Message; !strings.Contains(f.Subject+f.Message, "hipaa") && !strings.Contains(f.Message, "HIPAA") {
				t.Errorf("the marker adds %+v, which is no check of HIPAA", f)
			}
		}
		for _, e := range elements {
			if !strings.Contains(text, e) {
				t.Errorf("the check of %s does not appear: %s", e, text)
			}
		}
		if got := ids(d.items(t, "--contains", "health")); got != "db" {
			t.Errorf("marked are %s", got)
		}
		for _, marker := range []string{"personal", "health", "industrial-control"} {
			d := newDraft(t)
			d.change(t, "    class: confidential\n", "    class: confidential\n    contains: ["+marker+"]\n")
			if got := ids(d.items(t, "--contains", marker)); got != "db" {
				t.Errorf("marked %s are %q", marker, got)
			}
		}
	})
	t.Run("INV-06 assets that are no databases", func(t *testing.T) {
		d := newDraft(t)
		const common = "owner: technical_lead, tier: support, class: internal"
		d.change(t, "stores:\n", `stores:
  source: {kind: git, git: {url: "https://git.example.com/app.git"}, `+common+`, delegated: {to: code-host}}
  infrastructure: {kind: git, git: {url: "https://git.example.com/dr.git"}, `+common+`, delegated: {to: code-host}}
  deployment: {kind: files, files: {path: /etc/deploy}, `+common+`, protect: folder}
  pictures: {kind: object, object: {endpoint: "https://s3.example.com", bucket: pictures}, `+common+`, not_protected: "thumbnails"}
  guest: {kind: vm, vm: {name: web1}, `+common+`, not_protected: "rebuilt from code"}
`)
		d.change(t, "services:\n", `services:
  api-host: {kind: host, owner: technical_lead, tier: support, needs: {guest: hard, infrastructure: hard}}
  worker: {kind: worker, owner: technical_lead, tier: support, needs: {deployment: hard, api-host: hard}}
  model: {kind: inference, owner: technical_lead, tier: support}
`)
		d.add(t, "suppliers:\n  code-host: {provides: code hosting, owner: technical_lead}\n")
		all := map[string]item{}
		for _, i := range d.items(t) {
			all[i.ID] = i
		}
		seen := map[string]string{}
		for id, kind := range map[string]string{"source": "git", "infrastructure": "git", "deployment": "files", "pictures": "object", "guest": "vm", "api-host": "host", "worker": "worker", "model": "inference"} {
			i := all[id]
			if i.Kind != kind || i.Coverage == "" || i.Wave == 0 {
				t.Errorf("%s: %+v, want kind %s, what it demands, and its place in the order", id, i, kind)
			}
			if seen[i.Coverage] != "" && seen[i.Coverage] != kind && kind != "worker" && kind != "host" {
				t.Errorf("%s and %s demand the same", kind, seen[i.Coverage])
			}
			seen[i.Coverage] = kind
		}
		if all["guest"].Wave >= all["api-host"].Wave || all["api-host"].Wave >= all["worker"].Wave {
			t.Errorf("waves: guest %d, host %d, worker %d", all["guest"].Wave, all["api-host"].Wave, all["worker"].Wave)
		}
		// Each kind has a rule that finds what is missing.
		d.has(t, "HF-L59", "warning", "services.worker.kind", "rebuilt from", "kind git")
		d.has(t, "HF-L59", "warning", "services.model.kind", "stands in")
		d.hasNot(t, "HF-L59", "services.api-host")
		d.has(t, "HF-L15", "warning", "stores.source", "code-host")
		d.change(t, "needs: {deployment: hard,", "needs: {source: hard, deployment: hard,")
		d.hasNot(t, "HF-L59", "services.worker")
	})
	t.Run("INV-08 a graph of typed needs, and nothing needed goes away", func(t *testing.T) {
		d := newDraft(t)
		d.change(t, "services:\n", "services:\n  shop: {kind: web, owner: technical_lead, tier: support, runbook: rebuild, needs: {api: hard, mail: soft, hall: hard, founder-a: soft}}\n")
		d.add(t, "suppliers:\n  mail: {provides: mail, owner: technical_lead}\nfacilities:\n  hall: {supplier: mail}\n")
		var v struct {
			Edges []struct {
				From, To, Type, Strength string
				FromKind                 string `json:"from_kind"`
				ToKind                   string `json:"to_kind"`
			}
		}
		d.run(t, "plan", "graph", "--json").want(t, 0).object(t, &v)
		var got []string
		for _, e := range v.Edges {
			got = append(got, strings.Join([]string{e.FromKind, e.From, e.Type, e.ToKind, e.To, e.Strength}, " "))
		}
		for _, want := range []string{"service api needs store db hard", "service api needs store uploads hard", "service shop needs service api hard", "service shop needs supplier mail soft",
			"service shop needs facility hall hard", "service shop needs person founder-a soft", "facility hall kept by supplier mail hard", "store db copied to location offsite soft", "service api owned by role technical_lead soft"} {
			if !slices.Contains(got, want) {
				t.Errorf("the graph lacks %q:\n%s", want, strings.Join(got, "\n"))
			}
		}
		d.change(t, "suppliers:\n  mail: {provides: mail, owner: technical_lead}\n", "")
		d.run(t, "check").want(t, 3)
		var refused []string
		for _, f := range about(d.findings(t), "HF-L25", "") {
			if f.Severity == "error" {
				refused = append(refused, f.Subject)
			}
		}
		slices.Sort(refused)
		if s := strings.Join(refused, " "); s != "facilities.hall.supplier services.shop.needs.mail" {
			t.Errorf("refused for %s, want each dependent", s)
		}
	})
}
