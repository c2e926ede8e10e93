package web

import (
	"context"
	"strings"
	"testing"
	"time"

	"holdfast"
)

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", time.Microsecond: "<1 ms", 42 * time.Millisecond: "42 ms", time.Second: "1 s", 4234 * time.Millisecond: "4.2 s", 9990 * time.Millisecond: "10 s",
		59400 * time.Millisecond: "59 s", 59600 * time.Millisecond: "1 min", 717 * time.Second: "11 min 57 s", time.Hour - time.Second/4: "1 h", 78 * time.Minute: "1 h 18 min",
		day - time.Second: "1 d", 26 * time.Hour: "1 d 2 h", 41 * day: "41 d", -3 * time.Second: "−3 s",
	} {
		if got := brief(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// The sentence rounds up: it must not promise more than was measured.
func TestSpokenRoundsUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "nothing", time.Millisecond: "second", time.Second: "1 second", 1100 * time.Millisecond: "2 seconds", 119*time.Second + 1: "120 seconds",
		3*time.Minute + time.Second: "4 minutes", 2 * time.Hour: "2 hours", 2*time.Hour + time.Second: "2 hours 1 minute", 50*time.Hour + 1: "2 days 3 hours",
	} {
		if got := spoken(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// What is unknown and what nobody proved is said in the sentence, and is never
// shown as good.
func TestAnswer(t *testing.T) {
	store := []Store{{ID: "db"}}
	at := func(name string, l Loss) Answer {
		l.Store = "db"
		return Answer{Location: name, Reachable: true, Loss: l, Losses: []Loss{l}}
	}
	seconds := Loss{Span: 4 * time.Second, Known: true, Store: "db"}
	minute := known(3 * time.Minute)
	tests := []struct {
		name string
		o    Overview
		tone tone
		want string
	}{
		{"nothing protected", Overview{}, warn, "could bring nothing back"},
		{"no location", Overview{Stores: store}, bad, "everything would be gone: the plan names no location"},
		{"all on this host", Overview{Stores: store, Answers: []Answer{{Location: "near", Reachable: true, Burns: true, Loss: seconds}}, Back: minute}, bad, "everything would be gone: every location stands on this host"},
		{"good", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: minute}, good, "we would lose the last 4 seconds and be back in 3 minutes."},
		{"nothing newer", Overview{Stores: store, Answers: []Answer{at("a", Loss{Known: true})}, Back: minute}, good, "we would lose nothing and be back in 3 minutes."},
		{"a store comes from the best location", Overview{Stores: store, Answers: []Answer{at("a", seconds), at("b", Loss{Span: time.Hour, Known: true})}, Back: minute}, good, "lose the last 4 seconds"},
		{"the worst store counts", Overview{Stores: store, Answers: []Answer{{Location: "a", Reachable: true, Losses: []Loss{seconds, {Store: "files", Span: time.Hour, Known: true}}}, at("b", seconds)}, Back: minute}, good, "lose the last 60 minutes"},
		{"a location on this host does not", Overview{Stores: store, Answers: []Answer{at("a", Loss{Span: time.Hour, Known: true}), {Location: "near", Reachable: true, Burns: true, Loss: seconds}}, Back: minute}, good, "lose the last 60 minutes"},
		{"estimated", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: guess(3*time.Minute, "")}, good, "be back in about 3 minutes."},
		{"a lower bound", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: Measure{Value: time.Minute, Known: true, AtLeast: true}}, warn, "be back in at least 60 seconds."},
		{"time not known", Overview{Stores: store, Answers: []Answer{at("a", seconds)}}, warn, "4 seconds, and nobody can say how long it would take to be back."},
		{"loss not known", Overview{Stores: store, Answers: []Answer{at("a", Loss{}), at("b", Loss{All: true})}, Back: minute}, bad, "nobody knows what we would lose; to be back would take 3 minutes."},
		{"nothing known", Overview{Stores: store, Answers: []Answer{at("a", Loss{})}}, bad, "nobody knows what we would lose, or how long it would take to be back."},
		{"everything", Overview{Stores: store, Answers: []Answer{at("a", Loss{All: true}), at("b", Loss{All: true})}, Back: minute}, bad, "we would lose all of db."},
		{"a location is away", Overview{Stores: store, Answers: []Answer{at("a", seconds), {Location: "b", Losses: []Loss{{Store: "db"}}}}, Back: minute}, warn, "lose the last 4 seconds"},
		{"a promise is missed", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: minute, Services: []Service{{Posture: holdfast.PostureProved, RPO: Promise{Missed: true}}}}, bad, "4 seconds"},
		{"proof overdue", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: minute, Services: []Service{{Posture: holdfast.PostureOverdue}}}, bad, "4 seconds"},
		{"posture unknown", Overview{Stores: store, Answers: []Answer{at("a", seconds)}, Back: minute, Services: []Service{{Posture: holdfast.PostureUnknown}}}, warn, "4 seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := answerOf(tt.o)
			got := s.Before + s.Loss + s.Middle + s.Time + s.After
			if s.Tone != tt.tone || !strings.Contains(got, tt.want) {
				t.Errorf("%s: %q\nwant %s: %q", s.Tone, got, tt.tone, tt.want)
			}
			var b strings.Builder
			if err := s.text().Render(context.Background(), &b); err != nil {
				t.Fatal(err)
			}
			if plain := strings.NewReplacer("<em>", "", "</em>", "").Replace(b.String()); plain != got {
				t.Errorf("rendered as %q", b.String())
			}
		})
	}
}

// A location that does not answer is not counted on.
func TestNotesOfALocationAway(t *testing.T) {
	o := Overview{Stores: []Store{{ID: "db"}}, Answers: []Answer{{Location: "near", Losses: []Loss{{Store: "db"}}}, {Location: "offsite", Reachable: true, Losses: []Loss{{Store: "db", Known: true, Span: time.Second}}}}}
	if got := strings.Join(answerOf(o).Notes, " "); !strings.Contains(got, "only offsite answers") {
		t.Error(got)
	}
}

// No posture and no outcome but the good ones look good.
func TestOnlyProvedIsGood(t *testing.T) {
	for _, p := range []holdfast.Posture{holdfast.PostureDue, holdfast.PostureOverdue, holdfast.PostureFailed, holdfast.PostureExcepted, holdfast.PostureClaimed, holdfast.PostureNA, holdfast.PostureUnknown, "", "something new"} {
		if postureBadge(p).Tone == good {
			t.Errorf("%q looks good", p)
		}
	}
	for _, o := range []holdfast.Outcome{holdfast.Failed, holdfast.NotProven, ""} {
		if outcomeBadge(o).Tone == good {
			t.Errorf("%q looks good", o)
		}
	}
	if promiseTone(Promise{Objective: time.Hour}) == good {
		t.Error("an unknown value looks good")
	}
	if runBadge(DrillLine{State: RunDone, Rung: holdfast.L3, Goal: holdfast.L4}).Tone == good {
		t.Error("a drill that did not climb to its goal looks good")
	}
}

func TestLadderShowsEveryRung(t *testing.T) {
	rows := ladder(failedDrill())
	if len(rows) != 9 {
		t.Fatalf("%d rungs", len(rows))
	}
	for _, r := range rows {
		want := holdfast.NotProven
		switch {
		case r.Rung <= holdfast.L1:
			want = holdfast.Passed
		case r.Rung == holdfast.L2:
			want = holdfast.Failed
		}
		if r.Outcome != want || r.Climbed != (r.Rung <= holdfast.L1) {
			t.Errorf("%s: %s, climbed %t", r.Rung, r.Outcome, r.Climbed)
		}
	}
}

func TestWindowBar(t *testing.T) {
	from := before(10 * time.Hour)
	got := windowBar([]holdfast.Window{window("db", "a", 10*time.Hour, 6*time.Hour, 1, "gap"), window("db", "a", 5*time.Hour, time.Hour, 1, "")}, from, noon)
	want := []segment{{0, 400, "window", ""}, {400, 100, "hole", "no way back to any instant in here"}, {500, 400, "window", ""}, {900, 100, "exposed", "newer than anything there"}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %v, want %v", i, got[i], want[i])
		}
	}
	for _, ws := range [][]holdfast.Window{nil, {window("db", "a", -time.Hour, -2*time.Hour, 1, "")}, {window("db", "a", 30*day, 29*day, 1, "")}} {
		for _, s := range windowBar(ws, from, noon) {
			if s.X < 0 || s.W < 0 || s.X+s.W > barW {
				t.Errorf("%v leaves the bar", s)
			}
		}
	}
	if windowBar(nil, noon, noon) != nil {
		t.Error("a bar of no time")
	}
}

func TestGraph(t *testing.T) {
	if _, ok := draw(Graph{}); ok {
		t.Error("a graph of nothing is drawn")
	}
	big := Graph{}
	for i := range maxDrawnNodes + 1 {
		big.Nodes = append(big.Nodes, Node{ID: itoa(i)})
	}
	if _, ok := draw(big); ok {
		t.Error("a graph that nobody can read is drawn")
	}
	// A cycle, a self edge, an edge to nowhere, a node twice as deep by another way.
	g := Graph{Nodes: []Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}},
		Edges: []Edge{{From: "a", To: "b"}, {From: "b", To: "c"}, {From: "c", To: "a"}, {From: "a", To: "c"}, {From: "d", To: "d"}, {From: "a", To: "nowhere"}}}
	d, ok := draw(g)
	if !ok || len(d.Nodes) != 4 || len(d.Edges) != 4 {
		t.Fatalf("%t %d nodes, %d edges", ok, len(d.Nodes), len(d.Edges))
	}
	for i, n := range d.Nodes {
		if n.X < 0 || n.Y < 0 || n.X+nodeW > d.W || n.Y+nodeH > d.H {
			t.Errorf("%s lies outside", n.ID)
		}
		for _, o := range d.Nodes[:i] {
			if n.X == o.X && n.Y < o.Y+nodeH && o.Y < n.Y+nodeH {
				t.Errorf("%s lies on %s", n.ID, o.ID)
			}
		}
	}
	if !(d.Nodes[0].X < d.Nodes[1].X && d.Nodes[1].X < d.Nodes[2].X) {
		t.Error("what depends does not stand left of what it needs")
	}
}

// A chain of errors is cut to what is wrong, and kept whole beside it.
func TestPlainError(t *testing.T) {
	if last, whole := plainError("no space left on device"); last != "No space left on device" || whole != "" {
		t.Errorf("%q, %q", last, whole)
	}
	chain := strings.Repeat("store \"db\": snapshot: ", 8) + "dial tcp 127.0.0.1:5432: connect: connection refused"
	last, whole := plainError(chain)
	if !strings.HasSuffix(last, "connect: connection refused") || len(last) > 90 || whole != chain {
		t.Errorf("%q, %q", last, whole)
	}
}

// What nobody measured is not shown as a pace.
func TestPacing(t *testing.T) {
	p := holdfast.Progress{Done: 10_000_000, Total: 40_000_000, Unit: "bytes"}
	for want, got := range map[string]string{
		"10.0 MB of 40.0 MB":                            pacing(p, 0, 0),
		"10.0 MB of 40.0 MB, 2.0 MB/s, about 15 s left": pacing(p, 2_000_000, 15*time.Second),
		"": pacing(holdfast.Progress{Stage: "sandbox"}, 0, 0),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
