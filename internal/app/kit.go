package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
	"holdfast/internal/survive"
)

// Limits of the look for shares on the server.
const (
	kitLookEvery = time.Minute
	kitLookFiles = 2000 // most files of the workspace that are read
)

// kitLook is what was last found of the kit's key on this server.
type kitLook struct {
	at        time.Time
	recipient string
	whole     string
	shares    []string
}

// Kit says what the recovery kit of the plan in force is worth.
func (a *App) Kit(ctx context.Context) (out api.KitState, err error) {
	p := a.Plan()
	if p.RecoveryKit == nil {
		return out, noKit()
	}
	k, made, err := a.Custody.NewestKit(ctx)
	if err != nil {
		return out, err
	}
	if made {
		out.Newest = &k
	}
	out.Key, out.Outside, out.Holders = p.RecoveryKit.Key, p.RecoveryKit.Outside, p.KitHolders()
	if s := p.Keys[out.Key].Shares; s != nil {
		out.Needed = s.Needed
	}
	out.Findings, err = a.kitFindings(ctx)
	return out, err
}

func noKit() error {
	return holdfast.WithHint(fmt.Errorf("the plan has no recovery kit: %w", holdfast.ErrUsage), "\"holdfast kit prepare\" makes its key and prints what to write into the plan")
}

// kitFindings are what is wrong with the recovery kit; none if the plan has none.
func (a *App) kitFindings(ctx context.Context) ([]holdfast.Finding, error) {
	p := a.Plan()
	if p.RecoveryKit == nil {
		return nil, nil
	}
	key, now := p.Keys[p.RecoveryKit.Key], a.opt.Clock()
	want := survive.KitWanted{Key: p.RecoveryKit.Key, Recipient: key.Recipient, Every: p.RecoveryKit.Every.Approx(), Plan: p.Digest()}
	if key.Shares != nil {
		want.Needed = key.Shares.Needed
	}
	k, made, err := a.Custody.NewestKit(ctx)
	if err != nil {
		return nil, err
	}
	l := a.kitSeen.Load()
	if l == nil || l.recipient != key.Recipient || now.Before(l.at) || now.Sub(l.at) > kitLookEvery {
		l = &kitLook{at: now, recipient: key.Recipient}
		if l.whole, l.shares, err = kitHeld(a.opt.Workspace.Dir, key); err != nil {
			return nil, err
		}
		a.kitSeen.Store(l)
	}
	return survive.KitFindings(want, k, made, l.whole, l.shares, now), nil
}

// kitHeld looks through the workspace for the key that opens the kit, and for shares of it:
// the server holds credentials and keys, and must not be able to put these together. What
// lies elsewhere on the machine is not looked at.
func kitHeld(dir string, key plan.Key) (whole string, shares []string, err error) {
	own := map[string]bool{}
	if key.Shares != nil {
		for _, r := range key.Shares.Holders {
			own[r] = true
		}
	}
	seen, read := map[string]bool{}, 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
			return nil // it went away, or is not the server's to read
		case err != nil:
			return err
		case d.IsDir() && path != dir && slices.Contains([]string{"state", "evidence", ".git"}, d.Name()):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > seal.MaxKeyFile {
			return nil // gone since, or no key
		}
		if read++; read > kitLookFiles {
			return fs.SkipAll
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(b)) {
			if id, err := seal.ParseIdentity(line); err == nil && id.Recipient().String() == key.Recipient {
				whole = path
			}
		}
		s, err := seal.ParseSheet(string(b))
		if err != nil {
			return nil
		}
		if !s.Key.IsZero() && s.Key.Recipient().String() == key.Recipient {
			whole = path
		}
		if id, err := s.Share.Identity(); err == nil && own[id.Recipient().String()] && !seen[id.Recipient().String()] {
			seen[id.Recipient().String()] = true
			shares = append(shares, path)
		}
		return nil
	})
	return whole, shares, err
}

// MakeKit makes the recovery kit of the plan in force. The server seals it and cannot open
// it: it knows the public half of the key only.
func (a *App) MakeKit(ctx context.Context, by string) (out api.KitFile, err error) {
	p, now := a.Plan(), a.opt.Clock().UTC().Truncate(time.Second)
	if p.RecoveryKit == nil {
		return out, noKit()
	}
	key := p.Keys[p.RecoveryKit.Key]
	if key.Shares == nil {
		return out, holdfast.WithHint(fmt.Errorf("the key %q of the recovery kit is not split: %w", p.RecoveryKit.Key, holdfast.ErrRefused), "\"holdfast kit prepare\" makes one that is")
	}
	to, err := seal.ParseRecipient(key.Recipient)
	if err != nil {
		return out, holdfast.WithHint(fmt.Errorf("key %q: %w", p.RecoveryKit.Key, err), "write what \"holdfast kit prepare\" printed into keys.%s", p.RecoveryKit.Key)
	}
	for _, f := range a.mustKit(ctx) {
		if f.Severity == holdfast.SeverityError {
			return out, holdfast.WithHint(fmt.Errorf("%s: %w", f.Message, holdfast.ErrRefused), "%s", f.Hint)
		}
	}
	page, err := a.offlinePage(ctx, survive.NewCopyID(now), "", "", now)
	if err != nil {
		return out, err
	}
	checkpoint, err := a.Ledger.Checkpoint(ctx)
	if err != nil {
		return out, err
	}
	trusted, err := os.ReadFile(a.opt.Workspace.Key(KeyTrusted))
	if err != nil {
		return out, fmt.Errorf("recovery kit: %w", err)
	}
	k := survive.Kit{Plan: p.Digest(), Version: p.Plan.Version, Recipient: key.Recipient, Needed: key.Shares.Needed, Holders: p.KitHolders(), Made: now, MadeBy: by}
	reads := slices.Contains(p.Repository.EncryptTo, p.RecoveryKit.Key)
	sealed, err := survive.SealKit(map[string][]byte{
		"README.txt": []byte(survive.KitInside(reads)), "plan.yaml": p.Source(), "plan.html": page, "contacts.txt": []byte(contactsText(p)),
		"locations.txt": []byte(locationsText(p)), "program.txt": []byte(programText()), "trusted.keys": trusted, "checkpoint.txt": checkpoint,
	}, now, to)
	if err != nil {
		return out, err
	}
	sum := sha256.Sum256(sealed)
	k.Sealed, k.Bytes = "sha256:"+hex.EncodeToString(sum[:]), len(sealed)
	out = api.KitFile{Kit: k, Name: fmt.Sprintf("recovery-kit-%s-%s.age", p.Plan.ID, now.Format("20060102T150405Z")), Sealed: sealed}
	out.Readme = survive.KitReadme(k, out.Name, cmp.Or(p.Org.Name, p.Plan.ID))
	return out, a.Custody.RecordKit(ctx, k)
}

// mustKit are the findings that keep a kit from being made: those of the server, not those
// that a new kit ends.
func (a *App) mustKit(ctx context.Context) (out []holdfast.Finding) {
	fs, err := a.kitFindings(ctx)
	if err != nil {
		return []holdfast.Finding{{Severity: holdfast.SeverityError, Message: "what lies on the server cannot be looked at: " + err.Error()}}
	}
	return slices.DeleteFunc(fs, func(f holdfast.Finding) bool { return f.Code != survive.CodeKitServer })
}

// contactsText is who is called, for whoever cannot show a page.
func contactsText(p *plan.Plan) string {
	var b strings.Builder
	for _, id := range sortedKeys(p.People) {
		who := p.People[id]
		fmt.Fprintf(&b, "%s: %s\n  phone: %s\n  mail:  %s\n", id, cmp.Or(who.Name, id), cmp.Or(who.Phone, "not said"), cmp.Or(who.Email, "not said"))
		for _, role := range sortedKeys(p.Roles) {
			switch r := p.Roles[role]; id {
			case r.Holder:
				fmt.Fprintf(&b, "  holds the role %s\n", role)
			case r.Deputy:
				fmt.Fprintf(&b, "  deputy for %s\n", role)
			}
		}
	}
	return b.String()
}

// locationsText is where the copies are.
func locationsText(p *plan.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "repository: %s\n", p.Repository.ID)
	for _, id := range sortedKeys(p.Locations) {
		l := p.Locations[id]
		where := l.Address()
		if l.Kind == plan.KindDir {
			where = p.Resolve(l.Path)
		}
		fmt.Fprintf(&b, "%s: %s at %s\n  provider: %s\n  account: %s\n  region: %s\n", id, l.Kind, where, cmp.Or(l.Provider, "not said"), cmp.Or(l.Account, "not said"), cmp.Or(l.Region, "not said"))
	}
	return b.String()
}

// programText names the program that made the kit, so that whoever gets it again can tell
// that it is the one.
func programText() string {
	return fmt.Sprintf("%s\nfor: %s/%s\n\nsha256sum of the program that you found must give the same digits.\n", program(), runtime.GOOS, runtime.GOARCH)
}
