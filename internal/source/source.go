// Package source says what a data store is to Holdfast: something that can be
// looked at, copied into a repository, and brought back from one.
//
// Its children are the adapters, one for each kind of store. The modules above
// (backup, drill, recovery) know only the types of this package, so a new kind
// of store is a new child and nothing else.
//
// # Contract of an adapter
//
//   - Nothing but Snapshot and Stream reads the store's data, and nothing writes
//     to it. A restore goes to a directory that the caller owns.
//   - A restore has an explicit target, and has succeeded only when the target
//     was reached. Latest means the newest state held at that one location.
//   - An error says what happened, to what, and carries a hint where a person
//     can act.
//
// Package sourcetest holds the conformance suite.
package source

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"holdfast"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// ErrIncomplete marks a snapshot that holds everything except what could not be
// read. It may be finished: a hole that is known is better than no copy. It does
// not count as a success.
var ErrIncomplete = errors.New("the snapshot is incomplete")

// ErrWanting marks a question that the restored engine could not answer because
// what the question names did not come back, or came back damaged. It is a verdict
// on the data; any other error of a question is not.
var ErrWanting = errors.New("what it asks for did not come back")

// A Store is one data store under protection. Methods may be called
// concurrently; two Snapshots of one store at the same time are the caller's
// mistake.
type Store interface {
	// Check looks for what would keep the store from being protected as planned.
	Check(ctx context.Context) []holdfast.Finding
	// Probe is cheap and asks whether the store is there and answers.
	Probe(ctx context.Context) error
	// Snapshot writes a consistent copy into w. The caller finishes or aborts w.
	Snapshot(ctx context.Context, w *repo.Writer, progress func(holdfast.Progress)) error
	// Restorer is how the store comes back. It does not need the store itself.
	Restorer
}

// MendedByBackup reports whether a new backup is the cure for a finding of src: an
// adapter says so by a method of the same name.
func MendedByBackup(src Store, f holdfast.Finding) bool {
	m, ok := src.(interface{ MendedByBackup(holdfast.Finding) bool })
	return ok && m.MendedByBackup(f)
}

// A Restorer reads what a location holds of a store.
type Restorer interface {
	// Windows lists, from one location alone and without a data key, the
	// instants to which the store can be brought back.
	Windows(ctx context.Context, r *repo.Repository) ([]holdfast.Window, error)
	// Restore brings the store back as the request says. On error nothing that
	// the call started is left running; files may be left in the directory.
	Restore(ctx context.Context, req Request) (Restored, error)
}

// A Streamer is a Store whose changes can be followed continuously.
type Streamer interface {
	// Stream follows the store until ctx ends, reporting how far each place has
	// come. It reconnects by itself and returns only when following is
	// impossible without a person or a new base.
	Stream(ctx context.Context, cfg StreamConfig) error
}

// StreamConfig says where a log goes and how soon.
type StreamConfig struct {
	Places     []repo.Place
	Recipients []seal.Recipient
	AllowOne   bool // a single recipient is enough
	Signer     seal.SigningKey
	Report     func(Frontier) // called from several goroutines; must not block for long
}

// A Frontier is how far the log of a store has come at one place.
type Frontier struct {
	Place      string    `json:"place"` // "" is the local spool
	Lineage    string    `json:"lineage"`
	Timeline   uint32    `json:"timeline"`
	Position   uint64    `json:"position"`
	LastCommit time.Time `json:"last_commit,omitzero"` // commit time of the last record durable there
	CaughtUp   time.Time `json:"caught_up,omitzero"`   // latest instant at which the store had nothing newer than Position
	At         time.Time `json:"at"`
	Err        string    `json:"err,omitempty"`
	Gap        string    `json:"gap,omitempty"` // why the log is not continuous before Position; a new base mends it
}

// A Runner makes commands that run outside our own privileges: in a sandbox for
// drills, as an unprivileged user for recoveries.
type Runner interface {
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
}

// A Request says what to restore, from where, to where, and how far.
type Request struct {
	Repo       *repo.Repository
	Identities []seal.Identity
	Target     holdfast.Target
	Snapshot   string // "" chooses the newest that can reach the target
	Dir        string // empty or absent directory that the caller owns, or see Delta
	Runner     Runner // nil where no engine has to be started
	// Serve asks for an engine that goes on running after the call as the new
	// production, at this address. Nil asks for a private one, or none.
	Serve *Serve
	// FilesOnly stops after the content is back and compared: no engine starts.
	FilesOnly bool
	// Delta restores over what the store once had in Dir, which is stopped, and writes only
	// what differs. RemoveExtra stands for the list of what is removed, as whoever asks has
	// seen it. Of use to the kind postgres only.
	Delta       bool
	RemoveExtra string
	// ReadBack compares what the disk gives back, not what it was given: a drill
	// proves, where a recovery must be quick.
	ReadBack bool
	Workers  int
	Progress func(holdfast.Progress)
}

// A Line is how a store was reached, as both ends agreed: "TLS 1.3" with its cipher, or
// why nothing encrypts it. Certificate says whether the other end's was checked; "" where
// there is none.
type Line struct {
	Protocol    string `json:"protocol"`
	Cipher      string `json:"cipher,omitempty"`
	Certificate string `json:"certificate,omitempty"`
}

// String is the line in words.
func (l Line) String() string {
	s := l.Protocol
	if l.Cipher != "" {
		s += ", " + l.Cipher
	}
	if l.Certificate != "" {
		s += ", certificate " + l.Certificate
	}
	return s
}

// A Promiser is a Store that may promise that nothing is acknowledged before it is here.
type Promiser interface {
	// Demoted says why that does not hold now; "" if it holds, or if a store that does
	// not hold it acknowledges nothing.
	Demoted(ctx context.Context) (why string, err error)
}

// A Liner is a Store that is reached over a line.
type Liner interface {
	// Line is how it was last reached; the zero Line if it was not.
	Line() Line
}

// Serve is the address at which a recovered engine takes over.
type Serve struct {
	Listen  string
	Port    int
	Options map[string]string
	// Ready, unless it is nil, is called with the final report when all is back and
	// checked, before the engine is reachable. From its return on, what is in the
	// directory may be written to by others: the caller notes that it must never be
	// restored over. An error keeps the engine from serving.
	Ready func(Report) error
}

// A Server is a Store whose engine is served from the directory that a Restore
// filled.
type Server interface {
	// Serving names the process that works in dir, whether or not it answers; 0 if
	// there is none.
	Serving(dir string) (pid int, err error)
	// Resume sees to it that what a Restore brought back into dir, up to the call
	// of Serve.Ready, is served there.
	Resume(ctx context.Context, req Request) error
}

// Until is the instant up to which nothing is missing.
func (r Report) Until() time.Time {
	if r.Complete.After(r.DataUntil) {
		return r.Complete
	}
	return r.DataUntil
}

// A Restored is what came back. Close ends a private engine and is idempotent;
// it leaves the files, and leaves an engine that serves.
type Restored interface {
	Report() Report
	// Integrity asks the engine itself: rung L5.
	Integrity(ctx context.Context) []holdfast.Check
	// Value asks one question of the owner's: rung L6. An ErrWanting says that
	// the data is at fault.
	Value(ctx context.Context, question string) (any, error)
	Close(ctx context.Context) error
}

// A Report says what a restore did, measured.
type Report struct {
	Snapshot  string          `json:"snapshot"`
	Asked     holdfast.Target `json:"asked"`
	Reached   string          `json:"reached"`    // in the store's own words, e.g. an LSN and time
	DataUntil time.Time       `json:"data_until"` // instant of the newest data that came back
	// Complete is the instant up to which everything came back: an idle store has no
	// data near it and has lost none. Zero: no later than DataUntil.
	Complete time.Time        `json:"complete_until,omitzero"`
	Bytes    int64            `json:"bytes"`
	Files    int64            `json:"files"`
	Kept     int64            `json:"kept_bytes,omitempty"` // that the directory held already
	Fetch    time.Duration    `json:"fetch_ns"`
	Replay   time.Duration    `json:"replay_ns"`
	Verify   time.Duration    `json:"verify_ns"`
	Checks   []holdfast.Check `json:"checks"` // L1, L3 and L4 as far as they apply
	Address  string           `json:"address,omitempty"`
}
