package durabletest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// file is an open file. Its offset is guarded by the file system's lock.
type file struct {
	fs     *FS
	n      *inode
	name   string
	flag   int
	off    int64
	gen    int
	closed bool
}

func (n *inode) write(w write, now time.Time) {
	n.mtime = now
	n.dirty = append(n.dirty, w)
	n.data = apply(n.data, w)
}

// do runs one operation on a living file.
func (f *file) do(op string, act, torn func() error) (tore bool, err error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return false, pathErr(op, f.name, fs.ErrClosed)
	}
	if f.gen != f.fs.gen {
		return false, pathErr(op, f.name, ErrCrashed)
	}
	tore, err = f.fs.doTorn(act, torn)
	if err == io.EOF {
		return tore, err
	}
	return tore, pathErr(op, f.name, err)
}

func (f *file) Read(p []byte) (n int, err error) {
	_, err = f.do("read", func() error {
		n, err = readAt(f.n.data, p, f.off)
		f.off += int64(n)
		if n > 0 {
			return nil
		}
		return err
	}, nil)
	return n, err
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	_, err = f.do("read", func() error {
		n, err = readAt(f.n.data, p, off)
		return err
	}, nil)
	return n, err
}

func readAt(data, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	return f.writeAt(p, func() int64 {
		if f.flag&os.O_APPEND != 0 {
			return int64(len(f.n.data))
		}
		return f.off
	}, true)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.writeAt(p, func() int64 { return off }, false)
}

func (f *file) writeAt(p []byte, at func() int64, move bool) (int, error) {
	wrote := 0
	write := func(p []byte) func() error {
		return func() error {
			if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
				return errors.New("file is open for reading")
			}
			off := at()
			if off < 0 {
				return fs.ErrInvalid
			}
			f.n.write(write{off: off, data: slices.Clone(p)}, f.fs.now)
			wrote = len(p)
			if move {
				f.off = off + int64(len(p))
			}
			return nil
		}
	}
	tore, err := f.do("write", write(p), write(p[:len(p)/2]))
	if err != nil && !tore {
		wrote = 0 // also after its effect: the caller must not learn that it landed
	}
	return wrote, err
}

func (f *file) Seek(off int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += int64(len(f.n.data))
	}
	if off < 0 {
		return f.off, fs.ErrInvalid
	}
	f.off = off
	return off, nil
}

// Sync makes the bytes durable. When a fault breaks it before its effect, the
// unsynced writes are forgotten as well: kernels mark such pages clean, so that
// a second Sync succeeds and has saved nothing.
func (f *file) Sync() error {
	synced := false
	_, err := f.do("sync", func() error {
		for _, w := range f.n.dirty {
			f.n.disk = apply(f.n.disk, w)
		}
		f.n.dirty = nil
		synced = true
		return nil
	}, nil)
	dead := errors.Is(err, ErrStopped) || errors.Is(err, ErrCrashed) || errors.Is(err, fs.ErrClosed)
	if err != nil && !synced && !dead {
		f.fs.mu.Lock()
		f.n.dirty = nil
		f.fs.mu.Unlock()
	}
	return err
}

func (f *file) Truncate(size int64) error {
	_, err := f.do("truncate", func() error {
		if size < 0 {
			return fs.ErrInvalid
		}
		f.n.write(write{off: size, trunc: true}, f.fs.now)
		return nil
	}, nil)
	return err
}

func (f *file) Stat() (info fs.FileInfo, err error) {
	_, err = f.do("stat", func() error {
		info = f.n.info(f.name)
		return nil
	}, nil)
	return info, err
}

// Close is not counted and never fails but when called twice: what it could
// report, Sync has reported.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathErr("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

type fileInfo struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (n *inode) info(name string) fileInfo {
	return fileInfo{name: name, size: int64(len(n.data)), mode: n.mode, mtime: n.mtime}
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return i.mtime }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
