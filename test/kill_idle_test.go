package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/job"
)

// Usage is what the kernel says of a process.
type killUsage struct {
	cpu     time.Duration
	rss     int64 // MiB
	files   int
	threads int
}

func (w *killWorld) usage() (u killUsage) {
	w.t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(w.server.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		w.t.Fatal(err)
	}
	// After the name, which may hold anything: state is the first field.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	number := func(i int) int64 {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		return n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on Linux
	u.cpu = time.Duration(number(11)+number(12)) * tick
	u.threads = int(number(17))
	u.rss = number(21) * int64(os.Getpagesize()) >> 20
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		w.t.Fatal(err)
	}
	u.files = len(fds)
	return u
}

func (u killUsage) String() string {
	return fmt.Sprintf("%s of CPU, %d MiB, %d files, %d threads", u.cpu, u.rss, u.files, u.threads)
}

// A server that has nothing to do does next to nothing, and work leaves no open
// files behind.
func TestIdleServerIsQuiet(t *testing.T) {
	k := &killer{killWorld: newKillWorld(t, ""), took: map[string]time.Duration{}, gone: map[int]bool{}}
	k.stopWriter()
	k.writer.Wait()
	k.serve()
	work := func() {
		for _, store := range []string{"db", "uploads"} {
			if j := k.settled(k.backup(store)); j.State != job.Done {
				t.Fatalf("backup of %s: %s: %s", store, j.State, j.Error)
			}
			k.received(store)
		}
		id, jobID := k.startDrill(api.DrillRequest{Store: "db", Goal: holdfast.L5, Pick: "latest"})
		k.settled(jobID)
		k.passed(id)
	}
	work()
	k.flowing(time.Now())
	before := k.usage()
	const idle = 15 * time.Second
	<-time.After(idle) // what is measured is the time itself
	after := k.usage()
	spent := after.cpu - before.cpu
	t.Logf("idle for %s: %s; used %s of CPU, %.2f %% of a core", idle, after, spent, 100*spent.Seconds()/idle.Seconds())
	if limit := idle / 20; spent > limit {
		t.Errorf("an idle server used %s of CPU in %s, want less than %s", spent, idle, limit)
	}
	const rounds = 2
	for range rounds {
		work()
	}
	k.flowing(time.Now())
	k.wait(fmt.Sprintf("the open files to be as few as before the work: %d, now %d", after.files, k.usage().files), func() bool { return k.usage().files <= after.files+2 })
	t.Logf("after %d more backups and drills: %s", rounds, k.usage())
}
