package survive

import (
	"context"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/db"
)

// A Standing is what is known of one holder of a key.
type Standing struct {
	Key         string           `json:"key"`
	Holder      string           `json:"holder,omitempty"`
	Recipient   string           `json:"recipient"` // of the key, whoever holds it
	Fingerprint string           `json:"fingerprint"`
	Seals       bool             `json:"seals"` // new backups are sealed to the key
	Offline     bool             `json:"offline,omitempty"`
	Share       bool             `json:"share,omitempty"`  // the holder keeps a share
	Needed      int              `json:"needed,omitempty"` // shares that bring the key back
	Posture     holdfast.Posture `json:"posture"`
	Proved      time.Time        `json:"proved,omitzero"` // the last right answer
	Asked       time.Time        `json:"asked,omitzero"`  // the last challenge
	Due         time.Time        `json:"due,omitzero"`    // until when an open challenge, or the next proof, is due
	Challenge   string           `json:"challenge,omitempty"`
}

// Codes of findings.
const (
	codeOverdue = "HF-K1" // a holder did not show in time that a key still opens
	codeNever   = "HF-K2" // a holder was never asked, although the plan has a schedule
)

// Standings says for each holder of each key of the plan whether they have shown that
// it opens, in the order of the plan. An answer counts for the recipient that was
// asked for: a new key, or a new share, is unproven.
func (m *Module) Standings(ctx context.Context) (out []Standing, err error) {
	err = m.cfg.DB.View(ctx, func(tx *db.Tx) error {
		_, asked, err := read[Challenge](ctx, m, tx, FactAsked, "")
		if err != nil {
			return err
		}
		answers, answered, err := read[answerFact](ctx, m, tx, FactAnswered, "")
		if err != nil {
			return err
		}
		out = nil
		for _, k := range m.cfg.Keys() {
			for _, h := range holdersOf(k) {
				var last, question Challenge
				var proved time.Time
				var answerTo string
				for i, a := range answered { // newest first
					if a.Key == k.ID && a.Holder == h.Name && a.Recipient == h.Recipient {
						proved, answerTo = answers[i].At, a.Challenge
						break
					}
				}
				for _, c := range asked {
					if c.Key == k.ID && c.Holder == h.Name && c.Recipient == h.Recipient {
						last = c
						break
					}
				}
				if last.ID != answerTo {
					question = last
				}
				out = append(out, standing(k, h, last, question, proved, m.cfg.Clock()))
			}
		}
		return nil
	})
	return out, err
}

// holdersOf are the holders, or one without a name: a key that nobody is said to hold
// is still a key that must open.
func holdersOf(k Key) []Holder {
	if len(k.Holders) == 0 {
		return []Holder{{Recipient: k.Recipient}}
	}
	return k.Holders
}

// standing judges one holder. question is the last challenge if it is not answered.
func standing(k Key, h Holder, last, question Challenge, proved, now time.Time) Standing {
	s := Standing{Key: k.ID, Holder: h.Name, Recipient: k.Recipient, Seals: k.Seals, Offline: k.Offline, Share: h.Share, Needed: k.Needed,
		Proved: proved, Asked: last.Asked, Posture: holdfast.PostureUnknown}
	within := k.Within
	if within <= 0 {
		within = DefaultWithin
	}
	switch {
	case question.ID != "" && now.After(question.Due):
		s.Posture, s.Due = holdfast.PostureOverdue, question.Due
	case question.ID != "":
		s.Due, s.Challenge = question.Due, question.ID
		if !proved.IsZero() {
			s.Posture = holdfast.PostureDue
		}
	case proved.IsZero():
	case k.Every > 0 && now.After(proved.Add(k.Every+within)):
		// Nobody asked: that the server was away is no proof.
		s.Posture, s.Due = holdfast.PostureOverdue, proved.Add(k.Every+within)
	default:
		s.Posture = holdfast.PostureProved
		if k.Every > 0 {
			s.Due = proved.Add(k.Every + within)
		}
	}
	return s
}

// Findings says who is overdue, and who was never asked although the plan has a
// schedule.
func Findings(ss []Standing, scheduled func(key string) bool) []holdfast.Finding {
	var out []holdfast.Finding
	for _, s := range ss {
		who := s.Holder
		if who == "" {
			who = "whoever holds it"
		}
		what := "the key " + s.Key
		if s.Share {
			what = "a share of the key " + s.Key
		}
		switch {
		case s.Posture == holdfast.PostureOverdue:
			out = append(out, holdfast.Finding{Code: codeOverdue, Severity: holdfast.SeverityError, Subject: "keys." + s.Key,
				Message: fmt.Sprintf("%s was to show by %s that %s still opens, and did not", who, s.Due.UTC().Format("2006-01-02 15:04Z"), what),
				Hint:    fmt.Sprintf("\"holdfast key challenge ask %s\" asks again; if the key is lost, make another: docs/ops/keys.md", s.Key)})
		case s.Posture == holdfast.PostureUnknown && s.Challenge == "" && scheduled(s.Key):
			out = append(out, holdfast.Finding{Code: codeNever, Severity: holdfast.SeverityWarning, Subject: "keys." + s.Key,
				Message: fmt.Sprintf("%s has never shown that %s opens", who, what),
				Hint:    fmt.Sprintf("\"holdfast key challenge ask %s\" asks now", s.Key)})
		}
	}
	return out
}
