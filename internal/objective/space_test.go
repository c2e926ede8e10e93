package objective

import (
	"testing"
	"time"

	"holdfast"
)

func TestForesee(t *testing.T) {
	const gb = 1_000_000_000
	ago := func(days int, total, free int64) Room { return Room{noon.AddDate(0, 0, -days), total * gb, free * gb} }
	for _, tt := range []struct {
		name     string
		of       LocationFact
		full     string // day, "" is none
		severity holdfast.FindingSeverity
	}{
		{"it does not say", LocationFact{Untold: "no"}, "", ""},
		{"half, and a large first backup", LocationFact{Room: ago(0, 100, 50), Added: 40 * gb}, noon.AddDate(0, 0, 1).Format(time.DateOnly), ""},
		{"85 %, at the rate of the day", LocationFact{Room: ago(0, 100, 15), Added: gb}, noon.AddDate(0, 0, 15).Format(time.DateOnly), holdfast.SeverityWarning},
		{"84 %", LocationFact{Room: ago(0, 100, 16)}, "", ""},
		{"85 %, and nothing comes", LocationFact{Room: ago(0, 100, 15), Rooms: []Room{ago(7, 100, 15)}, Added: gb}, "", holdfast.SeverityWarning},
		{"95 %", LocationFact{Room: ago(0, 100, 5)}, "", holdfast.SeverityError},
		{"half, full in 25 days", LocationFact{Room: ago(0, 100, 50), Rooms: []Room{ago(10, 100, 70)}}, noon.AddDate(0, 0, 25).Format(time.DateOnly), holdfast.SeverityWarning},
		{"half, full in 5 days", LocationFact{Room: ago(0, 100, 25), Rooms: []Room{ago(10, 100, 75)}}, noon.AddDate(0, 0, 5).Format(time.DateOnly), holdfast.SeverityError},
		{"half, full in a year", LocationFact{Room: ago(0, 100, 50), Rooms: []Room{ago(10, 100, 51)}}, noon.AddDate(0, 0, 500).Format(time.DateOnly), ""},
		{"it was made larger", LocationFact{Room: ago(0, 100, 50), Rooms: []Room{ago(10, 200, 150), ago(5, 100, 60)}}, noon.AddDate(0, 0, 25).Format(time.DateOnly), holdfast.SeverityWarning},
		{"looks that are too old or too new", LocationFact{Room: ago(0, 100, 50), Rooms: []Room{ago(40, 100, 100), ago(0, 100, 60)}}, "", ""},
		{"it empties", LocationFact{Room: ago(0, 100, 50), Rooms: []Room{ago(10, 100, 20)}}, "", ""},
	} {
		s := foresee(tt.of, noon)
		day := ""
		if !s.Full.IsZero() {
			day = s.Full.Format(time.DateOnly)
		}
		f, ok := s.finding("near", noon)
		if day != tt.full || f.Severity != tt.severity || ok != (tt.severity != "") {
			t.Errorf("%s: full on %q, %q %q; want %q, %q", tt.name, day, f.Severity, f.Message, tt.full, tt.severity)
		}
	}
}
