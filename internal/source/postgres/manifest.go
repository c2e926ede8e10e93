package postgres

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A backupManifest is what the server says that a base backup consists of. Where only the
// pages were read that the log names, it is ours, in the same form.
type backupManifest struct {
	Version int            `json:"PostgreSQL-Backup-Manifest-Version"`
	Files   []manifestFile `json:"Files"`
	Sum     string         `json:"Manifest-Checksum"`

	start uint64 // where the base begins in the log
}

type manifestFile struct {
	Path      string `json:"Path"`
	Encoded   string `json:"Encoded-Path"` // hexadecimal, for names that are not UTF-8
	Size      int64  `json:"Size"`
	Algorithm string `json:"Checksum-Algorithm"`
	Checksum  string `json:"Checksum"`

	page  pageFile // if it has no checksum
	paged bool
}

// parseBackupManifest reads a backup_manifest and checks its own checksum, which
// covers every byte before its line.
func parseBackupManifest(text []byte) (*backupManifest, error) {
	var m backupManifest
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("the server's manifest: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the server's manifest goes on after its end")
	}
	if m.Version < 1 || m.Version > 2 {
		return nil, fmt.Errorf("the server's manifest has version %d, which Holdfast does not know", m.Version)
	}
	at := bytes.LastIndex(text, []byte(`"Manifest-Checksum"`))
	if at < 0 {
		return nil, errors.New("the server's manifest has no checksum")
	}
	sum := sha256.Sum256(text[:at])
	if !strings.EqualFold(m.Sum, hex.EncodeToString(sum[:])) {
		return nil, errors.New("the server's manifest is damaged")
	}
	for i := range m.Files {
		f := &m.Files[i]
		if f.Encoded != "" {
			name, err := hex.DecodeString(f.Encoded)
			if err != nil {
				return nil, fmt.Errorf("the server's manifest: path %q: %w", f.Encoded, err)
			}
			f.Path = string(name)
		}
		unread := f.Algorithm == "" && f.Checksum == "" // a file of which only pages were read
		if f.Algorithm != "SHA256" && !unread || f.Path == "" {
			return nil, fmt.Errorf("the server's manifest: file %q has checksum algorithm %q", f.Path, f.Algorithm)
		}
		if f.page, f.paged = pageFileOf(f.Path); unread && !f.paged {
			return nil, fmt.Errorf("the server's manifest: file %q has no checksum", f.Path)
		}
	}
	return &m, nil
}
