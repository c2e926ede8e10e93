package render

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"holdfast/internal/plan"
)

// fixed are values in whose place nothing else can stand without other fields beside them,
// by the ends of their paths: what they say must stand in the document as it is.
var fixed = []string{".kind", ".kinds.*", ".automatic.*", ".pick"}

// others stand in the place of a value, whatever it is: the first that the language takes.
var others = []string{"23h", "45d", "2031-07-07", "2022-01-20", "2021-06-06", "4", "3", "1.3", "true", "false", "Europe/Paris", "soft", "hard", "high", "us", "both", "medium", "tabletop", "technical", "accept", "transfer", "create", "transmit", "controller",
	"health", "personal", "ordinary", "declaration", "automatic", "immediate", "propose", "tier", "severity"}

// A site is one value in the text of a plan.
type site struct {
	path string // of keys; "*" is any place in a list
	node *yaml.Node
}

// sites returns every value of a document.
func sites(n *yaml.Node, path string) (out []site) {
	join := func(a, b string) string { return strings.TrimPrefix(a+"."+b, ".") }
	switch n.Kind {
	case yaml.DocumentNode:
		return sites(n.Content[0], "")
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			out = append(out, sites(n.Content[i+1], join(path, key))...)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			out = append(out, sites(c, join(path, "*"))...)
		}
	case yaml.ScalarNode:
		out = append(out, site{path, n})
	}
	return out
}

var digests = regexp.MustCompile(`sha256:[0-9a-f]+`)

// Whatever an example declares, the document says: a value of every field is changed in turn, to
// anything else that the language takes in its place, and each time the document must
// change too. So no field can be dropped, whatever words stand for it.
func TestEveryValueOfTheExamplesIsTold(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join("..", "..", "..", "examples", "*.yaml"))
	if err != nil || len(examples) < 6 {
		t.Fatalf("%d examples: %v", len(examples), err)
	}
	looked := map[string]bool{} // a field, whatever the ids
	for _, name := range examples {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			document := func(text []byte) (string, bool) {
				p, err := plan.Parse("plan.yaml", text)
				if err != nil {
					return "", false
				}
				b := digests.ReplaceAllString(Make(p, Options{}).Markdown(), "")
				return b, true
			}
			var doc yaml.Node
			if err := yaml.Load(text, &doc); err != nil {
				t.Fatal(err)
			}
			was, _ := document(text)
			all := sites(&doc, "")
			if len(all) < 100 {
				t.Fatalf("only %d values", len(all))
			}
			for _, s := range all {
				field := strings.Split(s.path, ".")
				if len(field) > 2 {
					field[1] = ""
				}
				key := strings.Join(field, ".")
				if s.path == "apiVersion" || looked[key] {
					continue
				}
				looked[key] = true
				old, style := s.node.Value, s.node.Style
				parsed := false
				for _, other := range slices.Concat([]string{old + "x"}, others) {
					if other == old {
						continue
					}
					s.node.Value = other
					changed, err := yaml.Dump(&doc)
					if err != nil {
						t.Fatal(err)
					}
					is, ok := document(changed)
					if !ok {
						continue
					}
					if parsed = true; is == was {
						t.Errorf("the document is the same when %s is %q in place of %q", s.path, other, old)
					}
					break
				}
				if !parsed && !(slices.ContainsFunc(fixed, func(end string) bool { return strings.HasSuffix(s.path, end) }) && strings.Contains(was, old)) {
					t.Errorf("nothing else can stand at %s: %q", s.path, old)
				}
				s.node.Value, s.node.Style = old, style
			}
		})
	}
}
