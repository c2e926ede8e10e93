// Package s3 is a location in a bucket of an S3-compatible object store.
//
// An object is written by one conditional request ("If-None-Match: *"), so it
// appears whole or not at all and never replaces another. The place must honour
// that condition: before the first object is written, a Store tries it on the
// repository's marker and refuses a place that would overwrite.
//
// # Invariants
//
//   - What Put acknowledged was taken by the server with the SHA-256 that it had
//     here. What it refused as fs.ErrExist is there.
//   - A request whose answer was lost is neither a success nor a failure: the
//     object is read back and compared before Put answers.
//   - Nothing is written or listed while the bucket has no repository marker under
//     the prefix, or another one than at first, and no object is said to be missing
//     there. The marker is looked at again at least every witnessFor.
//   - A listing ends with the server's own end mark, in order, or with an error.
//   - Every request ends: after Config.Timeout without an answer or a byte, the
//     place counts as unreachable.
//   - The connection is TLS 1.2 or newer. Plain HTTP never leaves this machine, and is
//     for who declares it.
//
// # What an attacker who has the credentials can do
//
// What the bucket's policy and lock leave: with a policy that denies deletion, or
// with object lock in compliance mode, add objects and versions but destroy none.
// A newer version laid over an object changes nothing: where the credentials may list
// versions, the first one is read. Without either: delete everything.
package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast"
	"holdfast/internal/location"
)

// A Style says where the name of the bucket stands in an address.
type Style string

// The styles. StyleAuto takes what the endpoint is known to want: the host for
// Amazon and a few others, else the path.
const (
	StyleAuto Style = ""
	StylePath Style = "path" // https://endpoint/bucket/object
	StyleHost Style = "host" // https://bucket.endpoint/object
)

// Config says which bucket, and how it is reached.
type Config struct {
	// Endpoint is an address such as "https://s3.eu-central-1.amazonaws.com".
	// Without a scheme it is https.
	Endpoint string
	Region   string // defaults to DefaultRegion
	Bucket   string
	Prefix   string // objects are kept under it; without slashes at its ends
	Style    Style

	// CredentialsFile holds the access key: see [Credentials]. Without it the
	// environment does.
	CredentialsFile string
	// CAFile holds the certificates, in PEM form, of the only authorities that may
	// vouch for the server. Without it the system's do.
	CAFile string
	// Insecure allows plain HTTP to a server on this machine; to another one nothing does.
	Insecure bool
	// MinTLS is the oldest version of TLS that is spoken. It cannot be lower than
	// location.MinTLS, which is what zero means.
	MinTLS uint16

	// Retain locks every object against deletion by anybody until this long after
	// it was written (object lock, compliance mode). Zero leaves it to the bucket.
	Retain time.Duration

	// WriteOnly is for credentials that may put and nothing else: the marker is not looked
	// at, and whether the place keeps put-if-absent is not tried.
	WriteOnly bool

	// Timeout ends a request in which nothing moves. Defaults to DefaultTimeout.
	Timeout time.Duration

	// Clock tells the time, for retention. Defaults to time.Now.
	Clock func() time.Time

	page int // objects in one answer to a listing; 0 is the most

	// dial replaces the network's; tests resolve names of buckets with it.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Defaults and limits.
const (
	DefaultRegion  = "us-east-1"
	DefaultTimeout = time.Minute

	maxObject   = 5 << 30 // one put request, by the protocol
	maxMarker   = 64 << 10
	maxVersions = 100 // versions of one name that one Delete removes
	pageSize    = 1000

	attempts    = 4 // of one request that a busy place turned away
	firstPause  = 250 * time.Millisecond
	witnessFor  = 10 * time.Second
	maxIdle     = 16
	idleFor     = 90 * time.Second
	dialTimeout = 10 * time.Second
)

// A Store keeps objects in a bucket. It may be used concurrently, also by several
// processes.
type Store struct {
	cfg    Config
	client *minio.Client
	wire   *wire
	needs5 atomic.Bool // the place wants an MD5 of what it locks

	mu       sync.Mutex
	etag     string    // the marker's, when its content was last compared
	marker   []byte    // the marker's content, once seen
	seen     time.Time // when it was last seen, by the monotonic clock
	honoured bool      // a conditional put was refused as it should be
	firsts   map[string]string

	newestOnly atomic.Bool // the credentials may not list versions
}

// New returns the location in a bucket. It asks nobody: a place may come back.
func New(cfg Config) (*Store, error) {
	host, secure, err := cfg.endpoint()
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.page <= 0 {
		cfg.page = pageSize
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.Prefix = strings.Trim(cfg.Prefix, "/")
	s := &Store{cfg: cfg}
	if cfg.Bucket == "" {
		return nil, s.usage("name the bucket", "no bucket given")
	}
	if s.wire, err = newWire(cfg); err != nil {
		return nil, s.explain("open", "", err)
	}
	lookup := map[Style]minio.BucketLookupType{StyleAuto: minio.BucketLookupAuto, StylePath: minio.BucketLookupPath, StyleHost: minio.BucketLookupDNS}
	way, ok := lookup[cfg.Style]
	if !ok {
		return nil, s.usage("write path or host", "unknown style %q", cfg.Style)
	}
	s.client, err = minio.New(host, &minio.Options{
		Creds: credentials.New(&keys{file: cfg.CredentialsFile}), Secure: secure, Region: cfg.Region, BucketLookup: way, Transport: s.wire,
		// A repeated put would meet its own object and take it for another's.
		MaxRetries: 1,
	})
	if err != nil {
		return nil, s.usage("check the endpoint in the plan", "%v", err)
	}
	return s, nil
}

// endpoint checks the address and takes it apart.
func (c Config) endpoint() (host string, secure bool, err error) {
	s := &Store{cfg: c}
	text := c.Endpoint
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", false, s.usage("write an address such as https://s3.example.com", "not the address of an object store")
	}
	switch {
	case u.Scheme == "https":
	case !location.OnThisMachine(u.Hostname()):
		return "", false, s.weak("use https; \"ca_file\" takes a certificate of your own authority", "plain http to another machine, and TLS 1.2 is the least")
	case !c.Insecure:
		return "", false, s.weak("use https, or declare \"insecure: true\" for this server on this machine", "plain http, and TLS 1.2 is the least")
	}
	return u.Host, u.Scheme == "https", nil
}

// weak is a line that nothing is sent over.
func (s *Store) weak(hint, why string) error {
	return holdfast.WithHint(fmt.Errorf("location %q: %w: %s: %w", s.String(), location.ErrWeak, why, holdfast.ErrUsage), "%s", hint)
}

func (s *Store) usage(hint, format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf("location %q: %s: %w", s.String(), fmt.Sprintf(format, args...), holdfast.ErrUsage), "%s", hint)
}

// String is the address of the place, without credentials.
func (s *Store) String() string {
	a := strings.TrimSuffix(s.cfg.Endpoint, "/") + "/" + s.cfg.Bucket
	if s.cfg.Prefix != "" {
		a += "/" + s.cfg.Prefix
	}
	return a
}

// Close lets go of idle connections. The Store can still be used.
func (s *Store) Close() { s.wire.CloseIdleConnections() }

// Line is how the place was reached for the last answer that it gave.
func (s *Store) Line() location.Line { return s.wire.used() }

// key is where an object is kept in the bucket.
func (s *Store) key(name string) string {
	if s.cfg.Prefix == "" {
		return name
	}
	return s.cfg.Prefix + "/" + name
}

// begin checks the name, and that the place is the one it was.
func (s *Store) begin(ctx context.Context, verb, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if verb != "list" {
		if err := location.CheckName(name); err != nil {
			return s.explain(verb, name, err)
		}
		if name == location.Marker || s.cfg.WriteOnly && verb == "put" {
			return nil
		}
	}
	// A listing that finds nothing is an answer about the place, so the place is
	// looked at; a put needs to know it only now and then.
	if err := s.witness(ctx, verb == "list"); err != nil {
		return s.explain(verb, name, err)
	}
	return nil
}

// witness checks the marker, at most every witnessFor unless it must be now.
func (s *Store) witness(ctx context.Context, now bool) error {
	s.mu.Lock()
	fresh := s.marker != nil && time.Since(s.seen) < witnessFor
	known := s.etag
	s.mu.Unlock()
	if fresh && !now {
		return nil
	}
	var tag string
	var content []byte
	err := s.retry(ctx, func(ctx context.Context) error {
		info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(location.Marker), minio.StatObjectOptions{})
		// An answer to HEAD has no body, so a refusal does not say why: ask by GET.
		if e, ok := answer(err); err != nil && !(ok && e.StatusCode == http.StatusForbidden) {
			return err
		}
		tag, content = info.ETag, nil
		if err == nil && known != "" && tag == known {
			return nil
		}
		r, err := s.open(ctx, location.Marker, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		content, err = io.ReadAll(io.LimitReader(r, maxMarker+1))
		return err
	})
	switch {
	case absent(err):
		// Not fs.ErrNotExist: that would read as "this object is not stored".
		return fmt.Errorf("%w: %q is missing", location.ErrUnreachable, location.Marker)
	case err != nil:
		return err
	case len(content) > maxMarker:
		return fmt.Errorf("%w: %q has more than %d bytes", location.ErrUnreachable, location.Marker, maxMarker)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if content != nil {
		if s.marker != nil && !bytes.Equal(s.marker, content) {
			return fmt.Errorf("%w: another repository is there now", location.ErrUnreachable)
		}
		s.marker, s.etag = content, tag
	}
	s.seen = time.Now()
	return nil
}

func (s *Store) core() minio.Core { return minio.Core{Client: s.client} }

// honour makes sure that the place refuses to overwrite, before something is
// written on the strength of it. It puts the marker over itself: a place that
// accepts that has changed nothing, and is not used.
func (s *Store) honour(ctx context.Context) error {
	s.mu.Lock()
	honoured, marker := s.honoured, s.marker
	s.mu.Unlock()
	if honoured {
		return nil
	}
	c, err := load(ctx, int64(len(marker)), bytes.NewReader(marker))
	if err != nil {
		return err
	}
	err = s.retry(ctx, func(ctx context.Context) error { return s.putOnce(ctx, location.Marker, c) })
	switch {
	case err == nil:
		return fmt.Errorf("%w: it ignores \"If-None-Match\"", location.ErrOverwrites)
	case !exists(err):
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.honoured = true
	return nil
}

// content is what a put sends, with the hash that the server checks.
type content struct {
	location.Content
	sha256 [sha256.Size]byte
}

func load(ctx context.Context, size int64, body io.Reader) (content, error) {
	if size > maxObject {
		return content{}, fmt.Errorf("%d bytes in one object; %d are the most: %w", size, int64(maxObject), location.ErrSize)
	}
	hash := sha256.New()
	c, err := location.Load(ctx, size, body, hash)
	return content{c, [sha256.Size]byte(hash.Sum(nil))}, err
}

// Put implements repo.Store.
//
// A crash here leaves nothing or a whole object: the server publishes an object
// when it has all of it and its hash is right.
func (s *Store) Put(ctx context.Context, name string, size int64, body io.Reader) error {
	if err := s.begin(ctx, "put", name); err != nil {
		return err
	}
	if name != location.Marker && !s.cfg.WriteOnly {
		if err := s.honour(ctx); err != nil {
			return s.explain("put", name, err)
		}
	}
	c, err := load(ctx, size, body)
	if err != nil {
		return s.explain("put", name, err)
	}
	if err := s.put(ctx, name, c); err != nil {
		return s.explain("put", name, err)
	}
	return nil
}

// put sends the content until it knows what became of it.
func (s *Store) put(ctx context.Context, name string, c content) error {
	for i, unknown := 0, false; ; i++ {
		err := s.putOnce(ctx, name, c)
		switch {
		case err == nil:
			return nil
		case exists(err) && (!unknown || s.cfg.WriteOnly):
			return fs.ErrExist
		case ctx.Err() != nil:
			return ctx.Err()
		case !exists(err) && refused(err):
			return err
		}
		// It was not heard whether an attempt took effect, this one or one before.
		unknown = true
		same, cerr := false, error(nil)
		if !s.cfg.WriteOnly {
			same, cerr = s.holds(ctx, name, c)
		}
		switch {
		case s.cfg.WriteOnly: // nobody to ask: the next attempt tells
		case same:
			return nil
		case cerr == nil:
			return fs.ErrExist // something else is there
		case !absent(cerr):
			return fmt.Errorf("%w; and what became of it is not known: %w", err, cerr)
		}
		if i+1 == attempts {
			return err
		}
		if perr := pause(ctx, i); perr != nil {
			return perr
		}
	}
}

// putOnce sends one request.
func (s *Store) putOnce(ctx context.Context, name string, c content) error {
	ctx, w := watch(ctx, s.cfg.Timeout)
	defer w.stop()
	opts := minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true, ContentType: "application/octet-stream"}
	opts.SetMatchETagExcept("*")
	sum5 := ""
	if s.cfg.Retain > 0 || s.needs5.Load() { // what is locked must be right, says the protocol
		if s.cfg.Retain > 0 {
			opts.Mode, opts.RetainUntilDate = minio.Compliance, s.cfg.Clock().Add(s.cfg.Retain).UTC()
		}
		h := md5.New()
		if _, err := io.Copy(h, c.Reader()); err != nil {
			return &location.BodyError{Err: err}
		}
		sum5 = base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	body := &watched{r: c.Reader(), w: w}
	_, err := s.core().PutObject(ctx, s.cfg.Bucket, s.key(name), body, c.Size, sum5, hex.EncodeToString(c.sha256[:]), opts)
	if wants5(err) && !s.needs5.Swap(true) {
		return s.putOnce(ctx, name, c)
	}
	return w.cause(err)
}

// holds reports whether the object is there with this content.
func (s *Store) holds(ctx context.Context, name string, c content) (bool, error) {
	r, err := s.open(ctx, name, 0, -1)
	if err != nil {
		return false, err
	}
	defer r.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(r, c.Size+1))
	if err != nil {
		return false, err
	}
	return n == c.Size && bytes.Equal(hash.Sum(nil), c.sha256[:]), nil
}

// Get implements repo.Store.
func (s *Store) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := location.CheckName(name); err != nil {
		return nil, s.explain("get", name, err)
	}
	if off < 0 {
		return nil, s.explain("get", name, fmt.Errorf("offset %d: %w", off, fs.ErrInvalid))
	}
	r, err := s.open(ctx, name, off, n)
	if absent(err) && name != location.Marker {
		// Is it the object that is not there, or the place?
		if werr := s.witness(ctx, true); werr != nil {
			err = werr
		}
	}
	if err != nil {
		return nil, s.explain("get", name, err)
	}
	return r, nil
}

// open starts reading a range.
func (s *Store) open(ctx context.Context, name string, off, n int64) (*objectReader, error) {
	r := &objectReader{s: s, ctx: ctx, name: name, off: off, left: n}
	if n == 0 || n < 0 && off > 0 {
		// The protocol has no empty range, and no way to ask for what is behind the end.
		var size int64
		err := s.retry(ctx, func(ctx context.Context) error {
			info, err := s.statFirst(ctx, name)
			size = info.Size
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case off > size:
			return nil, fmt.Errorf("begins %d bytes behind the end: %w", off-size, io.ErrUnexpectedEOF)
		case n < 0:
			r.left = size - off
		}
		if r.left == 0 {
			return r, nil
		}
	}
	return r, s.retry(ctx, func(context.Context) error { return r.connect() })
}

func (s *Store) stat(ctx context.Context, name string) (size int64, version string, err error) {
	err = s.retry(ctx, func(ctx context.Context) error {
		info, err := s.client.StatObject(ctx, s.cfg.Bucket, s.key(name), minio.StatObjectOptions{})
		size, version = info.Size, info.VersionID
		return err
	})
	return size, version, err
}

// objectReader reads a range, goes on where a broken connection ended, and takes an
// early end for damage.
type objectReader struct {
	s    *Store
	ctx  context.Context
	name string
	off  int64 // of the next byte
	left int64 // before the end; negative until the first answer said
	body io.ReadCloser
	w    *watcher
	tag  string // the object that was begun
	lost int    // connections that broke

	version string // the first one, if it is not the newest
}

// connect asks for the rest of the range.
func (r *objectReader) connect() error {
	ctx, w := watch(r.ctx, r.s.cfg.Timeout)
	var opts minio.GetObjectOptions
	ranged := r.left > 0
	if ranged {
		if err := opts.SetRange(r.off, r.off+r.left-1); err != nil {
			w.stop()
			return err
		}
	}
	opts.VersionID = r.version
	body, info, header, err := r.s.core().GetObject(ctx, r.s.cfg.Bucket, r.s.key(r.name), opts)
	if again, ferr := r.connectFirst(err, info.VersionID); again || ferr != nil {
		if err == nil {
			body.Close()
		}
		w.stop()
		if again {
			return r.connect()
		}
		return w.cause(ferr)
	}
	got := header.Get("Content-Range")
	switch {
	case ranged && !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", r.off)):
		err = fmt.Errorf("asked for bytes from %d, the place sent %q: %w", r.off, got, fs.ErrInvalid)
	case r.tag != "" && r.tag != info.ETag:
		err = fmt.Errorf("changed while it was read: %w", fs.ErrInvalid)
	}
	if err != nil {
		body.Close()
		w.stop()
		return err
	}
	if !ranged {
		r.left = info.Size
	}
	w.pause()
	r.body, r.w, r.tag = body, w, info.ETag
	return nil
}

func (r *objectReader) Read(p []byte) (int, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		if r.left == 0 {
			return 0, io.EOF
		}
		if len(p) == 0 {
			return 0, nil
		}
		if int64(len(p)) > r.left {
			p = p[:r.left]
		}
		r.w.kick()
		n, err := r.body.Read(p)
		r.w.pause()
		r.off, r.left = r.off+int64(n), r.left-int64(n)
		switch {
		case err == nil || r.left == 0:
			return n, nil
		case r.ctx.Err() != nil:
			return n, r.ctx.Err()
		case err == io.EOF:
			return n, r.s.explain("get", r.name, fmt.Errorf("ends %d bytes early: %w", r.left, io.ErrUnexpectedEOF))
		}
		err = r.w.cause(err)
		r.end()
		if r.lost++; r.lost == attempts {
			return n, r.s.explain("get", r.name, err)
		}
		// Objects never change, so the rest can be asked for anew.
		if cerr := r.s.retry(r.ctx, func(context.Context) error { return r.connect() }); cerr != nil {
			return n, r.s.explain("get", r.name, errors.Join(err, cerr))
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (r *objectReader) end() {
	if r.body != nil {
		r.body.Close()
		r.w.stop()
		r.body = nil
	}
}

func (r *objectReader) Close() error {
	r.end()
	r.left = 0
	return nil
}

// Delete implements repo.Store. It removes the object for good, with every version
// of it, and is refused while one of them is locked: an object that is only hidden
// costs as much and can be brought back by nobody who does not know.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := s.begin(ctx, "delete", name); err != nil {
		return err
	}
	for i := range maxVersions {
		_, version, err := s.stat(ctx, name)
		if absent(err) && i > 0 {
			s.forget(name)
			return nil
		}
		if absent(err) && name != location.Marker {
			if werr := s.witness(ctx, true); werr != nil {
				err = werr
			}
		}
		if err == nil {
			err = s.retry(ctx, func(ctx context.Context) error {
				return s.client.RemoveObject(ctx, s.cfg.Bucket, s.key(name), minio.RemoveObjectOptions{VersionID: version})
			})
		}
		if err != nil {
			return s.explain("delete", name, err)
		}
		if version == "" {
			s.forget(name)
			return nil
		}
	}
	return s.explain("delete", name, fmt.Errorf("it has more than %d versions: %w", maxVersions, fs.ErrInvalid))
}

// retry repeats a request that changes nothing when it is repeated, while the place
// turns it away for its own reasons.
func (s *Store) retry(ctx context.Context, f func(ctx context.Context) error) error {
	for i := 0; ; i++ {
		err := func() error {
			ctx, w := watch(ctx, s.cfg.Timeout)
			defer w.stop()
			return w.cause(f(ctx))
		}()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err) || i+1 == attempts || errors.Is(err, errStalled):
			return err
		}
		if err := pause(ctx, i); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt, each time twice as long.
func pause(ctx context.Context, i int) error {
	t := time.NewTimer(firstPause << min(i, 5))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

var _ http.RoundTripper = (*wire)(nil)

// MakeBucket makes the bucket of a new place, with object lock and so with versions
// if lock says so. A bucket of ours that is there stays as it is.
func MakeBucket(ctx context.Context, cfg Config, lock bool) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, w := watch(ctx, s.cfg.Timeout)
	defer w.stop()
	there, err := s.client.BucketExists(ctx, s.cfg.Bucket)
	if err == nil && !there {
		err = s.client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region, ObjectLocking: lock})
		if e, ok := answer(err); ok && e.Code == "BucketAlreadyOwnedByYou" {
			err = nil // another one made it at the same moment
		}
	}
	if err != nil {
		return s.explain("make bucket", "", w.cause(err))
	}
	return nil
}
