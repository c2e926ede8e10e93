package importer

import (
	"slices"
	"strings"
	"testing"
)

// What a policy says is not done is no value of the plan, and is listed. A limit in the
// form of a denial is one.
func TestDenials(t *testing.T) {
	for text, want := range map[string]string{
		"Backups of the database are not taken every day.":                  "",
		"We do not keep backups for 30 days.":                               "",
		"Backups are not encrypted with AES-256.":                           "",
		"The database is never backed up daily.":                            "",
		"No backups are made every week.":                                   "",
		"The restore of backups isn't tested every month.":                  "",
		"We don't yet test the restore of backups every quarter.":           "",
		"Database backups must not be kept for longer than 30 days.":        "backups.database.keep",
		"Database backups are kept for 30 days.":                            "backups.database.keep",
		"The database must not be backed up less than once every 12 hours.": "backups.database.every",
	} {
		p, err := Import("policy.md", []byte("# Policy\n\n"+text+"\n"), today)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, v := range p.Values {
			got = v.Path
		}
		if got != want && !(want == "backups.database.keep" && got == "backups.database.retention.max") {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
		if want == "" && (len(p.Unread)+len(p.Uncovered) == 0 || p.Covered != 0) {
			t.Errorf("%s: it is not listed", text)
		}
	}
}

// A number belongs to what it stands with, and not to the first word of a promise in its
// sentence: what is down is an outage, what is of data is a loss, and what somebody reports
// is no restore test. A supplier that is named is not whose policy it is.
func TestNumbersStandWithTheirWords(t *testing.T) {
	for text, want := range map[string]string{
		"Production control: at most 1 h down, at most 10 min of data.":                               "tiers.default.rpo=10m tiers.default.rto=1h",
		"The duty officer restores systems and reports every 30 minutes to the crisis team.":          "incidents.updates.every=30m",
		"The database is backed up every hour. Retention is 60 days.":                                 "backups.database.every=1h backups.database.keep=60d",
		"Cloud services are provided by Northern Cloud Ltd, which guarantees that it is there again.": "",
		"Restoring the database is tested every quarter, and the result is reported to the board.":    "drills.restore-test.every=1q",
		"The web shop is back within 4 hours, and at most 15 minutes of data may be lost.":            "tiers.default.rpo=15m tiers.default.rto=4h",
	} {
		p, err := Import("policy.md", []byte("# Policy\n\n"+text+"\n"), today)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range p.Values {
			_, name, _ := strings.Cut(v.Path, ".")
			section, _, _ := strings.Cut(v.Path, ".")
			if section == "services" {
				section, name = "tiers", "default"+name[strings.LastIndexByte(name, '.'):]
			}
			value, _, _ := strings.Cut(strings.TrimPrefix(v.Value, "{max: "), ",")
			got = append(got, section+"."+name+"="+value)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", text, s, want)
		}
	}
}
