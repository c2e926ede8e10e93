package evidence

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// Build makes a pack and returns the bytes of the zip file. Before that it reads
// the pack as an auditor would: a pack that does not verify never leaves.
//
// It changes nothing but the log's list of checkpoints, so it may be repeated.
func Build(ctx context.Context, in Input, sign Signing) ([]byte, error) {
	if err := in.check(sign); err != nil {
		return nil, fmt.Errorf("evidence pack: %w", err)
	}
	b := &builder{in: in, sign: sign, files: map[string][]byte{}}
	for _, step := range []func(context.Context) error{b.log, b.plans, b.tables, b.pages, b.manifest} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("evidence pack: %w", err)
		}
	}
	pack, err := zipFiles(b.files, b.info.Made)
	if err != nil {
		return nil, fmt.Errorf("evidence pack: %w", err)
	}
	r := VerifyBytes(pack, sign.Trusted())
	for _, f := range r.Findings {
		if integrity(f) && f.Severity == holdfast.SeverityError {
			return nil, fmt.Errorf("evidence pack: it does not verify: %s: %s", f.Subject, f.Message)
		}
	}
	return pack, nil
}

func (in Input) check(sign Signing) error {
	switch {
	case in.Log == nil:
		return errors.New("no log")
	case in.Made.IsZero():
		return errors.New("no time of making")
	case !in.From.Before(in.To):
		return fmt.Errorf("the period ends at %s, before it begins at %s", stamp(in.To), stamp(in.From))
	case len(in.Plans) == 0:
		return holdfast.WithHint(errors.New("no plan was in force yet: nothing was expected, and nothing can be shown as missing"),
			"a plan is in force from the first \"holdfast serve\" or \"holdfast backup\" with it")
	case sign.Evidence.IsZero() || sign.Log.IsZero():
		return errors.New("no evidence key, or no log key")
	case bytes.Equal(sign.Evidence.Public().PEM(), sign.Log.PEM()):
		return errors.New("evidence key and log key are the same: who holds one must not hold the other")
	}
	seen := map[string]bool{}
	for _, p := range in.Populations {
		if !populationName.MatchString(p.Name) || seen[p.Name] {
			return fmt.Errorf("population %q: want lower-case letters, digits and \"._-\", each name once", p.Name)
		}
		seen[p.Name] = true
		if len(p.Columns) == 0 || p.Query == "" {
			return fmt.Errorf("population %q: want columns, and the query that made it", p.Name)
		}
		for i, r := range p.Rows {
			if len(r) != len(p.Columns) {
				return fmt.Errorf("population %q: row %d has %d cells, want %d", p.Name, i+1, len(r), len(p.Columns))
			}
		}
	}
	return nil
}

// A builder collects the files of one pack.
type builder struct {
	in    Input
	sign  Signing
	files map[string][]byte
	info  info
	tree  ledger.Tree
	facts []ledger.Fact
	slots []Slot
	list  []Plan // in the order in which they came into force
}

// log takes the facts, all hashes and the checkpoint over them.
func (b *builder) log(ctx context.Context) error {
	signed, err := b.in.Log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	tree, _, err := b.sign.Trusted().open(signed)
	if err != nil {
		return err
	}
	b.tree = tree
	b.files[fileCheckpoint] = signed
	b.files[fileText] = []byte(tree.String())
	if b.files[fileRaw], err = rawSignature(signed, b.sign.Log); err != nil {
		return err
	}
	first := b.in.First
	if first < 0 || first > tree.Size {
		return fmt.Errorf("first fact %d: the log has %d", first, tree.Size)
	}
	var ndjson bytes.Buffer
	const page = 1000
	for from := first; from < tree.Size; from += page {
		leaves, err := b.in.Log.Facts(ctx, from, min(from+page, tree.Size))
		if err != nil {
			return err
		}
		for _, l := range leaves {
			f, err := l.Fact()
			if err != nil {
				return fmt.Errorf("fact %d: %w", l.Index, err)
			}
			b.facts = append(b.facts, f)
			ndjson.Write(l.Bytes)
			ndjson.WriteByte('\n')
		}
		if ndjson.Len() > MaxFile {
			return holdfast.WithHint(fmt.Errorf("the facts from %d on are longer than %d bytes", first, MaxFile),
				"start at a later fact, for example at the size of the previous pack's checkpoint")
		}
	}
	b.files[fileLog] = ndjson.Bytes()
	hashes, err := b.in.Log.LeafHashes(ctx, tree.Size)
	if err != nil {
		return err
	}
	b.files[fileHashes] = hashLines(hashes)
	b.info = info{
		Format: packFormat, Version: holdfast.Version, Company: b.in.Company, Framework: b.in.Framework,
		From: utc(b.in.From), To: utc(b.in.To), Made: utc(b.in.Made).Truncate(time.Second),
		Origin: tree.Origin, Size: tree.Size, First: first,
		LogKey: b.sign.Log.Fingerprint(), EvidenceBy: b.sign.Evidence.Name(),
	}
	if len(b.in.Previous) == 0 {
		return nil
	}
	previous, _, err := b.sign.Trusted().open(b.in.Previous)
	if err != nil {
		return fmt.Errorf("previous checkpoint: %w", err)
	}
	var proof tlog.TreeProof
	if previous.Size > 0 && previous.Size <= tree.Size {
		if proof, err = b.in.Log.Consistency(ctx, previous.Size, tree.Size); err != nil {
			return err
		}
	}
	if err := ledger.CheckConsistency(previous, tree, proof); err != nil {
		return holdfast.WithHint(fmt.Errorf("previous checkpoint: %w", err),
			"the log does not contain what the previous pack showed: find out why before you make another pack")
	}
	b.info.Previous = previous.Size
	b.files[filePrevious] = b.in.Previous
	b.files[fileConsistency] = hashLines(proof)
	return nil
}

// rawSignature takes the bare Ed25519 signature of a key out of a note.
func rawSignature(signed []byte, key seal.VerifyKey) ([]byte, error) {
	v, err := seal.NoteVerifier(key)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(raw) != 4+64 { // a key hash, then the signature
		return nil, errors.New("the checkpoint has no Ed25519 signature")
	}
	return raw[4:], nil
}

func hashLines(hashes []tlog.Hash) []byte {
	var b bytes.Buffer
	for _, h := range hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return b.Bytes()
}

func (b *builder) plans(context.Context) error {
	b.list = slices.Clone(b.in.Plans)
	slices.SortStableFunc(b.list, func(x, y Plan) int { return x.From.Compare(y.From) })
	for i, p := range b.list {
		if digest := "sha256:" + sha(p.Text); p.Digest != digest {
			return fmt.Errorf("plan %q: its text has the digest %s", p.Digest, digest)
		}
		name := filePlan
		if i < len(b.list)-1 {
			name = fmt.Sprintf("plans/%03d-%s.yaml", i, strings.TrimPrefix(p.Digest, "sha256:")[:16])
		}
		b.files[name] = p.Text
		b.info.Plans = append(b.info.Plans, planRef{name, p.Digest, utc(p.From)})
	}
	return nil
}

func (b *builder) tables(context.Context) error {
	expected, err := expectedSlots(b.list, b.info.From, b.info.To)
	if err != nil {
		return err
	}
	b.slots = settle(b.in.Slots, expected, b.info.From, b.info.To, b.info.Made)
	if b.in.Framework != "" {
		b.in.Controls = slices.DeleteFunc(slices.Clone(b.in.Controls), func(c Control) bool { return c.Framework != b.in.Framework })
	}
	facts := factsTable(b.facts, b.info.From, b.info.To)
	b.info.InPeriod = len(facts.rows)
	for _, p := range b.in.Populations {
		b.files[populationFile(p.Name)] = table{p.Columns, p.Rows}.bytes()
	}
	for name, t := range map[string]table{
		fileFacts: facts, fileSlots: slotsTable(b.slots), filePosture: postureTable(b.in.Posture), fileControls: controlsTable(b.in.Controls),
		fileFindings: findingsTable(b.in.Findings), filePopulations: populationsTable(b.in.Populations, b.files),
	} {
		b.files[name] = t.bytes()
	}
	return nil
}

func (b *builder) pages(context.Context) error {
	raw, err := json.MarshalIndent(b.info, "", "  ")
	if err != nil {
		return err
	}
	b.files[fileInfo] = append(raw, '\n')
	if b.files[fileIndex], err = b.index(); err != nil {
		return err
	}
	results, err := b.oscal()
	if err != nil {
		return err
	}
	if results != nil {
		b.files[fileOSCAL] = results
	}
	b.files[fileScript] = []byte(verifyScript)
	b.files[fileVerify] = []byte(b.instructions())
	return nil
}

// manifest names every other file with its hash and is what the evidence key signs.
func (b *builder) manifest(context.Context) error {
	var m strings.Builder
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		fmt.Fprintf(&m, "%s  %s\n", sha(b.files[name]), name)
	}
	b.files[fileManifest] = []byte(m.String())
	sig, err := b.sign.Evidence.SSHSign(Namespace, b.files[fileManifest])
	b.files[fileSignature] = sig
	return err
}

// zipFiles writes the files in the order of their names, all with one time, so
// that the same content gives the same bytes.
func zipFiles(files map[string][]byte, made time.Time) ([]byte, error) {
	if len(files) > MaxFiles {
		return nil, fmt.Errorf("%d files, at most %d", len(files), MaxFiles)
	}
	var out bytes.Buffer
	var total int
	w := zip.NewWriter(&out)
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.DefaultCompression) })
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if total += len(files[name]); len(files[name]) > MaxFile || total > MaxTotal {
			return nil, fmt.Errorf("%q: more than %s bytes in one file, or %s in all", name, strconv.Itoa(MaxFile), strconv.Itoa(MaxTotal))
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: made}
		h.SetMode(0o644)
		f, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() > MaxPack {
		return nil, fmt.Errorf("the pack has %d bytes, at most %d", out.Len(), MaxPack)
	}
	return out.Bytes(), nil
}
