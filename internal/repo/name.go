package repo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"holdfast/internal/seal"
)

const (
	markerName   = "holdfast-repository"
	recoveryName = "RECOVERY.txt"
	packPrefix   = "packs/"

	maxMarker   = 64 << 10
	maxReceipt  = 64 << 10
	maxManifest = 64 << 20
	maxAnchor   = 1 << 20
	maxID       = 64
)

var (
	partPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	idPattern   = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)
)

// checkPart refuses what cannot be one part of an object's name.
func checkPart(what, s string) error {
	if !partPattern.MatchString(s) {
		return fmt.Errorf("%s %q: want a letter or digit, then letters, digits, '.', '_' or '-', at most 100", what, s)
	}
	return nil
}

func checkRepositoryID(id string) error {
	if len(id) > maxID {
		return fmt.Errorf("repository id %q: longer than %d", id, maxID)
	}
	return checkPart("repository id", id)
}

func checkSnapshotID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("snapshot %q: want an id like 20260301T140500Z-0a1b2c3d", id)
	}
	return nil
}

// newSnapshotID sorts by the writer's clock; the random part keeps two writers apart.
func newSnapshotID(now time.Time) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(b[:])
}

func snapshotName(scope, id string) string { return "snapshots/" + scope + "/" + id }
func receiptName(scope, id string) string  { return "receipts/" + scope + "/" + id }
func anchorName(name string) string        { return "anchors/" + name }

// A packID is the start of the hash of the pack's header, and so fixes its key.
type packID [16]byte

func (id packID) String() string { return hex.EncodeToString(id[:]) }

func (id packID) object() string {
	s := id.String()
	return packPrefix + s[:2] + "/" + s
}

func parsePackID(s string) (id packID, err error) {
	if len(s) != 2*len(id) || strings.ToLower(s) != s {
		return id, fmt.Errorf("pack id %q: want 32 hex digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("pack id %q: want 32 hex digits", s)
	}
	return id, nil
}

// packOfObject reads the id from an object's name.
func packOfObject(name string) (packID, bool) {
	rest, ok := strings.CutPrefix(name, packPrefix)
	dir, hexID, cut := strings.Cut(rest, "/")
	if !ok || !cut || !strings.HasPrefix(hexID, dir) || len(dir) != 2 {
		return packID{}, false
	}
	id, err := parsePackID(hexID)
	return id, err == nil
}

func hexHash(b []byte) string {
	h := seal.Hash(b)
	return hex.EncodeToString(h[:])
}
