package govern

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/db"
)

// An ObjectiveApproval says whether the objectives of a service or store, as they are
// now, were approved by those who must.
type ObjectiveApproval struct {
	Subject  string   `json:"subject"` // "stores.db"
	Values   []string `json:"values"`
	Approved bool     `json:"approved"`
	By       []string `json:"by"` // who must
	Why      string   `json:"why"`
}

// Approvals judges the objectives of all services and stores. An approval is of values:
// others need another one. What the plan itself says under approved_by counts too, if
// those are enough different people.
func (m *Module) Approvals(ctx context.Context) (out []ObjectiveApproval, err error) {
	p := m.cfg.Plan()
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		out = nil
		for _, w := range approvals(p) {
			a := ObjectiveApproval{Subject: w.subject, Values: w.items, By: w.by, Why: "nobody agreed"}
			d, ok, err := m.last(ctx, tx, w.name)
			if err != nil {
				return err
			}
			_, node, _ := strings.Cut(w.subject, ".")
			switch in := declaredBy(p, node); {
			case ok && slices.Equal(d.Items, w.items):
				a.Approved, a.Why = true, d.Proof
			case in != nil && enough(p, w.by, w.people, in):
				a.Approved, a.Why = true, "the plan names "+list(in)
			case ok:
				a.Why = fmt.Sprintf("other values were approved: %s", list(d.Items))
			default:
				if open, err := m.find(ctx, tx, w.name); err == nil && len(open.Signatures) > 0 {
					a.Why = "only " + list(signers(open.Signatures)) + " agreed"
				}
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}
