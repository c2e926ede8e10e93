package app

import (
	"context"
	"maps"
	"path/filepath"
	"slices"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/source"
)

// What asking finds beside what the adapters find themselves.
const (
	codeStore    = "HF-A1" // a store cannot be opened as the plan describes it
	codeLocation = "HF-A2" // no repository of this plan is within reach at a location
)

// Ask looks at the stores and locations of a plan as they are now, and returns what
// keeps them from being protected and written as planned, and what stands beside them
// that the plan does not know. It changes nothing, and
// needs no state and no key.
func Ask(ctx context.Context, p *plan.Plan, opt Options) []holdfast.Finding {
	var out []holdfast.Finding
	for _, id := range slices.Sorted(maps.Keys(p.Stores)) {
		st, err := OpenStore(p, id, filepath.Join(opt.Workspace.spool(), id), opt)
		if err != nil {
			out = append(out, finding(codeStore, "stores."+id, err, "mend what the plan says of this store"))
			continue
		}
		out = append(out, st.Check(ctx)...)
	}
	around, _ := discover(ctx, p, func(id string) (source.Store, error) {
		return OpenStore(p, id, filepath.Join(opt.Workspace.spool(), id), opt)
	})
	out = append(out, around...)
	places := NewPlaces(p)
	for _, name := range slices.Sorted(maps.Keys(p.Locations)) {
		if _, err := places.Open(ctx, name); err != nil {
			out = append(out, finding(codeLocation, "locations."+name, err, "\"holdfast location init "+name+"\" makes the repository of a new location"))
		}
	}
	return out
}

func finding(code, subject string, err error, otherwise string) holdfast.Finding {
	hint := holdfast.Hint(err)
	if hint == "" {
		hint = otherwise
	}
	return holdfast.Finding{Code: code, Severity: holdfast.SeverityError, Subject: subject, Message: holdfast.Sentence(err), Hint: hint}
}
