package plan

import "strings"

// RecoveryKit is what brings the company back when those who run it, or all that they run,
// are gone: the plan, contacts, places and the digest of the program in one file, sealed to
// a key that only several people together have. "holdfast kit prepare" makes the key and
// prints what to write here, "holdfast kit make" makes the file.
type RecoveryKit struct {
	// Key is the key that opens the kit. It is split: keys.KEY.shares says among whom, and
	// how many of them it takes. If it is one of repository.encrypt_to, the same people
	// together read the backups, too.
	Key string `yaml:"key" plan:"required"`
	// Outside are those of its holders who do not work here: a lawyer, an auditor, the board.
	Outside []string `yaml:"outside" plan:"required"`
	// Every is how long a kit counts after it was made. One of another plan than the one in
	// force does not count either.
	//
	// Defaults to 90d.
	Every Period `yaml:"every"`
	// CheckIn asks people again and again to say that they are there. When nobody did in
	// time, all holders are told; nothing is opened or sent.
	CheckIn *CheckIn `yaml:"check_in"`
}

// CheckIn is a sign of life of those who run the company.
type CheckIn struct {
	Every Recurrence `yaml:"every" plan:"required"` // how often they are asked
	By    []string   `yaml:"by" plan:"required"`    // people or roles, of whom one is enough
	// Within is how long they have.
	//
	// Defaults to 7d.
	Within Period `yaml:"within"`
}

// KitHolders are the people who keep a share of the kit's key, in order.
func (p *Plan) KitHolders() []string {
	if p.RecoveryKit == nil || p.Keys[p.RecoveryKit.Key].Shares == nil {
		return nil
	}
	return sorted(p.Keys[p.RecoveryKit.Key].Shares.Holders)
}

// kit looks for a recovery kit that one side could open alone, or that nobody could when it
// is needed.
func (l *linter) kit() {
	p := l.p
	kit := p.RecoveryKit
	if kit == nil {
		return
	}
	const path = "recovery_kit"
	k, declared := p.Keys[kit.Key]
	if !declared {
		return // which is said already
	}
	if k.Shares == nil {
		l.fail(codeKeys, path+".key", "make one that is split with \"holdfast kit prepare\", and write what it prints", "the key %q of the recovery kit is not split: whoever has it opens the kit alone", kit.Key)
		return
	}
	if len(k.Holders) > 0 {
		l.fail(codeKeys, "keys."+kit.Key+".holders", "destroy the whole key, and take \"holders\" out", "the whole key of the recovery kit is held by %s, who open it alone", strings.Join(k.Holders, ", "))
	}
	outside := 0
	for i, who := range kit.Outside {
		if _, ok := k.Shares.Holders[who]; ok {
			outside++
		} else if _, ok := p.People[who]; ok {
			l.fail(codeKeys, path+".outside", "give them a share: \"holdfast kit prepare\" with --outside for each", "%q, number %d, is to be a trustee of the recovery kit and holds no share of its key", who, i+1)
		}
		for _, role := range sorted(p.Roles) {
			if r := p.Roles[role]; r.Holder == who || r.Deputy == who {
				l.warn(codeKeys, path+".outside", "name somebody who has no duty here", "the trustee %q has the role %q, and so is not outside the company", who, role)
				break
			}
		}
	}
	switch needed := k.Shares.Needed; {
	case len(k.Shares.Holders) == 0 || needed < 1: // which is said already
	case outside == 0:
		l.fail(codeKeys, path+".outside", "give shares to a lawyer, an auditor or the board", "everybody who can open the recovery kit works here: what takes all of them takes the kit")
	case outside < needed:
		l.warn(codeKeys, path+".outside", "have as many trustees as it takes, or need fewer", "the recovery kit takes %d shares, of which outside lie %d: when nobody of the company is left, nobody opens it", needed, outside)
	}
	if kit.CheckIn == nil {
		l.warn(codeKeys, path, "add \"check_in: {every: every 1mo, by: [name]}\"", "nobody is told when those who run the company have gone silent")
	}
}
