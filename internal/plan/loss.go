package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// A Loss is one thing that is lost, as scenarios and "simulate --lose" name it:
// "region:eu-1". Its kind is one of [Losses].
type Loss struct{ Kind, Name string }

// String returns "region:eu-1".
func (l Loss) String() string {
	if l.Name == "" {
		return l.Kind
	}
	return l.Kind + ":" + l.Name
}

// LossControlPlane is the loss of Holdfast's own server and state.
const LossControlPlane = "control-plane"

// ParseLoss reads "region:eu-1", and "near" as the location of that name. What the
// plan does not know is a usage error that names the nearest.
func (p *Plan) ParseLoss(s string) (Loss, error) {
	kind, name, has := strings.Cut(s, ":")
	if !has && kind != LossControlPlane {
		kind, name = "location", s
	}
	l := Loss{kind, name}
	if !slices.Contains(Losses, kind) {
		return l, holdfast.WithHint(fmt.Errorf("%q is not a kind of thing that can be lost: %w", kind, holdfast.ErrUsage), "%s", suggest(kind, Losses))
	}
	if kind == LossControlPlane {
		l.Name = ""
		return l, nil
	}
	known := p.losable(kind)
	if !slices.Contains(known, name) {
		return l, holdfast.WithHint(fmt.Errorf("the plan knows no %s %q: %w", kind, name, holdfast.ErrUsage), "%s", suggest(name, known))
	}
	return l, nil
}

// losable returns the names of a kind that the plan knows, in order.
func (p *Plan) losable(kind string) []string {
	set := map[string]bool{}
	add := func(names ...string) {
		for _, n := range names {
			if n != "" {
				set[n] = true
			}
		}
	}
	switch kind {
	case "person":
		return sorted(p.People)
	case "credential":
		add(sorted(p.Credentials)...)
		for _, l := range p.Locations {
			add(l.Credential)
		}
	case "key":
		return sorted(p.Keys)
	case "location":
		return sorted(p.Locations)
	case "service":
		return sorted(p.Services)
	case "store":
		return sorted(p.Stores)
	case "supplier":
		return sorted(p.Suppliers)
	case "facility":
		return sorted(p.Facilities)
	case "host":
		add(HostDomain)
		for _, l := range p.Locations {
			add(l.DomainOr())
		}
	case "domain", "site":
		add(HostDomain)
		for _, l := range p.Locations {
			add(l.DomainOr(), l.Facility)
		}
		add(sorted(p.Facilities)...)
	case "region":
		for _, l := range p.Locations {
			add(l.Region)
		}
		for _, s := range p.Stores {
			add(s.Region)
		}
		for _, s := range p.Services {
			add(s.Regions...)
		}
		for _, s := range p.Suppliers {
			add(s.Regions...)
		}
		for _, f := range p.Facilities {
			add(f.Region)
		}
	case "provider":
		for _, l := range p.Locations {
			add(l.Provider)
		}
	case "account":
		for _, l := range p.Locations {
			add(l.Account)
		}
	}
	return sorted(set)
}

// Losable returns what the plan knows that can be lost, without single services and
// stores: this host, then places, those who run them, people, and what they hold. What
// takes the same things along as an earlier one is left out, so that a domain with one
// location is not counted as that location again.
func (p *Plan) Losable() []Loss {
	var out []Loss
	seen := map[string]bool{}
	look := []Loss{{"host", HostDomain}}
	for _, kind := range []string{"location", "facility", "domain", "region", "provider", "account", "supplier", "person", "credential", "key"} {
		for _, name := range p.losable(kind) {
			look = append(look, Loss{kind, name})
		}
	}
	for _, l := range append(look, Loss{LossControlPlane, ""}) {
		if key := p.Falls(l).key(); !seen[key] {
			seen[key] = true
			out = append(out, l)
		}
	}
	return out
}

// Fallen is what a loss takes along, each with the reason: "it lies on this host".
type Fallen struct {
	Locations, Stores, Services, People, Keys, Credentials, Suppliers, Facilities map[string]string
	ControlPlane                                                                  string // "" if Holdfast itself is still there
}

// key is the same for two losses that take the same things along.
func (f Fallen) key() string {
	var b strings.Builder
	for _, m := range []map[string]string{f.Locations, f.Stores, f.Services, f.People, f.Keys, f.Credentials, f.Suppliers, f.Facilities} {
		fmt.Fprintf(&b, "%q", sorted(m))
	}
	fmt.Fprint(&b, f.ControlPlane != "")
	return b.String()
}

// Falls says what is gone when some things are lost: what lies on them, and what lies on
// that. Services that merely need something lost are not in it; they are down until it is
// back. A store that does not say where it lies is on this host, and so is Holdfast itself.
func (p *Plan) Falls(losses ...Loss) Fallen {
	f := Fallen{Locations: map[string]string{}, Stores: map[string]string{}, Services: map[string]string{}, People: map[string]string{}, Keys: map[string]string{},
		Credentials: map[string]string{}, Suppliers: map[string]string{}, Facilities: map[string]string{}}
	regions, gone := map[string]bool{}, map[string]bool{}
	host := ""
	for _, l := range losses {
		why := "lost"
		switch l.Kind {
		case "location":
			f.Locations[l.Name] = why
		case "store":
			f.Stores[l.Name] = why
		case "service":
			f.Services[l.Name] = why
		case "person":
			f.People[l.Name] = why
		case "key":
			f.Keys[l.Name] = why
		case "credential":
			f.Credentials[l.Name] = why
		case "supplier":
			f.Suppliers[l.Name] = why
		case "facility":
			f.Facilities[l.Name] = why
		case "site", "domain", "host":
			gone[l.Name] = true
			if _, ok := p.Facilities[l.Name]; ok && l.Kind != "host" {
				f.Facilities[l.Name] = why
			}
		case "region":
			regions[l.Name] = true
		case "provider":
			if _, ok := p.Suppliers[l.Name]; ok {
				f.Suppliers[l.Name] = why
			}
		case LossControlPlane:
			f.ControlPlane = why
		}
		for id, loc := range p.Locations {
			if l.Kind == "provider" && loc.Provider == l.Name || l.Kind == "account" && loc.Account == l.Name {
				f.Locations[id] = fmt.Sprintf("%s is lost", l)
			}
		}
	}
	if gone[HostDomain] {
		host = "this host is lost"
	}
	// Until nothing more falls: at most as often as there are kinds of things to lie on.
	for before := -1; before != f.size(); {
		before = f.size()
		for id, x := range p.Facilities {
			if regions[x.Region] && x.Region != "" {
				fall(f.Facilities, id, "region %q is lost", x.Region)
			}
			if f.Suppliers[x.Supplier] != "" {
				fall(f.Facilities, id, "supplier %q is lost", x.Supplier)
			}
		}
		for id, x := range p.Suppliers {
			if len(x.Regions) > 0 && !slices.ContainsFunc(x.Regions, func(r string) bool { return !regions[r] }) {
				fall(f.Suppliers, id, "region %s is lost", strings.Join(x.Regions, " and "))
			}
		}
		for id, x := range p.Locations {
			switch {
			case gone[x.DomainOr()]:
				fall(f.Locations, id, "%q is lost", x.DomainOr())
			case x.Region != "" && regions[x.Region]:
				fall(f.Locations, id, "region %q is lost", x.Region)
			case f.Suppliers[x.Supplier] != "":
				fall(f.Locations, id, "supplier %q is lost", x.Supplier)
			case f.Facilities[x.Facility] != "":
				fall(f.Locations, id, "facility %q is lost", x.Facility)
			case f.Credentials[x.Credential] != "":
				fall(f.Locations, id, "credential %q, which opens it, is lost", x.Credential)
			}
			// Whatever takes all that lies on this host along takes the host.
			if x.DomainOr() == HostDomain && (x.Region != "" && regions[x.Region] || f.Facilities[x.Facility] != "") {
				host = fmt.Sprintf("this host, which location %q lies on, is lost", id)
			}
		}
		for id, x := range p.Stores {
			switch on := x.On; {
			case on != "" && f.Suppliers[on] != "":
				fall(f.Stores, id, "supplier %q, which it runs on, is lost", on)
			case on != "" && f.Facilities[on] != "":
				fall(f.Stores, id, "facility %q, which it runs on, is lost", on)
			case on != "" && (f.Services[on] != "" || f.Stores[on] != ""):
				fall(f.Stores, id, "%q, which it runs on, is lost", on)
			case x.Region != "" && regions[x.Region]:
				fall(f.Stores, id, "region %q, where it lies, is lost", x.Region)
			case on == "" && x.Region == "" && host != "":
				fall(f.Stores, id, "%s", host)
			}
		}
		for id, x := range p.Services {
			if len(x.Regions) > 0 && !slices.ContainsFunc(x.Regions, func(r string) bool { return !regions[r] }) {
				fall(f.Services, id, "region %s, where it runs, is lost", strings.Join(x.Regions, " and "))
			}
		}
		for id, x := range p.Keys {
			at := x.Stored
			if len(x.Holders) > 0 && !slices.ContainsFunc(x.Holders, func(h string) bool { return f.People[h] == "" }) {
				fall(f.Keys, id, "nobody who holds it is left: %s", strings.Join(x.Holders, ", "))
			}
			if at != "" && (gone[at] || at == HostDomain && host != "" || f.Locations[at] != "" || f.Facilities[at] != "" || f.Suppliers[at] != "" || f.Stores[at] != "" || f.Services[at] != "") {
				fall(f.Keys, id, "%q, where it is kept, is lost", at)
			}
		}
		for id, x := range p.Credentials {
			if len(x.Holders) > 0 && !slices.ContainsFunc(x.Holders, func(h string) bool { return f.People[h] == "" }) {
				fall(f.Credentials, id, "nobody who holds it is left: %s", strings.Join(x.Holders, ", "))
			}
		}
		if host != "" && f.ControlPlane == "" {
			f.ControlPlane = host
		}
	}
	return f
}

func (f Fallen) size() int {
	n := len(f.Locations) + len(f.Stores) + len(f.Services) + len(f.People) + len(f.Keys) + len(f.Credentials) + len(f.Suppliers) + len(f.Facilities)
	if f.ControlPlane != "" {
		n++
	}
	return n
}

func fall(m map[string]string, id, format string, args ...any) {
	if m[id] == "" {
		m[id] = fmt.Sprintf(format, args...)
	}
}

// Outside returns the suppliers and facilities that a service cannot run without, in
// order: its hard needs that are neither service nor store, and what its stores lie on is not
// among them. Of an any_of it returns all members if so many are gone that the rest does
// not suffice.
func (p *Plan) Outside(service string, gone func(id string) bool) []string {
	s := p.Services[service]
	set := map[string]bool{}
	outside := func(id string) bool {
		_, supplier := p.Suppliers[id]
		_, facility := p.Facilities[id]
		return supplier || facility
	}
	for id, need := range s.Needs {
		if need == Hard && outside(id) {
			set[id] = true
		}
	}
	for _, any := range s.AnyOf {
		if any.Need == Soft {
			continue
		}
		left := 0
		for _, id := range any.Of {
			if !gone(id) {
				left++
			}
		}
		if left >= max(1, any.AtLeast) {
			continue
		}
		for _, id := range any.Of {
			if outside(id) {
				set[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// WorstLoss returns how old the data of a backup can be in one location if everything
// keeps to the plan, and the arithmetic in words.
func (b Backup) WorstLoss(location string) (time.Duration, string) {
	x := worstLoss(b, location)
	return x.total, sum(x)
}

// CodeSinglePoint is the rule that an exception names to bear a single point of failure.
const CodeSinglePoint = codeSingle

// Nearest names the known word that was probably meant, or the known ones.
func Nearest(word string, known []string) string { return suggest(word, known) }
