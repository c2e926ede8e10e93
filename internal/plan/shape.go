package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/calendar"
)

// shape checks what fields mean together, where the form alone does not show it.
// Whether promises can be kept is the question of Check.
func (d *decoder) shape(p *Plan) {
	for id, b := range p.Backups {
		d.retention("backups."+id, b)
	}
	for id, c := range p.Classes {
		d.class("classes."+id, c)
	}
	for id, s := range p.Services {
		d.bia("services."+id+".bia", s.BIA)
		for name, any := range s.AnyOf {
			path := "services." + id + ".any_of." + name
			if any.AtLeast < 0 || any.AtLeast > len(any.Of) {
				d.complainAt(codeValue, path+".at_least", fmt.Sprintf("write a number from 1 to %d", len(any.Of)), "%q needs %d of %d", path, any.AtLeast, len(any.Of))
			}
		}
	}
	for id, sc := range p.Scenarios {
		for i, lose := range sc.Lose {
			path := fmt.Sprintf("scenarios.%s.lose[%d]", id, i)
			kind, what, has := strings.Cut(lose, ":")
			if has && !slices.Contains(Losses, kind) {
				d.complainAt(codeValue, path, suggest(kind, Losses), "%q is not a kind of thing that can be lost", kind)
			} else if has && what == "" && kind != "control-plane" {
				d.complainAt(codeEmpty, path, fmt.Sprintf("write %q", kind+":name"), "%q does not say which %s", lose, kind)
			}
		}
	}
	for id, r := range p.Risks {
		for _, f := range []struct {
			key string
			n   int
		}{{"likelihood", r.Likelihood}, {"impact", r.Impact}} {
			path := "risks." + id + "." + f.key
			if _, said := d.pos[path]; said && (f.n < 1 || f.n > 5) {
				d.complainAt(codeValue, path, "write a number from 1, hardly, to 5", "%d is not between 1 and 5", f.n)
			}
		}
	}
	for id, a := range p.Approvals {
		path := "approvals." + id
		if a.People < 0 || len(a.Roles) == 0 && a.People == 0 {
			d.complainAt(codeValue, path, "write roles: [owner], or people: 2", "%q does not say who approves", path)
		}
	}
	for id, s := range p.Stores {
		path, limit := "", 0
		switch {
		case s.Files != nil:
			path, limit = "stores."+id+".files.read_mb_per_second", s.Files.ReadMBPerSecond
		case s.Postgres != nil:
			path, limit = "stores."+id+".postgres.read_mb_per_second", s.Postgres.ReadMBPerSecond
		}
		if limit < 0 {
			d.complainAt(codeValue, path, "write a number of megabytes, or leave it away for no limit", "%q is less than nothing", path)
		}
	}
	if e := p.Repository.DedupEpoch; !e.IsZero() && e.Approx() < 24*time.Hour {
		d.complainAt(codeValue, "repository.dedup_epoch", "write 1d or longer; 1y is usual", "an epoch of %s would store all content anew all the time", e)
	}
	for id, e := range p.Exceptions {
		d.span("exceptions."+id, e.From, e.Until)
	}
	for id, h := range p.Holds {
		d.span("holds."+id, h.From, h.Until)
	}
	for id, c := range p.Customers {
		d.span("customers."+id, c.From, c.Until)
	}
	for i := 1; i < len(p.Plan.History); i++ {
		if p.Plan.History[i].On.before(p.Plan.History[i-1].On) {
			d.complainAt(codeValue, fmt.Sprintf("plan.history[%d].on", i), "write the editions in the order of their days",
				"edition %q of %s stands after one of %s", p.Plan.History[i].Version, p.Plan.History[i].On, p.Plan.History[i-1].On)
		}
	}
}

// class refuses bounds that no time can meet.
func (d *decoder) class(path string, c Class) {
	switch {
	case !c.KeepMin.IsZero() && !c.KeepMax.IsZero() && c.KeepMin.Approx() > c.KeepMax.Approx():
		d.complainAt(codeValue, path+".keep_max", "swap the two, or raise keep_max", "%q keeps at least %s and at most %s", path, c.KeepMin, c.KeepMax)
	case !c.StandardRetention.IsZero() && (c.StandardRetention.Approx() < c.KeepMin.Approx() || sooner(c.KeepMax, c.StandardRetention)):
		d.complainAt(codeValue, path+".standard_retention", "write a time within keep_min and keep_max", "the standard of %q lies outside its own bounds", path)
	}
}

// span refuses what ends before it begins.
func (d *decoder) span(path string, from, until Date) {
	if !from.IsZero() && !until.IsZero() && until.before(from) {
		d.complainAt(codeValue, path+".until", "swap the two days", "%q ends on %s, before it begins on %s", path, until, from)
	}
}

func (d *decoder) retention(path string, b Backup) {
	r := b.Retention
	if r == nil {
		return
	}
	at := path + ".retention"
	bounded := !r.Min.IsZero() || !r.Max.IsZero()
	switch {
	case !r.Exact.IsZero() && bounded:
		d.complainAt(codeValue, at+".exact", "keep exact, or min and max", "%q is exact and has bounds", at)
	case !r.Exact.IsZero() && !b.Keep.IsZero() && b.Keep != r.Exact:
		d.complainAt(codeValue, path+".keep", "remove it, or write the same", "snapshots are kept for %s, and %q says exactly %s", b.Keep, at, r.Exact)
	case !r.Min.IsZero() && !r.Max.IsZero() && r.Min.Approx() > r.Max.Approx():
		d.complainAt(codeValue, at+".max", "swap the two, or raise the max", "%q keeps at least %s and at most %s", at, r.Min, r.Max)
	case !b.Keep.IsZero() && b.Keep.Approx() < r.Min.Approx():
		d.complainAt(codeValue, path+".keep", fmt.Sprintf("write keep: %s or longer", r.Min), "snapshots are kept for %s, and %q demands %s", b.Keep, at, r.Min)
	case !b.Keep.IsZero() && !r.Max.IsZero() && b.Keep.Approx() > r.Max.Approx():
		d.complainAt(codeValue, path+".keep", fmt.Sprintf("write keep: %s or shorter", r.Max), "snapshots are kept for %s, and %q allows %s", b.Keep, at, r.Max)
	}
}

// bia checks the keys and levels of an impact analysis.
func (d *decoder) bia(path string, b *BIA) {
	if b == nil {
		return
	}
	if b.Tolerable < 0 || b.Tolerable > MaxImpact {
		d.complainAt(codeValue, path+".tolerable", fmt.Sprintf("write a level from 1 to %d", MaxImpact), "%d is not a level of impact", b.Tolerable)
	}
	for key, m := range map[string]map[string]Impact{"impact": b.Impact, "loss_impact": b.LossImpact} {
		for after, i := range m {
			at := path + "." + key + "." + after
			if _, err := calendar.ParsePeriod(after); err != nil {
				d.complainAt(codeValue, at, periodHint, "%q is not how long an outage lasts", after)
			}
			if i.Level < 0 || i.Level > MaxImpact {
				d.complainAt(codeValue, at+".level", fmt.Sprintf("write a level from 0 to %d", MaxImpact), "%d is not a level of impact", i.Level)
			}
		}
	}
}
