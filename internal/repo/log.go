package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/seal"
)

// Layout of a log piece; docs/format/repository.md, section 9.
const (
	logMagic      = "HFLOG01\n"
	maxLogHeader  = 64 << 10
	maxLogPiece   = maxPlain
	maxNamed      = 16 << 20
	logPeek       = 4 << 10 // enough for nearly every header
	signatureLen  = 64
	typePiece     = "piece"
	typeNamed     = "named"
	maxLogSealed  = maxLogPiece + seal.Overhead
	maxLogObject  = 8 + 4 + maxLogHeader + 4 + seal.MaxWrapped + 4 + maxLogSealed + signatureLen
	logCompressed = Zstd
)

// A LogPiece is a run of a transaction log, from Start up to and without End. What
// the positions mean is the source's business; a piece has End - Start bytes.
type LogPiece struct {
	Scope      string
	Lineage    string // which history the positions belong to, e.g. a system identifier
	Timeline   uint32
	Start, End uint64
	LastRecord uint64    // end of the last complete record in the piece
	LastCommit time.Time // of the last commit in it; zero: there is none
	Created    time.Time
	Previous   string // what the writer says came before; free text
}

// A LogInfo is what a piece's name tells.
type LogInfo struct {
	Scope      string
	Lineage    string
	Timeline   uint32
	Start, End uint64
	Size       int64 // of the object
	Name       string
}

// LogKeys are what writing a log takes: who can read it, and who signs.
type LogKeys struct {
	Recipients []seal.Recipient
	AllowOne   bool
	Signer     seal.SigningKey
}

// logHeader is the clear part of a piece or a named file.
type logHeader struct {
	Format     int        `json:"format"`
	Type       string     `json:"type"`
	Repository string     `json:"repository"`
	Scope      string     `json:"scope"`
	Lineage    string     `json:"lineage"`
	Name       string     `json:"name,omitempty"`
	Timeline   uint32     `json:"timeline,omitempty"`
	Start      string     `json:"start,omitempty"`
	End        string     `json:"end,omitempty"`
	LastRecord string     `json:"last_record,omitempty"`
	LastCommit *time.Time `json:"last_commit,omitempty"`
	Created    time.Time  `json:"created,omitzero"`
	Previous   string     `json:"previous,omitempty"`
	Codec      uint8      `json:"codec"`
	Plain      int        `json:"plain"`
	Match      string     `json:"match"`
	Signer     string     `json:"signer"`
}

var logNamePattern = regexp.MustCompile(`^logs/([^/]+)/([^/]+)/([0-9a-f]{8})/([0-9a-f]{16})-([0-9a-f]{16})$`)

func logName(p LogPiece) string {
	return fmt.Sprintf("logs/%s/%s/%08x/%016x-%016x", p.Scope, p.Lineage, p.Timeline, p.Start, p.End)
}

func namedName(scope, lineage, name string) string {
	return "logs/" + scope + "/" + lineage + "/" + name
}

// ParseLog reads the name of a piece; ok is false for other objects.
func ParseLog(o Object) (l LogInfo, ok bool) { return parseLogName(o) }

func parseLogName(o Object) (LogInfo, bool) {
	m := logNamePattern.FindStringSubmatch(o.Name)
	if m == nil {
		return LogInfo{}, false
	}
	tl, err1 := strconv.ParseUint(m[3], 16, 32)
	start, err2 := strconv.ParseUint(m[4], 16, 64)
	end, err3 := strconv.ParseUint(m[5], 16, 64)
	if err1 != nil || err2 != nil || err3 != nil || start >= end {
		return LogInfo{}, false
	}
	return LogInfo{m[1], m[2], uint32(tl), start, end, o.Size, o.Name}, true
}

// PutLog stores a piece. The same piece again is no error; other bytes for the same
// range are ErrConflict.
//
// A crash leaves the piece whole or absent. After an unknown outcome it re-reads
// before it decides.
func (r *Repository) PutLog(ctx context.Context, p LogPiece, data []byte, keys LogKeys) error {
	if p.Start >= p.End || uint64(len(data)) != p.End-p.Start || len(data) > maxLogPiece {
		return fmt.Errorf("log piece %x-%x with %d bytes: want as many bytes as positions, up to %d: %w", p.Start, p.End, len(data), maxLogPiece, ErrLimit)
	}
	h := logHeader{
		Type: typePiece, Scope: p.Scope, Lineage: p.Lineage, Timeline: p.Timeline, Start: hex16(p.Start), End: hex16(p.End),
		LastRecord: hex16(p.LastRecord), Created: p.Created.UTC(), Previous: p.Previous,
	}
	if !p.LastCommit.IsZero() {
		t := p.LastCommit.UTC()
		h.LastCommit = &t
	}
	return r.putSealed(ctx, logName(p), h, data, keys)
}

// PutNamed stores a small named file of a log, such as a timeline's history, sealed
// like a piece. The same content again is no error, other content is ErrConflict.
func (r *Repository) PutNamed(ctx context.Context, scope, lineage, name string, data []byte, keys LogKeys) error {
	if err := checkPart("name", name); err != nil {
		return err
	}
	if len(data) == 0 || len(data) > maxNamed {
		return fmt.Errorf("named file %q of %d bytes: want 1 to %d: %w", name, len(data), maxNamed, ErrLimit)
	}
	h := logHeader{Type: typeNamed, Scope: scope, Lineage: lineage, Name: name}
	return r.putSealed(ctx, namedName(scope, lineage, name), h, data, keys)
}

func (r *Repository) putSealed(ctx context.Context, name string, h logHeader, data []byte, keys LogKeys) error {
	if err := errors.Join(checkPart("scope", h.Scope), checkPart("lineage", h.Lineage), checkRecipients(keys.Recipients, keys.AllowOne)); err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	// Only the signer can make this value, so it tells a stranger nothing about the
	// content, and tells the signer whether it stored the same before.
	content := seal.Hash(data)
	match := seal.Hash(keys.Signer.Sign(domainMatch, content[:]))
	h.Format, h.Repository, h.Plain, h.Match, h.Signer = formatOne, r.id, len(data), hex.EncodeToString(match[:16]), keys.Signer.Name()
	object, err := sealLog(r.id, name, h, data, keys)
	if err != nil {
		return fmt.Errorf("put %q: %w", name, err)
	}
	for range putAttempts {
		if err = r.store.Put(ctx, name, int64(len(object)), bytes.NewReader(object)); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// All of it is read: a place that tore the put leaves a header that is ours and
		// half of the rest.
		there, rerr := r.storedLog(ctx, name)
		switch {
		case rerr == nil && there.Match == h.Match && there.Plain == h.Plain:
			return nil
		case rerr == nil:
			return fmt.Errorf("put %q: signed by %q: %w", name, there.Signer, ErrConflict)
		case !errors.Is(rerr, fs.ErrNotExist):
			return fmt.Errorf("put %q: %w", name, errors.Join(err, rerr))
		}
	}
	return fmt.Errorf("put %q: %w", name, err)
}

// storedLog reads the header of a log object that is there as a whole.
func (r *Repository) storedLog(ctx context.Context, name string) (logHeader, error) {
	b, err := readObject(ctx, r.store, name, maxLogObject)
	if err != nil {
		return logHeader{}, err
	}
	p, err := splitLog(b, r.id, name, nil)
	if err != nil {
		return logHeader{}, fmt.Errorf("%q: %w", name, err)
	}
	return p.logHeader, nil
}

func sealLog(repository, name string, h logHeader, data []byte, keys LogKeys) ([]byte, error) {
	stored, code := compress(nil, data, logCompressed)
	h.Codec = code
	j, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(j) > maxLogHeader {
		return nil, fmt.Errorf("header of %d bytes: %w", len(j), ErrLimit)
	}
	key := seal.NewKey()
	wrapped, err := seal.Wrap(key, keys.Recipients)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(logMagic)+4+len(j)+4+len(wrapped)+4+len(stored)+seal.Overhead+signatureLen)
	b = append(b, logMagic...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(j))), j...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(wrapped))), wrapped...)
	box := seal.NewBox(key, logContext(repository, name, b))
	b = binary.BigEndian.AppendUint32(b, uint32(len(stored)+seal.Overhead))
	b = box.Seal(b, 0, stored)
	sum := seal.Hash(b)
	return append(b, keys.Signer.Sign(domainLog, sum[:])...), nil
}

func logContext(repository, name string, before []byte) []byte {
	return []byte("holdfast/1 log\n" + repository + "\n" + name + "\n" + hexHash(before))
}

// parseLogHeader reads the clear part at the start of b and returns its length.
func parseLogHeader(b []byte) (h logHeader, n int, err error) {
	const fixed = len(logMagic) + 4
	if len(b) < fixed {
		return h, 0, fmt.Errorf("log piece of %d bytes: %w", len(b), ErrDamaged)
	}
	if string(b[:len(logMagic)]) != logMagic {
		if string(b[:len(packMagic)]) == packMagic {
			return h, 0, fmt.Errorf("a pack where a log piece belongs: %w", ErrKind)
		}
		return h, 0, fmt.Errorf("log piece: magic: %w", ErrDamaged)
	}
	j := binary.BigEndian.Uint32(b[len(logMagic):])
	if j == 0 || j > maxLogHeader {
		return h, 0, fmt.Errorf("log piece: header of %d bytes: %w", j, ErrDamaged)
	}
	if int(j) > len(b)-fixed {
		return h, fixed + int(j), errShort
	}
	if err := json.Unmarshal(b[fixed:fixed+int(j)], &h); err != nil {
		return h, 0, fmt.Errorf("log piece: header: %v: %w", err, ErrDamaged)
	}
	if h.Format != formatOne {
		return h, 0, fmt.Errorf("log piece: format %d: %w", h.Format, ErrFormat)
	}
	return h, fixed + int(j), nil
}

var errShort = fmt.Errorf("log piece ends in its header: %w", ErrDamaged)

// check compares a header with the name under which its object was fetched.
func (h *logHeader) check(repository, name string) error {
	if h.Repository != repository {
		return fmt.Errorf("%q: of repository %q: %w", name, h.Repository, ErrForeign)
	}
	limit, want := maxNamed, namedName(h.Scope, h.Lineage, h.Name)
	isPiece := logNamePattern.MatchString(name)
	if isPiece != (h.Type == typePiece) || !isPiece && h.Type != typeNamed {
		return fmt.Errorf("%q holds a %q: %w", name, h.Type, ErrKind)
	}
	if isPiece {
		p, err := h.piece()
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		limit, want = maxLogPiece, logName(p)
		if uint64(h.Plain) != p.End-p.Start {
			return fmt.Errorf("%q: %d bytes: %w", name, h.Plain, ErrDamaged)
		}
	}
	if want != name {
		return fmt.Errorf("%q holds %q: %w", name, want, ErrSubstituted)
	}
	if h.Plain < 1 || h.Plain > limit {
		return fmt.Errorf("%q: %d bytes: %w", name, h.Plain, ErrLimit)
	}
	return nil
}

func (h *logHeader) piece() (LogPiece, error) {
	p := LogPiece{Scope: h.Scope, Lineage: h.Lineage, Timeline: h.Timeline, Created: h.Created, Previous: h.Previous}
	var err1, err2, err3 error
	p.Start, err1 = strconv.ParseUint(h.Start, 16, 64)
	p.End, err2 = strconv.ParseUint(h.End, 16, 64)
	p.LastRecord, err3 = strconv.ParseUint(h.LastRecord, 16, 64)
	if h.LastCommit != nil {
		p.LastCommit = *h.LastCommit
	}
	if err := errors.Join(err1, err2, err3); err != nil || p.Start >= p.End {
		return p, fmt.Errorf("positions %q to %q: %w", h.Start, h.End, ErrDamaged)
	}
	return p, nil
}

// logHeaderAt reads the clear part of an object that lies at at and belongs at name,
// and little more if its size is known.
func (r *Repository) logHeaderAt(ctx context.Context, at, name string, size int64) (logHeader, error) {
	for want := int64(logPeek); ; {
		n := int64(-1)
		if size >= 0 {
			n = min(want, size)
		}
		rc, err := r.store.Get(ctx, at, 0, n)
		if err != nil {
			return logHeader{}, fmt.Errorf("read %q: %w", at, err)
		}
		b, err := io.ReadAll(io.LimitReader(rc, want))
		_ = rc.Close() // only read from
		if err != nil {
			return logHeader{}, fmt.Errorf("read %q: %w", at, err)
		}
		h, need, err := parseLogHeader(b)
		if errors.Is(err, errShort) && int64(need) > want && int64(len(b)) == want {
			want = int64(need) // parseLogHeader bounds it, and it is enough
			continue
		}
		if err != nil {
			return logHeader{}, fmt.Errorf("%q: %w", at, err)
		}
		return h, h.check(r.id, name)
	}
}

// A NamedInfo is what the name of a named file tells.
type NamedInfo struct {
	Scope   string
	Lineage string
	Name    string
	Size    int64 // of the object
}

func parseNamed(o Object) (NamedInfo, bool) {
	parts := strings.Split(o.Name, "/")
	if len(parts) != 4 || parts[0] != "logs" || errors.Join(checkPart("scope", parts[1]), checkPart("lineage", parts[2]), checkPart("name", parts[3])) != nil {
		return NamedInfo{}, false
	}
	return NamedInfo{parts[1], parts[2], parts[3], o.Size}, true
}

// Logs lists the pieces of a scope from their names alone, by lineage, timeline and
// position.
func (r *Repository) Logs(ctx context.Context, scope string) ([]LogInfo, error) {
	all, _, err := r.ListLog(ctx, scope)
	return all, err
}

// ListLog is Logs with the named files, from one listing.
func (r *Repository) ListLog(ctx context.Context, scope string) ([]LogInfo, []NamedInfo, error) {
	if err := checkPart("scope", scope); err != nil {
		return nil, nil, err
	}
	var all []LogInfo
	var named []NamedInfo
	err := r.store.List(ctx, "logs/"+scope+"/", func(o Object) error {
		if l, ok := parseLogName(o); ok {
			all = append(all, l)
		} else if n, ok := parseNamed(o); ok {
			named = append(named, n)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list logs of %q: %w", scope, err)
	}
	return all, named, nil
}

// Named lists the named files of a scope's lineage.
func (r *Repository) Named(ctx context.Context, scope, lineage string) ([]string, error) {
	if err := errors.Join(checkPart("scope", scope), checkPart("lineage", lineage)); err != nil {
		return nil, err
	}
	prefix := namedName(scope, lineage, "")
	var all []string
	err := r.store.List(ctx, prefix, func(o Object) error {
		if name := strings.TrimPrefix(o.Name, prefix); checkPart("name", name) == nil {
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list logs of %q: %w", scope, err)
	}
	return all, nil
}

// LogHeader reads what a piece says of itself in the clear. It needs no key, so it
// is a claim until ReadLog has opened the piece.
func (r *Repository) LogHeader(ctx context.Context, l LogInfo) (LogPiece, error) {
	var p LogPiece
	err := r.instead(ctx, l.Name, func(at string) error {
		size := l.Size
		if at != l.Name {
			size = -1
		}
		h, err := r.logHeaderAt(ctx, at, l.Name, size)
		if err == nil {
			p, err = h.piece()
		}
		return err
	})
	return p, err
}

// ReadLog reads a piece.
func (r *Repository) ReadLog(ctx context.Context, l LogInfo, ids ...seal.Identity) ([]byte, LogPiece, error) {
	h, data, err := r.readSealed(ctx, l.Name, ids)
	if err != nil {
		return nil, LogPiece{}, err
	}
	p, err := h.piece()
	return data, p, err
}

// ReadNamed reads a named file.
func (r *Repository) ReadNamed(ctx context.Context, scope, lineage, name string, ids ...seal.Identity) ([]byte, error) {
	if err := errors.Join(checkPart("scope", scope), checkPart("lineage", lineage), checkPart("name", name)); err != nil {
		return nil, err
	}
	_, data, err := r.readSealed(ctx, namedName(scope, lineage, name), ids)
	return data, err
}

func (r *Repository) readSealed(ctx context.Context, name string, ids []seal.Identity) (logHeader, []byte, error) {
	var h logHeader
	var data []byte
	err := r.instead(ctx, name, func(at string) error {
		b, err := readObject(ctx, r.store, at, maxLogObject)
		if err != nil {
			return err
		}
		p, err := splitLog(b, r.id, name, r.trust)
		if err == nil {
			err = r.unwrap(ctx, p.Scope, name, p.wrapped, ids, func(key seal.Key) (err error) {
				data, err = p.open(r.id, name, key)
				return err
			})
		}
		if h = p.logHeader; err != nil {
			return fmt.Errorf("%q: %w", at, err)
		}
		return nil
	})
	if err != nil {
		return logHeader{}, nil, err
	}
	return h, data, nil
}

// logParts are the parts of a whole log object.
type logParts struct {
	logHeader
	wrapped, before, sealed []byte
}

// open opens the content.
func (p *logParts) open(repository, name string, key seal.Key) ([]byte, error) {
	stored, err := seal.NewBox(key, logContext(repository, name, p.before)).Open(nil, 0, p.sealed)
	if err != nil {
		return nil, fmt.Errorf("content: %w", ErrDamaged)
	}
	return decompress(nil, stored, p.Codec, p.Plain)
}

// splitLog takes a whole log object apart and checks all of it that needs no key: the
// signature too, if there is somebody to trust.
func splitLog(b []byte, repository, name string, trust []seal.VerifyKey) (logParts, error) {
	h, n, err := parseLogHeader(b)
	p := logParts{logHeader: h}
	if err != nil {
		return p, err
	}
	if err := h.check(repository, name); err != nil {
		return p, err
	}
	var ok, ok2 bool
	var rest, sig []byte
	p.wrapped, rest, ok = takeBytes(b[n:], seal.MaxWrapped)
	p.before = b[:len(b)-len(rest)]
	p.sealed, sig, ok2 = takeBytes(rest, maxLogSealed)
	if !ok || !ok2 || len(sig) != signatureLen || len(p.sealed) < seal.Overhead {
		return p, fmt.Errorf("lengths: %w", ErrDamaged)
	}
	if len(trust) == 0 {
		return p, nil
	}
	sum := seal.Hash(b[:len(b)-signatureLen])
	return p, verifyAny(domainLog, sum[:], sig, h.Signer, trust)
}

// takeBytes takes a u32 length and as many bytes off b.
func takeBytes(b []byte, limit int) (taken, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, b, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || uint64(n) > uint64(limit) || int(n) > len(b)-4 {
		return nil, b, false
	}
	return b[4 : 4+n], b[4+n:], true
}

func hex16(v uint64) string { return fmt.Sprintf("%016x", v) }

// PutAnchor keeps a signed note of somebody else, such as the head of a ledger, in
// the clear. The same bytes again are no error.
func (r *Repository) PutAnchor(ctx context.Context, name string, b []byte) error {
	if err := checkPart("anchor", name); err != nil {
		return err
	}
	if len(b) > maxAnchor {
		return fmt.Errorf("anchor %q of %d bytes: %w", name, len(b), ErrLimit)
	}
	return putObject(ctx, r.store, anchorName(name), b)
}

// Anchors lists the anchors' names.
func (r *Repository) Anchors(ctx context.Context) ([]string, error) {
	var all []string
	err := r.store.List(ctx, anchorName(""), func(o Object) error {
		if name := strings.TrimPrefix(o.Name, anchorName("")); checkPart("anchor", name) == nil {
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list anchors: %w", err)
	}
	return all, nil
}

// RemoveAnchor deletes an anchor for which a later one stands. That it does is for the
// caller to have seen.
func (r *Repository) RemoveAnchor(ctx context.Context, name string) error {
	if err := checkPart("anchor", name); err != nil {
		return err
	}
	if err := r.store.Delete(ctx, anchorName(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove anchor %q: %w", name, err)
	}
	return nil
}

// ReadAnchor reads an anchor. Who signed it is for the caller to check.
func (r *Repository) ReadAnchor(ctx context.Context, name string) ([]byte, error) {
	if err := checkPart("anchor", name); err != nil {
		return nil, err
	}
	return readObject(ctx, r.store, anchorName(name), maxAnchor)
}
