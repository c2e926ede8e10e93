package importer

import (
	"strings"

	regexp "holdfast/internal/plan/importer/lazyregexp"
)

// vague are words that demand without saying how much.
var vague = regexp.MustCompile(`(?i)\b(periodic(?:ally)?|regular(?:ly)?|timely|in a timely manner|prompt(?:ly)?|as soon as possible|as soon as practicable|significant(?:ly)?|substantial(?:ly)?|major|material|where appropriate|where feasible|as appropriate|when warranted|where necessary|as needed|if needed|adequate(?:ly)?|sufficient(?:ly)?|reasonable|near[- ]zero|near zero|minimal|sustained|from time to time|frequent(?:ly)?|strong|highly available|best effort|without undue delay|immediately|quickly|large|exceptional(?:ly)?|severe(?:ly)?|critical suppliers)\b`)

// vagueIn returns the vague words of a sentence that no number in it explains.
func vagueIn(x *sentence) []string {
	s := x.text
	if len(x.amounts()) > 0 || len(x.cycles()) > 0 {
		// A number stands in the sentence; only words that no number helps are left.
		var out []string
		for _, w := range vague.FindAllString(s, -1) {
			switch l := strings.ToLower(w); {
			case strings.HasPrefix(l, "period"), strings.HasPrefix(l, "regular"), l == "timely", strings.HasPrefix(l, "prompt"), strings.HasPrefix(l, "frequent"):
			default:
				out = append(out, w)
			}
		}
		return out
	}
	return vague.FindAllString(s, -1)
}
