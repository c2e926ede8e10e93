package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// objectives looks at each tier alone, and at what has objectives of its own.
func (l *linter) objectives() {
	l.ownObjectives()
	for _, id := range sorted(l.p.Tiers) {
		t, path := l.p.Tiers[id], "tiers."+id
		l.objective(path+".rto", t.RTO)
		l.objective(path+".rpo", t.RPO)
		l.tolerable(path, t.RTO, t.MTD)
		for _, sc := range sorted(t.Scenarios) {
			s, sp := t.Scenarios[sc], path+".scenarios."+sc
			l.objective(sp+".rto", s.RTO)
			l.objective(sp+".rpo", s.RPO)
			mtd := s.MTD
			if mtd.IsZero() {
				mtd = t.MTD
			}
			l.tolerable(sp, s.RTO, mtd)
			if len(l.p.Scenarios[sc].Lose) == 0 {
				continue // not wider than the ordinary loss
			}
			wider, ok1 := s.RTO.Duration()
			plain, ok2 := t.RTO.Duration()
			if ok1 && ok2 && wider < plain {
				l.warn(codeWider, sp+".rto", fmt.Sprintf("write rto: %s or longer here, or tighten %s.rto", t.RTO.Max, path),
					"losing more (%s) may take %s, while the ordinary loss may take %s", strings.Join(l.p.Scenarios[sc].Lose, ", "), period(wider), period(plain))
			}
		}
	}
}

// ownObjectives looks at what services and stores declare for themselves, and at what the
// company promises for its end.
func (l *linter) ownObjectives() {
	p := l.p
	for _, id := range l.services {
		s, path := p.Services[id], "services."+id
		l.objective(path+".rto", s.RTO)
		l.objective(path+".rpo", s.RPO)
		if s.BIA == nil {
			continue
		}
		for _, peak := range sorted(s.BIA.Peaks) {
			l.objective(path+".bia.peaks."+peak+".rto", s.BIA.Peaks[peak].RTO)
		}
	}
	for _, id := range l.stores {
		l.objective("stores."+id+".rto", p.Stores[id].RTO)
		l.objective("stores."+id+".rpo", p.Stores[id].RPO)
	}
	if p.Exit != nil {
		l.objective("exit.within", p.Exit.Within)
	}
}

func (l *linter) objective(path string, o Objective) {
	if o.Unbound() {
		l.warn(codeUnbound, path, meantPeriod(o.Stated, fmt.Sprintf("bind the words to a number: {stated: %q, bound: 15m}", o.Stated)),
			"%q is not a number: nobody can say whether it was met", o.Stated)
	}
	for _, st := range o.Stages {
		l.level(path+".stages."+st.ID, st.Level)
	}
	l.minute(path, o.Max)
	l.meant(path, o)
	l.stages(path, o)
}

// level warns of a level of service that only words declare: no probe measures words, so the
// stage would end when somebody says so.
func (l *linter) level(path, level string) {
	if _, share := Share(level); level != "" && !share {
		l.warn(codeUnbound, path+".level", "write the share of a probe's answers that must be good: level: \"97%\"", "%q is not a share of the service: nobody can say whether it was reached", level)
	}
}

// meant warns of a promise that is written with another unit than was meant, most
// probably: nobody restores within a millisecond, or promises to be back in ten years.
func (l *linter) meant(path string, o Objective) {
	const shortest, longest = time.Second, 366 * 24 * time.Hour
	if d, ok := o.Duration(); ok && (d < shortest || d > longest) {
		l.warn(codePeriod, path, "the units are s, m (minutes), h, d, w, mo (months), q and y", "%s is hardly meant: promises are between a second and a year", o.Max)
	}
}

// minute warns where 1m was probably meant as a month.
func (l *linter) minute(path string, p Period) {
	const month = 30 * 24 * time.Hour
	if p == (Period{Duration: time.Minute}) && (strings.HasSuffix(path, ".keep") || strings.HasSuffix(path, ".every") || strings.HasSuffix(path, ".fresh_for")) {
		l.warn(codeMinute, path, fmt.Sprintf("write 1mo for a month (%s), or 60s if a minute is meant", period(month)), "1m is one minute, not one month")
	}
}

func (l *linter) tolerable(path string, rto Objective, mtd Period) {
	d, ok := rto.Duration()
	if ok && !mtd.IsZero() && d >= mtd.Approx() {
		l.fail(codeTolerable, path+".rto", fmt.Sprintf("write an rto below %s, or correct the mtd", mtd),
			"an outage of %s is promised, and after %s the company is harmed for good: the promise leaves no margin", period(d), period(mtd.Approx()))
	}
}

// loss is the arithmetic of the worst data loss that a backup allows.
type loss struct {
	total time.Duration
	text  string
}

// worstLoss returns how old the data of a backup can be in one location.
func worstLoss(b Backup, location string) loss {
	var x loss
	add := func(d time.Duration, what string) {
		if d <= 0 {
			return
		}
		x.total += d
		if x.text != "" {
			x.text += " + "
		}
		x.text += period(d) + " " + what
	}
	if b.Log != nil {
		add(b.Log.MaxLag.Approx(), "log lag")
	} else {
		add(b.Every.Interval(), "between snapshots")
		add(b.Takes.Approx(), "for the snapshot")
	}
	add(b.Copies[location].Every.Approx(), "between copies to "+location)
	return x
}

// schedules compares each store's RPO with what its backup allows: with every
// location there, and with each of them gone.
func (l *linter) schedules() {
	for _, id := range sorted(l.p.Backups) {
		b, path := l.p.Backups[id], "backups."+id
		l.minute(path+".keep", b.Keep)
		if b.Every.Interval() == time.Minute {
			l.warn(codeMinute, path+".every", "write 1mo for a month, or 60s if a minute is meant", "every 1m is once a minute, not once a month")
		}
		if !b.Keep.IsZero() && b.Keep.Approx() < b.Every.Interval() {
			l.fail(codeRetention, path+".keep", fmt.Sprintf("write keep: %s or longer", edit(2*b.Every.Interval())),
				"snapshots are kept for %s and made every %s: between them there may be none", period(b.Keep.Approx()), period(b.Every.Interval()))
		}
		for _, sc := range sorted(l.p.Scenarios) {
			delay := l.p.Scenarios[sc].DetectionDelay
			if !delay.IsZero() && !b.Keep.IsZero() && b.Keep.Approx() <= delay.Approx() {
				l.fail(codeRetention, path+".keep", fmt.Sprintf("write keep: %s or longer", edit(delay.Approx()+b.Every.Interval())),
					"snapshots are kept for %s, and %q may stay unnoticed for %s: the last good one is gone by then", period(b.Keep.Approx()), sc, period(delay.Approx()))
			}
		}
	}
	for _, id := range l.stores {
		s := l.p.Stores[id]
		b, ok := l.p.Backups[s.Protect]
		if !ok {
			if s.Protect == "" && s.Delegated == nil && s.NotProtected == "" && s.Production() {
				l.fail(CodeUnprotected, "stores."+id, suggestBackup(l.p, s.Kind), "nothing protects %q: when it is lost, all of it is lost", id)
			}
			continue
		}
		if !s.Kind.Protected() {
			l.fail(CodeUnprotected, "stores."+id, "export it into a folder and protect that as kind files, or let somebody else protect it (delegated) until a later version does",
				"%q is declared, not protected by this version: stores of kind %s cannot be backed up yet", id, s.Kind)
			continue
		}
		if s.Postgres != nil && s.Postgres.Archive != nil && b.Log != nil && s.Postgres.Archive.Timeout.Approx() > b.Log.MaxLag.Approx() {
			l.fail(codeSchedule, "stores."+id+".postgres.archive.timeout", fmt.Sprintf("set archive_timeout to %s or less, stream the log instead of archiving it, or write log: {max_lag: %s} and promise less", b.Log.MaxLag, edit(s.Postgres.Archive.Timeout.Approx())),
				"the server archives the log of %q after up to %s, and the backup %q counts on at most %s: archiving alone cannot reach it", id, s.Postgres.Archive.Timeout, s.Protect, b.Log.MaxLag)
		}
		if b.Log != nil && s.Kind != KindPostgres {
			l.fail(codeSchedule, "stores."+id+".protect", "give it a backup without log", "a store of kind %s has no transaction log, and the backup %q counts on one", s.Kind, s.Protect)
			continue
		}
		if rpo := l.promise(id).RPO; rpo > 0 {
			l.schedule(id, s, b, rpo)
		}
	}
}

func suggestBackup(p *Plan, kind StoreKind) string {
	for _, name := range sorted(p.Backups) {
		if kind == KindPostgres || p.Backups[name].Log == nil {
			return fmt.Sprintf("add \"protect: %s\"", name)
		}
	}
	return "declare a backup and name it by \"protect\""
}

func (l *linter) schedule(id string, s Store, b Backup, rpo time.Duration) {
	path := "backups." + s.Protect + ".every"
	if b.Log != nil {
		path = "backups." + s.Protect + ".log"
	}
	var best, worst loss
	bestAt, worstAt := "", ""
	for _, name := range b.Copies.Names() {
		x := worstLoss(b, name)
		if bestAt == "" || x.total < best.total {
			best, bestAt = x, name
		}
		if worstAt == "" || x.total > worst.total {
			worst, worstAt = x, name
		}
	}
	if bestAt == "" {
		return // reported as a backup without copies
	}
	// What the RPO leaves for the interval or the lag, once the rest is taken off.
	room := rpo - b.Copies[bestAt].Every.Approx()
	if b.Log == nil {
		room -= b.Takes.Approx()
	}
	hint := ""
	switch {
	case b.Log == nil && s.Kind == KindPostgres:
		hint = fmt.Sprintf("add \"log: {max_lag: %s}\" to the backup %q", edit(max(rpo/4, time.Second)), s.Protect)
	case room <= 0:
		hint = fmt.Sprintf("no interval is short enough: make the rest faster than %s, or declare an rpo above %s", edit(rpo), edit(best.total))
	case b.Log != nil:
		hint = fmt.Sprintf("write max_lag: %s or shorter", edit(max(room/2, time.Second)))
	default:
		hint = fmt.Sprintf("write every: %s or shorter", edit(max(room/2, time.Second)))
	}
	_, declared, _ := l.p.ObjectiveOf(id)
	switch {
	case best.total > rpo:
		l.fail(codeSchedule, path, hint, "%q may lose %s, and its RPO is %s", id, sum(best), declared)
	case best.total == rpo:
		l.warn(codeSchedule, path, hint, "%q may lose %s, which is its whole RPO: the alarm would come when the promise is broken", id, sum(best))
	case worst.total > rpo && !l.judged(bestAt, worstAt):
		l.warn(codeSchedule, "backups."+s.Protect+".copies."+worstAt,
			fmt.Sprintf("bring %q up to date within %s, or declare a looser RPO for that loss in a scenario of the tier", worstAt, edit(max(rpo-best.total, time.Second))),
			"with only %q left, %q may lose %s, and its RPO is %s", worstAt, id, sum(worst), declared)
	}
}

// judged reports whether a scenario takes the better location and leaves the worse one:
// then the objective of that scenario decides, and is compared there.
func (l *linter) judged(better, worse string) bool {
	for _, sc := range l.p.Scenarios {
		if l.p.lost(sc, better) && !l.p.lost(sc, worse) {
			return true
		}
	}
	return false
}

// exact writes a duration with every unit that it has, so that a sum can be followed.
func exact(d time.Duration) string {
	var parts []string
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if n := d / u.unit; n > 0 && (u.unit < 24*time.Hour || d >= 48*time.Hour) {
			parts = append(parts, fmt.Sprintf("%d%s", n, u.name))
			d -= n * u.unit
		}
	}
	if d > 0 || len(parts) == 0 {
		parts = append(parts, period(d))
	}
	return strings.Join(parts, " ")
}

func sum(x loss) string {
	if strings.Contains(x.text, " + ") {
		return x.text + " = " + exact(x.total)
	}
	return x.text
}

// dependencies compares services with what they cannot run without.
func (l *linter) dependencies() {
	p := l.p
	order, cycle := waves(l.nodes, p.HardNeeds)
	if cycle != nil {
		l.fail(codeCycle, "services."+cycle[0]+".needs."+cycle[1], fmt.Sprintf("make one of these needs soft, for example %s: {%s: soft}", cycle[0], cycle[1]),
			"hard needs run in a circle: %s; none of them can be recovered first", strings.Join(cycle, " -> "))
	}
	l.chainsOfRecovery(order)
	for _, id := range l.services {
		mine := l.promise(id)
		if s := p.Services[id]; s.Runbook == "" && mine.RTO > 0 {
			l.warn(codeUnrecovered, "services."+id, suggestRunbook(p), "%q promises to be back within %s, and no runbook says how", id, period(mine.RTO))
		}
		for _, need := range p.HardNeeds(id) {
			theirs := l.promise(need)
			path := "services." + id + ".needs." + need
			rto, rpo, _ := p.ObjectiveOf(need)
			after := l.tailAfter(id, need)
			limit := mine.RTO - after
			switch {
			case mine.RTO > 0 && theirs.RTO == 0:
				l.warn(codeLooser, path, fmt.Sprintf("give %q a tier with an rto of %s or shorter", need, edit(max(limit, 0))),
					"%q must be back within %s and cannot run without %q, which promises nothing in numbers (rto: %s)", id, period(mine.RTO), need, rto)
			case mine.RTO > 0 && theirs.RTO > mine.RTO:
				l.fail(codeLooser, path, fmt.Sprintf("give %q a tier with an rto of %s or shorter, or make the need soft", need, edit(max(limit, 0))),
					"%q must be back within %s and cannot run without %q, which may take %s", id, period(mine.RTO), need, period(theirs.RTO))
			case mine.RTO > 0 && theirs.RTO > limit && l.ownPromise(need):
				l.fail(codeLooser, path, fmt.Sprintf("give %q an rto of %s or shorter, or shorten what comes after it", need, edit(max(limit, 0))),
					"%q must be back within %s; %q may take %s, and after it the runbook %q needs %s more", id, period(mine.RTO), need, period(theirs.RTO), p.Services[id].Runbook, exact(after))
			}
			if mine.RPO > 0 && theirs.RPO > mine.RPO {
				l.fail(codeLooser, path, fmt.Sprintf("give %q a tier with an rpo of %s or shorter", need, edit(mine.RPO)),
					"%q may lose %s of data and cannot run without %q, which may lose %s", id, period(mine.RPO), need, rpo)
			}
		}
	}
}

// ownPromise reports whether a service or store has an RTO that was declared for it alone:
// only then it is the time until the thing itself is back. The RTO of a tier is that of the
// whole.
func (l *linter) ownPromise(node string) bool {
	x, ok := Strictest(l.p.ObjectivesOf(node, MetricRTO, ""))
	return ok && !strings.HasPrefix(x.Selector, "tiers.")
}

func suggestRunbook(p *Plan) string {
	if names := sorted(p.Runbooks); len(names) > 0 {
		return fmt.Sprintf("add \"runbook: %s\"", names[0])
	}
	return "declare a runbook and name it by \"runbook\""
}

// tailAfter is the estimated time that a service's runbook needs after a store is restored.
func (l *linter) tailAfter(service, store string) time.Duration {
	id := l.p.Services[service].Runbook
	r, ok := l.p.Runbooks[id]
	if !ok {
		return 0
	}
	after, ok := l.tails[id]
	if !ok {
		tails := r.Tails(Step.Estimated)
		after = map[string]time.Duration{}
		for _, st := range r.Steps {
			if st.Restore != "" {
				after[st.Restore] = max(after[st.Restore], tails[st.ID])
			}
		}
		l.tails[id] = after
	}
	return after[store]
}

// Estimated returns the declared estimate of a step; what drills measure counts as
// nothing.
func (s Step) Estimated() time.Duration { return s.Est.Period.Approx() }

// CriticalPath returns the longest chain of steps under the given times, and how
// long it takes. Steps in a circle, and those after them, are left out.
func (r Runbook) CriticalPath(of func(Step) time.Duration) ([]string, time.Duration) {
	begin := r.begins(of)
	steps := r.byID()
	var last string
	var most time.Duration = -1
	for _, st := range r.Steps {
		if b, ok := begin[st.ID]; ok && b+of(st) > most {
			last, most = st.ID, b+of(st)
		}
	}
	if last == "" {
		return nil, 0
	}
	path := []string{last}
	for {
		st := steps[path[len(path)-1]]
		next := ""
		for _, a := range st.After {
			before, ok := steps[a]
			if !ok {
				continue
			}
			if b, ok := begin[a]; ok && b+of(before) == begin[st.ID] {
				next = a
				break
			}
		}
		if next == "" {
			break
		}
		path = append(path, next)
	}
	slices.Reverse(path)
	return path, most
}

// byID finds a step at once: a runbook may have thousands.
func (r Runbook) byID() map[string]Step {
	steps := make(map[string]Step, len(r.Steps))
	for _, st := range r.Steps {
		steps[st.ID] = st
	}
	return steps
}

// begins returns when each step can begin after the first one does.
func (r Runbook) begins(of func(Step) time.Duration) map[string]time.Duration {
	steps := r.byID()
	begin := map[string]time.Duration{}
	for _, id := range r.order() {
		var at time.Duration
		for _, a := range steps[id].After {
			if b, ok := begin[a]; ok {
				at = max(at, b+of(steps[a]))
			}
		}
		begin[id] = at
	}
	return begin
}

// Tails returns for each step how long the longest chain after it takes.
func (r Runbook) Tails(of func(Step) time.Duration) map[string]time.Duration {
	tails := map[string]time.Duration{}
	steps, order := r.byID(), r.order()
	for _, id := range order {
		tails[id] = 0
	}
	for _, id := range slices.Backward(order) {
		for _, a := range steps[id].After {
			if _, ok := tails[a]; ok {
				tails[a] = max(tails[a], tails[id]+of(steps[id]))
			}
		}
	}
	return tails
}

// order returns the steps so that each stands after what it waits for. Steps in a
// circle, and those that wait for them, are left out.
func (r Runbook) order() []string {
	missing := map[string]int{}
	waiting := map[string][]string{}
	for _, st := range r.Steps {
		missing[st.ID] = 0
	}
	for _, st := range r.Steps {
		for _, a := range st.After {
			if _, ok := missing[a]; ok {
				missing[st.ID]++
				waiting[a] = append(waiting[a], st.ID)
			}
		}
	}
	var queue []string
	for _, st := range r.Steps {
		if missing[st.ID] == 0 {
			queue = append(queue, st.ID)
		}
	}
	for i := 0; i < len(queue); i++ {
		for _, w := range waiting[queue[i]] {
			if missing[w]--; missing[w] == 0 {
				queue = append(queue, w)
			}
		}
	}
	return queue
}
