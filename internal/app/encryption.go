package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/backup"
	"holdfast/internal/evidence"
	"holdfast/internal/ledger"
	"holdfast/internal/location"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// notDeclared stands where a plan says nothing, so that nothing is missing in silence.
const notDeclared = "not declared"

// Encryption says how the backups are sealed and for whom, over which lines they travel,
// and what each location says of itself. It asks the locations, and changes nothing.
func (a *App) Encryption(ctx context.Context) (api.Encryption, error) {
	p := a.Plan()
	out := api.Encryption{Plan: p.Plan.ID, Version: p.Plan.Version, Digest: p.Digest(), At: a.opt.Clock().UTC()}
	add := func(subject, basis, what, value string, since time.Time) {
		out.Lines = append(out.Lines, api.EncryptionLine{Subject: subject, What: what, Value: value, Basis: basis, Since: since})
	}
	add("repository", api.ByFormat, "cipher of content", seal.Cipher+", a new 256-bit key for each object, sealed before it leaves the source", time.Time{})
	add("repository", api.ByFormat, "cipher of those keys", fmt.Sprintf("age v1: %s, HKDF-SHA-256, ChaCha20-Poly1305 (256-bit)", StrengthOf(p)), time.Time{})
	add("repository", api.ByPlan, "strength", strengthText(StrengthOf(p), p.ClassicKeys()), time.Time{})
	add("repository", api.ByFormat, "signatures", "Ed25519", time.Time{})
	add("repository", api.ByPlan, "sealed to", strings.Join(p.Repository.EncryptTo, ", "), time.Time{})
	add("repository", api.ByPlan, "oldest TLS", "TLS "+p.Repository.TLSFloor()+"; SSH 2 with SHA-2", time.Time{})
	if err := a.keyLines(ctx, add); err != nil {
		return out, err
	}
	lines, err := a.negotiated(ctx)
	if err != nil {
		return out, err
	}
	for _, name := range sortedKeys(p.Locations) {
		if err := a.locationLines(ctx, name, lines[name], add); err != nil {
			return out, err
		}
	}
	if err := a.strengthLines(ctx, add); err != nil {
		return out, err
	}
	for _, pol := range a.policies() {
		if err := a.storeLine(ctx, pol.Store, add); err != nil {
			return out, err
		}
	}
	slices.SortStableFunc(out.Lines, func(x, y api.EncryptionLine) int { // repository, keys, locations
		return cmp.Or(strings.Compare(section(x.Subject), section(y.Subject)), strings.Compare(x.Subject, y.Subject))
	})
	return out, nil
}

// StrengthOf is what a plan seals new backups with: one classic key lowers all of them.
func StrengthOf(p *plan.Plan) seal.Strength {
	if len(p.ClassicKeys()) > 0 {
		return seal.Classic
	}
	return seal.PostQuantum
}

func strengthText(s seal.Strength, classic []string) string {
	if s == seal.PostQuantum {
		return "post-quantum: every key is " + string(s)
	}
	return fmt.Sprintf("classic (%s): %s", s, strings.Join(classic, ", "))
}

// strengthLines say what the newest and the oldest backup of each store at each location
// are really sealed with, as their heads say: a plan that became stronger does not make
// older backups so.
func (a *App) strengthLines(ctx context.Context, add adder) error {
	for _, pol := range a.policies() {
		for _, l := range pol.Locations {
			value := a.sealedWith(ctx, pol.Store, l)
			add("stores."+pol.Store, api.ByProbe, "sealed at "+l, value, time.Time{})
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// storeLine says over what a store was reached by its newest backup.
func (a *App) storeLine(ctx context.Context, store string, add adder) error {
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: backup.FactSnapshot, Subject: "stores." + store, Newest: true, Limit: 1})
	if err != nil || len(fs) == 0 {
		return err
	}
	var f backup.SnapshotFact
	if err := decodeFact(fs[0], &f); err != nil {
		return err
	}
	if f.From.Protocol != "" {
		add("stores."+store, api.ByNegotiated, "line", f.From.String(), fs[0].At)
	}
	return nil
}

func (a *App) sealedWith(ctx context.Context, store, at string) string {
	r, err := a.Places.Open(ctx, at)
	if err != nil {
		return "not known: " + err.Error()
	}
	ids, err := r.SnapshotIDs(ctx, store)
	if err != nil {
		return "not known: " + err.Error()
	}
	if len(ids) == 0 {
		return "nothing there yet"
	}
	var out []string
	for _, id := range slices.Compact([]string{ids[len(ids)-1], ids[0]}) {
		which := "newest"
		if len(out) > 0 {
			which = "oldest"
		}
		m, err := r.Manifest(ctx, store, id)
		if err != nil {
			out = append(out, which+" not known: "+err.Error())
			continue
		}
		s, err := r.SealedWith(ctx, m)
		if err != nil {
			out = append(out, which+" not known: "+err.Error())
			continue
		}
		out = append(out, which+" "+string(s))
	}
	return strings.Join(out, "; ")
}

// section is the first part of a subject; what is about all comes first.
func section(subject string) string {
	if subject == "repository" {
		return ""
	}
	s, _, _ := strings.Cut(subject, ".")
	return s
}

// adder adds a line.
type adder func(subject, basis, what, value string, since time.Time)

// keyLines say which keys read the backups, who keeps them, and when they last showed it.
func (a *App) keyLines(ctx context.Context, add adder) error {
	k, err := a.KeyHolders(ctx)
	if err != nil {
		return err
	}
	for _, l := range k.Register {
		if l.Gone {
			continue
		}
		subject := "keys." + l.Key
		add(subject, api.ByPlan, "reference", l.Fingerprint, l.Created)
		add(subject, api.ByRecord, "state", l.State, l.InUse)
		kept := cmp.Or(strings.Join(l.Custodians, ", "), notDeclared)
		if l.Needed > 0 {
			kept += fmt.Sprintf("; %d of their %d shares bring it back", l.Needed, len(l.Custodians))
		}
		if l.Offline {
			kept += "; on no computer"
		}
		add(subject, api.ByPlan, "custody", kept, time.Time{})
		if !l.RotationDue.IsZero() {
			add(subject, api.ByPlan, "rotation due", l.RotationDue.UTC().Format(time.DateOnly), time.Time{})
		}
	}
	for _, s := range k.Holders {
		add("keys."+s.Key, api.ByRecord, "challenge of "+cmp.Or(s.Holder, "its holder"), string(s.Posture), s.Proved)
	}
	return nil
}

// negotiated returns the newest copy at each location of which the line is known.
func (a *App) negotiated(ctx context.Context) (map[string]backup.Copy, error) {
	out := map[string]backup.Copy{}
	for _, pol := range a.policies() {
		cs, err := a.Backups.Copies(ctx, pol.Store)
		if err != nil {
			return nil, err
		}
		for _, c := range cs {
			if c.Line != "" && c.Created.After(out[c.Location].Created) {
				out[c.Location] = c
			}
		}
	}
	return out, nil
}

// locationLines say how one location is declared, what it says of itself, and over what it
// was reached.
func (a *App) locationLines(ctx context.Context, name string, newest backup.Copy, add adder) error {
	p := a.Plan()
	l, subject := p.Locations[name], "locations."+name
	past, err := a.history(ctx, name)
	if err != nil {
		return err
	}
	add(subject, api.ByPlan, "place", string(l.Kind)+" at "+a.Places.where(name), time.Time{})
	lock := notDeclared
	if l.S3 != nil && !l.S3.Lock.IsZero() {
		lock = fmt.Sprintf("each object for %s in compliance mode", l.S3.Lock)
	}
	for _, d := range [][2]string{{"provider", l.Provider}, {"region", l.Region}, {"redundancy", l.Redundancy}, {"encryption at rest", l.Encryption}, {"lock", lock}, {"owner", l.Owner}} {
		add(subject, api.ByPlan, d[0], cmp.Or(d[1], notDeclared), time.Time{})
	}
	add(subject, api.ByNegotiated, "line", cmp.Or(newest.Line, "no backup has recorded one"), newest.Created)
	said := a.settingsOf(ctx, name)
	for _, setting := range location.SettingNames {
		value, told := said.Told[setting]
		if !told {
			add(subject, api.ByProbe, setting, "not known: "+said.Untold[setting], time.Time{})
			continue
		}
		var from time.Time
		if len(past) > 0 {
			from = since(past, setting, value, said.at)
		}
		add(subject, api.ByProbe, setting, cmp.Or(value, "not said"), from)
	}
	return nil
}

// encryptionRows are the encryption configuration when a pack is made.
func (a *App) encryptionRows(ctx context.Context, _, _ time.Time) (evidence.Population, error) {
	p := evidence.Population{Name: "encryption", Query: "the encryption configuration at the instant at which the pack was made: cipher, keys, lines, and each location as declared and as asked",
		Columns: []string{"subject", "what", "value", "basis", "since"}}
	e, err := a.Encryption(ctx)
	for _, l := range e.Lines {
		p.Rows = append(p.Rows, []string{l.Subject, l.What, l.Value, l.Basis, stamp(l.Since)})
	}
	p.Rows = slices.Clip(p.Rows)
	return p, err
}
