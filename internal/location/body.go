package location

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Exactly returns a reader that gives the bytes of r if they are exactly size, and
// otherwise fails with ErrSize: at the latest where r should have ended. It ends with ctx.
// An error of r itself is a *BodyError.
func Exactly(ctx context.Context, r io.Reader, size int64) io.Reader {
	return &exactReader{ctx: ctx, r: r, left: size}
}

type exactReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	if e.left < 0 {
		return 0, fmt.Errorf("negative: %w", ErrSize)
	}
	// One byte more than is left, to notice that there is more.
	if int64(len(p)) > e.left+1 {
		p = p[:e.left+1]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	if err != nil && err != io.EOF {
		return n, &BodyError{err}
	}
	switch {
	case e.left < 0:
		return n, fmt.Errorf("longer: %w", ErrSize)
	case err == io.EOF && e.left > 0:
		return n, fmt.Errorf("%d bytes short: %w", e.left, ErrSize)
	}
	return n, err
}

// A BodyError is an error of the caller's reader. It is never taken for one of the
// location: a source that cannot be read must not look like a full disk.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "read content: " + e.Err.Error() }

func (e *BodyError) Unwrap() error {
	if errors.Is(e.Err, fs.ErrExist) {
		return nil // it would read as "the object is stored"
	}
	return e.Err
}

// MayBegin reports whether an object's name can begin with prefix. A location that
// is asked to list anything else answers that there is nothing, without asking a
// server what it makes of "../".
func MayBegin(prefix string) bool {
	for {
		i := 0
		for i < len(prefix) && prefix[i] != '/' {
			i++
		}
		if i == len(prefix) {
			return prefix == "" || ValidPart(prefix)
		}
		if !ValidPart(prefix[:i]) {
			return false
		}
		if prefix = prefix[i+1:]; prefix == "" {
			return true
		}
	}
}

// maxBuffered is how much content that cannot be read twice is held in memory.
const maxBuffered = 256 << 20

// Content is what a put sends, readable as often as its attempts need it.
type Content struct {
	io.ReaderAt
	Size int64
}

// Reader reads the content from its beginning.
func (c Content) Reader() *io.SectionReader { return io.NewSectionReader(c, 0, c.Size) }

// Load reads a body of exactly size bytes through, and keeps it in memory unless it
// can be read again where it is. What it reads goes to tee too.
func Load(ctx context.Context, size int64, body io.Reader, tee io.Writer) (Content, error) {
	c := Content{Size: size}
	again, ok := body.(interface {
		io.ReaderAt
		io.Seeker
	})
	if ok {
		start, err := again.Seek(0, io.SeekCurrent)
		if err != nil {
			return c, &BodyError{err}
		}
		c.ReaderAt = io.NewSectionReader(again, start, size)
		_, err = io.Copy(tee, Exactly(ctx, body, size))
		return c, err
	}
	if size > maxBuffered {
		return c, fmt.Errorf("%d bytes that cannot be read twice; %d are the most: %w", size, maxBuffered, ErrSize)
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(size, 0)))
	if _, err := io.Copy(io.MultiWriter(tee, buf), Exactly(ctx, body, size)); err != nil {
		return c, err
	}
	c.ReaderAt = bytes.NewReader(buf.Bytes())
	return c, nil
}
