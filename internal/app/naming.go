package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// namings are the keys that name chunks, as the file dedup.key of a workspace holds them:
// a root, from which the key of each store is derived, and for each store whose key was
// changed the key of its present epoch. Keys of former epochs are not kept: a pack holds,
// sealed, the key that names its chunks, so nobody needs them to read.
//
// The file is text: the root's key, then lines "root SINCE" and "store ID SINCE KEY". One
// of an earlier version holds the root alone, and counts from the day it was written.
type namings struct {
	root   seal.MACKey
	since  time.Time
	stores map[string]backup.Naming
}

// maxNamings bounds how many stores a file tells of.
const maxNamings = 400

var errNamings = errors.New("not a file of keys that name chunks")

// readNamings reads the file of a workspace.
func readNamings(w Workspace) (namings, error) {
	path := w.Key(KeyDedup)
	text, err := readKey(path)
	if err != nil {
		return namings{}, err
	}
	n, err := parseNamings(text)
	if err != nil {
		return n, holdfast.WithHint(fmt.Errorf("%s: %w", path, err), "bring the file back from where it is kept; without it, move it away, and \"holdfast init\" or \"agent init\" makes a new one: all content is stored anew, once")
	}
	if n.since.IsZero() {
		info, err := os.Stat(path)
		if err != nil {
			return n, err
		}
		n.since = info.ModTime().UTC().Truncate(time.Second)
	}
	return n, nil
}

// parseNamings reads what String writes. It never echoes the text.
func parseNamings(text string) (n namings, err error) {
	lines := strings.Split(text, "\n")
	if n.root, err = seal.ParseMACKey(lines[0]); err != nil {
		return namings{}, err
	}
	n.stores = map[string]backup.Naming{}
	for i, line := range lines[1:] {
		words := strings.Fields(line)
		bad := fmt.Errorf("line %d: %w", i+2, errNamings)
		switch {
		case len(words) == 2 && words[0] == "root" && n.since.IsZero():
			if n.since, err = time.Parse(time.RFC3339, words[1]); err != nil {
				return namings{}, bad
			}
			n.since = n.since.UTC()
		case len(words) == 4 && words[0] == "store" && len(n.stores) < maxNamings:
			at, err := time.Parse(time.RFC3339, words[2])
			key, kerr := seal.ParseMACKey(words[3])
			if _, twice := n.stores[words[1]]; twice || err != nil || kerr != nil {
				return namings{}, bad
			}
			n.stores[words[1]] = backup.Naming{Key: key, Epoch: epochOf(key), Since: at.UTC()}
		default:
			return namings{}, bad
		}
	}
	return n, nil
}

// text is the content of the file.
func (n namings) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# holdfast: keys that name chunks; \"holdfast key rotate --dedup\" changes them\n%s\nroot %s\n", n.root.String(), n.since.Format(time.RFC3339))
	for _, id := range slices.Sorted(maps.Keys(n.stores)) {
		s := n.stores[id]
		fmt.Fprintf(&b, "store %s %s %s\n", id, s.Since.Format(time.RFC3339), s.Key.String())
	}
	return b.String()
}

// epochOf names the epoch of a key. It says nothing about the key to who does not have it.
func epochOf(k seal.MACKey) string {
	h := k.ID([]byte("holdfast dedup epoch"))
	return fmt.Sprintf("%x", h[:6])
}

// of is the key that names the chunks of a store now. It is the store's own, so that a
// captured host can ask only after its own data.
func (n namings) of(store string) backup.Naming {
	if s, ok := n.stores[store]; ok {
		return s
	}
	return backup.Naming{Key: seal.MACKey(n.root.ID([]byte("holdfast dedup scope\x00" + store))), Since: n.since}
}

// naming is the key that names the chunks of a store for a backup that begins now. Where
// the plan ends epochs and this one is over, a new one begins.
func naming(w Workspace, p *plan.Plan, store string, now time.Time) (backup.Naming, error) {
	n, err := readNamings(w)
	if err != nil {
		return backup.Naming{}, err
	}
	s := n.of(store)
	every := p.Repository.DedupEpoch
	if every.IsZero() || now.Before(every.AddTo(s.Since, 1, p.Location())) {
		return s, nil
	}
	ns, err := RenameChunks(w, []string{store}, now)
	if err != nil {
		return backup.Naming{}, fmt.Errorf("the key that names the chunks of %q is to be changed every %s: %w", store, every, err)
	}
	return ns[store], nil
}

// RenameChunks begins a new epoch for stores: a new random key names their chunks from the
// next backup on, which therefore stores all of their content anew, once.
//
// The file is replaced whole: a crash leaves the keys before or the new ones, and what a
// backup under either key has stored stays readable. Of two that do it at once, the second
// waits for nobody and is refused.
func RenameChunks(w Workspace, stores []string, now time.Time) (map[string]backup.Naming, error) {
	path := w.Key(KeyDedup)
	lock, err := durable.Lock(filepath.Join(filepath.Dir(path), ".dedup.lock"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer lock.Unlock() //nolint:errcheck // it ends with the process
	n, err := readNamings(w)
	if err != nil {
		return nil, err
	}
	for _, store := range stores {
		k := seal.NewMACKey()
		n.stores[store] = backup.Naming{Key: k, Epoch: epochOf(k), Since: now.UTC().Truncate(time.Second)}
	}
	if len(n.stores) > maxNamings {
		return nil, fmt.Errorf("%s: keys of more than %d stores", path, maxNamings)
	}
	if err := durable.WriteFile(durable.OS, path, []byte(n.text()), 0o600); err != nil {
		return nil, err
	}
	out := map[string]backup.Naming{}
	for _, store := range stores {
		out[store] = n.stores[store]
	}
	return out, nil
}

// Namings says since when each store's chunks are named by its present key.
func Namings(w Workspace, stores []string) (map[string]backup.Naming, error) {
	n, err := readNamings(w)
	if err != nil {
		return nil, err
	}
	out := map[string]backup.Naming{}
	for _, store := range stores {
		out[store] = n.of(store)
	}
	return out, nil
}

// codeNamed is the finding that chunks are named by one key for longer than the plan says.
const codeNamed = "HF-K11"

// namingFindings says for which stores the key that names chunks ought to have changed. It
// goes by what the newest snapshot says of itself, also of an agent's: a key file that was
// changed and used by no backup changes nothing.
func (a *App) namingFindings(ctx context.Context) (out []holdfast.Finding, err error) {
	p, now := a.Plan(), a.opt.Clock()
	every := p.Repository.DedupEpoch
	if every.IsZero() {
		return nil, nil
	}
	for _, policy := range a.policies() {
		cs, err := a.Backups.Copies(ctx, policy.Store)
		if err != nil {
			return nil, err
		}
		if len(cs) == 0 {
			continue // there is no snapshot whose chunks were named
		}
		newest := slices.MaxFunc(cs, func(a, b backup.Copy) int { return a.Created.Compare(b.Created) })
		said := newest.Labels[backup.LabelNaming]
		since, err := time.Parse(time.RFC3339, said)
		if err == nil && now.Before(every.AddTo(since, 1, p.Location()).Add(freshSlack*p.Backups[p.Stores[policy.Store].Protect].Every.Interval())) {
			continue
		}
		hint := fmt.Sprintf("\"holdfast backup %s\" takes a new one and stores all content anew, once", policy.Store)
		if policy.Agent {
			hint = "give the agent's machine the plan in force: its next backup takes a new one and stores all content anew, once"
		}
		what := "since " + said
		if err != nil {
			what = "since nobody knows when"
		}
		out = append(out, holdfast.Finding{Code: codeNamed, Severity: holdfast.SeverityError, Subject: "stores." + policy.Store,
			Message: fmt.Sprintf("the chunks of %q are named by one key %s, and repository.dedup_epoch is %s", policy.Store, what, every), Hint: hint})
	}
	return out, nil
}
