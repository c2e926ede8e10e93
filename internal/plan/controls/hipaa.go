package controls

// hipaa lists the administrative safeguards of 45 CFR 164.308 around contingency, and
// their neighbours.
func hipaa() []Control {
	t := func(t ...Topic) []Topic { return t }
	return []Control{
		{"164.308(a)(1)", "managing security", "", t(Risk, Policy)},
		{"164.308(a)(1)(ii)(A)", "analysis of risks", "", t(Risk)},
		{"164.308(a)(1)(ii)(B)", "management of risks", "", t(Risk)},
		{"164.308(a)(2)", "who answers for security", "", t(Organisation)},
		{"164.308(a)(5)", "awareness and training", "", t(Training)},
		{"164.308(a)(6)", "security incidents", "", t(Incident)},
		{"164.308(a)(7)", "contingency plan", "Emergencies that damage systems with health data are answered by plans, copies, tests and priorities.", t(Continuity, Backup, Restore, Recovery, Exercise, Impact, Policy)},
		{"164.308(a)(7)(i)", "contingency plan: the standard", "", t(Continuity, Backup, Restore, Recovery, Exercise, Impact, Policy)},
		{"164.308(a)(7)(ii)(A)", "data backup plan", "Exact copies of health data can be made and got back.", t(Backup, Restore)},
		{"164.308(a)(7)(ii)(B)", "disaster recovery plan", "Lost data is restored by procedures.", t(Recovery, Restore)},
		{"164.308(a)(7)(ii)(C)", "emergency mode operation", "Critical processes go on, protected, in an emergency.", t(Continuity, Incident, Exercise, Access)},
		{"164.308(a)(7)(ii)(D)", "testing and revision", "Plans are tested and revised.", t(Exercise, Restore, Policy)},
		{"164.308(a)(7)(ii)(E)", "criticality of applications and data", "What matters most is known.", t(Impact, Assets)},
		{"164.308(a)(8)", "evaluation", "", t(Policy, Monitoring)},
		{"164.308(b)(1)", "contracts with business associates", "", t(Supplier)},
		{"164.310(a)(2)(i)", "access to facilities in a contingency", "", t(Physical, Continuity)},
		{"164.310(d)(2)(iv)", "copy before equipment is moved", "", t(Backup, Physical)},
		{"164.312(a)(2)(ii)", "emergency access", "", t(Access, Continuity)},
		{"164.312(a)(2)(iv)", "encryption of stored data", "", t(Cryptography)},
		{"164.312(c)(1)", "integrity", "", t(Integrity)},
		{"164.312(e)(1)", "security of transmission", "", t(Network, Cryptography)},
		{"164.316(b)(1)", "documentation", "", t(Records, Policy)},
	}
}
