package web

import (
	"context"
	"errors"
	"time"

	"holdfast"
)

// ErrNotFound is what a Source returns for an id that it does not know.
var ErrNotFound = errors.New("not found")

// A PublicError carries text that a browser may see. Everything else that goes
// wrong is logged and shown as a reference number only.
type PublicError struct {
	Message string // what happened, to what
	Hint    string // what to do next; may be a command
	Err     error  // for the log; may be nil
}

func (e *PublicError) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

func (e *PublicError) Unwrap() error { return e.Err }

// A Source knows what the pages show. Its methods may be called concurrently and
// must not change anything. An unknown id is ErrNotFound.
type Source interface {
	Overview(ctx context.Context, now time.Time) (Overview, error)
	Store(ctx context.Context, id string, now time.Time) (Store, error)
	Drills(ctx context.Context, now time.Time) ([]DrillLine, error) // newest first; work that was due and did not happen included
	Drill(ctx context.Context, id string, now time.Time) (Drill, error)
}

// Stories knows incidents and recoveries. Same rules as Source.
type Stories interface {
	Incidents(ctx context.Context, now time.Time) ([]StoryLine, error)
	Incident(ctx context.Context, id string, now time.Time) (Story, error)
	Recoveries(ctx context.Context, now time.Time) ([]StoryLine, error)
	Recovery(ctx context.Context, id string, now time.Time) (Story, error)
}

// Commands is all that a page may set in motion. Both record who asked and return
// at once; the work is durable when they return.
type Commands interface {
	// StartDrill starts the drill of that name, or one of that store, and returns
	// the id under which Source.Drill shows it.
	StartDrill(ctx context.Context, name string, now time.Time) (id string, err error)
	// BackUp starts a backup of the store. Asking again while one runs is no error.
	BackUp(ctx context.Context, store string, now time.Time) error
}

// A Measure is a duration that may not be known. The zero Measure is unknown.
type Measure struct {
	Value time.Duration
	Known bool
	Basis holdfast.Basis // measured, attested, estimated
	// AtLeast says that a part of the time has no number: the value is a lower bound.
	AtLeast bool
	Note    string // where it comes from, or why it is not known
}

// A Loss is how much would be gone. Its zero value is unknown.
type Loss struct {
	Span  time.Duration
	Known bool
	All   bool   // there is no recovery point: everything would be gone
	Store string // which store decides it
	Note  string
}

// An Overview is the first page.
type Overview struct {
	Organisation string
	Plan         string // "example-bcp 1.0.0"
	PlanDigest   string

	Answers     []Answer // one per location, as if it alone survived
	Back        Measure  // until the last service is usable again, the longest
	BackService string   // which service decides it

	Services  []Service
	Stores    []Store
	Graph     Graph
	Work      []Work
	Incidents []StoryLine
	Findings  []holdfast.Finding
	Drills    []string // names that may be started
}

// An Answer says what happens if one location alone survives.
type Answer struct {
	Location  string
	Where     string // provider, region: what a person calls the place
	Reachable bool
	Seen      time.Time // when it last answered; zero: not since Holdfast started
	Why       string    // why it does not answer
	Burns     bool      // it stands on the host, so it is lost with it
	Loss      Loss      // the worst of its stores
	Losses    []Loss    // one per store
	Time      Measure   // until everything is usable again from here; zero: only Overview.Back is known
}

// A Promise is one objective beside what is the case.
type Promise struct {
	Now        Measure
	Objective  time.Duration // 0: no promise made
	Missed     bool
	Everything bool   // of an RPO: nothing at all would come back
	Stated     string // wording of an objective without a number: "not applicable: rebuilt from db"
}

// A Service is one row of the objectives table.
type Service struct {
	ID, Tier, Owner string
	Kind            string // "service", "postgres", "files", …
	RPO, RTO        Promise
	LastProof       time.Time // zero: never proven
	LastDrill       string    // id of the drill that is the last proof
	Incident        string    // name of the incident whose real recovery is the last proof
	Rung            holdfast.Rung
	Posture         holdfast.Posture
	Why             string // in one clause, what made the posture
}

// A Store is where a service's data lives, and how far back it can go.
type Store struct {
	ID, Kind, Tier string
	Detail         string // "PostgreSQL 15, 1.2 GB"
	Posture        holdfast.Posture
	Why            string
	RPO            Promise
	RTO            Promise
	Restore        holdfast.Parts // what the time to be back is made of
	Left           time.Duration  // until it must be back for its services to keep theirs; 0: no limit
	LeftBy         string         // which of them leaves least
	Failures       []Failure      // work on it that fails now
	Places         []Place
	Services       []string // who needs it
	Drills         []DrillLine
	Findings       []holdfast.Finding
}

// A Failure is work that failed and is tried again.
type Failure struct {
	What  string // "backup", "probe"
	Error string
	At    time.Time
	Next  time.Time // zero: not tried again by itself
}

// A Place is one store in one location.
type Place struct {
	Location  string
	Where     string
	Reachable bool
	Unknown   bool              // it could not be looked at: nothing is known
	Note      string            // why, in words, where there is no way back or nothing is known
	Windows   []holdfast.Window // oldest first
	Frontier  time.Time         // newest instant that can be reached there; zero: none
	Idle      bool              // nothing newer exists at the source
	Receipt   time.Time         // newest countersignature of the vault; zero: none
	Waiting   int               // snapshots there without a receipt
	Snapshots int
	Bytes     int64
}

// Work is something that runs now.
type Work struct {
	Kind     string // "backup", "drill", "recovery", "log stream"
	Subject  string
	Progress holdfast.Progress
	Started  time.Time
	Rate     float64       // in units of Progress for each second; 0: not known yet
	Left     time.Duration // until this stage is done, at that rate; 0: not known
	Href     string        // page that shows it, "" for none
}

// A Graph is what depends on what. Edges point from the dependent to what it needs.
type Graph struct {
	Nodes []Node
	Edges []Edge
}

// A Node is a service, a store or a supplier.
type Node struct {
	ID, Kind string
	Posture  holdfast.Posture
	Note     string
}

// An Edge is one dependency. A soft one slows down and does not stop.
type Edge struct {
	From, To string
	Soft     bool
}

// A RunState is how far a drill has come. Missed and expected are states of work
// that was due and did not happen, and of work that will be.
type RunState string

// The run states.
const (
	RunExpected RunState = "expected"
	RunDue      RunState = "due"
	RunWaiting  RunState = "waiting"
	RunRunning  RunState = "running"
	RunDone     RunState = "done"
	RunFailed   RunState = "failed"
	RunMissed   RunState = "missed"
)

// A DrillLine is one row of the drill list.
type DrillLine struct {
	ID, Name string // ID "" while there is no run: a missed or an expected slot
	Subject  string // the stores
	Location string
	State    RunState
	At       time.Time // start, or when it was due
	Took     time.Duration
	Rung     holdfast.Rung
	Goal     holdfast.Rung
	Missed   bool   // an objective was missed
	Why      string // in one clause
}

// A Drill is one restore in a sandbox, with its evidence.
type Drill struct {
	DrillLine
	Finished time.Time
	Reason   string // "schedule", "asked for by anna"
	Progress holdfast.Progress
	Rate     float64 // as in Work
	Left     time.Duration

	Target        holdfast.Target
	Resolved      string // what latest or random became before the start
	Reached       string // what the engine reported
	TargetReached bool
	DataAge       Measure // asked instant minus newest recovered change

	Pick, Seed   string
	Snapshot     string
	SnapshotTime time.Time

	Timeline  []Stretch
	Checks    []holdfast.Check
	Parts     holdfast.Parts
	RTO       Promise
	Isolation []string // what really held
	Leftovers string   // "" when the end was recorded clean

	Error    string // public words
	Recorded bool
	Ledger   int64
	Plan     string
}

// A Stretch is one bar of a timeline.
type Stretch struct {
	Name    string
	Start   time.Time
	End     time.Time // zero: still running
	Outcome holdfast.Outcome
	Detail  string
}

// A StoryLine is one row of the incident and recovery lists.
type StoryLine struct {
	Kind     string // "incident" or "recovery"
	ID       string
	Title    string
	Severity string // of an incident: the plan's own label
	Phase    string
	Open     bool
	Started  time.Time
	Ended    time.Time
}

// A Story is an incident or a recovery: what happened, in order.
type Story struct {
	StoryLine
	Summary  string
	Facts    []Fact     // short pairs: commander, location, target, loss
	Promises []NamedGap // RPO and RTO beside their objectives, once known
	Notes    []string   // what was decided and why, one sentence each
	Parts    holdfast.Parts
	PartsOf  string // whose recovery time it is
	RTO      Promise
	Steps    []Step
	Events   []Event
	Links    []Link
	Ledger   []int64
}

// A Fact is one labelled value.
type Fact struct{ Label, Value string }

// A NamedGap is a promise with its subject.
type NamedGap struct {
	Name string
	Promise
}

// A Step is one unit of a recovery.
type Step struct {
	ID, Title string
	State     string // "waiting", "running", "done", "failed", "skipped", "needs a person"
	Detail    string
	Started   time.Time
	Ended     time.Time
	Progress  holdfast.Progress
}

// An Event is one line of a log.
type Event struct {
	At    time.Time
	Actor string
	Text  string
}

// A Link leads to a related page of this site.
type Link struct{ Text, Href string }
