package durabletest

import (
	"fmt"
	"testing"
)

// maxOperations bounds the loops of EveryFault and EveryCrash: an act that makes
// more operations than this is too large to be broken at each.
const maxOperations = 10_000

// crashSeeds are tried at every point of EveryCrash: strict loss, and three
// ways of keeping a part.
var crashSeeds = []uint64{0, 1, 2, 3}

// EveryFault runs act once per operation that it makes, each time on a fresh
// file system prepared by setup, with that operation broken: before its effect,
// after it, and torn. Then check judges what is there; err is what act returned.
func EveryFault(t *testing.T, setup func(*FS), act func(*FS) error, check func(t *testing.T, f *FS, err error)) {
	t.Helper()
	for _, when := range []When{Before, After, Torn} {
		for n := 1; ; n++ {
			if n > maxOperations {
				t.Fatalf("more than %d operations", maxOperations)
			}
			f := New()
			setup(f)
			f.FailAt(n, when)
			err := act(f)
			if !f.Tripped() {
				if err != nil {
					t.Fatalf("no fault: %v", err)
				}
				break // n is past the last operation
			}
			f.disarm()
			t.Run(fmt.Sprintf("fault %s operation %d", when, n), func(t *testing.T) { check(t, f, err) })
		}
	}
}

// EveryCrash runs act once per operation that it makes, stops the process there
// and cuts the power, in several ways. acknowledged tells check whether act had
// returned nil before the crash: the last rounds crash after it.
func EveryCrash(t *testing.T, setup func(*FS), act func(*FS) error, check func(t *testing.T, f *FS, acknowledged bool)) {
	t.Helper()
	for _, when := range []When{Before, After, Torn} {
		for n, past := 1, false; !past; n++ {
			if n > maxOperations {
				t.Fatalf("more than %d operations", maxOperations)
			}
			for _, seed := range crashSeeds {
				f := New()
				setup(f)
				f.StopAt(n, when)
				err := act(f)
				past = !f.Tripped()
				if past && err != nil {
					t.Fatalf("no crash: %v", err)
				}
				f.Crash(seed)
				t.Run(fmt.Sprintf("crash %s operation %d seed %d", when, n, seed), func(t *testing.T) { check(t, f, err == nil) })
			}
		}
	}
}

func (f *FS) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt = 0
}
