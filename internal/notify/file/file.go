// Package file writes messages into a file, a line of JSON for each: for a log collector,
// for a company that reads it on a screen, and as the channel of last resort, which needs
// no network.
//
// A line is on disk when Send returns. A crash before that leaves no line, a whole one or
// the beginning of one; the next line begins on a line of its own, and the message comes
// again with the same id. The file is readable by its owner only, since it holds what is
// wrong and with whom; it is never cut or renamed here.
package file

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/notify"
)

// A Line is one message in the file.
type Line struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	At      time.Time       `json:"at"`
	To      string          `json:"to,omitempty"`
	Subject string          `json:"subject"`
	Text    string          `json:"text,omitempty"`
	Urgent  bool            `json:"urgent,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// A Channel writes to one file. It may be used concurrently; several channels on one
// file may not.
type Channel struct {
	path string
	mu   sync.Mutex
}

// New returns the channel. The file and its folder are made when the first line is
// written.
func New(path string) *Channel { return &Channel{path: path} }

// Send writes the line.
func (c *Channel) Send(_ context.Context, m notify.Message) (said string, err error) {
	line, err := json.Marshal(Line{m.ID, m.Kind, m.At.UTC(), m.Name, notify.Line(m.Subject, notify.MaxSubject), notify.Cut(m.Text, notify.MaxText), m.Urgent, m.Data})
	if err != nil {
		return "", notify.Permanent(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return "", err
	}
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	torn, err := endsTorn(f)
	if err != nil {
		return "", err
	}
	if torn {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return "", err
	}
	return "written to " + filepath.Base(c.path), f.Sync()
}

// endsTorn reports whether the last line has no end.
func endsTorn(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, &fs.PathError{Op: "append", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return last[0] != '\n', nil
}
