package plan

import (
	"slices"
	"strings"
)

// The codes of what the reader complains about.
const (
	codeSyntax    = "HF-Y1" // not YAML, or not text
	codeDocuments = "HF-Y2" // not exactly one document
	codeAnchor    = "HF-Y3" // anchor, alias, merge key or tag
	codeField     = "HF-Y4" // unknown field
	codeDuplicate = "HF-Y5" // said twice
	codeValue     = "HF-Y6" // a value of the wrong form
	codeEmpty     = "HF-Y7" // an empty or missing value
	codeLimit     = "HF-Y8" // too large or too deep
	codeSecret    = "HF-S1" // a secret in the plan
)

// The codes of the lints.
const (
	codeUnbound       = "HF-L1"  // words without a number
	codeSchedule      = "HF-L2"  // the schedule cannot meet the RPO
	codeSteps         = "HF-L3"  // the steps alone do not fit into the RTO
	codeLooser        = "HF-L4"  // a need is looser than its consumer
	codeSupplier      = "HF-L5"  // a supplier's guarantee is unknown or too weak
	codeTolerable     = "HF-L6"  // RTO not below the maximum tolerable downtime
	codeWider         = "HF-L7"  // a wider loss has a tighter objective
	codeFreshness     = "HF-L8"  // drills are rarer than their proof lasts
	codeRetention     = "HF-L9"  // kept for less than a loss stays unnoticed
	codeFloor         = "HF-L10" // the declared floor is rarer than a tier allows
	CodeUnprotected   = "HF-L11" // no backup
	codeShared        = "HF-L13" // copies fail together
	codeKeys          = "HF-L14" // a lost key or holder loses everything
	codeClaimed       = "HF-L15" // protection by somebody else, only claimed
	codeSector        = "HF-L17" // rules of a sector without its data, or data without its rules
	codeDeputy        = "HF-L18" // no deputy
	codeApproval      = "HF-L19" // an approval that nobody can give
	codeBusFactor     = "HF-L20" // one person's absence stops everything
	codeStale         = "HF-L21" // what people need on the bad day is not kept fresh
	codeEstimate      = "HF-L22" // a step without an estimate
	codeCycle         = "HF-L23" // a circle
	codeZero          = "HF-L24" // a check that passes on nothing, or cannot be evaluated
	codeUndeclared    = "HF-L25" // an id that is not declared
	codeVersion       = "HF-L26" // the version is unlike the history
	codeLapsed        = "HF-L27" // a review, approval or attestation that lapsed
	codeUnsigned      = "HF-L28" // signatures that are missing, or asked of others than the approvers
	codeDoubtful      = "HF-L29" // a control that does not exist or is about something else
	CodeTreatment     = "HF-L30" // a risk without an answer
	codeOneTest       = "HF-L31" // one rehearsal for several losses
	CodeUndrilled     = "HF-L32" // nothing proves a backup
	codeUnrecovered   = "HF-L33" // no way back is written down
	codeGuard         = "HF-L34" // a location that guards less than it could
	codeProduction    = "HF-L35" // production without owner or objective
	codeClass         = "HF-L36" // a store without classification
	codeExclusion     = "HF-L37" // an exclusion that does not hold
	codeOrphan        = "HF-L38" // something that nothing uses, or outside the scope
	codeScheme        = "HF-L39" // a scale whose worst label has the longest RTO
	codeTerms         = "HF-L40" // a contract or law that demands more than is declared
	codeImpact        = "HF-L41" // an impact analysis that disagrees
	codeSurvivors     = "HF-L42" // a scenario that no copy survives
	codeConcentration = "HF-L43" // a store and its copies, or alternatives, with one supplier
	codeRegister      = "HF-L44" // a critical supplier about whom too little is known
	codeChain         = "HF-L45" // a chain that ends with the same person, or duties that are not apart
	codeUnfilled      = "HF-L46" // a duty that nobody has
	codeVague         = "HF-L47" // words without a number, or something declared without a parameter
	codeCited         = "HF-L48" // a cited document that is missing, stale or the plan itself
	codeUnlisted      = "HF-L49" // a control cited and not in the table
	CodeUnproved      = "HF-L50" // a control in the table without proof
	codeUnchecked     = "HF-L51" // a sentence that nothing checks
	codeResidency     = "HF-L52" // data where it may not lie
	codeStages        = "HF-L53" // stages whose total depends on how they are read
	codeSingle        = "HF-L54" // a single point of failure without a reason
	codeOverload      = "HF-L55" // many roles on one person
	codeUnapproved    = "HF-L56" // an objective that is declared and not approved
	codeUnclear       = "HF-L57" // something unclear, or an address that looks wrong
	codePlace         = "HF-L58" // a location outside the approved places
	codeKind          = "HF-L59" // a service that lacks what its kind must have
	codeHead          = "HF-L60" // a document whose head lacks what it is controlled by
	codeKeeping       = "HF-L61" // a backup that keeps otherwise than standard or class say
	codeTwice         = "HF-P1"  // one id for two things
	codeMinute        = "HF-P5"  // 1m is a minute
	codeGap           = "HF-P6"  // a time of day that the clock skips
	codePeriod        = "HF-P7"  // a promise with another unit than was meant
	codeException     = "HF-X1"  // an exception that does not hold
)

// A Rule is one thing that reading or checking a plan can find.
type Rule struct {
	// Code is stable: people search for it, exceptions name it, and it is never used
	// again for something else.
	Code string `json:"code"`
	// Meaning is what was found, in one line.
	Meaning string `json:"meaning"`
	// Why is what happens on the bad day if it stays.
	Why string `json:"why"`
	// Out is the edit that ends it.
	Out string `json:"out"`
}

// Rules returns every rule, in the order of docs/findings.md.
func Rules() []Rule { return slices.Clone(rules) }

// RuleOf returns the rule with a code; "L2" stands for "HF-L2", and case does not
// matter.
func RuleOf(code string) (Rule, bool) {
	code = strings.ToUpper(code)
	if !strings.HasPrefix(code, "HF-") {
		code = "HF-" + code
	}
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Code == code })
	if i < 0 {
		return Rule{}, false
	}
	return rules[i], true
}

// NearestRule says which codes may have been meant.
func NearestRule(code string) string {
	known := make([]string, len(rules))
	for i, r := range rules {
		known[i] = r.Code
	}
	return suggest(code, known)
}

var rules = []Rule{
	{codeSyntax, "not valid YAML, or not UTF-8",
		"Nothing of the file can be trusted when a part of it cannot be read.", "Check indentation and quotes near the line; save the file as UTF-8."},
	{codeDocuments, "more than one document in one file",
		"Tools read the first document and ignore the rest in silence.", "Remove the line that reads \"---\", or use a folder of files."},
	{codeAnchor, "an anchor, alias, merge key or tag: a plan says what it says in the place where it says it",
		"A reader in a hurry does not look up what is said elsewhere.", "Write the value out in each place."},
	{codeField, "an unknown field; the nearest known one is named",
		"A misspelt promise is a promise that nobody keeps.", "Use the field that the hint names."},
	{codeDuplicate, "something is declared twice, also in two files of one folder",
		"One of the two would win, and nobody knows which.", "Keep one of them."},
	{codeValue, "a value of the wrong form",
		"A guess about what was meant can be wrong.", "Write the form that the hint shows."},
	{codeEmpty, "an empty value, or a required field that is missing",
		"An empty objective reads as none.", "Write the value, or remove the key."},
	{codeLimit, "too large, or nested too deep",
		"A plan that people cannot read is not a plan.", "Split it into several files of one folder."},
	{codeSecret, "a secret in the plan: a password belongs in a file that `password_file` names",
		"Plans are versioned, copied and printed; who reads one would own the database.", "Move it to a file that only its owner reads, and change the secret: it must be regarded as known."},

	{codeUnbound, "an objective in words, without a number: nobody can say whether it was met",
		"Words such as \"near zero\" turn into a dispute on the day on which they count.", "Bind the words to a number: {stated: \"near zero\", bound: 1m}."},
	{codeSchedule, "the schedule cannot meet the RPO: interval, duration, log lag and copy cycle are added up",
		"The data that is lost lies between two copies, and in what was still under way.", "Back up more often, ship the log, make the copy faster, or promise less."},
	{codeSteps, "the steps of the runbook alone do not fit into the RTO",
		"The promise is broken before the restore begins.", "Shorten steps, let some run side by side, or promise more time."},
	{codeLooser, "something that a service cannot run without has a looser objective than the service",
		"A service is back when the last thing that it needs is back.", "Tighten what it needs, make the need soft, or loosen the service."},
	{codeTolerable, "the RTO is not below the maximum tolerable downtime",
		"The company is harmed for good before the promise is broken.", "Write a shorter rto, or correct the mtd."},
	{codeWider, "a wider loss has a tighter objective",
		"Who loses more cannot be back sooner.", "Loosen the wider scenario, or tighten the ordinary one."},
	{codeFreshness, "drills are rarer than their proof lasts, or ask for a rung that the store does not have",
		"Between two drills nothing is proven.", "Drill more often, or let the proof last longer."},
	{codeRetention, "backups are kept for less time than a loss may stay unnoticed",
		"The last good copy is gone when somebody notices.", "Keep longer, or detect sooner."},
	{codeFloor, "the rarest schedule that the policy allows loses more than a tier may",
		"Two rules of one policy cannot both be kept.", "Let the objective decide how often, and keep the floor for what has none."},
	{codeScheme, "the worst severity of a scale has the longest RTO, or a scale has no order",
		"People read a label as strictness, and labels say nothing about it.", "Give the scale an order, and check that the limits are meant."},
	{codeKeeping, "a backup that keeps shorter or longer than the policy's standard without a written reason, or than the class of its data allows",
		"Data is gone that somebody must show, or is there that must be gone.", "Keep for the time that is named, or write the reason under retention.why."},
	{codeTerms, "a contract or a law demands more than the plan declares: an objective, or how long data is kept",
		"One promise was made to the customer and another one to the engineers.", "Tighten the plan, or change the terms."},
	{codeImpact, "the impact analysis of a service disagrees with its objectives",
		"The company is harmed beyond what it can bear before the promise is broken.", "Tighten the objective, or correct the analysis."},
	{codeStages, "the stages of an objective end at different times, depending on how they are read",
		"The customer counts one way and the company the other.", "Say by \"from\" where each stage begins."},
	{codeUnapproved, "an objective that lacks the approval which the plan demands",
		"It is not in force.", "Have it approved, and add approved_by."},

	{CodeUnprotected, "a store without a backup, or a backup that goes nowhere",
		"When it is lost, all of it is lost.", "Name a backup by \"protect\", or file an exception."},
	{codeShared, "copies that are lost together: one place, domain, account, credential, provider or region",
		"Two names for one failure domain count once.", "Put one copy elsewhere, and declare what fails apart."},
	{codeKeys, "keys: none, one, all with one holder, none offline, all lost together with what they open, post-quantum and classic mixed, or not a public key",
		"A backup that nobody can open is no backup.", "Write backups for two keys of two holders, one of them offline."},
	{codeGuard, "a location guards less than it could: reached by plain http, or locked for less time than backups are kept",
		"Who holds the credentials can delete what is not locked.", "Use https, and lock for as long as you keep."},
	{CodeUndrilled, "no drill restores the store",
		"That its backups work is a hope.", "Add a drill."},
	{codeSurvivors, "no copy survives a scenario",
		"What the scenario takes, it takes for good.", "Add a location that it does not take."},
	{codePlace, "a location outside the places that are approved for backups",
		"Copies lie where nobody agreed that they may.", "Use an approved place, or have this one approved."},

	{codeDeputy, "a role without a deputy",
		"Disasters come in holidays.", "Name a deputy who is somebody else."},
	{codeApproval, "an approval or activation that nobody can give",
		"The recovery waits for a person who does not exist.", "Name fewer roles, or give them to more people."},
	{codeBusFactor, "everything ends with one person",
		"Without that person nothing is led or opened.", "Give somebody else a role, a key or the skill."},
	{codeStale, "credentials that nobody tries, or people without a copy of the plan for when nothing works",
		"On the bad day the wiki is down and the password has expired.", "Add test_every and offline_copy."},
	{codeChain, "an escalation or approval that comes back to the same person, or duties in one hand that must be apart, such as to open backups and to agree to their deletion",
		"The second pair of eyes is the first one.", "Name somebody else."},
	{codeUnfilled, "a duty in an incident or recovery that nobody has",
		"Everybody waits for somebody.", "Declare the role with holder and deputy."},
	{codeOverload, "one person holds many roles",
		"On the bad day they are all needed at the same time.", "Give one to somebody else, or see in an exercise that it works."},

	{codeEstimate, "a step without an estimate: approvals and people take time too",
		"A recovery time with an unknown part is unknown.", "Write est: 10m, or est: measured for what drills measure."},
	{codeCycle, "a circle of needs or steps: nothing in it can begin",
		"Each waits for the other, for ever.", "Make one need soft, or keep a tested way in that needs none of them."},
	{codeZero, "a check that passes on an empty database, or cannot be evaluated",
		"The drill is green and the data is gone.", "Demand something of the answer, such as value > 0."},
	{codeUnrecovered, "no way back is written down: no runbook, no restore step, no place to recover to",
		"Somebody has to invent it at 03:00.", "Write the runbook, or name one."},
	{codeOneTest, "one rehearsal is to show several losses that it does not rehearse",
		"The restore of one database says nothing about the loss of a region.", "Rehearse each loss by a drill or exercise of its own."},

	{codeProduction, "something with live data lacks an owner or an objective, whatever it is called",
		"Live data in \"staging\" is lost just as well.", "Add owner and tier, or write live_data: false where there is none."},
	{codeClass, "a store that is not classified",
		"Nobody can say who may see a copy of it, or which laws apply.", "Add class, and contains where data is special."},
	{codeExclusion, "something is left out without a reason, without anybody who accepted it, or although the plan covers it",
		"What is left out silently is forgotten.", "Write why, and who accepted it."},
	{codeOrphan, "something that nothing uses, or that lies outside the declared scope",
		"It is recovered too late, or a need was forgotten.", "Name it where it is used, exclude it, or remove it."},
	{codeSingle, "a single point of failure, without redundancy or a reason why there is none",
		"Several services fall together.", "Double it, or write why that is not feasible."},
	{codeKind, "a service without what its kind must have: something to rebuild it from, or something that stands in",
		"Its data comes back, and nothing that runs on it.", "Name the runbook or the store that holds its code or image, or what stands in for it."},

	{codeSupplier, "a supplier's guarantee is unknown or weaker than what rests on it, and no tested contingency makes up for it",
		"The service is back when the supplier is.", "Agree on an rto, name a contingency and try it, or say what makes up for it."},
	{codeClaimed, "somebody else protects the store, and that is only claimed",
		"Nobody has ever tried to get the data back from there.", "Restore from their copy on a schedule, or keep a copy of your own."},
	{codeConcentration, "a store and all its copies, or things that stand in for each other, rest on one supplier",
		"Its failure, its bill or its login ends both.", "Move one of them to another supplier."},
	{codeRegister, "a critical supplier about whom too little is known",
		"Nobody knows whom to call.", "Add what the register lacks."},
	{codeResidency, "data or a copy lies where it may not, or the plan does not say where it lies",
		"The law is broken on the day of the recovery, if not before.", "Move it, or correct region and jurisdiction."},

	{codeHead, "a plan with a title or label whose head lacks version, review, owner, approvers, label or control references",
		"Who holds a copy cannot tell whether it is the one in force, and whom to ask.", "Add what the head lacks, or take title and label away where the plan is no document."},
	{codeVersion, "the version or date of the plan is unlike its history",
		"Nobody knows which edition was approved.", "Correct the header, or add the edition that is missing."},
	{codeLapsed, "a review, an approval or an attestation that lapsed, now or in the past",
		"What nobody has looked at is not known to be true.", "Look at it, and record that also when nothing changes."},
	{codeUnsigned, "signatures that are missing, or asked of others than those who approve",
		"A plan that nobody signed is not in force.", "Have it signed, and let approvers and signatures name the same people."},
	{codeVague, "words such as \"periodic\" or \"timely\" without a number, or something declared without saying how often, by whom, how",
		"Nobody can say whether it was done.", "Bind the words to a number, or define them."},
	{codeCited, "a cited document is missing, out of date, or the plan itself",
		"The plan rests on something that nobody can read.", "Add the document, cite the present edition, or cite nothing."},
	{codeUnchecked, "a sentence of the policy that nothing checks",
		"It is true only as long as somebody happens to keep it.", "Name a drill, exercise, review, metric or measure by \"by\"."},
	{codeUnclear, "something that is marked as unclear, or an address that is spelled unlike the company's own",
		"A message goes to somebody else.", "Ask, and write down the answer."},

	{codeSector, "rules of a sector without its data, or health data without rules of the health sector",
		"An auditor asks for what does not apply, or misses what does.", "Mark the stores, or say by \"when\" where the framework applies."},
	{codeDoubtful, "a control that does not exist, or that is about something else than what is mapped to it",
		"The auditor finds it, and doubts the rest of the table.", "Map the control that the hint names."},
	{codeUnlisted, "a control that the text cites and no table lists",
		"Somebody relies on a mapping that is not kept.", "Add it to the clauses of its framework, or do not cite it."},
	{CodeUnproved, "a control in a table that nothing proves, or that the table lacks",
		"A table of controls is a list of promises.", "Map it to what proves it."},

	{CodeTreatment, "a risk that is not assessed, not treated, or accepted by nobody",
		"A risk in a register without an answer is only known.", "Add treat, by, owner, likelihood and impact."},

	{codeUndeclared, "an id that is not declared; the nearest one is named",
		"What is named and does not exist is not done.", "Correct the name, or declare it."},
	{codeTwice, "one id for two things",
		"Findings, facts and commands name things by id alone.", "Rename one of them."},
	{codeMinute, "`1m` is a minute; `1mo` is a month",
		"A retention of a minute keeps nothing.", "Write 1mo, or 60s if a minute is meant."},
	{codePeriod, "an objective shorter than a second, or longer than a year",
		"A wrong unit promises the impossible, or nothing at all.", "Write the unit that is meant."},
	{codeGap, "a schedule names a time of day that the clock skips once a year; the run happens after the gap",
		"Nothing is lost; who waits for it at that hour should know.", "Choose another time, or leave it so."},
	{codeException, "an exception that has ended, that its requester approved, or that waives nothing",
		"A waiver that never ends is a hidden policy.", "Mend what it waives, or have a new end approved by somebody else."},
}
