package job

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast/internal/calendar"
	"holdfast/internal/db"
)

// A MissedPolicy says what happens to slots whose time passed while nobody could
// start them: all servers were down, or the job of an earlier slot still ran.
type MissedPolicy string

const (
	// MissedOnce starts one job for the newest of them, however late. The
	// older ones are missed. This is the default.
	MissedOnce MissedPolicy = "once"
	// MissedSkip starts a job only before the deadline of the newest, else for
	// none; the next slot comes in its time.
	MissedSkip MissedPolicy = "skip"
)

// A Schedule declares when work is expected.
type Schedule struct {
	Name  string
	Kind  string
	Args  any // JSON
	Every calendar.Recurrence
	// Location gives wall-clock times their meaning; it must be known by name
	// to the time zone database. nil: UTC.
	Location *time.Location
	// Deadline is how long after its time a slot may finish without being
	// missed. Zero: until the next slot is due.
	Deadline time.Duration
	Missed   MissedPolicy // empty: MissedOnce
	Queue    string       // of its jobs; empty: "default"
	// Key of its jobs. While a job of the same kind and key is unfinished,
	// also one that a person started, no slot starts another. Empty:
	// "schedule:" and the name.
	Key string
}

// Slot states.
const (
	SlotExpected = "expected" // nothing happened yet
	SlotStarted  = "started"  // its job is unfinished
	SlotDone     = "done"     // finished in time
	SlotFailed   = "failed"   // its job failed or was cancelled
	SlotMissed   = "missed"   // not finished at the deadline, or never to be started
)

// A Slot is an instant at which work is expected.
type Slot struct {
	ID       int64
	Schedule string
	Due      time.Time
	Deadline time.Time
	State    string
	Job      int64     // 0: none was started
	Finished time.Time // of its job, also if that was late
	Note     string
}

// How far ahead slots are written.
const (
	horizon   = 24 * time.Hour // at least this far, refilled at half of it
	minAhead  = 3              // and at least so many
	fillBatch = 2000           // slots in one transaction, after a long outage
)

// stored is a row of job_schedules.
type storedSchedule struct {
	name, kind, key, queue, args string
	every, location, missed      string
	deadline                     time.Duration
	active                       bool
	cursor, ticked               time.Time
}

func (s Schedule) stored() (storedSchedule, error) {
	st := storedSchedule{name: s.Name, kind: s.Kind, key: s.Key, queue: s.Queue, every: s.Every.String(),
		location: "UTC", missed: string(s.Missed), deadline: s.Deadline, active: true}
	if s.Name == "" || s.Kind == "" || s.Every.IsZero() || s.Deadline < 0 {
		return st, errors.New("needs a name, a kind, a recurrence and no negative deadline")
	}
	if s.Location != nil {
		st.location = s.Location.String()
		if _, err := time.LoadLocation(st.location); err != nil {
			return st, err
		}
	}
	switch s.Missed {
	case "":
		st.missed = string(MissedOnce)
	case MissedOnce, MissedSkip:
	default:
		return st, fmt.Errorf("unknown policy %q for missed slots", s.Missed)
	}
	if st.key == "" {
		st.key = "schedule:" + s.Name
	}
	if st.queue == "" {
		st.queue = defaultQueue
	}
	args, err := encode(s.Args, MaxArgs)
	if err != nil {
		return st, fmt.Errorf("arguments: %w", err)
	}
	st.args = args
	return st, nil
}

// SetSchedules makes the given schedules the ones in force, in the caller's
// transaction. Slots whose time has come stay under the rules under which they
// were written; those still ahead follow the new ones. Setting the same schedules
// again changes nothing, so every server does it at its start.
func (e *Engine) SetSchedules(ctx context.Context, tx *db.Tx, schedules []Schedule) error {
	now := e.config.Clock()
	before, err := readSchedules(ctx, tx)
	if err != nil {
		return fmt.Errorf("set schedules: %w", err)
	}
	old := map[string]storedSchedule{}
	for _, s := range before {
		old[s.name] = s
	}
	seen := map[string]bool{}
	for _, s := range schedules {
		st, err := s.stored()
		if err == nil && seen[s.Name] {
			err = errors.New("is declared twice")
		}
		if err != nil {
			return fmt.Errorf("set schedules: %q: %w", s.Name, err)
		}
		seen[s.Name] = true
		was, known := old[s.Name]
		if known && was.active && was.sameTimes(st) {
			st.cursor = was.cursor
			_, err = tx.Exec(ctx, "UPDATE job_schedules SET kind = ?, key = ?, queue = ?, args = ?, missed = ? WHERE name = ?",
				st.kind, st.key, st.queue, st.args, st.missed, st.name)
		} else {
			if known && was.active {
				err = withdraw(ctx, tx, was, now, false)
			}
			st.cursor = now
			if err == nil {
				err = putSchedule(ctx, tx, st)
			}
		}
		if err != nil {
			return fmt.Errorf("set schedules: %q: %w", s.Name, err)
		}
		// At once, not at the next tick: what is promised is written down with
		// the promise.
		if _, err := fill(ctx, tx, st, now); err != nil {
			return fmt.Errorf("set schedules: %q: %w", s.Name, err)
		}
	}
	for _, was := range before {
		if was.active && !seen[was.name] {
			if err := withdraw(ctx, tx, was, now, true); err != nil {
				return fmt.Errorf("set schedules: end %q: %w", was.name, err)
			}
		}
	}
	e.db.Notify(ctx, tx, wakeWork)
	return nil
}

func (s storedSchedule) sameTimes(o storedSchedule) bool {
	return s.every == o.every && s.location == o.location && s.deadline == o.deadline
}

// withdraw ends the expectations of a schedule from now on. Those whose time came
// are written down first, as far back as the last server that ran; if the schedule
// ends, no job will be started for them.
func withdraw(ctx context.Context, tx *db.Tx, s storedSchedule, now time.Time, end bool) error {
	for {
		more, err := fill(ctx, tx, s, now)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := tx.QueryRow(ctx, "SELECT cursor_at FROM job_schedules WHERE name = ?", s.name).Scan((*micros)(&s.cursor)); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM job_slots WHERE schedule = ? AND due > ? AND job = 0 AND state = 'expected'", s.name, now); err != nil {
		return err
	}
	if !end {
		return nil
	}
	if _, err := tx.Exec(ctx, "UPDATE job_slots SET closed = 1, state = 'missed', note = 'the schedule ended before a job was started' WHERE schedule = ? AND job = 0 AND closed = 0", s.name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "UPDATE job_schedules SET active = 0 WHERE name = ?", s.name)
	return err
}

// fill writes the slots after the cursor up to the horizon, and returns whether a
// batch was not enough.
func fill(ctx context.Context, tx *db.Tx, s storedSchedule, now time.Time) (more bool, err error) {
	every, err := calendar.ParseRecurrence(s.every)
	if err != nil {
		return false, err
	}
	loc, err := time.LoadLocation(s.location)
	if err != nil {
		return false, err
	}
	var ahead int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM job_slots WHERE schedule = ? AND due > ?", s.name, now).Scan(&ahead); err != nil {
		return false, err
	}
	end := now.Add(horizon)
	refill := db.Micros(now.Add(horizon / 2))
	next, ok := every.Next(s.cursor, loc)
	for n := 0; ok && (!next.After(end) || ahead < minAhead); n++ {
		if n == fillBatch {
			more, refill = true, 0
			break
		}
		due := next
		next, ok = every.Next(due, loc)
		deadline := due.Add(s.deadline)
		if s.deadline == 0 {
			deadline = due.Add(horizon) // of the last slot of all
			if ok {
				deadline = next
			}
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO job_slots (schedule, due, deadline, state, job, closed, finished_at, note)
			VALUES (?, ?, ?, 'expected', 0, 0, 0, '') ON CONFLICT (schedule, due) DO NOTHING`, s.name, due, deadline); err != nil {
			return false, err
		}
		s.cursor = due
		if due.After(now) {
			ahead++
		}
	}
	if !ok {
		refill = math.MaxInt64 // it never happens again
	}
	_, err = tx.Exec(ctx, "UPDATE job_schedules SET cursor_at = ?, refill_at = ?, ticked_at = ? WHERE name = ?", s.cursor, refill, now, s.name)
	return more, err
}

// tickSchedules looks which schedules have something to do, and does it, each in
// its own transaction.
func (e *Engine) tickSchedules(ctx context.Context, now time.Time) error {
	var names []string
	var late bool
	err := e.db.View(ctx, func(tx *db.Tx) (err error) {
		names, err = db.Collect(func(r *sql.Rows) (name string, err error) { return name, r.Scan(&name) })(tx.Query(ctx, `
			SELECT s.name FROM job_schedules s WHERE s.active = 1 AND (s.refill_at <= ? OR s.ticked_at > ?
				OR EXISTS (SELECT 1 FROM job_slots o WHERE o.schedule = s.name AND o.job = 0 AND o.closed = 0 AND o.due <= ?)
					AND NOT EXISTS (SELECT 1 FROM job_jobs j WHERE j.kind = s.kind AND j.key = s.key AND j.state IN ('waiting', 'running')))
			ORDER BY s.name`, now, now.Add(clockSlack), now))
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, "SELECT 1 FROM job_slots WHERE state IN ('expected', 'started') AND deadline <= ? LIMIT 1", now).Scan(new(int))
		late = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		for more := true; more; {
			err := e.db.Tx(ctx, func(tx *db.Tx) (err error) {
				more, err = e.tickSchedule(ctx, tx, name, now)
				return err
			})
			if err != nil {
				return fmt.Errorf("schedule %q: %w", name, err)
			}
		}
		late = true // what was filled in may be late already
	}
	if !late {
		return nil
	}
	return e.db.TxReadCommitted(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE job_slots SET state = 'missed', note = CASE WHEN job = 0
				THEN 'nothing was started before the deadline' ELSE 'not finished at the deadline' END
			WHERE state IN ('expected', 'started') AND deadline <= ?`, now)
		return err
	})
}

// tickSchedule writes slots ahead and starts the job of a due slot. Other servers
// may do the same at the same time: the transaction of one fails and runs again on
// what the other left.
func (e *Engine) tickSchedule(ctx context.Context, tx *db.Tx, name string, now time.Time) (more bool, err error) {
	s, err := scanSchedule(tx.QueryRow(ctx, "SELECT "+scheduleColumns+" FROM job_schedules WHERE name = ?", name))
	if err != nil || !s.active {
		return false, err
	}
	if s.ticked.After(now.Add(clockSlack)) {
		// The clock was ahead and has come back. What it made of the time that
		// is still to come is void; otherwise that time would pass without work.
		if _, err := tx.Exec(ctx, "DELETE FROM job_slots WHERE schedule = ? AND due > ? AND job = 0", s.name, now); err != nil {
			return false, err
		}
		s.cursor = now
	}
	if more, err = fill(ctx, tx, s, now); more || err != nil {
		return more, err
	}
	var open Slot
	err = tx.QueryRow(ctx, "SELECT id, due, deadline FROM job_slots WHERE schedule = ? AND job = 0 AND closed = 0 AND due <= ? ORDER BY due DESC LIMIT 1",
		name, now).Scan(&open.ID, (*micros)(&open.Due), (*micros)(&open.Deadline))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, "SELECT 1 FROM job_jobs WHERE kind = ? AND key = ? AND state IN ('waiting', 'running') LIMIT 1", s.kind, s.key).Scan(new(int))
	if err == nil {
		return false, nil // it waits its turn, and is missed if that takes too long
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	// The older ones had their chance.
	if _, err := tx.Exec(ctx, "UPDATE job_slots SET closed = 1, state = 'missed', note = 'not started in time; the next one follows' WHERE schedule = ? AND job = 0 AND closed = 0 AND due < ?", name, open.Due); err != nil {
		return false, err
	}
	if s.missed == string(MissedSkip) && !now.Before(open.Deadline) {
		_, err := tx.Exec(ctx, "UPDATE job_slots SET closed = 1, state = 'missed', note = 'skipped: its deadline had passed' WHERE id = ?", open.ID)
		return false, err
	}
	id, err := insertJob(ctx, tx, Insert{Kind: s.kind, Key: s.key, Queue: s.queue, RunAt: now}, s.args, now, open.ID)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(ctx, "UPDATE job_slots SET job = ?, state = 'started' WHERE id = ? AND job = 0 AND closed = 0", id, open.ID)
	if err == nil && n != 1 {
		err = errors.New("another server has started the slot") // and nothing of this transaction stays
	}
	e.db.Notify(ctx, tx, wakeWork)
	return false, err
}

// settleSlot writes into the slot of a job how that ended. What was missed stays
// missed.
func settleSlot(ctx context.Context, tx *db.Tx, job int64, state State, text string, now time.Time) error {
	slot, note := SlotDone, ""
	if state != Done {
		slot, note = SlotFailed, text
	}
	_, err := tx.Exec(ctx, `
		UPDATE job_slots SET finished_at = ?,
			state = CASE WHEN state = 'missed' OR deadline <= ? THEN 'missed' ELSE ? END,
			note = CASE WHEN ? <> '' THEN ? WHEN state = 'missed' OR deadline <= ? THEN 'finished late' ELSE '' END
		WHERE job = ?`, now, now, slot, note, note, now, job)
	return err
}

// Slots returns the slots of a schedule that are due in [from, to), in order; of
// all schedules if the name is empty. A slot whose deadline has passed is missed,
// also if no server was there to write that down.
func (e *Engine) Slots(ctx context.Context, schedule string, from, to time.Time) ([]Slot, error) {
	now := e.config.Clock()
	var slots []Slot
	err := e.db.View(ctx, func(tx *db.Tx) (err error) {
		slots, err = db.Collect(func(r *sql.Rows) (s Slot, err error) {
			return s, r.Scan(&s.ID, &s.Schedule, (*micros)(&s.Due), (*micros)(&s.Deadline), &s.State, &s.Job, (*micros)(&s.Finished), &s.Note)
		})(tx.Query(ctx, `
			SELECT id, schedule, due, deadline, state, job, finished_at, note FROM job_slots
			WHERE (schedule = ? OR ? = '') AND due >= ? AND due < ? ORDER BY due, schedule LIMIT ?`,
			schedule, schedule, from, to, MaxSlots+1))
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(slots) > MaxSlots {
		return nil, fmt.Errorf("more than %d slots from %s to %s: ask for a shorter period", MaxSlots, from, to)
	}
	for i := range slots {
		s := &slots[i]
		if (s.State == SlotExpected || s.State == SlotStarted) && !now.Before(s.Deadline) {
			s.State = SlotMissed
		}
	}
	return slots, nil
}

// MissedSince returns the slots of all schedules that were due since an instant and were
// missed by now, whether or not a server that runs has marked them. Only schedule, due and
// deadline are filled in.
func (e *Engine) MissedSince(ctx context.Context, since time.Time) (out []Slot, err error) {
	err = e.db.View(ctx, func(tx *db.Tx) error {
		out, err = db.Collect(func(r *sql.Rows) (s Slot, err error) {
			s.State = SlotMissed
			return s, r.Scan(&s.Schedule, (*micros)(&s.Due), (*micros)(&s.Deadline))
		})(tx.Query(ctx, `SELECT schedule, due, deadline FROM job_slots WHERE state = 'missed' AND due >= ?
			UNION ALL SELECT schedule, due, deadline FROM job_slots WHERE state IN ('expected', 'started') AND deadline <= ? AND due >= ? ORDER BY 2 DESC LIMIT ?`,
			since, e.config.Clock(), since, MaxSlots))
		return err
	})
	return out, err
}

const scheduleColumns = "name, kind, key, queue, args, every, location, missed, deadline, active, cursor_at, ticked_at"

func scanSchedule(r scanner) (s storedSchedule, err error) {
	var deadline int64
	err = r.Scan(&s.name, &s.kind, &s.key, &s.queue, &s.args, &s.every, &s.location, &s.missed, &deadline, &s.active, (*micros)(&s.cursor), (*micros)(&s.ticked))
	s.deadline = time.Duration(deadline) * time.Microsecond
	return s, err
}

// Schedules returns those that are in force in the state, in the order of their names:
// what really runs, whoever wrote it there. Args are left out.
func (e *Engine) Schedules(ctx context.Context) (out []Schedule, err error) {
	err = e.db.View(ctx, func(tx *db.Tx) error {
		out = nil
		all, err := readSchedules(ctx, tx)
		if err != nil {
			return err
		}
		for _, s := range all {
			if !s.active {
				continue
			}
			every, err := calendar.ParseRecurrence(s.every)
			if err != nil {
				return fmt.Errorf("schedule %q: %w", s.name, err)
			}
			loc, err := time.LoadLocation(s.location)
			if err != nil {
				return fmt.Errorf("schedule %q: %w", s.name, err)
			}
			out = append(out, Schedule{Name: s.name, Kind: s.kind, Every: every, Location: loc, Deadline: s.deadline, Missed: MissedPolicy(s.missed), Queue: s.queue, Key: s.key})
		}
		return nil
	})
	return out, err
}

func readSchedules(ctx context.Context, tx *db.Tx) ([]storedSchedule, error) {
	return db.Collect(func(r *sql.Rows) (storedSchedule, error) { return scanSchedule(r) })(
		tx.Query(ctx, "SELECT "+scheduleColumns+" FROM job_schedules ORDER BY name"))
}

func putSchedule(ctx context.Context, tx *db.Tx, s storedSchedule) error {
	if _, err := tx.Exec(ctx, "DELETE FROM job_schedules WHERE name = ?", s.name); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO job_schedules ("+scheduleColumns+", refill_at) VALUES ("+marks(13)+")",
		s.name, s.kind, s.key, s.queue, s.args, s.every, s.location, s.missed, s.deadline.Microseconds(), s.active, s.cursor, s.cursor, 0)
	return err
}

// micros scans a stored time.
type micros time.Time

func (m *micros) Scan(v any) error {
	us, ok := v.(int64)
	if !ok {
		return fmt.Errorf("stored time is a %T", v)
	}
	*m = micros(db.Time(us))
	return nil
}
