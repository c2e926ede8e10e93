package objective

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// Three drills and one incident: declared, composed, drilled and seen, each by itself, with n and
// age; and the drill of last month is judged by the plan of last month.
func TestValuesAreNeverMerged(t *testing.T) {
	text := string(plan.Template(plan.Values{Unattended: true}))
	old := parse(t, text)
	now := parse(t, strings.Replace(text, "critical: {rto: 4h", "critical: {rto: 2m", 1))
	f := healthy()
	f.Versions = []Version{{From: ago(90 * 24 * time.Hour), Plan: old}, {From: ago(24 * time.Hour), Plan: now}}
	f.Proofs = nil
	for i, minutes := range []int{3, 4, 9} {
		x := restoreProof("db", minutes)
		x.ID, x.At = fmt.Sprint(i+1), ago(time.Duration(30-10*i)*24*time.Hour-time.Hour)
		f.Proofs = append(f.Proofs, x)
	}
	f.Proofs[2].At = ago(time.Hour)
	parts := holdfast.Parts{}
	for _, name := range holdfast.PartNames {
		parts = append(parts, holdfast.Part{Name: name, Duration: time.Minute, Basis: holdfast.Measured})
	}
	f.Proofs = append(f.Proofs, Proof{Kind: ProofIncident, ID: "INC-3", Store: "db", At: ago(48 * time.Hour), Outcome: holdfast.Passed, Parts: parts})
	rto := Look(now, f).Stores[0].RTO
	if len(rto.Values) != 4 {
		t.Fatalf("%+v", rto.Values)
	}
	drill, incident := rto.Values[2], rto.Values[3]
	if rto.Values[0].From != "declared" || rto.Values[1].From != "composed" || rto.Values[0].Latest.Duration() != 2*time.Minute {
		t.Errorf("%+v", rto.Values[:2])
	}
	if drill.N != 3 || drill.Latest.Duration() != 9*time.Minute || drill.Worst != drill.Latest || drill.Trend != "worse" || drill.Source != "drill 3" || drill.Age.Duration() != time.Hour {
		t.Errorf("%+v", drill)
	}
	if incident.N != 1 || incident.Latest.Duration() != 7*time.Minute || incident.Source != "incident INC-3" || incident.Trend != "" {
		t.Errorf("%+v", incident)
	}
	if len(rto.History) != 4 {
		t.Fatalf("%+v", rto.History)
	}
	for i, want := range []struct {
		source  string
		verdict Verdict
		p       *plan.Plan
	}{{"drill 3", Over, now}, {"incident INC-3", Within, old}, {"drill 2", Within, old}, {"drill 1", Within, old}} {
		if j := rto.History[i]; j.Source != want.source || j.Verdict != want.verdict || j.Digest != want.p.Digest() {
			t.Errorf("%d: %+v, want %v", i, j, want)
		}
	}
}

// A proof ends by a change of what it proved, and by nothing else.
func TestProofEndsByChange(t *testing.T) {
	text := string(plan.Template(plan.Values{Unattended: true}))
	old := parse(t, text)
	for _, tt := range []struct {
		old, new string
		ended    string
	}{
		{"keep: 30d", "keep: 31d", ""},
		{"encrypt_to: [key-a, key-b]", "encrypt_to: [key-a]", "the keys changed since"},
		{"user=holdfast", "user=backup", "the store is declared differently since"},
		{"log: {max_lag: 1m}        # the transaction log in between, continuously\n    copies: [near, offsite]", "log: {max_lag: 1m}\n    copies: [offsite]", `location "near" holds no copies of it any more`},
		{`path: "backups/near"`, `path: "backups/nearer"`, `location "near" is declared differently since`},
	} {
		if !strings.Contains(text, tt.old) {
			t.Fatalf("the template does not say %q", tt.old)
		}
		now := parse(t, strings.Replace(text, tt.old, tt.new, 1))
		f := healthy()
		f.Proofs[0].Location = "near"
		f.Versions = []Version{{From: ago(90 * 24 * time.Hour), Plan: old}, {From: ago(time.Hour), Plan: now}}
		rpo := Look(now, f).Stores[0].RPO
		if ended := rpo.Posture == holdfast.PostureOverdue; ended != (tt.ended != "") || !strings.Contains(rpo.Why, tt.ended) {
			t.Errorf("%q: %s: %s", tt.new, rpo.Posture, rpo.Why)
		}
	}
}

func TestStagesStandAlone(t *testing.T) {
	p := parse(t, `apiVersion: holdfast/v1
plan: {id: x}
tiers:
  vm: {rto: {stages: {back: {target: 24h, max: 48h}, near: {max: 24h, from: back}, normal: {max: 24h}}}}
services: {vm: {tier: vm}}
`)
	o, _, _ := p.ObjectiveOf("vm")
	h := time.Hour
	for _, tt := range []struct {
		at   Instants
		want string
	}{
		{Instants{Usable: 20 * h, Whole: 30 * h, Normal: 80 * h}, "within within over"},
		{Instants{Usable: 30 * h, Whole: 54 * h, Normal: 78 * h}, "inside limit within within"},
		{Instants{Usable: 50 * h, Whole: 51 * h}, "over within unknown"},
		{Instants{}, "unknown unknown unknown"},
		// What goes on is no miss before its limit, and one from there on; what has not begun cannot be late.
		{Instants{Usable: 20 * h, Now: 40 * h}, "within unknown unknown"},
		{Instants{Usable: 20 * h, Now: 45 * h}, "within over unknown"},
	} {
		var got []string
		for _, s := range Stages(o, plan.ClockDisruption, tt.at) {
			got = append(got, string(s.Verdict))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %s, want %s", tt.at, strings.Join(got, " "), tt.want)
		}
	}
}

// A stage that asks for a level of service ends when that was measured, not before; what nothing measures
// is unknown, and no time makes it a miss.
func TestStagesWithLevels(t *testing.T) {
	p := parse(t, `apiVersion: holdfast/v1
plan: {id: x}
tiers:
  vm: {rto: {stages: {back: {max: 4h}, normal: {max: 24h, level: "99%"}}}}
services: {vm: {tier: vm}}
`)
	o, _, _ := p.ObjectiveOf("vm")
	h := time.Hour
	for _, tt := range []struct {
		at   Instants
		want string
	}{
		{Instants{Usable: 2 * h, Normal: 3 * h, Now: 5 * h, Levels: map[string]LevelSeen{"normal": {}}}, "done unfinished unknown"},
		{Instants{Usable: 2 * h, Normal: 3 * h, Now: 27 * h, Levels: map[string]LevelSeen{"normal": {Seen: "97 of 100"}}}, "done unfinished over"},
		{Instants{Usable: 2 * h, Normal: 3 * h, Now: 50 * h, Levels: map[string]LevelSeen{"normal": {At: 20 * h}}}, "done done within"},
		{Instants{Usable: 2 * h, Normal: 27 * h, Now: 50 * h, Levels: map[string]LevelSeen{"normal": {At: 20 * h}}}, "done done over"},
		{Instants{Usable: 2 * h, Normal: 3 * h, Now: 50 * h}, "done unknown unknown"},
		{Instants{Usable: 2 * h, Normal: 3 * h, Foreseen: true}, "done done within"},
	} {
		got := Stages(o, plan.ClockDisruption, tt.at)
		if s := string(got[0].State) + " " + string(got[1].State) + " " + string(got[1].Verdict); s != tt.want {
			t.Errorf("%+v: %s, want %s: %+v", tt.at, s, tt.want, got)
		}
	}
	st := ObjectiveState{Posture: holdfast.PostureProved, Stages: Stages(o, plan.ClockDisruption, Instants{Usable: 2 * h, Normal: 27 * h, Now: 50 * h, Levels: map[string]LevelSeen{"normal": {At: 20 * h}}})}
	late(&st)
	if st.Posture != holdfast.PostureFailed || !strings.Contains(st.Why, "back 2h of 4h, within; normal") {
		t.Errorf("%s: %s", st.Posture, st.Why)
	}
}
