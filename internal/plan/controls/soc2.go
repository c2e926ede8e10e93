package controls

// soc2 lists the trust services criteria: the common ones, and those of availability,
// confidentiality, processing integrity and privacy.
func soc2() []Control {
	t := func(t ...Topic) []Topic { return t }
	list := []Control{
		{"CC1.1", "integrity and values", "", t(Organisation)},
		{"CC1.2", "oversight by the board", "", t(Organisation)},
		{"CC1.3", "structure and powers", "", t(Organisation, People)},
		{"CC1.4", "competent people", "", t(Training, People)},
		{"CC1.5", "people answer for their duties", "", t(People)},
		{"CC2.1", "information of quality", "", t(Monitoring)},
		{"CC2.2", "communication inside", "", t(Communication, Training)},
		{"CC2.3", "communication outside", "Customers and others learn what concerns them.", t(Communication)},
		{"CC3.1", "clear objectives", "", t(Risk, Policy)},
		{"CC3.2", "finding and weighing risks", "", t(Risk, Impact)},
		{"CC3.3", "fraud", "", t(Risk)},
		{"CC3.4", "changes that bring risks", "", t(Risk, Change)},
		{"CC4.1", "evaluations that go on", "", t(Monitoring)},
		{"CC4.2", "reporting of weaknesses", "", t(Monitoring, Communication)},
		{"CC5.1", "controls against risks", "", t(Risk)},
		{"CC5.2", "general controls over technology", "", t(Administration)},
		{"CC5.3", "controls by policies and procedures", "Policies say what is expected, procedures do it, and both are reviewed.", t(Policy, Training, Backup, Restore, Monitoring)},
		{"CC6.1", "logical access to protected assets", "", t(Access, Cryptography)},
		{"CC6.2", "granting and removing credentials", "", t(Access)},
		{"CC6.3", "access by role and least privilege", "", t(Access)},
		{"CC6.4", "physical access", "", t(Physical, Access)},
		{"CC6.5", "end of protection of assets", "", t(Physical, Records)},
		{"CC6.6", "threats from outside", "", t(Network, Access)},
		{"CC6.7", "moving and removing information", "", t(Network, Cryptography)},
		{"CC6.8", "unwanted software", "", t(Vulnerability)},
		{"CC7.1", "finding new weaknesses", "", t(Vulnerability, Monitoring)},
		{"CC7.2", "noticing anomalies", "", t(Monitoring, Incident)},
		{"CC7.3", "judging events", "What was noticed is judged by whether it could keep objectives from being met.", t(Incident, Monitoring)},
		{"CC7.4", "answering incidents", "", t(Incident, Communication)},
		{"CC7.5", "recovering from incidents", "What was disturbed is restored, causes are ended, and recovery is tested.", t(Recovery, Restore, Incident, Exercise, Backup)},
		{"CC8.1", "change", "", t(Change, Development)},
		{"CC9.1", "risks of disruption", "Disruption of business is thought of beforehand and softened.", t(Continuity, Risk, Impact, Recovery, Redundancy)},
		{"CC9.2", "risks of suppliers and partners", "", t(Supplier, Risk)},
		{"A1.1", "capacity", "", t(Resources, Monitoring)},
		{"A1.2", "backup, recovery infrastructure and environment", "Copies and the means to recover are designed, run and watched.", t(Backup, Redundancy, Sites, Recovery, Restore, Physical)},
		{"A1.3", "tests of recovery", "Recovery procedures are tested against the objectives.", t(Restore, Recovery, Exercise)},
		{"C1.1", "keeping confidential information", "", t(Assets, Records)},
		{"C1.2", "disposing of confidential information", "", t(Records)},
	}
	for _, id := range []string{"PI1.1", "PI1.2", "PI1.3", "PI1.4", "PI1.5"} {
		list = append(list, Control{ID: id, Name: "processing integrity", About: t(Integrity)})
	}
	for _, id := range []string{"P1.1", "P2.1", "P3.1", "P3.2", "P4.1", "P4.2", "P4.3", "P5.1", "P5.2", "P6.1", "P6.2", "P6.3", "P6.4", "P6.5", "P6.6", "P6.7", "P7.1", "P8.1"} {
		list = append(list, Control{ID: id, Name: "privacy", About: t(Privacy)})
	}
	return list
}
