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
	"maps"
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

	// People are named by the roles. Keep them in a file of their own: people can
	// ask to be erased.
	People map[string]Person `yaml:"people"`

	// Roles are the duties, each with a deputy.
	Roles map[string]Role `yaml:"roles"`

	// Scenarios name what can be lost, and how late a loss may be noticed.
	Scenarios map[string]Scenario `yaml:"scenarios"`

	// Tiers name levels of importance with their objectives. Services and stores
	// refer to one; labels of tiers carry no order of their own.
	Tiers map[string]Tier `yaml:"tiers"`

	// Services are what users depend on.
	Services map[string]Service `yaml:"services"`

	// Stores are where the data lives.
	Stores map[string]Store `yaml:"stores"`

	// Keys are the public halves of the keys that can read the backups.
	Keys map[string]Key `yaml:"keys"`

	// Repository says how backups are written.
	Repository Repository `yaml:"repository"`

	// Locations are the places that hold backups.
	Locations map[string]Location `yaml:"locations"`

	// Backups are the policies that stores refer to by "protect".
	Backups map[string]Backup `yaml:"backups"`

	// Drills are the rehearsals that prove the backups.
	Drills map[string]Drill `yaml:"drills"`

	// Runbooks are recoveries as data.
	Runbooks map[string]Runbook `yaml:"runbooks"`

	// Activation says who and what may start a recovery.
	Activation Activation `yaml:"activation"`

	// Exceptions are approved, ending waivers of findings.
	Exceptions map[string]Exception `yaml:"exceptions"`

	// Controls map clauses of standards ("iso27001/A.8.13") to the drills that
	// prove them.
	Controls map[string][]string `yaml:"controls"`

	dir    string
	digest string
	source []byte
	files  []string
	pos    map[string]Position
}

// Meta identifies the plan.
type Meta struct {
	ID        string   `yaml:"id" plan:"required"`
	Version   string   `yaml:"version"`   // as the company counts them; quote it
	Owner     string   `yaml:"owner"`     // a role or a person
	Approvers []string `yaml:"approvers"` // roles or people
	Review    Review   `yaml:"review"`
}

// Review says how often the plan itself is looked at.
type Review struct {
	Every Period   `yaml:"every"`
	After []string `yaml:"after"` // "change", "exercise", "incident"
}

// Org is the company.
type Org struct {
	Name string `yaml:"name"`

	// Timezone is the IANA name in which wall-clock times of the plan are read.
	//
	// Defaults to UTC.
	Timezone string `yaml:"timezone"`
}

// A Person is somebody with a name and a way to be reached.
type Person struct {
	Name  string `yaml:"name"`
	Email string `yaml:"email"`
	Phone string `yaml:"phone"`
	// SSH holds public keys that sign the person's approvals, by a name of their own.
	SSH map[string]string `yaml:"ssh"`
}

// A Role is a duty that somebody holds and somebody else can take over.
type Role struct {
	Holder string   `yaml:"holder" plan:"required"`
	Deputy string   `yaml:"deputy"`
	May    []string `yaml:"may"` // "activate-plan", "close-incident", …
}

// A Scenario is something that can be lost.
type Scenario struct {
	// DetectionDelay is how late the loss may be noticed. Backups must be kept
	// longer than that.
	DetectionDelay Period `yaml:"detection_delay"`
	// Lose names the locations that are gone in this scenario.
	Lose []string `yaml:"lose"`
}

// A Tier holds the objectives that services and stores share.
type Tier struct {
	RTO Objective `yaml:"rto"` // longest acceptable outage
	RPO Objective `yaml:"rpo"` // oldest acceptable recovered data
	// MTD is the maximum tolerable downtime: after it the company is harmed for good.
	MTD Period `yaml:"mtd"`
	// Scenarios replace the objectives for a wider loss.
	Scenarios map[string]TierScenario `yaml:"scenarios"`
}

// A TierScenario replaces a tier's objectives in one scenario.
type TierScenario struct {
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"`
	MTD Period    `yaml:"mtd"`
}

// Need says how strongly a service depends on something.
type Need string

// The needs. A service cannot run without a hard need; without a soft one it is poorer.
const (
	Hard Need = "hard"
	Soft Need = "soft"
)

func (Need) words() []string { return []string{string(Hard), string(Soft)} }

// A Service is what users depend on.
type Service struct {
	Tier    string          `yaml:"tier"`
	Owner   string          `yaml:"owner"` // a role or a person
	Needs   map[string]Need `yaml:"needs"` // service or store to "hard" or "soft"
	Runbook string          `yaml:"runbook"`
	Probe   *Probe          `yaml:"probe"`
}

// A Probe tells whether a service is usable, seen from outside. It is a URL or a
// command, not both.
type Probe struct {
	URL     string   `yaml:"url"`
	Command []string `yaml:"command"` // argv; no shell
	// Status is the HTTP status that counts as usable.
	//
	// Defaults to 200.
	Status int `yaml:"status"`
	// Timeout ends one attempt.
	//
	// Defaults to 10s.
	Timeout Period `yaml:"timeout"`
}

// A StoreKind says what holds the data.
type StoreKind string

// The kinds that this version protects.
const (
	KindPostgres StoreKind = "postgres"
	KindFiles    StoreKind = "files"
)

func (StoreKind) words() []string { return []string{string(KindPostgres), string(KindFiles)} }

// A Store is where data lives.
type Store struct {
	Kind  StoreKind `yaml:"kind" plan:"required"`
	Tier  string    `yaml:"tier"`
	Owner string    `yaml:"owner"`
	Class string    `yaml:"class"` // classification of the data, in the company's words

	Postgres *PostgresStore `yaml:"postgres"` // for kind postgres
	Files    *FilesStore    `yaml:"files"`    // for kind files

	// Protect names the backup policy.
	Protect string `yaml:"protect"`

	// Invariants are the owner's questions to restored data.
	Invariants map[string]Invariant `yaml:"invariants"`

	// Recover says where a real recovery puts the data.
	Recover *RecoverTo `yaml:"recover"`
}

// PostgresStore says how to reach a PostgreSQL server.
type PostgresStore struct {
	// DSN is a connection string without a password: "host=… user=…" or "postgres://…".
	DSN string `yaml:"dsn" plan:"required"`
	// PasswordFile holds the password alone, readable by its owner only.
	PasswordFile string `yaml:"password_file" plan:"path"`
	// Slot is the replication slot that the log stream uses.
	//
	// Defaults to "holdfast_" and the store's id.
	Slot string `yaml:"slot"`
	// BinDir holds the server's programs, for restores.
	//
	// Defaults to the installed programs of the backup's major version.
	BinDir string `yaml:"bin_dir" plan:"path"`
	// Durability says when received log counts as safe: "local" when it is on this
	// host's disk, "one-location" when one location has it, "quorum" when most have.
	//
	// Defaults to "local".
	Durability Durability `yaml:"durability"`
	// AcceptUnboundedSlot acknowledges that the server sets no
	// max_slot_wal_keep_size: while Holdfast is away for long, kept log can then
	// fill the server's disk and stop it.
	//
	// Defaults to false: such a server is refused.
	AcceptUnboundedSlot bool `yaml:"accept_unbounded_slot"`
}

// Durability says when received log counts as safe.
type Durability string

// The durability policies.
const (
	DurableLocal       Durability = "local"
	DurableOneLocation Durability = "one-location"
	DurableQuorum      Durability = "quorum"
)

func (Durability) words() []string {
	return []string{string(DurableLocal), string(DurableOneLocation), string(DurableQuorum)}
}

// FilesStore is a folder.
type FilesStore struct {
	Path string `yaml:"path" plan:"required,path"`
	// Exclude are patterns of paths to leave out, relative to Path.
	Exclude []string `yaml:"exclude"`
	// OneFileSystem stays on the file system of Path.
	OneFileSystem bool `yaml:"one_file_system"`
}

// An Invariant is a question to restored data and the answer that the owner expects.
type Invariant struct {
	// SQL returns one value.
	SQL string `yaml:"sql" plan:"required"`
	// Expect is a CEL expression over value (the answer), last (the answer of the
	// last drill that passed, null before it) and target (the recovered instant).
	// An expression that cannot be evaluated proves nothing.
	Expect string `yaml:"expect" plan:"required"`
	// ConfirmedBy names the role or person who says that this question means something.
	ConfirmedBy string `yaml:"confirmed_by"`
}

// RecoverTo says where a real recovery puts a store.
type RecoverTo struct {
	To    string `yaml:"to" plan:"required,path"`
	Start *Start `yaml:"start"` // for engines: how to start what was restored
}

// Start says how a recovered engine is started.
type Start struct {
	Port int `yaml:"port"`
	// Listen is the address that the engine listens on.
	//
	// Defaults to 127.0.0.1.
	Listen string `yaml:"listen"`
	// Options are settings of the engine, for example max_connections.
	Options map[string]string `yaml:"options"`
}

// A Key is the public half of a key that can read backups.
type Key struct {
	Recipient string   `yaml:"recipient" plan:"required"` // "age1…"
	Holders   []string `yaml:"holders"`                   // people who have the private half
	Offline   bool     `yaml:"offline"`                   // the private half is on no computer
}

// Repository says how backups are written.
type Repository struct {
	ID string `yaml:"id"`
	// EncryptTo names the keys that can read every backup.
	EncryptTo []string `yaml:"encrypt_to"`
	// AllowOneRecipient permits a single key. Its loss is the loss of every backup.
	AllowOneRecipient bool `yaml:"allow_one_recipient"`
}

// A LocationKind says what a place is.
type LocationKind string

// The kinds of location that this version writes to.
const (
	KindDir  LocationKind = "dir"
	KindS3   LocationKind = "s3"
	KindSFTP LocationKind = "sftp"
)

func (LocationKind) words() []string {
	return []string{string(KindDir), string(KindS3), string(KindSFTP)}
}

// A Location is one place that holds backups.
type Location struct {
	Kind LocationKind `yaml:"kind" plan:"required"`

	Path string        `yaml:"path" plan:"path"` // for kind dir: the folder
	S3   *S3Location   `yaml:"s3"`               // for kind s3
	SFTP *SFTPLocation `yaml:"sftp"`             // for kind sftp

	// Provider, Account, Region and Domain say what a place shares with others.
	// Two places with one failure domain count once. The domain "this-host" is the
	// machine of the stores themselves.
	//
	// Domain defaults to "this-host" for a folder, and to the name of the server for
	// s3 and sftp.
	Provider     string `yaml:"provider"`
	Account      string `yaml:"account"`
	Region       string `yaml:"region"`
	Domain       string `yaml:"domain"` // what fails together, e.g. "this-host", "eu-1"
	Jurisdiction string `yaml:"jurisdiction"`
}

// S3Location is a bucket of an S3-compatible object store. "holdfast location test"
// says what it guarantees.
type S3Location struct {
	// Endpoint is the address of the object store, such as
	// https://s3.eu-central-1.amazonaws.com.
	Endpoint string `yaml:"endpoint" plan:"required"`
	// Region is the region that requests are signed for.
	//
	// Defaults to us-east-1, which object stores without regions take.
	Region string `yaml:"region"`
	Bucket string `yaml:"bucket" plan:"required"`
	// Prefix is put before the name of every object, so that a bucket can hold more
	// than backups.
	Prefix string `yaml:"prefix"`
	// Style says where the name of the bucket stands: "host" (bucket.endpoint) or
	// "path" (endpoint/bucket).
	//
	// Defaults to what the endpoint is known to want.
	Style S3Style `yaml:"style"`
	// CredentialsFile holds the access key in two lines, access_key_id = … and
	// secret_access_key = …, readable by its owner only.
	//
	// Defaults to the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
	CredentialsFile string `yaml:"credentials_file" plan:"path"`
	// CAFile holds the certificates of the only authorities that may vouch for the
	// server, in PEM form.
	//
	// Defaults to the system's authorities.
	CAFile string `yaml:"ca_file" plan:"path"`
	// Insecure allows http instead of https to another machine. Content is sealed
	// all the same; names, sizes and the right to write are open to who listens.
	Insecure bool `yaml:"insecure"`
	// Lock makes every object undeletable, by anybody, until this long after it was
	// written. The bucket needs object lock. Choose it as long as backups are kept; it
	// is not renewed while newer snapshots use an older object.
	//
	// Defaults to no lock by Holdfast; the bucket may have a retention of its own.
	Lock Period `yaml:"lock"`
}

// S3Style says where the name of a bucket stands in an address.
type S3Style string

// The styles.
const (
	S3Path S3Style = "path"
	S3Host S3Style = "host"
)

func (S3Style) words() []string { return []string{string(S3Path), string(S3Host)} }

// SFTPLocation is a folder of another machine, over SSH.
type SFTPLocation struct {
	// Host is the server, with its port unless that is 22: "backup.example.com:2222".
	Host string `yaml:"host" plan:"required"`
	User string `yaml:"user" plan:"required"`
	// Path is the folder on the server; without a slash at its beginning it is
	// relative to the account's home.
	Path string `yaml:"path" plan:"required"`
	// KeyFile holds the private key that logs in, without passphrase, readable by
	// its owner only.
	KeyFile string `yaml:"key_file" plan:"required,path"`
	// HostKey is the fingerprint of the server's key, "SHA256:…", as
	// "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" shows it on the server.
	// Either it or KnownHosts is needed: no other server is talked to.
	HostKey string `yaml:"host_key"`
	// KnownHosts is a file of server keys in the form of OpenSSH.
	KnownHosts string `yaml:"known_hosts" plan:"path"`
}

// A Backup is a policy of protection that stores share.
type Backup struct {
	// Every is how often a snapshot (for postgres: a base backup) is made.
	Every Recurrence `yaml:"every" plan:"required"`
	// Log ships the transaction log between the snapshots.
	Log *LogPolicy `yaml:"log"`
	// Copies are the locations that hold every snapshot and log. Each is complete alone.
	Copies Copies `yaml:"copies" plan:"required"`
	// Keep is how long a snapshot is kept, counted from its receipt.
	Keep Period `yaml:"keep"`
	// Takes is how long one snapshot is expected to take, until it is complete in a
	// location. It counts into the loss.
	Takes Period `yaml:"takes"`
}

// A LogPolicy says how the transaction log is shipped.
type LogPolicy struct {
	// MaxLag is the longest time from a commit until it is durable in a location.
	MaxLag Period `yaml:"max_lag" plan:"required"`
}

// Copies are the locations of a backup: a list of names, or a map from name to policy.
type Copies map[string]Copy

// A Copy is what one location gets.
type Copy struct {
	// Every is how often the location is brought up to date.
	//
	// Defaults to at once.
	Every Period `yaml:"every"`
}

// Names returns the locations in order.
func (c Copies) Names() []string { return slices.Sorted(maps.Keys(c)) }

// A Pick says which recovery point a drill restores.
type Pick string

// The picks.
const (
	PickRandom Pick = "random"
	PickLatest Pick = "latest"
	PickOldest Pick = "oldest"
)

func (Pick) words() []string {
	return []string{string(PickRandom), string(PickLatest), string(PickOldest)}
}

// A Drill restores stores in a sandbox, checks them and measures the time.
type Drill struct {
	Of    []string   `yaml:"of" plan:"required"`
	Every Recurrence `yaml:"every" plan:"required"`
	// Pick says which recovery point is restored.
	//
	// Defaults to "random".
	Pick Pick `yaml:"pick"`
	// Rung is how high the drill must climb to count, 0 to 8.
	//
	// Defaults to 6 for postgres and 3 for files: see [Plan.DrillRung].
	Rung *int `yaml:"rung"`
	// FreshFor is how long the proof lasts.
	//
	// Defaults to 35 days.
	FreshFor Period `yaml:"fresh_for"`
}

// A Runbook is a recovery as data.
type Runbook struct {
	// Detect is how long it takes to notice that it is needed.
	Detect Period `yaml:"detect"`
	// Steps are in the order of the file; what must come first says "after".
	Steps Steps `yaml:"steps" plan:"required"`
}

// Steps are an ordered map from id to step.
type Steps []Step

// Get returns the step with the given id.
func (s Steps) Get(id string) (Step, bool) {
	for _, st := range s {
		if st.ID == id {
			return st, true
		}
	}
	return Step{}, false
}

// A Step is one unit of a runbook. It has exactly one of Restore, Start, Check,
// Human, Approve and Run.
type Step struct {
	ID      string   `yaml:"-"`
	Restore string   `yaml:"restore"` // a store
	Start   string   `yaml:"start"`   // a store whose engine is started
	Check   string   `yaml:"check"`   // a service whose probe, or a store whose invariants, must pass
	Human   string   `yaml:"human"`   // a role that does what Text says
	Approve []string `yaml:"approve"` // roles, each a different person
	Run     []string `yaml:"run"`     // argv; no shell

	Text  string   `yaml:"text"` // what a person reads
	After []string `yaml:"after"`
	// Est is how long the step is expected to take, or "measured" where drills tell.
	Est Estimate `yaml:"est"`
}

// The kinds of step, as [Step.Kind] returns them.
const (
	StepRestore = "restore"
	StepStart   = "start"
	StepCheck   = "check"
	StepHuman   = "human"
	StepApprove = "approve"
	StepRun     = "run"
)

// Kind returns what the step does and to what.
func (s Step) Kind() (kind, of string) {
	switch {
	case s.Restore != "":
		return StepRestore, s.Restore
	case s.Start != "":
		return StepStart, s.Start
	case s.Check != "":
		return StepCheck, s.Check
	case s.Human != "":
		return StepHuman, s.Human
	case len(s.Approve) > 0:
		return StepApprove, ""
	case len(s.Run) > 0:
		return StepRun, ""
	}
	return "", ""
}

func (s Step) kinds() (kinds []string) {
	for _, k := range []struct {
		name string
		set  bool
	}{{StepRestore, s.Restore != ""}, {StepStart, s.Start != ""}, {StepCheck, s.Check != ""}, {StepHuman, s.Human != ""}, {StepApprove, len(s.Approve) > 0}, {StepRun, len(s.Run) > 0}} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

// Activation says what starts a recovery.
type Activation struct {
	// Automatic are the events that start it without a person: "store-lost".
	Automatic []Event `yaml:"automatic"`
	// By are the roles that may start it.
	By []string `yaml:"by"`
	// ConfirmAfter is how long a loss must last before it starts by itself, so that a
	// restart of the database is not taken for its end.
	//
	// Defaults to 0: at once.
	ConfirmAfter Period `yaml:"confirm_after"`
}

// An Event is something that can start a recovery by itself.
type Event string

// EventStoreLost is the loss of a store: it does not answer, and its data is gone.
const EventStoreLost Event = "store-lost"

func (Event) words() []string { return []string{string(EventStoreLost)} }

// Automatically reports whether e starts a recovery without a person.
func (a Activation) Automatically(e Event) bool { return slices.Contains(a.Automatic, e) }

// An Exception is an approved waiver of one finding, with an end.
type Exception struct {
	Rule       string   `yaml:"rule" plan:"required"` // the code of the finding, e.g. "HF-L11"
	Of         string   `yaml:"of" plan:"required"`   // what it is about, e.g. "stores.queue"
	Why        string   `yaml:"why" plan:"required"`
	By         string   `yaml:"by" plan:"required"` // who asked
	ApprovedBy []string `yaml:"approved_by"`        // who agreed; never who asked
	From       Date     `yaml:"from"`
	Until      Date     `yaml:"until" plan:"required"`
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
