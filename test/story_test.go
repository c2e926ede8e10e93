package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// storyLimit is how long a story may take, also one that fails.
const storyLimit = 3 * time.Minute

// A story is one run of "holdfast demo --json".
type story struct {
	ending
	tmp    string
	fields map[string]any
}

// tell plays the story with a folder for temporary files of its own, and checks that
// nothing of it runs or lies around at the end.
func tell(t *testing.T, args ...string) story {
	t.Helper()
	s := story{tmp: place(t)}
	ctx, cancel := context.WithTimeout(t.Context(), storyLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"demo", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+s.tmp, "HOLDFAST_DIR=", "HOLDFAST_STATE=", "HOLDFAST_PURPOSE=test")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	began := time.Now()
	err := cmd.Run()
	s.ending = ending{cmd.ProcessState.ExitCode(), out.String(), errout.String(), time.Since(began)}
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("the story does not end: %v", s.ending)
	}
	if s.out != "" {
		d := json.NewDecoder(strings.NewReader(s.out))
		if err := d.Decode(&s.fields); err != nil || d.More() {
			t.Fatalf("want one JSON object (%v): %v", err, s.ending)
		}
	}
	for _, p := range running(t, s.tmp) {
		t.Errorf("still running: %s", p)
	}
	return s
}

// running lists the processes that name a folder in their command line.
func running(t *testing.T, dir string) (out []string) {
	t.Helper()
	ps, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), dir) {
			out = append(out, filepath.Base(filepath.Dir(p))+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}

func (s story) number(t *testing.T, field string) float64 {
	t.Helper()
	v, ok := s.fields[field].(float64)
	if !ok {
		t.Errorf("%s is %v, want a number", field, s.fields[field])
	}
	return v
}

func (s story) text(t *testing.T, field string) string {
	t.Helper()
	v, ok := s.fields[field].(string)
	if !ok || v == "" {
		t.Errorf("%s is %v, want a text", field, s.fields[field])
	}
	return v
}

func TestStory(t *testing.T) {
	t.Parallel() // stories mostly wait
	s := tell(t)
	s.want(t, 0)
	if s.fields == nil {
		t.Fatalf("no object: %v", s.ending)
	}
	acknowledged, recovered, lost := s.number(t, "rows_acknowledged"), s.number(t, "rows_recovered"), s.number(t, "rows_lost")
	if acknowledged <= 0 || recovered <= 0 || recovered+lost != acknowledged {
		t.Errorf("%v rows acknowledged, %v recovered, %v lost: they do not add up", acknowledged, recovered, lost)
	}
	rpo, rto := s.number(t, "rpo_seconds"), s.number(t, "rto_seconds")
	if promised := s.number(t, "objective_rpo_seconds"); promised <= 0 || rpo < 0 || rpo > promised || (lost == 0) != (rpo == 0) {
		t.Errorf("RPO of %v s with %v rows lost, promised %v s, in a story that ended well", rpo, lost, promised)
	}
	if promised := s.number(t, "objective_rto_seconds"); rto <= 0 || rto > promised || rto > s.took.Seconds() {
		t.Errorf("RTO of %v s in a story of %s, promised %v s", rto, s.took, promised)
	}
	var parts float64
	for _, p := range s.fields["rto_parts"].([]any) {
		p := p.(map[string]any)
		parts += p["duration_ns"].(float64) / 1e9
		if p["basis"] != "measured" {
			t.Errorf("part %v of the RTO was not measured", p)
		}
	}
	// The parts run from the last sign of life, which comes before the kill.
	if parts < rto-2 || parts > rto+10 {
		t.Errorf("the parts of the RTO add up to %.1f s, the whole is %.1f s", parts, rto)
	}
	if got := s.text(t, "recovered_from_location"); got != "offsite" {
		t.Errorf("recovered from %q; only offsite was within reach", got)
	}
	if got := s.text(t, "drill_rung"); got != "L6" {
		t.Errorf("the drill reached %q", got)
	}
	if got := s.text(t, "incident_id"); !regexp.MustCompile(`^INC-\d+$`).MatchString(got) {
		t.Errorf("incident_id is %q", got)
	}
	if s.fields["evidence_verified"] != true || s.fields["tamper_noticed"] != true {
		t.Errorf("evidence verified: %v, tampering noticed: %v", s.fields["evidence_verified"], s.fields["tamper_noticed"])
	}
	t.Run("FOV-09 the store and the first location are destroyed", func(t *testing.T) {
		const minutes = 5 * 60
		if s.text(t, "recovered_from_location") != "offsite" || rpo > minutes || s.number(t, "files_rpo_seconds") > minutes || recovered == 0 {
			t.Errorf("recovered from %v with a loss of %v s", s.fields["recovered_from_location"], rpo)
		}
	})
	// The pack that the object names is there, and somebody else can verify it.
	pack := s.text(t, "evidence_pack")
	keys := filepath.Join(filepath.Dir(pack), "trusted.keys")
	hf(t, "evidence", "verify", pack, "--keys", keys).want(t, 0)
	for p, b := range treeOf(t, s.tmp) {
		if b != "dir" && filepath.Join(s.tmp, p) != pack && filepath.Join(s.tmp, p) != keys {
			t.Errorf("left on disk: %s", p)
		}
		if b == "dir" && p != "." && filepath.Join(s.tmp, p) != filepath.Dir(pack) {
			t.Errorf("left on disk: the folder %s", p)
		}
	}
}

// A part that is broken makes the story fail, and say why in one plain sentence.
func TestStoryFailsWithAFlippedByte(t *testing.T) {
	t.Parallel()
	s := tell(t, "--break", "flip")
	if s.status != 1 || s.fields != nil {
		t.Fatalf("want exit status 1 and no result: %v", s.ending)
	}
	s.complains(t, `the copy of "(db|uploads)" at "offsite" is damaged`, `broken on request`)
	if left := treeOf(t, s.tmp); len(left) != 1 {
		t.Errorf("left on disk: %d files and folders", len(left)-1)
	}
}

func TestStoryFailsWithAStoppedLog(t *testing.T) {
	t.Parallel()
	s := tell(t, "--break", "log")
	if s.status != 3 || s.fields == nil {
		t.Fatalf("want exit status 3 and a result: %v", s.ending)
	}
	lost, rpo, promised := s.number(t, "rows_lost"), s.number(t, "rpo_seconds"), s.number(t, "objective_rpo_seconds")
	if lost <= 0 || rpo <= promised || s.number(t, "rows_recovered")+lost != s.number(t, "rows_acknowledged") {
		t.Errorf("%v rows lost, RPO %v s, promised %v s: the log stood still for longer than that", lost, rpo, promised)
	}
	missed, _ := s.fields["missed"].([]any)
	want := fmt.Sprintf("RPO: %.1f s of acknowledged rows were lost (%.0f rows), promised %.0f s", rpo, lost, promised)
	if len(missed) != 1 || missed[0] != want {
		t.Errorf("missed is %q, want the one sentence %q", missed, want)
	}
	if !strings.Contains(s.errout, want) {
		t.Errorf("a person is not told: %s", s.errout)
	}
}

// complains checks the error object that --json puts on standard error, after the
// story.
func (s story) complains(t *testing.T, sentence, hint string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(s.errout), "\n")
	var e struct {
		Error, Hint string
		Exit        int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		t.Fatalf("the last line is no error object: %v: %v", err, s.ending)
	}
	if !contains(e.Error, sentence) || len(e.Error) > 200 || !contains(e.Hint, hint) || e.Exit != s.status {
		t.Errorf("want a plain sentence with %q and a hint with %q: %+v", sentence, hint, e)
	}
}
