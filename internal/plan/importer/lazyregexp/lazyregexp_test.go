package lazyregexp

import (
	"slices"
	"strings"
	"testing"
)

func TestAsRegexp(t *testing.T) {
	r := MustCompile(`(\d+)([hd])`)
	const s = "4h, then 2d"
	if !r.MatchString(s) || r.FindString(s) != "4h" || r.String() != `(\d+)([hd])` || r.FindStringIndex(s)[1] != 2 || r.FindStringSubmatchIndex(s)[5] != 2 {
		t.Error("the first match is wrong")
	}
	if !slices.Equal(r.FindStringSubmatch(s), []string{"4h", "4", "h"}) || !slices.Equal(r.FindAllString(s, -1), []string{"4h", "2d"}) || r.FindAllStringIndex(s, -1)[1][0] != 9 ||
		r.FindAllStringSubmatch(s, -1)[1][1] != "2" || r.FindAllStringSubmatchIndex(s, -1)[1][2] != 9 {
		t.Error("the matches are wrong")
	}
	if r.ReplaceAllString(s, "$2") != "h, then d" || r.ReplaceAllStringFunc(s, strings.ToUpper) != "4H, then 2D" || len(r.Split(s, -1)) != 3 || QuoteMeta("a.b") != `a\.b` {
		t.Error("what replaces and splits is wrong")
	}
}

// A test finds a broken expression at once, not when somebody imports a policy.
func TestBrokenExpression(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an expression that does not compile goes unnoticed")
		}
	}()
	MustCompile("(")
}

func TestNothingIsCompiledBeforeItsUse(t *testing.T) {
	defer func(was bool) { inTest = was }(inTest)
	inTest = false
	MustCompile("(") // not used
}
