package backup

import (
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// LabelNaming is the label of a snapshot that says, in the clear, since when the key is in
// use that names its chunks. The vault and everybody who reads manifests can so see whether
// epochs end as the plan says, also those of an agent.
const LabelNaming = "dedup_since"

// LabelAnew is the label that says why a snapshot's content was all stored anew, although
// there are snapshots before it.
const LabelAnew = "stored_anew"

// A Naming is the key that names the chunks of one store, and the epoch in which it does.
type Naming struct {
	Key   seal.MACKey
	Epoch string    // "" for the first
	Since time.Time // zero: not known
}

// Label records the epoch in a snapshot that begins, and says why all of its content is
// stored anew although there are snapshots before it; "" if it is not.
func (n Naming) Label(w *repo.Writer) string {
	if !n.Since.IsZero() {
		w.SetLabel(LabelNaming, n.Since.UTC().Format(time.RFC3339))
	}
	why := ""
	switch {
	case !w.Anew():
		return ""
	case n.Epoch != "":
		why = fmt.Sprintf("the key that names chunks is in use since %s, and nothing is built on what the one before named", n.Since.UTC().Format("2006-01-02 15:04Z"))
	default:
		why = "this machine does not remember what it stored for the keys that read backups now"
	}
	w.SetLabel(LabelAnew, why)
	return why
}

// telling adds to each stage of a progress why it takes as long as a first backup.
func telling(anew string, to func(holdfast.Progress)) func(holdfast.Progress) {
	if anew == "" {
		return to
	}
	return func(p holdfast.Progress) {
		p.Stage += " (all anew: " + anew + ")"
		to(p)
	}
}
