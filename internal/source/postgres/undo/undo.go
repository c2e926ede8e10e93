// Package undo takes back a mistake in a PostgreSQL database without rolling back what
// was written since.
//
// It compares three states of the same database: right before the mistake, right
// after it (both restored in a sandbox), and now. Only what differs between the first
// two is the mistake; only what differs between the last two was written later. So a
// row that the mistake changed in one column and that somebody changed in another one
// gets the first back and keeps the second, and what both touched is a conflict that is
// shown and never overwritten unless a person says so.
//
// What was found lies in an extract: a folder with the rows as SQL, as CSV and in a form
// for [Write], each file with its size and SHA-256, named by one digest. People
// approve that digest; [Write] writes exactly that, in one transaction.
//
// # How tables are compared
//
// Tables and columns are matched by number where all three are one cluster, so that a
// renamed table is still itself, else by name. Each side first hashes its rows into
// buckets; rows are read only of buckets that differ, by server-side cursors in the
// order of the key. The memory needed is three batches of rows, whatever the size; the
// server sorts those rows with its own work_mem and temporary files. Without a primary
// key, a unique one without nulls serves; a table without either is compared as a
// multiset of whole rows, where a change looks like a deletion and an addition.
//
// # What it does not do
//
// It brings back rows, and tables that are gone whole: with their columns, indexes,
// constraints, owned sequences and grants. It does not bring back views, functions and
// types that were dropped, foreign keys of other tables that pointed to a dropped one,
// columns that were dropped, or large objects; the first three are what
// "holdfast restore" is for, and the report names a dropped column. Triggers fire as on
// any write; if one changes what was written, the transaction is rolled back.
package undo

import (
	"time"
)

// Limits.
const (
	buckets     = 4096    // that rows are hashed into: a difference costs 1/4096 of a table
	batch       = 256     // rows of one fetch
	maxTables   = 100_000 // of a database
	maxSets     = 1000    // different sets of columns that one table's changes have
	maxExamples = 20      // keys that a report names
	maxLine     = 1 << 30 // bytes of one row in an extract
	maxManifest = 64 << 20
	maxDump     = 64 << 20 // of the definition of one table
	lockWait    = "10s"    // for a lock on production
)

// A Kind says what became of a row.
type Kind string

// The kinds.
const (
	Deleted  Kind = "deleted"  // by the mistake, and nothing is there now
	Changed  Kind = "changed"  // by the mistake, and nobody changed the same columns since
	Conflict Kind = "conflict" // by the mistake, and somebody changed the same since
	Added    Kind = "added"    // by the mistake, and unchanged since
)

// An Op is what writing a row back does.
type Op string

// The operations.
const (
	Insert Op = "insert"
	Update Op = "update"
	Delete Op = "delete"
)

// A Row is one row of an extract. Values are texts as the server writes them; nil is
// null. They are in the order of the table's columns.
type Row struct {
	Kind   Kind      `json:"kind"`
	Op     Op        `json:"op"`
	Key    []*string `json:"key"`
	Before []*string `json:"before,omitempty"` // before the mistake
	Now    []*string `json:"now,omitempty"`    // what was there when it was compared
	Set    []int     `json:"set,omitempty"`    // columns that an update writes
	Times  int64     `json:"times,omitempty"`  // copies, in a table without a key
	There  int64     `json:"there,omitempty"`  // copies that there are now
	Why    string    `json:"why,omitempty"`    // it is a conflict
}

// A Column is a column of a table as it is now.
type Column struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Generated bool   `json:"generated,omitempty"` // computed by the server: never written
	Fixed     bool   `json:"fixed,omitempty"`     // identity that no update may set
	Key       bool   `json:"key,omitempty"`

	number int
	was    string // its name before the mistake
	after  string // right after it
}

// Counts say what was found in a table.
type Counts struct {
	Deleted  int64 `json:"deleted"`
	Changed  int64 `json:"changed"`
	Conflict int64 `json:"conflicts"`
	Added    int64 `json:"added"`
	Later    int64 `json:"later"` // rows written since by others: they stay as they are
	Back     int64 `json:"back"`  // rows that are as they were already
}

func (c Counts) total() int64 { return c.Deleted + c.Changed + c.Conflict + c.Added }

// A Table is a table in which something was found.
type Table struct {
	Name    string   `json:"name"`          // before the mistake, quoted: "public"."orders" without need is public.orders
	Now     string   `json:"now,omitempty"` // quoted; empty if the table is gone
	Columns []Column `json:"columns"`
	Keyless bool     `json:"keyless,omitempty"`
	Gone    bool     `json:"gone,omitempty"` // it comes back whole
	Only    bool     `json:"only,omitempty"` // it has children that are tables of their own
	Counts
	Rows      string     `json:"rows,omitempty"` // file of rows for Write
	CSV       string     `json:"csv,omitempty"`
	Define    string     `json:"define,omitempty"`   // file that makes a table that is gone
	Complete  string     `json:"complete,omitempty"` // file with its indexes and constraints
	Sequences []Sequence `json:"sequences,omitempty"`
	Notes     []string   `json:"notes,omitempty"`
}

// A Sequence is one that a column of a gone table owns.
type Sequence struct {
	Name   string `json:"name"` // quoted
	Last   int64  `json:"last"`
	Called bool   `json:"called"`
}

// A File is one file of an extract.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// An Extract is what was found, and how it is written down in extract.json.
type Extract struct {
	Version  int       `json:"version"`
	Store    string    `json:"store"`
	Database string    `json:"database"`
	System   string    `json:"system"` // identifier of the cluster that was compared
	Made     time.Time `json:"made"`
	Purpose  string    `json:"purpose"`
	Because  string    `json:"because"` // the mistake in words
	Before   string    `json:"before"`  // the restored state before it
	After    string    `json:"after"`   // and after it
	Location string    `json:"location"`
	Tables   []Table   `json:"tables"`
	// Compared counts the tables that were compared, Skipped says which were not.
	Compared int      `json:"compared"`
	Skipped  []string `json:"skipped,omitempty"`
	Files    []File   `json:"files,omitempty"`

	Dir    string `json:"-"`
	Digest string `json:"-"` // SHA-256 of extract.json
}

// Total adds up what was found.
func (e *Extract) Total() (c Counts) {
	for _, t := range e.Tables {
		c.Deleted += t.Deleted
		c.Changed += t.Changed
		c.Conflict += t.Conflict
		c.Added += t.Added
		c.Later += t.Later
		c.Back += t.Back
	}
	return c
}
