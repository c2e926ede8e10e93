package job

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/internal/calendar"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
)

func recurrence(t *testing.T, s string) calendar.Recurrence {
	t.Helper()
	r, err := calendar.ParseRecurrence(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func setSchedules(t *testing.T, e *Engine, s ...Schedule) {
	t.Helper()
	if err := e.db.Tx(t.Context(), func(tx *db.Tx) error { return e.SetSchedules(t.Context(), tx, s) }); err != nil {
		t.Fatal(err)
	}
}

func tick(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Tick(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// slots returns what there is of a schedule, as "due state" in the zone of UTC.
func slots(t *testing.T, e *Engine, name string, from, to time.Time) []Slot {
	t.Helper()
	s, err := e.Slots(t.Context(), name, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantStates(t *testing.T, e *Engine, name string, from time.Time, want ...string) {
	t.Helper()
	got := slots(t, e, name, from, e.config.Clock().Add(time.Microsecond))
	var states []string
	for _, s := range got {
		states = append(states, s.State)
	}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Helper()
		t.Errorf("at %s the slots of %q since %s are %v, want %v", e.config.Clock().Format(time.RFC3339), name, from.Format(time.RFC3339), states, want)
	}
}

func TestSlotsAreWrittenAheadAndFire(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		fail := false
		e.Handle("backup", func(ctx context.Context, w *Work) error {
			if fail {
				return Permanent(errors.New("disk full"))
			}
			return nil
		}, HandlerOptions{})
		s := Schedule{Name: "db", Kind: "backup", Args: "x", Every: recurrence(t, "every 1h"), Deadline: 30 * time.Minute}
		setSchedules(t, e, s)
		ahead := slots(t, e, "db", monday, monday.Add(1000*time.Hour))
		if len(ahead) != 24 || !ahead[0].Due.Equal(monday.Add(time.Hour)) || ahead[0].State != SlotExpected || !ahead[0].Deadline.Equal(monday.Add(90*time.Minute)) {
			t.Fatalf("%d slots ahead, first %+v", len(ahead), ahead[0])
		}
		if runOnce(t, e) {
			t.Error("fired before its time")
		}
		c.set(monday.Add(time.Hour))
		if !runOnce(t, e) || runOnce(t, e) {
			t.Error("want one job for the slot")
		}
		got := slots(t, e, "", ahead[0].Due, ahead[0].Due.Add(time.Microsecond))[0]
		if got.State != SlotDone || get(t, e, got.Job).Slot != got.ID || !got.Finished.Equal(c.now()) || string(get(t, e, got.Job).Args) != `"x"` {
			t.Errorf("slot %+v of job %+v", got, get(t, e, got.Job))
		}
		fail = true
		c.set(monday.Add(2 * time.Hour))
		runOnce(t, e)
		wantStates(t, e, "db", monday, SlotDone, SlotFailed)

		// Started in time, finished after the deadline: missed, and it stays so.
		fail = false
		c.set(monday.Add(3 * time.Hour))
		tick(t, e)
		wantStates(t, e, "db", monday, SlotDone, SlotFailed, SlotStarted)
		w := claimed(t, e)
		c.set(monday.Add(3*time.Hour + 30*time.Minute))
		wantStates(t, e, "db", monday, SlotDone, SlotFailed, SlotMissed) // nobody has written it down yet
		if _, err := w.renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Done(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		tick(t, e)
		late := slots(t, e, "db", monday.Add(3*time.Hour), c.now())[0]
		if late.State != SlotMissed || late.Note != "finished late" || late.Finished.IsZero() {
			t.Errorf("late slot: %+v", late)
		}
	})
}

// Several servers tick at the same time: each slot has one job.
func TestSlotsFireOnceAmongManyServers(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		var servers []*Engine
		for n := range 4 {
			servers = append(servers, engine(d, c, fmt.Sprint(n)))
		}
		setSchedules(t, servers[0], Schedule{Name: "a", Kind: "k", Every: recurrence(t, "every 1h")}, Schedule{Name: "b", Kind: "k", Every: recurrence(t, "every 1h")})
		for hour := 1; hour <= 5; hour++ {
			c.set(monday.Add(time.Duration(hour) * time.Hour))
			errs := make(chan error)
			for _, e := range servers {
				go func() { errs <- e.Tick(t.Context()) }()
			}
			for range servers {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			jobs, err := servers[0].List(t.Context(), Filter{State: Waiting})
			if err != nil || len(jobs) != 2 {
				t.Fatalf("hour %d: %d jobs, %v", hour, len(jobs), err)
			}
			for _, j := range jobs {
				if err := servers[0].Cancel(t.Context(), j.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestMissedRuns(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		ran := map[string]int{}
		for _, kind := range []string{"once", "skip"} {
			e.Handle(kind, func(context.Context, *Work) error { ran[kind]++; return nil }, HandlerOptions{})
		}
		setSchedules(t, e,
			Schedule{Name: "once", Kind: "once", Every: recurrence(t, "every 1h"), Deadline: 10 * time.Minute},
			Schedule{Name: "skip", Kind: "skip", Every: recurrence(t, "every 1h"), Deadline: 10 * time.Minute, Missed: MissedSkip})

		// Down for longer than slots were written ahead: 40 hours.
		c.set(monday.Add(40*time.Hour + 30*time.Minute))
		for runOnce(t, e) {
		}
		if ran["once"] != 1 || ran["skip"] != 0 {
			t.Errorf("after the outage: %v runs", ran)
		}
		for _, name := range []string{"once", "skip"} {
			all := slots(t, e, name, monday, c.now())
			if len(all) != 40 {
				t.Errorf("%s: %d slots are known of an outage of 40 hours", name, len(all))
			}
			for i, s := range all {
				newest := name == "once" && i == len(all)-1
				if s.State != SlotMissed || (s.Job != 0) != newest || s.Note == "" {
					t.Errorf("%s: slot %d: %+v", name, i, s)
				}
			}
		}
		// Back in step, and late by less than the deadline.
		c.set(monday.Add(41*time.Hour + 5*time.Minute))
		for runOnce(t, e) {
		}
		if ran["once"] != 2 || ran["skip"] != 1 {
			t.Errorf("the slot after: %v runs", ran)
		}
		wantStates(t, e, "skip", monday.Add(41*time.Hour), SlotDone)
		wantStates(t, e, "once", monday.Add(41*time.Hour), SlotDone)
	})
}

func TestSlowJobDoesNotOverlapItself(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		setSchedules(t, e, Schedule{Name: "s", Kind: "k", Every: recurrence(t, "every 1h"), Key: "store"})
		c.set(monday.Add(time.Hour))
		tick(t, e)
		w := claimed(t, e)
		for hour := 2; hour <= 4; hour++ {
			c.set(monday.Add(time.Duration(hour) * time.Hour))
			if _, err := w.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if runOnce(t, e) {
				t.Fatal("two jobs of one schedule")
			}
		}
		if err := w.Done(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		if !runOnce(t, e) || runOnce(t, e) {
			t.Error("want one run for what was missed")
		}
		wantStates(t, e, "s", monday, SlotMissed, SlotMissed, SlotMissed, SlotDone)
		all := slots(t, e, "s", monday, c.now().Add(time.Microsecond))
		if all[0].Job == 0 || all[1].Job != 0 || all[2].Job != 0 || all[3].Job == 0 {
			t.Errorf("slots: %+v", all)
		}
	})
}

func TestChangingSchedules(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		hourly := Schedule{Name: "s", Kind: "k", Every: recurrence(t, "every 1h"), Deadline: 10 * time.Minute}
		daily := hourly
		daily.Every = recurrence(t, "every 1d at 03:00")
		setSchedules(t, e, hourly)
		count := func() int { return len(slots(t, e, "s", monday, monday.AddDate(1, 0, 0))) }
		if n := count(); n != 24 {
			t.Errorf("%d slots", n)
		}
		for range 3 { // as servers that start again do
			setSchedules(t, e, hourly)
		}
		if n := count(); n != 24 {
			t.Errorf("%d slots after setting the same again", n)
		}
		c.set(monday.Add(30*time.Hour + time.Minute)) // all down, and back with another plan
		setSchedules(t, e, daily)
		past := slots(t, e, "s", monday, c.now())
		if len(past) != 30 {
			t.Errorf("%d slots of the outage are known, want 30", len(past))
		}
		ahead := slots(t, e, "s", c.now(), monday.AddDate(1, 0, 0))
		if len(ahead) != minAhead || ahead[0].Due.Hour() != 3 {
			t.Errorf("slots ahead: %+v", ahead)
		}
		setSchedules(t, e) // no longer declared
		if n := len(slots(t, e, "s", c.now(), monday.AddDate(1, 0, 0))); n != 0 {
			t.Errorf("%d expectations of a schedule that ended", n)
		}
		c.advance(100 * time.Hour)
		setSchedules(t, e, daily) // and back, without the time in between
		if runOnce(t, e) {
			t.Error("a slot from before the end was made good")
		}
		if n := len(slots(t, e, "s", monday.Add(31*time.Hour), c.now())); n != 0 {
			t.Errorf("%d slots of the time when nothing was declared", n)
		}
		for i, bad := range []Schedule{{}, {Name: "x", Kind: "k"}, {Name: "x", Kind: "k", Every: hourly.Every, Missed: "never"},
			{Name: "x", Kind: "k", Every: hourly.Every, Location: time.FixedZone("Mars", 1)}, {Name: "x", Kind: "k", Every: hourly.Every, Deadline: -1}} {
			err := d.Tx(t.Context(), func(tx *db.Tx) error { return e.SetSchedules(t.Context(), tx, []Schedule{bad}) })
			if err == nil {
				t.Errorf("bad schedule %d was taken", i)
			}
		}
		err := d.Tx(t.Context(), func(tx *db.Tx) error { return e.SetSchedules(t.Context(), tx, []Schedule{hourly, hourly}) })
		if err == nil {
			t.Error("a name twice")
		}
	})
}

// A year in several zones with both changes of the clock, a server that looks now
// and then, and two outages. The expected slots are counted by the wall clock, not
// by the package that makes them.
func TestAYearOfSchedules(t *testing.T) {
	dbtest.Each(t, modules, func(t *testing.T, d *db.DB) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		end := start.AddDate(1, 0, 0)
		c := newClock(start)
		e := engine(d, c, "a")
		e.Handle("k", nothing, HandlerOptions{})
		berlin, newYork, howe := zone(t, "Europe/Berlin"), zone(t, "America/New_York"), zone(t, "Australia/Lord_Howe")
		set := func() {
			setSchedules(t, e,
				Schedule{Name: "gap", Kind: "k", Every: recurrence(t, "every 1d at 02:30"), Location: berlin},
				Schedule{Name: "fold", Kind: "k", Every: recurrence(t, "every 1d at 01:30"), Location: newYork},
				Schedule{Name: "half", Kind: "k", Every: recurrence(t, "every 1d at 02:15"), Location: howe},
				Schedule{Name: "week", Kind: "k", Every: recurrence(t, "every 1w on sun at 02:30"), Location: berlin},
				Schedule{Name: "last", Kind: "k", Every: recurrence(t, "every 1mo on last at 23:30"), Location: berlin},
				Schedule{Name: "steps", Kind: "k", Every: recurrence(t, "every 6h"), Deadline: 2 * time.Hour})
		}
		set()
		outage := func(now time.Time) bool {
			return now.Month() == time.March && now.Day() >= 28 && now.Day() <= 30 || // over the change in Berlin
				now.Month() == time.July && now.Day() <= 10
		}
		for now := start; !now.After(end); now = now.Add(115 * time.Minute) {
			if outage(now) {
				continue
			}
			c.set(now)
			if now.Day() == 1 && now.Hour() == 0 {
				set() // a restart
			}
			for runOnce(t, e) {
			}
		}
		c.set(end)
		tick(t, e)

		// What the wall clocks showed: one slot per local day, and so on.
		want := map[string]map[string]bool{}
		for _, s := range []struct {
			name string
			loc  *time.Location
			day  func(time.Time) bool
		}{
			{"gap", berlin, func(time.Time) bool { return true }},
			{"fold", newYork, func(time.Time) bool { return true }},
			{"half", howe, func(time.Time) bool { return true }},
			{"week", berlin, func(d time.Time) bool { return d.Weekday() == time.Sunday }},
			{"last", berlin, func(d time.Time) bool { return d.AddDate(0, 0, 1).Day() == 1 }},
		} {
			want[s.name] = map[string]bool{}
			first, last := start.In(s.loc), end.In(s.loc)
			for day := time.Date(first.Year(), first.Month(), first.Day(), 12, 0, 0, 0, time.UTC); !day.After(last.AddDate(0, 0, 1)); day = day.AddDate(0, 0, 1) {
				if s.day(day) {
					want[s.name][day.Format(time.DateOnly)] = true
				}
			}
			seen := map[string]int{}
			for _, slot := range slots(t, e, s.name, start, end) {
				local := slot.Due.In(s.loc)
				seen[local.Format(time.DateOnly)]++
				if !want[s.name][local.Format(time.DateOnly)] {
					t.Errorf("%s: slot on %s", s.name, local)
				}
			}
			// The first and the last local day may lie half outside the year.
			for day := range want[s.name] {
				at, _ := time.ParseInLocation(time.DateOnly, day, s.loc)
				if at.Before(start) || at.AddDate(0, 0, 1).After(end) {
					continue
				}
				if seen[day] != 1 {
					t.Errorf("%s: %d slots on %s, want 1", s.name, seen[day], day)
				}
			}
		}
		if n := len(slots(t, e, "steps", start, end)); n != 365*4-1 {
			t.Errorf("%d slots each 6h, want %d", n, 365*4-1) // the first instant was not after the declaration
		}
		for _, tt := range []struct {
			name   string
			loc    *time.Location
			day    time.Time
			wallAt string
		}{
			{"gap", berlin, time.Date(2026, 3, 29, 0, 0, 0, 0, berlin), "03:30"}, // 02:30 did not exist
			{"fold", newYork, time.Date(2026, 11, 1, 0, 0, 0, 0, newYork), "01:30"},
			{"half", howe, time.Date(2026, 10, 4, 0, 0, 0, 0, howe), "02:45"}, // half an hour was skipped
		} {
			got := slots(t, e, tt.name, tt.day, tt.day.AddDate(0, 0, 1))
			if len(got) != 1 || got[0].Due.In(tt.loc).Format("15:04") != tt.wallAt {
				t.Errorf("%s on %s: %+v, want one at %s", tt.name, tt.day.Format(time.DateOnly), got, tt.wallAt)
			}
		}

		// Every slot has an end; missed are those of the outages and no others.
		for _, s := range slots(t, e, "", start, end.Add(-time.Hour)) {
			during := outage(s.Due) || outage(s.Deadline)
			switch {
			case s.State == SlotDone && s.Job != 0:
			case s.State == SlotMissed && during && s.Note != "":
			default:
				t.Errorf("slot %+v", s)
			}
		}
		for name, day := range map[string]time.Time{"steps": time.Date(2026, 7, 5, 0, 0, 0, 0, time.UTC), "gap": time.Date(2026, 7, 5, 0, 0, 0, 0, berlin)} {
			for _, s := range slots(t, e, name, day, day.AddDate(0, 0, 1)) {
				if s.State != SlotMissed || s.Job != 0 {
					t.Errorf("in the outage: %+v", s)
				}
			}
		}
	})
}

// The clock shows next year for a while and comes back. What happened meanwhile is
// early; what is to come happens in its time.
func TestClockJump(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB, c *clock) {
		e := engine(d, c, "a")
		runs := 0
		e.Handle("k", func(context.Context, *Work) error { runs++; return nil }, HandlerOptions{})
		e.Handle("flaky", func(context.Context, *Work) error { return errors.New("no") }, HandlerOptions{})
		setSchedules(t, e, Schedule{Name: "s", Kind: "k", Every: recurrence(t, "every 1h"), Deadline: 10 * time.Minute})
		future := enqueue(t, e, Insert{Kind: "later", RunAt: monday.AddDate(0, 2, 0)})

		c.set(monday.AddDate(1, 0, 0))
		retry := enqueue(t, e, Insert{Kind: "flaky"})
		created := enqueue(t, e, Insert{Kind: "k", RunAt: c.now().Add(time.Hour)})
		held := enqueue(t, e, Insert{Kind: "k", Key: "held", Priority: 1})
		if claimed(t, e).job.ID != held { // and its worker is gone
			t.Fatal("another job came first")
		}
		for runOnce(t, e) {
		}
		if get(t, e, retry).RunAt.Before(c.now()) || runs != 1 {
			t.Fatalf("in the jump: %d runs, %+v", runs, get(t, e, retry))
		}

		c.set(monday.Add(5 * time.Minute))
		runs = 0
		for runOnce(t, e) {
		}
		if runs != 2 || get(t, e, created).State != Done || get(t, e, held).State != Done || get(t, e, retry).Attempt != 2 {
			t.Errorf("after it: %d runs, %+v, %+v, %+v", runs, get(t, e, created), get(t, e, held), get(t, e, retry))
		}
		for hour := 1; hour <= 30; hour++ {
			c.set(monday.Add(time.Duration(hour) * time.Hour))
			for runOnce(t, e) {
			}
		}
		for _, s := range slots(t, e, "s", monday, c.now().Add(time.Microsecond)) {
			if s.State != SlotDone {
				t.Errorf("slot %+v", s)
			}
			runs--
		}
		if runs != 2 {
			t.Errorf("%d runs beside those of the slots", runs-2)
		}
		if j := get(t, e, future); j.State != Waiting || !j.RunAt.Equal(monday.AddDate(0, 2, 0)) {
			t.Errorf("a job of the future: %+v", j)
		}
	})
}
