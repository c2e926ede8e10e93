package importer

import (
	"strings"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// heads of tables, in lower case.
var (
	hRTO      = regexp.MustCompile(`^rto$|recovery time|restored? within|back within|max(?:imum|\.)? (?:outage|downtime|interruption)|^rto\b`)
	hRPO      = regexp.MustCompile(`^rpo$|recovery point|data loss|losing at most|^rpo\b`)
	hMTD      = regexp.MustCompile(`^mt?p?d$|tolerable|acceptable downtime`)
	hInForce  = regexp.MustCompile(`in force|^from$`)
	hScheme   = regexp.MustCompile(`^(tier|severity|service|system|application|process|scenario|class|priority|criticality|level|category|name|store|incident)\b`)
	hScenario = regexp.MustCompile(`^scenario`)
	hRole     = regexp.MustCompile(`^role|responsibility$|^function|^duty`)
	hHolder   = regexp.MustCompile(`holder|^name|person|^who|assigned|held by|responsible`)
	hDeputy   = regexp.MustCompile(`deputy|substitute|alternate|stand-in|^backup$|^backup person`)
	hSigned   = regexp.MustCompile(`signature`)
	hVersion  = regexp.MustCompile(`^version|^revision|^rev\b`)
	hDate     = regexp.MustCompile(`^date|^when|^on$`)
	hOwner    = regexp.MustCompile(`owner|responsible`)
	hApprover = regexp.MustCompile(`approv`)
	hReview   = regexp.MustCompile(`review|cadence`)
	hLabel    = regexp.MustCompile(`label|classif|confidential`)
	hWhat     = regexp.MustCompile(`description|change|what|summary`)
	hMetric   = regexp.MustCompile(`^metric|^kpi|^measure`)
	hEvery    = regexp.MustCompile(`frequency|how often|schedule|interval|every|^snapshot|cycle|period`)
	hKeep     = regexp.MustCompile(`^kept|retention|^keep`)
	hCopies   = regexp.MustCompile(`^copies|location|stored at|where`)
	hData     = regexp.MustCompile(`^(data|what|system|store|asset|backup|item|type|object|source|backup policy)\b`)
	hLog      = regexp.MustCompile(`transaction log|\bwal\b|^log`)
	hTakes    = regexp.MustCompile(`^takes`)
	hDrill    = regexp.MustCompile(`^drill|^test|^exercise`)
	hRestores = regexp.MustCompile(`^restores|^scope|^of$`)
	hPick     = regexp.MustCompile(`recovery point$`)
	hFresh    = regexp.MustCompile(`proof lasts`)
	hGoal     = regexp.MustCompile(`^goal`)
	hItem     = regexp.MustCompile(`^item$|^field$|^attribute$`)
	hValue    = regexp.MustCompile(`^value$`)
	hSupplier = regexp.MustCompile(`supplier|vendor|provider|processor`)
	hKind     = regexp.MustCompile(`^kind|^type`)
	hTier     = regexp.MustCompile(`^tier`)
	hNeeds    = regexp.MustCompile(`depends on|needs|dependenc`)
	hClass    = regexp.MustCompile(`classification`)
	hPolicy   = regexp.MustCompile(`^backup policy`)
	hRegion   = regexp.MustCompile(`^region`)
	hJuris    = regexp.MustCompile(`jurisdiction`)
	hNotice   = regexp.MustCompile(`noticed after`)
	hMay      = regexp.MustCompile(`^may$`)
	hControl  = regexp.MustCompile(`^controls?$|^clause`)
	hFrame    = regexp.MustCompile(`^framework|^standard`)
	hProved   = regexp.MustCompile(`^proved by`)
	hRunbook  = regexp.MustCompile(`^runbook`)
	hBy       = regexp.MustCompile(`^by policy|^from$`)
	hLocation = regexp.MustCompile(`^location$`)
)

func (t row) head(re *regexp.Regexp) bool {
	for _, h := range t.heads {
		if re.MatchString(strings.ToLower(h)) {
			return true
		}
	}
	return false
}

func (t row) get(re *regexp.Regexp) string { s, _ := t.cell(re); return strings.TrimSpace(s) }

// src names the row as the source of what one of its cells says.
func (t row) src(cell string) source {
	text := cell
	if len(t.cells) > 0 && t.cells[0] != cell {
		text = t.cells[0] + ": " + cell
	}
	return source{t.line, text, t.sentence}
}

// tables reads the rows of tables whose heads it knows.
func (r *reader) tables() {
	for _, t := range r.doc.rows {
		switch {
		case len(t.heads) == 3 && t.heads[1] == "Field" && t.heads[2] == "Declared":
			t.sentence.derived = true // what a rendered plan has no sentence for
		case t.head(hInForce) && t.head(hRTO), t.head(hBy) && t.head(hEvery):
			t.sentence.covered, t.sentence.derived = true, true // said elsewhere, computed from it
		case len(t.heads) > 0 && t.heads[0] == "Drill" && t.head(hEvery):
			r.drillRow(t)
		case t.head(hRTO) || t.head(hRPO):
			r.objectiveRow(t)
		case t.head(hRole) && t.head(hSigned):
			r.signatures = append(r.signatures, signature{t.line, t.cells[0], strings.Join(t.cells[1:], "") != ""})
			t.sentence.covered = true
		case t.head(hRole) && t.head(hHolder):
			r.roleRow(t)
		case t.head(hVersion) && t.head(hDate):
			r.history = append(r.history, edition{t.line, t.get(hVersion), dateIn(t.get(hDate)), t.get(hWhat), t.get(hApprover)})
			t.sentence.covered = true
		case t.head(hVersion) && (t.head(hOwner) || t.head(hApprover)):
			r.controlRow(t)
		case t.head(hItem) && t.head(hValue):
			r.itemRow(t)
		case t.head(hMetric) && t.head(hEvery):
			r.metricRow(t)
		case t.head(hFrame) && t.head(hControl) && t.head(hProved):
			r.controlProof(t)
		case t.head(hDrill) && t.head(hEvery):
			r.drillRow(t)
		case len(t.heads) > 0 && strings.EqualFold(t.heads[0], "Service") && t.head(hTier):
			r.serviceRow(t)
		case len(t.heads) > 0 && strings.EqualFold(t.heads[0], "Store") && t.head(hKind):
			r.storeRow(t)
		case t.head(hLocation) && t.head(hKind):
			r.locationRow(t)
		case t.head(hScenario) && t.head(hNotice):
			r.scenarioRow(t)
		case t.head(hData) && (t.head(hEvery) || t.head(hKeep)):
			r.backupRow(t)
		case t.head(hSupplier):
			r.supplierRow(t)
		}
	}
}

// objectiveCell reads a promise as a cell of a table says it.
func objectiveCell(cell string) (value, stated string) {
	lower := strings.ToLower(strings.TrimSpace(cell))
	if lower == "" || lower == "not declared" || lower == "-" || lower == "–" || lower == "tbd" {
		return "", ""
	}
	if reason, ok := strings.CutPrefix(lower, "not applicable: "); ok {
		return "none", strings.TrimSpace(cell)[len(cell)-len(reason):]
	}
	declared := ""
	if i := strings.Index(cell, " (declared as “"); i >= 0 {
		declared = strings.TrimSuffix(strings.TrimSuffix(cell[i+len(" (declared as “"):], ")"), "”")
		cell = cell[:i]
	}
	if i := strings.Index(cell, "” (not bound"); i >= 0 && strings.HasPrefix(cell, "“") {
		return `"` + cell[len("“"):i] + `"`, ""
	}
	as := amountsIn(cell)
	switch {
	case len(as) == 2 && strings.Contains(cell, ", at most "):
		return as[0].value + ".." + as[1].value, declared
	case len(as) >= 1:
		if rest := strings.TrimSpace(cell[:as[0].start] + cell[as[0].end:]); declared == "" && len(rest) > 2 {
			declared = strings.TrimSpace(cell)
		}
		return as[0].objective(), declared
	case lower == "n/a" || strings.HasPrefix(lower, "not applicable") || lower == "none":
		return "none", strings.TrimSpace(cell)
	}
	if len(strings.Fields(lower)) <= 6 && lower[0] >= 'a' && lower[0] <= 'z' {
		return `"` + lower + `"`, ""
	}
	return "", ""
}

func (r *reader) objectiveRow(t row) {
	if len(t.cells) == 0 {
		return
	}
	head := strings.ToLower(t.heads[0])
	name := t.cells[0]
	if before, _, ok := strings.Cut(name, " ("); ok && slug(before) != "" && strings.ToLower(idInBrackets(name)) != idInBrackets(name) || ok && strings.Contains(name, ") ") {
		name = before // "Water control (SCADA)"
	}
	id := slug(name)
	if id == "" || !hScheme.MatchString(head) && head != "" {
		return
	}
	section := "tiers"
	under := strings.ToLower(strings.Join(t.under, " "))
	switch {
	case strings.HasPrefix(head, "severity"), strings.HasPrefix(head, "incident"), (head == "level" || head == "") && strings.Contains(under, "severit"):
		section = "severities"
	case strings.HasPrefix(head, "service"), strings.HasPrefix(head, "system"), strings.HasPrefix(head, "application"), strings.HasPrefix(head, "process"):
		section = "services"
	case strings.HasPrefix(head, "scenario"):
		section = "scenarios"
	}
	path := []string{section, id}
	if strings.Contains(t.cells[0], "_") || reExactID.MatchString(t.cells[0]) {
		path[1] = t.cells[0]
	}
	if section == "tiers" && t.head(hScenario) {
		if sc := slug(t.get(hScenario)); sc != "" {
			path = append(path, "scenarios", t.get(hScenario))
		}
	}
	for _, m := range []struct {
		re     *regexp.Regexp
		metric string
	}{{hRTO, "rto"}, {hRPO, "rpo"}, {hMTD, "mtd"}} {
		cell := t.get(m.re)
		value, stated := objectiveCell(cell)
		if value == "" {
			if cell != "" && !strings.EqualFold(cell, "not declared") {
				r.skip(t.sentence, "the cell “"+clip(cell)+"” is no length of time")
			} else if cell != "" {
				t.sentence.covered = true
			}
			continue
		}
		if m.metric == "mtd" && (section != "tiers" || value == "none" || strings.HasPrefix(value, `"`)) {
			continue
		}
		r.note(append(path[:len(path):len(path)], m.metric), value, stated, "objective "+strings.ToUpper(m.metric)+": judged from verified copies and drills", t.src(cell))
	}
}

// reExactID is an id that a plan already uses.
var reExactID = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:/-]*$`)

// exactID keeps an id that is one, and makes one of other words.
func exactID(s string) string {
	s = strings.TrimSpace(s)
	if reExactID.MatchString(s) {
		return s
	}
	return slug(s)
}

func (r *reader) roleRow(t row) {
	role := roleID(t.cells[0])
	if reExactID.MatchString(t.cells[0]) {
		role = t.cells[0]
	}
	r.person(role, "holder", t.get(hHolder), t.sentence)
	if d := t.get(hDeputy); d != "" && !strings.EqualFold(d, "nobody") {
		r.person(role, "deputy", d, t.sentence)
	}
	for i, may := range strings.Split(t.get(hMay), ", ") {
		if may != "" {
			r.note([]string{"roles", role, "may", digits(i + 1)}, may, "", checkRole, t.src(may))
		}
	}
}

func (r *reader) controlRow(t row) {
	note := func(value string, path ...string) { r.note(path, value, "", checkControl, t.src(value)) }
	note(strings.TrimPrefix(t.get(hVersion), "v"), "plan", "version")
	note(ownerID(t.get(hOwner)), "plan", "owner")
	note(ownerID(t.get(hApprover)), "plan", "approvers", "1")
	note(t.get(hLabel), "plan", "label")
	if cs := cyclesIn(t.get(hReview)); len(cs) > 0 {
		note(strings.Fields(cs[0].every)[0], "plan", "review", "every")
	}
}

// holderID is who holds something, by an id that the document itself uses, or by name.
func holderID(s string) string {
	if s = strings.TrimSpace(s); reExactID.MatchString(s) {
		return s
	}
	return ownerID(s)
}

// itemRow reads the control data of a rendered document, and of others in that form.
func (r *reader) itemRow(t row) {
	value := t.get(hValue)
	t.sentence.covered = true
	if value == "" || value == "not declared" {
		return
	}
	switch strings.ToLower(t.cells[0]) {
	case "organisation", "organization", "company":
		r.draft.replace([]string{"org", "name"}, value, t.src(value))
	case "version":
		r.note([]string{"plan", "version"}, value, "", checkControl, t.src(value))
	case "owner":
		r.note([]string{"plan", "owner"}, holderID(value), "", checkControl, t.src(value))
	case "approvers", "approver", "approved by":
		for i, who := range strings.Split(value, ", ") {
			r.note([]string{"plan", "approvers", digits(i + 1)}, holderID(who), "", checkControl, t.src(who))
		}
	case "time zone", "timezone":
		r.note([]string{"org", "timezone"}, value, "", checkControl, t.src(value))
	default:
		t.sentence.covered = strings.Contains("plan digest language", strings.ToLower(t.cells[0]))
	}
}

func (r *reader) metricRow(t row) {
	id := slug(t.cells[0])
	cs := cyclesIn(t.get(hEvery))
	if id == "" || len(cs) == 0 || cs[0].continuous {
		return
	}
	r.note([]string{"metrics", id, "every"}, cs[0].every, "", "metric: computed from the facts", t.src(t.get(hEvery)))
	r.note([]string{"metrics", id, "owner"}, ownerID(t.get(hOwner)), "", "metric: computed from the facts", t.src(t.get(hOwner)))
}

func (r *reader) controlProof(t row) {
	id := t.get(hControl)
	if f := t.get(hFrame); f != "" {
		id = f + "/" + id
	}
	r.note([]string{"controls", id}, "cited", "", "control: needs a proof", t.src(id))
}

func (r *reader) drillRow(t row) {
	cs := cyclesIn(t.get(hEvery))
	if len(cs) == 0 || cs[0].continuous {
		return
	}
	id := exactID(t.cells[0])
	if t.head(hGoal) || strings.Contains(strings.ToLower(t.heads[0]), "drill") {
		r.note([]string{"drills", id, "every"}, cs[0].every, "", checkDrill, t.src(t.get(hEvery)))
		for i, of := range strings.Split(t.get(hRestores), ", ") {
			if of != "" && t.head(hGoal) {
				r.note([]string{"drills", id, "of", digits(i + 1)}, of, "", checkDrill, t.src(of))
			}
		}
		if p := t.get(hPick); p == "random" || p == "latest" || p == "oldest" {
			r.note([]string{"drills", id, "pick"}, p, "", checkDrill, t.src(p))
		}
		if as := amountsIn(t.get(hFresh)); len(as) == 1 {
			r.note([]string{"drills", id, "fresh_for"}, as[0].value, "", checkDrill, t.src(t.get(hFresh)))
		}
		return
	}
	text := strings.ToLower(t.cells[0])
	if reExercise.MatchString(text) {
		r.note([]string{"exercises", exerciseID(text), "every"}, cs[0].every, "", "exercise: due by its day", t.src(t.get(hEvery)))
	} else if strings.Contains(text, "restor") || strings.Contains(text, "recover") || strings.Contains(text, "backup") {
		r.note([]string{"drills", "restore-test", "every"}, cs[0].every, "", checkDrill, t.src(t.get(hEvery)))
	}
}

const checkInventory = "inventory: what is declared against what is found"

func (r *reader) serviceRow(t row) {
	id := exactID(t.cells[0])
	if id == "" {
		return
	}
	r.field(t, hTier, exactID, "services", id, "tier")
	r.field(t, hOwner, holderID, "services", id, "owner")
	r.field(t, hRunbook, func(string) string { return "" }, "services", id, "runbook")
	for _, need := range strings.Split(t.get(hNeeds), ", ") {
		on, strength, _ := strings.Cut(strings.TrimSuffix(need, ")"), " (")
		if on = exactID(on); on != "" {
			if strength != "soft" {
				strength = "hard"
			}
			r.note([]string{"services", id, "needs", on}, strength, "", checkInventory, t.src(need))
		}
	}
}

// field notes a cell, if it says something.
func (r *reader) field(t row, re *regexp.Regexp, form func(string) string, path ...string) {
	if cell := t.get(re); cell != "" && cell != "not declared" {
		r.note(path, form(cell), "", checkInventory, t.src(cell))
	}
}

func (r *reader) storeRow(t row) {
	id := exactID(t.cells[0])
	if id == "" {
		return
	}
	r.field(t, hKind, exactID, "stores", id, "kind")
	r.field(t, hTier, exactID, "stores", id, "tier")
	r.field(t, hOwner, holderID, "stores", id, "owner")
	r.field(t, hClass, strings.TrimSpace, "stores", id, "class")
	if p, _, _ := strings.Cut(t.get(hPolicy), " ("); reExactID.MatchString(p) {
		r.note([]string{"stores", id, "protect"}, p, "", checkInventory, t.src(p))
	}
}

func (r *reader) locationRow(t row) {
	id := exactID(t.cells[0])
	if id == "" {
		return
	}
	const check = "locations: copies that share a domain count once"
	note := func(re *regexp.Regexp, field string) {
		if c := t.get(re); c != "" {
			r.note([]string{"locations", id, field}, c, "", check, t.src(c))
		}
	}
	note(hRegion, "region")
	note(hJuris, "jurisdiction")
	note(regexp.MustCompile(`^provider`), "provider")
	note(regexp.MustCompile(`^account`), "account")
	note(regexp.MustCompile(`^fails together`), "domain")
	t.sentence.covered = true
}

func (r *reader) scenarioRow(t row) {
	id := exactID(t.cells[0])
	if as := amountsIn(t.get(hNotice)); len(as) == 1 && id != "" {
		r.note([]string{"scenarios", id, "detection_delay"}, as[0].value, "", "retention: longer than a loss may go unnoticed", t.src(t.get(hNotice)))
	}
	t.sentence.covered = true
}

func (r *reader) backupRow(t row) {
	id := ""
	if strings.EqualFold(t.heads[0], "Backup policy") {
		id = exactID(t.cells[0])
	} else if id = subject("", strings.ToLower(t.cells[0]), ""); id == "" {
		id = exactID(t.cells[0])
	}
	if id == "" {
		return
	}
	log := id == "log"
	if log {
		id = "database"
	}
	const check = "schedule: every slot is expected beforehand, and missed when nobody did it"
	every := t.get(hEvery)
	if cs := cyclesIn(every); len(cs) > 0 && !cs[0].continuous {
		if log {
			r.note([]string{"backups", id, "log", "max_lag"}, calendarPeriod(cs[0].every), "", check, t.src(every))
		} else {
			r.note([]string{"backups", id, "every"}, cs[0].every, "", check, t.src(every))
		}
	} else if as := amountsIn(every); len(as) == 1 && recurs(as[0].value) {
		r.note([]string{"backups", id, "every"}, as[0].value, "", check, t.src(every))
	}
	if as := amountsIn(t.get(hLog)); len(as) == 1 {
		r.note([]string{"backups", id, "log", "max_lag"}, as[0].value, "", check, t.src(t.get(hLog)))
	}
	if as := amountsIn(t.get(hKeep)); len(as) == 1 {
		r.note([]string{"backups", id, "keep"}, as[0].value, "", "retention: counted from the receipt of each copy", t.src(t.get(hKeep)))
	}
	if as := amountsIn(t.get(hTakes)); len(as) == 1 {
		r.note([]string{"backups", id, "takes"}, as[0].value, "", check, t.src(t.get(hTakes)))
	}
	if strings.EqualFold(t.heads[0], "Backup policy") && t.head(hCopies) {
		for _, c := range strings.Split(t.get(hCopies), ", ") {
			name, cycle, _ := strings.Cut(c, " (")
			if !reExactID.MatchString(name) {
				continue
			}
			value := "at once"
			if cs := cyclesIn(cycle); len(cs) == 1 {
				value = calendarPeriod(cs[0].every)
			}
			r.copyOf(id, name, value, t)
		}
	}
	t.sentence.covered = true
}

// copyOf notes that a location holds the copies of a backup.
func (r *reader) copyOf(backup, location, every string, t row) {
	const check = "copies: each location is complete alone"
	if every == "at once" {
		r.note([]string{"backups", backup, "copies", location}, every, "", check, t.src(location))
		return
	}
	r.note([]string{"backups", backup, "copies", location, "every"}, every, "", check, t.src(location))
}

func (r *reader) supplierRow(t row) {
	name := t.get(hSupplier)
	if id := exactID(name); id != "" {
		src := t.src(name)
		src.text = name
		r.note([]string{"suppliers", id}, "named", "", "suppliers: their guarantee against what depends on them", src)
	}
}
