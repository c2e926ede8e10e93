// Package objective answers the first question of every bad day: if it burned down
// now, what would we lose, and how long would it take?
//
// It joins the declared (a plan) with the observed (what every location holds, what
// drills and recoveries measured) and computes: the exposure of each store in each
// location and in each loss, the posture of every recovery time and recovery point
// objective, and the time that a service needs to come back, along its dependencies.
//
// Everything here is a pure function of its arguments. Nothing is read, nothing is
// stored, no clock is asked: the same facts at the same instant give the same answer,
// and a verdict is never kept as truth.
//
// # What the answers mean
//
//   - Only a copy that a location's vault has countersigned, and in which no damage is
//     known, counts. What could not be looked at is unknown, never good.
//   - A location counts alone: two locations never complete each other.
//   - A sandbox drill measures the restore, not the outage. A recovery time is proven
//     only if every part of it was measured, and lately enough.
//   - Percentiles are not shown: there are too few drills for them. The worst is shown.
package objective

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast"
)

// Seconds is a duration that travels as seconds with a fraction.
type Seconds time.Duration

// Duration returns s as a duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// String writes s for people.
func (s Seconds) String() string { return holdfast.FormatDuration(time.Duration(s)) }

// MarshalJSON writes seconds.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON reads seconds.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	const most = float64(1<<63-1) / float64(time.Second)
	if f > most/2 || f < -most/2 {
		return fmt.Errorf("%g seconds is not a duration", f)
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}

// Overview is the answer for the whole plan at one instant. The web page, the
// command line and the API show this value and nothing else.
type Overview struct {
	At           time.Time        `json:"at"`
	Organisation string           `json:"organisation"`
	PlanDigest   string           `json:"plan_digest"`
	Posture      holdfast.Posture `json:"posture"` // the worst of all services and stores
	// Sentence is the answer in one line: "A loss of this host now would cost 4.0s of
	// data and about 3m; ...".
	Sentence string `json:"sentence"`

	// Scenarios are the losses that are looked at, mildest first. Every store answers
	// for each of them, in this order.
	Scenarios []Scenario         `json:"scenarios"`
	Services  []ServiceOverview  `json:"services"`           // in recovery order
	Stores    []StoreOverview    `json:"stores"`             // by id
	Locations []LocationOverview `json:"locations"`          // by id
	Order     [][]string         `json:"recovery_order"`     // waves: a wave needs only earlier ones
	Coverage  Coverage           `json:"coverage"`           // what protects each item of the inventory
	Findings  []holdfast.Finding `json:"findings,omitempty"` // why no order can be given, for example
}

// A Scenario is one loss: the data itself, and with it the named locations.
type Scenario struct {
	ID            string   `json:"id"`    // "source", "host", "location:near", or one of the plan
	Title         string   `json:"title"` // "the data alone", "this host and near", "near is lost too"
	LostLocations []string `json:"lost_locations"`
	LostSuppliers []string `json:"lost_suppliers,omitempty"` // whoever protects something for us is gone, too
}

// The scenarios that every plan has, in this order.
const (
	ScenarioSource = "source" // the data alone
	ScenarioHost   = "host"   // this host, with the locations on it
)

// A LossState says what is known about a loss.
type LossState string

// The states of a loss.
const (
	LossBounded    LossState = "bounded"    // everything older than Age comes back
	LossEverything LossState = "everything" // no location that is left holds the store
	LossUnknown    LossState = "unknown"    // it could not be looked at
)

// A Verdict compares a number with its objective.
type Verdict string

// The verdicts.
const (
	Within      Verdict = "within"       // inside the target
	InsideLimit Verdict = "inside limit" // beyond the target, inside the limit
	Over        Verdict = "over"
	NoVerdict   Verdict = "no objective" // nothing is promised in numbers
	CannotSay   Verdict = "unknown"
)

// A Loss is what would be lost of one store in one scenario.
type Loss struct {
	Scenario string    `json:"scenario"`
	State    LossState `json:"state"`
	Age      Seconds   `json:"loss_seconds"`          // for LossBounded: commits of the last Age may be gone
	Newest   time.Time `json:"newest_point,omitzero"` // for LossBounded: we come back to here
	Location string    `json:"from_location,omitempty"`
	Verdict  Verdict   `json:"verdict"` // against the RPO
	Why      string    `json:"why"`     // one sentence for people
}

// Text writes the loss in a word or two: "4.0s", "everything", "unknown".
func (l Loss) Text() string {
	if l.State == LossBounded {
		return l.Age.String()
	}
	return string(l.State)
}

// An Exposure is what one location alone gives back of one store.
type Exposure struct {
	Location  string    `json:"location"`
	Domain    string    `json:"domain"`
	State     LossState `json:"state"`
	Age       Seconds   `json:"loss_seconds"`
	Newest    time.Time `json:"newest_point,omitzero"`
	Oldest    time.Time `json:"oldest_point,omitzero"`
	Base      time.Time `json:"newest_base,omitzero"` // capture of the newest snapshot
	Streaming bool      `json:"streaming"`            // the log follows the store
	Received  time.Time `json:"received,omitzero"`    // the vault's time on the newest receipt
	Verified  time.Time `json:"verified,omitzero"`    // bytes were last read back
	Reachable bool      `json:"reachable"`
	Why       string    `json:"why"`
}

// An ObjectiveState is one RTO or RPO with everything known about it.
type ObjectiveState struct {
	Declared string           `json:"declared"`                 // in the plan's words
	Words    string           `json:"words,omitempty"`          // the policy's own, beside the number that they are bound to
	Target   Seconds          `json:"target_seconds,omitempty"` // what is aimed at, where a range is declared
	Limit    Seconds          `json:"limit_seconds,omitempty"`  // 0: no promise in numbers
	From     string           `json:"from"`                     // tier and line of the plan
	Clock    string           `json:"rto_clock,omitempty"`      // of an RTO: where it begins, by the plan's definition
	Posture  holdfast.Posture `json:"posture"`
	Grade    holdfast.Grade   `json:"grade,omitempty"`
	N        int              `json:"n"`                        // measurements, drills and incidents together
	Latest   Seconds          `json:"latest_seconds,omitempty"` // newest measured value
	Worst    Seconds          `json:"worst_seconds,omitempty"`  // worst measured value that still counts
	LatestAt time.Time        `json:"latest_at,omitzero"`
	Age      Seconds          `json:"age_seconds,omitempty"` // of the newest measurement
	Ends     time.Time        `json:"proof_ends,omitzero"`
	Source   string           `json:"source,omitempty"` // "drill 12", "incident 3"
	Why      string           `json:"why"`
	// Values are what is declared, composed, and measured, kind by kind; History the newest
	// measurements, each judged by the plan of its time; Stages the newest recovery, stage by
	// stage.
	Values  []Value      `json:"values,omitempty"`
	History []Judged     `json:"history,omitempty"`
	Stages  []StageState `json:"stages,omitempty"`
}

// A PartTime is one stretch of a predicted recovery.
type PartTime struct {
	Name  string         `json:"name"` // one of holdfast.PartNames
	Time  Seconds        `json:"duration_seconds"`
	Basis holdfast.Basis `json:"basis"`
	Of    []string       `json:"of,omitempty"` // steps or stores that it comes from
}

// A TimeState says how well a predicted recovery time is known.
type TimeState string

// The states of a prediction.
const (
	TimeProven    TimeState = "proven"    // every part measured, and lately enough
	TimeEstimated TimeState = "estimated" // a number for every part, not all measured
	TimeUnknown   TimeState = "unknown"   // a part has no number: Total is a lower bound
)

// A Prediction is how long a recovery would take.
type Prediction struct {
	State TimeState `json:"state"`
	Total Seconds   `json:"total_seconds"` // from the disruption
	// Counted is the part of Total that counts towards the RTO: see [plan.Clock].
	Counted Seconds    `json:"counted_seconds"`
	Parts   []PartTime `json:"parts"`             // along the critical path, in order
	Path    []string   `json:"critical_path"`     // steps and stores that decide the time
	Missing []string   `json:"missing,omitempty"` // what has no number
	Verdict Verdict    `json:"verdict"`           // against the RTO
	Why     string     `json:"why"`
}

// Text writes the prediction: "3m 10s", "about 3m 10s", "at least 2m".
func (p Prediction) Text() string {
	switch p.State {
	case TimeProven:
		return p.Total.String()
	case TimeEstimated:
		return "about " + p.Total.String()
	}
	if p.Total == 0 {
		return "unknown"
	}
	return "at least " + p.Total.String()
}

// A ServiceOverview is the answer for one service.
type ServiceOverview struct {
	ID      string           `json:"id"`
	Tier    string           `json:"tier"`
	Owner   string           `json:"owner"`
	Needs   []string         `json:"needs"`           // hard needs, direct
	Wants   []string         `json:"wants,omitempty"` // soft needs: it works worse without them
	Stores  []string         `json:"stores"`          // all stores that it cannot run without
	Wave    int              `json:"wave"`            // place in the recovery order, from 1
	Posture holdfast.Posture `json:"posture"`
	RTO     ObjectiveState   `json:"rto"`
	RPO     ObjectiveState   `json:"rpo"`
	Outage  Prediction       `json:"outage"`
	// Recovered is the incident of the newest real recovery of the service, and when
	// it was usable again.
	Recovered   string    `json:"recovered,omitempty"`
	RecoveredAt time.Time `json:"recovered_at,omitzero"`
	// Losses are the worst of its stores, one for each scenario. With several stores,
	// the consistent point is the oldest of their newest points.
	Losses []Loss `json:"losses"`
}

// A StoreOverview is the answer for one store.
type StoreOverview struct {
	ID      string           `json:"id"`
	Kind    string           `json:"kind"`
	Tier    string           `json:"tier"`
	Owner   string           `json:"owner"`
	UsedBy  []string         `json:"used_by"` // services that cannot run without it, also through others
	Backup  string           `json:"backup,omitempty"`
	Posture holdfast.Posture `json:"posture"`
	RTO     ObjectiveState   `json:"rto"`
	RPO     ObjectiveState   `json:"rpo"`
	// Required is the recovery time that its consumers leave it, and who leaves least.
	Required    Seconds     `json:"required_rto_seconds,omitempty"`
	RequiredBy  string      `json:"required_by,omitempty"`
	Restore     Prediction  `json:"restore"`
	Losses      []Loss      `json:"losses"`
	Exposures   []Exposure  `json:"exposures"`
	LastDrill   *DrillView  `json:"last_drill,omitempty"`
	NextDrill   time.Time   `json:"next_drill,omitzero"`
	LastGood    time.Time   `json:"last_good,omitzero"` // newest recovery point that counts, anywhere
	DrillNames  []string    `json:"drills"`
	Unprotected string      `json:"unprotected,omitempty"` // why nothing protects it
	Delegated   *Delegation `json:"delegated,omitempty"`   // what is known of somebody else's copies
}

// A DrillView is one drill as the overview shows it.
type DrillView struct {
	ID       string           `json:"id"`
	Name     string           `json:"name"`
	Store    string           `json:"store"`
	Location string           `json:"location"`
	At       time.Time        `json:"at"`
	Outcome  holdfast.Outcome `json:"outcome"`
	Rung     holdfast.Rung    `json:"rung"`
	Goal     holdfast.Rung    `json:"goal"`
	Restore  Seconds          `json:"restore_seconds"`
	DataAge  Seconds          `json:"data_age_seconds"`
}

// A LocationOverview is one place.
type LocationOverview struct {
	ID        string    `json:"id"`
	Domain    string    `json:"domain"`
	Reachable bool      `json:"reachable"`
	Seen      time.Time `json:"seen,omitzero"`     // when it was last looked at
	Answered  time.Time `json:"answered,omitzero"` // when it last answered
	Stores    int       `json:"stores"`            // stores that it can bring back
	Space     Space     `json:"space"`
	Why       string    `json:"why,omitempty"`
}
