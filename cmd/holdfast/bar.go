package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"holdfast"
)

// A bar shows progress on a terminal: how far, how fast, how long still. Where
// standard error is no terminal it shows nothing.
type bar struct {
	w     io.Writer
	what  string
	on    bool
	stage string
	began time.Time
	first int64
	shown bool
}

func newBar(w io.Writer, what string) *bar {
	return &bar{w: w, what: what, on: isTerminal(w)}
}

// show takes the progress of a job as it stands in the state.
func (b *bar) show(raw json.RawMessage) {
	var p holdfast.Progress
	if !b.on || len(raw) == 0 || json.Unmarshal(raw, &p) != nil {
		return
	}
	b.progress(p)
}

func (b *bar) progress(p holdfast.Progress) {
	if !b.on {
		return
	}
	now := time.Now()
	if p.Stage != b.stage || b.began.IsZero() {
		b.stage, b.began, b.first = p.Stage, now, p.Done
	}
	b.shown = true
	fmt.Fprintf(b.w, "\r\x1b[K%s: %s", b.what, line(p, now.Sub(b.began), p.Done-b.first))
}

func line(p holdfast.Progress, spent time.Duration, done int64) string {
	var s strings.Builder
	s.WriteString(p.Stage)
	if p.Total > 0 {
		const width = 24
		full := int(min(p.Done, p.Total) * width / p.Total)
		fmt.Fprintf(&s, " [%s%s] %d %%", strings.Repeat("█", full), strings.Repeat("░", width-full), min(p.Done, p.Total)*100/p.Total)
	}
	if p.Unit == "bytes" && p.Done > 0 {
		s.WriteString(" " + size(p.Done))
	}
	if spent > time.Second && done > 0 && p.Unit == "bytes" {
		rate := float64(done) / spent.Seconds()
		fmt.Fprintf(&s, " at %s/s", size(int64(rate)))
		if p.Total > p.Done {
			fmt.Fprintf(&s, ", %s left", holdfast.FormatDuration(time.Duration(float64(p.Total-p.Done)/rate*float64(time.Second))))
		}
	}
	return s.String()
}

func (b *bar) end() {
	if b.shown {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<40:
		return fmt.Sprintf("%.2f TiB", float64(n)/(1<<40))
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
