package objective

import (
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/plan"
)

func TestLateCopies(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name   string
		copies string
		domain string
		state  LossState
		age    time.Duration
		late   bool
	}{
		{"in time", "[near, offsite]", "cloud", LossBounded, 24 * hour, false},
		{"a tenth more", "[near, offsite]", "cloud", LossBounded, 26 * hour, false},
		{"a day missed", "[near, offsite]", "cloud", LossBounded, 27 * hour, true},
		{"on this host", "[near, offsite]", plan.HostDomain, LossBounded, 27 * hour, false},
		{"brought up to date each week", "{near: {}, offsite: {every: 1w}}", "cloud", LossBounded, 8 * 24 * hour, false},
		{"a week missed", "{near: {}, offsite: {every: 1w}}", "cloud", LossBounded, 9 * 24 * hour, true},
		{"not looked at", "[near, offsite]", "cloud", LossUnknown, 27 * hour, false},
	} {
		p := parse(t, strings.NewReplacer("every: 5m", "every: 1d", "copies: [near, offsite]", "copies: "+tt.copies).Replace(string(plan.Template(plan.Values{Unattended: true}))))
		s := StoreOverview{ID: "uploads", Backup: p.Stores["uploads"].Protect, Exposures: []Exposure{{Location: "offsite", Domain: tt.domain, State: tt.state, Age: Seconds(tt.age)}}}
		fs := lateCopies(p, s)
		if (len(fs) == 1 && fs[0].Severity == holdfast.SeverityError) != tt.late {
			t.Errorf("%s: %v, want late %t", tt.name, fs, tt.late)
		}
	}
}
