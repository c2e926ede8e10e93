// Package plan reads, checks and explains the plan: the one file, or folder of
// files, in which a company declares what it promises to keep recoverable, and how.
//
// A plan is declared intent and nothing else. It holds no observed fact (those are
// in the ledger), no secret (a password in a connection string is refused, and
// named without being shown) and no wall clock: every function that needs the time
// takes it.
//
// # Reading
//
// The text is strict YAML: one document per file, known keys only, also inside
// values that have several forms, no anchors, aliases or merge keys, no empty
// values, no key twice. Strings are taken as written, so that 1.10 stays 1.10 and
// a phone number keeps its plus. Every complaint is a [holdfast.Finding] with file,
// line and column, and all of them are reported at once.
//
// Map keys are ids. Paths are relative to the folder of the plan; Load makes them
// absolute, and Parse joins them to the folder of the name that it is given.
//
// # Invariants
//
//   - A Plan is never changed after it was read; it may be used concurrently.
//   - Digest names the exact bytes that were read. Parse of Source gives the same plan.
//   - Load accepts only what it understands; whether the promises can be kept is
//     the question of Check.
package plan

import (
	"path/filepath"
	"slices"
	"time"
)

// APIVersion is the only plan language that this version reads.
const APIVersion = "holdfast/v1"

// A Plan is the declared policy of one company.
type Plan struct {
	// APIVersion is the version of the plan language: "holdfast/v1".
	APIVersion string `yaml:"apiVersion" plan:"required"`

	// Plan says which plan this is, who owns it and who approves it.
	Plan Meta `yaml:"plan" plan:"required"`

	// Org is the company.
	Org Org `yaml:"org"`

	// Definitions are the company's own meanings of words that its policy uses.
	Definitions map[string]Definition `yaml:"definitions"`

	// Exclusions are what the plan does not cover, each with its reason.
	Exclusions map[string]Exclusion `yaml:"exclusions"`

	// People are named by the roles. Keep their names, addresses and numbers in
	// people.private.yaml beside the plan: people can ask to be erased.
	People map[string]Person `yaml:"people"`

	// Roles are the duties, each with a deputy.
	Roles map[string]Role `yaml:"roles"`

	// OnCall says who is called first, and who when nobody answers.
	OnCall *OnCall `yaml:"oncall"`

	// Approvals say how many people, of which roles, an act needs. See [Plan.Approval]
	// for the acts that Holdfast itself asks about; others are the policy's own.
	Approvals map[string]Approval `yaml:"approvals"`

	// Schemes say what the labels of tiers and severities mean and how they are
	// ordered. Labels of two schemes are never compared.
	Schemes map[string]Scheme `yaml:"schemes"`

	// Hazards are what can happen. The plan need not list them: see [Hazards].
	Hazards map[string]Hazard `yaml:"hazards"`

	// Scenarios name what can be lost, and how late a loss may be noticed.
	Scenarios map[string]Scenario `yaml:"scenarios"`

	// Tiers name levels of importance with their objectives. Services and stores
	// refer to one; labels of tiers carry no order of their own.
	Tiers map[string]Tier `yaml:"tiers"`

	// Severities name how bad an incident is, with their objectives. Labels of
	// severities carry no order of their own.
	Severities map[string]Severity `yaml:"severities"`

	// Services are what users depend on.
	Services map[string]Service `yaml:"services"`

	// Stores are where the data lives.
	Stores map[string]Store `yaml:"stores"`

	// Classes say how long copies of data of a class may and must be kept. A store names
	// its class; where any are declared, each that is named must be.
	Classes map[string]Class `yaml:"classes"`

	// Suppliers are the companies that services and stores depend on.
	Suppliers map[string]Supplier `yaml:"suppliers"`

	// Facilities are the buildings that matter, with what is attested about them.
	Facilities map[string]Facility `yaml:"facilities"`

	// Customers are those with terms of their own.
	Customers map[string]Customer `yaml:"customers"`

	// Obligations are laws, regulations and contracts, with what they demand.
	Obligations map[string]Obligation `yaml:"obligations"`

	// Residency says where data may lie, and who may hold it.
	Residency map[string]Residency `yaml:"residency"`

	// Keys are the public halves of the keys that can read the backups.
	Keys map[string]Key `yaml:"keys"`

	// RecoveryKit is what brings the company back without those who run it.
	RecoveryKit *RecoveryKit `yaml:"recovery_kit"`

	// Credentials are what people need on the bad day: break-glass accounts, codes.
	Credentials map[string]Credential `yaml:"credentials"`

	// Repository says how backups are written.
	Repository Repository `yaml:"repository"`

	// Locations are the places that hold backups.
	Locations map[string]Location `yaml:"locations"`

	// Backups are the policies that stores refer to by "protect".
	Backups map[string]Backup `yaml:"backups"`

	// Holds keep the backups of stores from being deleted, for example for a court.
	Holds map[string]Hold `yaml:"holds"`

	// Drills are the rehearsals that prove the backups.
	Drills map[string]Drill `yaml:"drills"`

	// Exercises are the rehearsals of people: tabletops, call trees, failovers.
	Exercises map[string]Exercise `yaml:"exercises"`

	// Runbooks are recoveries as data.
	Runbooks map[string]Runbook `yaml:"runbooks"`

	// Activation says who and what may start a recovery.
	Activation Activation `yaml:"activation"`

	// Incidents says how the company answers them.
	Incidents *Incidents `yaml:"incidents"`

	// Reviews are what somebody looks at again and again.
	Reviews map[string]Duty `yaml:"reviews"`

	// Metrics are the numbers that are reported.
	Metrics map[string]Metric `yaml:"metrics"`

	// Risks are the entries of the register.
	Risks map[string]Risk `yaml:"risks"`

	// Exceptions are approved, ending waivers of findings.
	Exceptions map[string]Exception `yaml:"exceptions"`

	// Measures are what the policy says about security and operation, and Holdfast
	// does not measure: hardening, access, releases. Each is attested.
	Measures map[string]Attestation `yaml:"measures"`

	// Statements are the policy's own sentences: vague words with the number that
	// they are bound to, and what checks each.
	Statements map[string]Statement `yaml:"statements"`

	// Documents are what the policy cites: other policies, laws, figures, annexes.
	Documents map[string]Document `yaml:"documents"`

	// Frameworks are the standards that the company maps itself to.
	Frameworks map[string]Framework `yaml:"frameworks"`

	// Controls map clauses of standards ("iso27001/A.8.13") to what proves them:
	// drills, exercises, reviews, metrics, measures.
	Controls map[string][]string `yaml:"controls"`

	// Messages says by which channels people and other systems are told.
	Messages *Messages `yaml:"messages"`

	// Exit says what customers get when the company ends.
	Exit *Exit `yaml:"exit"`

	dir         string
	digest      string
	source      []byte
	files       []string
	pos         map[string]Position
	expressions map[string]expressionAt // where each expression begins, by path
	terms       map[string][]string     // per service or store, the paths of customers' and obligations' terms
}

// A Position is a place in a file of the plan.
type Position struct {
	File         string
	Line, Column int
}

// Position returns where path ("stores.db.postgres.dsn") stands; for a path that is
// not written down, where its nearest parent stands.
func (p *Plan) Position(path string) Position {
	for {
		if pos, ok := p.pos[path]; ok {
			return pos
		}
		i := lastDot(path)
		if i < 0 {
			break
		}
		path = path[:i]
	}
	if len(p.files) > 0 {
		return Position{File: p.files[0], Line: 1, Column: 1}
	}
	return Position{}
}

func lastDot(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return i
		}
	}
	return -1
}

// Digest names the exact text of the plan: "sha256:" and 64 hex digits.
func (p *Plan) Digest() string { return p.digest }

// Source returns the exact text of the plan: the file, or for a folder one text
// that holds all its files. Parse accepts it.
func (p *Plan) Source() []byte { return slices.Clone(p.source) }

// Files returns the names of the files that make the plan.
func (p *Plan) Files() []string { return slices.Clone(p.files) }

// Dir is the folder of the plan, which its paths are relative to.
func (p *Plan) Dir() string { return p.dir }

// Resolve joins a path from elsewhere, for example a flag that is documented as
// relative to the plan, to the folder of the plan. The paths in the plan itself are
// joined already.
func (p *Plan) Resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.dir, path)
}

// Location returns the time zone of the plan.
func (p *Plan) Location() *time.Location {
	if p.Org.Timezone == "" {
		return time.UTC
	}
	loc, err := time.LoadLocation(p.Org.Timezone)
	if err != nil {
		return time.UTC // Parse has refused such a name
	}
	return loc
}
