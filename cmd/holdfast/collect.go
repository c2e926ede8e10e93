package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// The memory of the process. Backups and restores live on few, big buffers: collecting four
// times as often as usual costs nothing that can be measured and saves half of the heap.
// Before the first collection there is nothing worth it: a command that reads a plan and
// ends, such as check, needs less than calmBytes, and would spend a third of its time on
// collecting what the end of the process frees.
const (
	calmBytes  = 64 << 20 // of the whole process, at which the first collection begins
	gcPercent  = 25       // from then on
	gcDisabled = -1
)

// collectLate lets the first collection wait until the process holds calmBytes. What the
// environment says (GOGC, GOMEMLIMIT) goes before.
func collectLate() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(calmBytes)
	debug.SetGCPercent(gcDisabled)
	// The first collection finds that nobody holds this any more, and ends the calm.
	runtime.AddCleanup(new(calm), func(struct{}) {
		debug.SetGCPercent(gcPercent)
		debug.SetMemoryLimit(math.MaxInt64)
	}, struct{}{})
}

// calm is what the first collection takes. It has a size, or all of its kind were one.
type calm struct{ _ [64]byte }
