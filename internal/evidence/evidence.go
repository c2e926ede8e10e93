// Package evidence makes evidence packs and verifies them.
//
// A pack is a zip file that an auditor takes away: for one period, and one
// framework or all, the facts from the ledger, the complete populations to sample
// from, every slot that the plan expected with what came of it, posture, controls
// and the plans in force. He checks it on a machine of his own, with [Verify], or
// with ssh-keygen, openssl, sha256sum and a short script and without Holdfast.
//
// # What a verified pack proves
//
// That the holder of the evidence key made it and nobody changed it since, that
// its facts are a gapless stretch of the log that the log key signed, and that
// this log still contains every checkpoint that the auditor holds from before.
// Facts after the newest such checkpoint are called unanchored: about them the
// company could still have changed its mind before the pack was made.
//
// # Invariants
//
//   - No key that travels inside a pack is trusted: the keys are an argument.
//   - Work that did not happen is in the pack. The expected slots are derived
//     again from the plans, when the pack is made and when it is verified.
//   - The time of the event decides the period, not the time of the upload.
//   - The same input gives the same bytes.
//
// # What it does not prove
//
// That a fact was true when it was logged, or that the machine that measured it
// was honest.
//
// The format is described in docs/format/evidence.md.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// Namespace is that of the SSH signature over the manifest of a pack.
const Namespace = "holdfast-evidence"

// Limits of a pack, when it is made and when it is read.
const (
	MaxPack    = 512 << 20 // longest zip file, in bytes
	MaxTotal   = 1 << 30   // longest content of all files together
	MaxFile    = 256 << 20 // longest file
	MaxFiles   = 1000      // most files
	MaxSlots   = 500_000   // most expected slots
	maxKeys    = 64 << 10  // longest file of trusted keys
	maxKeyList = 32        // most keys of one kind
)

// Log is what evidence needs of the ledger. *ledger.Log is one.
type Log interface {
	// Checkpoint returns a signed note of the present size and root.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Facts returns the leaves [from, to), at most ledger.MaxFacts, never fewer.
	Facts(ctx context.Context, from, to int64) ([]ledger.Leaf, error)
	// LeafHashes returns the hashes of the first n facts.
	LeafHashes(ctx context.Context, n int64) ([]tlog.Hash, error)
	// Consistency proves that the tree of size newer contains that of size older.
	Consistency(ctx context.Context, older, newer int64) (tlog.TreeProof, error)
}

// A Population is a complete list from which an auditor draws his sample.
type Population struct {
	Name     string // letters, digits, "." "_" "-"; the name of its file
	Columns  []string
	Rows     [][]string
	Query    string   // how the list was made, so that he can judge its completeness
	Excluded []string // what was left out, and why
}

// A State is what came of a slot.
type State string

// The states of a slot. Missing is not one that a scheduler can report: the plan
// expected the slot, and nobody ever wrote it down.
const (
	Expected State = "expected" // its deadline is still to come
	Started  State = "started"
	Done     State = "done"
	Failed   State = "failed"
	Missed   State = "missed" // its deadline passed and it was not done
	Missing  State = "missing"
)

// A Slot is one piece of work that the plan expected.
type Slot struct {
	Schedule string // the place in the plan: "stores.db" for a backup of it, "drills.db-restore"
	Due      time.Time
	Deadline time.Time
	State    State
	Finished time.Time
	Fact     int64 // index of the fact that tells of its end; negative if there is none
	Note     string
}

// A Plan is one version of the plan and the time from which it was in force.
type Plan struct {
	Text   []byte
	Digest string // "sha256:…" of the text
	From   time.Time
}

// A Posture is a computed state at the time of the pack.
type Posture struct {
	Subject string // such as "stores.db"
	What    string // such as "rto"
	Posture holdfast.Posture
	Grade   holdfast.Grade
	Since   time.Time
	Detail  string
	Facts   []int64 // on which it rests
}

// A Control maps a control of a framework to what stands for it.
type Control struct {
	Framework string // such as "iso27001"
	ID        string // such as "A.8.13"
	Title     string
	Posture   holdfast.Posture
	By        []string // drills, metrics, reviews
	Detail    string
	Facts     []int64
}

// Input is all that goes into a pack.
type Input struct {
	Company   string
	Framework string    // controls of this one only; empty for all
	From, To  time.Time // the period: from inclusive, to exclusive
	Made      time.Time // now

	Log   Log
	First int64 // facts below this index are given as hashes only; 0 gives all
	Plans []Plan

	Slots       []Slot
	Populations []Population
	Posture     []Posture
	Controls    []Control
	Findings    []holdfast.Finding // what is not as promised, at the time of the pack

	Previous []byte // the checkpoint of the previous pack, if there was one
}

// Signing holds the keys of a pack. The log key is only public: the log signs its
// own checkpoints.
type Signing struct {
	Evidence seal.SigningKey
	Log      seal.VerifyKey
	Origin   string
}

// Trusted is the other half that an auditor needs.
func (s Signing) Trusted() Keys {
	return Keys{Origin: s.Origin, Log: []seal.VerifyKey{s.Log}, Evidence: []seal.VerifyKey{s.Evidence.Public()}}
}

// Keys is what an auditor holds and trusts. He gets it once, not with a pack.
type Keys struct {
	Origin   string
	Log      []seal.VerifyKey
	Evidence []seal.VerifyKey

	// Held are checkpoints that he has kept from before. They are worth more than
	// any signature: the log must still contain them.
	Held [][]byte
}

// String returns the keys as the file that ParseKeys reads.
func (k Keys) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Keys to verify evidence packs. Keep them apart from the packs.\norigin %s\n", k.Origin)
	for _, v := range k.Log {
		fmt.Fprintf(&b, "log %s\n", v)
	}
	for _, v := range k.Evidence {
		fmt.Fprintf(&b, "evidence %s\n", v)
	}
	return b.String()
}

// ParseKeys reads a file of trusted keys: "origin NAME", "log KEY" and
// "evidence KEY", one to a line. Held checkpoints are files of their own.
func ParseKeys(text string) (Keys, error) {
	bad := func(format string, args ...any) (Keys, error) {
		err := fmt.Errorf("evidence keys: "+format, args...)
		return Keys{}, holdfast.WithHint(err, "ask the company for its evidence keys by a way that you trust, and never take them out of a pack")
	}
	if len(text) > maxKeys {
		return bad("longer than %d bytes", maxKeys)
	}
	var k Keys
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if word == "origin" && k.Origin == "" {
			k.Origin = strings.TrimSpace(rest)
			continue
		}
		v, err := seal.ParseVerifyKey(rest)
		if err != nil {
			return bad("line %d: want \"origin NAME\", \"log KEY\" or \"evidence KEY\"", n+1)
		}
		switch word {
		case "log":
			k.Log = append(k.Log, v)
		case "evidence":
			k.Evidence = append(k.Evidence, v)
		default:
			return bad("line %d: want \"origin NAME\", \"log KEY\" or \"evidence KEY\"", n+1)
		}
	}
	if k.Origin == "" || len(k.Log) == 0 || len(k.Evidence) == 0 || len(k.Log) > maxKeyList || len(k.Evidence) > maxKeyList {
		return bad("want one origin, and 1 to %d keys each for log and evidence", maxKeyList)
	}
	return k, nil
}

// AllowedSigners returns the evidence keys as a file for ssh-keygen -Y verify -f.
func (k Keys) AllowedSigners() string {
	var b strings.Builder
	for _, v := range k.Evidence {
		b.WriteString(v.AllowedSigner(Namespace) + "\n")
	}
	return b.String()
}

// Files returns what the company hands to an auditor once: the keys as Verify
// takes them, and the same keys as ssh-keygen and openssl take them.
func (k Keys) Files() map[string][]byte {
	files := map[string][]byte{"evidence-keys.txt": []byte(k.String()), "allowed_signers": []byte(k.AllowedSigners())}
	for i, v := range k.Log {
		name := "log.pem"
		if i > 0 {
			name = fmt.Sprintf("log-%d.pem", i+1)
		}
		files[name] = v.PEM()
	}
	return files
}

// open checks a checkpoint against every log key, since keys are rotated.
func (k Keys) open(signed []byte) (tree ledger.Tree, by seal.VerifyKey, err error) {
	err = errors.New("no log key is trusted")
	for _, key := range k.Log {
		var v note.Verifier
		if v, err = seal.NoteVerifier(key); err != nil {
			continue
		}
		if tree, err = ledger.OpenCheckpoint(signed, k.Origin, v); err == nil {
			return tree, key, nil
		}
	}
	return ledger.Tree{}, seal.VerifyKey{}, err
}

// info is pack.json: what the pack says of itself.
type info struct {
	Format     int       `json:"holdfast_evidence_pack"`
	Version    string    `json:"holdfast_version"`
	Company    string    `json:"company"`
	Framework  string    `json:"framework"` // empty: all
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	Made       time.Time `json:"made"`
	Origin     string    `json:"log_origin"`
	Size       int64     `json:"log_size"`
	First      int64     `json:"log_first"` // log.ndjson has the facts from here to log_size
	InPeriod   int       `json:"facts_in_period"`
	LogKey     string    `json:"log_key"`      // fingerprint, to find the key; not to trust it
	EvidenceBy string    `json:"evidence_key"` // likewise, the name
	Plans      []planRef `json:"plans"`
	Previous   int64     `json:"previous_size"` // size of the previous pack's log; 0 if none
}

type planRef struct {
	File   string    `json:"file"`
	Digest string    `json:"digest"`
	From   time.Time `json:"in_force_from"`
}

const packFormat = 1

// The names of the files in a pack.
const (
	fileIndex       = "index.html"
	fileInfo        = "pack.json"
	fileVerify      = "VERIFY.txt"
	fileScript      = "verify.py"
	fileLog         = "log.ndjson"
	fileHashes      = "leaf-hashes.txt"
	fileCheckpoint  = "checkpoint"
	fileText        = "checkpoint.txt"     // its text alone, for openssl
	fileRaw         = "checkpoint.ed25519" // its signature alone, for openssl
	filePrevious    = "previous-checkpoint"
	fileConsistency = "consistency.txt"
	filePlan        = "plan.yaml"
	fileFacts       = "facts.csv"
	fileSlots       = "slots.csv"
	filePosture     = "posture.csv"
	fileControls    = "controls.csv"
	fileFindings    = "findings.csv"
	filePopulations = "populations.csv"
	fileManifest    = "manifest.sha256"
	fileSignature   = "manifest.sha256.sig"
)

// required are the files that every pack has.
var required = []string{fileIndex, fileInfo, fileVerify, fileScript, fileLog, fileHashes, fileCheckpoint, fileText, fileRaw,
	filePlan, fileFacts, fileSlots, filePosture, fileControls, fileFindings, filePopulations, fileManifest, fileSignature}

var (
	packName       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$`)
	populationName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)
