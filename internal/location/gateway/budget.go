package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/durable"
)

// A Budget bounds how many bytes each writer can put in a day of UTC, so that a captured
// host fills no disk in a night. Make it with NewBudget; one Budget has one file.
type Budget struct{ b *budget }

type budget struct {
	mu    sync.Mutex
	path  string // "" keeps nothing over a restart
	limit int64  // bytes; 0 is no limit
	spent spending
}

// A spending is what is kept over a restart.
type spending struct {
	Day   string           `json:"day"`
	Bytes map[string]int64 `json:"bytes"` // by writer
}

const (
	maxSpending = 1 << 20
	// An object costs this much at least: a disk has a limited number of files too.
	leastCost = 4 << 10
)

// NewBudget returns a budget that is kept in a file. A limit of 0 is none.
func NewBudget(path string, limit int64) (Budget, error) {
	b := &budget{path: path, limit: limit, spent: spending{Bytes: map[string]int64{}}}
	if path == "" || limit == 0 {
		return Budget{b}, nil
	}
	text, err := durable.ReadFile(durable.OS, path, maxSpending)
	switch {
	case isMissing(err):
	case err != nil:
		return Budget{}, fmt.Errorf("budget: %w", err)
	default:
		if err := json.Unmarshal(text, &b.spent); err != nil || b.spent.Bytes == nil {
			return Budget{}, fmt.Errorf("budget: %s is damaged: remove it to begin the day anew", path)
		}
	}
	return Budget{b}, nil
}

// Spend takes bytes from a writer's budget of the day, or refuses. It is durable before
// it returns: a crash behind it costs the writer what was not stored.
func (b Budget) Spend(writer string, n int64, now time.Time) error {
	if b.b == nil || b.b.limit == 0 {
		return nil
	}
	n = max(n, leastCost)
	s := b.b
	s.mu.Lock()
	defer s.mu.Unlock()
	day := now.UTC().Format(time.DateOnly)
	if day > s.spent.Day { // a clock that went back gives nobody a second budget
		s.spent = spending{Day: day, Bytes: map[string]int64{}}
	}
	if s.spent.Bytes[writer]+n > s.limit {
		return &denial{http.StatusTooManyRequests, reasonBudget, fmt.Sprintf("%d of %d bytes on %s", s.spent.Bytes[writer], s.limit, s.spent.Day)}
	}
	s.spent.Bytes[writer] += n
	if s.path == "" {
		return nil
	}
	text, err := json.Marshal(s.spent)
	if err == nil {
		err = durable.MkdirAll(durable.OS, filepath.Dir(s.path), 0o700)
	}
	if err == nil {
		err = durable.WriteFile(durable.OS, s.path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("budget of %q: %w", writer, err)
	}
	return nil
}
