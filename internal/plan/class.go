package plan

import "fmt"

// A Class says how long copies of data of one class may and must be kept, whichever
// backup makes them. Stores name it by "class". The bounds hold for what is stored
// already: the vault asks the plan each time it prunes, and writes nothing anew.
type Class struct {
	Text  string `yaml:"text"`  // what belongs to it
	Owner string `yaml:"owner"` // the role or person who answers for copies that are kept too long
	// KeepMin is how long a copy is kept at least, also where its backup keeps less.
	KeepMin Period `yaml:"keep_min"`
	// KeepMax is when a copy must be gone. A hold keeps it all the same, and so does
	// what always stays: the newest copy, the last proven one, the base of a log.
	KeepMax Period `yaml:"keep_max"`
	// StandardRetention takes the place of the repository's for this class.
	StandardRetention Period `yaml:"standard_retention"`
}

// ClassOf returns the declared class of a store's data, if it is declared.
func (p *Plan) ClassOf(store string) (Class, bool) {
	c, ok := p.Classes[p.Stores[store].Class]
	return c, ok
}

// Kept returns how long every snapshot of a store is kept, at least and at most: by its
// backup, within the bounds of its class. A zero period is no bound.
//
// Where the two contradict each other, which Check finds, the class wins: its minimum
// over a shorter maximum of the backup, its maximum over a longer time.
func (p *Plan) Kept(store string) (least, most Period) {
	least, most = p.Backups[p.Stores[store].Protect].Kept()
	c, ok := p.ClassOf(store)
	if !ok {
		return least, most
	}
	if !least.IsZero() && c.KeepMin.Approx() > least.Approx() {
		least = c.KeepMin
	}
	if !c.KeepMax.IsZero() && (most.IsZero() || c.KeepMax.Approx() < most.Approx()) {
		most = c.KeepMax
	}
	if !most.IsZero() && c.KeepMin.Approx() > most.Approx() {
		most = c.KeepMin
	}
	if !most.IsZero() && least.Approx() > most.Approx() {
		least = most
	}
	return least, most
}

// standard returns how long the policy keeps copies of a store where nothing else is
// justified, and the path that says so. Zero: the policy has no standard.
func (p *Plan) standard(store string) (want Period, path string) {
	if c, ok := p.ClassOf(store); ok && !c.StandardRetention.IsZero() {
		return c.StandardRetention, "classes." + p.Stores[store].Class + ".standard_retention"
	}
	return p.Repository.StandardRetention, "repository.standard_retention"
}

// classes compares how long a store's backup keeps its copies with the class of its data
// and with the standard of the policy.
func (l *linter) classes() {
	p := l.p
	unjustified := map[string]bool{}
	for _, id := range l.stores {
		s := p.Stores[id]
		b, ok := p.Backups[s.Protect]
		if !ok {
			continue
		}
		at := "backups." + s.Protect
		l.classBounds(id, at, b)
		want, from := p.standard(id)
		least, most := b.Kept()
		if !most.IsZero() && (least.IsZero() || most.Approx() < least.Approx()) {
			least = most
		}
		if want.IsZero() || least.Approx() == want.Approx() || b.Retention != nil && b.Retention.Why != "" || unjustified[at+want.String()] {
			continue
		}
		unjustified[at+want.String()] = true // several stores of one backup lack one reason
		length, kept := "shorter", fmt.Sprintf("keeps %s", least)
		if least.IsZero() {
			length, kept = "longer", "never deletes"
		} else if least.Approx() > want.Approx() {
			length = "longer"
		}
		path := at + ".keep"
		if b.Keep.IsZero() {
			path = at
			if b.Retention != nil {
				path += ".retention"
			}
		}
		l.fail(codeKeeping, path, fmt.Sprintf("write keep: %s, or say why by %s.retention: {why: …}", want, at),
			"the backup %q of %q %s, which is %s than the %s of %s, and nothing says why", s.Protect, id, kept, length, want, from)
	}
}

// classBounds compares a backup with the bounds of the class of a store that it protects.
func (l *linter) classBounds(id, at string, b Backup) {
	s := l.p.Stores[id]
	c, ok := l.p.ClassOf(id)
	if !ok {
		return
	}
	least, most := b.Kept()
	path := "classes." + s.Class
	if !most.IsZero() && most.Approx() < c.KeepMin.Approx() || !least.IsZero() && least.Approx() < c.KeepMin.Approx() {
		short := least
		if !most.IsZero() && (short.IsZero() || most.Approx() < short.Approx()) {
			short = most
		}
		l.fail(codeKeeping, path+".keep_min", fmt.Sprintf("write %s.keep: %s or longer, or protect %q by another backup", at, c.KeepMin, id),
			"data of class %q is kept for at least %s, and the backup %q of %q keeps %s; the vault keeps it for %s", s.Class, c.KeepMin, s.Protect, id, short, c.KeepMin)
	}
	if !c.KeepMax.IsZero() && least.Approx() > c.KeepMax.Approx() {
		l.fail(codeKeeping, path+".keep_max", fmt.Sprintf("write %s.keep: %s or shorter, or protect %q by another backup", at, c.KeepMax, id),
			"data of class %q is kept for at most %s, and the backup %q of %q keeps %s; the vault deletes after %s", s.Class, c.KeepMax, s.Protect, id, least, c.KeepMax)
	}
	for _, name := range b.Copies.Names() {
		if s3 := l.p.Locations[name].S3; s3 != nil && !c.KeepMax.IsZero() && s3.Lock.Approx() > c.KeepMax.Approx() {
			l.fail(codeKeeping, path+".keep_max", fmt.Sprintf("write %s.s3.lock: %s or shorter, or keep class %q elsewhere", "locations."+name, c.KeepMax, s.Class),
				"data of class %q must be gone after %s, and %q locks each copy of %q for %s", s.Class, c.KeepMax, name, id, s3.Lock)
		}
	}
}

// byClass judges a change of a class, or of the class of a store, by what it does to the
// copies of each store that it touches: sooner gone is weaker.
func byClass(p pair) (Effect, string) {
	if c, ok := p.old.(Class); ok && p.removed() && !c.KeepMin.IsZero() {
		return Weaker, "such data may go sooner"
	}
	longer := false
	for _, id := range sorted(p.d.old.Stores) {
		s, ok := p.d.new.Stores[id]
		_, protected := p.d.new.Backups[s.Protect]
		if !ok || !protected || p.d.old.Stores[id].Protect == "" {
			continue
		}
		if p.at[0] == "stores" && p.at[1] != id || p.at[0] == "classes" && s.Class != p.at[1] && p.d.old.Stores[id].Class != p.at[1] {
			continue
		}
		least, most := p.d.old.Kept(id)
		nowLeast, nowMost := p.d.new.Kept(id)
		if sooner(nowLeast, least) || sooner(nowMost, most) {
			return Weaker, fmt.Sprintf("copies of %q go sooner", id)
		}
		longer = longer || sooner(least, nowLeast) || sooner(most, nowMost)
	}
	return verdict(false, longer)
}

// classMin judges a minimum, which also bounds what a later plan may keep.
func classMin(p pair) (Effect, string) {
	if effect, why := byClass(p); effect == Weaker {
		return effect, why
	}
	return lengths(p, false)
}

// sooner reports whether a term ends before another one; none lasts for ever.
func sooner(a, b Period) bool { return !a.IsZero() && (b.IsZero() || a.Approx() < b.Approx()) }
