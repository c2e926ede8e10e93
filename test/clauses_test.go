package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// below returns the node at the end of a path of keys and indexes, or nil.
func below(n *yaml.Node, path string) *yaml.Node {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	for _, key := range strings.Split(path, ">") {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == key {
					next = n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(key); err == nil && i < len(n.Content) {
				next = n.Content[i]
			}
		}
		if n = next; n == nil {
			return nil
		}
	}
	return n
}

// whole writes a value or a list as the table has it.
func whole(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var parts []string
	for _, c := range n.Content {
		parts = append(parts, whole(c))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// said reports whether the plan says one part of a clause.
func said(plan *yaml.Node, part string) bool {
	if path, value, ok := strings.Cut(part, " = "); ok {
		n := below(plan, path)
		return n != nil && whole(n) == value
	}
	path, words, some := strings.Cut(part, " ~ ")
	n := below(plan, path)
	return n != nil && (!some || strings.Contains(whole(n), words))
}

// Every clause of the five policies is said by the plan that was written after it, by the
// value that the table names, or is what the product does without being told. The plan is
// read by the product itself, so nothing here is a comment.
func TestEveryClauseIsInAPlan(t *testing.T) {
	t.Parallel()
	catalogue, err := os.ReadFile(filepath.Join("..", "docs", "requirements", "catalogue.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, appendix, _ := strings.Cut(string(catalogue), "# Appendix: clause coverage map")
	open := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-E]\d+[a-z]?) \|`).FindAllStringSubmatch(appendix, -1) {
		open[m[1]] = true
	}
	if len(open) != 282 {
		t.Fatalf("the catalogue has %d clauses, want 282", len(open))
	}
	plans := map[string]*yaml.Node{}
	for letter, name := range map[string]string{"A": "care-practice", "B": "compliance-ai", "C": "volunteer-vms", "D": "industrial-remote-access", "E": "two-person-ai"} {
		path := filepath.Join("..", "examples", name+".yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var n yaml.Node
		if err := yaml.Unmarshal(text, &n); err != nil {
			t.Fatal(err)
		}
		plans[letter] = &n
		if e := hf(t, "check", abs(t, path)); e.status == 2 {
			t.Errorf("the product does not read it: %v", e)
		}
	}
	table, err := os.ReadFile(filepath.Join("testdata", "clauses.txt"))
	if err != nil {
		t.Fatal(err)
	}
	silent := 0
	for line := range strings.Lines(string(table)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		clause, says, ok := strings.Cut(line, " | ")
		if !ok || !open[clause] {
			t.Errorf("%q is no clause of the catalogue, or stands twice", line)
			continue
		}
		delete(open, clause)
		if reason, is := strings.CutPrefix(says, "not in the plan: "); is {
			if silent++; len(strings.Fields(reason)) < 4 {
				t.Errorf("%s: %q is no reason", clause, reason)
			}
			continue
		}
		for _, part := range strings.Split(says, " ; ") {
			if !said(plans[clause[:1]], part) {
				t.Errorf("%s: the plan does not say: %s", clause, part)
			}
		}
	}
	for clause := range open {
		t.Errorf("no line says where %s is", clause)
	}
	// What the product does by itself is the exception.
	const most = 10
	if silent > most {
		t.Errorf("%d clauses are in no plan", silent)
	}
	// A figure that changes is seen.
	if n := plans["C"]; said(n, "backups>database>copies>off-site>every = 1d") || said(n, "backups>database>copies>nowhere") || said(n, "repository>stated ~ DES") {
		t.Error("the walk does not compare")
	}
}
