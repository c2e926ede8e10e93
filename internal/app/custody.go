package app

import (
	"context"
	"maps"
	"slices"

	"holdfast/internal/api"
	"holdfast/internal/job"
	"holdfast/internal/plan"
	"holdfast/internal/survive"
)

// custodians are the read keys of the plan in force, and who keeps them.
func (a *App) custodians() []survive.Key {
	var out []survive.Key
	for _, id := range slices.Sorted(maps.Keys(a.Plan().Keys)) {
		k := a.Plan().Keys[id]
		c := survive.Key{ID: id, Recipient: k.Recipient, Seals: slices.Contains(a.Plan().Repository.EncryptTo, id), Offline: k.Offline}
		for _, h := range k.Holders {
			c.Holders = append(c.Holders, survive.Holder{Name: h, Recipient: k.Recipient})
		}
		if s := k.Shares; s != nil {
			c.Needed = s.Needed
			for _, h := range slices.Sorted(maps.Keys(s.Holders)) {
				c.Holders = append(c.Holders, survive.Holder{Name: h, Recipient: s.Holders[h], Share: true})
			}
		}
		c.Stored, c.RotateEvery = k.Stored, k.RotateEvery.Approx()
		if !k.Created.IsZero() {
			c.Created = k.Created.Begin(a.Plan().Location())
		}
		c.Every, c.Within = k.Challenge.Interval(), k.ChallengeWithin.Approx()
		out = append(out, c)
	}
	return out
}

// challengeSchedules ask the holders of each key as the plan says.
func challengeSchedules(p *plan.Plan) []job.Schedule {
	var out []job.Schedule
	for _, id := range slices.Sorted(maps.Keys(p.Keys)) {
		if every := p.Keys[id].Challenge; !every.IsZero() {
			out = append(out, job.Schedule{Name: "challenge:" + id, Kind: survive.KindAsk, Args: survive.AskArgs{Key: id}, Every: every,
				Location: p.Location(), Deadline: every.Interval(), Missed: job.MissedOnce})
		}
	}
	return out
}

// KeyHolders says who holds which key, and has shown that it opens.
func (a *App) KeyHolders(ctx context.Context) (api.Keys, error) {
	ss, err := a.Custody.Standings(ctx)
	if err != nil {
		return api.Keys{}, err
	}
	k := api.Keys{Holders: ss, Findings: survive.Findings(ss, func(key string) bool { return !a.Plan().Keys[key].Challenge.IsZero() })}
	if k.Register, err = a.Custody.Lives(ctx); err != nil {
		return api.Keys{}, err
	}
	k.Findings = append(k.Findings, survive.RotationFindings(k.Register)...)
	return k, nil
}

// DestroyedKey records a person's word that the private half of a key is no more.
func (a *App) DestroyedKey(ctx context.Context, key, by, how string) (survive.Life, error) {
	if err := a.person(by); err != nil {
		return survive.Life{}, err
	}
	return a.Custody.Destroy(ctx, key, by, how)
}

// Challenges lists the challenges that are not answered.
func (a *App) Challenges(ctx context.Context) ([]survive.Challenge, error) {
	return a.Custody.Open(ctx)
}

// AskForKey asks the holders of a key.
func (a *App) AskForKey(ctx context.Context, key, holder string) ([]survive.Challenge, error) {
	return a.Custody.Ask(ctx, key, holder)
}

// AnswerForKey takes the answer of a holder.
func (a *App) AnswerForKey(ctx context.Context, challenge, answer, by string) (survive.Challenge, error) {
	if err := a.person(by); err != nil {
		return survive.Challenge{}, err
	}
	return a.Custody.Answer(ctx, challenge, answer, by)
}

// Rewrapped records that the keys of older objects were given to the keys in force.
func (a *App) Rewrapped(ctx context.Context, r api.Rewrap) error {
	for _, p := range r.Places {
		if err := a.Custody.Rewrapped(ctx, p.Store, r.By, map[string]any{"place": p, "recipients": r.Recipients, "purpose": r.Purpose}); err != nil {
			return err
		}
	}
	return nil
}
