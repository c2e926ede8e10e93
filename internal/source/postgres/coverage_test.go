package postgres

import (
	"errors"
	"testing"

	"holdfast/internal/repo"
)

func spansOf(pairs ...uint64) []repo.LogInfo {
	var list []repo.LogInfo
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, repo.LogInfo{Start: pairs[i], End: pairs[i+1]})
	}
	return list
}

func TestCover(t *testing.T) {
	tests := []struct {
		name        string
		list        []repo.LogInfo
		from, until uint64
		reach       uint64
		picked      int
	}{
		{"abutting", spansOf(0, 10, 10, 20, 20, 30), 0, noBound, 30, 3},
		{"from the inside", spansOf(0, 10, 10, 20), 5, noBound, 20, 2},
		{"until", spansOf(0, 10, 10, 20, 20, 30), 0, 15, 20, 2},
		{"hole", spansOf(0, 10, 11, 20), 0, noBound, 10, 1},
		{"begins late", spansOf(5, 10), 0, noBound, 0, 0},
		{"nothing", nil, 7, noBound, 7, 0},
		{"overlaps", spansOf(0, 10, 5, 30, 6, 12, 10, 20), 0, noBound, 30, 2},
		{"swallowed", spansOf(0, 30, 5, 10, 30, 40), 0, noBound, 40, 2},
		{"the same twice", spansOf(0, 10, 0, 10, 10, 20), 0, noBound, 20, 2},
		{"empty stretch", spansOf(0, 10), 5, 5, 5, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			picked, reach := cover(tt.list, tt.from, tt.until)
			if reach != tt.reach || len(picked) != tt.picked {
				t.Errorf("reached %d with %d pieces, want %d with %d", reach, len(picked), tt.reach, tt.picked)
			}
			for i := 1; i < len(picked); i++ {
				if picked[i].Start > picked[i-1].End {
					t.Errorf("hole between %+v and %+v", picked[i-1], picked[i])
				}
			}
		})
	}
}

func TestLegs(t *testing.T) {
	const seg = 1 << 20
	b := base{manifest: &repo.Manifest{ID: "base"}, timeline: 1, start: 5*seg + 100, stop: 6*seg + 10, segmentSize: seg}
	h := history{Timeline: 4, Parents: []fork{{1, 7*seg + 500}, {2, 7*seg + 900}, {3, 9 * seg}}}
	legs, err := legsOf(b, h)
	if err != nil {
		t.Fatal(err)
	}
	// Timeline 2 lives inside one segment: its leg is empty, timeline 3 has a copy.
	want := []leg{
		{timeline: 1, from: 5 * seg, until: 7 * seg},
		{timeline: 2, from: 7 * seg, fork: 7*seg + 500, until: 7 * seg},
		{timeline: 3, from: 7 * seg, fork: 7*seg + 900, until: 9 * seg},
		{timeline: 4, from: 9 * seg, fork: 9 * seg, until: noBound},
	}
	if len(legs) != len(want) {
		t.Fatalf("legs %+v", legs)
	}
	for i := range want {
		if legs[i].timeline != want[i].timeline || legs[i].from != want[i].from || legs[i].fork != want[i].fork || legs[i].until != want[i].until {
			t.Errorf("leg %d is %+v, want %+v", i, legs[i], want[i])
		}
	}
	list := map[uint32][]repo.LogInfo{1: spansOf(0, 7*seg+500), 3: spansOf(7*seg, 9*seg), 4: spansOf(9*seg, 9*seg+50)}
	if err := fill(legs, list, b, "x"); err != nil {
		t.Error(err)
	}
	list[3] = spansOf(7*seg, 8*seg)
	var ge *GapError
	if err := fill(legs, list, b, "x"); !errors.As(err, &ge) || ge.Timeline != 3 || ge.From != 8*seg {
		t.Errorf("got %v", err)
	}
	for _, bad := range []history{
		{Timeline: 4, Parents: []fork{{2, 7 * seg}}},               // not our child
		{Timeline: 2, Parents: []fork{{1, 6 * seg}}},               // forked off before the base was complete
		{Timeline: 4, Parents: []fork{{2, 7 * seg}, {3, 8 * seg}}}, // a hole in the ancestry
	} {
		if _, err := legsOf(b, bad); err == nil {
			t.Errorf("history %+v was accepted", bad)
		}
	}
}
