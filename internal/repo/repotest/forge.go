package repotest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"sync"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/seal"
)

// Manifest writes a manifest as the specification says, without a writer: for places of
// many snapshots, whose packs nobody reads. Key and id are the caller's, so are lies.
func Manifest(repository, scope, id, previous string, created time.Time, packs []repo.PackRef, key seal.SigningKey) []byte {
	line, err := json.Marshal(map[string]any{
		"format": 1, "type": "manifest", "repository": repository, "scope": scope, "kind": "files", "id": id, "previous": previous,
		"created": created.UTC(), "files": 1, "bytes": 1000, "packs": packs, "root": map[string]int{"pack": 0, "segment": 0}, "signer": key.Name(),
	})
	if err != nil {
		panic(err) // plain values
	}
	return Signed(line, "manifest", key)
}

// Signed is a line and its signature.
func Signed(line []byte, domain string, key seal.SigningKey) []byte {
	out := append(line, '\n')
	out = base64.StdEncoding.AppendEncode(out, key.Sign(domain, line))
	return append(out, '\n')
}

// Counted counts what is asked of a store. A listing counts a request for each thousand
// objects, as object stores answer.
type Counted struct {
	repo.Store

	mu    sync.Mutex
	gets  int
	lists int
	other int
	bytes int64
}

// listPage is how many objects an object store lists in one answer.
const listPage = 1000

// Asked returns the requests since the last call, and how many bytes were read.
func (c *Counted) Asked() (gets, lists, other int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gets, lists, other, bytes = c.gets, c.lists, c.other, c.bytes
	c.gets, c.lists, c.other, c.bytes = 0, 0, 0, 0
	return gets, lists, other, bytes
}

// Unwrap implements what repo looks for: abilities of the store below.
func (c *Counted) Unwrap() repo.Store { return c.Store }

// Put implements repo.Store.
func (c *Counted) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	c.count(&c.other)
	return c.Store.Put(ctx, name, size, body)
}

// Get implements repo.Store.
func (c *Counted) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	c.count(&c.gets)
	r, err := c.Store.Get(ctx, name, off, n)
	return &countedBody{r, c}, err
}

// List implements repo.Store.
func (c *Counted) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	c.count(&c.lists)
	n := 0
	return c.Store.List(ctx, prefix, func(o repo.Object) error {
		if n++; n%listPage == 0 {
			c.count(&c.lists)
		}
		return fn(o)
	})
}

// Delete implements repo.Store.
func (c *Counted) Delete(ctx context.Context, name string) error {
	c.count(&c.other)
	return c.Store.Delete(ctx, name)
}

func (c *Counted) count(what *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*what++
}

type countedBody struct {
	io.ReadCloser
	c *Counted
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	b.c.bytes += int64(n)
	return n, err
}
