package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"holdfast/internal/seal"
)

// A Repository is one place that holds a repository. It may be used by several
// goroutines at once.
type Repository struct {
	store Store
	id    string
	trust []seal.VerifyKey
	blind bool  // the place is only written to
	seen  *Seen // nil: nothing is remembered

	ringsMu sync.Mutex
	rings   map[string]*ring // what key epochs hold, by scope and identities
}

// Settings are what a repository says of itself for ever.
type Settings struct {
	ID         string    // the same at every place that shall hold the same objects
	Created    time.Time //
	Recipients []string  // age recipients at the time of creation, for people; writers are told theirs
}

type marker struct {
	Format     int       `json:"format"`
	Repository string    `json:"repository"`
	Created    time.Time `json:"created"`
	Recipients []string  `json:"recipients"`
}

// Init makes a place a repository. It may be repeated with the same id; a place
// that holds another one is ErrInitialised.
func Init(ctx context.Context, s Store, set Settings) error {
	if err := checkRepositoryID(set.ID); err != nil {
		return err
	}
	b, err := json.Marshal(marker{formatOne, set.ID, set.Created.UTC(), set.Recipients})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	// The marker comes first: a place without one refuses everything else. A crash
	// behind it leaves a repository without its note, which the next Init adds.
	if err := putObject(ctx, s, markerName, b); err != nil {
		r, oerr := Open(ctx, s)
		if oerr != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("initialise repository: %w", err) // reading failed for the same reason
		}
		if oerr != nil {
			return fmt.Errorf("initialise repository: %w", errors.Join(err, oerr))
		}
		if r.id != set.ID {
			return fmt.Errorf("initialise repository %q: the place holds %q: %w", set.ID, r.id, ErrInitialised)
		}
	}
	err = putObject(ctx, s, recoveryName, []byte(recoveryText(set)))
	if err != nil && !errors.Is(err, ErrConflict) { // an earlier version wrote its own note
		return fmt.Errorf("initialise repository: %w", err)
	}
	return nil
}

// Open opens the repository in a place. A place without a marker, such as a disk
// that is not mounted, is ErrNotRepository.
func Open(ctx context.Context, s Store) (*Repository, error) {
	b, err := readObject(ctx, s, markerName, maxMarker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open repository: %w: %w", ErrNotRepository, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("open repository: %q: %v: %w", markerName, err, ErrDamaged)
	}
	if m.Format != formatOne {
		return nil, fmt.Errorf("open repository: format %d: %w", m.Format, ErrFormat)
	}
	if err := checkRepositoryID(m.Repository); err != nil {
		return nil, fmt.Errorf("open repository: %v: %w", err, ErrDamaged)
	}
	return &Repository{store: s, id: m.Repository}, nil
}

// ID returns the repository's id, the same at every place.
func (r *Repository) ID() string { return r.id }

// Trust makes the repository refuse snapshots, log pieces and named files that
// none of keys signed. Without it anybody who can write to the place can offer a
// forged object to a reader that does not call Verify. Call it before use.
func (r *Repository) Trust(keys ...seal.VerifyKey) { r.trust = append(r.trust, keys...) }

// Note is what lies in every repository as RECOVERY.txt, before what names it: for people
// who find it and have nothing else.
const Note = `This place holds a Holdfast repository.

It holds encrypted, compressed copies of company data. Nothing in it is ever
changed in place. Do not rename or edit anything here.

To get the data back you need one of the age identities (a line that begins
with AGE-SECRET-KEY-1 or AGE-SECRET-KEY-PQ-1) that belongs to the recipients the copies are sealed to.
Look for it in the safe, with the trustees, or in the recovery kit.

With Holdfast:

    holdfast points STORE
    holdfast restore STORE --to DIR --key FILE

which take a plan that names this place and the store; docs/ops/lost-everything.md
in the Holdfast source has one of ten lines.

Without Holdfast: the format is documented (docs/format/repository.md in the
Holdfast source) and small: age, AES-256-GCM, zstd and BLAKE3. The program
tools/decode in the same source is a few hundred lines of Python that restore a
snapshot from this directory and an identity.

In short:

    snapshots/SCOPE/ID   one line of JSON and its signature: which packs there are
    packs/XX/ID          header with an age file that holds the pack's key, sealed
                         segments, sealed table of contents, trailer
    logs/SCOPE/...       pieces of a database's transaction log, each with its own key
    receipts/SCOPE/ID    when a snapshot really arrived, signed by the vault

`

func recoveryText(set Settings) string {
	text := Note + "Repository: " + set.ID + "\nCreated: " + set.Created.UTC().Format(time.RFC3339) + "\nRecipients when it was created:\n"
	for _, r := range set.Recipients {
		text += "    " + r + "\n"
	}
	return text
}
