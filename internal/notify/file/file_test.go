package file

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/notify"
)

// After a crash in the middle of a line, the next one is whole.
func TestLinesAfterATornOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "messages.jsonl")
	c := New(path)
	send := func(id string) {
		t.Helper()
		if _, err := c.Send(t.Context(), notify.Message{ID: id, Subject: "two\nlines", Name: "Ann"}); err != nil {
			t.Fatal(err)
		}
	}
	send("m-1")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"id":"m-2","ki`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	send("m-2")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	for i, id := range map[int]string{0: "m-1", 2: "m-2"} {
		var l Line
		if err := json.Unmarshal([]byte(lines[i]), &l); err != nil || l.ID != id || l.Subject != "two lines" {
			t.Errorf("%v: %+v", err, l)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func TestWhatIsNoFile(t *testing.T) {
	if _, err := New(t.TempDir()).Send(t.Context(), notify.Message{ID: "m"}); err == nil {
		t.Error("wrote into a folder")
	}
}
