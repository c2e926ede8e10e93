// Package postgres protects a PostgreSQL cluster and brings it back.
//
// Protection has two halves. The stream (Source.Stream) follows the write-ahead
// log over the replication protocol, checks it record by record, keeps it in a
// local spool and ships it sealed, in pieces of about a second, to every place. Where no
// slot may be had, the server's archive command puts whole files into an inbox, and the
// stream takes them from there into the same spool.
// The base backup (Source.Snapshot) copies the data directory over the same
// protocol. Recovery puts a base and the log after it together again and lets the
// real engine replay them to an explicit target.
//
// # Words
//
// A lineage is one cluster's history: its system identifier, in decimal. A timeline
// is one branch of it. A position is a byte of the log (an LSN). In a repository,
// the log of a store lies under its name as scope, then lineage, then timeline.
//
// # Invariants of the stream
//
//   - A place only ever receives log whose records were complete and whose CRCs
//     held: a piece may end inside a record, never beyond the last verified one.
//   - On one timeline, pieces abut. Where they cannot, because the server no longer
//     has the log, that is a Gap: recorded, reported, never glossed over.
//   - A timeline's pieces begin at a segment boundary, at or before the point where
//     the timeline forked off. So each timeline can rebuild its own segment files.
//   - The server is told that log is flushed only when the declared durability
//     policy really holds it.
//   - One spool belongs to one cluster. Another system identifier is refused.
//
// # What it does not do
//
// It does not decide when to take a base backup, what is kept, or whom to call. It
// does not protect what the log does not carry: configuration files, unlogged
// tables, logical slots.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/source"
)

// A Config says which cluster to protect, and how.
type Config struct {
	// Store is the store's name in the plan, and the scope of everything that is
	// written about it. Required.
	Store string

	// ConnString is a libpq connection string or URL for a role with the
	// REPLICATION attribute. The password may stay outside it (PGPASSFILE). Required.
	ConnString string

	// Slot is the physical replication slot that holds the log on the server
	// until it is durable here. Holdfast creates it and owns it.
	//
	// Defaults to "holdfast_" and the store's name.
	Slot string

	// Inbox is the folder into which the server's archive_command puts its log: then no
	// replication slot is used, and the log is as old as archive_timeout lets it be.
	// Empty: the log is streamed.
	Inbox string
	// ArchiveTimeout is what the server's archive_timeout is to be at most, with an Inbox.
	ArchiveTimeout time.Duration

	// SpoolDir holds the log that not every place has yet. It needs a durable local
	// disk. Required by Stream only.
	SpoolDir string

	// SpoolLimit bounds the spool in bytes. At the limit, log that some place
	// already holds is dropped and the places that miss it get a Gap; if no
	// place holds it, the stream waits, and the log stays on the server.
	//
	// Defaults to 4 GiB. The minimum is four log segments.
	SpoolLimit int64

	// UnboundedSlot acknowledges that the server has no max_slot_wal_keep_size: if
	// the stream stops for long enough, the slot fills the server's disk and
	// the database stops. Without it Stream refuses such a server.
	UnboundedSlot bool

	// AdoptSystem names a system identifier that may replace the one the spool
	// and the places were filled from, for example after an upgrade. Empty: a foreign
	// cluster is refused.
	AdoptSystem string

	// MaxRate limits a base backup, in bytes per second. Zero: no limit.
	MaxRate int64

	// FS is where the spool lives. Defaults to the real file system.
	FS durable.FS

	// Clock defaults to time.Now.
	Clock func() time.Time

	// Log defaults to discarding.
	Log *slog.Logger
}

// Bounds of a Config.
const (
	defaultSpoolLimit = 4 << 30
	maxSlotName       = 63 // NAMEDATALEN - 1

	// connectTimeout bounds one connection attempt, unless the connection string
	// sets its own.
	connectTimeout = 10 * time.Second
	// commandTimeout bounds one short replication command or query.
	commandTimeout = 15 * time.Second
)

// A Source is one PostgreSQL cluster as Holdfast sees it. It holds no connection:
// each method opens what it needs. Its methods may be called concurrently, except
// that one spool has one Stream.
type Source struct {
	cfg     Config
	conn    *pgconn.Config         // parsed connection string, for ordinary queries
	running atomic.Pointer[stream] // the Stream that runs now, if one does
	noLine  error                  // why no line that may be used leads to it; nil if one does
	checked bool                   // whether the server's certificate is checked
	line    atomic.Pointer[source.Line]
}

// New checks cfg and fills its defaults. It does not connect.
func New(cfg Config) (*Source, error) {
	if cfg.Store == "" {
		return nil, errors.New("postgres source: the store has no name")
	}
	if cfg.Slot == "" {
		cfg.Slot = slotName(cfg.Store)
	}
	if err := checkSlotName(cfg.Slot); err != nil {
		return nil, fmt.Errorf("store %q: %w", cfg.Store, err)
	}
	if cfg.SpoolLimit == 0 {
		cfg.SpoolLimit = defaultSpoolLimit
	}
	if cfg.SpoolLimit < 0 || cfg.MaxRate < 0 {
		return nil, fmt.Errorf("store %q: a negative limit", cfg.Store)
	}
	if cfg.FS == nil {
		cfg.FS = durable.OS
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	conn, err := pgconn.ParseConfig(cfg.ConnString)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("store %q: connection string: %w", cfg.Store, err),
			"write it as postgres://user@host:5432/dbname; keep the password in a password file")
	}
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	conn.RuntimeParams["application_name"] = cfg.Slot
	noLine := guardLine(conn)
	return &Source{cfg: cfg, conn: conn, noLine: noLine, checked: checks(conn.TLSConfig)}, nil
}

// slotName makes a slot name of a store name: PostgreSQL allows lower-case letters,
// digits and underscores.
func slotName(store string) string {
	name := "holdfast_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, store)
	return name[:min(len(name), maxSlotName)]
}

func checkSlotName(name string) error {
	bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }
	if name == "" || len(name) > maxSlotName || strings.ContainsFunc(name, bad) {
		return holdfast.WithHint(fmt.Errorf("replication slot %q is not a slot name", name),
			"use up to %d lower-case letters, digits and underscores", maxSlotName)
	}
	return nil
}

// A Frontier says how far one place, or the local spool, holds the log.
//
// What would be lost now, had the primary just vanished, is everything committed
// after the frontier. Its age is now - CaughtUp, or now - LastCommit if that
// is later: an idle healthy stream stays near zero, a stopped one grows.
type Frontier struct {
	Place      string    // "" is the local spool
	Lineage    string    // system identifier; "" while unknown
	Timeline   uint32    // 0 while nothing is held
	LSN        uint64    // everything verified before it is held, on this timeline
	LastCommit time.Time // of the last transaction held, by the primary's clock; zero if unknown
	CaughtUp   time.Time // the latest instant, by our clock, at which the primary had nothing newer than what is held
	At         time.Time // when this was observed
	Err        string    // why it does not advance now; "" if it does
	Gap        *Gap      // the newest hole in what this place was given; nil if none is known
}

// Exposure is the age of what would be lost at now if the primary were gone, or
// false if nothing is held or known yet.
func (f Frontier) Exposure(now time.Time) (time.Duration, bool) {
	t := f.CaughtUp
	if f.LastCommit.After(t) {
		t = f.LastCommit
	}
	if t.IsZero() {
		return 0, false
	}
	return max(0, now.Sub(t)), true
}

// A Gap is log that a place will never get from this stream. Recovery across it is
// impossible; a base backup that begins at or after To closes it.
type Gap struct {
	Timeline uint32    `json:"timeline"`
	From     uint64    `json:"from"`
	To       uint64    `json:"to"`
	Cause    string    `json:"cause"`
	At       time.Time `json:"at"`
}

// String names the hole for people.
func (g *Gap) String() string {
	return fmt.Sprintf("log from %s to %s on timeline %d is missing: %s", FormatLSN(g.From), FormatLSN(g.To), g.Timeline, g.Cause)
}

// Probe reports whether the database answers: an ordinary query if the role may
// log in to a database, else the replication protocol's own question.
func (s *Source) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	_, err := s.query(ctx, "SELECT 1")
	if err == nil {
		return nil
	}
	c, rerr := s.connect(ctx)
	if rerr != nil {
		return fmt.Errorf("store %q does not answer: %w", s.cfg.Store, plainConnectError(err))
	}
	defer c.close()
	if _, err := c.identify(ctx); err != nil {
		return fmt.Errorf("store %q does not answer: %w", s.cfg.Store, err)
	}
	return nil
}
