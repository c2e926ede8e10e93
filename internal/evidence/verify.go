package evidence

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// The codes of what Verify finds. Those below HF-E20 mean that the pack is not
// what was made, or not made by whom it should be; the others that the pack is
// genuine and shows work that was not done or not proven.
const (
	codeZip          = "HF-E01" // not a zip file that can be read
	codeName         = "HF-E02" // a name that could leave the folder
	codeLimit        = "HF-E03" // larger than any pack may be
	codeMissingFile  = "HF-E04"
	codeExtraFile    = "HF-E05"
	codeAltered      = "HF-E06" // a file is not what the manifest says
	codeSignature    = "HF-E07" // the manifest is not signed by a trusted key
	codeCheckpoint   = "HF-E08" // the checkpoint is not signed by a trusted key
	codeRemoved      = "HF-E09"
	codeChanged      = "HF-E10"
	codeReordered    = "HF-E11"
	codeTruncated    = "HF-E12"
	codeFork         = "HF-E13" // the log does not contain a held or previous checkpoint
	codePlan         = "HF-E14" // a plan is not the one that it is said to be
	codeTable        = "HF-E15" // a table does not agree with the log or the pack
	codeSlotMissing  = "HF-E16" // a slot that the plan expected is not in the list
	codeSlotFailed   = "HF-E20"
	codeSlotMissed   = "HF-E21"
	codeNothing      = "HF-E22" // nothing was expected
	codeUnproven     = "HF-E23" // called proved, and rests on no fact
	codeUnanchored   = "HF-E24"
	codeHashesOnly   = "HF-E25"
	codeForeignPlan  = "HF-E26" // facts name a plan that is not in the pack
	maxFindings      = 200      // of one kind
	maxIntegrityCode = "HF-E19"
)

// integrity reports whether a finding is about the pack and not about the work.
func integrity(f holdfast.Finding) bool { return f.Code <= maxIntegrityCode }

// A Report is what an auditor learns from a pack.
type Report struct {
	Company, Framework string
	From, To, Made     string // as the pack says, RFC 3339
	Origin             string

	Findings []holdfast.Finding // worst first

	Size     int64         // facts in the log
	Facts    int64         // facts whose text is in the pack and verified
	InPeriod int           // facts whose event lies in the period
	Anchored int64         // facts below this index are covered by a checkpoint that the auditor held
	Slots    map[State]int // expected work by what came of it
}

// Authentic reports whether the pack is what was made by whom it should be. It says
// nothing of the work: see the findings.
func (r Report) Authentic() bool {
	return !slices.ContainsFunc(r.Findings, func(f holdfast.Finding) bool {
		return f.Severity == holdfast.SeverityError && integrity(f)
	})
}

// Verify reads the pack at path and checks all of it against the trusted keys,
// offline. What is wrong with the pack is a finding; the error is for a file that
// cannot be read at all.
func Verify(path string, trusted Keys) (Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return Report{}, fmt.Errorf("evidence pack %q: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxPack+1))
	if err != nil {
		return Report{}, fmt.Errorf("evidence pack %q: %w", path, err)
	}
	return VerifyBytes(b, trusted), nil
}

// VerifyBytes is Verify for a pack in memory.
func VerifyBytes(pack []byte, trusted Keys) Report {
	v := &verifier{trusted: trusted, count: map[string]int{}, report: Report{Slots: map[State]int{}}}
	if v.unzip(pack) {
		v.manifest()
		v.info()
		v.log()
		v.plans()
		v.tables()
	}
	holdfast.SortFindings(v.report.Findings)
	return v.report
}

type verifier struct {
	trusted Keys
	files   map[string][]byte
	pack    info
	known   bool // pack is filled
	plan    []Plan
	tree    ledger.Tree
	signed  bool // tree is signed by a trusted key
	facts   []ledger.Fact
	report  Report
	count   map[string]int
}

// find adds a finding; of one kind only so many, then their number.
func (v *verifier) find(code string, severity holdfast.FindingSeverity, subject, hint, format string, args ...any) {
	v.count[code]++
	if v.count[code] > maxFindings {
		if v.count[code] == maxFindings+1 {
			v.report.Findings = append(v.report.Findings, holdfast.Finding{Code: code, Severity: severity, Subject: "pack",
				Message: fmt.Sprintf("more than %d findings of this kind", maxFindings), Hint: hint})
		}
		return
	}
	v.report.Findings = append(v.report.Findings,
		holdfast.Finding{Code: code, Severity: severity, Subject: subject, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (v *verifier) bad(code, subject, format string, args ...any) {
	v.find(code, holdfast.SeverityError, subject, "do not rely on this pack: ask the company for the original, and say what was found", format, args...)
}

// unzip reads all files into memory. It trusts no size and no name.
func (v *verifier) unzip(pack []byte) bool {
	if len(pack) > MaxPack {
		v.bad(codeLimit, "pack", "the file is longer than %d bytes", MaxPack)
		return false
	}
	r, err := zip.NewReader(bytes.NewReader(pack), int64(len(pack)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		v.bad(codeZip, "pack", "it is no zip file: %v", err)
		return false
	}
	if len(r.File) > MaxFiles {
		v.bad(codeLimit, "pack", "%d files, at most %d", len(r.File), MaxFiles)
		return false
	}
	v.files = map[string][]byte{}
	folded := map[string]bool{}
	var total int64
	for _, f := range r.File {
		if !packName.MatchString(f.Name) || !f.Mode().IsRegular() || folded[strings.ToLower(f.Name)] {
			v.bad(codeName, clip(f.Name), "a pack has no such name, folder or link, and no name twice: do not unpack it")
			return false
		}
		folded[strings.ToLower(f.Name)] = true
		b, err := readEntry(f, min(MaxFile, MaxTotal-total))
		if errors.Is(err, errTooLong) {
			v.bad(codeLimit, f.Name, "it unpacks to more than a pack may hold: do not unpack it")
			return false
		}
		if err != nil {
			v.bad(codeZip, f.Name, "it cannot be read: %v", err)
			return false
		}
		total += int64(len(b))
		v.files[f.Name] = b
	}
	return true
}

var errTooLong = errors.New("too long")

// readEntry reads at most limit bytes, whatever the header promises.
func readEntry(f *zip.File, limit int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if int64(len(b)) > limit {
		return nil, errTooLong
	}
	return b, err
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strconv.Quote(s)
}

// manifest checks who signed the pack, and that it has these files and no others.
func (v *verifier) manifest() {
	for _, name := range required {
		if _, ok := v.files[name]; !ok {
			v.bad(codeMissingFile, name, "every pack has this file")
		}
	}
	m, sig := v.files[fileManifest], v.files[fileSignature]
	if m == nil {
		return
	}
	if !slices.ContainsFunc(v.trusted.Evidence, func(k seal.VerifyKey) bool { return k.SSHVerify(Namespace, m, sig) == nil }) {
		v.bad(codeSignature, fileManifest, "no trusted evidence key signed it: the pack was altered, or made by somebody else")
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(m)) {
		hash, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(hash) != 64 || listed[name] != "" || !strings.HasSuffix(line, "\n") {
			v.bad(codeAltered, fileManifest, "line %s is not a hash and a name", clip(line))
			continue
		}
		listed[name] = hash
	}
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		b, ok := v.files[name]
		switch {
		case !ok && !slices.Contains(required, name):
			v.bad(codeMissingFile, name, "the manifest names it and it is not there")
		case ok && sha(b) != listed[name]:
			v.bad(codeAltered, name, "it is not the file that the manifest names")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.files)) {
		if listed[name] == "" && name != fileManifest && name != fileSignature {
			v.bad(codeExtraFile, name, "the manifest does not name it")
		}
	}
}

func (v *verifier) info() {
	b, ok := v.files[fileInfo]
	if !ok {
		return
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v.pack); err != nil {
		v.bad(codeTable, fileInfo, "it cannot be read: %v", err)
		return
	}
	if v.pack.Format != packFormat {
		v.find(codeTable, holdfast.SeverityError, fileInfo, "verify it with a newer holdfast", "format %d is not known", v.pack.Format)
		return
	}
	if !v.pack.From.Before(v.pack.To) || v.pack.Size < 0 || v.pack.First < 0 || v.pack.First > v.pack.Size {
		v.bad(codeTable, fileInfo, "period or range of facts make no sense")
		return
	}
	v.known = true
	r := &v.report
	r.Company, r.Framework, r.Origin, r.Size = v.pack.Company, v.pack.Framework, v.pack.Origin, v.pack.Size
	r.From, r.To, r.Made = stamp(v.pack.From), stamp(v.pack.To), stamp(v.pack.Made)
}

// log checks the checkpoint, the facts under it, and that it contains the past.
func (v *verifier) log() {
	signed, ok := v.files[fileCheckpoint]
	if !ok || !v.known {
		return
	}
	tree, key, err := v.trusted.open(signed)
	if err != nil {
		v.bad(codeCheckpoint, fileCheckpoint, "no trusted log key signed it: %v", err)
		return
	}
	v.tree, v.signed = tree, true
	if raw, err := rawSignature(signed, key); err != nil || !bytes.Equal(raw, v.files[fileRaw]) || tree.String() != string(v.files[fileText]) {
		v.bad(codeCheckpoint, fileText, "it is not the text and signature of the checkpoint")
	}
	if tree.Size != v.pack.Size || tree.Origin != v.pack.Origin {
		v.bad(codeCheckpoint, fileCheckpoint, "it has %d facts of %q, the pack says %d of %q", tree.Size, tree.Origin, v.pack.Size, v.pack.Origin)
		return
	}
	hashes, err := readHashes(v.files[fileHashes])
	if err != nil {
		v.bad(codeChanged, fileHashes, "%v", err)
	}
	leaves, err := ledger.SplitLeaves(v.files[fileLog])
	if err != nil {
		v.bad(codeTruncated, fileLog, "%v", err)
	}
	damage := ledger.VerifyRange(tree, hashes, v.pack.First, tree.Size, leaves)
	for _, d := range damage {
		v.bad(damageCode(d), fileLog, "%v", d)
	}
	for _, b := range leaves {
		if f, err := ledger.ParseLeaf(b); err == nil {
			v.facts = append(v.facts, f)
		}
	}
	if len(damage) == 0 {
		v.report.Facts = int64(len(leaves))
		v.past(hashes)
	}
	if v.pack.First > 0 {
		v.find(codeHashesOnly, holdfast.SeverityNote, fileLog, "earlier packs hold them: verify those as well, and hand their checkpoints to this verification",
			"facts 0 to %d are in this pack as hashes only", v.pack.First-1)
	}
}

func damageCode(d *ledger.DamageError) string {
	switch d.Kind {
	case ledger.ErrRemoved:
		return codeRemoved
	case ledger.ErrReordered:
		return codeReordered
	case ledger.ErrTruncated:
		return codeTruncated
	case ledger.ErrFork:
		return codeFork
	}
	return codeChanged
}

// past checks that the log still contains the checkpoints that the auditor holds,
// and the previous pack's. All hashes are here and give the signed root, so the
// root of any earlier size can be computed; the proof is for those without us.
func (v *verifier) past(hashes []tlog.Hash) {
	contains := func(what string, old ledger.Tree) bool {
		switch {
		case old.Size > v.tree.Size:
			v.bad(codeTruncated, what, "it has %d facts, the log of the pack %d: facts were cut off, or the log was restored from a backup", old.Size, v.tree.Size)
		case ledger.RootOf(hashes[:old.Size]) != old.Root:
			v.bad(codeFork, what, "the first %d facts of the log are no longer those that it stands for", old.Size)
		default:
			return true
		}
		return false
	}
	for i, signed := range v.trusted.Held {
		what := fmt.Sprintf("held checkpoint %d", i+1)
		old, _, err := v.trusted.open(signed)
		if err != nil {
			v.bad(codeCheckpoint, what, "no trusted log key signed it: %v", err)
		} else if contains(what, old) {
			v.report.Anchored = max(v.report.Anchored, old.Size)
		}
	}
	if signed, ok := v.files[filePrevious]; ok {
		old, _, err := v.trusted.open(signed)
		if err != nil {
			v.bad(codeCheckpoint, filePrevious, "no trusted log key signed it: %v", err)
		} else if contains(filePrevious, old) {
			proof, err := readHashes(v.files[fileConsistency])
			if err == nil {
				err = ledger.CheckConsistency(old, v.tree, proof)
			}
			if err != nil {
				v.bad(codeFork, fileConsistency, "%v", err)
			}
		}
	}
	if v.report.Anchored < v.tree.Size {
		v.find(codeUnanchored, holdfast.SeverityNote, fileLog, "keep this pack's checkpoint, and ask for one that lies with somebody else",
			"facts %d to %d are after every checkpoint that you held: the company could have changed them before it made this pack",
			v.report.Anchored, v.tree.Size-1)
	}
}

func readHashes(b []byte) ([]tlog.Hash, error) {
	const line = 44 + 1 // 32 bytes in base64, newline
	if len(b)%line != 0 {
		return nil, errors.New("want one hash in base64 to a line")
	}
	hashes := make([]tlog.Hash, 0, len(b)/line)
	for ; len(b) > 0; b = b[line:] {
		h, err := base64.StdEncoding.Strict().DecodeString(string(b[:line-1]))
		if err != nil || len(h) != tlog.HashSize || b[line-1] != '\n' {
			return nil, errors.New("want one hash in base64 to a line")
		}
		hashes = append(hashes, tlog.Hash(h))
	}
	return hashes, nil
}
