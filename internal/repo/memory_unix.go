//go:build unix

package repo

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// allocate returns room for a pack outside of the garbage collector's heap, where
// tens of megabytes that live as long as a run would let as many more of garbage
// gather. Memory that is not touched is not used.
func allocate(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("allocate %d bytes: %w", n, err)
	}
	return b, nil
}

func deallocate(b []byte) {
	_ = unix.Munmap(b[:cap(b)]) // fails only for what was not mapped
}

// forget gives the memory behind room back until it is written to again; what it
// held is lost. While one pack is on its way, the next one has hardly begun.
func forget(b []byte) {
	if len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_DONTNEED) // advice: without it, it takes memory
	}
}
