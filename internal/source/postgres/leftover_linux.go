package postgres

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// leftoverWithin bounds how long a left-over server may take to end by itself.
const leftoverWithin = 20 * time.Second

// endProcess asks a postmaster to end at once (SIGQUIT), and kills it if it does
// not. A handle on the process keeps a reused number from being hit.
func endProcess(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
			return nil
		} else if err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		if ended(ctx, fd) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// ended waits for a process to be gone; its handle becomes readable then.
func ended(ctx context.Context, fd int) bool {
	for deadline := time.Now().Add(leftoverWithin); time.Now().Before(deadline) && ctx.Err() == nil; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if err == nil && n > 0 {
			return true
		}
	}
	return false
}
