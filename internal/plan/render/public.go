package render

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"holdfast/internal/plan"
)

// publicValues are the values of the plan that the public edition may tell, by the
// path of their field; "*" stands for one id or number. Every other text in the plan
// is searched for in what is told, and withheld where it is found. A field that is
// new in the plan is therefore withheld until somebody decides otherwise here.
var publicValues = []string{
	"apiVersion", "plan.id", "plan.version", "plan.review.after.*",
	"org.name", "org.timezone", "roles.*.may.*",
	"tiers.*.rto", "tiers.*.rpo", "tiers.*.scenarios.*.rto", "tiers.*.scenarios.*.rpo",
	"severities.*.rto", "severities.*.rpo",
	"scenarios.*.rto", "scenarios.*.rpo", "services.*.rto", "services.*.rpo", "stores.*.rto", "stores.*.rpo", "services.*.tier", "services.*.needs.*",
	"stores.*.kind", "stores.*.tier", "stores.*.class", "stores.*.protect",
	"locations.*.kind", "locations.*.region", "locations.*.jurisdiction",
	"backups.*.every", "drills.*.of.*", "drills.*.every", "drills.*.pick",
	"activation.automatic.*", "controls.*.*", "frameworks.*.edition", "org.certified.*.none", "frameworks.*.status", "definitions.*.means", "exclusions.*.why", "plan.title", "plan.scope.*.text", "plan.goals.*", "exercises.*.kind", "exercises.*.every", "exercises.*.after.*",
	"tiers.*.text", "tiers.*.scheme", "schemes.*.means", "schemes.*.order.*", "incidents.phases.*", "incidents.updates.status_page", "incidents.updates.every",
}

// privateIds are the maps whose ids name somebody. Ids of other maps are neither
// told on purpose nor looked for: they are plain words such as "near".
var privateIds = []string{"people", "customers", "suppliers", "facilities", "contracts", "contacts"}

// publicIds are the maps whose ids may be told.
var publicIds = []string{"roles", "scenarios", "tiers", "severities", "services", "stores", "backups", "drills", "controls", "frameworks", "definitions", "exclusions", "exercises", "schemes", "obligations"}

// secrets finds in a text what the public edition must not say.
type secrets struct {
	values map[string]bool // lower case
	first  map[rune][]string
}

// minSecret is the shortest value that is looked for. Shorter ones, such as the
// initials of a person, stand in too many innocent words.
const minSecret = 3

// secretsOf collects the texts of p that are not public.
func secretsOf(p *plan.Plan) *secrets {
	told := map[string]bool{}
	hidden := map[string]bool{}
	note := func(public bool, s string) {
		if s = strings.ToLower(plainLine(s)); public {
			told[s] = true
		} else if utf8.RuneCountInString(s) >= minSecret {
			hidden[s] = true
		}
	}
	all := leaves(p)
	plain := map[string]bool{} // ids that name no person and no company
	for _, l := range all {
		if !slices.Contains(privateIds, l.top()) {
			for _, id := range l.ids {
				plain[id] = true
			}
		}
	}
	for _, l := range all {
		for i, id := range l.ids {
			public := i == 0 && slices.Contains(publicIds, l.top())
			if public || slices.Contains(privateIds, l.top()) {
				note(public, id)
			}
		}
		if !l.vocabulary && !plain[l.text] {
			note(slices.Contains(publicValues, l.pattern), l.text)
		}
	}
	s := &secrets{values: map[string]bool{}, first: map[rune][]string{}}
	for v := range hidden {
		if told[v] {
			continue
		}
		s.values[v] = true
		r, _ := utf8.DecodeRuneInString(v)
		s.first[r] = append(s.first[r], v)
	}
	for r := range s.first {
		slices.SortFunc(s.first[r], func(a, b string) int {
			if len(a) != len(b) {
				return len(b) - len(a) // the longest first
			}
			return strings.Compare(a, b)
		})
	}
	return s
}

// shapes are what a person, a machine or a place is reached by, wherever it stands.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://\S+`),
	regexp.MustCompile(`[^\s@<>()",;:]+@[^\s@<>()",;:]+`),
	regexp.MustCompile(`(^|[\s("'=:])(~|\.{0,2})?(/[^\s/,;()"']+){2,}/?`),
	regexp.MustCompile(`[A-Za-z]:\\\S+`),
	regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}(/\d+)?\b`),
	regexp.MustCompile(`\b[a-z0-9_]+=\S+`),
	regexp.MustCompile(`(\+|\b0|\(0)[\d][\d ()./-]{5,}\d`),
	regexp.MustCompile(`\b(age1|ssh-|ecdsa-|sk-|SHA256:)\S{8,}`),
}

// allowed returns what may be told of s. In the internal edition that is s.
func (w *writer) allowed(s string) string {
	if !w.public || s == "" {
		return s
	}
	s = w.secrets.scrub(s)
	for _, re := range shapes {
		s = re.ReplaceAllStringFunc(s, func(found string) string {
			lead := ""
			if r, n := utf8.DecodeRuneInString(found); unicode.IsSpace(r) || strings.ContainsRune(`("'=:`, r) {
				lead = found[:n]
			}
			return lead + Withheld
		})
	}
	return s
}

// scrub replaces every hidden value that stands in s as a word of its own.
func (sc *secrets) scrub(s string) string {
	lower := strings.ToLower(s)
	if len(lower) != len(s) {
		s = lower // rare letters change their length; being found matters more than their case
	}
	var b strings.Builder
	inWord := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }
	prev := rune(' ')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(lower[i:])
		found := ""
		if !inWord(prev) || !inWord(r) {
			for _, v := range sc.first[r] {
				if !strings.HasPrefix(lower[i:], v) {
					continue
				}
				last, _ := utf8.DecodeLastRuneInString(v)
				after, _ := utf8.DecodeRuneInString(lower[i+len(v):])
				if i+len(v) == len(lower) || !inWord(last) || !inWord(after) {
					found = v
					break
				}
			}
		}
		if found == "" {
			b.WriteString(s[i : i+n])
			prev = r
			i += n
			continue
		}
		b.WriteString(Withheld)
		prev, _ = utf8.DecodeLastRuneInString(found)
		i += len(found)
	}
	return b.String()
}
