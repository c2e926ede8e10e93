package holdfast

import (
	"errors"
	"fmt"
	"testing"
)

func TestHintSurvivesText(t *testing.T) {
	base := errors.New("it burns")
	err := fmt.Errorf("store %q: %w", "db", WithHint(base, "pour water on %s", "it"))
	message, hint := Heard(Tell(err).Error())
	if message != `store "db": it burns` || hint != "pour water on it" {
		t.Errorf("heard %q and %q", message, hint)
	}
	if !errors.Is(Tell(err), base) {
		t.Error("Tell hides the error")
	}
	if message, hint := Heard(Tell(base).Error()); message != "it burns" || hint != "" {
		t.Errorf("without a hint, heard %q and %q", message, hint)
	}
	if Tell(nil) != nil || WithHint(nil, "x") != nil {
		t.Error("no error became one")
	}
}

func TestExitStatus(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, ExitDone}, {errors.New("x"), ExitError}, {fmt.Errorf("a: %w", ErrUsage), ExitUsage},
		{WithHint(fmt.Errorf("a: %w", ErrMissed), "h"), ExitMissed}, {errors.Join(errors.New("x"), ErrRefused), ExitRefused},
	} {
		if got := ExitStatus(tt.err); got != tt.want {
			t.Errorf("ExitStatus(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}
