package govern

import (
	"strings"
	"testing"
	"time"
)

// Roles are filled by different people, whichever way they fit.
func TestEnough(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, x := range []struct {
			roles  []string
			people int
			who    []string
			want   bool
		}{
			{[]string{"lead"}, 1, nil, false},
			{[]string{"lead"}, 1, []string{"ana"}, true},
			{[]string{"lead"}, 1, []string{"ben"}, true}, // the deputy
			{[]string{"lead"}, 1, []string{"cid"}, false},
			{[]string{"lead"}, 2, []string{"ana"}, false},
			{[]string{"lead", "compliance-officer"}, 2, []string{"ben"}, false}, // holds both
			{[]string{"lead", "compliance-officer"}, 2, []string{"ben", "ana"}, true},
			{[]string{"compliance-officer", "lead"}, 2, []string{"ana", "ben"}, true},
			{[]string{"lead", "ana or ben"}, 2, []string{"ana", "cid"}, false},
			{[]string{"lead", "ana or ben"}, 2, []string{"ana", "ben"}, true},
			{[]string{"lead", "compliance-officer", "cid"}, 2, []string{"ana", "cid"}, true}, // two of three
		} {
			if got := enough(r.plan, x.roles, x.people, x.who); got != x.want {
				t.Errorf("%d of %v by %v: %t", x.people, x.roles, x.who, got)
			}
		}
	})
}

// An exception waives from its approval to its end, and nobody signs with the key of another.
func TestExceptionEnds(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		e, err := r.m.AskException(t.Context(), Exception{Rule: "HF-L11", Of: "stores.db", Why: "rebuilt", Risk: "high", By: "cid", Until: noon.Add(10 * day)})
		if err != nil || e.State != ExceptionOpen {
			t.Fatalf("%v %+v", err, e)
		}
		approve := func(by, key string) (Exception, error) {
			text, err := r.m.ExceptionText(t.Context(), e.ID)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := r.people[key].SSHSign(Namespace, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return r.m.ApproveException(t.Context(), e.ID, Word{By: by, Signature: sig})
		}
		if _, err := approve("ben", "ana"); err == nil || !strings.Contains(err.Error(), "by no key of") {
			t.Fatalf("another's key: %v", err)
		}
		if x, err := approve("ana", "ana"); err != nil || x.State != ExceptionOpen {
			t.Fatalf("a high risk needs two: %v %+v", err, x)
		}
		if x, err := approve("ben", "ben"); err != nil || x.State != ExceptionApproved {
			t.Fatalf("%v %+v", err, x)
		}
		for _, x := range []struct {
			at   time.Time
			want string
		}{{noon, ExceptionApproved}, {noon.Add(10*day - time.Second), ExceptionApproved}, {noon.Add(10 * day), ExceptionEnded}} {
			r.now = x.at
			es, err := r.m.Exceptions(t.Context())
			if err != nil || len(es) != 1 || es[0].State != x.want {
				t.Errorf("at %s: %v %+v", x.at, err, es)
			}
		}
	})
}
