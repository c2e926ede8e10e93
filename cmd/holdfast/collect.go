package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

// The memory of the process. Backups and restores live on few, big buffers: collecting four
// times as often as usual costs nothing that can be measured and saves half of the heap.
// A command that reads a plan and ends, such as check, would spend a third of its time on
// collecting what the end of the process frees: it may hold calmBytes before it collects.
const (
	calmBytes  = 64 << 20 // of the whole process, at which the first collection begins
	gcPercent  = 25       // from then on
	gcDisabled = -1
)

// readers are the commands that read a plan and end, by their first word.
var readers = []string{"check", "explain", "import", "plan", "render", "simulate"}

// collectLate keeps the collector from working until the command is known; collectFor says
// which it is. What the environment says (GOGC, GOMEMLIMIT) goes before.
func collectLate() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(calmBytes)
	debug.SetGCPercent(gcDisabled)
	// The first collection finds that nobody holds this any more, and ends the calm.
	runtime.AddCleanup(new(calm), func(struct{}) { endCalm() }, struct{}{})
	collectFor = func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())
		if len(words) < 2 || !slices.Contains(readers, words[1]) {
			endCalm()
		}
	}
}

// collectFor is told the command before it runs.
var collectFor = func(*cobra.Command) {}

var endCalm = sync.OnceFunc(func() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(math.MaxInt64)
})

// calm is what the first collection takes. It has a size, or all of its kind were one.
type calm struct{ _ [64]byte }
