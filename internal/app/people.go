package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/db"
	"holdfast/internal/govern"
	"holdfast/internal/incident"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// accessReviewEvery is how often somebody looks at who may do what if the plan names no
// review of access: ISO 27001 and SOC 2 auditors expect one each quarter or half year.
const accessReviewEvery = 180 * 24 * time.Hour

// reviewAccess is the name of the plan's review that sets another period.
const reviewAccess = "access"

func (a *App) access() *access.Module {
	return access.New(access.Config{
		DB: a.DB, Ledger: facts{a}, Facts: a.Ledger, Secret: a.opt.Workspace.secretKey,
		Names: func() []string { return slices.Sorted(maps.Keys(a.Plan().People)) },
		Duties: func(person string) []string {
			var out []string
			rests, err := a.restOf(context.Background(), person)
			for _, r := range rests {
				out = append(out, r.Path+": "+r.What)
			}
			if err != nil {
				out = append(out, "offline: whether they have an offline copy is not known: "+err.Error())
			}
			return out
		},
		Small: func() bool { return a.Plan().Org.Team == plan.TeamSmall },
		ReviewEvery: func() time.Duration {
			if d, ok := a.Plan().Reviews[reviewAccess]; ok && !d.Every.IsZero() {
				return d.Every.Interval()
			}
			return accessReviewEvery
		},
		Announce: a.glassBroken, Clock: a.opt.Clock,
	})
}

// glassBroken: somebody took what nobody approved. It is an incident, so that everybody
// whom incidents reach hears of it, and it is answered like one.
func (a *App) glassBroken(ctx context.Context, tx *db.Tx, g access.Grant) error {
	_, err := a.Incidents.Signal(ctx, tx, incident.Signal{Source: "access", Dedup: fmt.Sprintf("break-glass:%d", g.ID),
		Title: g.Person + " broke the glass", Kind: "break-glass", At: g.Given,
		Detail: fmt.Sprintf("emergency access %d until %s, without approval: %s", g.ID, g.Until.Format(time.RFC3339), g.Reason)})
	return err
}

// duties lists what the plan rests on a person: what somebody else must take over when
// they leave.
func duties(p *plan.Plan, person string) (out []govern.Rests) {
	add := func(format string, args ...any) {
		path, what, _ := strings.Cut(fmt.Sprintf(format, args...), ": ")
		out = append(out, govern.Rests{Path: path, What: what})
	}
	for _, id := range slices.Sorted(maps.Keys(p.Roles)) {
		r := p.Roles[id]
		if r.Holder == person {
			add("roles.%s: the holder; %s", id, or(r.Deputy, "there is no deputy", "the deputy is %s"))
		}
		if r.Deputy == person {
			add("roles.%s: the deputy", id)
		}
	}
	if o := p.OnCall; o != nil {
		for _, x := range []struct {
			name  string
			turns []string
		}{{"primary", o.Primary}, {"secondary", o.Secondary}} {
			if slices.Contains(x.turns, person) {
				left := len(slices.DeleteFunc(slices.Clone(x.turns), func(s string) bool { return s == person }))
				add("oncall.%s: takes turns; %d others are left, and the turns of %s are a gap", x.name, left, person)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Keys)) {
		k := p.Keys[id]
		if slices.Contains(k.Holders, person) {
			add("keys.%s: holds it; name another holder, then make the key anew: who leaves may have a copy", id)
		}
		if k.Shares != nil {
			if _, ok := k.Shares.Holders[person]; ok {
				add("keys.%s: holds a share; split the key anew among those who stay", id)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.Credentials)) {
		if slices.Contains(p.Credentials[id].Holders, person) {
			add("credentials.%s: holds it; change it, and name another holder", id)
		}
	}
	if slices.Contains(p.Plan.Approvers, person) {
		add("plan.approvers: approves the plan")
	}
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		if p.Services[id].Owner == person {
			add("services.%s: the owner", id)
		}
	}
	if _, ok := p.People[person]; ok {
		add("people.%s: take them out of the plan", person)
	}
	return out
}

func or(name, none, format string) string {
	if name == "" {
		return none
	}
	return strings.Replace(format, "%s", name, 1)
}

// KeySecrets is the file of the key that seals secrets in the state.
const KeySecrets = "secrets.key"

// secretKey reads the key of the secrets in the state, and makes it at first use. A
// crash in between leaves the whole key or none.
func (w Workspace) secretKey() (seal.SecretKey, error) {
	path := w.Key(KeySecrets)
	text, err := seal.ReadKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k := seal.NewSecretKey()
		err = seal.WriteKeyFile(path, "# holdfast secrets of the state: keep it apart from copies of the state\n"+k.String()+"\n")
		if err == nil {
			return k, nil
		}
		if errors.Is(err, fs.ErrExist) {
			text, err = seal.ReadKeyFile(path)
		}
	}
	if err != nil {
		return seal.SecretKey{}, holdfast.WithHint(err, "the folder keys of the workspace must be writable for its owner")
	}
	k, err := seal.ParseSecretKey(text)
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// tendEvery is how often what is over is ended.
const tendEvery = 20 * time.Second

// tendAccess ends what is over, once in a while.
func (a *App) tendAccess(ctx context.Context) {
	pause := a.pauses(ctx)
	for {
		if err := errors.Join(a.Access.Tend(ctx), a.Access.Unrecorded()); err != nil && ctx.Err() == nil {
			a.opt.Log.Error("access not tended, or not all of it recorded", "err", err)
		}
		if !pause(tendEvery) {
			return
		}
	}
}
