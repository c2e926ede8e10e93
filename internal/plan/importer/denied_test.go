package importer

import "testing"

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
