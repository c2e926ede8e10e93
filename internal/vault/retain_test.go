package vault

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/calendar"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func period(t fatal, s string) calendar.Period {
	t.Helper()
	p, err := calendar.ParsePeriod(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type fatal interface {
	Helper()
	Fatal(args ...any)
}

// naive is Decide as one would say it, looking at each snapshot alone.
func naive(t Terms, points []Point, p Point, now time.Time) bool {
	age := func(k calendar.Period, q Point) bool { return !now.Before(k.AddTo(q.Received, 1, t.Zone)) } // over
	after := func(a, b Point) bool {
		return a.Received.After(b.Received) || a.Received.Equal(b.Received) && a.Snapshot > b.Snapshot
	}
	isLast := func(of func(q Point) bool) bool {
		for _, q := range points {
			if after(q, p) && of(q) {
				return false
			}
		}
		return true
	}
	if p.Received.IsZero() || len(t.Holds) > 0 || p.Proven || isLast(func(Point) bool { return true }) {
		return true
	}
	if t.Keep.IsZero() {
		return t.Max.IsZero() || !age(t.Max, p)
	}
	if t.Rolls && age(t.Keep, p) && isLast(func(q Point) bool { return age(t.Keep, q) }) {
		return true
	}
	if !t.Max.IsZero() && age(t.Max, p) {
		return false
	}
	if !age(t.Keep, p) {
		return true
	}
	for _, s := range t.History {
		if !age(s.Keep, p) && isLast(func(q Point) bool {
			return spanOf(s.Name, q.Received.In(t.Zone)) == spanOf(s.Name, p.Received.In(t.Zone))
		}) {
			return true
		}
	}
	return false
}

func spanOf(name string, t time.Time) string {
	y, w := t.ISOWeek()
	_, off := t.Zone()
	return map[string]string{"hour": fmt.Sprint(t.Format("2006010215"), off), "day": t.Format("20060102"), "week": fmt.Sprint(y, w), "month": t.Format("200601"), "year": t.Format("2006")}[name]
}

func TestDecideIsWhatOneWouldSay(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"}
	gone := 0
	rapid.Check(t, func(rt *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		pick := func(what string, from ...string) calendar.Period {
			s := rapid.SampledFrom(from).Draw(rt, what)
			if s == "" {
				return calendar.Period{}
			}
			return period(rt, s)
		}
		terms := Terms{Keep: pick("keep", "", "1d", "36h", "7d", "1mo"), Max: pick("max", "", "", "8d", "1mo", "1y"), Rolls: rapid.Bool().Draw(rt, "rolls"), Zone: zone}
		for _, name := range []string{"hour", "day", "week", "month", "year"} {
			if rapid.Bool().Draw(rt, name) {
				terms.History = append(terms.History, Span{name, pick("kept "+name, "3d", "1w", "1mo", "1y")})
			}
		}
		if rapid.IntRange(0, 9).Draw(rt, "held") == 0 {
			terms.Holds = []string{"case 7"}
		}
		var points []Point
		at := noon
		for i := range rapid.IntRange(0, 40).Draw(rt, "snapshots") {
			at = at.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "hours")) * time.Hour)
			p := Point{Snapshot: fmt.Sprintf("s%02d", i), Received: at, Created: at.AddDate(rapid.IntRange(-1, 1).Draw(rt, "clock off by years"), 0, 0)}
			if rapid.IntRange(0, 9).Draw(rt, "unreceived") == 0 {
				p.Received = time.Time{}
			}
			points = append(points, p)
		}
		if n := len(points); n > 0 && rapid.Bool().Draw(rt, "drilled") {
			points[rapid.IntRange(0, n-1).Draw(rt, "proven")].Proven = true
		}
		now := at.Add(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "later")) * time.Hour)
		shuffled := rapid.Permutation(points).Draw(rt, "order")
		for _, d := range Decide(terms, shuffled, now) {
			if want := naive(terms, points, d.Point, now); d.Keep != want {
				rt.Fatalf("%s, received %s: kept %t (%s), want %t; now %s", d.Snapshot, d.Received, d.Keep, d.Why, want, now)
			}
			if d.Why == "" || !d.Keep && d.Log != "" {
				rt.Fatalf("%+v gives no reason, or needs log and goes", d)
			}
			if !d.Keep {
				gone++
			}
		}
	})
	if gone == 0 {
		t.Error("nothing ever went: the test proves nothing")
	}
}

// A year of pruning each day, in zones whose clocks jump: what is left is what one
// would keep who had never deleted anything, and the window is always covered.
func TestYearOfRetention(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, rolls := range []bool{false, true} {
			terms := Terms{Keep: period(t, "30d"), Rolls: rolls, Zone: zone, History: []Span{{"week", period(t, "2mo")}, {"month", period(t, "1y")}}}
			var all, left []Point
			for n := range 366 * 4 {
				now := noon.Add(time.Duration(n) * 6 * time.Hour)
				p := Point{Snapshot: fmt.Sprintf("s%05d", n), Received: now, Created: now.AddDate(1, 0, 0)} // a clock off by a year
				if n == 100 {
					p.Proven = true
				}
				all, left = append(all, p), append(left, p)
				if n%4 != 3 {
					continue
				}
				kept := func(ps []Point) (out []Point) {
					for _, d := range Decide(terms, ps, now) {
						if d.Keep {
							out = append(out, d.Point)
						}
					}
					return out
				}
				left = kept(left)
				if n%140 == 3 && !slices.Equal(left, kept(all)) {
					t.Fatalf("%s: after %d days %d snapshots are left, and one who never deleted would keep %d", name, n/4, len(left), len(kept(all)))
				}
				if start := now.AddDate(0, 0, -30); rolls && n > 200 && !slices.ContainsFunc(left, func(p Point) bool { return !p.Received.After(start) && p.Received.After(start.Add(-7*time.Hour)) }) {
					t.Fatalf("%s: day %d: no base from before the window is left", name, n/4)
				}
			}
			if !slices.ContainsFunc(left, func(p Point) bool { return p.Snapshot == "s00100" }) {
				t.Error("the proven one went")
			}
			if len(left) > 160 || len(left) < 125 {
				t.Errorf("%s: %d are left", name, len(left))
			}
		}
	}
}

func TestGuard(t *testing.T) {
	day := 24 * time.Hour
	now := noon
	normal := func() (Signs, []Decision) {
		s := Signs{Store: "db", Location: "near", Every: day, ProvenWithin: 20 * day, ProvenAt: now.Add(-day), Steady: now.Add(-100 * day)}
		var points []Point
		for i := range 40 {
			at := now.Add(-time.Duration(i) * day)
			points = append(points, Point{Snapshot: fmt.Sprintf("s%02d", 99-i), Received: at, Created: at.Add(-time.Hour), Bytes: 100 << 20, Files: 1000})
		}
		return s, Decide(Terms{Keep: period(t, "30d"), Zone: time.UTC}, points, now)
	}
	newest := func(ds []Decision) *Decision {
		i := slices.IndexFunc(ds, func(d Decision) bool { return d.Snapshot == "s99" })
		return &ds[i]
	}
	for _, tt := range []struct {
		name string
		code string
		do   func(s *Signs, ds []Decision)
	}{
		{"all is well", "", func(*Signs, []Decision) {}},
		{"stamped into the past", CodeParted, func(_ *Signs, ds []Decision) { newest(ds).Created = now.AddDate(-1, 0, 0) }},
		{"stamped into the future", CodeParted, func(_ *Signs, ds []Decision) { newest(ds).Created = now.Add(2 * time.Hour) }},
		{"empty", CodeCollapsed, func(_ *Signs, ds []Decision) { newest(ds).Bytes = 10 }},
		{"few files", CodeCollapsed, func(_ *Signs, ds []Decision) { newest(ds).Files = 3 }},
		{"nothing proven", CodeUnproven, func(s *Signs, _ []Decision) { s.ProvenAt = time.Time{} }},
		{"proven long ago", CodeUnproven, func(s *Signs, _ []Decision) { s.ProvenAt = now.Add(-21 * day) }},
		{"nothing arrives", CodeStopped, func(*Signs, []Decision) {}},
		{"the clock stepped", CodeClock, func(s *Signs, _ []Decision) { s.Steady = now.Add(-time.Hour) }},
		{"too many", CodeMany, func(_ *Signs, ds []Decision) {
			for i := range ds {
				ds[i].Keep = i < 5
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ds := normal()
			tt.do(&s, ds)
			at := now
			if tt.code == CodeStopped {
				at = now.Add(73 * time.Hour)
			}
			got := Guard(s, ds, at)
			if tt.code == "" {
				if len(got) > 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Code != tt.code || got[0].Hint == "" {
				t.Errorf("%+v, want %s", got, tt.code)
			}
			for i := range ds {
				ds[i].Keep = true
			}
			if got := Guard(s, ds, at); len(got) > 0 {
				t.Errorf("a veto where nothing goes: %+v", got)
			}
		})
	}
}

func TestSteady(t *testing.T) {
	since := noon.Add(-1000 * time.Hour)
	for _, tt := range []struct {
		last, now, want time.Time
	}{
		{time.Time{}, noon, noon},
		{noon.Add(-time.Minute), noon, since},
		{noon.Add(-23 * time.Hour), noon, since},
		{noon.Add(-25 * time.Hour), noon, noon},
		{noon.Add(time.Minute), noon, since},
		{noon.Add(time.Hour), noon, noon},
	} {
		if got := Steady(tt.last, since, tt.now); !got.Equal(tt.want) {
			t.Errorf("last %s, now %s: steady since %s, want %s", tt.last, tt.now, got, tt.want)
		}
	}
}
