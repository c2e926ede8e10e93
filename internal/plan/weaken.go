package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A diffRule says when a change at a path weakens something, and what that does.
type diffRule struct {
	path  string // with * for one part
	judge func(pair) (Effect, string)
	why   string
	parts []string // of path
}

// weakenings returns the rules that Diff judges by, more particular ones first.
// Weakening what protects is treated as deletion, so a rule errs on the side of asking.
func weakenings() []diffRule {
	rules := []diffRule{
		// What is promised.
		{"tiers.*.mtd", longer, "more harm is called tolerable", nil},
		{"services.*.mtd", longer, "more harm is called tolerable", nil},
		{"tiers.*.scenarios.*.mtd", longer, "more harm is called tolerable", nil},
		{"tiers.*.scenarios.*", override, "the ordinary objective does not hold in that scenario", nil},
		{"services.*.scenarios.*", override, "the ordinary objective does not hold in that scenario", nil},
		{"stores.*.scenarios.*", override, "the ordinary objective does not hold in that scenario", nil},
		{"tiers.*", gone, "nothing is promised by it any more", nil},
		{"severities.*", gone, "nothing is promised by it any more", nil},
		{"severities.*.activates_plan", falsified, "such an incident does not start the recovery any more", nil},
		{"severities.*.ack_within", longer, "people answer later", nil},
		{"severities.*.notify", fewer, "fewer are told", nil},
		{"*.*.scenarios.*.rto", overrides, "a longer outage is accepted", nil},
		{"*.*.scenarios.*.rpo", overrides, "more data may be lost", nil},
		{"services.*.rto", own, "a longer outage is accepted", nil},
		{"services.*.rpo", own, "more data may be lost", nil},
		{"stores.*.rto", own, "a longer outage is accepted", nil},
		{"stores.*.rpo", own, "more data may be lost", nil},
		{"services.*.tier", tier, "less is promised", nil},
		{"stores.*.tier", tier, "less is promised", nil},
		{"customers.*", gone, "the customer's terms are not looked at any more", nil},
		{"customers.*.services", fewer, "the customer's terms hold for less", nil},
		{"customers.*.keep", shorter, "the customer's data goes sooner", nil},
		{"obligations.*", gone, "what it demands is not looked at any more", nil},
		{"obligations.*.keep_min", shorter, "data may go sooner", nil},
		{"obligations.*.notify_within", longer, "the authority is told later", nil},
		{"residency.*", gone, "data may lie anywhere", nil},
		{"residency.*.jurisdictions", more, "data may lie in more places", nil},
		{"residency.*.regions", more, "data may lie in more places", nil},
		{"plan.rto_clock", anyChange, "the time of an outage begins elsewhere", nil},
		{"scenarios.*", gone, "nobody plans for that loss any more", nil},
		{"scenarios.*.lose", fewer, "a narrower loss is planned for", nil},
		{"scenarios.*.detection_delay", shorter, "backups may be kept for less", nil},

		// What is protected.
		{"services.*", gone, "nothing about it is promised or recovered any more", nil},
		{"services.*.needs.*", need, "it is recovered without something that it needs", nil},
		{"services.*.probe", gone, "nobody sees from outside whether it works", nil},
		{"services.*.live_data", falsified, "the rules for production do not hold for it any more", nil},
		{"services.*.redundancy", gone, "a part that fails stops it", nil},
		{"stores.*", gone, "it is neither backed up nor restored any more", nil},
		{"stores.*.class", byClass, "copies go sooner", nil},
		{"classes.*", byClass, "copies go sooner", nil},
		{"classes.*.keep_min", classMin, "data may go sooner", nil},
		{"classes.*.keep_max", byClass, "copies go sooner", nil},
		{"classes.*.standard_retention", shorter, "keeping less needs no reason any more", nil},
		{"repository.dedup_epoch", longer, "a key that names chunks, once leaked, is of use for longer", nil},
		{"repository.standard_retention", shorter, "keeping less needs no reason any more", nil},
		{"stores.*.kind", anyChange, "something else is backed up", nil},
		{"stores.*.protect", protect, "less protects it", nil},
		{"stores.*.not_protected", added, "nothing protects it", nil},
		{"stores.*.delegated.to", declared, "somebody else is responsible", nil},
		{"stores.*.delegated.adapter", declared, "another program says how fresh the supplier's copies are", nil},
		{"stores.*.delegated.probe_every", rarer, "it is noticed later that the supplier's copies are old", nil},
		{"stores.*.delegated.test_every", rarer, "restores from the supplier are tried less often", nil},
		{"stores.*.delegated.newest", declared, "nobody can tell whether the new question asks as much", nil},
		{"stores.*.live_data", falsified, "the rules for production do not hold for it any more", nil},
		{"stores.*.contains", fewer, "rules for such data do not hold for it any more", nil},
		{"stores.*.postgres.dsn", anyChange, "another database is backed up", nil},
		{"stores.*.mysql.dsn", anyChange, "another database is backed up", nil},
		{"stores.*.sqlite.path", anyChange, "another database is backed up", nil},
		{"stores.*.files.path", anyChange, "another folder is backed up", nil},
		{"stores.*.git.url", anyChange, "another repository is backed up", nil},
		{"stores.*.files.exclude", wider, "more is left out", nil},
		{"stores.*.files.one_file_system", verified, "what is mounted below is left out", nil},
		{"stores.*.postgres.archive", added, "the log is as old as a log file takes to be full", nil},
		{"stores.*.postgres.archive.timeout", longer, "more is lost", nil},
		{"stores.*.postgres.durability", durability, "received log counts as safe sooner", nil},
		{"stores.*.invariants.*", gone, "restored data is asked one question less", nil},
		{"stores.*.invariants.*.sql", anyChange, "nobody can tell whether the new question asks as much", nil},
		{"stores.*.invariants.*.expect", anyChange, "nobody can tell whether the new answer demands as much", nil},
		{"stores.*.recover", gone, "a recovery does not know where to put it", nil},
		{"backups.*.every", backupEvery, "more is lost between two backups", nil},
		{"backups.*.log", gone, "everything since the last backup is lost", nil},
		{"backups.*.log.max_lag", longer, "more is lost", nil},
		{"backups.*.copies.*", gone, "one copy less", nil},
		{"backups.*.copies.*.every", slower, "that copy is older", nil},
		{"backups.*.keep", kept, "what is older goes", nil},
		{"backups.*.retention", kept, "what is older goes", nil},
		{"backups.*.retention.min", shorter, "what is older may go", nil},
		{"backups.*.retention.exact", kept, "what is older goes", nil},
		{"backups.*.retention.max", kept, "what is older goes", nil},
		{"backups.*.retention.history", gone, "older backups go", nil},
		{"backups.*.retention.history.*", shorter, "older backups go", nil},
		{"backups.*.floor", longer, "backups may be rarer", nil},
		{"holds.*", gone, "the hold is released, and what it kept can be deleted", nil},
		{"holds.*.of", fewer, "what a court may ask for can be deleted", nil},
		{"holds.*.until", shorterHold, "what a court may ask for can be deleted", nil},
		{"holds.*.from", anyChange, "it may begin later", nil},
		{"locations.*", gone, "what lies there is not looked after any more", nil},
		{"locations.*.kind", anyChange, "backups go elsewhere", nil},
		{"locations.*.path", anyChange, "backups go elsewhere", nil},
		{"locations.*.encryption", declared, "the place may encrypt less than it did", nil},
		{"locations.*.s3.lock", shorter, "backups can be deleted sooner", nil},
		{"locations.*.s3.insecure", verified, "others can listen", nil},
		{"locations.*.s3.bucket", anyChange, "backups go elsewhere", nil},
		{"locations.*.s3.endpoint", anyChange, "backups go elsewhere", nil},
		{"locations.*.s3.prefix", anyChange, "backups go elsewhere", nil},
		{"locations.*.s3.ca_file", anyChange, "another server may be believed", nil},
		{"locations.*.gateway.address", anyChange, "backups go elsewhere", nil},
		{"locations.*.sftp.host", anyChange, "backups go elsewhere", nil},
		{"locations.*.sftp.path", anyChange, "backups go elsewhere", nil},
		{"locations.*.sftp.host_key", anyChange, "another server is believed", nil},
		{"locations.*.sftp.known_hosts", anyChange, "another server may be believed", nil},

		// Who is told.
		{"messages.channels.*", gone, "nobody is told by it any more", nil},
		{"messages.channels.*.events", fewer, "less is told by it", nil},
		{"messages.by", fewer, "people are told in fewer ways", nil},
		{"messages.ack_within", longer, "the next person is called later", nil},
		{"messages.gather", longer, "people are told later", nil},
		{"messages.heartbeat", gone, "nobody outside notices when the server stops", nil},
		{"messages.heartbeat.every", longer, "that the server stopped is noticed later", nil},

		// Who can read, and who may act.
		{"repository.encrypt_to", anyChange, "who can read the backups is not who it was", nil},
		{"repository.allow_one_recipient", verified, "the loss of one key can be the loss of every backup", nil},
		{"repository.id", anyChange, "backups go into another repository", nil},
		{"repository.tls_min", anyChange, "older versions of TLS may be spoken", nil},
		{"repository.approved", gone, "backups may lie anywhere", nil},
		{"repository.approved.kinds", more, "backups may lie in more places", nil},
		{"repository.approved.locations", more, "backups may lie in more places", nil},
		{"repository.approved.providers", more, "backups may lie in more places", nil},
		{"repository.approved.regions", more, "backups may lie in more places", nil},
		{"repository.approved.jurisdictions", more, "backups may lie in more places", nil},
		{"keys.*", gone, "whoever holds it can read no new backup", nil},
		{"keys.*.recipient", anyChange, "who can read the backups is not who it was", nil},
		{"keys.*.holders", fewer, "fewer people can read the backups", nil},
		{"keys.*.offline", falsified, "it can be stolen from a computer", nil},
		{"keys.*.rotate_every", longer, "a key that somebody has got hold of is of use for longer", nil},
		{"keys.*.challenge", rarer, "a lost key is noticed later", nil},
		{"keys.*.challenge_within", longer, "a lost key is noticed later", nil},
		{"keys.*.shares.needed", lower, "fewer people together can read the backups", nil},
		{"keys.*.shares.holders", fewer, "fewer people can bring the key back", nil},
		{"keys.*.shares.holders.*", anyChange, "somebody else keeps the share", nil},
		{"recovery_kit", gone, "nothing brings the company back without those who run it", nil},
		{"recovery_kit.key", anyChange, "others can open the recovery kit", nil},
		{"recovery_kit.outside", fewer, "fewer people outside can open the recovery kit", nil},
		{"recovery_kit.every", longer, "the recovery kit is older", nil},
		{"recovery_kit.check_in", gone, "nobody is told that those who run the company are silent", nil},
		{"recovery_kit.check_in.every", rarer, "silence is noticed later", nil},
		{"recovery_kit.check_in.by", more, "others can keep the trustees from being told", nil},
		{"recovery_kit.check_in.within", longer, "silence is noticed later", nil},
		{"credentials.*", gone, "it is not there on the bad day", nil},
		{"credentials.*.mfa", falsified, "a stolen word opens it", nil},
		{"credentials.*.min_holders", lower, "fewer people hold it", nil},
		{"people.*.ssh", anyChange, "who can sign is not who it was", nil},
		{"people.*.ssh.*", anyChange, "who can sign is not who it was", nil},
		{"people.*", person, "a person with a key can sign", nil},
		{"roles.*.holder", anyChange, "somebody else decides", nil},
		{"roles.*.deputy", anyChange, "somebody else may decide", nil},
		{"roles.*", goneOnly, "nobody has the duty any more", nil},
		{"roles.*.apart_from", fewer, "one person may do what two should", nil},
		{"approvals.*", approval, "the act may need fewer people", nil},
		{"approvals.*.roles", anyChange, "others decide", nil},
		{"approvals.*.people", lower, "fewer people decide", nil},
		{"approvals.*.requester_counts", verified, "who asks may agree", nil},
		{"approvals.*.fallback", added, "one person may do what needed two", nil},
		{"approvals.*.fallback.delay", shorter, "less time to stop it", nil},
		{"approvals.*.fallback.review_within", longer, "it is looked at later", nil},
		{"plan.approvers", anyChange, "others decide about the plan", nil},
		{"org.team", team, "one person may do what needed two", nil},
		{"activation.automatic", fewer, "a recovery waits for a person", nil},
		{"activation.confirm_after", slower, "a recovery starts later", nil},
		{"activation.by", fewer, "fewer may start a recovery", nil},

		// What proves it.
		{"drills.*", gone, "nothing proves those backups any more", nil},
		{"drills.*.of", fewer, "some backups are not proved any more", nil},
		{"drills.*.every", rarer, "backups are proved more rarely", nil},
		{"drills.*.pick", anyChange, "other recovery points are proved", nil},
		{"drills.*.rung", rung, "less is proved", nil},
		{"drills.*.fresh_for", staler, "older proofs count", nil},
		{"drills.*.after", fewer, "proofs outlive a change", nil},
		{"drills.*.scenarios", fewer, "some losses are not rehearsed any more", nil},
		{"exercises.*", gone, "people do not rehearse it any more", nil},
		{"exercises.*.every", rarer, "people rehearse it more rarely", nil},
		{"exercises.*.scenarios", fewer, "some losses are not rehearsed any more", nil},
		{"reviews.*", gone, "nobody looks at it any more", nil},
		{"reviews.*.every", rarer, "it is looked at more rarely", nil},
		{"metrics.*", gone, "nobody counts it any more", nil},
		{"plan.review.every", rarer, "the plan is looked at more rarely", nil},
		{"controls.*", clause, "less proves that clause", nil},
		{"frameworks.*.none.*", added, "a clause is said not to apply", nil},
		{"exceptions.*", added, "a finding is waived", nil},
		{"exceptions.*.until", later, "a finding is waived for longer", nil},
		{"exceptions.*.of", anyChange, "another finding is waived", nil},
		{"exceptions.*.rule", anyChange, "another finding is waived", nil},
		{"exceptions.*.approved_by", anyChange, "others agreed", nil},
		{"exclusions.*", added, "the plan does not cover it any more", nil},
		{"runbooks.*", gone, "the way back is not written down any more", nil},
		{"runbooks.*.steps.*", step, "the way back has one step less", nil},
		{"runbooks.*.steps.*.approve", fewer, "fewer agree", nil},
	}
	for i := range rules {
		rules[i].parts = strings.Split(rules[i].path, ".")
	}
	return rules
}

// ruleFor returns the rule for a place. The last part of an objective's path is the
// same wherever it stands.
func (d *differ) ruleFor(at []string) (diffRule, bool) {
	for _, r := range d.rules {
		if matches(r.parts, at) {
			return r, true
		}
	}
	switch at[len(at)-1] {
	case MetricRTO:
		return diffRule{judge: objective, why: "a longer outage is accepted"}, true
	case MetricRPO:
		return diffRule{judge: objective, why: "more data may be lost"}, true
	case "approved_by", "approved_on":
		return diffRule{judge: anyChange, why: "who agreed is not who it was"}, true
	}
	return diffRule{}, false
}

func matches(pattern, parts []string) bool {
	if len(pattern) != len(parts) {
		return false
	}
	for i, p := range pattern {
		if p != "*" && p != parts[i] {
			return false
		}
	}
	return true
}

func verdict(weaker, stronger bool) (Effect, string) {
	switch {
	case weaker:
		return Weaker, ""
	case stronger:
		return Stronger, ""
	}
	return Changed, ""
}

// The judgements. Each says what a pair is for its rule.
var (
	gone  = func(p pair) (Effect, string) { return verdict(p.removed(), p.added()) }
	added = func(p pair) (Effect, string) {
		return verdict(p.added() || empties(p.old), p.removed() || empties(p.new))
	}
	anyChange = func(pair) (Effect, string) { return Weaker, "" }
	// declared is for what nobody must say: saying it for the first time takes nothing back.
	declared = func(p pair) (Effect, string) { return verdict(!empties(p.old), false) }
	verified = func(p pair) (Effect, string) { return verdict(p.new == true, p.new == false) }
	// longer and shorter are for periods of which none is no bound at all.
	longer  = func(p pair) (Effect, string) { return lengths(p, true) }
	shorter = func(p pair) (Effect, string) { return lengths(p, false) }
	// slower is for periods of which none is at once, staler for those of proofs.
	slower   = func(p pair) (Effect, string) { return waits(p, 0) }
	staler   = func(p pair) (Effect, string) { return waits(p, DefaultFreshFor) }
	goneOnly = func(p pair) (Effect, string) { return verdict(p.removed(), false) }
	team     = func(p pair) (Effect, string) { return verdict(p.new == TeamSmall, p.old == TeamSmall) }
	fewer    = func(p pair) (Effect, string) {
		lost, won := without(p.old, p.new), without(p.new, p.old)
		return verdict(len(lost) > 0, len(won) > 0)
	}
	wider = func(p pair) (Effect, string) {
		return verdict(len(without(p.new, p.old)) > 0, len(without(p.old, p.new)) > 0)
	}
	more = func(p pair) (Effect, string) {
		// An empty list allows everything.
		switch {
		case empties(p.new):
			return Weaker, "everything is allowed"
		case empties(p.old):
			return Stronger, ""
		}
		lost, won := without(p.old, p.new), without(p.new, p.old)
		return verdict(len(won) > 0, len(lost) > 0)
	}
	lower = func(p pair) (Effect, string) {
		a, _ := p.old.(int)
		b, _ := p.new.(int)
		return verdict(b < a, b > a)
	}
	later = func(p pair) (Effect, string) {
		a, _ := p.old.(Date)
		b, _ := p.new.(Date)
		return verdict(a.before(b), b.before(a))
	}
	shorterHold = func(p pair) (Effect, string) { // without an end it lasts until it is taken out
		a, _ := p.old.(Date)
		b, _ := p.new.(Date)
		return verdict(!b.IsZero() && (a.IsZero() || b.before(a)), b.IsZero() || a.before(b))
	}
	falsified = func(p pair) (Effect, string) {
		is := func(v any) bool { b, ok := v.(bool); return !ok || b } // not said is true
		return verdict(is(p.old) && !is(p.new), is(p.new) && !is(p.old))
	}
)

// lengths compares two periods of time.
func lengths(p pair, longerIsWeaker bool) (Effect, string) {
	a, _ := p.old.(Period)
	b, _ := p.new.(Period)
	x, y := a.Approx(), b.Approx()
	if a.IsZero() { // no bound: for ever
		x = 1<<63 - 1
	}
	if b.IsZero() {
		y = 1<<63 - 1
	}
	if !longerIsWeaker && (a.IsZero() || b.IsZero()) {
		return verdict(b.IsZero(), a.IsZero()) // nothing demanded is less than something
	}
	if longerIsWeaker {
		return verdict(y > x, y < x)
	}
	return verdict(y < x, y > x)
}

// kept judges how long snapshots are kept in the end, by all fields that say so. A
// shorter maximum is what privacy asks, and deletes all the same.
func kept(p pair) (Effect, string) {
	was, is := p.d.backups(p.at[1])
	least, most := was.Kept()
	nowLeast, nowMost := is.Kept()
	if sooner(nowLeast, least) || sooner(nowMost, most) {
		return Weaker, ""
	}
	return verdict(false, sooner(least, nowLeast) || sooner(most, nowMost))
}

// waits compares two periods of which none has a length of its own.
func waits(p pair, none time.Duration) (Effect, string) {
	length := func(v any) time.Duration {
		if d, _ := v.(Period); !d.IsZero() {
			return d.Approx()
		}
		return none
	}
	a, b := length(p.old), length(p.new)
	return verdict(b > a, b < a)
}

// rarer compares two recurrences, or periods that stand for them.
func rarer(p pair) (Effect, string) {
	length := func(v any) time.Duration {
		switch v := v.(type) {
		case Recurrence:
			if !v.IsZero() {
				return v.Interval()
			}
		case Period:
			if !v.IsZero() {
				return v.Approx()
			}
		}
		return 1<<63 - 1 // never
	}
	a, b := length(p.old), length(p.new)
	return verdict(b > a, b < a)
}

// backupEvery judges how often a backup is made. With a log in between, rarer ones lose
// nothing more; they hang on a longer chain.
func backupEvery(p pair) (Effect, string) {
	effect, _ := rarer(p)
	was, is := p.d.backups(p.at[1])
	switch {
	case effect == Weaker && is.Log != nil && was.Log == nil:
		return Changed, ""
	case effect == Weaker && is.Log != nil:
		return Weaker, "a recovery replays more log, and one damaged piece of it costs more"
	}
	return effect, ""
}

// objective compares two promises. A promise without a number is weaker than one with.
func objective(p pair) (Effect, string) {
	a, _ := p.old.(Objective)
	b, _ := p.new.(Objective)
	x, bound := a.Duration()
	y, still := b.Duration()
	switch {
	case bound && !still:
		return Weaker, "nobody can say any more whether it was met"
	case !bound && still:
		return Stronger, ""
	case !bound:
		return verdict(!a.IsZero() && b.IsZero(), a.IsZero() && !b.IsZero())
	case y != x:
		return verdict(y > x, y < x)
	}
	// The limits are the same: the target counts, and the last of the stages.
	if s, t := total(a), total(b); s != t {
		return verdict(t > s, t < s)
	}
	s, t := a.Target.Approx(), b.Target.Approx()
	if s == 0 {
		s = x
	}
	if t == 0 {
		t = y
	}
	return verdict(t > s, t < s)
}

// total is when the last stage ends.
func total(o Objective) (last time.Duration) {
	for _, end := range o.Stages.Ends() {
		last = max(last, end)
	}
	return last
}

// override judges a scenario's objectives that are new or gone: they replace the
// ordinary ones, so they weaken where they are looser.
func override(p pair) (Effect, string) {
	effective := func(plan *Plan, v any) (rto, rpo Objective) {
		rto, rpo = ordinary(plan, p.at)
		if sc, ok := v.(TierScenario); ok {
			if !sc.RTO.IsZero() {
				rto = sc.RTO
			}
			if !sc.RPO.IsZero() {
				rpo = sc.RPO
			}
		}
		return rto, rpo
	}
	oldRTO, oldRPO := effective(p.d.old, p.old)
	newRTO, newRPO := effective(p.d.new, p.new)
	return both(p, oldRTO, newRTO, oldRPO, newRPO)
}

// ordinary returns the objectives that a scenario's replace.
func ordinary(plan *Plan, at []string) (rto, rpo Objective) {
	switch at[0] {
	case "tiers":
		return plan.Tiers[at[1]].RTO, plan.Tiers[at[1]].RPO
	case "services":
		return plan.Services[at[1]].RTO, plan.Services[at[1]].RPO
	}
	return plan.Stores[at[1]].RTO, plan.Stores[at[1]].RPO
}

// overrides judges one objective of a scenario. Where it is not said, the ordinary one
// holds.
func overrides(p pair) (Effect, string) {
	value := func(plan *Plan, v any) Objective {
		if o, _ := v.(Objective); !o.IsZero() {
			return o
		}
		rto, rpo := ordinary(plan, p.at)
		if p.at[len(p.at)-1] == MetricRTO {
			return rto
		}
		return rpo
	}
	return objective(pair{p.at, value(p.d.old, p.old), value(p.d.new, p.new), p.d})
}

// own judges an objective of a service or store by what then counts for it: the
// strictest of all that apply.
func own(p pair) (Effect, string) {
	metric := p.at[len(p.at)-1]
	was, _ := Strictest(p.d.old.ObjectivesOf(p.at[1], metric, ""))
	is, _ := Strictest(p.d.new.ObjectivesOf(p.at[1], metric, ""))
	return objective(pair{p.at, was.Objective, is.Objective, p.d})
}

// both judges two pairs of objectives as one change.
func both(p pair, oldRTO, newRTO, oldRPO, newRPO Objective) (Effect, string) {
	x, why := objective(pair{p.at, oldRTO, newRTO, p.d})
	y, also := objective(pair{p.at, oldRPO, newRPO, p.d})
	switch {
	case x == Weaker:
		return Weaker, or(why, fmt.Sprintf("rto %s instead of %s", newRTO, oldRTO))
	case y == Weaker:
		return Weaker, or(also, fmt.Sprintf("rpo %s instead of %s", newRPO, oldRPO))
	case x == Stronger || y == Stronger:
		return Stronger, ""
	}
	return Changed, ""
}

// tier judges another label by what it promises, never by its name.
func tier(p pair) (Effect, string) {
	node := p.at[1]
	oldRTO, oldRPO, _ := p.d.old.ObjectiveOf(node)
	newRTO, newRPO, _ := p.d.new.ObjectiveOf(node)
	return both(p, oldRTO, newRTO, oldRPO, newRPO)
}

// need judges what a service depends on.
func need(p pair) (Effect, string) {
	was, is := p.old == Hard, p.new == Hard
	return verdict(was && !is, is && !was)
}

// protect judges another backup by what it does.
func protect(p pair) (Effect, string) {
	was, _ := p.old.(string)
	is, _ := p.new.(string)
	if is == "" {
		return Weaker, "nothing protects it any more"
	}
	if was == "" {
		return Stronger, ""
	}
	a, b := p.d.old.Backups[was], p.d.new.Backups[is]
	d := &differ{old: p.d.old, new: p.d.new, rules: p.d.rules, was: &a, is: &b}
	d.structs([]string{"backups", "*"}, reflect.ValueOf(a), reflect.ValueOf(b))
	weak := Weakens(d.changes)
	if len(weak) == 0 {
		return verdict(false, slices.ContainsFunc(d.changes, func(c Change) bool { return c.Effect == Stronger }))
	}
	var what []string
	for _, c := range weak {
		what = append(what, strings.TrimPrefix(c.Path, "backups.*.")+" "+c.Text)
	}
	return Weaker, strings.Join(what, "; ")
}

// durability judges when received log counts as safe.
func durability(p pair) (Effect, string) {
	order := []Durability{"", DurableLocal, DurableOneLocation, DurableQuorum}
	rank := func(v any) int {
		d, _ := v.(Durability)
		return max(slices.Index(order, d), 1) // not said is local
	}
	return verdict(rank(p.new) < rank(p.old), rank(p.new) > rank(p.old))
}

// rung judges how high a drill must climb; not said is the default of its stores.
func rung(p pair) (Effect, string) {
	a, told := p.old.(int)
	b, tells := p.new.(int)
	if !told || !tells {
		drill := p.at[1]
		usual := func(plan *Plan) int {
			n := 0
			for _, store := range plan.Drills[drill].Of {
				n = max(n, int(plan.DrillRung(drill, store)))
			}
			return n
		}
		a, b = usual(p.d.old), usual(p.d.new)
	}
	return verdict(b < a, b > a)
}

// clause judges what proves a clause.
func clause(p pair) (Effect, string) {
	if p.added() || p.removed() {
		return verdict(p.removed(), p.added())
	}
	return fewer(p)
}

// approval judges what an act needs by what it needs in the end: who is not named has
// the usual rule.
func approval(p pair) (Effect, string) {
	was, is := p.d.old.Approval(p.at[1]), p.d.new.Approval(p.at[1])
	switch {
	case is.People < was.People:
		return Weaker, fmt.Sprintf("%d people decide instead of %d", is.People, was.People)
	case is.RequesterCounts && !was.RequesterCounts:
		return Weaker, "who asks may agree"
	case is.Fallback != nil && was.Fallback == nil:
		return Weaker, "one person may do what needed two"
	case !slices.Equal(is.Roles, was.Roles):
		return Weaker, "others decide"
	case is.Fallback != nil && is.Fallback.Delay.Approx() < was.Fallback.Delay.Approx():
		return Weaker, "less time to stop it"
	}
	return verdict(false, is.People > was.People)
}

// person judges somebody who is new or gone: a person with a key can sign.
func person(p pair) (Effect, string) {
	who, _ := p.new.(Person)
	was, _ := p.old.(Person)
	if len(who.SSH) > 0 {
		return Weaker, ""
	}
	if len(was.SSH) > 0 {
		return Weaker, "who could sign cannot any more"
	}
	return Changed, ""
}

// step judges a step that is new or gone: one that restores or checks is missed.
func step(p pair) (Effect, string) {
	return verdict(p.removed(), p.added())
}

func empties(v any) bool {
	if v == nil {
		return true
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return rv.Len() == 0
	}
	return false
}

// without returns the words of a that b lacks.
func without(a, b any) (out []string) {
	words := func(v any) (all []string) {
		if v == nil {
			return nil
		}
		for i, rv := 0, reflect.ValueOf(v); i < rv.Len(); i++ {
			all = append(all, rv.Index(i).String())
		}
		return all
	}
	have := words(b)
	for _, w := range words(a) {
		if !slices.Contains(have, w) {
			out = append(out, w)
		}
	}
	return out
}
