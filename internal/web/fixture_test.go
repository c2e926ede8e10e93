package web

import (
	"context"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
	"holdfast/internal/plan/render"
)

// noon is the instant of every golden page.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return noon.Add(-d) }

func known(d time.Duration) Measure {
	return Measure{Value: d, Known: true, Basis: holdfast.Measured}
}

func guess(d time.Duration, note string) Measure {
	return Measure{Value: d, Known: true, Basis: holdfast.Estimated, Note: note}
}

const (
	day     = 24 * time.Hour
	hostile = `"><script>alert(1)</script>`
)

func window(store, location string, from, to time.Duration, bases int, hole string) holdfast.Window {
	return holdfast.Window{Store: store, Location: location, Snapshot: "20261115T031204Z-5e10c2aa", From: before(from), To: before(to), Bases: bases, Hole: hole}
}

// busy is a small company on an ordinary bad morning: one promise missed, one
// proof overdue, one store that nobody could look at, an incident and work.
func busy() Overview {
	db := Store{
		ID: "orders-db", Kind: "postgres", Tier: "critical", Detail: "PostgreSQL 15, 42.1 GB", Posture: holdfast.PostureProved,
		RPO: Promise{Now: known(42 * time.Second / 10), Objective: 5 * time.Minute},
		Places: []Place{
			{Location: "near", Where: "hosting-a, eu-north", Reachable: true, Frontier: before(1100 * time.Millisecond), Receipt: before(3 * time.Minute), Snapshots: 15, Bytes: 61_200_000_000,
				Windows: []holdfast.Window{window("orders-db", "near", 15*day, 9*day, 6, "log gap after a failover"), window("orders-db", "near", 8*day+4*time.Hour, 1100*time.Millisecond, 9, "")}},
			{Location: "offsite", Where: "cloud-b, eu-west", Reachable: true, Frontier: before(4200 * time.Millisecond), Receipt: before(11 * time.Minute), Waiting: 1, Snapshots: 15, Bytes: 61_200_000_000,
				Windows: []holdfast.Window{window("orders-db", "offsite", 15*day, 4200*time.Millisecond, 15, "")}},
		},
		Services: []string{"shop", "billing"},
	}
	uploads := Store{
		ID: "uploads", Kind: "files", Tier: "standard", Detail: "files, 180.4 GB", Posture: holdfast.PostureOverdue, Why: "last proven 41 days ago, allowed are 35",
		RPO: Promise{Now: known(78 * time.Minute), Objective: time.Hour, Missed: true},
		Places: []Place{
			{Location: "near", Where: "hosting-a, eu-north", Reachable: true, Frontier: before(18 * time.Minute), Receipt: before(17 * time.Minute), Snapshots: 5,
				Windows: []holdfast.Window{window("uploads", "near", 6*day, 6*day, 1, ""), window("uploads", "near", 4*day, 4*day, 1, ""), window("uploads", "near", 2*day, 2*day, 1, ""), window("uploads", "near", 18*time.Minute, 18*time.Minute, 1, "")}},
			{Location: "offsite", Where: "cloud-b, eu-west", Reachable: false, Note: "does not answer since 40 min", Frontier: before(78 * time.Minute), Receipt: before(76 * time.Minute), Snapshots: 4,
				Windows: []holdfast.Window{window("uploads", "offsite", 6*day, 6*day, 1, ""), window("uploads", "offsite", 78*time.Minute, 78*time.Minute, 1, "")}},
		},
		Services: []string{"shop"},
	}
	wiki := Store{ID: "wiki", Kind: "files", Tier: "support", Posture: holdfast.PostureUnknown, Why: "never restored",
		RPO:    Promise{Objective: day},
		Places: []Place{{Location: "near", Reachable: true, Note: `"near" holds no complete snapshot`}, {Location: "offsite", Unknown: true, Note: `"offsite" cannot be reached (seen 40m ago)`}}, Services: []string{"handbook"}}
	return Overview{
		Organisation: "Example AB", Plan: "example-bcp 1.4.0", PlanDigest: "5e1f0c",
		Answers: []Answer{
			{Location: "near", Where: "hosting-a, eu-north, same building", Reachable: true, Burns: true, Seen: before(time.Second), Loss: Loss{Span: 18 * time.Minute, Known: true, Store: "uploads"},
				Losses: []Loss{{Store: "orders-db", Span: 1100 * time.Millisecond, Known: true}, {Store: "uploads", Span: 18 * time.Minute, Known: true}},
				Time:   known(22*time.Minute + 10*time.Second)},
			{Location: "offsite", Where: "cloud-b, eu-west", Reachable: false, Seen: before(40 * time.Minute), Loss: Loss{Span: 78 * time.Minute, Known: true, Store: "uploads"},
				Losses: []Loss{{Store: "orders-db", Span: 4200 * time.Millisecond, Known: true}, {Store: "uploads", Span: 78 * time.Minute, Known: true}},
				Time:   guess(37*time.Minute, "detect and decide are estimated")},
		},
		Back: guess(37*time.Minute, "the time is decided by shop; detect and decide are estimated"), BackService: "shop",
		Services: []Service{
			{ID: "shop", Tier: "critical", Owner: "anna", Kind: "service", RPO: Promise{Now: known(78 * time.Minute), Objective: time.Hour, Missed: true}, RTO: Promise{Now: guess(37*time.Minute, "restore measured, the rest estimated"), Objective: time.Hour},
				LastProof: before(7 * time.Hour), LastDrill: "118", Rung: holdfast.L6, Posture: holdfast.PostureFailed, Why: "uploads is older than promised"},
			{ID: "billing", Tier: "critical", Owner: "bo", Kind: "service", RPO: Promise{Now: known(4200 * time.Millisecond), Objective: 5 * time.Minute}, RTO: Promise{Now: known(22*time.Minute + 10*time.Second), Objective: 2 * time.Hour},
				LastProof: before(7 * time.Hour), LastDrill: "118", Rung: holdfast.L6, Posture: holdfast.PostureProved},
			{ID: "identity", Tier: "critical", Owner: "bo", Kind: "service", RPO: Promise{Now: known(130 * time.Second), Objective: 5 * time.Minute}, RTO: Promise{Now: known(54 * time.Minute), Objective: time.Hour},
				LastProof: before(41 * day), LastDrill: "71", Rung: holdfast.L5, Posture: holdfast.PostureOverdue, Why: "proof ended 6 days ago"},
			{ID: "handbook", Tier: "support", Owner: "anna", Kind: "service", RPO: Promise{Objective: day, Everything: true, Missed: true, Now: Measure{Note: "no location is left"}}, RTO: Promise{Stated: "not applicable: can be read offline"}, Rung: holdfast.RungNone, Posture: holdfast.PostureUnknown, Why: "wiki was never restored"},
		},
		Stores: []Store{db, uploads, wiki},
		Graph: Graph{
			Nodes: []Node{
				{ID: "shop", Kind: "service", Posture: holdfast.PostureFailed, Note: "misses its RPO"}, {ID: "billing", Kind: "service", Posture: holdfast.PostureProved},
				{ID: "identity", Kind: "service", Posture: holdfast.PostureOverdue}, {ID: "handbook", Kind: "service", Posture: holdfast.PostureUnknown},
				{ID: "orders-db", Kind: "postgres", Posture: holdfast.PostureProved}, {ID: "uploads", Kind: "files", Posture: holdfast.PostureFailed, Note: "misses its RPO"},
				{ID: "wiki", Kind: "files", Posture: holdfast.PostureUnknown}, {ID: "mail-provider", Kind: "supplier", Posture: holdfast.PostureClaimed},
			},
			Edges: []Edge{{"shop", "billing", false}, {"shop", "uploads", false}, {"shop", "mail-provider", true}, {"billing", "identity", false}, {"billing", "orders-db", false}, {"identity", "orders-db", false}, {"handbook", "wiki", false}},
		},
		Work: []Work{
			{Kind: "backup", Subject: "uploads", Progress: holdfast.Progress{Stage: "copying to near", Done: 12_400_000_000, Total: 180_400_000_000, Unit: "bytes"}, Started: before(4 * time.Minute), Href: "/store/uploads"},
			{Kind: "drill", Subject: "orders-db-monthly", Progress: holdfast.Progress{Stage: "replaying the log", Done: 310, Total: 420, Unit: "pieces"}, Started: before(7 * time.Minute), Href: "/drills/119"},
			{Kind: "log stream", Subject: "orders-db", Progress: holdfast.Progress{Stage: "following"}, Started: before(15 * day), Href: "/store/orders-db"},
		},
		Incidents: []StoryLine{{Kind: "incident", ID: "31", Title: "uploads is older than its objective", Severity: "high", Phase: "assessment", Open: true, Started: before(18 * time.Minute)}},
		Findings: []holdfast.Finding{
			{Code: "HF-LOC-1", Severity: holdfast.SeverityError, Subject: "locations.offsite", Message: `location "offsite" has not answered for 40 minutes`, Hint: `check the network, then run "holdfast location test offsite"`},
			{Code: "HF-L13", Severity: holdfast.SeverityWarning, File: "plan.yaml", Line: 41, Subject: "locations.near", Message: "the copy and the original stand in one building", Hint: "add a location in another region"},
			{Code: "HF-L20", Severity: holdfast.SeverityNote, Subject: "keys.backup-a", Message: "one person holds this key", Hint: "name a second holder"},
		},
		Drills: []string{"orders-db-monthly", "uploads-monthly"},
	}
}

// calm is a plan that keeps its promises.
func calm() Overview {
	o := busy()
	o.Services = o.Services[1:2]
	o.Answers = o.Answers[:1]
	o.Answers[0].Burns = false
	o.Answers[0].Loss = Loss{Span: 1100 * time.Millisecond, Known: true, Store: "orders-db"}
	o.Answers[0].Losses = o.Answers[0].Losses[:1]
	o.Stores = o.Stores[:1]
	o.Back, o.BackService = known(22*time.Minute+10*time.Second), "billing"
	o.Incidents, o.Work, o.Findings = nil, nil, nil
	o.Graph = Graph{Nodes: []Node{{ID: "billing", Kind: "service", Posture: holdfast.PostureProved}, {ID: "orders-db", Kind: "postgres", Posture: holdfast.PostureProved}}, Edges: []Edge{{From: "billing", To: "orders-db"}}}
	return o
}

func finishedDrill() Drill {
	start := before(7 * time.Hour)
	at := func(a, b time.Duration, name, detail string) Stretch {
		return Stretch{Name: name, Start: start.Add(a), End: start.Add(b), Outcome: holdfast.Passed, Detail: detail}
	}
	check := func(r holdfast.Rung, name, detail string, d time.Duration) holdfast.Check {
		return holdfast.Check{Rung: r, Name: name, Outcome: holdfast.Passed, Grade: holdfast.Proved, Detail: detail, Duration: d}
	}
	return Drill{
		DrillLine: DrillLine{ID: "118", Name: "orders-db-monthly", Subject: "orders-db", Location: "offsite", State: RunDone, At: start, Took: 21*time.Minute + 41*time.Second, Rung: holdfast.L5, Goal: holdfast.L6, Why: "the owner has not confirmed the invariants"},
		Finished:  start.Add(21*time.Minute + 41*time.Second), Reason: "schedule, due 05:00 UTC",
		Target:   holdfast.Target{Kind: holdfast.TargetTime, Time: time.Date(2026, 11, 20, 14, 5, 0, 0, time.UTC)},
		Resolved: "5/A3F00218 on timeline 2", Reached: "5/A3F00218, last commit 14:04:59.871", TargetReached: true, DataAge: known(129 * time.Millisecond),
		Pick: "random instant, random location", Seed: "9f41c0d2b7a8e6130f55", Snapshot: "20261120T031204Z-5e10c2aa", SnapshotTime: time.Date(2026, 11, 20, 3, 12, 4, 0, time.UTC),
		Timeline: []Stretch{at(0, 3*time.Second, "provision", "sandbox without network"), at(3*time.Second, 12*time.Minute, "fetch", "42.1 GB in 1,340 packs from offsite"), at(12*time.Minute, 19*time.Minute, "replay", "10 h 53 min of log, 412 pieces"), at(19*time.Minute, 21*time.Minute+30*time.Second, "verify", "pg_amcheck, 3 invariants"), at(21*time.Minute+30*time.Second, 21*time.Minute+41*time.Second, "hand over", "sandbox removed")},
		Checks: []holdfast.Check{
			check(holdfast.L0, "freshness by receipt", "newest receipt 11 min before the start", 0),
			check(holdfast.L0, "objects exist", "1,340 packs, all with their size", 2*time.Second),
			check(holdfast.L1, "chain of snapshots", "15 manifests, every signature holds", 400*time.Millisecond),
			check(holdfast.L1, "log without gap", "412 pieces from 5/9B000028 to 5/A3F00218", 900*time.Millisecond),
			check(holdfast.L2, "bytes read back", "100 % of this snapshot, 37 % of the location in 30 days", 11*time.Minute),
			check(holdfast.L3, "equal to the manifest", "2,118 files, 42.1 GB", 11*time.Minute),
			check(holdfast.L4, "engine started, target reached", "PostgreSQL 15.8 stopped at 5/A3F00218", 7*time.Minute),
			check(holdfast.L5, "pg_amcheck", "214 indexes, no complaint", 2*time.Minute),
			check(holdfast.L5, "checksums on", "data_checksums = on", 4*time.Millisecond),
			check(holdfast.L6, "invariant rows_grow", "1,204,118 rows, last drill 1,180,004", 31*time.Millisecond),
			{Rung: holdfast.L6, Name: "owner's confirmation", Outcome: holdfast.NotProven, Grade: holdfast.Attested, Detail: "bo has not confirmed since the schema changed"},
		},
		Parts: holdfast.Parts{{Name: "detect", Duration: 90 * time.Second, Basis: holdfast.Estimated}, {Name: "decide", Duration: 5 * time.Minute, Basis: holdfast.Estimated}, {Name: "provision", Duration: 3 * time.Second, Basis: holdfast.Measured},
			{Name: "fetch", Duration: 717 * time.Second, Basis: holdfast.Measured}, {Name: "replay", Duration: 7 * time.Minute, Basis: holdfast.Measured}, {Name: "verify", Duration: 150 * time.Second, Basis: holdfast.Measured}, {Name: "hand over", Basis: holdfast.NotApplicable}},
		RTO:       Promise{Now: guess(28*time.Minute, ""), Objective: time.Hour},
		Isolation: []string{"unprivileged user", "no network", "own process group", "not a separate machine: the sandbox shares the kernel of this host"},
		Recorded:  true, Ledger: 2217, Plan: "example-bcp 1.4.0, 5e1f0c",
	}
}

func failedDrill() Drill {
	d := finishedDrill()
	d.At, d.Why = before(41*day), "a pack is damaged"
	d.ID, d.State, d.Rung, d.Recorded, d.Error = "71", RunFailed, holdfast.L1, false, `pack "9e/9e41" in "near" is damaged: segment 12 does not authenticate`
	d.Checks = append(d.Checks[:4:4], holdfast.Check{Rung: holdfast.L2, Name: "bytes read back", Outcome: holdfast.Failed, Grade: holdfast.Proved, Detail: "1 of 1,340 packs is damaged"})
	d.Timeline, d.Parts, d.TargetReached, d.Reached, d.DataAge = d.Timeline[:2:2], nil, false, "", Measure{}
	d.Timeline[1].Outcome = holdfast.Failed
	d.Leftovers = "directory of the sandbox could not be removed"
	return d
}

func runningDrill() Drill {
	d := finishedDrill()
	d.Why = ""
	d.ID, d.State, d.Rung, d.Recorded = "119", RunRunning, holdfast.RungNone, false
	d.Checks, d.Parts, d.TargetReached, d.Reached, d.DataAge, d.Finished = d.Checks[:2:2], nil, false, "", Measure{}, time.Time{}
	d.At, d.Took = before(7*time.Minute), 7*time.Minute
	d.Timeline = []Stretch{{Name: "provision", Start: before(7 * time.Minute), End: before(7*time.Minute - 3*time.Second), Outcome: holdfast.Passed}, {Name: "fetch", Start: before(7*time.Minute - 3*time.Second)}}
	d.Progress = holdfast.Progress{Stage: "fetching", Done: 24_000_000_000, Total: 42_100_000_000, Unit: "bytes"}
	return d
}

func drillLines() []DrillLine {
	return []DrillLine{
		runningDrill().DrillLine, finishedDrill().DrillLine,
		{Name: "uploads-monthly", Subject: "uploads", State: RunMissed, At: before(6 * day), Rung: holdfast.RungNone, Goal: holdfast.L6, Why: "no runner was up between 05:00 and 07:00"},
		failedDrill().DrillLine,
		{ID: "60", Name: "orders-db-monthly", Subject: "orders-db", Location: "near", State: RunDone, At: before(32 * day), Took: 19 * time.Minute, Rung: holdfast.L6, Goal: holdfast.L6},
		{Name: "uploads-monthly", Subject: "uploads", State: RunExpected, At: noon.Add(24 * day), Rung: holdfast.RungNone, Goal: holdfast.L6},
	}
}

func incidentStory() Story {
	return Story{StoryLine: busy().Incidents[0], Summary: "The newest copy of uploads in offsite is 78 minutes old; the plan promises 60.",
		Facts: []Fact{{"Commander", "anna (deputy bo)"}, {"Noticed by", "Holdfast, missed objective"}, {"Affects", "shop"}, {"Next update due", "12:12 UTC"}},
		Links: []Link{{"recovery 9", "/recoveries/9"}, {"somewhere else", "//evil.example/"}},
		Events: []Event{
			{before(18 * time.Minute), "holdfast", "uploads in offsite is older than 1 h: incident opened, severity high"},
			{before(17 * time.Minute), "holdfast", "anna paged by mail and telephone"},
			{before(15 * time.Minute), "anna", "acknowledged; looking at the network of cloud-b"},
		}, Ledger: []int64{2230, 2231, 2234}}
}

func recoveryStory() Story {
	return Story{StoryLine: StoryLine{Kind: "recovery", ID: "9", Title: "Recovery of shop from offsite", Phase: "restoring", Open: true, Started: before(9 * time.Minute)},
		Facts:    []Fact{{"Activated by", "the plan, store-lost"}, {"Confirmed by", "anna, 11:53 UTC"}, {"From", "offsite"}, {"Target", "latest, 5/A3F00218"}},
		Promises: []NamedGap{{"Data lost", Promise{Now: known(4200 * time.Millisecond), Objective: 5 * time.Minute}}, {"Time so far", Promise{Now: known(9 * time.Minute), Objective: time.Hour}}},
		Steps: []Step{
			{ID: "declare", Title: "Declare and page the team", State: "done", Detail: "anna", Started: before(9 * time.Minute), Ended: before(8 * time.Minute)},
			{ID: "db", Title: "Restore orders-db", State: "running", Started: before(8 * time.Minute), Progress: holdfast.Progress{Stage: "fetching", Done: 31, Total: 42, Unit: "files"}},
			{ID: "uploads", Title: "Restore uploads", State: "failed", Detail: `location "offsite" does not answer; tried 3 times`, Started: before(8 * time.Minute), Ended: before(5 * time.Minute)},
			{ID: "verify", Title: "Verify row counts and canary", State: "waiting", Detail: "needs Restore orders-db"},
			{ID: "golive", Title: "Approve going live", State: "needs a person", Detail: "asked anna and bo, due in 25 min"},
			{ID: "wiki", Title: "Restore wiki", State: "skipped", Detail: "by anna: not needed today"},
		},
		Parts:  holdfast.Parts{{Name: "detect", Duration: 3100 * time.Millisecond, Basis: holdfast.Measured}, {Name: "decide", Duration: time.Minute, Basis: holdfast.AttestedBasis}, {Name: "fetch", Duration: 7 * time.Minute, Basis: holdfast.Measured}},
		Events: []Event{{before(9 * time.Minute), "holdfast", "orders-db does not answer; three probes in 3 s"}, {before(8 * time.Minute), "anna", "confirmed the activation"}}}
}

// A stage is a Source, Stories and Commands whose answers a test sets.
type stage struct {
	mu       sync.Mutex
	overview Overview
	err      error
	started  []string
	refuse   error
}

func (s *stage) set(fn func(*stage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *stage) Overview(_ context.Context, now time.Time) (Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overview, s.err
}

func (s *stage) Store(ctx context.Context, id string, now time.Time) (Store, error) {
	o, err := s.Overview(ctx, now)
	if err != nil {
		return Store{}, err
	}
	for _, x := range o.Stores {
		if x.ID == id {
			x.Drills, x.Findings = drillLines()[1:4], o.Findings
			return x, nil
		}
	}
	return Store{}, ErrNotFound
}

func (s *stage) Drills(context.Context, time.Time) ([]DrillLine, error) { return drillLines(), nil }

func (s *stage) Drill(_ context.Context, id string, _ time.Time) (Drill, error) {
	for _, d := range []Drill{finishedDrill(), failedDrill(), runningDrill()} {
		if d.ID == id {
			return d, nil
		}
	}
	if id == hostile {
		d := runningDrill()
		d.ID, d.Name, d.Error, d.Seed = hostile, hostile, hostile, hostile
		return d, nil
	}
	return Drill{}, ErrNotFound
}

func (s *stage) Incidents(context.Context, time.Time) ([]StoryLine, error) {
	return []StoryLine{incidentStory().StoryLine}, nil
}

func (s *stage) Incident(_ context.Context, id string, _ time.Time) (Story, error) {
	if id != "31" {
		return Story{}, ErrNotFound
	}
	return incidentStory(), nil
}

func (s *stage) Recoveries(context.Context, time.Time) ([]StoryLine, error) {
	return []StoryLine{recoveryStory().StoryLine}, nil
}

func (s *stage) Recovery(_ context.Context, id string, _ time.Time) (Story, error) {
	if id != "9" {
		return Story{}, ErrNotFound
	}
	return recoveryStory(), nil
}

func (s *stage) StartDrill(_ context.Context, name string, _ time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return "", s.refuse
	}
	s.started = append(s.started, "drill "+name)
	return "119", nil
}

func (s *stage) BackUp(_ context.Context, store string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	s.started = append(s.started, "backup "+store)
	return nil
}

func (s *stage) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.started...)
}

func config(s *stage) Config {
	return Config{Source: s, Stories: s, Commands: s, Policy: policy, Clock: func() time.Time { return noon }, Refresh: time.Second}
}

func testFrame(t *testing.T, section, path string) frame {
	t.Helper()
	return frame{clock: clock{noon, time.UTC}, Title: "Test", Section: section, Path: path, Refresh: 5, Version: "dev", Live: true}
}

// policy is the document of a plan that is full of marks, bars and addresses.
func policy() render.Document {
	p, err := plan.Load("../plan/render/testdata/plan.yaml")
	if err != nil {
		panic(err)
	}
	return render.Make(p, render.Options{})
}

func workHistory() Jobs {
	days := make([]JobDay, 2)
	days[0], days[1] = JobDay{Good: 4}, JobDay{Good: 3, Bad: 1, Missed: 1}
	return Jobs{Days: []time.Time{before(36 * time.Hour), before(12 * time.Hour)}, More: 2,
		Items: []JobItem{{Item: "stores.uploads", Href: "/store/uploads", Days: days}, {Item: "locations", Days: []JobDay{{Missed: 1}, {}}}},
		Runs: []RunLine{
			{ID: "12.2", Item: "stores.uploads", Kind: "backup.snapshot", Began: before(time.Hour), Result: "running", Version: "1.2"},
			{ID: "12.1", Item: "stores.uploads", Kind: "backup.snapshot", Began: before(2 * time.Hour), Result: "crashed", Version: "1.2", Error: "the process that ran it ended without a word"},
			{ID: "11.1", Item: "stores.uploads", Kind: "backup.snapshot", Began: before(3 * time.Hour), Took: 4 * time.Second, Result: "succeeded", Bytes: 4711, Digest: "sha256:00ff", Locations: "near, offsite", Version: "1.2"},
		}}
}
