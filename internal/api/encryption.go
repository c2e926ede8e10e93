package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/internal/access"
)

// Encryption is the encryption configuration: how the backups are sealed, for which keys,
// over which lines they travel, and what each location says of itself.
type Encryption struct {
	Plan    string           `json:"plan"`
	Version string           `json:"version,omitempty"`
	Digest  string           `json:"digest"`
	At      time.Time        `json:"at"`
	Lines   []EncryptionLine `json:"lines"`
}

// The bases of a line: who says so.
const (
	ByFormat     = "format"     // every object that Holdfast writes
	ByPlan       = "declared"   // the plan in force
	ByProbe      = "probed"     // the place was asked
	ByNegotiated = "negotiated" // both ends agreed on it, in the newest job that recorded it
	ByRecord     = "recorded"   // facts of the ledger
)

// An EncryptionLine is one setting.
type EncryptionLine struct {
	Subject string    `json:"subject"` // "repository", "keys.runner", "locations.offsite"
	What    string    `json:"what"`
	Value   string    `json:"value"`
	Basis   string    `json:"basis"`
	Since   time.Time `json:"since,omitzero"`
}

func encryption(a huma.API, c Custody) {
	get(a, access.View, "encryption", "/api/v1/encryption", "The encryption configuration: cipher, keys, lines and settings of each location", func(ctx context.Context, _ *struct{}) (*body[Encryption], error) {
		return answer(c.Encryption(ctx))
	})
}

// Encryption asks for the encryption configuration.
func (c *Client) Encryption(ctx context.Context) (e Encryption, err error) {
	return e, c.do(ctx, http.MethodGet, "/api/v1/encryption", nil, &e)
}
