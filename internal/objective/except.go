package objective

import (
	"fmt"

	"holdfast"
	"holdfast/internal/plan"
)

// waivable are the postures in which there is something to waive. What somebody claims is
// as good as it will be, and what is due is not late.
var waivable = map[holdfast.Posture]bool{holdfast.PostureFailed: true, holdfast.PostureOverdue: true, holdfast.PostureUnknown: true}

// except lets the exceptions in force speak for the two objectives of a service or store.
func (k *known) except(subject string, rto, rpo *ObjectiveState) (any bool) {
	for metric, st := range map[string]*ObjectiveState{plan.MetricRTO: rto, plan.MetricRPO: rpo} {
		if w, ok := k.waivers.Of(plan.CodeMissed, subject+"."+metric, k.now); ok && waivable[st.Posture] {
			st.except(w)
			any = true
		}
	}
	return any
}

// except makes an objective excepted. What it would be without the exception stays said: it
// is that again on the day on which the exception ends.
func (st *ObjectiveState) except(w plan.Waiver) {
	if waivable[st.Posture] {
		st.Why = fmt.Sprintf("%s; without it %s: %s", w, st.Posture, st.Why)
		st.Posture = holdfast.PostureExcepted
	}
}
