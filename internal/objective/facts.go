package objective

import (
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

// Facts is what was observed. The caller gathers it; nothing here trusts a clock
// other than the ones the facts name.
type Facts struct {
	Now       time.Time
	Locations []LocationFact
	Copies    []Copy                   // one for each store and location that the plan declares
	Proofs    []Proof                  // drills and recoveries, in any order
	Delegated map[string]DelegatedFact // by store: what a supplier that was asked said
	NextDrill map[string]time.Time     // by store: when the next drill is expected
	Attested  []Attestation            // what people say that they did, oldest first
	Owed      []Owed                   // what they owe next
	Answering []Answering              // the incidents that are open
	States    map[string]string        // of stores, by their probes: [StateOK], [StateLost]
	Figures   []Figure                 // the newest value of each metric of the plan
	Versions  []Version                // of the plan, oldest first; none: it was never another
	Waivers   plan.Waivers             // exceptions that were approved beside those of the plan
}

// A DelegatedFact is what a supplier was asked about the copies of a store, and said.
type DelegatedFact struct {
	At     time.Time // of the last look
	Seen   time.Time // of the last one that was answered; zero: none was
	Error  string    // why the last one was not
	Points int       // how many recovery points it named
	Until  time.Time // the newest instant that it gives back
}

// A LocationFact says whether a place could be looked at.
type LocationFact struct {
	Location  string
	Reachable bool
	Seen      time.Time // when that was found out
	Answered  time.Time // when it last answered; zero: not since anybody looks
	Err       string
	// Room is how much it can still take now; zero: it does not say, and Untold tells why.
	Room   Room
	Untold string
	Rooms  []Room // of earlier days, oldest first
	Added  int64  // bytes that snapshots added in the last day; logs are not counted
}

// A Room is how much a location could take at one instant.
type Room struct {
	At          time.Time
	Total, Free int64 // bytes
}

// A Copy is what one location holds of one store.
type Copy struct {
	Store, Location string
	// Windows are the stretches to which the location alone can bring the store back.
	Windows []holdfast.Window
	// Frontier is how far the log stream is durable in the location; nil if no log is
	// streamed.
	Frontier *Frontier
	Received time.Time // the vault's time on the newest receipt; zero: nothing is countersigned
	Verified time.Time // when bytes were last read back
	Damage   string    // known damage; a damaged copy does not count
	Err      string    // why it could not be looked at: then nothing is known
}

// A Frontier is how far a log stream is durable in one location.
type Frontier struct {
	Lineage    string
	Timeline   uint32
	CaughtUp   time.Time // the latest instant at which the store had nothing newer than what is here
	LastCommit time.Time // the newest commit that is here
	At         time.Time // when this was reported
	Gap        string    // a hole in the log: what comes after it cannot be used
	Err        string    // what keeps the stream from going on
}

// A ProofKind says where a measurement comes from.
type ProofKind string

// The kinds of proof.
const (
	ProofDrill    ProofKind = "drill"
	ProofIncident ProofKind = "incident"
)

// A Proof is one finished drill or recovery of one store, or of a service.
type Proof struct {
	Kind    ProofKind
	ID      string // of the drill run or the incident
	Name    string // of the drill in the plan
	Store   string // the store, or "" for a whole service
	Service string // the service, for recoveries of a whole service
	At      time.Time
	Outcome holdfast.Outcome
	Rung    holdfast.Rung // the highest that was climbed
	// Parts are what was measured. A sandbox drill has no detect, decide and hand over.
	Parts holdfast.Parts
	// DataAge is how old the recovered data was at the target: the realised RPO.
	DataAge      time.Duration
	DataAgeKnown bool
	Ends         Instants // of a recovery of a whole service
	Location     string
	Snapshot     string
	Note         string
}
