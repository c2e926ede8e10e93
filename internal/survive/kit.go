package survive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/ledger"
	"holdfast/internal/seal"
)

// FactKitMade is that a recovery kit was made. The subject is "recovery_kit".
const FactKitMade = "kit.made"

// Codes of findings about the recovery kit.
const (
	codeKitStale  = "HF-K8" // there is none of the plan in force, or it is old
	CodeKitServer = "HF-K9" // what lies on the server opens it, or helps to
)

// DefaultKitEvery is how long a kit counts if the plan does not say.
const DefaultKitEvery = 90 * 24 * time.Hour

// Limits of a kit.
const (
	MaxKitFile = 32 << 20 // longest file in it, in bytes
	maxKit     = 32       // most files
)

// kitManifest lists the other files of a kit as sha256sum writes and checks it.
const kitManifest = "MANIFEST.sha256"

// A Kit is one recovery kit, as its fact tells.
type Kit struct {
	Plan      string    `json:"plan_digest"`
	Version   string    `json:"version"`
	Recipient string    `json:"recipient"`
	Needed    int       `json:"needed"`
	Holders   []string  `json:"holders"`
	Made      time.Time `json:"made"`
	MadeBy    string    `json:"made_by"`
	Sealed    string    `json:"sealed"` // "sha256:" and the digest of the file
	Bytes     int       `json:"bytes"`
}

// SealKit puts files into one archive and seals it. What comes out is a tar in an age file:
// both can be opened without Holdfast.
func SealKit(files map[string][]byte, made time.Time, to seal.Recipient) ([]byte, error) {
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		fmt.Fprintf(&list, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	files = maps.Clone(files)
	files[kitManifest] = []byte(list.String())
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(files[name])), ModTime: made, Format: tar.FormatUSTAR}); err != nil {
			return nil, fmt.Errorf("recovery kit: %s: %w", name, err)
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, fmt.Errorf("recovery kit: %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("recovery kit: %w", err)
	}
	return seal.SealFile(archive.Bytes(), to)
}

// OpenKit returns the files of a kit, each as it was put in: one that is missing or altered
// makes the whole kit damaged. The error wraps seal.ErrNoIdentity or seal.ErrDamaged.
func OpenKit(sealed []byte, id seal.Identity) (map[string][]byte, error) {
	archive, err := seal.OpenFile(sealed, id)
	if err != nil {
		return nil, fmt.Errorf("recovery kit: %w", err)
	}
	files, r := map[string][]byte{}, tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(files) == maxKit || h.Typeflag != tar.TypeReg || h.Size > MaxKitFile || !kitName(h.Name) || files[h.Name] != nil {
			return nil, fmt.Errorf("recovery kit: not an archive of ours: %w", seal.ErrDamaged)
		}
		b, err := io.ReadAll(io.LimitReader(r, MaxKitFile))
		if err != nil {
			return nil, fmt.Errorf("recovery kit: %s: %w", h.Name, seal.ErrDamaged)
		}
		files[h.Name] = append([]byte{}, b...)
	}
	listed := 0
	for line := range strings.Lines(string(files[kitManifest])) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		have := sha256.Sum256(files[name])
		if b, there := files[name]; !ok || !there || b == nil || hex.EncodeToString(have[:]) != sum {
			return nil, fmt.Errorf("recovery kit: %q is not what %s says: %w", name, kitManifest, seal.ErrDamaged)
		}
		listed++
	}
	if listed == 0 || listed != len(files)-1 {
		return nil, fmt.Errorf("recovery kit: %d files, and %s lists %d: %w", len(files), kitManifest, listed, seal.ErrDamaged)
	}
	return files, nil
}

// kitName keeps the files of a kit in the folder that they are written to.
func kitName(name string) bool {
	return name != "" && len(name) <= 100 && name[0] != '.' && !strings.ContainsAny(name, "/\\:\x00")
}

// RecordKit writes down that a kit was made. The file is written by whoever asked, after
// this: a crash in between leaves a record of a kit that nobody has, and the next takes its
// place.
func (m *Module) RecordKit(ctx context.Context, k Kit) error {
	return m.cfg.DB.Tx(ctx, func(tx *db.Tx) error {
		b, err := json.Marshal(k)
		if err != nil {
			return err
		}
		_, err = m.cfg.Ledger.Append(ctx, tx, ledger.Fact{Type: FactKitMade, Subject: "recovery_kit", Actor: k.MadeBy, At: k.Made, Data: b})
		return err
	})
}

// NewestKit returns the kit that was made last, and false if there is none.
func (m *Module) NewestKit(ctx context.Context) (k Kit, ok bool, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		_, all, err := read[Kit](ctx, m, tx, FactKitMade, "")
		if ok = len(all) > 0; ok {
			k = all[0]
		}
		return err
	})
	return k, ok, err
}

// A KitWanted is what the plan in force asks of the kit.
type KitWanted struct {
	Key, Recipient string
	Needed         int
	Every          time.Duration // 0: DefaultKitEvery
	Plan           string        // digest
}

// KitFindings says what is wrong with the newest kit, and whether what lies on the server
// opens it: whole says that its key does, shares how many different ones do.
func KitFindings(want KitWanted, k Kit, made bool, whole string, shares []string, now time.Time) (out []holdfast.Finding) {
	say := func(code string, severity holdfast.FindingSeverity, message, hint string) {
		out = append(out, holdfast.Finding{Code: code, Severity: severity, Subject: "recovery_kit", Message: message, Hint: hint})
	}
	every := want.Every
	if every <= 0 {
		every = DefaultKitEvery
	}
	const again = "\"holdfast kit make --to DIR\" makes one; give it to every holder"
	switch {
	case !made:
		say(codeKitStale, holdfast.SeverityWarning, "the recovery kit was never made: the trustees have shares of a key that opens nothing", again)
	case k.Recipient != want.Recipient:
		say(codeKitStale, holdfast.SeverityError, fmt.Sprintf("the recovery kit of %s is sealed to another key than %q: the shares that people hold now do not open it", k.Made.UTC().Format(time.DateOnly), want.Key), again)
	case k.Plan != want.Plan:
		say(codeKitStale, holdfast.SeverityWarning, fmt.Sprintf("the recovery kit of %s holds another plan than the one in force", k.Made.UTC().Format(time.DateOnly)), again)
	case now.After(k.Made.Add(every)):
		say(codeKitStale, holdfast.SeverityError, fmt.Sprintf("the recovery kit of %s is older than %s", k.Made.UTC().Format(time.DateOnly), holdfast.FormatDuration(every)), again)
	}
	const away = "move it to its holder and delete it here; who may have read it has it: make a new key with \"holdfast kit prepare\""
	switch {
	case whole != "":
		say(CodeKitServer, holdfast.SeverityError, fmt.Sprintf("the server opens the recovery kit alone: its whole key lies in %s", whole), away)
	case len(shares) >= max(want.Needed, 1):
		say(CodeKitServer, holdfast.SeverityError, fmt.Sprintf("the server opens the recovery kit alone: %d of the %d shares that it takes lie in %s", len(shares), want.Needed, strings.Join(shares, ", ")), away)
	case len(shares) > 0:
		say(CodeKitServer, holdfast.SeverityWarning, fmt.Sprintf("%d of the %d shares that open the recovery kit lie on the server, in %s", len(shares), want.Needed, strings.Join(shares, ", ")), away)
	}
	return out
}

// KitReadme says in plain words how a kit is opened. It lies beside the kit and with every
// holder, and nothing of it is secret.
func KitReadme(k Kit, name, company string) string {
	return fmt.Sprintf(`The recovery kit of %s

%s
  sha256  %s
  made    %s, of version %s of the plan
  opens   with any %d of the %d shares: %s

It holds the continuity plan, whom to call, where the backups are, and the digest
of the program. It is for the day on which the company, its machines or the people
who run it are gone. Keep it where you keep your share, or apart; without %d shares
it says nothing to anybody.

When to open it: when you are told that nobody of the company answers, or when
somebody of the company asks you to. No message ever contains a key, and no
machine opens the kit: people do, together.

1. Call the other holders. Meet, on one machine that you trust, without a network.
2. Is the file the one that was made?
       sha256sum %s
3. With Holdfast:
       holdfast kit open %s SHARE-1 SHARE-2 ... --to kit
   A SHARE is a file, or the groups of letters from the paper, typed into a file.
4. Without Holdfast, with age (age-encryption.org) and join.py, which lies in
   tools/decode of the Holdfast source and needs Python alone:
       python3 join.py SHARE-1 SHARE-2 ... > kit.key
       age -d -i kit.key %s | tar xf -
       sha256sum -c %s
5. Read README.txt in it, then plan.html.

Too few shares, a share of another key and a mistyped group are said, and open
nothing. Afterwards the key has been on a machine: have a new one made.
`, company, name, strings.TrimPrefix(k.Sealed, "sha256:"), k.Made.UTC().Format("2006-01-02 15:04 UTC"), orNumber(k.Version), k.Needed, len(k.Holders), strings.Join(k.Holders, ", "),
		k.Needed, name, name, name, kitManifest)
}

func orNumber(version string) string {
	if version == "" {
		return "no number"
	}
	return version
}

// KitInside is what whoever has opened a kit reads first. reads says that the kit's key
// reads the backups, too.
func KitInside(reads bool) string {
	key := "The key that opened this kit does not read backups. Who holds a key that does\nstands in plan.html, \"The keys, and how they come together\"."
	if reads {
		key = "The key that opened this kit reads the backups, too: \"holdfast key join --to\nrescue.age SHARE...\" writes it into a file, for --key."
	}
	return fmt.Sprintf(`You have opened the recovery kit.

plan.html       whom to call, what comes back in which order, and how: read it in
                any browser, or print it. It needs no network.
plan.yaml       the plan itself: "holdfast restore" works from it
contacts.txt    the people, with numbers
locations.txt   where the backups are. One of these places is enough.
program.txt     the program that made this, with its digest
trusted.keys    public keys: whose signatures on evidence and records to believe
checkpoint.txt  the ledger as it was: what comes back must contain it
%s which digest each of these files must have

%s

Write down the time. Change nothing on machines that are left until somebody has
decided. There is no password in this kit.
`, kitManifest, key)
}
