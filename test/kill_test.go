package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/recovery"
)

// The server is killed at random moments of everything that it does. Nothing that
// is half done may look done, and all of it goes on after the restart.
//
// HOLDFAST_SOAK=N does N rounds instead of the few of an ordinary run, and
// HOLDFAST_SEED repeats a schedule.
func TestKilledServerGoesOn(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HOLDFAST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HOLDFAST_SEED: %v", err)
		}
	}
	t.Logf("HOLDFAST_SEED=%d repeats this schedule", seed)
	k := &killer{killWorld: newKillWorld(t, ""), rand: rand.New(rand.NewPCG(seed, 0)), took: map[string]time.Duration{"recovery": 5 * time.Second}, gone: map[int]bool{}}
	for i := range 200 {
		k.write(filepath.Join(k.uploads(), fmt.Sprintf("file-%03d", i)), strings.Repeat(fmt.Sprintf("%d ", i), 20_000))
	}
	k.serve()
	k.reference()
	rounds := []func(){k.backupRound("db"), k.drillRound, k.recoveryRound, k.backupRound("uploads"), k.recoveryRound, k.drillRound}
	n := len(rounds)
	if s := os.Getenv("HOLDFAST_SOAK"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("HOLDFAST_SOAK: %v", err)
		}
	}
	for i := range n {
		k.round = i + 1
		rounds[i%len(rounds)]()
		k.nothingLeft()
	}
	k.whole()
	t.Logf("%d kills in %d rounds", k.kills, n)
}

// A killer kills the server of its world.
type killer struct {
	*killWorld
	rand  *rand.Rand
	round int
	kills int
	took  map[string]time.Duration // how long each act takes when nobody disturbs it
	gone  map[int]bool             // rows that an earlier disaster cost, as promised
}

func (k *killer) say(format string, args ...any) {
	k.t.Logf("%6.1fs round %d: %s", time.Since(k.began).Seconds(), k.round, fmt.Sprintf(format, args...))
}

// strike kills the server at a random moment of something that takes that long, and
// starts it again.
func (k *killer) strike(what string) {
	k.t.Helper()
	at := time.Duration(k.rand.Int64N(int64(k.took[what]) + 1))
	<-time.After(at)
	k.endServer(syscall.SIGKILL)
	k.kills++
	k.say("killed %s into %s", at.Round(time.Millisecond), what)
	k.serve()
}

// reference does everything once undisturbed, to know how long it takes.
func (k *killer) reference() {
	k.t.Helper()
	for _, store := range []string{"db", "uploads"} {
		began := time.Now()
		if j := k.settled(k.backup(store)); j.State != job.Done {
			k.t.Fatalf("first backup of %s: %s: %s", store, j.State, j.Error)
		}
		k.took["backup of "+store] = time.Since(began)
	}
	k.flowing(time.Now())
	began := time.Now()
	id, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L6, Pick: "latest"})
	k.settled(jobID)
	k.passed(id)
	k.took["drill"] = time.Since(began)
}

// flowing waits until both locations hold everything that was committed before t.
func (k *killer) flowing(t time.Time) {
	k.t.Helper()
	k.wait("the log to reach both locations", func() bool {
		p, err := k.api.Points(k.t.Context(), "db")
		n := 0
		for _, f := range p.Frontiers {
			if f.Err == "" && f.CaughtUp.After(t) {
				n++
			}
		}
		return err == nil && n == len(k.plan.Locations)
	})
}

func (k *killer) startDrill(r api.DrillRequest) (id string, jobID int64) {
	k.t.Helper()
	r.By = "founder-b"
	id, jobID, err := k.api.StartDrill(k.t.Context(), r)
	if err != nil {
		k.t.Fatal(err)
	}
	return id, jobID
}

func (k *killer) passed(id string) drill.Drill {
	k.t.Helper()
	d, err := k.api.Drill(k.t.Context(), id)
	if err != nil {
		k.t.Fatal(err)
	}
	if d.State != drill.StatePassed {
		b, _ := json.MarshalIndent(d, "", " ")
		k.t.Errorf("drill %s is %s: %s\n%s", id, d.State, d.Error, b)
	}
	return d
}

// backupRound kills the server during a backup: its job ends all the same, with one
// snapshot that counts.
func (k *killer) backupRound(store string) func() {
	return func() {
		k.t.Helper()
		id := k.backup(store)
		k.strike("backup of " + store)
		if j := k.settled(id); j.State != job.Done {
			k.t.Errorf("backup of %s after the kill: %s: %s", store, j.State, j.Error)
		}
		k.received(store)
		n := 0
		for _, f := range k.facts() {
			var data struct {
				Job int64 `json:"job"`
			}
			if f.Type == "backup.snapshot" && json.Unmarshal(f.Data, &data) == nil && data.Job == id {
				n++
			}
		}
		if n != 1 {
			k.t.Errorf("job %d settled %d times", id, n)
		}
	}
}

// received waits until everything that is listed at a location has its receipt: a
// snapshot that was finished in the moment of a kill is found again.
func (k *killer) received(store string) {
	k.t.Helper()
	k.wait("receipts of "+store, func() bool {
		for name := range k.plan.Locations {
			r := k.repository(name)
			ms, err := r.Manifests(k.t.Context(), store)
			if err != nil {
				k.t.Fatal(err)
			}
			rs, err := r.Receipts(k.t.Context(), store)
			if err != nil {
				k.t.Fatal(err)
			}
			if len(ms) != len(rs) {
				return false
			}
		}
		return true
	})
}

// drillRound kills the server during a drill. The drill goes on in a new sandbox.
func (k *killer) drillRound() {
	k.t.Helper()
	id, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L6, Pick: "latest"})
	k.strike("drill")
	if j := k.settled(jobID); j.State != job.Done {
		k.t.Errorf("job of drill %s: %s: %s", id, j.State, j.Error)
	}
	k.passed(id)
	n := map[string]int{}
	for _, f := range k.facts() {
		var data struct {
			ID string `json:"id"`
		}
		if strings.HasPrefix(f.Type, "drill.") && json.Unmarshal(f.Data, &data) == nil && data.ID == id {
			n[f.Type]++
		}
	}
	if len(n) != 2 || n["drill.planned"] != 1 || n["drill.passed"] != 1 {
		k.t.Errorf("facts of drill %s: %v, want it planned once and passed once", id, n)
	}
}

// recoveryRound loses the database and kills the server while it notices, decides
// or restores, sometimes twice.
func (k *killer) recoveryRound() {
	k.t.Helper()
	p, err := k.api.Points(k.t.Context(), "db")
	if err != nil {
		k.t.Fatal(err)
	}
	var safe time.Time // what was committed before is in a location
	for _, f := range p.Frontiers {
		if f.CaughtUp.After(safe) {
			safe = f.CaughtUp
		}
	}
	before := k.recoveries()
	destroyed := k.destroy()
	if k.rand.IntN(4) == 0 {
		k.strike("recovery") // while the loss is noticed and confirmed
	} else {
		k.wait("a recovery to begin", func() bool { return len(k.recoveries()) > len(before) })
		k.strike("recovery")
		if k.rand.IntN(2) == 0 {
			k.strike("recovery")
		}
	}
	run := k.recovered(before)
	restore := restoreOf(run)
	if len(restore.Detail) > 0 && run.State == recovery.StateDone {
		k.say("recovery %s is done; restored in %s, reached %s", run.ID, restore.Finished.Sub(restore.Started).Round(time.Millisecond), restore.Detail)
	} else {
		b, _ := json.MarshalIndent(run, "", " ")
		k.t.Fatalf("recovery %s is %s\n%s", run.ID, run.State, b)
	}
	k.servedOnce()
	k.nothingLost(safe, destroyed)
	k.closeIncident(run.Incident)
	k.flowing(time.Now())
}

func restoreOf(r recovery.Run) recovery.Done {
	for _, s := range r.Steps {
		if s.Kind == recovery.StepRestore {
			return s
		}
	}
	return recovery.Done{}
}

func (k *killer) recoveries() []recovery.Run {
	rs, err := k.api.Recoveries(k.t.Context())
	if err != nil {
		return nil // the server may be on its way up
	}
	return rs
}

// destroy kills the database as a broken machine does, and takes its files. From the
// instant that it returns, nothing of it acknowledges anything any more.
func (k *killer) destroy() time.Time {
	k.t.Helper()
	pids := killPostmasters(k.dir)
	if len(pids) != 1 {
		k.t.Fatalf("%d database servers run before the disaster, want 1", len(pids))
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		k.t.Fatal(err)
	}
	k.wait("the database and its last session to be gone", func() bool {
		return !slices.ContainsFunc(killProcesses(), func(p killProcess) bool { return strings.HasPrefix(p.cwd, k.dataDir()) })
	})
	at := time.Now()
	if err := os.RemoveAll(k.dataDir()); err != nil {
		k.t.Fatal(err)
	}
	return at
}

// recovered waits for the one run that is new, to its end.
func (k *killer) recovered(before []recovery.Run) (run recovery.Run) {
	k.t.Helper()
	k.wait("the recovery to end", func() bool {
		rs := k.recoveries()
		if len(rs) > len(before)+1 {
			k.t.Fatalf("%d recoveries of one loss", len(rs)-len(before))
		}
		if len(rs) == len(before)+1 {
			run = rs[0]
		}
		return run.State == recovery.StateDone || run.State == recovery.StateFailed
	})
	return run
}

// servedOnce: one server runs, on the one data directory, with one slot.
func (k *killer) servedOnce() {
	k.t.Helper()
	if pids := killPostmasters(k.dir); len(pids) != 1 {
		k.t.Errorf("%d database servers run after the recovery, want 1: %v", len(pids), pids)
	}
	if slots := k.sql("SELECT slot_name FROM pg_replication_slots"); len(slots) != 1 || slots[0][0] != "holdfast_db" {
		k.t.Errorf("replication slots %v, want holdfast_db alone", slots)
	}
	left, err := filepath.Glob(k.dataDir() + ".*")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, path := range left {
		if filepath.Base(path) != "pgdata.run" { // of the server that serves
			k.t.Errorf("the recovery left %s", path)
		}
	}
}

// nothingLost: what was acknowledged before the frontier came back, and what the
// recovered database acknowledged stays, however often the server was killed then.
func (k *killer) nothingLost(safe, destroyed time.Time) {
	k.t.Helper()
	acked := k.acknowledged()
	there := k.rows()
	var lost []int
	for _, r := range acked {
		if (r.acked.Before(safe) || r.sent.After(destroyed)) && !there[r.n] && !k.gone[r.n] {
			lost = append(lost, r.n)
		}
	}
	if len(lost) > 0 {
		k.t.Errorf("%d acknowledged rows are lost that must not be: %v", len(lost), lost[:min(len(lost), 10)])
	}
	for _, r := range acked {
		if !there[r.n] {
			k.gone[r.n] = true // within the promised data loss of this disaster
		}
	}
}

func (k *killer) closeIncident(id int64) {
	k.t.Helper()
	k.wait("the incident to be led into review", func() bool {
		l, err := k.api.Incident(k.t.Context(), id)
		return err == nil && l.Incident.Phase == incident.Review
	})
	if _, err := k.api.CloseIncident(k.t.Context(), id, "founder-a", "recovered; nothing to mend"); err != nil {
		k.t.Error(err)
	}
}

// nothingLeft looks for what must not outlive the act that it belonged to.
func (k *killer) nothingLeft() {
	k.t.Helper()
	boxes := k.boxes()
	if es, err := os.ReadDir(boxes); err == nil && len(es) > 0 {
		k.t.Errorf("sandboxes are left in %s: %v", boxes, es)
	}
	for _, p := range killProcesses() {
		if strings.HasPrefix(p.cwd, boxes+"/") || bytes.Contains(p.env, []byte("TMPDIR="+boxes+"/")) {
			k.t.Errorf("process %d of a sandbox is left: %v", p.pid, p.args)
		}
	}
	if slots := k.sql("SELECT slot_name FROM pg_replication_slots"); len(slots) != 1 {
		k.t.Errorf("replication slots %v, want one", slots)
	}
	for _, name := range []string{"near", "offsite"} {
		for _, m := range k.manifests(name, "") {
			if err := k.repository(name).Check(k.t.Context(), m); err != nil {
				k.t.Errorf("location %s lists snapshot %s of %s, which is not whole: %v", name, m.ID, m.Scope, err)
			}
		}
	}
}

// whole is what holds after everything: each snapshot reads back, the log is
// continuous up to now, the ledger verifies, no key lies about.
func (k *killer) whole() {
	k.t.Helper()
	ctx := k.t.Context()
	id, err := app.ReadIdentity(k.ws.Key(app.KeyRunner))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, name := range []string{"near", "offsite"} {
		for _, m := range k.manifests(name, "") {
			if name == "near" && m.Scope == "db" {
				continue // the drills below read it, byte by byte, from both
			}
			snap, err := k.repository(name).Snapshot(ctx, m, id)
			if err != nil {
				k.t.Errorf("location %s, snapshot %s: %v", name, m.ID, err)
				continue
			}
			if damage, err := snap.Verify(ctx, nil); err != nil || len(damage) > 0 {
				k.t.Errorf("location %s, snapshot %s of %s does not read back: %v %v", name, m.ID, m.Scope, damage, err)
			}
		}
		k.say("%s reads back", name)
		now := len(k.rows())
		k.flowing(time.Now())
		did, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L6, Target: holdfast.Target{Kind: holdfast.TargetLatest}, Location: name})
		k.settled(jobID)
		d := k.passed(did)
		if n, err := strconv.Atoi(fmt.Sprint(d.Answers["data-is-there"])); err != nil || n < now {
			k.t.Errorf("a restore of the newest state at %s has %v rows, want at least %d", name, d.Answers, now)
		}
	}
	for _, f := range k.facts() {
		if f.Type == "backup.gap" {
			k.t.Errorf("the log has a gap: %s", f.Data)
		}
	}
	pack := filepath.Join(k.dir, "evidence.zip")
	for _, args := range [][]string{{"evidence", "export", "--out", pack}, {"evidence", "verify", pack}} {
		if out, status := k.cli(args...); status != 0 {
			k.t.Errorf("%v: status %d: %s", args, status, out)
		}
	}
	for _, path := range holding(k.t, k.dir, id.String()) {
		if path != k.ws.Key(app.KeyRunner) {
			k.t.Errorf("the read key lies in %s", path)
		}
	}
	if err := k.endServer(syscall.SIGTERM); err != nil {
		k.t.Errorf("the server ended with %v after SIGTERM", err)
	}
}
