package app

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
)

// copyState is what the newest copy of a store at a location is worth.
func (c *company) copyState(a *App, store, location string) (state string, received bool) {
	c.t.Helper()
	copies, err := a.Backups.Copies(c.t.Context(), store)
	if err != nil {
		c.t.Fatal(err)
	}
	var newest time.Time
	for _, cp := range copies {
		if cp.Location == location && !cp.Created.Before(newest) {
			newest, state, received = cp.Created, cp.State, !cp.Received.IsZero()
		}
	}
	return state, received
}

// caughtUp waits until a location holds everything again, and looks whether it does.
func (c *company) caughtUp(a *App, store, location string) {
	c.t.Helper()
	c.received(a, store, location)
	r, err := a.Places.Open(c.t.Context(), location)
	if err != nil {
		c.t.Fatal(err)
	}
	ms, err := r.Manifests(c.t.Context(), store)
	if err != nil || len(ms) == 0 {
		c.t.Fatalf("manifests at %s: %v %v", location, ms, err)
	}
	id, err := ReadIdentity(c.w.Key(KeyRunner))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, m := range ms {
		if err := r.Check(c.t.Context(), m); err != nil {
			c.t.Error(err)
		}
		snap, err := r.Snapshot(c.t.Context(), m, id)
		if err != nil {
			c.t.Error(err)
			continue
		}
		if damage, err := snap.Verify(c.t.Context(), nil); err != nil || len(damage) > 0 {
			c.t.Errorf("snapshot %s at %s: %v %v", m.ID, location, damage, err)
		}
	}
}

// A location goes away in the middle of a backup: the backup is complete at the
// other one, the first says that it is not, and is caught up when it is back.
func TestLocationLostDuringABackup(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, nil)
	for _, name := range []string{"a", "b", "c", "d"} {
		big := make([]byte, 40<<20)
		rand.Read(big) // never fails: the runtime ends the program instead
		c.put(name, string(big))
	}
	a := c.start()
	id, err := a.Backup(t.Context(), "uploads", "test")
	if err != nil {
		t.Fatal(err)
	}
	c.wait("the first pack to arrive", func() bool {
		packs, _ := filepath.Glob(filepath.Join(c.place("near"), "packs", "*", "*"))
		return len(packs) > 0
	})
	c.move("near", "near.away")
	j, err := a.Jobs.Wait(t.Context(), id.Job)
	if err != nil || j.State != "done" {
		t.Fatalf("backup with a location lost: %s %s %v", j.State, j.Error, err)
	}
	c.received(a, "uploads", "offsite")
	if state, received := c.copyState(a, "uploads", "near"); state != "missing" || received {
		t.Errorf("the copy at the lost location is %q, received %t", state, received)
	}
	c.move("near.away", "near")
	r, err := a.Places.Open(t.Context(), "near")
	if err != nil {
		t.Fatal(err)
	}
	if ms, err := r.Manifests(t.Context(), "uploads"); err != nil || len(ms) > 0 {
		if state, _ := c.copyState(a, "uploads", "near"); state == "missing" {
			t.Errorf("the location lists %v before it was caught up: %v", ms, err)
		}
	}
	c.caughtUp(a, "uploads", "near")
}

// A location that was away during backups holds all of them when it is back.
func TestLocationThatComesBackIsCaughtUp(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, nil)
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	c.move("near", "near.away")
	for _, name := range []string{"second.txt", "third.txt"} {
		c.put(name, name)
		c.backup(a, "uploads", "offsite")
	}
	c.move("near.away", "near")
	c.caughtUp(a, "uploads", "near")
	ms := map[string][]string{}
	for _, l := range []string{"near", "offsite"} {
		r, err := a.Places.Open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		c.wait("all snapshots to be at "+l, func() bool {
			all, err := r.Manifests(t.Context(), "uploads")
			if err != nil {
				t.Fatal(err)
			}
			ms[l] = nil
			for _, m := range all {
				ms[l] = append(ms[l], m.ID)
			}
			return len(all) == 3
		})
	}
	if !slices.Equal(ms["near"], ms["offsite"]) {
		t.Errorf("near holds %v, offsite %v", ms["near"], ms["offsite"])
	}
}

// incidentOpen waits for the one incident.
func (c *company) incidentOpen(a *App) (inc incident.Incident) {
	c.t.Helper()
	c.wait("an incident", func() bool {
		is, err := a.Incidents.List(c.t.Context(), true)
		if err != nil {
			c.t.Fatal(err)
		}
		if len(is) > 1 {
			c.t.Fatalf("%d incidents of one loss", len(is))
		}
		if len(is) == 1 {
			inc = is[0]
		}
		return len(is) == 1
	})
	return inc
}

// told waits until the log of an incident says something.
func (c *company) told(a *App, id int64, text string) {
	c.t.Helper()
	c.wait("the incident to say "+text, func() bool {
		es, err := a.Incidents.Events(c.t.Context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		return slices.ContainsFunc(es, func(e incident.Event) bool { return strings.Contains(e.Text, text) })
	})
}

// phase waits until the incident is in a phase.
func (c *company) phase(a *App, id int64, p incident.Phase) {
	c.t.Helper()
	c.wait("the incident to be in "+string(p), func() bool {
		inc, err := a.Incidents.Get(c.t.Context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		return inc.Phase == p
	})
}

// A store that comes back before the loss is confirmed is not recovered over.
func TestStoreComesBackInTime(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, func(v *plan.Values) { v.Confirm = "8s" })
	a := c.start()
	c.backup(a, "uploads", "near")
	c.move("uploads", "uploads.away")
	inc := c.incidentOpen(a)
	c.move("uploads.away", "uploads")
	c.told(a, inc.ID, "uploads answers again")
	c.told(a, inc.ID, "no recovery is needed")
	if rs, err := a.Recoveries.List(t.Context()); err != nil || len(rs) > 0 {
		t.Errorf("a recovery was begun: %v %v", rs, err)
	}
	if inc, err := a.Incidents.Get(t.Context(), inc.ID); err != nil || !inc.Open() {
		t.Errorf("the incident ended without a person: %+v %v", inc, err)
	}
	if inc, err := a.CloseIncident(t.Context(), inc.ID, "founder-a", "somebody moved the folder and moved it back"); err != nil || inc.Open() {
		t.Errorf("the commander cannot close the false alarm: %v", err)
	}
}

// With no location within reach nothing can be recovered. The incident says so and
// stays, and the recovery begins when a location is back.
func TestLossWithNoLocationWithinReach(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, nil)
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	c.move("near", "near.away")
	c.move("offsite", "offsite.away")
	c.lose()
	inc := c.incidentOpen(a)
	c.told(a, inc.ID, "no recovery is possible yet")
	if inc, err := a.Incidents.Get(t.Context(), inc.ID); err != nil || inc.Phase == incident.Recovery || !inc.Open() {
		t.Errorf("the incident is in %s, %v", inc.Phase, err)
	}
	c.move("offsite.away", "offsite")
	run := c.recovered(a)
	if run.Steps[0].Location != "offsite" {
		t.Errorf("recovered from %q, only offsite was there", run.Steps[0].Location)
	}
	c.phase(a, inc.ID, incident.Review)
	if b, err := os.ReadFile(filepath.Join(c.uploads(), "first.txt")); err != nil || string(b) != "first\n" {
		t.Errorf("the folder holds %q, %v", b, err)
	}
}

// A store that is lost once more while its recovery is not ended, after it was back,
// is brought back once more.
func TestStoreLostAgainDuringItsRecovery(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, func(v *plan.Values) { v.Unattended = false }) // a person keeps the run open
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	c.lose()
	inc := c.incidentOpen(a)
	c.awaiting(a)
	c.told(a, inc.ID, "uploads answers again")
	c.lose()
	c.wait("a second recovery to bring the folder back", func() bool {
		_, err := os.Stat(filepath.Join(c.uploads(), "first.txt"))
		rs, lerr := a.Recoveries.List(t.Context())
		if lerr != nil {
			t.Fatal(lerr)
		}
		return err == nil && len(rs) == 2
	})
	if is, err := a.Incidents.List(t.Context(), true); err != nil || len(is) != 1 {
		t.Errorf("%d incidents of one disaster, %v", len(is), err)
	}
}

// awaiting waits until a recovery waits for a person, and returns the step.
func (c *company) awaiting(a *App) (run string, step string) {
	c.t.Helper()
	c.wait("a step to wait for a person", func() bool {
		rs, err := a.Recoveries.List(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range rs {
			for _, s := range r.Steps {
				if s.State == recovery.StateAwaiting {
					run, step = r.ID, s.ID
					return true
				}
			}
		}
		return false
	})
	return run, step
}

// What people have to do belongs to the recovery: it and the incident stay open until
// they say that it is done, also over a restart.
func TestHumanStepsKeepTheIncidentOpen(t *testing.T) {
	t.Parallel()
	c := newCompany(t, false, func(v *plan.Values) { v.Unattended = false })
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	c.lose()
	inc := c.incidentOpen(a)
	run, step := c.awaiting(a)
	c.wait("the folder to be protected again", func() bool {
		r, err := a.Recoveries.Get(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(r.Steps, func(s recovery.Done) bool { return s.Kind == recovery.StepProtect && s.State != recovery.StateDone })
	})
	if _, err := a.CloseIncident(t.Context(), inc.ID, "founder-a", "looks fine"); err == nil {
		t.Error("the incident was closed over a step that a person has to do")
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a = c.start()
	if _, err := a.ConfirmStep(t.Context(), run, step, "stranger", "done"); !errors.Is(err, holdfast.ErrRefused) {
		t.Errorf("a stranger confirmed a step: %v", err)
	}
	for {
		if _, err := a.ConfirmStep(t.Context(), run, step, "founder-b", "done"); err != nil {
			t.Fatal(err)
		}
		r, err := a.Recoveries.Get(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		open := slices.IndexFunc(r.Steps, func(s recovery.Done) bool { return s.Kind == recovery.StepHuman && s.State != recovery.StateDone })
		if open < 0 {
			break
		}
		_, step = c.awaiting(a)
	}
	c.recovered(a)
	c.phase(a, inc.ID, incident.Review)
	if _, err := a.CloseIncident(t.Context(), inc.ID, "founder-a", "recovered"); err != nil {
		t.Error(err)
	}
}

// Nothing of a drill outlives the product that ran it, and what a killed one left goes
// at the next start.
func TestSandboxesGo(t *testing.T) {
	c := newCompany(t, false, nil)
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	boxes := a.boxes()
	_, job, err := a.Drills.Start(t.Context(), drill.Request{Store: "uploads", By: "founder-a", Pick: "latest", Goal: holdfast.L4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Jobs.Wait(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(boxes); !os.IsNotExist(err) {
		t.Errorf("%s is left after the end: %v", boxes, err)
	}

	left := filepath.Join(boxes, "holdfast-sandbox-1", "data")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	c.start()
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s of a killed server is left: %v", left, err)
	}
}
