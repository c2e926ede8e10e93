package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

const beatSecret = "a secret of a heartbeat, long enough"

// watchOf is a watch whose people are reached by a file, on a clock of the test.
func watchOf(t *testing.T, dir string, now *time.Time) *Watch {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(beatSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Parse(filepath.Join(dir, "plan.yaml"), []byte(`apiVersion: holdfast/v1
plan: {id: firm, owner: ann}
people: {ann: {}, ben: {}}
roles: {incident_commander: {holder: ben}}
messages:
  channels: {record: {kind: file, file: {path: told.jsonl}}}
  by: [record]
  heartbeat: {webhook: {url: "https://watch.example.com/", secret_file: secret}}
`))
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWatch(p, filepath.Join(dir, "watch.json"), 0, func() time.Time { return *now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// beatAt posts a heartbeat that was signed at an instant.
func beatAt(t *testing.T, w *Watch, at time.Time, secret string) int {
	t.Helper()
	k, err := seal.ParseHookSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
	r.Header.Set("webhook-id", "b")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", k.Sign("b", at, []byte("{}")))
	rw := httptest.NewRecorder()
	w.ServeHTTP(rw, r)
	return rw.Code
}

func TestWatchHearsOnlyWhatIsNewAndSigned(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	w := watchOf(t, dir, &now)
	told := func() string {
		w.tell(t.Context())
		b, err := os.ReadFile(filepath.Join(dir, "told.jsonl"))
		if err != nil {
			return ""
		}
		return string(b)
	}
	first := now
	if code := beatAt(t, w, first, beatSecret); code != http.StatusOK {
		t.Fatal(code)
	}
	now = now.Add(3 * time.Minute)
	if w.look() {
		t.Error("three heartbeats are not late yet")
	}
	// What somebody recorded or signs with another secret keeps nobody quiet.
	for name, try := range map[string]func() int{
		"recorded":       func() int { return beatAt(t, w, first, beatSecret) },
		"another secret": func() int { return beatAt(t, w, now, strings.ToUpper(beatSecret)) },
		"of tomorrow":    func() int { return beatAt(t, w, now.Add(24*time.Hour), beatSecret) },
	} {
		if code := try(); name != "recorded" && code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	now = now.Add(time.Second)
	if !w.look() {
		t.Fatal("silence is not noticed")
	}
	if s := told(); strings.Count(s, "is silent") != 2 || !strings.Contains(s, fmt.Sprintf("silent-%d-ben", first.Unix())) {
		t.Errorf("told %s", s)
	}
	// Another process knows what the first one knew.
	w = watchOf(t, dir, &now)
	if w.look() {
		t.Error("the same silence is told again")
	}
	if code := beatAt(t, w, now, beatSecret); code != http.StatusOK || !w.look() {
		t.Errorf("%d: that it is over is not told", code)
	}
	if s := told(); strings.Count(s, "heard again") != 2 || w.look() {
		t.Errorf("told %s", s)
	}
}

func TestWatchNeedsAHeartbeatAndPeople(t *testing.T) {
	for name, text := range map[string]string{
		"no messages":  "",
		"unsigned":     "messages: {channels: {record: {kind: file, file: {path: t}}}, by: [record], heartbeat: {webhook: {url: \"https://w.example.com/\"}}}\n",
		"no person":    "messages: {channels: {m: {kind: mail, mail: {host: m.example.com, from: a@example.com}}}, heartbeat: {webhook: {url: \"https://w.example.com/\", secret_file: s}}}\n",
		"no such file": "people: {ann: {email: ann@example.com}}\nroles: {incident_commander: {holder: ann}}\nmessages: {channels: {m: {kind: mail, mail: {host: m.example.com, from: a@example.com}}}, heartbeat: {webhook: {url: \"https://w.example.com/\", secret_file: s}}}\n",
	} {
		p, err := plan.Parse(filepath.Join(t.TempDir(), "plan.yaml"), []byte("apiVersion: holdfast/v1\nplan: {id: firm}\n"+text))
		if err != nil {
			t.Fatal(name, err)
		}
		if w, err := NewWatch(p, filepath.Join(t.TempDir(), "w.json"), 0, time.Now, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: %+v", name, w)
		}
	}
}
