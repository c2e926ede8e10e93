//go:build !unix

package repo

func allocate(n int) ([]byte, error) { return make([]byte, n), nil }

func deallocate([]byte) {}

func forget([]byte) {}
