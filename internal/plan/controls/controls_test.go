package controls

import (
	"regexp"
	"strings"
	"testing"
)

// Each set is whole: ids are unique and well formed, every control says what it is
// about in our own words, and the numbers are as many as the standard has.
func TestSets(t *testing.T) {
	form := map[string]*regexp.Regexp{
		"iso27001":  regexp.MustCompile(`^(A\.[5-8]\.\d{1,2}|([4-9]|10)\.\d)$`),
		"soc2":      regexp.MustCompile(`^(CC[1-9]\.\d|A1\.[1-3]|C1\.[12]|PI1\.[1-5]|P[1-8]\.\d)$`),
		"nist80053": regexp.MustCompile(`^[A-Z]{2}-\d{1,2}(\(\d\))?$`),
		"hipaa":     regexp.MustCompile(`^164\.3\d\d(\([a-zA-Z0-9]+\))+$`),
		"iec62443":  regexp.MustCompile(`^SR [1-7]\.\d{1,2}$`),
	}
	count := map[string]int{}
	topics := map[Topic]bool{}
	for _, id := range Sets() {
		s, ok := Of(id)
		if !ok || form[id] == nil || s.Name == "" || len(s.Editions) == 0 {
			t.Fatalf("%s: %+v", id, s)
		}
		for _, c := range s.Controls {
			count[id]++
			if strings.HasPrefix(c.ID, "A.") {
				count["annex A"]++
			}
			if !form[id].MatchString(c.ID) || c.Name == "" || len(c.About) == 0 || c.Intent != "" && !strings.HasSuffix(c.Intent, ".") {
				t.Errorf("%s: %+v", id, c)
			}
			if got, ok := s.Find(strings.ToLower(strings.ReplaceAll(c.ID, " ", ""))); !ok || got.ID != c.ID {
				t.Errorf("%s %s is found as %q", id, c.ID, got.ID)
			}
			for _, about := range c.About {
				topics[about] = true
			}
		}
	}
	for id, want := range map[string]int{"annex A": 93, "iso27001": 93 + 23, "soc2": 33 + 3 + 2 + 5 + 18, "iec62443": 13 + 12 + 9 + 3 + 4 + 2 + 8} {
		if count[id] != want {
			t.Errorf("%s has %d controls, want %d", id, count[id], want)
		}
	}
	// A double id would have been dropped by New.
	if got := len(iso27001()) + len(soc2()) + len(nist80053()) + len(hipaa()) + len(iec62443()); got != count["iso27001"]+count["soc2"]+count["nist80053"]+count["hipaa"]+count["iec62443"] {
		t.Errorf("%d are listed, %d are kept: an id stands twice", got, count["iso27001"]+count["soc2"]+count["nist80053"]+count["hipaa"]+count["iec62443"])
	}
	for _, name := range []string{"iec62443_3_3", "NIST-800-53", "nist80053", "ISO 27001", "SOC2", "HIPAA"} {
		if _, ok := Of(name); !ok {
			t.Errorf("%q is not known", name)
		}
	}
	if _, ok := Of("gdpr"); ok {
		t.Error("a set that is not shipped is known")
	}
}

func TestFits(t *testing.T) {
	drill := []Topic{Backup, Restore, Recovery}
	for _, tt := range []struct {
		set, id string
		fits    bool
	}{
		{"iec62443", "SR7.1", false},
		{"iec62443", "SR 7.2", false},
		{"iec62443", "SR 7.3", true},
		{"iec62443", "SR 7.4", true},
		{"iso27001", "8.13", true},
		{"iso27001", "A.5.30", true},
		{"iso27001", "A.8.24", false},
		{"soc2", "A1.3", true},
		{"soc2", "CC6.1", false},
		{"nist80053", "CP-10", true},
		{"nist80053", "SC-12", false},
		{"hipaa", "164.308(a)(7)", true},
		{"hipaa", "164.308.a.7", true},
		{"nist80053", "CP-9.1", true},
	} {
		s, _ := Of(tt.set)
		c, ok := s.Find(tt.id)
		if !ok || c.Fits(drill) != tt.fits {
			t.Errorf("%s %s: found %t, fits %t, want %t", tt.set, tt.id, ok, c.Fits(drill), tt.fits)
		}
	}
	iec, _ := Of("iec62443")
	var better []string
	for _, c := range iec.About(drill) {
		better = append(better, c.ID)
	}
	if strings.Join(better, ", ") != "SR 7.3, SR 7.4" {
		t.Errorf("backup and recovery belong to %s", better)
	}
	soc, _ := Of("soc2")
	if n := len(soc.Family("CC6.x")); n != 8 || soc.Family("CC6.1") != nil || soc.Family(".x") != nil {
		t.Errorf("the family CC6 has %d", n)
	}
	iso, _ := Of("iso27001")
	near := iso.Nearest("A.8.133")
	if len(near) == 0 || near[0].ID != "A.8.13" {
		t.Errorf("nearest to A.8.133: %+v", near)
	}
	if got := iso.Nearest(strings.Repeat("z", 500)); len(got) > 3 {
		t.Errorf("%d are near", len(got))
	}
}

// A set of a company's own has its own ids.
func TestOwnSet(t *testing.T) {
	s := New("own", "Our controls", []Control{{ID: "BR-01", Name: "copies", About: []Topic{Backup}}, {ID: "br 01", Name: "again"}, {ID: "BR-02", Name: "tests", About: []Topic{Restore}}})
	if len(s.Controls) != 2 {
		t.Errorf("%+v", s.Controls)
	}
	if c, ok := s.Find("BR01"); !ok || c.Name != "copies" {
		t.Errorf("%+v %t", c, ok)
	}
	if _, ok := s.Find("BR-03"); ok {
		t.Error("what was not declared is found")
	}
}
