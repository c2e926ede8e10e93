// Package gateway puts a guard in front of a location, for places that cannot enforce
// by themselves that a writer only writes.
//
// A directory, an SFTP account and most buckets give whoever may write the right to
// read, overwrite or delete too. The gateway holds those rights on another machine, and
// gives out less: over TLS with certificates of its own authority, each client has one
// role, and does what the role may and nothing else.
//
//	writer  puts new packs, snapshots and log pieces, and learns nothing back
//	reader  reads and lists
//	vault   reads, lists and puts anything new; deletes if the gateway was started so
//
// The package is both ends: [Handler] is the guard, [Store] a location that talks to it.
//
// # Invariants
//
//   - Nothing that is stored is changed through a gateway: a put is put-if-absent for
//     every role.
//   - A writer learns of an object only whether the name that it gives is taken. It cannot
//     list, read, or ask for a size.
//   - Each writer has a budget of bytes for a day. What was begun counts, also if it
//     failed, and the count survives a restart of the gateway.
//   - Every request has a size, a deadline that follows from it, and a place among a
//     limited number of requests at once.
//
// # What it does not do
//
// It does not look into what is sealed: who holds a writer's certificate can put rubbish,
// up to the budget. It does not replicate and does not lock: the place behind it does, or
// nothing.
package gateway

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// A Role says what a client may do.
type Role string

// The roles.
const (
	Writer Role = "writer"
	Reader Role = "reader"
	Vault  Role = "vault"
)

// Roles lists the roles.
func Roles() []Role { return []Role{Writer, Reader, Vault} }

// Limits of every gateway.
const (
	MaxObject   = 256 << 20        // bytes of one object
	MaxRequests = 16               // requests of one client at once
	MaxClients  = 256              // connections at once
	minRate     = 32 << 10         // bytes in a second below which a body is cut off
	patience    = 20 * time.Second // for the parts of a request that have no size
	maxListLine = 2 << 10          // bytes of one line of a listing
)

// The protocol, version 1; docs/format/gateway.md is its description.
const (
	objectPath = "/v1/objects/"
	listPath   = "/v1/list"
	hashHeader = "Holdfast-Content-Hash" // BLAKE3 of the body, in hex
)

// Reasons that travel as words; each side has its own errors for them.
const (
	reasonExists     = "exists"      // the name is taken
	reasonMissing    = "missing"     // no such object
	reasonDenied     = "denied"      // the role may not do that
	reasonRevoked    = "revoked"     // the certificate was taken back
	reasonName       = "name"        // not the name of an object, or not one for this role
	reasonSize       = "size"        // too large, or not as announced
	reasonBudget     = "budget"      // the day's bytes are used up
	reasonBusy       = "busy"        // too many requests at once
	reasonRange      = "range"       // the object ends before what was asked for
	reasonUnready    = "unreachable" // the place behind the gateway is not there
	reasonFull       = "full"
	reasonReadOnly   = "read-only"
	reasonLocked     = "locked"
	reasonBehind     = "behind"     // the place behind the gateway denied access
	reasonOverwrites = "overwrites" // the place behind the gateway does not keep put-if-absent
	reasonFailed     = "failed"     // anything else, behind the gateway
)

// A refusal is the body of every answer that is not a success.
type refusal struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// A listed is one line of a listing. The last line has End and the number of objects: a
// listing without it was cut off.
type listed struct {
	Name     string     `json:"name,omitempty"`
	Size     int64      `json:"size,omitempty"`
	Modified *time.Time `json:"modified,omitempty"`
	End      bool       `json:"end,omitempty"`
	Count    int        `json:"count,omitempty"`
	Failed   *refusal   `json:"failed,omitempty"`
}

// writerNames are the objects that a source agent makes. Receipts, tombstones, markers
// and whatever else comes are the vault's.
var writerNames = regexp.MustCompile(`^(packs/[0-9a-f]{2}/[0-9a-f]{32}` +
	`|snapshots/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}` +
	`|logs/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9._/-]{1,200})$`)

// CheckRole refuses what is no role.
func CheckRole(r Role) error {
	if !slices.Contains(Roles(), r) {
		return fmt.Errorf("role %q: want one of %v", r, Roles())
	}
	return nil
}
