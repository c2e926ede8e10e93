package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/evidence"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// A Workspace is the folder of one installation: the plan, the keys of each role
// in files of their own, and the state.
type Workspace struct{ Dir string }

// Paths of a workspace.
func (w Workspace) Plan() string     { return filepath.Join(w.Dir, "plan.yaml") }
func (w Workspace) State() string    { return filepath.Join(w.Dir, "state") }
func (w Workspace) Database() string { return filepath.Join(w.State(), "holdfast.db") }
func (w Workspace) Socket() string   { return filepath.Join(w.State(), "holdfast.sock") }
func (w Workspace) lock() string     { return filepath.Join(w.State(), "lock") }
func (w Workspace) spool() string    { return filepath.Join(w.State(), "spool") }
func (w Workspace) cache() string    { return filepath.Join(w.State(), "cache") }
func (w Workspace) seen() string     { return filepath.Join(w.State(), "seen") }

// Evidence is where packs are written when nobody names another place.
func (w Workspace) Evidence() string { return filepath.Join(w.Dir, "evidence") }

// Key is the file of one role's key. The roles have separate files so that
// splitting them over machines later moves files and changes nothing else.
func (w Workspace) Key(role string) string { return filepath.Join(w.Dir, "keys", role) }

// The key files of a workspace.
const (
	KeySource   = "source.key"   // signs manifests and log pieces
	KeyDedup    = "dedup.key"    // names chunks, store by store
	KeyVault    = "vault.key"    // signs receipts
	KeyLog      = "log.key"      // signs the ledger's checkpoints
	KeyEvidence = "evidence.key" // signs evidence packs
	KeyRunner   = "runner.age"   // reads backups: drills and recoveries
	KeyRecovery = "recovery.age" // reads backups: kept away from this machine
	KeyTrusted  = "trusted.keys" // public: what an auditor verifies with
	keysTrusted = "trusted"      // the same, as ssh-keygen and openssl take it
)

var signingRoles = []string{KeySource, KeyVault, KeyLog, KeyEvidence}

// Keys are what the process holds, role by role.
type Keys struct {
	Source, Vault, Log, Evidence seal.SigningKey
}

// InitOptions fill a new workspace. Values go into the plan; recipients are made.
type InitOptions struct {
	Values plan.Values
	// From is a plan to start from: see [plan.Adopt]. Empty means the plan of a small
	// company.
	From string
	// PostQuantum makes read keys that a quantum computer does not break. Those that are
	// there stay as they are.
	PostQuantum bool
}

// Init makes a workspace: keys first, then the plan that names their public
// halves. It refuses a folder that has a plan.
//
// A crash in the middle leaves keys without a plan; running it again keeps the
// keys that are there and goes on.
func Init(dir string, opt InitOptions) (Workspace, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Workspace{}, err
	}
	w := Workspace{abs}
	if _, err := os.Stat(w.Plan()); err == nil {
		return w, holdfast.WithHint(fmt.Errorf("%s is there already: %w", w.Plan(), fs.ErrExist), "edit it, then \"holdfast check\"; or name another folder")
	}
	if opt.From != "" {
		// Before anything is written: a plan that cannot be adopted leaves no keys behind.
		if _, err = plan.Adopt(opt.From, opt.Values); err != nil {
			return w, err
		}
	}
	for _, d := range []string{w.Dir, filepath.Join(w.Dir, "keys"), w.State(), w.Evidence()} {
		mode := os.FileMode(0o700)
		if d == w.Dir {
			mode = 0o755
		}
		if err := os.MkdirAll(d, mode); err != nil {
			return w, err
		}
	}
	v := opt.Values
	if v.RecipientA, err = w.identity(opt.PostQuantum, KeyRunner, "read identity of the runner: drills and recoveries use it"); err != nil {
		return w, err
	}
	if v.RecipientB, err = w.identity(opt.PostQuantum, KeyRecovery, "second read identity: move this file off this machine, print it, and delete it here"); err != nil {
		return w, err
	}
	if err := w.signingKeys(); err != nil {
		return w, err
	}
	if v.RepositoryID == "" {
		v.RepositoryID = newRepositoryID()
	}
	if err := w.trust(v.RepositoryID); err != nil {
		return w, err
	}
	if err := durable.WriteFile(durable.OS, filepath.Join(w.Dir, ".gitignore"), []byte("/keys/\n/state/\n/evidence/\n"), 0o644); err != nil {
		return w, err
	}
	text := plan.Template(v)
	if opt.From != "" {
		if text, err = plan.Adopt(opt.From, v); err != nil {
			return w, err
		}
	}
	return w, durable.WriteFile(durable.OS, w.Plan(), text, 0o644)
}

// identity makes a read key unless it is there, and returns its public half.
func (w Workspace) identity(postQuantum bool, role, what string) (string, error) {
	path, generate := w.Key(role), seal.GenerateIdentity
	if postQuantum {
		generate = seal.GeneratePostQuantum
	}
	id, err := generate()
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("# holdfast %s\n# public half: %s\n%s\n", what, id.Recipient(), id.String())
	if err := seal.WriteKeyFile(path, text); err == nil {
		return id.Recipient().String(), nil
	} else if !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	old, err := ReadIdentity(path)
	if err != nil {
		return "", err
	}
	return old.Recipient().String(), nil
}

func (w Workspace) signingKeys() error {
	for _, role := range signingRoles {
		k, err := seal.GenerateSigningKey(role[:len(role)-len(".key")])
		if err != nil {
			return err
		}
		// A key that is there from an interrupted init is kept.
		if err := seal.WriteKeyFile(w.Key(role), k.String()+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := seal.WriteKeyFile(w.Key(KeyDedup), seal.NewMACKey().String()+"\n"); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// trust writes the public keys that an auditor verifies with.
func (w Workspace) trust(repositoryID string) error {
	k, err := w.LoadKeys()
	if err != nil {
		return err
	}
	pub := evidence.Keys{Origin: originOf(repositoryID), Log: []seal.VerifyKey{k.Log.Public()}, Evidence: []seal.VerifyKey{k.Evidence.Public()}}
	if err := os.MkdirAll(w.Key(keysTrusted), 0o700); err != nil {
		return err
	}
	for name, b := range pub.Files() {
		if err := durable.WriteFile(durable.OS, filepath.Join(w.Key(keysTrusted), name), b, 0o644); err != nil {
			return err
		}
	}
	return durable.WriteFile(durable.OS, w.Key(KeyTrusted), []byte(pub.String()), 0o644)
}

// LoadKeys reads the keys that a server needs to write backups. It reads no
// identity: those are opened for a purpose, when it arises.
func (w Workspace) LoadKeys() (k Keys, err error) {
	for role, dst := range map[string]*seal.SigningKey{KeySource: &k.Source, KeyVault: &k.Vault, KeyLog: &k.Log, KeyEvidence: &k.Evidence} {
		if *dst, err = readSigningKey(w.Key(role)); err != nil {
			return k, err
		}
	}
	_, err = readNamings(w) // it changes while we run, so it is read when it is needed
	return k, err
}

func readSigningKey(path string) (seal.SigningKey, error) {
	text, err := readKey(path)
	if err != nil {
		return seal.SigningKey{}, err
	}
	k, err := seal.ParseSigningKey(text)
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// ReadIdentity reads a private read key from a file.
func ReadIdentity(path string) (seal.Identity, error) {
	text, err := readKey(path)
	if err != nil {
		return seal.Identity{}, err
	}
	id, err := seal.ParseIdentity(text)
	if err != nil {
		return id, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "name the file that \"holdfast init\" or \"holdfast key create\" made: --key FILE")
	}
	return id, nil
}

// missing is a key file that is not there.
func missing(path string) error {
	return fmt.Errorf("key file %s is missing%w", path, silent{fs.ErrNotExist})
}

// silent is an error whose text another one has said already.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

func readKey(path string) (string, error) {
	text, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", holdfast.WithHint(missing(path),
			"bring it back from where it is kept; without it \"holdfast init\" in a new folder makes new keys, which cannot read old backups")
	}
	return text, err
}

// Find returns the workspace that dir is in: dir itself, or the nearest parent
// with a plan. An empty dir is the working directory, or HOLDFAST_DIR.
func Find(dir string) (Workspace, error) {
	if dir == "" {
		dir = os.Getenv("HOLDFAST_DIR")
	}
	named := dir != ""
	if dir == "" {
		dir = "."
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Workspace{}, err
	}
	for d := abs; ; d = filepath.Dir(d) {
		w := Workspace{d}
		if _, err := os.Stat(w.Plan()); err == nil {
			return w, nil
		}
		if named || d == filepath.Dir(d) {
			return Workspace{}, holdfast.WithHint(fmt.Errorf("no plan.yaml in %s: %w", abs, holdfast.ErrUsage),
				"\"holdfast init\" makes a workspace; --dir or HOLDFAST_DIR names one")
		}
	}
}
