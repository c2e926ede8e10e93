package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// clockVariable moves the clock of one process, for rehearsals of what comes in a
// month: "+720h". With "@" and the path of a file, the process follows the duration
// in that file for as long as it runs, so that a quarter passes in seconds.
//
// A real system never sets it. What it does is said at once, in "status" and in the
// ledger, and the vault deletes nothing for a day after a step of the clock.
const clockVariable = "HOLDFAST_CLOCK"

// rehearsalVariable must be "yes" for a process that follows a file: an environment
// that was copied, with a path in it, must not let a file rule the time of a server.
const rehearsalVariable = "HOLDFAST_REHEARSAL"

// maxClockFile bounds the file that says the time, in bytes.
const maxClockFile = 64

// clock returns the clock, and says so if it is moved.
func (c *cli) clock() (func() time.Time, error) {
	text := os.Getenv(clockVariable)
	if text == "" {
		return time.Now, nil
	}
	file, follows := strings.CutPrefix(text, "@")
	if !follows {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, &usageError{holdfast.WithHint(fmt.Errorf("%s: %w", clockVariable, err), "unset it; for a rehearsal write a duration such as +720h")}
		}
		fmt.Fprintf(c.stderr, "holdfast: the clock is moved by %s (%s)\n", d, clockVariable)
		return func() time.Time { return time.Now().Add(d) }, nil
	}
	if os.Getenv(rehearsalVariable) != "yes" {
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("%s=%s: a file shall rule the clock, and nobody said that this is a rehearsal", clockVariable, text),
			"unset %s; for a rehearsal, on a workspace that protects nothing real, set %s=yes too", clockVariable, rehearsalVariable)}
	}
	f := &fileClock{path: file}
	if err := f.read(); err != nil {
		return nil, &usageError{holdfast.WithHint(fmt.Errorf("%s: %w", clockVariable, err), "write a duration such as +720h into the file")}
	}
	fmt.Fprintf(c.stderr, "holdfast: a rehearsal: the clock is moved by %s, and follows %q (%s)\n", f.by, file, clockVariable)
	return f.now, nil
}

// A fileClock is moved by the duration that a file holds at the moment. While the
// file cannot be read, or holds none, it stays as it was: time does not fall back to
// the machine's in the middle of a rehearsal.
type fileClock struct {
	path string

	mu  sync.Mutex // of what follows
	by  time.Duration
	was string // what the file held when it was read last
}

func (f *fileClock) now() time.Time {
	_ = f.read() // it stays as it was
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.by)
}

func (f *fileClock) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxClockFile))
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(b))
	f.mu.Lock()
	defer f.mu.Unlock()
	if text == f.was && text != "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.by, f.was = d, text
	return nil
}
