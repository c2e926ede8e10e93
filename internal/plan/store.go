package plan

import (
	"slices"
	"time"

	"holdfast/internal/calendar"
)

// A StoreKind says what holds the data.
type StoreKind string

// The kinds of store.
const (
	KindPostgres StoreKind = "postgres"
	KindMySQL    StoreKind = "mysql"
	KindSQLite   StoreKind = "sqlite"
	KindFiles    StoreKind = "files"
	KindGit      StoreKind = "git"
	KindObject   StoreKind = "object" // a bucket
	KindVM       StoreKind = "vm"     // a guest machine
	KindExec     StoreKind = "exec"   // whatever a program can read and restore
)

func (StoreKind) words() []string {
	return []string{string(KindPostgres), string(KindMySQL), string(KindSQLite), string(KindFiles), string(KindGit),
		string(KindObject), string(KindVM), string(KindExec)}
}

// Protected are the kinds that this version can back up and restore itself. A plan
// may declare stores of other kinds; they are reported as not protected.
var protected = []StoreKind{KindPostgres, KindFiles}

// Protected reports whether this version can back up and restore stores of this kind.
func (k StoreKind) Protected() bool { return slices.Contains(protected, k) }

// A Marker says what is special about data.
type Marker string

// The markers. Requirements of the health sector apply only where health data is marked.
const (
	Personal   Marker = "personal"
	Health     Marker = "health"
	Industrial Marker = "industrial-control"
	Payment    Marker = "payment"
	Secrets    Marker = "secrets"
)

func (Marker) words() []string {
	return []string{string(Personal), string(Health), string(Industrial), string(Payment), string(Secrets)}
}

// A Store is where data lives.
type Store struct {
	Kind  StoreKind `yaml:"kind" plan:"required"` // what keeps the data; the section of that name says where
	Text  string    `yaml:"text"`                 // what it is, for people who do not know it
	Tier  string    `yaml:"tier"`                 // gives it the objectives that it does not state itself
	Owner string    `yaml:"owner"`                // the role or person who answers for it
	Class string    `yaml:"class"`                // classification of the data, in the company's words; see classes
	// Contains marks data with rules of its own.
	Contains []Marker `yaml:"contains"`

	Postgres *PostgresStore `yaml:"postgres"` // for kind postgres
	MySQL    *MySQLStore    `yaml:"mysql"`    // for kind mysql
	SQLite   *SQLiteStore   `yaml:"sqlite"`   // for kind sqlite
	Files    *FilesStore    `yaml:"files"`    // for kind files
	Git      *GitStore      `yaml:"git"`      // for kind git
	Object   *ObjectStore   `yaml:"object"`   // for kind object
	VM       *VMStore       `yaml:"vm"`       // for kind vm
	Exec     *ExecStore     `yaml:"exec"`     // for kind exec

	// Protect names the backup policy.
	Protect string `yaml:"protect"`
	// Agent is the source agent of another machine that makes the backups. The server
	// then only finds them, countersigns them, drills and recovers: it needs no way to
	// the store, and the machine of the store needs no right to read a backup.
	Agent *SourceAgent `yaml:"agent"`
	// Delegated says who else protects it. What is delegated is claimed until a
	// restore of our own has proved it.
	Delegated *Delegated `yaml:"delegated"`
	// NotProtected is why nothing needs to protect it: "rebuilt from db".
	NotProtected string `yaml:"not_protected"`

	// RTO and RPO are the store's own objectives: see the service's.
	RTO Objective `yaml:"rto"`
	RPO Objective `yaml:"rpo"` // the oldest acceptable recovered data, instead of the tier's
	// Scenarios replace the objectives for a wider loss.
	Scenarios map[string]TierScenario `yaml:"scenarios"`

	// Invariants are the owner's questions to restored data.
	Invariants map[string]Invariant `yaml:"invariants"`

	// Recover says where a real recovery puts the data.
	Recover *RecoverTo `yaml:"recover"`

	// On is the supplier, facility, service or store that it runs on and is lost with.
	On string `yaml:"on"`
	// Region is where it lies.
	Region string `yaml:"region"`
	// Environment is where it belongs: "production", "staging", …
	Environment string `yaml:"environment"`
	// LiveData says whether it holds live data of the company or of customers.
	//
	// Defaults to true.
	LiveData *bool    `yaml:"live_data"`
	Data     *DataUse `yaml:"data"` // whose data it is, and what is done with it
}

// Production reports whether the rules for production apply.
func (s Store) Production() bool { return s.LiveData == nil || *s.LiveData }

// connection returns the fields of the store's kind and whether they are there.
func (s Store) connection(kind StoreKind) bool {
	switch kind {
	case KindPostgres:
		return s.Postgres != nil
	case KindMySQL:
		return s.MySQL != nil
	case KindSQLite:
		return s.SQLite != nil
	case KindFiles:
		return s.Files != nil
	case KindGit:
		return s.Git != nil
	case KindObject:
		return s.Object != nil
	case KindVM:
		return s.VM != nil
	case KindExec:
		return s.Exec != nil
	}
	return false
}

// Delegated says that somebody else protects a store.
type Delegated struct {
	// To is the supplier who is responsible.
	To string `yaml:"to" plan:"required"`
	// Says is what the supplier promises, in its own words.
	Says string `yaml:"says"`
	// RPO and RTO are what the supplier promises in numbers.
	RPO Objective `yaml:"rpo"`
	RTO Objective `yaml:"rto"` // the longest outage that the supplier promises
	// Keep is how long the supplier keeps its copies.
	Keep Period `yaml:"keep"`
	// Document names what holds the promise.
	Document string `yaml:"document"`
	// Adapter is the program that asks the supplier, with its first arguments and without
	// a shell: see docs/format/adapter.md. Without one, all that is known of the supplier's
	// copies is claimed.
	Adapter []string `yaml:"adapter"`
	// Secrets are files with what the adapter may know, by the name under which it finds
	// them; each is readable by its owner only.
	Secrets map[string]string `yaml:"secrets"`
	// ProbeEvery is how often the adapter is asked how fresh the supplier's copies are.
	//
	// Defaults to every 15 minutes.
	ProbeEvery Recurrence `yaml:"probe_every"`
	// TestEvery is how often we restore from the supplier's copy ourselves.
	TestEvery Recurrence `yaml:"test_every"`
	// RestoreWithin is how long the supplier may take for it, before it is given up.
	//
	// Defaults to 6 hours.
	RestoreWithin Period `yaml:"restore_within"`
	// Newest is a question to a restored engine: it returns the instant of its newest data.
	// Without it nobody measures how much a restore by the supplier loses.
	Newest string `yaml:"newest"`
}

// DefaultProbe is how often a supplier is asked where the plan does not say.
const DefaultProbe = "every 15m"

// Probes returns how often the supplier is asked, and whether it is asked at all.
func (d *Delegated) Probes() (every Recurrence, ok bool) {
	if d == nil || len(d.Adapter) == 0 {
		return Recurrence{}, false
	}
	if !d.ProbeEvery.IsZero() {
		return d.ProbeEvery, true
	}
	every, err := calendar.ParseRecurrence(DefaultProbe)
	return every, err == nil // the constant is one
}

// Tests returns how often a restore from the supplier is tried, and whether it is.
func (d *Delegated) Tests() (every Recurrence, ok bool) {
	if d == nil || len(d.Adapter) == 0 {
		return Recurrence{}, false
	}
	return d.TestEvery, !d.TestEvery.IsZero()
}

// oldest is how old the newest copy of the supplier may be: as our own promise says, or
// else the supplier's. 0: nobody says.
func (d *Delegated) oldest(promise time.Duration) time.Duration {
	if promise > 0 {
		return promise
	}
	rpo, _ := d.RPO.Duration()
	return rpo
}

// OldestAllowed returns how old the newest copy of a supplier of a store may be; 0: the
// plan does not say.
func (p *Plan) OldestAllowed(store string) time.Duration {
	d := p.Stores[store].Delegated
	if d == nil {
		return 0
	}
	return d.oldest(p.Promise(store).RPO)
}

// Elsewhere reports whether only somebody else protects the store.
func (s Store) Elsewhere() bool { return s.Protect == "" && s.Delegated != nil }

// MySQLStore says how to reach a MySQL or MariaDB server.
type MySQLStore struct {
	// DSN is an address without a password: "user@host:3306/database".
	DSN string `yaml:"dsn" plan:"required"`
	// PasswordFile holds the password alone, readable by its owner only.
	PasswordFile string `yaml:"password_file" plan:"path"`
	// BinDir holds the server's programs, for restores.
	BinDir string `yaml:"bin_dir" plan:"path"`
}

// SQLiteStore is a database file.
type SQLiteStore struct {
	Path string `yaml:"path" plan:"required,path"` // the file of the database
}

// GitStore is a repository, with all its branches, tags and large files.
type GitStore struct {
	// URL is the address to clone from, without a login: "https://git.example.com/app.git",
	// "git@git.example.com:app.git" or a path.
	URL string `yaml:"url" plan:"required"`
	// KeyFile holds the private key that logs in over SSH.
	KeyFile string `yaml:"key_file" plan:"path"`
	// TokenFile holds the token that logs in over HTTPS, alone.
	TokenFile string `yaml:"token_file" plan:"path"`
}

// ObjectStore is a bucket that services write to.
type ObjectStore struct {
	Endpoint        string `yaml:"endpoint" plan:"required"`     // the https address of the service
	Region          string `yaml:"region"`                       // as the service names it
	Bucket          string `yaml:"bucket" plan:"required"`       // the bucket that is backed up
	Prefix          string `yaml:"prefix"`                       // only objects whose names begin with it
	CredentialsFile string `yaml:"credentials_file" plan:"path"` // a file that only its owner can read
}

// VMStore is a guest machine.
type VMStore struct {
	// Host is the hypervisor's address, for example "qemu+ssh://host/system".
	Host string `yaml:"host"`
	// Name is the machine's name there.
	Name string `yaml:"name" plan:"required"`
	// Disks are the images to copy, where the hypervisor is not asked.
	Disks []string `yaml:"disks"`
}

// ExecStore is a store that programs of the company's own read and restore.
type ExecStore struct {
	Backup  []string `yaml:"backup" plan:"required"`  // argv; writes the copy to its standard output
	Restore []string `yaml:"restore" plan:"required"` // argv; reads the copy from its standard input
	Check   []string `yaml:"check"`                   // argv; succeeds if what was restored is whole
}

// PostgresStore says how to reach a PostgreSQL server.
type PostgresStore struct {
	// DSN is a connection string without a password: "host=… user=…" or "postgres://…".
	DSN string `yaml:"dsn" plan:"required"`
	// PasswordFile holds the password alone, readable by its owner only.
	PasswordFile string `yaml:"password_file" plan:"path"`
	// Databases are those of the server beside the one of DSN that the store stands for:
	// a base backup holds them all. "holdfast check --live" names those that are neither
	// here, nor another store's, nor excluded.
	Databases []string `yaml:"databases"`
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
	// Archive takes the log from the server's archive_command where no replication slot may
	// be had. Without it the log is streamed.
	Archive *ArchivedLog `yaml:"archive"`
	// Synchronous promises that no commit is acknowledged before its log is here, an RPO
	// of 0: the server's synchronous_standby_names has the slot in every quorum. Whether
	// it does is looked at all the time; when it does not, that is an incident.
	//
	// Defaults to false: nothing is promised, and nothing is asked.
	Synchronous bool `yaml:"synchronous"`
	// AcceptUnboundedSlot acknowledges that the server sets no
	// max_slot_wal_keep_size: while Holdfast is away for long, kept log can then
	// fill the server's disk and stop it.
	//
	// Defaults to false: such a server is refused.
	AcceptUnboundedSlot bool `yaml:"accept_unbounded_slot"`
	// ReadMBPerSecond holds a base backup back, so that the server's disk and line are
	// there for others. The log is not held back.
	//
	// Defaults to 0: as fast as it can.
	ReadMBPerSecond int `yaml:"read_mb_per_second"`
}

// ArchivedLog says how the log comes by archive_command.
type ArchivedLog struct {
	// Inbox is the folder into which "holdfast archive-command" puts log files, on the
	// machine of the server: its account must be able to write there, and Holdfast to read.
	Inbox string `yaml:"inbox" plan:"required,path"`
	// Timeout is the server's archive_timeout: until a log file is full, so much may be in
	// none. It counts into the backup's log.max_lag.
	Timeout Period `yaml:"timeout" plan:"required"`
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
	Path string `yaml:"path" plan:"required,path"` // the folder
	// Exclude are patterns of paths to leave out, relative to Path.
	Exclude []string `yaml:"exclude"`
	// OneFileSystem stays on the file system of Path.
	OneFileSystem bool `yaml:"one_file_system"`
	// ReadMBPerSecond holds the reading of content back, so that the disk is there for
	// others.
	//
	// Defaults to 0: as fast as it can.
	ReadMBPerSecond int `yaml:"read_mb_per_second"`
}

// An Invariant is a question to restored data and the answer that the owner expects.
type Invariant struct {
	// SQL returns one value.
	SQL string `yaml:"sql" plan:"required"`
	// Expect is a CEL expression over value (the answer), last (the answer of the
	// last drill that passed, null before it) and target (the recovered instant).
	// An expression that cannot be evaluated proves nothing.
	Expect string `yaml:"expect" plan:"required,cel"`
	// ConfirmedBy names the role or person who says that this question means something.
	ConfirmedBy string `yaml:"confirmed_by"`
}

// RecoverTo says where a real recovery puts a store.
type RecoverTo struct {
	To    string `yaml:"to" plan:"required,path"` // the folder that gets the recovered data
	Start *Start `yaml:"start"`                   // for engines: how to start what was restored
}

// Start says how a recovered engine is started.
type Start struct {
	Port int `yaml:"port"` // the port on which the engine listens
	// Listen is the address that the engine listens on.
	//
	// Defaults to 127.0.0.1.
	Listen string `yaml:"listen"`
	// Options are settings of the engine, for example max_connections.
	Options map[string]string `yaml:"options"`
}

// A SourceAgent is "holdfast agent source" on another machine.
type SourceAgent struct {
	// Key is the public half of its signing key, which "holdfast agent init" prints.
	// What another key signed is no backup of the store.
	Key string `yaml:"key" plan:"required"`
}
