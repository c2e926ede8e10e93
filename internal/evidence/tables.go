package evidence

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"crypto/sha256"

	"holdfast"
	"holdfast/internal/ledger"
)

// A table is one CSV file.
type table struct {
	columns []string
	rows    [][]string
}

// number is what a spreadsheet may take for a number, because it is one.
var number = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?$`)

// bytes writes the table. A cell that a spreadsheet would run as a formula gets an
// apostrophe in front: names come from databases, and auditors open the files.
func (t table) bytes() []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	for _, row := range append([][]string{t.columns}, t.rows...) {
		safe := make([]string, len(row))
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) && !number.MatchString(cell) {
				cell = "'" + cell
			}
			safe[i] = cell
		}
		if len(safe) == 1 && safe[0] == "" {
			b.WriteString("\"\"\n") // csv would write an empty line, which readers skip
			continue
		}
		_ = w.Write(safe) // a bytes.Buffer takes everything
		w.Flush()
	}
	return b.Bytes()
}

func readTable(b []byte, columns []string) ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.ReuseRecord = false
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || columns != nil && !slices.Equal(rows[0], columns) {
		return nil, fmt.Errorf("want the columns %s", strings.Join(columns, ","))
	}
	return rows[1:], nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return utc(t).Format(time.RFC3339Nano)
}

func indexes(ns []int64) string {
	var b strings.Builder
	for i, n := range ns {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	return b.String()
}

func sha(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// factsTable lists the facts whose event lies in the period.
func factsTable(facts []ledger.Fact, from, to time.Time) table {
	t := table{columns: []string{"index", "at", "logged", "type", "subject", "actor", "plan"}}
	for _, f := range facts {
		if !f.At.Before(from) && f.At.Before(to) {
			t.rows = append(t.rows, []string{strconv.FormatInt(f.Index, 10), stamp(f.At), stamp(f.Logged), f.Type, f.Subject, f.Actor, f.Plan})
		}
	}
	return t
}

var slotColumns = []string{"schedule", "due", "deadline", "state", "finished", "fact", "note"}

func slotsTable(slots []Slot) table {
	t := table{columns: slotColumns}
	for _, s := range slots {
		fact := ""
		if s.Fact >= 0 {
			fact = strconv.FormatInt(s.Fact, 10)
		}
		t.rows = append(t.rows, []string{s.Schedule, stamp(s.Due), stamp(s.Deadline), string(s.State), stamp(s.Finished), fact, s.Note})
	}
	return t
}

func readSlots(b []byte) ([]Slot, error) {
	rows, err := readTable(b, slotColumns)
	if err != nil {
		return nil, err
	}
	if len(rows) > MaxSlots {
		return nil, fmt.Errorf("more than %d slots", MaxSlots)
	}
	slots := make([]Slot, len(rows))
	for i, r := range rows {
		s := Slot{Schedule: r[0], State: State(r[3]), Fact: -1, Note: r[6]}
		if s.Due, err = time.Parse(time.RFC3339Nano, r[1]); err != nil {
			return nil, fmt.Errorf("row %d: due: %w", i+2, err)
		}
		if r[5] != "" {
			if s.Fact, err = strconv.ParseInt(r[5], 10, 64); err != nil || s.Fact < 0 {
				return nil, fmt.Errorf("row %d: fact %q is no index", i+2, r[5])
			}
		}
		slots[i] = s
	}
	return slots, nil
}

var postureColumns = []string{"subject", "what", "posture", "grade", "since", "detail", "facts"}

func postureTable(ps []Posture) table {
	t := table{columns: postureColumns}
	for _, p := range ps {
		t.rows = append(t.rows, []string{p.Subject, p.What, string(known(p.Posture)), string(p.Grade), stamp(p.Since), p.Detail, indexes(p.Facts)})
	}
	return t
}

var controlColumns = []string{"framework", "control", "title", "posture", "by", "detail", "facts"}

func controlsTable(cs []Control) table {
	t := table{columns: controlColumns}
	for _, c := range cs {
		t.rows = append(t.rows, []string{c.Framework, c.ID, c.Title, string(known(c.Posture)), strings.Join(c.By, " "), c.Detail, indexes(c.Facts)})
	}
	return t
}

// known makes silence visible: no posture is unknown, never an empty cell.
func known(p holdfast.Posture) holdfast.Posture {
	if p == "" {
		return holdfast.PostureUnknown
	}
	return p
}

func findingsTable(fs []holdfast.Finding) table {
	t := table{columns: []string{"code", "severity", "subject", "message", "hint"}}
	for _, f := range fs {
		t.rows = append(t.rows, []string{f.Code, string(f.Severity), f.Subject, f.Message, f.Hint})
	}
	return t
}

var populationColumns = []string{"file", "rows", "columns", "query", "query_sha256", "excluded", "file_sha256"}

func populationsTable(ps []Population, files map[string][]byte) table {
	t := table{columns: populationColumns}
	for _, p := range ps {
		name := populationFile(p.Name)
		t.rows = append(t.rows, []string{name, strconv.Itoa(len(p.Rows)), strings.Join(p.Columns, " "), p.Query, sha([]byte(p.Query)),
			strings.Join(p.Excluded, "; "), sha(files[name])})
	}
	return t
}

func populationFile(name string) string { return "populations/" + name + ".csv" }
