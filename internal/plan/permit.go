package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// PlaceWaived reports whether an exception in force lets something be written to a location
// that is not approved: one for the location, or for a store that goes there. It does not say
// which store may: see [Plan.Refusals].
func (p *Plan) PlaceWaived(location string, now time.Time, approved ...Waiver) bool {
	waivers := slices.Concat(p.Waivers(), approved)
	if _, ok := waivers.Of(codePlace, "locations."+location, now); ok {
		return true
	}
	return slices.ContainsFunc(waivers, func(w Waiver) bool {
		id, store := strings.CutPrefix(w.Of, "stores.")
		return store && w.Rule == codePlace && w.holds(now) && slices.Contains(p.Backups[p.Stores[id].Protect].Copies.Names(), location)
	})
}

// Refusals says why no new copy of a store may go to a location at an instant; nothing
// if it may. What lies there already may be read, proved and restored. An exception in force
// takes a refusal away: one of the plan, or one of those that were approved since. It is about
// what the finding is about, or about the store: then it lets this store alone go there.
func (p *Plan) Refusals(store, location string, now time.Time, approved ...Waiver) (out []holdfast.Finding) {
	subject := "locations." + location
	waivers := slices.Concat(p.Waivers(), approved)
	loc, ok := p.Locations[location]
	if !ok {
		return nil // whoever opens it says so
	}
	refuse := func(code, subject, hint, format string, args ...any) {
		_, there := waivers.Of(code, subject, now)
		_, this := waivers.Of(code, "stores."+store, now)
		if !there && !this {
			out = append(out, holdfast.Finding{Code: code, Severity: holdfast.SeverityError, Subject: subject, Message: fmt.Sprintf(format, args...), Hint: hint})
		}
	}
	if a := p.Repository.Approved; a != nil {
		if why := p.Unapproved(location); why != "" {
			refuse(codePlace, subject, "use an approved place, or have this one approved under repository.approved", "nothing is written to a place that is not approved: %s", why)
		}
		if over := now.Sub(Date{a.Until.Year, a.Until.Month, a.Until.Day + 1}.Begin(p.Location())); !a.Until.IsZero() && over > 0 {
			refuse(codeLapsed, "repository.approved.until", "look at the places again, and write the next day", "nothing new goes to a place whose approval is over: that of %q, as of all, ended with %s", location, a.Until)
		}
	}
	for _, rule := range sorted(p.Residency) {
		r := p.Residency[rule]
		if len(r.Of) > 0 && !slices.Contains(r.Of, store) || len(r.When) > 0 && !p.marked(store, r.When) {
			continue
		}
		for _, x := range []struct {
			field, is string
			may       []string
		}{{"region", loc.Region, r.Regions}, {"jurisdiction", loc.Jurisdiction, r.Jurisdictions}} {
			if len(x.may) > 0 && x.is != "" && !slices.Contains(x.may, x.is) {
				refuse(codeResidency, subject, fmt.Sprintf("use another location, change residency.%s, or have an exception approved", rule),
					"nothing goes where it may not lie: %q is in %s %q, and %q allows %q only %s", location, x.field, x.is, rule, store, strings.Join(x.may, ", "))
			}
		}
	}
	return out
}
