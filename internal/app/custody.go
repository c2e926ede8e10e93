package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/incident"
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
	kit, err := a.kitFindings(ctx)
	if err != nil {
		return k, err
	}
	k.Findings = append(k.Findings, kit...)
	unopened, err := a.unopened(ctx)
	if err != nil {
		return k, err
	}
	k.Findings = append(k.Findings, unopened...)
	if k.Register, err = a.Custody.Lives(ctx); err != nil {
		return api.Keys{}, err
	}
	k.Findings = append(k.Findings, survive.RotationFindings(k.Register)...)
	named, err := a.namingFindings(ctx)
	k.Findings = append(k.Findings, named...)
	return k, err
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

// custodyOf names one holder of one key, in signals.
func custodyOf(s survive.Standing) string { return s.Key + ":" + s.Holder }

// keysOverdue are the holders who did not show in time that what they keep still opens.
// Each is one incident until they answer a later challenge: a key that nobody can use is
// found on the bad day otherwise. How bad it is, the plan says: as bad as the loss of the
// store that must be back first, or one class less as long as somebody else has shown that
// a key opens new backups.
func (a *App) keysOverdue(ctx context.Context) (out []trouble, err error) {
	ss, err := a.Custody.Standings(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range ss {
		if s.Posture != holdfast.PostureOverdue {
			continue
		}
		who := or(s.Holder, "whoever holds it", "%s")
		what := "the key " + s.Key
		if s.Share {
			what = "their share of the key " + s.Key
		}
		out = append(out, trouble{kind: incident.KindKeyOverdue, custody: custodyOf(s), severity: a.keySeverity(s, ss), since: s.Due,
			title: fmt.Sprintf("%s did not show that %s opens", who, what), detail: fmt.Sprintf("it was due by %s; \"holdfast key challenge ask %s\" asks again, and an answer ends it", s.Due.UTC().Format(time.RFC3339), s.Key)})
	}
	return out, nil
}

func (a *App) keySeverity(of survive.Standing, all []survive.Standing) incident.Severity {
	if !of.Seals {
		return incident.SEV3 // older backups only
	}
	worst := incident.SEV3
	for _, p := range a.policies() {
		worst = min(worst, a.impact(p.Store).Severity) // SEV1 sorts before SEV2
	}
	if slices.ContainsFunc(all, func(s survive.Standing) bool { return s.Seals && !s.Share && s.Posture == holdfast.PostureProved }) {
		worst = map[incident.Severity]incident.Severity{incident.SEV1: incident.SEV2}[worst]
		if worst == "" {
			return incident.SEV3
		}
	}
	return worst
}
