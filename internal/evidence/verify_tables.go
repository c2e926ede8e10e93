package evidence

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// plans checks that the plans of the pack are those that it names. Slots are
// derived from them, so a weaker plan slipped in would hide missing work: the facts
// name the plan in force by its digest, and the log cannot be changed.
func (v *verifier) plans() {
	if !v.known {
		return
	}
	if len(v.pack.Plans) > MaxFiles {
		v.bad(codeLimit, fileInfo, "it names %d plans, at most %d", len(v.pack.Plans), MaxFiles)
		return
	}
	known := map[string]bool{"": true}
	for i, p := range v.pack.Plans {
		text, ok := v.files[p.File]
		if !ok {
			v.bad(codeMissingFile, clip(p.File), "the plan %s is not there", p.Digest)
			continue
		}
		if "sha256:"+sha(text) != p.Digest {
			v.bad(codePlan, p.File, "its text is not the plan %s", p.Digest)
		}
		if i > 0 && p.From.Before(v.pack.Plans[i-1].From) {
			v.bad(codePlan, fileInfo, "the plans are not in the order in which they came into force")
		}
		known[p.Digest] = true
		v.plan = append(v.plan, Plan{Text: text, Digest: p.Digest, From: p.From})
	}
	if len(v.plan) == 0 {
		v.bad(codePlan, fileInfo, "it names no plan")
		return
	}
	foreign := map[string][]int64{}
	for _, f := range v.facts {
		if !known[f.Plan] && !f.At.Before(v.pack.From) && f.At.Before(v.pack.To) {
			foreign[f.Plan] = append(foreign[f.Plan], f.Index)
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(foreign)) {
		v.find(codeForeignPlan, holdfast.SeverityError, filePlan, "ask for that version of the plan, and whether it expected other work",
			"%d facts of the period, first %d, name the plan in force as %s, which is not in the pack", len(foreign[digest]), foreign[digest][0], clip(digest))
	}
}

// tables checks the lists against the log and the plans, since whoever holds the
// evidence key could sign other lists.
func (v *verifier) tables() {
	if !v.known {
		return
	}
	if v.signed {
		want := factsTable(v.facts, v.pack.From, v.pack.To)
		v.report.InPeriod = len(want.rows)
		if got, ok := v.files[fileFacts]; ok && !bytes.Equal(got, want.bytes()) {
			v.bad(codeTable, fileFacts, "it does not list the facts of the log in the period")
		}
		if v.pack.InPeriod != len(want.rows) {
			v.bad(codeTable, fileInfo, "it says %d facts in the period, the log has %d", v.pack.InPeriod, len(want.rows))
		}
	}
	v.slots()
	v.proofs(filePosture, postureColumns, 2)
	v.proofs(fileControls, controlColumns, 3)
	v.populations()
}

// slots compares what the plans expected with what came of it.
func (v *verifier) slots() {
	b, ok := v.files[fileSlots]
	if !ok {
		return
	}
	slots, err := readSlots(b)
	if err != nil {
		v.bad(codeTable, fileSlots, "%v", err)
		return
	}
	listed := map[slotKey]bool{}
	for _, s := range slots {
		listed[keyOf(s)] = true
	}
	expected, err := expectedSlots(v.plan, v.pack.From, v.pack.To)
	if err != nil {
		v.find(codePlan, holdfast.SeverityError, filePlan, "verify it with the version of holdfast that made the pack: pack.json names it", "%v", err)
	}
	for _, s := range expected {
		if !listed[keyOf(s)] {
			v.bad(codeSlotMissing, s.Schedule, "the plan expected it at %s and the list leaves it out", stamp(s.Due))
		}
	}
	if len(slots) == 0 {
		v.find(codeNothing, holdfast.SeverityWarning, fileSlots, "check that the plan has backups and drills, and that the period is the right one",
			"no work was expected in this period, so nothing is proved by it")
	}
	type group struct {
		schedule string
		state    State
	}
	bad, bare := map[group][]Slot{}, map[string][]Slot{}
	for _, s := range slots {
		v.report.Slots[s.State]++
		switch s.State {
		case Expected, Started:
		case Done:
			if !v.hasFact(s.Fact) {
				bare[s.Schedule] = append(bare[s.Schedule], s)
			}
		case Failed, Missed, Missing:
			bad[group{s.Schedule, s.State}] = append(bad[group{s.Schedule, s.State}], s)
		default:
			v.bad(codeTable, fileSlots, "state %s is not known", clip(string(s.State)))
		}
	}
	for schedule, all := range bare {
		v.find(codeUnproven, holdfast.SeverityError, schedule, "ask for the facts, or count the slots as not done",
			"%d slots are called done and name no fact of this pack, first %s", len(all), stamp(all[0].Due))
	}
	for g, all := range bad {
		code := codeSlotMissed
		if g.state == Failed {
			code = codeSlotFailed
		}
		v.find(code, holdfast.SeverityError, g.schedule, "ask what was done about it: an incident, an action or an exception should say",
			"%d slots are %s, first %s, last %s", len(all), g.state, stamp(all[0].Due), stamp(all[len(all)-1].Due))
	}
}

// hasFact reports whether the text of the fact is in the pack.
func (v *verifier) hasFact(index int64) bool {
	_, found := slices.BinarySearchFunc(v.facts, index, func(f ledger.Fact, i int64) int { return cmp.Compare(f.Index, i) })
	return found
}

// proofs checks that what is called proved names facts of this log.
func (v *verifier) proofs(file string, columns []string, posture int) {
	b, ok := v.files[file]
	if !ok {
		return
	}
	rows, err := readTable(b, columns)
	if err != nil {
		v.bad(codeTable, file, "%v", err)
		return
	}
	for _, r := range rows {
		subject, cited := r[0]+" "+r[1], strings.Fields(r[len(r)-1])
		for _, c := range cited {
			if n, err := strconv.ParseInt(c, 10, 64); err != nil || n < 0 || n >= v.pack.Size {
				v.bad(codeTable, file, "%s rests on fact %s, which the log does not have", subject, clip(c))
			}
		}
		if len(cited) == 0 && holdfast.Posture(r[posture]) == holdfast.PostureProved {
			v.find(codeUnproven, holdfast.SeverityError, subject, "ask on what it rests, or count it as unknown", "it is called proved and names no fact")
		}
	}
}

func (v *verifier) populations() {
	b, ok := v.files[filePopulations]
	if !ok {
		return
	}
	rows, err := readTable(b, populationColumns)
	if err != nil {
		v.bad(codeTable, filePopulations, "%v", err)
		return
	}
	listed := map[string]bool{}
	for _, r := range rows {
		listed[r[0]] = true
		text, ok := v.files[r[0]]
		if !ok {
			v.bad(codeMissingFile, clip(r[0]), "the list of populations names it")
			continue
		}
		if sha(text) != r[6] || r[4] != sha([]byte(r[3])) {
			v.bad(codeTable, r[0], "it is not the population that the list names")
		}
		got, err := readTable(text, nil)
		if err == nil && strconv.Itoa(len(got)) != r[1] {
			err = fmt.Errorf("%d rows, the list says %s", len(got), clip(r[1]))
		}
		if err != nil {
			v.bad(codeTable, r[0], "%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if strings.HasPrefix(name, "populations/") && !listed[name] {
			v.bad(codeExtraFile, name, "the list of populations does not name it")
		}
	}
}
