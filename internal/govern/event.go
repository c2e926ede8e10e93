package govern

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The events, in the words of the plan's "after". "change" and any other "…-change" that
// is not one of these stand for all of the first block.
const (
	onVersion    = "engine-major"
	onSchema     = "schema-change"
	onSize       = "size-change"
	onRetention  = "retention-change"
	onPlace      = "location-change"
	onObjectives = "objective-change"
	onNew        = "onboarding"
	onLive       = "production-launch"
	onPlan       = "plan-change"

	onIncident   = "incident"
	onActivation = "activation"
	onFailed     = "failed-drill"
	onExercise   = "exercise"
)

var changes = []string{onVersion, onSchema, onSize, onRetention, onPlace, onObjectives, onNew, onLive, onPlan}

// synonyms are other words for events that policies use.
var synonyms = map[string][]string{
	onIncident:   {"significant-incident", "disruption"},
	onActivation: {"significant-incident", "disruption"},
	onFailed:     {"failed-test", "recovery-test", "failed-recovery-test"},
	onLive:       {"launch", "go-live"},
	onVersion:    {"upgrade", "new-version", "major-release"},
}

// after reports whether words of a plan's "after" name an event.
func after(words []string, event string) bool {
	general := slices.Contains(changes, event)
	for _, w := range words {
		w = strings.ToLower(w)
		if w == event || slices.Contains(synonyms[event], w) {
			return true
		}
		if general && !slices.Contains(changes, w) && (w == "change" || w == "changes" || strings.HasSuffix(w, "-change")) {
			return true
		}
	}
	return false
}

// What counts as a jump in size: threefold, up or down, and more than this. Below it,
// threefold is a handful of rows.
const (
	jumpTimes = 3
	jumpBytes = 1 << 20
)

func jumped(was, is int64) bool {
	small, large := min(was, is), max(was, is)
	return large-small > jumpBytes && large >= jumpTimes*small
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// happened is one event about a store, a service or the plan. At the first look of all,
// everything is new, and that is no change to what is reviewed.
func (s *settling) happened(event, subject, was, is, cause string) error {
	if err := s.fact(s.ctx, s.tx, FactEvent, subject, "holdfast", map[string]any{"event": event, "was": was, "is": is, "cause": cause}); err != nil {
		return err
	}
	for _, w := range s.wants {
		about := w.subject == subject || w.kind != Coverage && w.kind != Objective && !s.first
		if about && after(w.after, event) {
			if err := s.demand(w, cause, eventDue); err != nil {
				return err
			}
		}
	}
	return nil
}

// changes compares what is with what was at the last look.
func (s *settling) changes() error {
	if err := s.planChanged(); err != nil {
		return err
	}
	for _, id := range sorted(s.p.Stores) {
		if err := s.storeChanged(id); err != nil {
			return err
		}
	}
	for _, w := range s.wants {
		if w.kind != Objective {
			continue
		}
		now := strings.Join(w.items, "; ")
		was, known := s.seen[w.name]
		if known && was != now {
			cause := fmt.Sprintf("the objectives of %s changed from %s to %s", w.subject, was, now)
			if err := s.happened(onObjectives, w.subject, was, now, cause); err != nil {
				return err
			}
			if err := s.demand(w, cause, eventDue); err != nil {
				return err
			}
		}
		if was != now {
			if err := s.remember(s.ctx, s.tx, w.name, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *settling) planChanged() error {
	now := s.p.Digest()
	was, known := s.seen["plan"]
	if was == now {
		return nil
	}
	if known {
		if err := s.happened(onPlan, "plan", was, now, fmt.Sprintf("version %s of the plan came into force (%s)", or(s.p.Plan.Version, "without a number"), short(now))); err != nil {
			return err
		}
	}
	return s.remember(s.ctx, s.tx, "plan", now)
}

func short(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), 12)]
}

// storeChanged turns what changed about a store into duties (INV-12, BKP-14, BKP-25,
// STO-17, INT-03): a restore test, a look at its objectives and at its schedule. A
// baseline moves only when its event is written, so that slow growth is seen too.
func (s *settling) storeChanged(id string) error {
	subject := "stores." + id
	st := s.p.Stores[id]
	if _, known := s.seen[subject]; !known {
		if err := s.remember(s.ctx, s.tx, subject, "known"); err != nil {
			return err
		}
		if err := s.happened(onNew, subject, "", "", fmt.Sprintf("the store %q is new in the plan", id)); err != nil {
			return err
		}
	}
	is := map[string]string{}
	if b, ok := s.p.Backups[st.Protect]; ok {
		least, most := s.p.Kept(id)
		is[onRetention] = fmt.Sprintf("at least %s, at most %s", least, most)
		is[onPlace] = list(b.Copies.Names())
	} else {
		is[onRetention], is[onPlace] = "nothing", "nowhere"
	}
	saw, looked := s.obs.Stores[id]
	if looked {
		is[onVersion], is[onSchema] = saw.Version, saw.Schema
		if saw.Bytes > 0 {
			is[onSize] = strconv.FormatInt(saw.Bytes, 10)
		}
	}
	words := map[string]string{onVersion: "version", onSchema: "schema", onSize: "size", onRetention: "retention", onPlace: "places of copies"}
	for _, event := range sorted(is) {
		key := subject + "." + event
		was, now := s.seen[key], is[event]
		if now == "" || was == now {
			continue
		}
		if was != "" {
			cause := fmt.Sprintf("the %s of %q changed from %s to %s", words[event], id, was, now)
			if event == onSchema {
				cause = fmt.Sprintf("the schema of %q changed on %s", id, s.now.Format(time.DateOnly))
			}
			if event == onSize {
				a, _ := strconv.ParseInt(was, 10, 64)
				b, _ := strconv.ParseInt(now, 10, 64)
				if !jumped(a, b) {
					continue // the old baseline stays
				}
				cause = fmt.Sprintf("the size of %q went from %s to %s", id, megabytes(a), megabytes(b))
			}
			if err := s.material(event, id, was, now, cause); err != nil {
				return err
			}
		}
		if err := s.remember(s.ctx, s.tx, key, now); err != nil {
			return err
		}
	}
	return nil
}

// material is a change of a store that ends what was known of it.
func (s *settling) material(event, id, was, now, cause string) error {
	subject := "stores." + id
	if err := s.happened(event, subject, was, now, cause); err != nil {
		return err
	}
	owner := s.p.Stores[id].Owner
	asked := []want{{name: "schedule." + subject, kind: Schedule, subject: subject, what: fmt.Sprintf("confirm the schedule of %q, or change it", id), by: []string{or(owner, s.p.Plan.Owner)}, items: coverage(s.p, id).items}}
	if event != onRetention { // which changes what is kept, and not what comes back
		asked = append(asked, want{name: "restore-test." + subject, kind: RestoreTest, subject: subject, what: fmt.Sprintf("restore test of %q is due after a change", id), by: []string{or(owner, s.p.Plan.Owner)}})
	}
	if w, ok := s.byName["objectives."+subject]; ok {
		asked = append(asked, w)
	}
	for _, w := range asked {
		if err := s.demand(w, cause, eventDue); err != nil {
			return err
		}
	}
	return nil
}

// failures turns failed drills and incidents into what people learn from them (INT-10,
// RSK-03). Each is answered once.
func (s *settling) failures() error {
	for _, d := range s.obs.Drills {
		if d.Passed || s.answered("drill."+d.ID) {
			continue
		}
		cause := fmt.Sprintf("drill %s of %s did not pass on %s", d.ID, d.Store, d.At.UTC().Format(time.DateOnly))
		if d.Why != "" {
			cause += ": " + d.Why
		}
		if err := s.learn("drill."+d.ID, onFailed, []string{d.Store}, s.p.ServicesOf(d.Store), d.Name, oneLine(cause)); err != nil {
			return err
		}
	}
	for _, i := range s.obs.Incidents {
		for _, x := range []struct {
			is    bool
			event string
			text  string
		}{{i.Kind != "recovery-drill", onIncident, "opened"}, {i.Activated, onActivation, "activated the plan"}} {
			key := "incident." + i.Name + "." + x.event
			if !x.is || s.answered(key) {
				continue
			}
			if err := s.learn(key, x.event, i.Stores, i.Services, "", fmt.Sprintf("%s (%s) %s", i.Name, i.Kind, x.text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *settling) answered(key string) bool {
	_, ok := s.seen[key]
	return ok
}

func (s *settling) learn(key, event string, stores, services []string, drill, cause string) error {
	if err := s.remember(s.ctx, s.tx, key, cause); err != nil {
		return err
	}
	subject := "plan"
	if len(stores) > 0 {
		subject = "stores." + stores[0]
	}
	if err := s.happened(event, subject, "", "", cause); err != nil {
		return err
	}
	for _, id := range sorted(s.p.Risks) {
		r := s.p.Risks[id]
		about := len(r.Of) == 0 && (drill == "" || len(r.By) == 0 || slices.Contains(r.By, drill)) ||
			slices.ContainsFunc(r.Of, func(n string) bool { return slices.Contains(stores, n) || slices.Contains(services, n) })
		if about {
			if err := s.demand(s.byName["risks."+id], cause, eventDue); err != nil {
				return err
			}
		}
	}
	if event != onFailed {
		return nil
	}
	within := eventDue
	if in := s.p.Incidents; in != nil && in.Review != nil && !in.Review.ActionsDue.IsZero() {
		within = in.Review.ActionsDue.Approx()
	}
	owner := s.p.Plan.Owner
	if len(stores) > 0 {
		owner = or(s.p.Stores[stores[0]].Owner, owner)
	}
	if err := s.demand(want{name: "action." + key, kind: Action, subject: subject, what: "mend what the drill found, and show it by one that passes", by: []string{owner}}, cause, within); err != nil {
		return err
	}
	policy, ok := s.byName["plan"]
	if !ok {
		policy = want{name: "plan", kind: Review, subject: "plan", what: "review the plan", by: fallbackRoles(s.p)}
	}
	return s.demand(policy, cause, eventDue)
}
