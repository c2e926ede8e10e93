package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// An Item is an entry of the register: something that the plan answers for.
type Item struct {
	ID          string   `json:"id"`
	Section     string   `json:"section"` // of the plan: "services", "stores", …
	Kind        string   `json:"kind,omitempty"`
	Text        string   `json:"text,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Region      string   `json:"region,omitempty"`
	On          string   `json:"on,omitempty"`
	Owner       string   `json:"owner,omitempty"`
	Tier        string   `json:"tier,omitempty"`
	Class       string   `json:"class,omitempty"`
	Contains    []Marker `json:"contains"`
	// Company and Customer are what is done with the data of each.
	Company    []DataAct `json:"company"`
	Customer   []DataAct `json:"customer"`
	Production bool      `json:"production"`
	// Protection is how it is kept: "backup database", "delegated to host", "not
	// protected: …"; "none" is a gap.
	Protection string `json:"protection,omitempty"`
	// Coverage is what its kind demands.
	Coverage string `json:"coverage,omitempty"`
	// Wave is when it is recovered: what is in wave 1 needs nothing. 0 for what is in
	// no order: locations, keys, and everything while needs run in a circle.
	Wave int `json:"wave,omitempty"`
}

// Acts are what can be done with data, and Markers what can be special about it: the
// words of the plan.
func Acts() []string    { return DataAct("").words() }
func Markers() []string { return Marker("").words() }

// Does reports whether something is done with data of the company or of customers;
// whose is "company", "customer" or, for either, "".
func (i Item) Does(act DataAct, whose string) bool {
	return whose != "customer" && slices.Contains(i.Company, act) || whose != "company" && slices.Contains(i.Customer, act)
}

// coverage is what each kind of item demands, in one sentence.
var coverage = map[string]string{
	string(KindPostgres): "base backups with the whole log between them, restored and asked by a drill",
	string(KindMySQL):    "not copied by this version: an export into a folder that is protected, or a delegate with evidence",
	string(KindSQLite):   "not copied alone by this version: protect its folder as files, which copies no database in the middle of a transaction",
	string(KindFiles):    "every file with its rights, restored and compared by a drill",
	string(KindGit):      "an own copy of every branch and tag: what only the host keeps is claimed",
	string(KindObject):   "an own copy elsewhere: versions in the same bucket are lost with the account",
	string(KindVM):       "an image, and a store of its own for each database inside: an image of a running database is none",
	string(KindExec):     "what its program writes, restored and checked by its program",

	string(ServiceAPI):       rebuilt,
	string(ServiceWeb):       rebuilt,
	string(ServiceWorker):    rebuilt,
	string(ServiceHost):      rebuilt,
	string(ServiceInference): "another provider that stands in, tried by a test, or the reason why there is none",
	string(ServiceNetwork):   "something that stands in, or the reason why nothing does",

	"location": "another location that does not fail together with it",
	"key":      "a second key of another holder",
}

const rebuilt = "what it is rebuilt from: a runbook, or a need of the store that holds its code or image"

// Items returns the register of the plan: services, stores, suppliers, facilities, and
// what backups themselves rest on, locations and keys, in that order.
func (p *Plan) Items() []Item {
	wave := map[string]int{}
	if order, err := p.RecoveryOrder(); err == nil {
		for n, ids := range order {
			for _, id := range ids {
				wave[id] = n + 1
			}
		}
	}
	var out []Item
	add := func(i Item, data *DataUse) {
		if data != nil {
			i.Company, i.Customer = data.Company, data.Customer
		}
		// Lists are never null, so that whoever reads them as JSON can rely on it.
		i.Contains, i.Company, i.Customer = append([]Marker{}, i.Contains...), append([]DataAct{}, i.Company...), append([]DataAct{}, i.Customer...)
		i.Coverage = coverage[i.Kind]
		if i.Coverage == "" {
			i.Coverage = coverage[strings.TrimSuffix(i.Section, "s")]
		}
		out = append(out, i)
	}
	for _, id := range sorted(p.Services) {
		s := p.Services[id]
		add(Item{ID: id, Section: "services", Kind: string(s.Kind), Text: s.Text, Environment: s.Environment, Region: strings.Join(s.Regions, ", "), Owner: s.Owner, Tier: s.Tier, Production: s.Production(), Wave: wave[id]}, s.Data)
	}
	for _, id := range sorted(p.Stores) {
		s := p.Stores[id]
		add(Item{ID: id, Section: "stores", Kind: string(s.Kind), Text: s.Text, Environment: s.Environment, Region: s.Region, On: s.On, Owner: s.Owner, Tier: s.Tier, Class: s.Class, Contains: s.Contains,
			Production: s.Production(), Protection: s.protection(), Wave: wave[id]}, s.Data)
	}
	for _, id := range sorted(p.Suppliers) {
		s := p.Suppliers[id]
		add(Item{ID: id, Section: "suppliers", Text: s.Provides, Region: strings.Join(s.Regions, ", "), Owner: s.Owner, Contains: s.Holds}, nil)
	}
	for _, id := range sorted(p.Facilities) {
		add(Item{ID: id, Section: "facilities", Region: p.Facilities[id].Region}, nil)
	}
	for _, id := range sorted(p.Locations) {
		l := p.Locations[id]
		add(Item{ID: id, Section: "locations", Kind: string(l.Kind), Region: l.Region, On: cmp.Or(l.Supplier, l.Provider, l.Facility)}, nil)
	}
	for _, id := range sorted(p.Keys) {
		add(Item{ID: id, Section: "keys", Owner: strings.Join(p.Keys[id].Holders, ", ")}, nil)
	}
	return out
}

// protection says how a store is kept.
func (s Store) protection() string {
	switch {
	case s.Protect != "" && s.Kind.Protected():
		return "backup " + s.Protect
	case s.Protect != "":
		return "backup " + s.Protect + ", which this version does not make for kind " + string(s.Kind)
	case s.Delegated != nil:
		return "delegated to " + s.Delegated.To
	case s.NotProtected != "":
		return "not protected: " + s.NotProtected
	}
	return "none"
}

// An Edge says that one thing depends on another.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Type is how: "needs", "any of NAME", "runs on", "protected by", "copied to", "kept
	// by", "owned by", "held by", "stands in for".
	Type string `json:"type"`
	// Strength is "hard" or "soft"; what is lost with something is hard.
	Strength Need   `json:"strength"`
	FromKind string `json:"from_kind"` // the sections of the plan, in the singular
	ToKind   string `json:"to_kind"`
}

// Edges returns who depends on what, in order: services, stores, suppliers, facilities,
// locations, roles and people.
func (p *Plan) Edges() []Edge {
	var out []Edge
	kinds := p.kinds()
	add := func(fromKind, from, to, typ string, strength Need) {
		if to != "" {
			out = append(out, Edge{From: from, To: to, Type: typ, Strength: strength, FromKind: fromKind, ToKind: kinds[to]})
		}
	}
	for _, id := range sorted(p.Services) {
		s := p.Services[id]
		for _, to := range slices.Sorted(maps.Keys(s.Needs)) {
			add("service", id, to, "needs", s.Needs[to])
		}
		for _, name := range sorted(s.AnyOf) {
			need := s.AnyOf[name].Need
			if need == "" {
				need = Hard
			}
			for _, to := range s.AnyOf[name].Of {
				add("service", id, to, "any of "+name, need)
			}
		}
		add("service", id, s.Owner, "owned by", Soft)
	}
	for _, id := range sorted(p.Stores) {
		s := p.Stores[id]
		add("store", id, s.On, "runs on", Hard)
		if s.Delegated != nil {
			add("store", id, s.Delegated.To, "protected by", Soft)
		}
		if b, ok := p.Backups[s.Protect]; ok {
			for _, l := range b.Copies.Names() {
				add("store", id, l, "copied to", Soft)
			}
		}
		add("store", id, s.Owner, "owned by", Soft)
	}
	for _, id := range sorted(p.Suppliers) {
		for _, to := range p.Suppliers[id].Alternatives {
			add("supplier", id, to, "stands in", Soft)
		}
		add("supplier", id, p.Suppliers[id].Owner, "owned by", Soft)
	}
	for _, id := range sorted(p.Facilities) {
		add("facility", id, p.Facilities[id].Supplier, "kept by", Hard)
	}
	for _, id := range sorted(p.Locations) {
		l := p.Locations[id]
		add("location", id, l.Supplier, "kept by", Hard)
		add("location", id, l.Facility, "runs on", Hard)
	}
	for _, id := range sorted(p.Roles) {
		add("role", id, p.Roles[id].Holder, "held by", Hard)
		add("role", id, p.Roles[id].Deputy, "deputised by", Soft)
	}
	for _, id := range sorted(p.Keys) {
		for _, h := range p.Keys[id].Holders {
			add("key", id, h, "held by", Hard)
		}
	}
	return out
}

// kinds returns the section of each thing that another can depend on, in the singular.
func (p *Plan) kinds() map[string]string {
	out := map[string]string{}
	put := func(kind string, ids []string) {
		for _, id := range ids {
			out[id] = kind
		}
	}
	put("location", sorted(p.Locations))
	put("person", sorted(p.People))
	put("role", sorted(p.Roles))
	put("facility", sorted(p.Facilities))
	put("supplier", sorted(p.Suppliers))
	put("store", sorted(p.Stores))
	put("service", sorted(p.Services))
	return out
}
