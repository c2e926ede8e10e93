package importer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/calendar"
	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// An amount is a length of time in a text.
type amount struct {
	start, end int
	value      string // as the plan writes it: "1h30m"
	max        string // for a range, its upper end
}

// objective writes the amount as the plan writes an objective.
func (a amount) objective() string {
	if a.max != "" {
		return a.value + ".." + a.max
	}
	return a.value
}

// numberWords are the numbers that policies write out.
var numberWords = func() map[string]float64 {
	m := map[string]float64{"a": 1, "an": 1, "one": 1, "half a": 0.5, "half an": 0.5, "a quarter of an": 0.25, "the": 1}
	small := strings.Fields("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
	for i, w := range small {
		m[w] = float64(i)
	}
	for i, t := range strings.Fields("twenty thirty forty fifty sixty seventy eighty ninety") {
		ten := float64(20 + 10*i)
		m[t] = ten
		for j, w := range small[1:10] {
			m[t+"-"+w] = ten + float64(j+1)
			m[t+" "+w] = ten + float64(j+1)
		}
	}
	m["hundred"], m["a hundred"] = 100, 100
	return m
}()

// numberText is a number as it is written.
var numberText = func() string {
	words := make([]string, 0, len(numberWords))
	for w := range numberWords {
		if w != "the" {
			words = append(words, regexp.QuoteMeta(w))
		}
	}
	slices.SortFunc(words, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return `(?:\d{1,5}(?:[.,]\d{1,2})?|` + strings.Join(words, "|") + `)`
}()

const unitText = `(?:milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|wks?|fortnights?|months?|quarters?|years?|yrs?)`

var (
	reAmount = regexp.MustCompile(`(?i)\b(` + numberText + `)(?:\s*\(\d{1,5}\))?(?:\s*(?:-|–|—|to|and|or)\s*(` + numberText + `))?[\s-]*(?:(?:full|whole|calendar|business|working|consecutive)\s+)?(` + unitText + `)\b`)
	reShort  = regexp.MustCompile(`\b(\d{1,5})\s?(ms|s|m|h|d|w|mo|q|y)\b`)
	reRange  = regexp.MustCompile(`\b(\d{1,5})\s?(?:-|–|to)\s?(\d{1,5})\s?(h|d|w|m)\b`)
	reDays   = regexp.MustCompile(`(?i)\bwithin the (hour|day|week|month)\b`)
)

func number(s string) (float64, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	if f, ok := numberWords[s]; ok {
		return f, true
	}
	f, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
	return f, err == nil && f >= 0 && f < 1e6
}

// length writes n of a unit as a period.
func length(n float64, unit string) (string, bool) {
	u := strings.ToLower(unit)
	whole := n == float64(int64(n))
	exact := func(d time.Duration) (string, bool) {
		p := calendar.Period{Duration: time.Duration(n * float64(d)).Round(time.Second)}
		return p.String(), !p.IsZero()
	}
	switch {
	case u == "ms" || strings.HasPrefix(u, "milli"):
		return calendar.Period{Duration: time.Duration(n) * time.Millisecond}.String(), n >= 1
	case u == "s" || strings.HasPrefix(u, "sec"):
		return exact(time.Second)
	case u == "m" || strings.HasPrefix(u, "min"):
		return exact(time.Minute)
	case strings.HasPrefix(u, "h"):
		return exact(time.Hour)
	case u == "d" || strings.HasPrefix(u, "day"):
		if !whole {
			return exact(24 * time.Hour)
		}
		return period(0, int(n))
	case strings.HasPrefix(u, "w"):
		return period(0, int(7*n))
	case strings.HasPrefix(u, "fortnight"):
		return period(0, int(14*n))
	case strings.HasPrefix(u, "mo"):
		return period(int(n), 0)
	case strings.HasPrefix(u, "q"):
		return period(int(3*n), 0)
	case strings.HasPrefix(u, "y"):
		return period(int(12*n), 0)
	}
	return "", false
}

// period writes months and days. More than the plan takes is no period.
func period(months, days int) (string, bool) {
	p := calendar.Period{Months: months, Days: days}
	return p.String(), !p.IsZero() && months <= 12*100 && days <= 366*100
}

// timeWords are the beginnings of words without which a text names no time. Looking
// for them first saves most of the work.
var timeWords = []string{"sec", "min", "hour", "hr", "day", "week", "wk", "fortnight", "month", "quarter", "year", "yr", "annu", "dai", "night", "term", "contin", "stream", "real", "timetable",
	"mon", "tue", "wed", "thu", "fri", "sat", "sun", "evening", "morning", "spring", "summer", "autumn", "winter", "january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december", "noon"}

var reDigitUnit = regexp.MustCompile(`\d ?(?:ms|s|m|h|d|w|mo|q|y)\b`)

func namesTime(s string) bool {
	l := strings.ToLower(s)
	return slices.ContainsFunc(timeWords, func(w string) bool { return strings.Contains(l, w) }) || reDigitUnit.MatchString(l)
}

// amountsIn returns the lengths of time in a text, in order and apart.
func amountsIn(s string) []amount {
	if !namesTime(s) {
		return nil
	}
	var out []amount
	add := func(a amount) {
		if !slices.ContainsFunc(out, func(b amount) bool { return a.start < b.end && b.start < a.end }) {
			out = append(out, a)
		}
	}
	for _, m := range reAmount.FindAllStringSubmatchIndex(s, -1) {
		n, ok := number(s[m[2]:m[3]])
		unit := s[m[6]:m[7]]
		if !ok {
			continue
		}
		if strings.EqualFold(s[m[2]:m[3]], "a") && strings.HasPrefix(strings.ToLower(unit), "min") && len(unit) == 3 {
			continue // "a min"
		}
		// "twice a day", "once a week", "per year" are cycles.
		if before := strings.ToLower(strings.TrimRight(s[:m[2]], " ")); n == 1 && reOnce.MatchString(before) {
			continue
		}
		v, ok := length(n, unit)
		if !ok {
			continue
		}
		a := amount{start: m[0], end: m[1], value: v}
		if m[4] >= 0 {
			hi, ok := number(s[m[4]:m[5]])
			top, ok2 := length(hi, unit)
			if ok && ok2 && hi > n {
				a.max = top
			}
		}
		add(a)
	}
	for _, m := range reRange.FindAllStringSubmatchIndex(s, -1) {
		lo, _ := number(s[m[2]:m[3]])
		hi, _ := number(s[m[4]:m[5]])
		v, ok := length(lo, s[m[6]:m[7]])
		top, ok2 := length(hi, s[m[6]:m[7]])
		if ok && ok2 && hi > lo {
			add(amount{start: m[0], end: m[1], value: v, max: top})
		}
	}
	for _, m := range reShort.FindAllStringSubmatchIndex(s, -1) {
		n, _ := number(s[m[2]:m[3]])
		if v, ok := length(n, s[m[4]:m[5]]); ok {
			add(amount{start: m[0], end: m[1], value: v})
		}
	}
	for _, m := range reDays.FindAllStringSubmatchIndex(s, -1) {
		if v, ok := length(1, s[m[2]:m[3]]); ok {
			add(amount{start: m[2], end: m[3], value: v})
		}
	}
	slices.SortFunc(out, func(a, b amount) int { return a.start - b.start })
	return joined(s, out)
}

var reOnce = regexp.MustCompile(`\b(once|twice|thrice|times|per|each|every)$`)

// joined puts "1 hour 30 minutes" together.
func joined(s string, as []amount) []amount {
	var out []amount
	for _, a := range as {
		if n := len(out); n > 0 && a.max == "" && out[n-1].max == "" {
			between := strings.TrimSpace(s[out[n-1].end:a.start])
			if between == "" || between == "and" && !strings.Contains(s, "respectively") {
				p, err1 := calendar.ParsePeriod(out[n-1].value)
				q, err2 := calendar.ParsePeriod(a.value)
				sum := calendar.Period{Months: p.Months + q.Months, Days: p.Days + q.Days, Duration: p.Duration + q.Duration}
				// Only a shorter unit completes a longer one: "1 day 2 hours".
				if err1 == nil && err2 == nil && q.Approx() < p.Approx() && shorterUnit(p, q) {
					out[n-1].value, out[n-1].end = sum.String(), a.end
					continue
				}
			}
		}
		out = append(out, a)
	}
	return out
}

func shorterUnit(p, q calendar.Period) bool {
	unit := func(p calendar.Period) int {
		switch {
		case p.Duration%time.Minute != 0:
			return 0
		case p.Duration%time.Hour != 0:
			return 1
		case p.Duration != 0:
			return 2
		case p.Days != 0:
			return 3
		}
		return 4
	}
	return unit(q) < unit(p)
}

// A cycle is a frequency in a text.
type cycle struct {
	start, end int
	every      string // as the plan writes it: "1d at 02:00"; "" for continuous
	continuous bool
}

// words of frequency with the recurrence that they mean.
var cycleWords = []struct {
	re    *regexp.Regexp
	every string
}{
	{regexp.MustCompile(`(?i)\b(twice (?:a|per|each) day|twice daily|at noon and at midnight|at noon and midnight)\b`), "12h"},
	{regexp.MustCompile(`(?i)\b(three times (?:a|per) day|three times daily)\b`), "8h"},
	{regexp.MustCompile(`(?i)\b(four times (?:a|per) day|four times daily)\b`), "6h"},
	{regexp.MustCompile(`(?i)\b(twice (?:a|per|each) year|twice yearly|half[- ]yearly|in spring and (?:in )?autumn|semi-?annual(?:ly)?|bi-?annual(?:ly)?)\b`), "6mo"},
	{regexp.MustCompile(`(?i)\b(four times (?:a|per) year|quarterly|(?:each|every|per|(?:once )?a) quarter)\b`), "1q"},
	{regexp.MustCompile(`(?i)\b(twice (?:a|per|each) month)\b`), "2w"},
	{regexp.MustCompile(`(?i)\b(fortnightly|every other week|biweekly|bi-weekly)\b`), "2w"},
	{regexp.MustCompile(`(?i)\b(first (?:day|business day|working day|\w+day) of (?:the|each|every) month)\b`), "1mo"},
	{regexp.MustCompile(`(?i)\b(last (?:day|business day|working day) of (?:the|each|every) month)\b`), "1mo on last"},
	{regexp.MustCompile(`(?i)\b(hourly|(?:each|every|(?:once )?per|once an) hour)\b`), "1h"},
	{regexp.MustCompile(`(?i)\b(nightly|daily|(?:each|every) (?:night|day|evening|morning)|once (?:a|per|each) (?:day|night)|per day)\b`), "1d"},
	{regexp.MustCompile(`(?i)\b(weekly|(?:each|every) week|once (?:a|per|each) week|per week)\b`), "1w"},
	{regexp.MustCompile(`(?i)\b(monthly|(?:each|every) month|once (?:a|per|each) month|per month)\b`), "1mo"},
	{regexp.MustCompile(`(?i)\b((?:every|each) (?:second|other) year|bi-?ennial(?:ly)?)\b`), "2y"},
	{regexp.MustCompile(`(?i)\b((?:every|each) (?:second|other) month)\b`), "2mo"},
	{regexp.MustCompile(`(?i)\b((?:every|each) (?:second|other) day)\b`), "2d"},
	{regexp.MustCompile(`(?i)\b(yearly|annual(?:ly)?|(?:each|every|per) (?:calendar )?year|once (?:a|per|each) year|per annum|(?:every|each) (?:spring|summer|autumn|winter|january|february|march|april|may|june|july|august|september|october|november|december))\b`), "1y"},
}

var (
	reEvery      = regexp.MustCompile(`(?i)\b(?:once )?(?:every|each|at (?:least )?intervals (?:of(?: no more than| at most)?|not exceeding|no longer than)|interval(?: is|:|\.)?)\s+(?:(` + numberText + `)(?:\s*\(\d{1,5}\))?[\s-]+)?((?:calendar |working |business )?` + unitText + `)\b`)
	reOrdinal    = regexp.MustCompile(`(?i)^\s+(?:day|week|month|quarter|year)`)
	reAtInt      = regexp.MustCompile(`(?i)\b(` + numberText + `)[\s-]+(` + unitText + `)[\s-]+intervals?\b`)
	reEveryShort = regexp.MustCompile(`(?i)\bevery\s+(\d{1,5})\s?(s|m|h|d|w|mo|q|y)\b`)
	reWeekday    = regexp.MustCompile(`(?i)\b(?:every|each|on)\s+(mon|tues|wednes|thurs|fri|satur|sun)days?\b`)
	reClock      = regexp.MustCompile(`(?i)\bat\s+(?:(\d{1,2})[:.](\d{2})|(\d{1,2}))\s*([ap]\.?m\.?)?\b`)
	reMidnight   = regexp.MustCompile(`(?i)\bat midnight\b`)
	reContinuous = regexp.MustCompile(`(?i)\b(continuous(?:ly)?|real[- ]time|streamed|streaming)\b`)
	reCron       = regexp.MustCompile(`by the timetable ([\d*/,-]+ [\d*/,-]+ [\d*/,a-zA-Z-]+ [\d*/,a-zA-Z-]+ [\d*/,a-zA-Z-]+|@\w+)`)
	reMonthDay   = regexp.MustCompile(`(?i)every (?:\d+ )?(?:month|quarter|year)s? on (\d{1,2}|last)\b`)
)

// cyclesIn returns the frequencies in a text, in order and apart.
func cyclesIn(s string) []cycle {
	if !namesTime(s) {
		return nil
	}
	var out []cycle
	add := func(c cycle) {
		if !slices.ContainsFunc(out, func(b cycle) bool { return c.start < b.end && b.start < c.end }) {
			out = append(out, c)
		}
	}
	for _, m := range reCron.FindAllStringSubmatchIndex(s, -1) {
		if every := s[m[2]:m[3]]; recurs(every) {
			add(cycle{start: m[0], end: m[1], every: every})
		}
	}
	for _, m := range reWeekday.FindAllStringSubmatchIndex(s, -1) {
		before := strings.ToLower(s[:m[0]])
		if strings.HasSuffix(strings.TrimSpace(before), "first") {
			continue
		}
		add(cycle{start: m[0], end: m[1], every: "1w on " + strings.ToLower(s[m[2]:m[2]+3])})
	}
	for _, re := range []*regexp.Regexp{reEvery, reAtInt, reEveryShort} {
		for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
			n := 1.0
			if m[2] >= 0 {
				var ok bool
				if n, ok = number(s[m[2]:m[3]]); !ok {
					continue
				}
			}
			unit := strings.ToLower(strings.TrimSpace(s[m[4]:m[5]]))
			if unit == "second" && reOrdinal.MatchString(s[m[5]:]) {
				continue // "every second year"
			}
			if i := strings.LastIndexByte(unit, ' '); i >= 0 {
				unit = unit[i+1:]
			}
			if every, ok := step(n, unit); ok {
				add(cycle{start: m[0], end: m[1], every: every})
			}
		}
	}
	for _, w := range cycleWords {
		for _, m := range w.re.FindAllStringIndex(s, -1) {
			if strings.HasPrefix(s[m[1]:], " of an") {
				continue // "a quarter of an hour"
			}
			add(cycle{start: m[0], end: m[1], every: w.every})
		}
	}
	for _, m := range reContinuous.FindAllStringIndex(s, -1) {
		add(cycle{start: m[0], end: m[1], continuous: true})
	}
	slices.SortFunc(out, func(a, b cycle) int { return a.start - b.start })
	for i := 0; i+1 < len(out); i++ { // "weekly on Saturday" is one frequency
		if out[i].every == "1w" && strings.HasPrefix(out[i+1].every, "1w on ") && strings.Trim(s[out[i].end:out[i+1].start], " ,(") == "" {
			out[i].every, out[i].end = out[i+1].every, out[i+1].end
			out = slices.Delete(out, i+1, i+2)
		}
	}
	for i := range out {
		limit := len(s)
		if i+1 < len(out) {
			limit = out[i+1].start
		}
		out[i] = out[i].timed(s, limit)
	}
	return out
}

// step writes "every n units" as the plan does.
func step(n float64, unit string) (string, bool) {
	if n <= 0 || n != float64(int(n)) && !strings.HasPrefix(unit, "h") {
		return "", false
	}
	short := map[string]string{"da": "d", "we": "w", "wk": "w", "mo": "mo", "qu": "q", "ye": "y", "yr": "y", "fo": "w", "d": "d", "w": "w", "q": "q", "y": "y"}
	key := unit[:min(2, len(unit))]
	if u, ok := short[key]; ok {
		k := int(n)
		if key == "fo" {
			k *= 2
		}
		every := fmt.Sprintf("%d%s", k, u)
		return every, recurs(every)
	}
	every, ok := length(n, unit)
	return every, ok && recurs(every)
}

// recurs reports whether the plan reads every as a recurrence.
func recurs(every string) bool {
	text := every
	if every != "" && every[0] >= '0' && every[0] <= '9' && !strings.Contains(every, "* ") {
		text = "every " + every
	}
	_, err := calendar.ParseRecurrence(text)
	return err == nil
}

// timed adds the day and the time of day that stand near a cycle.
func (c cycle) timed(s string, limit int) cycle {
	if c.continuous || c.every == "" || strings.Contains(c.every, "* ") || c.every[0] == '@' {
		return c
	}
	calendarUnit := strings.ContainsAny(c.every, "dwqy") || strings.Contains(c.every, "mo")
	if !calendarUnit {
		return c
	}
	window := s[c.end:min(len(s), limit, c.end+60)]
	every := c.every
	if m := reMonthDay.FindStringSubmatch(s[c.start:min(len(s), c.end+20)]); m != nil && !strings.Contains(every, " on ") {
		every += " on " + strings.ToLower(m[1])
	}
	if strings.HasSuffix(strings.Fields(every)[0], "w") && !strings.Contains(every, " on ") {
		if m := regexpWeekdays.FindStringSubmatch(window); m != nil {
			var days []string
			for _, d := range regexpDay.FindAllString(m[0], -1) {
				days = append(days, strings.ToLower(d[:3]))
			}
			every += " on " + strings.Join(days, ",")
		}
	}
	if at := timeIn(window); at != "" {
		every += " at " + at
	}
	if recurs(every) {
		c.every = every
	}
	return c
}

var (
	regexpDay      = regexp.MustCompile(`(?i)\b(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*`)
	regexpWeekdays = regexp.MustCompile(`(?i)^\s*\(?on (?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*(?:, ?| and )?)+`)
	reTimes        = regexp.MustCompile(`(?i)\bat\s+(\d{2}:\d{2}(?:,\d{2}:\d{2})+)`)
)

// timeIn returns the time of day in a text as 02:00, or "".
func timeIn(s string) string {
	if m := reTimes.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	if reMidnight.MatchString(s) {
		return "00:00"
	}
	m := reClock.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	hour, minute := m[1], m[2]
	if hour == "" {
		if m[4] == "" {
			return "" // "at 3 locations"
		}
		hour, minute = m[3], "00"
	}
	h, _ := strconv.Atoi(hour)
	n, _ := strconv.Atoi(minute)
	if half := strings.ToLower(strings.ReplaceAll(m[4], ".", "")); half == "pm" && h < 12 {
		h += 12
	} else if half == "am" && h == 12 {
		h = 0
	}
	if h > 23 || n > 59 {
		return ""
	}
	return fmt.Sprintf("%02d:%02d", h, n)
}
