package plan

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// HostDomain is the failure domain of the machine that runs Holdfast and the stores.
// A location that declares no domain is taken for a part of it.
const HostDomain = "this-host"

// copies looks for copies that are lost together.
func (l *linter) copies() {
	for _, id := range sorted(l.p.Backups) {
		b, path := l.p.Backups[id], "backups."+id+".copies"
		names := slices.DeleteFunc(b.Copies.Names(), func(n string) bool { _, ok := l.p.Locations[n]; return !ok })
		switch {
		case len(b.Copies) == 0:
			l.fail(CodeUnprotected, path, "name at least two locations", "the backup %q goes nowhere", id)
			continue
		case len(names) == 0:
			continue // undeclared, which is reported
		case len(names) == 1:
			l.fail(codeShared, path, "add a location that does not fail together with it", "the only copy is in %q: when that place is lost, every backup is lost", names[0])
			continue
		}
		domains := map[string][]string{}
		for _, n := range names {
			d := l.p.Locations[n].DomainOr()
			domains[d] = append(domains[d], n)
		}
		if len(domains) == 1 {
			d := l.p.Locations[names[0]].DomainOr()
			why := fmt.Sprintf("all are in the failure domain %q", d)
			if l.p.Locations[names[0]].Domain == "" && d == HostDomain {
				why = "none declares a failure domain, so all count as parts of this host"
			}
			l.fail(codeShared, path, "declare the domains in which they fail apart, or add a location elsewhere", "%s count as one copy: %s", quoted(names), why)
			continue
		}
		if only := l.sharedBy(names, func(x Location) string { return join2(x.Provider, x.Account) }); only != "" {
			l.warn(codeShared, path, "put one copy into another account, best of another provider",
				"%s share the account %q of provider %q: one stolen login or one unpaid bill loses both", quoted(names), l.p.Locations[names[0]].Account, l.p.Locations[names[0]].Provider)
		} else if only := l.sharedBy(names, func(x Location) string { return x.Provider }); only != "" {
			l.warn(codeShared, path, "put one copy with another provider", "%s are all with provider %q", quoted(names), only)
		}
		if only := l.sharedBy(names, func(x Location) string { return x.Region }); only != "" {
			l.warn(codeShared, path, "put one copy into another region", "%s are all in region %q", quoted(names), only)
		}
		if only := l.sharedBy(names, func(x Location) string { return x.Credential }); only != "" {
			l.warn(codeShared, path, "let another credential open one of them, best with other holders", "%s are all opened by the credential %q: who has it can reach every copy", quoted(names), only)
		}
	}
	l.sameDirectory()
	l.remote()
}

// join2 is provider and account where both are declared.
func join2(a, b string) string {
	if a == "" || b == "" {
		return ""
	}
	return a + "\x00" + b
}

// sharedBy returns what all locations have in common, or "".
func (l *linter) sharedBy(names []string, of func(Location) string) string {
	first := of(l.p.Locations[names[0]])
	for _, n := range names[1:] {
		if of(l.p.Locations[n]) != first {
			return ""
		}
	}
	return first
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(out, " and ")
}

// sameDirectory looks for locations that are one folder, or lie in each other, in a
// protected folder, or in the place that a recovery writes to.
func (l *linter) sameDirectory() {
	names := sorted(l.p.Locations)
	inside := func(a, b string) bool {
		rel, err := filepath.Rel(b, a)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
	}
	for i, a := range names {
		pa := l.p.Locations[a].Path
		if pa == "" {
			continue
		}
		for _, b := range names[i+1:] {
			if pb := l.p.Locations[b].Path; pb != "" && (inside(pa, pb) || inside(pb, pa)) {
				l.fail(codeShared, "locations."+b+".path", "give each location a folder of its own, on another disk", "%q and %q are one place: %s and %s", a, b, pa, pb)
			}
		}
		for _, id := range sorted(l.p.Stores) {
			s := l.p.Stores[id]
			if s.Files != nil && s.Files.Path != "" && inside(pa, s.Files.Path) {
				l.fail(codeShared, "locations."+a+".path", "move the location out of the folder that it protects", "the location %q lies inside the store %q: it would be backed up into itself and is lost with it", a, id)
			}
			if s.Recover != nil && (inside(pa, s.Recover.To) || inside(s.Recover.To, pa)) {
				l.fail(codeShared, "stores."+id+".recover.to", "recover into a folder apart from every location", "a recovery of %q would write into the location %q", id, a)
			}
		}
	}
}

// agePublicKey is the form of an age recipient: X25519, or post-quantum. Whether its checksum
// holds is asked where it is used.
var agePublicKey = regexp.MustCompile(`^age1([02-9ac-hj-np-z]{58}|pq1[02-9ac-hj-np-z]{976}[02-9ac-hj-np-z]{976})$`)

// postQuantumPrefix begins the recipients of post-quantum keys, of which no more than
// maxPostQuantum fit into the head of an object.
const (
	postQuantumPrefix = "age1pq1"
	maxPostQuantum    = 10
)

// PostQuantum reports whether what is sealed to the key stays closed to a quantum computer.
func (k Key) PostQuantum() bool { return strings.HasPrefix(k.Recipient, postQuantumPrefix) }

// ClassicKeys are the keys of encrypt_to that a quantum computer would break, in the plan's
// order. One of them is enough to open everything; none: all keys are post-quantum.
func (p *Plan) ClassicKeys() (out []string) {
	for _, id := range p.Repository.EncryptTo {
		if k := p.Keys[id]; agePublicKey.MatchString(k.Recipient) && !k.PostQuantum() {
			out = append(out, id)
		}
	}
	return out
}

// agentPublicKey is the form of the public half of a signing key.
var agentPublicKey = regexp.MustCompile(`^holdfast-verify-key/1:[A-Za-z0-9._/@-]{1,128}:[A-Za-z0-9+/]{43}=$`)

// keys looks for keys whose loss, or whose holder's loss, loses every backup.
func (l *linter) keys() {
	p := l.p
	for _, id := range sorted(p.Keys) {
		k, path := p.Keys[id], "keys."+id
		switch {
		case strings.HasPrefix(strings.ToUpper(k.Recipient), "AGE-SECRET-KEY-"):
			l.fail(codeSecret, path+".recipient", "take the key out, make a new one with \"holdfast key create\", and write its public half here", "%q is a private key; it must be regarded as known to everybody who saw this file", path+".recipient")
		case !agePublicKey.MatchString(k.Recipient):
			l.fail(codeKeys, path+".recipient", "\"holdfast key create\" makes a key and prints its public half, which begins with age1", "%q is not a public key", path+".recipient")
		}
		if len(k.Holders) == 0 && k.Shares == nil {
			l.warn(codeKeys, path, "add \"holders: [name]\"", "nobody holds the key %q: nobody knows who to ask for it", id)
		}
		if k.Shares != nil {
			l.keyShares(path+".shares", *k.Shares)
		}
	}
	for _, id := range sorted(p.Stores) {
		if ag := p.Stores[id].Agent; ag != nil && !agentPublicKey.MatchString(ag.Key) {
			l.fail(codeKeys, "stores."+id+".agent.key", "write what \"holdfast agent init\" printed; it begins with holdfast-verify-key/1:", "%q is not the public key of an agent", "stores."+id+".agent.key")
		}
	}
	if len(p.Stores) == 0 {
		return
	}
	const path = "repository.encrypt_to"
	recipients := map[string]bool{}
	var holders []string
	offline := false
	for _, id := range p.Repository.EncryptTo {
		k, ok := p.Keys[id]
		if !ok {
			continue
		}
		what := k.Recipient
		if !agePublicKey.MatchString(what) {
			what = id // not filled in yet, which is reported: two of these are two keys to come
		}
		recipients[what] = true
		offline = offline || k.Offline
		for _, h := range k.custodians() {
			if !slices.Contains(holders, h) {
				holders = append(holders, h)
			}
		}
	}
	slices.Sort(holders)
	switch classic := l.p.ClassicKeys(); {
	case len(classic) > 0 && l.postQuantum():
		l.fail(codeKeys, path, "make the others post-quantum, too (\"holdfast key create --post-quantum\"), or none of them",
			"post-quantum and classic keys are not mixed: %s would open everything to a quantum computer, and no backup can be made", strings.Join(classic, ", "))
	case len(classic) == 0 && len(recipients) > maxPostQuantum:
		l.fail(codeKeys, path, "name fewer keys, and split one of them among more people (\"holdfast key split\")", "%d post-quantum keys do not fit into the head of a backup: at most %d do", len(recipients), maxPostQuantum)
	}
	switch {
	case len(recipients) == 0:
		l.fail(codeKeys, path, "write encrypt_to: with two keys of two holders", "no key can read the backups")
	case len(recipients) == 1 && !p.Repository.AllowOneRecipient:
		l.fail(codeKeys, path, "add a second key with another holder; \"holdfast key create\" makes one", "one key alone reads the backups: its loss is the loss of all of them")
	case len(recipients) == 1:
		l.warn(codeKeys, path, "add a second key with another holder", "one key alone reads the backups, which the plan allows: its loss is the loss of all of them")
	case len(holders) == 1:
		l.fail(codeKeys, path, fmt.Sprintf("have somebody else than %s hold one of the keys", holders[0]), "all keys have one holder, %q: without that person nothing can be read", holders[0])
	case len(holders) > 1 && !offline:
		l.warn(codeKeys, path, "keep one private half on paper or on a stick in a safe, and write \"offline: true\" at its key", "no key is kept offline: who takes all computers takes all keys")
	}
}

// postQuantum reports whether any key of encrypt_to is.
func (l *linter) postQuantum() bool {
	return slices.ContainsFunc(l.p.Repository.EncryptTo, func(id string) bool { return l.p.Keys[id].PostQuantum() })
}

// custodians are the people who keep a key or a part of it.
func (k Key) custodians() []string {
	out := slices.Clone(k.Holders)
	if k.Shares != nil {
		out = append(out, sorted(k.Shares.Holders)...)
	}
	return out
}

// keyShares looks for splits that protect nothing, or that nobody can join.
func (l *linter) keyShares(path string, s KeyShares) {
	switch n := len(s.Holders); {
	case s.Needed < 2:
		l.fail(codeKeys, path+".needed", "write at least 2, and split the key anew with \"holdfast key split\"", "%d needed share opens the key alone", s.Needed)
	case s.Needed > n:
		l.fail(codeKeys, path+".needed", "name all holders as \"holdfast key split\" printed them", "%d shares are needed and %d people hold one: nobody can bring the key back", s.Needed, n)
	case s.Needed == n:
		l.warn(codeKeys, path+".needed", "split the key among one person more than are needed", "all %d holders are needed: the loss of one share is the loss of the key", n)
	}
	owner := map[string]string{}
	for _, h := range sorted(s.Holders) {
		r := s.Holders[h]
		switch {
		case !agePublicKey.MatchString(r):
			l.fail(codeKeys, path+".holders."+h, "\"holdfast key split\" printed it; it begins with age1", "%q is not the recipient of a share", path+".holders."+h)
		case owner[r] != "":
			l.fail(codeKeys, path+".holders."+h, "give each holder a share of their own", "%s and %s keep the same share: it counts once", owner[r], h)
		}
		owner[r] = h
	}
}
