package evidence_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"holdfast"
	"holdfast/internal/evidence"
)

// oscalSchema is the schema that NIST publishes. "make test-tools" fetches it.
func oscalSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir := os.Getenv("HOLDFAST_TEST_TOOLS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "holdfast-test-tools")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "oscal-1.2.1.json"))
	if err != nil {
		t.Fatalf("the schema of OSCAL that this test needs is not there: run \"make test-tools\": %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("oscal.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("oscal.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Assessment results hold to the schema whatever ids the frameworks use, and call
// satisfied only what facts prove.
func TestAssessmentResults(t *testing.T) {
	schema := oscalSchema(t)
	c := newCompany(t)
	c.in.Framework = ""
	c.in.Controls = append(c.in.Controls,
		evidence.Control{Framework: "hipaa", ID: "164.308(a)(7)", Posture: holdfast.PostureProved, By: []string{"drills.monthly"}, Facts: []int64{3}},
		evidence.Control{Framework: "hipaa", ID: "(§)", Posture: holdfast.PostureProved}, // nothing says so
		evidence.Control{Framework: "iec62443", ID: "SR 7.3", Posture: holdfast.PostureFailed, Detail: "drill 4 failed\nat L3", Facts: []int64{2, 31}},
		evidence.Control{Framework: "iso27001", ID: "A.5.29", Title: "Zaštita", Posture: holdfast.PostureClaimed},
	)
	raw, ok := unzip(t, c.build())["assessment-results.json"]
	if !ok {
		t.Fatal("the pack has none")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var got struct {
		Results struct {
			Results []struct {
				Title    string
				Findings []struct {
					Target struct {
						ID     string `json:"target-id"`
						Status struct{ State, Reason string }
					}
				}
				Observations []struct{ Collected string }
			}
		} `json:"assessment-results"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, r := range got.Results.Results {
		for _, f := range r.Findings {
			states[r.Title+" "+f.Target.ID] = f.Target.Status.State + " " + f.Target.Status.Reason
		}
	}
	for id, want := range map[string]string{
		"iso27001 A.8.13":    "satisfied pass",
		"iso27001 A.5.29":    "not-satisfied other",
		"soc2 A1.3":          "not-satisfied other",
		"hipaa _164.308-a-7": "satisfied pass",
		"hipaa _":            "not-satisfied other",
		"iec62443 SR-7.3":    "not-satisfied fail",
	} {
		if states[id] != want {
			t.Errorf("%s: %q, want %q", id, states[id], want)
		}
	}
	if len(states) != 6 {
		t.Errorf("%d findings: %v", len(states), states)
	}

	c.in.Controls = nil
	if _, ok := unzip(t, c.build())["assessment-results.json"]; ok {
		t.Error("a plan without controls has assessment results")
	}
}
