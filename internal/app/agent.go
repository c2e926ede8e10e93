package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/backup"
	"holdfast/internal/calendar"
	"holdfast/internal/durable"
	"holdfast/internal/job"
	"holdfast/internal/location"
	"holdfast/internal/plan"
	"holdfast/internal/repo"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// A source agent makes backups on the machine of the stores, and holds nothing that reads
// one: its own signing key, the key that names chunks, the public halves of the read keys,
// and credentials that only write. What it made, the server finds in the locations,
// countersigns and proves; the agent is told nothing.

// arrivalsEvery is how often a server looks for what agents made.
const arrivalsEvery = "every 1m"

// arrivals is the schedule on which the server looks for the snapshots of an agent. That
// they come in time is judged by what is there, as for every store.
func arrivals(store string) job.Schedule {
	every, err := calendar.ParseRecurrence(arrivalsEvery)
	if err != nil {
		panic(err) // a constant
	}
	return job.Schedule{Name: "arrivals:" + store, Kind: backup.KindReconcile, Args: map[string]string{"store": store}, Every: every,
		Deadline: time.Hour, Missed: job.MissedOnce, Key: backup.KindReconcile + ":" + store}
}

// byAgent says who backs a store up.
func byAgent(store string) error {
	return holdfast.WithHint(fmt.Errorf("store %q is backed up by its agent on another machine: %w", store, holdfast.ErrRefused),
		"run \"holdfast agent source --once %s\" there; the server finds what arrives", store)
}

// agentKeys are the keys that agents sign backups with.
func agentKeys(p *plan.Plan) (out []seal.VerifyKey) {
	for _, st := range p.Stores {
		if st.Agent == nil {
			continue
		}
		if k, err := seal.ParseVerifyKey(st.Agent.Key); err == nil && !slices.Contains(out, k) { // a bad one is refused at the start
			out = append(out, k)
		}
	}
	return out
}

// writerOf is the key that signs the snapshots of a store.
func (a *App) writerOf(store string) seal.VerifyKey {
	if ag := a.Plan().Stores[store].Agent; ag != nil {
		k, err := seal.ParseVerifyKey(ag.Key)
		if err != nil {
			return seal.VerifyKey{} // which verifies nothing: loud at every snapshot
		}
		return k
	}
	return a.Keys.Source.Public()
}

// InitAgent makes the keys of a source agent, and nothing else, and returns the public
// half of the one that signs. Keys that are there stay.
func InitAgent(w Workspace, name string) (seal.VerifyKey, error) {
	if err := os.MkdirAll(filepath.Join(w.Dir, "keys"), 0o700); err != nil {
		return seal.VerifyKey{}, err
	}
	k, err := seal.GenerateSigningKey(name)
	if err != nil {
		return seal.VerifyKey{}, err
	}
	for role, text := range map[string]string{KeySource: k.String(), KeyDedup: seal.NewMACKey().String()} {
		if err := seal.WriteKeyFile(w.Key(role), text+"\n"); err != nil && !errors.Is(err, os.ErrExist) {
			return seal.VerifyKey{}, err
		}
	}
	if k, err = readSigningKey(w.Key(KeySource)); err != nil {
		return seal.VerifyKey{}, err
	}
	return k.Public(), nil
}

// A SourceAgent is one running agent. It has no state but its memory of what it wrote and
// when, which may be lost: then it is written again.
type SourceAgent struct {
	opt        Options
	plan       *plan.Plan
	signer     seal.SigningKey
	places     *Places
	recipients []seal.Recipient
	lock       *durable.FileLock

	mu      sync.Mutex
	open    map[string]source.Store // one adapter for the base and the log of a store: each waits for the other
	follows map[string]bool         // whose log is being followed
}

// A Made is a snapshot that an agent made.
type Made struct {
	Store    string            `json:"store"`
	Snapshot string            `json:"snapshot,omitempty"`
	Bytes    int64             `json:"bytes"`
	Stored   int64             `json:"stored_bytes"`
	Places   map[string]string `json:"locations"` // "put", or why not
	// Anew says why all content was stored anew, although there are snapshots before.
	Anew string `json:"anew,omitempty"`
	// Lines says how the copies that were put travelled.
	Lines map[string]location.Line `json:"lines,omitempty"`
	Err   error                    `json:"-"`
}

// OpenAgent reads the plan and the agent's two keys, and takes the workspace. It refuses a
// workspace with keys that do not belong on the machine of a store.
func OpenAgent(opt Options) (_ *SourceAgent, err error) {
	a := &SourceAgent{opt: opt, open: map[string]source.Store{}, follows: map[string]bool{}}
	if a.plan, err = plan.Load(opt.Workspace.Plan()); err != nil {
		return nil, err
	}
	for _, role := range []string{KeyVault, KeyLog, KeyEvidence, KeyRunner, KeyRecovery} {
		if _, err := os.Lstat(opt.Workspace.Key(role)); err == nil {
			return nil, holdfast.WithHint(fmt.Errorf("%s does not belong on the machine of a source agent: %w", opt.Workspace.Key(role), holdfast.ErrRefused),
				"move it to the server's machine, and make new keys if others could read it here; \"holdfast agent init\" makes the two that an agent needs")
		}
	}
	if a.signer, err = readSigningKey(opt.Workspace.Key(KeySource)); err != nil {
		return nil, holdfast.WithHint(err, "\"holdfast agent init NAME\" makes the keys of an agent")
	}
	if _, err := readNamings(opt.Workspace); err != nil {
		return nil, holdfast.WithHint(err, "\"holdfast agent init NAME\" makes the keys of an agent")
	}
	if a.recipients, err = recipientsOf(a.plan); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opt.Workspace.State(), 0o700); err != nil {
		return nil, unwritable(opt.Workspace, err)
	}
	if a.lock, err = durable.Lock(opt.Workspace.lock()); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("another holdfast works in this workspace: %w", err), "stop it first")
	}
	if err := a.pinned(); err != nil {
		return nil, errors.Join(err, a.lock.Unlock())
	}
	a.places = NewPlaces(a.plan)
	return a, nil
}

// Close gives the workspace free.
func (a *SourceAgent) Close() error { return a.lock.Unlock() }

// Stores are the stores that have this agent's key, in order.
func (a *SourceAgent) Stores() (out []string, err error) {
	own := a.signer.Public().String()
	for id, st := range a.plan.Stores {
		if st.Agent != nil && strings.TrimSpace(st.Agent.Key) == own {
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("no store of the plan has this agent: %w", holdfast.ErrUsage), "write \"agent: {key: %q}\" at its stores, here and in the server's plan", own)
	}
	slices.Sort(out)
	return out, nil
}

// placesOf opens the locations of a store. A location that this machine can read is
// refused: the agent is there so that it cannot.
func (a *SourceAgent) placesOf(ctx context.Context, store string) (out []repo.Place, away map[string]error, err error) {
	away = map[string]error{}
	for _, name := range a.plan.Backups[a.plan.Stores[store].Protect].Copies.Names() {
		r, err := a.places.Open(ctx, name)
		if err == nil {
			err = refusal(a.plan.Refusals(store, name, a.opt.Clock()))
		}
		switch {
		case err != nil:
			away[name] = err
		case !r.Blind():
			return nil, nil, holdfast.WithHint(fmt.Errorf("location %q can be read with the credentials of this machine: %w", name, holdfast.ErrRefused),
				"put a gateway before it and enroll this machine as a writer, or give it a bucket's put-only credentials and \"write_only: true\"")
		default:
			out = append(out, repo.Place{Name: name, Repo: r})
		}
	}
	if len(out) == 0 {
		var all []error
		for name, err := range away {
			all = append(all, fmt.Errorf("location %q: %w", name, err))
		}
		return nil, away, fmt.Errorf("store %q: no location is within reach: %w", store, errors.Join(all...))
	}
	return out, away, nil
}

// Snapshot copies one store now, to all of its locations. A base backup of a database
// counts with its log only, so the log is followed meanwhile, if nobody does yet.
func (a *SourceAgent) Snapshot(ctx context.Context, store string) (m Made, err error) {
	m = Made{Store: store, Places: map[string]string{}, Lines: map[string]location.Line{}}
	if a.hasLog(store) && !a.followed(store) {
		following, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); a.follow(following, store, func() {}) }()
		defer func() { stop(); <-ended }()
	}
	src, err := a.source(store)
	if err != nil {
		return m, err
	}
	for _, f := range src.Check(ctx) {
		if f.Severity == holdfast.SeverityError && !source.MendedByBackup(src, f) {
			return m, holdfast.WithHint(fmt.Errorf("%s: %s", f.Code, f.Message), "%s", f.Hint)
		}
	}
	places, away, err := a.placesOf(ctx, store)
	if err != nil {
		return m, err
	}
	for name, err := range away {
		m.Places[name] = err.Error()
	}
	name, err := naming(a.opt.Workspace, a.plan, store, a.opt.Clock())
	if err != nil {
		return m, err
	}
	w, err := repo.NewWriter(ctx, repo.WriterConfig{
		Places: places, Scope: store, Kind: string(a.plan.Stores[store].Kind), Recipients: a.recipients, AllowOne: a.plan.Repository.AllowOneRecipient, Signer: a.signer,
		MAC: name.Key, Epoch: name.Epoch, CacheDir: a.opt.Workspace.cache(), Clock: a.opt.Clock,
	})
	if err != nil {
		return m, err
	}
	m.Anew = name.Label(w)
	partial := src.Snapshot(ctx, w, func(holdfast.Progress) {})
	if partial != nil && !errors.Is(partial, source.ErrIncomplete) {
		w.Abort()
		return m, partial
	}
	man, copies, err := w.Finish(ctx)
	if err != nil {
		w.Abort()
		return m, err
	}
	m.Snapshot, m.Bytes, m.Stored = man.ID, man.Bytes, w.Stats().BytesStored
	for _, c := range copies {
		m.Places[c.Place] = "put"
		if c.Err != nil {
			m.Places[c.Place] = c.Err.Error()
			continue
		}
		m.Lines[c.Place] = a.places.Line(c.Place)
	}
	return m, partial
}
