// Package survive sees to it that the keys that read the backups are there on the
// day on which everything else is not.
//
// It asks each holder of a key, on the plan's schedule, to show that what they keep
// still opens: a random number is sealed to the key, or to the share of it that the
// holder keeps, and only who can open it knows the answer. Who was asked, who
// answered and who did not are facts.
//
// It also keeps the register of keys: what each plan in force says of a key, from its first
// day to the word of a person that it was destroyed, is a fact where it says something new.
//
// And it knows the offline copies of the plan: made for whom, of which version, opened by
// whom (docs/format/offline.md is their form). A copy has a code inside; that it comes back
// shows that the copy opened, on that day and by somebody who had its passphrase.
//
// And it seals the recovery kit: plan, people, places and program for holders of whom several,
// some of them outside the company, open it together. That a check-in was missed is told to
// them; nothing here opens or sends a kit.
//
// # Invariants
//
//   - The package holds no private half. It seals, and compares answers with hashes.
//   - An answer counts once, for the challenge that it belongs to, until that is due.
//   - A holder who was never asked is unproven, not proven; one who did not answer in
//     time is overdue until they answer a later challenge.
//
// # What it does not prove
//
// Who opened a challenge had the key at that moment. Whether it was the holder, and
// whether the key is kept where it should be, it does not know.
package survive

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed sheet.html
var sheetHTML string

var sheetTemplate = template.Must(template.New("sheet").Parse(sheetHTML))

// A sheetView is a sheet taken apart for its page.
type sheetView struct {
	Notes  []string
	Labels [][2]string
	Lines  []sheetLine
}

type sheetLine struct {
	First  int // number of its first group
	Groups []string
}

// SheetPage returns a sheet as an HTML page that stands alone: no script, nothing
// loaded from anywhere. It holds the key, as the text does.
func SheetPage(text string) ([]byte, error) {
	var v sheetView
	next := 1
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, label := strings.Cut(line, ":")
		switch {
		case line == "":
		case line[0] == '#':
			v.Notes = append(v.Notes, strings.TrimSpace(strings.TrimPrefix(line, "#")))
		case label:
			v.Labels = append(v.Labels, [2]string{name, strings.TrimSpace(value)})
		default:
			groups := strings.Fields(line)
			v.Lines = append(v.Lines, sheetLine{next, groups})
			next += len(groups)
		}
	}
	var out bytes.Buffer
	if err := sheetTemplate.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("key sheet: %w", err)
	}
	return out.Bytes(), nil
}
