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
	codeUnbound     = "HF-L1"  // words without a number
	codeSchedule    = "HF-L2"  // the schedule cannot meet the RPO
	codeSteps       = "HF-L3"  // the steps alone do not fit into the RTO
	codeLooser      = "HF-L4"  // a need is looser than its consumer
	codeTolerable   = "HF-L6"  // RTO not below the maximum tolerable downtime
	codeWider       = "HF-L7"  // a wider loss has a tighter objective
	codeFreshness   = "HF-L8"  // drills are rarer than their proof lasts
	codeRetention   = "HF-L9"  // kept for less than a loss stays unnoticed
	CodeUnprotected = "HF-L11" // no backup
	codeShared      = "HF-L13" // copies fail together
	codeKeys        = "HF-L14" // a lost key or holder loses everything
	codeDeputy      = "HF-L18" // no deputy
	codeApproval    = "HF-L19" // an approval that nobody can give
	codeBusFactor   = "HF-L20" // one person's absence stops everything
	codeEstimate    = "HF-L22" // a step without an estimate
	codeCycle       = "HF-L23" // a circle
	codeZero        = "HF-L24" // a check that passes on nothing, or cannot be evaluated
	codeUndeclared  = "HF-L25" // an id that is not declared
	codeUndrilled   = "HF-L32" // nothing proves a backup
	codeUnrecovered = "HF-L33" // no way back is written down
	codeGuard       = "HF-L34" // a location that guards less than it could
	codeTwice       = "HF-P1"  // one id for two things
	codeMinute      = "HF-P5"  // 1m is a minute
	codeGap         = "HF-P6"  // a time of day that the clock skips
	codeException   = "HF-X1"  // an exception that does not hold
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

	{CodeUnprotected, "a store without a backup, or a backup that goes nowhere",
		"When it is lost, all of it is lost.", "Name a backup by \"protect\", or file an exception."},
	{codeShared, "copies that are lost together: one place, domain, account, provider or region",
		"Two names for one failure domain count once.", "Put one copy elsewhere, and declare what fails apart."},
	{codeKeys, "keys: none, one, all with one holder, none offline, or not a public key",
		"A backup that nobody can open is no backup.", "Write backups for two keys of two holders, one of them offline."},
	{codeGuard, "a location guards less than it could: reached by plain http, or locked for less time than backups are kept",
		"Who holds the credentials can delete what is not locked.", "Use https, and lock for as long as you keep."},
	{codeUndrilled, "no drill restores the store",
		"That its backups work is a hope.", "Add a drill."},

	{codeDeputy, "a role without a deputy",
		"Disasters come in holidays.", "Name a deputy who is somebody else."},
	{codeApproval, "an approval or activation that nobody can give",
		"The recovery waits for a person who does not exist.", "Name fewer roles, or give them to more people."},
	{codeBusFactor, "everything ends with one person",
		"Without that person nothing is led or opened.", "Give somebody else a role, a key or the skill."},

	{codeEstimate, "a step without an estimate: approvals and people take time too",
		"A recovery time with an unknown part is unknown.", "Write est: 10m, or est: measured for what drills measure."},
	{codeCycle, "a circle of needs or steps: nothing in it can begin",
		"Each waits for the other, for ever.", "Make one need soft, or keep a tested way in that needs none of them."},
	{codeZero, "a check that passes on an empty database, or cannot be evaluated",
		"The drill is green and the data is gone.", "Demand something of the answer, such as value > 0."},
	{codeUnrecovered, "no way back is written down: no runbook, no restore step, no place to recover to",
		"Somebody has to invent it at 03:00.", "Write the runbook, or name one."},

	{codeUndeclared, "an id that is not declared; the nearest one is named",
		"What is named and does not exist is not done.", "Correct the name, or declare it."},
	{codeTwice, "one id for two things",
		"Findings, facts and commands name things by id alone.", "Rename one of them."},
	{codeMinute, "`1m` is a minute; `1mo` is a month",
		"A retention of a minute keeps nothing.", "Write 1mo, or 60s if a minute is meant."},
	{codeGap, "a schedule names a time of day that the clock skips once a year; the run happens after the gap",
		"Nothing is lost; who waits for it at that hour should know.", "Choose another time, or leave it so."},
	{codeException, "an exception that has ended, that its requester approved, or that waives nothing",
		"A waiver that never ends is a hidden policy.", "Mend what it waives, or have a new end approved by somebody else."},
}
