package app

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/plan"
)

// The level is the share of the questions of one whole window; what is not enough says by how much, and an
// interrupted window has measured nothing.
func TestLevelOfAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute, second := plan.Period{Duration: 100 * time.Second}, plan.Period{Duration: time.Second}
		for _, tt := range []struct {
			bad   int
			level string
			want  string // of what is missing; "" if it holds
		}{
			{0, "100%", ""}, {3, "97%", ""}, {1, "100%", "99 of 100 questions were answered well (99%), 100% asked for; the last that was not: busy"},
			{3, "100%", "97 of 100"}, {4, "97%", "(96%)"}, {1, "99.5%", "99 of 100"}, {100, "1%", "(0%)"},
		} {
			share, ok := plan.Share(tt.level)
			if !ok {
				t.Fatal(tt.level)
			}
			asked, began := 0, time.Now()
			seen, err := levelOf(t.Context(), tt.level, share, plan.Probe{Window: minute, Every: second}, func(context.Context, plan.Probe) (string, error) {
				if asked++; asked <= tt.bad {
					return "", errors.New("busy")
				}
				return "", nil
			})
			if asked != 100 || time.Since(began) != 99*time.Second || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d bad of %s: %q, %v, %d questions in %s", tt.bad, tt.level, seen, err, asked, time.Since(began))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		if _, err := levelOf(ctx, "1%", 0.01, plan.Probe{}, func(context.Context, plan.Probe) (string, error) {
			if n++; n == 50 {
				cancel()
			}
			return "", nil
		}); !errors.Is(err, context.Canceled) || n != 50 {
			t.Errorf("half a window measured something: %v after %d", err, n)
		}
	})
	if percent(999, 1000) != "99.9%" || percent(9999, 10000) != "99.9%" || percent(10000, 10000) != "100%" {
		t.Error("what is not all is shown as all")
	}
}
