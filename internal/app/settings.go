package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/location"
	"holdfast/internal/location/probe"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
)

// factSettings is what a location said of itself, when that was new.
const factSettings = "location.settings"

const (
	settingsEvery = 15 * time.Minute   // how often a server asks each location
	settingsAsk   = 20 * time.Second   // how long the answer may take
	driftDue      = 7 * 24 * time.Hour // how long the owner of a location has to answer a deviation
	maxHeard      = 1000               // facts of one location that are looked at
)

// A placeSays is the data of a factSettings.
type placeSays struct {
	Address string            `json:"address"`
	Told    map[string]string `json:"told"`
	Untold  map[string]string `json:"untold,omitempty"`
	at      time.Time
}

// settings is what the locations were last heard to say of themselves.
type settings struct {
	mu   sync.Mutex
	said map[string]placeSays
}

// unwrapped is what a store, or one below it, is able to do.
func unwrapped[T any](s repo.Store) (v T, ok bool) {
	for s != nil {
		if v, ok = s.(T); ok {
			return v, true
		}
		w, below := s.(interface{ Unwrap() repo.Store })
		if !below {
			break
		}
		s = w.Unwrap()
	}
	return v, false
}

// Settings asks a location for its settings.
func (ps *Places) Settings(ctx context.Context, name string) location.Settings {
	s, err := ps.Store(name)
	if err != nil {
		return location.Unasked(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, settingsAsk)
	defer cancel()
	if a, ok := unwrapped[interface {
		Settings(context.Context) location.Settings
	}](s); ok {
		return a.Settings(ctx)
	}
	l, err := ps.location(name)
	if err != nil {
		return location.Unasked(err.Error())
	}
	return location.Unasked(fmt.Sprintf("a place of kind %s cannot be asked", l.Kind))
}

// settingsOf are the settings of a location, asked now or within settingsEvery.
func (a *App) settingsOf(ctx context.Context, name string) placeSays {
	now, where := a.opt.Clock(), a.Places.where(name)
	a.settings.mu.Lock()
	h, known := a.settings.said[name]
	a.settings.mu.Unlock()
	if age := now.Sub(h.at); known && h.Address == where && age >= 0 && age < settingsEvery {
		return h
	}
	s := a.Places.Settings(ctx, name)
	h = placeSays{Address: where, Told: s.Told, Untold: s.Untold, at: now}
	a.settings.mu.Lock()
	defer a.settings.mu.Unlock()
	if a.settings.said == nil {
		a.settings.said = map[string]placeSays{}
	}
	a.settings.said[name] = h
	return h
}

// history is what a location said of itself at its present address, oldest first.
func (a *App) history(ctx context.Context, name string) (out []placeSays, err error) {
	fs, err := a.Ledger.Find(ctx, ledger.Query{Type: factSettings, Subject: "locations." + name, Limit: maxHeard})
	if err != nil {
		return nil, err
	}
	for _, f := range fs {
		var h placeSays
		if err := decodeFact(f, &h); err != nil {
			return nil, err
		}
		h.at = f.At
		if h.Address == a.Places.where(name) {
			out = append(out, h)
		}
	}
	return out, nil
}

// since is when a location began to say what it says now.
func since(past []placeSays, setting, value string, now time.Time) time.Time {
	out := now
	for i := len(past) - 1; i >= 0; i-- {
		v, told := past[i].Told[setting]
		switch {
		case told && v != value:
			return out
		case told:
			out = past[i].at
		}
	}
	return out
}

// expected is what a setting of a location should be, and who says so. The plan comes
// first, then what the location said first.
func expected(l plan.Location, setting string, past []placeSays) (value, by string) {
	if setting == location.SettingEncryption && l.Encryption != "" {
		return l.Encryption, "the plan in force says"
	}
	for _, h := range past {
		if v, told := h.Told[setting]; told {
			return v, fmt.Sprintf("since %s it was", h.at.UTC().Format(time.DateOnly))
		}
	}
	return "", ""
}

// keeper is who answers for a location.
func keeper(p *plan.Plan, l plan.Location) string { return cmp.Or(l.Owner, p.Plan.Owner, "nobody") }

// compareSettings looks whether the locations are set as the plan says, or as they were.
func (a *App) compareSettings(ctx context.Context, p *plan.Plan, deviates deviation) error {
	for _, name := range sortedKeys(p.Locations) {
		l := p.Locations[name]
		past, err := a.history(ctx, name)
		if err != nil {
			return err
		}
		said := a.settingsOf(ctx, name)
		for _, setting := range location.SettingNames {
			is, told := said.Told[setting]
			want, by := expected(l, setting, past)
			if !told || want == "" || is == want {
				continue
			}
			due := since(past, setting, is, said.at).Add(driftDue)
			hint := "set it back at the place"
			if setting == location.SettingEncryption {
				hint += fmt.Sprintf(", or have \"encryption: %s\" of the location approved", is)
			}
			deviates("locations."+name, hint, "the %s of %q is %s, and %s %s; %s answers for it, by %s", setting, name, is, by, want, keeper(p, l), due.In(p.Location()).Format(time.DateOnly))
		}
	}
	return nil
}

// noteSettings writes down what locations say of themselves where that is new.
func (a *App) noteSettings(ctx context.Context) error {
	fresh := map[string]placeSays{}
	for name := range a.Plan().Locations {
		said := a.settingsOf(ctx, name)
		past, err := a.history(ctx, name)
		if err != nil {
			return err
		}
		if len(said.Told) > 0 && (len(past) == 0 || !maps.Equal(past[len(past)-1].Told, said.Told)) {
			fresh[name] = said
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	return a.DB.Tx(ctx, func(tx *db.Tx) error {
		for _, name := range sortedKeys(fresh) {
			if err := a.fact(ctx, tx, factSettings, "locations."+name, fresh[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

// settingChecks says in a test of a place what it says of itself, and what of that is not
// as the plan says.
func settingChecks(p *plan.Plan, name string, s location.Settings, now time.Time) (out []probe.Check) {
	l := p.Locations[name]
	for _, setting := range location.SettingNames {
		c := probe.Check{Name: "setting: " + setting, Outcome: probe.Told, Detail: s.Told[setting]}
		want, _ := expected(l, setting, nil)
		switch why, untold := s.Untold[setting]; {
		case untold:
			c.Outcome, c.Detail = probe.Unknown, why
		case want != "" && want != c.Detail:
			c.Outcome = probe.Missing
			c.Detail += fmt.Sprintf(", and the plan says %s (%s)", want, codeDeviates)
			c.Consequence = fmt.Sprintf("it is not as declared; %s answers for it, by %s", keeper(p, l), now.Add(driftDue).In(p.Location()).Format(time.DateOnly))
			c.Hint = "set it back at the place, or change the plan"
		}
		out = append(out, c)
	}
	return slices.Clip(out)
}
