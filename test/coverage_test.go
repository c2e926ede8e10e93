package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A drillCell is where a drill went, or is to go.
type drillCell struct{ Kind, Location, Age string }

// Restore tests go to each location and each age in turn, and what they leave out until
// the quarter ends is named.
func TestDrillCoverage(t *testing.T) {
	t.Parallel()
	w := filesOnly(t)
	w.run(t, "location", "init", "--all").want(t, 0)
	w.run(t, "drill", "coverage", "--period", "yesterday").refuses(t, 2, "not known", "2026-Q4")
	// The clock stands in the first days of a quarter.
	zone, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().In(zone)
	quarter := time.Date(now.Year(), 4+3*((now.Month()-1)/3), 1, 0, 0, 0, 0, zone)
	at := func(days int) { later(t, quarter.AddDate(0, 0, days).Add(time.Hour).Sub(now).Round(time.Second)) }
	for _, day := range []int{1, 6, 10} {
		at(day)
		write(t, filepath.Join(w.uploads, fmt.Sprint(day)), "x", 0o644)
		w.run(t, "backup", "uploads").want(t, 0)
	}
	t.Run("INT-12 each location, each kind and random ages", func(t *testing.T) {
		seen := map[drillCell]bool{}
		for n := range 5 {
			var d struct {
				Cell *drillCell
				Seed string
				Pick string
				Aim  *struct{ Open []drillCell }
			}
			w.run(t, "drill", "uploads-drill", "--json").want(t, 0).object(t, &d)
			if d.Cell == nil || d.Aim == nil || d.Seed == "" || d.Pick != "random" {
				t.Fatalf("the record does not say how it was drawn: %+v", d)
			}
			if seen[*d.Cell] || len(d.Aim.Open) != 6-n || !slices.Contains(d.Aim.Open, *d.Cell) {
				t.Errorf("drill %d went to %v, open were %v", n, *d.Cell, d.Aim.Open)
			}
			seen[*d.Cell] = true
		}
		type matrix struct {
			Over  bool
			Cells []struct {
				drillCell
				State string
			}
		}
		var k matrix
		w.run(t, "drill", "coverage", "--json").want(t, 0).object(t, &k)
		var empty []drillCell
		for _, x := range k.Cells {
			if x.State == "empty" {
				empty = append(empty, x.drillCell)
			} else if x.State != "proved" {
				t.Errorf("%v is %s", x.drillCell, x.State)
			}
		}
		if len(k.Cells) != 6 || len(empty) != 1 || seen[empty[0]] || k.Over {
			t.Fatalf("after 5 drills of 6 cells: %+v", k)
		}
		words := fmt.Sprintf("files at %s, %s old", empty[0].Location, empty[0].Age)
		if e := w.run(t, "drill", "coverage").want(t, 0); !strings.Contains(e.out, words) || !strings.Contains(e.out, "are to be reached until") {
			t.Errorf("the empty cell is not named: %v", e)
		}
		// The quarter ends, and the last cell is empty.
		at(100)
		name := fmt.Sprintf("%d-Q%d", quarter.Year(), (quarter.Month()+2)/3)
		if e := w.run(t, "drill", "coverage", "--period", name).want(t, 3); !strings.Contains(e.out, words) || !strings.Contains(e.out, "stayed empty") {
			t.Errorf("after the quarter: %v", e)
		}
		if e := w.run(t, "status"); !strings.Contains(e.out, "HF-D1") || !strings.Contains(e.out, words) {
			t.Errorf("the status does not say what no restore test reached: %v", e)
		}
		pack := filepath.Join(w.root, "pack.zip")
		w.run(t, "evidence", "export", "--period", name, "--out", pack)
		table, err := exec.Command("unzip", "-p", pack, "populations/drill-coverage.csv").Output()
		if err != nil {
			t.Fatal(err)
		}
		if !contains(string(table), `files,`+empty[0].Location+`,`+empty[0].Age+`,empty,0,0,`) || strings.Count(string(table), ",proved,") != 5 {
			t.Errorf("the pack says\n%s", table)
		}
	})
}
