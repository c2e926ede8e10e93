package evidence_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/db/dbtest"
	"holdfast/internal/evidence"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

const origin = "example.com/holdfast"

var (
	june = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	july = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	made = time.Date(2026, 7, 8, 9, 0, 0, 0, time.UTC)
)

const planText = `apiVersion: holdfast/v1
plan: {id: example, version: "1.0.0", owner: cto, approvers: [cto]}
org: {name: Example AB, timezone: Europe/Stockholm}
people:
  cto: {email: cto@example.com}
tiers:
  critical: {rto: 4h, rpo: 1d}
stores:
  db: {kind: files, tier: critical, owner: cto, files: {path: /srv/data}, protect: nightly}
keys:
  one: {recipient: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj, holders: [cto]}
  two: {recipient: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj, holders: [cto]}
repository: {id: example, encrypt_to: [one, two]}
locations:
  near: {kind: dir, path: /srv/near}
backups:
  nightly: {every: every 1d at 03:00, copies: [near], keep: 90d}
drills:
  monthly: {of: [db], every: every 1mo on 15 at 10:00, fresh_for: 35d}
`

// A company is a log, its keys and a pack's input.
type company struct {
	t    *testing.T
	d    *db.DB
	log  *ledger.Log
	sign evidence.Signing
	key  seal.SigningKey // of the log
	in   evidence.Input
	now  time.Time
}

func key(t *testing.T, name string) seal.SigningKey {
	t.Helper()
	k, err := seal.GenerateSigningKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newCompany had a June in which every backup and the drill were done.
func newCompany(t *testing.T) *company {
	t.Helper()
	c := &company{t: t, d: dbtest.Open(t, dbtest.DSN(t, db.SQLite), ledger.Tables())}
	logKey := key(t, origin)
	c.key = logKey
	signer, err := seal.NoteSigner(logKey)
	if err != nil {
		t.Fatal(err)
	}
	c.log, err = ledger.Open(c.d, ledger.Config{Origin: origin, Signer: signer, Clock: func() time.Time { return c.now }})
	if err != nil {
		t.Fatal(err)
	}
	c.sign = evidence.Signing{Evidence: key(t, "evidence"), Log: logKey.Public(), Origin: origin}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(planText)))
	c.in = evidence.Input{
		Company: "Example AB", Framework: "iso27001", From: june, To: july, Made: made, Log: c.log,
		Plans: []evidence.Plan{{Text: []byte(planText), Digest: digest, From: june.AddDate(0, -3, 0)}},
		Populations: []evidence.Population{{Name: "snapshots", Columns: []string{"id", "store"}, Query: "SELECT id, store FROM snapshot",
			Rows: [][]string{{"s-1", "db"}, {"s-2", "=cmd|' /C calc'!A0"}, {"-7", "with, comma and \"quote\"\nand line"}}, Excluded: []string{"store test: not in the plan"}}},
		Findings: []holdfast.Finding{{Code: "HF-L13", Severity: holdfast.SeverityWarning, Subject: "locations", Message: "one copy only <b>", Hint: "add one"}},
	}
	c.fact("plan.approved", "plan", june.AddDate(0, -3, 0))
	stockholm, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		t.Fatal(err)
	}
	for day := 1; day <= 30; day++ {
		c.slot("stores.db", time.Date(2026, 6, day, 3, 0, 0, 0, stockholm))
		if day == 15 {
			c.slot("drills.monthly", time.Date(2026, 6, day, 10, 0, 0, 0, stockholm))
		}
	}
	c.now = time.Date(2026, 7, 8, 8, 0, 0, 0, time.UTC)
	c.fact("review.done", "plan", time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)) // uploaded in July
	c.fact("review.done", "plan", time.Date(2026, 7, 2, 12, 0, 0, 0, time.UTC))
	c.in.Posture = []evidence.Posture{{Subject: "stores.db", What: "rto", Posture: holdfast.PostureProved, Grade: holdfast.Proved, Since: june, Facts: []int64{16}}}
	c.in.Controls = []evidence.Control{
		{Framework: "iso27001", ID: "A.8.13", Title: "Information backup", Posture: holdfast.PostureProved, By: []string{"nightly"}, Facts: []int64{1, 2}},
		{Framework: "soc2", ID: "A1.3", Title: "Recovery tests", Posture: holdfast.PostureUnknown},
	}
	return c
}

func (c *company) fact(kind, subject string, at time.Time) (index int64) {
	c.t.Helper()
	if c.now.Before(at) {
		c.now = at
	}
	err := c.d.Tx(c.t.Context(), func(tx *db.Tx) (err error) {
		index, err = c.log.Append(c.t.Context(), tx, ledger.Fact{Type: kind, Subject: subject, Actor: "holdfast", At: at, Plan: c.in.Plans[0].Digest})
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return index
}

func (c *company) slot(schedule string, due time.Time) {
	done := due.Add(20 * time.Minute)
	n := c.fact("slot.done", schedule, done)
	c.in.Slots = append(c.in.Slots, evidence.Slot{Schedule: schedule, Due: due, Deadline: due.Add(time.Hour), State: evidence.Done, Finished: done, Fact: n})
}

func (c *company) build() []byte {
	c.t.Helper()
	pack, err := evidence.Build(c.t.Context(), c.in, c.sign)
	if err != nil {
		c.t.Fatal(err)
	}
	return pack
}

func unzip(t *testing.T, pack []byte) map[string][]byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(pack), int64(len(pack)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range r.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(rc); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func zipUp(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// resign writes the manifest anew and signs it, as the holder of a key could.
func resign(t *testing.T, files map[string][]byte, k seal.SigningKey) {
	t.Helper()
	delete(files, "manifest.sha256")
	delete(files, "manifest.sha256.sig")
	var m strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&m, "%x  %s\n", sha256.Sum256(files[name]), name)
	}
	sig, err := k.SSHSign(evidence.Namespace, []byte(m.String()))
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.sha256"], files["manifest.sha256.sig"] = []byte(m.String()), sig
}

func codes(r evidence.Report) []string {
	var all []string
	for _, f := range r.Findings {
		if f.Severity == holdfast.SeverityError {
			all = append(all, f.Code)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestPackOfAGoodMonth(t *testing.T) {
	c := newCompany(t)
	pack := c.build()
	if again := c.build(); !bytes.Equal(pack, again) {
		t.Error("the same input gave other bytes")
	}
	path := filepath.Join(t.TempDir(), "pack.zip")
	if err := os.WriteFile(path, pack, 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := evidence.ParseKeys(c.sign.Trusted().String())
	if err != nil {
		t.Fatal(err)
	}
	r, err := evidence.Verify(path, keys)
	if err != nil || !r.Authentic() || len(codes(r)) > 0 {
		t.Fatalf("%v, %+v", err, r.Findings)
	}
	// 31 slots and the review of June that was logged in July, and neither the
	// approval in March nor the review of July.
	if r.Facts != 34 || r.InPeriod != 32 || r.Slots[evidence.Done] != 31 || len(r.Slots) != 1 {
		t.Errorf("%d facts, %d in the period, slots %v", r.Facts, r.InPeriod, r.Slots)
	}
	if r.Anchored != 0 {
		t.Errorf("%d facts are anchored by nothing", r.Anchored)
	}
	files := unzip(t, pack)
	if s := string(files["populations/snapshots.csv"]); !strings.Contains(s, "'=cmd") || !strings.Contains(s, "\n-7,") {
		t.Errorf("a formula reaches a spreadsheet, or a number does not:\n%s", s)
	}
	html := string(files["index.html"])
	for _, want := range []string{"A.8.13", "one copy only &lt;b&gt;", "light-dark(", "2026-06-01T00:00:00Z"} {
		if !strings.Contains(html, want) {
			t.Errorf("index.html lacks %q", want)
		}
	}
	for _, not := range []string{"A1.3", "http://", "https://", "<script"} {
		if strings.Contains(html, not) {
			t.Errorf("index.html contains %q", not)
		}
	}
}

// Work that was not done is in the pack, whether the scheduler said so, or said
// that it was still to come, or was dead and said nothing.
func TestMissingWorkShows(t *testing.T) {
	c := newCompany(t)
	c.in.Slots = slices.Delete(c.in.Slots, 3, 6) // nothing written down for three nights
	c.in.Slots[10].State, c.in.Slots[10].Fact = evidence.Failed, -1
	c.in.Slots[11].State, c.in.Slots[11].Fact = evidence.Expected, -1
	c.in.Slots[12].Fact, c.in.Slots[13].Fact = -1, -1       // done, and no fact says so
	c.in.Posture[0].Facts = nil                             // proved by nothing
	c.in.Controls = append(c.in.Controls, evidence.Control{ // no posture at all
		Framework: "iso27001", ID: "A.5.30", Title: "Readiness"})
	pack := c.build()
	r := evidence.VerifyBytes(pack, c.sign.Trusted())
	if !r.Authentic() {
		t.Errorf("%+v", r.Findings)
	}
	if got, want := fmt.Sprint(codes(r)), "[HF-E20 HF-E21 HF-E23]"; got != want {
		t.Errorf("codes %s, want %s: %+v", got, want, r.Findings)
	}
	if r.Slots[evidence.Missing] != 3 || r.Slots[evidence.Failed] != 1 || r.Slots[evidence.Missed] != 1 {
		t.Errorf("slots %v", r.Slots)
	}
	files := unzip(t, pack)
	if s := string(files["controls.csv"]); !strings.Contains(s, "A.5.30,Readiness,unknown") {
		t.Errorf("a control without posture is not unknown:\n%s", s)
	}
	for _, want := range []string{"3 slots missing", "unknown: Readiness", "proved: it names no fact"} {
		if !strings.Contains(string(files["index.html"]), want) {
			t.Errorf("index.html does not show %q", want)
		}
	}

	// The holder of the evidence key takes the missing slots out of the list.
	var kept []string
	for line := range strings.Lines(string(files["slots.csv"])) {
		if !strings.Contains(line, ",missing,") {
			kept = append(kept, line)
		}
	}
	files["slots.csv"] = []byte(strings.Join(kept, ""))
	resign(t, files, c.sign.Evidence)
	if got := codes(evidence.VerifyBytes(zipUp(t, files), c.sign.Trusted())); !slices.Contains(got, "HF-E16") {
		t.Errorf("missing slots left out: %v, want HF-E16", got)
	}
	// He puts a weaker plan in the place of the one that was in force.
	weak := []byte(strings.Replace(planText, "every 1d at 03:00", "every 1mo", 1))
	strong := fmt.Sprintf("%x", sha256.Sum256([]byte(planText)))
	files["plan.yaml"] = weak
	files["pack.json"] = bytes.ReplaceAll(files["pack.json"], []byte(strong), fmt.Appendf(nil, "%x", sha256.Sum256(weak)))
	resign(t, files, c.sign.Evidence)
	if got := codes(evidence.VerifyBytes(zipUp(t, files), c.sign.Trusted())); !slices.Contains(got, "HF-E26") {
		t.Errorf("a weaker plan: %v, want HF-E26", got)
	}
}

func TestNothingExpectedIsNotGreen(t *testing.T) {
	c := newCompany(t)
	c.in.Slots = nil
	c.in.Plans[0].From = july.AddDate(1, 0, 0)
	r := evidence.VerifyBytes(c.build(), c.sign.Trusted())
	if !slices.ContainsFunc(r.Findings, func(f holdfast.Finding) bool { return f.Code == "HF-E22" }) {
		t.Errorf("%+v", r.Findings)
	}
	c.in.Plans = nil
	if _, err := evidence.Build(t.Context(), c.in, c.sign); err == nil {
		t.Error("a pack without plan was made")
	}
}

// Each way of tampering has its finding. Those who tamper hold the evidence key
// where "insider" says so, and never the log key.
func TestTampering(t *testing.T) {
	c := newCompany(t)
	pack := c.build()
	lines := func(f map[string][]byte, change func([]string) []string) {
		f["log.ndjson"] = []byte(strings.Join(change(slices.Collect(strings.Lines(string(f["log.ndjson"])))), ""))
	}
	hashes := func(f map[string][]byte, change func([]string) []string) {
		f["leaf-hashes.txt"] = []byte(strings.Join(change(slices.Collect(strings.Lines(string(f["leaf-hashes.txt"])))), ""))
	}
	drop := func(i int) func([]string) []string {
		return func(s []string) []string { return slices.Delete(s, i, i+1) }
	}
	foreign := key(t, "evidence")
	tests := []struct {
		name    string
		insider bool
		tamper  func(f map[string][]byte)
		want    string
	}{
		{"fact removed", false, func(f map[string][]byte) { lines(f, drop(7)) }, "HF-E06 HF-E09"},
		{"fact removed by an insider", true, func(f map[string][]byte) { lines(f, drop(7)) }, "HF-E09"},
		{"fact and hash removed", true, func(f map[string][]byte) { lines(f, drop(7)); hashes(f, drop(7)) }, "HF-E09 HF-E10"},
		{"fact changed", true, func(f map[string][]byte) {
			lines(f, func(s []string) []string { s[7] = strings.Replace(s[7], "slot.done", "slot.fine", 1); return s })
		}, "HF-E10 HF-E15"},
		{"fact and hash changed", true, func(f map[string][]byte) {
			lines(f, func(s []string) []string {
				s[7] = strings.Replace(s[7], `"actor":"holdfast"`, `"actor":"nobody"`, 1)
				h := tlog.RecordHash([]byte(strings.TrimSuffix(s[7], "\n")))
				hashes(f, func(hs []string) []string { hs[7] = h.String() + "\n"; return hs })
				return s
			})
		}, "HF-E10 HF-E15"},
		{"facts swapped", true, func(f map[string][]byte) {
			lines(f, func(s []string) []string { s[7], s[8] = s[8], s[7]; return s })
		}, "HF-E11 HF-E15 HF-E23"},
		{"log cut", true, func(f map[string][]byte) { lines(f, func(s []string) []string { return s[:20] }) }, "HF-E12 HF-E15 HF-E23"},
		{"last line cut", true, func(f map[string][]byte) { f["log.ndjson"] = f["log.ndjson"][:len(f["log.ndjson"])-3] }, "HF-E12 HF-E15 HF-E23"},
		{"CSV altered", false, func(f map[string][]byte) {
			f["slots.csv"] = bytes.Replace(f["slots.csv"], []byte(",done,"), []byte(",failed,"), 1)
		}, "HF-E06 HF-E20"},
		{"population altered by an insider", true, func(f map[string][]byte) {
			f["populations/snapshots.csv"] = bytes.Replace(f["populations/snapshots.csv"], []byte("s-1"), []byte("s-3"), 1)
		}, "HF-E15"},
		{"facts.csv altered by an insider", true, func(f map[string][]byte) {
			f["facts.csv"] = bytes.Replace(f["facts.csv"], []byte("review.done"), []byte("review.gone"), 1)
		}, "HF-E15"},
		{"file missing", false, func(f map[string][]byte) { delete(f, "slots.csv") }, "HF-E04"},
		{"population missing", false, func(f map[string][]byte) { delete(f, "populations/snapshots.csv") }, "HF-E04"},
		{"population missing by an insider", true, func(f map[string][]byte) { delete(f, "populations/snapshots.csv") }, "HF-E04"},
		{"extra file", false, func(f map[string][]byte) { f["notes.txt"] = []byte("hello") }, "HF-E05"},
		{"extra population by an insider", true, func(f map[string][]byte) { f["populations/more.csv"] = []byte("a\n1\n") }, "HF-E05"},
		{"signed by a foreign key", false, func(f map[string][]byte) { resign(t, f, foreign) }, "HF-E07"},
		{"signature cut", false, func(f map[string][]byte) { f["manifest.sha256.sig"] = f["manifest.sha256.sig"][:100] }, "HF-E07"},
		{"manifest line added", false, func(f map[string][]byte) { f["manifest.sha256"] = append(f["manifest.sha256"], "junk\n"...) }, "HF-E06 HF-E07"},
		{"plan altered by an insider", true, func(f map[string][]byte) {
			f["plan.yaml"] = bytes.Replace(f["plan.yaml"], []byte("every 1d"), []byte("every 7d"), 1)
		}, "HF-E14"},
		{"checkpoint of another log", true, func(f map[string][]byte) {
			f["checkpoint"] = bytes.Replace(f["checkpoint"], []byte("\n34\n"), []byte("\n33\n"), 1)
		}, "HF-E08 HF-E23"},
		{"checkpoint.txt altered by an insider", true, func(f map[string][]byte) { f["checkpoint.txt"] = []byte("x") }, "HF-E08"},
		{"unknown format", true, func(f map[string][]byte) {
			f["pack.json"] = bytes.Replace(f["pack.json"], []byte(`pack": 1`), []byte(`pack": 2`), 1)
		}, "HF-E15"},
		{"proof by a fact that is not there", true, func(f map[string][]byte) {
			f["posture.csv"] = bytes.Replace(f["posture.csv"], []byte(",16\n"), []byte(",99\n"), 1)
		}, "HF-E15"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := unzip(t, pack)
			before := maps.Clone(files)
			tt.tamper(files)
			if maps.EqualFunc(files, before, bytes.Equal) {
				t.Fatal("nothing was changed")
			}
			if tt.insider {
				resign(t, files, c.sign.Evidence)
			}
			r := evidence.VerifyBytes(zipUp(t, files), c.sign.Trusted())
			got := strings.Join(codes(r), " ")
			// Consequences of a damaged log in the tables may come with it.
			for _, want := range strings.Fields(tt.want) {
				if !strings.Contains(got, want) {
					t.Errorf("codes %s, want %s:\n%+v", got, tt.want, r.Findings)
				}
			}
			if r.Authentic() {
				t.Error("the pack passes for authentic")
			}
		})
	}
}

// Any byte of any file is signed for, directly or by hash.
func TestEveryFileIsCovered(t *testing.T) {
	c := newCompany(t)
	files := unzip(t, c.build())
	for name := range files {
		for _, at := range []int{0, len(files[name]) / 2, len(files[name]) - 1} {
			bad := maps.Clone(files)
			bad[name] = bytes.Clone(files[name])
			bad[name][at] ^= 1
			if r := evidence.VerifyBytes(zipUp(t, bad), c.sign.Trusted()); r.Authentic() {
				t.Errorf("%s: byte %d may be changed", name, at)
			}
		}
	}
}

func TestUnsafeZips(t *testing.T) {
	c := newCompany(t)
	files := unzip(t, c.build())
	entry := func(h *zip.FileHeader, write func(io.Writer)) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		write(f)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	nothing := func(io.Writer) {}
	link := &zip.FileHeader{Name: "log.ndjson"}
	link.SetMode(os.ModeSymlink | 0o777)
	twice := func() []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, name := range []string{"plan.yaml", "PLAN.yaml"} {
			if _, err := w.Create(name); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		return out.Bytes()
	}
	bomb := func(w io.Writer) {
		zeros := make([]byte, 1<<20)
		for range evidence.MaxFile>>20 + 1 {
			if _, err := w.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
	}
	many := map[string][]byte{}
	for i := range evidence.MaxFiles + 1 {
		many[fmt.Sprintf("f%d", i)] = nil
	}
	whole := zipUp(t, files)
	tests := []struct {
		name string
		pack []byte
		want string
	}{
		{"parent", entry(&zip.FileHeader{Name: "../etc/passwd"}, nothing), "[HF-E02]"},
		{"inner parent", entry(&zip.FileHeader{Name: "plans/../../x"}, nothing), "[HF-E02]"},
		{"absolute", entry(&zip.FileHeader{Name: "/etc/passwd"}, nothing), "[HF-E02]"},
		{"backslash", entry(&zip.FileHeader{Name: `..\x`}, nothing), "[HF-E02]"},
		{"drive", entry(&zip.FileHeader{Name: `C:x`}, nothing), "[HF-E02]"},
		{"hidden", entry(&zip.FileHeader{Name: ".bashrc"}, nothing), "[HF-E02]"},
		{"folder", entry(&zip.FileHeader{Name: "plans/"}, nothing), "[HF-E02]"},
		{"link", entry(link, nothing), "[HF-E02]"},
		{"two names for one file", twice(), "[HF-E02]"},
		{"bomb", entry(&zip.FileHeader{Name: "log.ndjson", Method: zip.Deflate}, bomb), "[HF-E03]"},
		{"too many", zipUp(t, many), "[HF-E03]"},
		{"no zip", []byte("PK, but no zip"), "[HF-E01]"},
		{"empty", nil, "[HF-E01]"},
		{"cut", whole[:len(whole)/2], "[HF-E01]"},
	}
	for _, tt := range tests {
		r := evidence.VerifyBytes(tt.pack, c.sign.Trusted())
		if got := fmt.Sprint(codes(r)); got != tt.want || r.Authentic() {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := evidence.Verify(filepath.Join(t.TempDir(), "none"), c.sign.Trusted()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestHeldCheckpointsCatchTheOperator(t *testing.T) {
	c := newCompany(t)
	held, err := c.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.in.Previous = held
	c.fact("review.done", "plan", made)
	pack := c.build()
	keys := c.sign.Trusted()
	keys.Held = [][]byte{held}
	r := evidence.VerifyBytes(pack, keys)
	if len(codes(r)) > 0 || r.Anchored != 34 || r.Size != 35 {
		t.Errorf("anchored %d of %d, %+v", r.Anchored, r.Size, r.Findings)
	}
	newest, err := c.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	// The operator, who has the log key, makes another history of the same length.
	cut := newCompany(t)
	cut.log = c.resigned(t, cut.d)
	cut.sign, cut.in.Log = c.sign, cut.log
	cut.fact("incident.closed", "nothing", made)
	forged := cut.build() // by itself it is whole
	if r := evidence.VerifyBytes(forged, c.sign.Trusted()); len(codes(r)) > 0 {
		t.Fatalf("the forgery is clumsy: %+v", r.Findings)
	}
	keys.Held = [][]byte{newest}
	if got := codes(evidence.VerifyBytes(forged, keys)); fmt.Sprint(got) != "[HF-E13]" {
		t.Errorf("another history: %v, want HF-E13", got)
	}
	// A pack older than what the auditor holds: the log was cut, or restored.
	old := newCompany(t)
	old.log = c.resigned(t, old.d)
	old.sign, old.in.Log = c.sign, old.log
	if got := codes(evidence.VerifyBytes(old.build(), keys)); fmt.Sprint(got) != "[HF-E12]" {
		t.Errorf("a shorter log: %v, want HF-E12", got)
	}
	// A held checkpoint by somebody else says nothing about this log.
	other := newCompany(t)
	keys.Held[0], err = other.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := codes(evidence.VerifyBytes(pack, keys)); fmt.Sprint(got) != "[HF-E08]" {
		t.Errorf("a held checkpoint of a foreign key: %v, want HF-E08", got)
	}
	// A previous pack whose history is gone stops the making already.
	cut.in.Previous = newest
	if _, err := evidence.Build(t.Context(), cut.in, cut.sign); !errors.Is(err, ledger.ErrFork) {
		t.Errorf("build over a fork: %v, want ErrFork", err)
	}
}

// resigned opens the log in d with c's log key.
func (c *company) resigned(t *testing.T, d *db.DB) *ledger.Log {
	t.Helper()
	signer, err := seal.NoteSigner(c.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(d, ledger.Config{Origin: origin, Signer: signer, Clock: func() time.Time { return made }})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// An auditor without Holdfast types what VERIFY.txt says.
func TestInstructionsWork(t *testing.T) {
	for _, tool := range []string{"sh", "ssh-keygen", "openssl", "sha256sum", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: %v", tool, err)
		}
	}
	c := newCompany(t)
	held, err := c.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.in.Previous = held
	c.fact("review.done", "plan", made)
	for _, first := range []int64{0, 9} {
		c.in.First = first
		files := unzip(t, c.build())
		type step struct {
			tamper string
			breaks int // the command that must fail; -1 for none
		}
		for _, s := range []step{{"", -1}, {"manifest.sha256", 0}, {"slots.csv", 1}, {"extra", 2}, {"checkpoint.txt", 3}, {"log.ndjson", 4}, {"leaf-hashes.txt", 4}, {"held", 4}} {
			dir := t.TempDir()
			write := func(name string, b []byte) {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for name, b := range files {
				if name == s.tamper {
					b = bytes.Clone(b)
					b[len(b)/2] ^= 1
				}
				write("pack/"+name, b)
			}
			for name, b := range c.sign.Trusted().Files() {
				write("trusted/"+name, b)
			}
			write("trusted/held-checkpoint", held)
			if s.tamper == "held" {
				write("trusted/held-checkpoint", bytes.Replace(held, []byte("\n34\n"), []byte("\n33\n"), 1))
			}
			if s.tamper == "extra" {
				write("pack/extra", nil)
			}
			var failed []int
			n := 0
			for line := range strings.Lines(string(files["VERIFY.txt"])) {
				command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if !ok {
					continue
				}
				cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
				cmd.Dir = filepath.Join(dir, "pack")
				out, err := cmd.CombinedOutput()
				if err != nil {
					failed = append(failed, n)
					if s.breaks < 0 {
						t.Errorf("first %d: %s: %v\n%s", first, command, err, out)
					}
				}
				n++
			}
			if n != 5 {
				t.Fatalf("VERIFY.txt has %d commands, want 5", n)
			}
			if s.breaks >= 0 && !slices.Contains(failed, s.breaks) {
				t.Errorf("first %d: %q altered: commands %v failed, want %d", first, s.tamper, failed, s.breaks)
			}
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	good := newCompany(t).sign.Trusted().String()
	for name, text := range map[string]string{
		"empty":       "",
		"no origin":   strings.Replace(good, "origin", "# origin", 1),
		"no log":      strings.Replace(good, "\nlog", "\n# log", 1),
		"no evidence": strings.Replace(good, "\nevidence", "\n# evidence", 1),
		"unknown":     good + "other " + key(t, "a").Public().String() + "\n",
		"junk":        good + "log junk\n",
		"secret":      good + "log " + key(t, "a").String() + "\n",
		"two origins": good + "origin b\n",
		"long":        good + strings.Repeat("#\n", 1<<16),
	} {
		if _, err := evidence.ParseKeys(text); err == nil || holdfast.Hint(err) == "" {
			t.Errorf("%s: %v (hint %q), want a refusal", name, err, holdfast.Hint(err))
		}
	}
}

func FuzzVerify(f *testing.F) {
	sign := evidence.Signing{Origin: origin}
	f.Add([]byte("PK"), []byte("{}"))
	f.Fuzz(func(t *testing.T, slots, pack []byte) {
		files := map[string][]byte{"slots.csv": slots, "pack.json": pack, "plan.yaml": slots, "log.ndjson": pack, "leaf-hashes.txt": slots,
			"populations.csv": slots, "posture.csv": slots, "checkpoint": pack, "manifest.sha256": slots, "manifest.sha256.sig": pack}
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for name, b := range files {
			e, _ := w.Create(name)
			_, _ = e.Write(b)
		}
		_ = w.Close()
		if r := evidence.VerifyBytes(out.Bytes(), evidence.Keys{Origin: sign.Origin}); r.Authentic() {
			t.Error("authentic without any key")
		}
		_ = evidence.VerifyBytes(slots, evidence.Keys{})
	})
}

var _ evidence.Log = (*ledger.Log)(nil)
