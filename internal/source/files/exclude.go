package files

import (
	"fmt"
	"path"
	"strings"

	"holdfast"
)

// Limits of exclusion.
const (
	maxPatterns    = 1000
	maxPatternText = 4096
)

// A pattern excludes paths. See Config.Exclude for what it means.
type pattern struct {
	parts   []string
	rooted  bool // matches from the top; otherwise one name anywhere
	dirOnly bool
}

func parsePatterns(texts []string) ([]pattern, error) {
	if len(texts) > maxPatterns {
		return nil, fmt.Errorf("%d patterns, at most %d are allowed: %w", len(texts), maxPatterns, holdfast.ErrUsage)
	}
	var ps []pattern
	for _, text := range texts {
		bad := func(why string) error {
			return holdfast.WithHint(fmt.Errorf("exclude %q: %s: %w", text, why, holdfast.ErrUsage),
				`write a name ("*.tmp"), a path from the top ("cache/**/old") or a directory ("node_modules/")`)
		}
		p := pattern{}
		s, dirOnly := strings.CutSuffix(text, "/")
		p.dirOnly = dirOnly
		p.rooted = strings.Contains(s, "/")
		p.parts = strings.Split(strings.TrimPrefix(s, "/"), "/")
		switch {
		case s == "" || len(text) > maxPatternText:
			return nil, bad("is empty or too long")
		case strings.IndexByte(text, 0) >= 0:
			return nil, bad("holds a zero byte")
		}
		for _, part := range p.parts {
			if part == "" || part == "." || part == ".." {
				return nil, bad(fmt.Sprintf("has a part %q", part))
			}
			// Asked with a text that reaches every bracket's end or fails on it.
			if _, err := path.Match(part, ""); err != nil {
				return nil, bad("has an unclosed bracket")
			}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// excluded reports whether a path, whose parents are not excluded, is.
func excluded(ps []pattern, name string, isDir bool) bool {
	for _, p := range ps {
		if p.dirOnly && !isDir {
			continue
		}
		if p.rooted && matchParts(p.parts, strings.Split(name, "/")) ||
			!p.rooted && matchPart(p.parts[0], path.Base(name)) {
			return true
		}
	}
	return false
}

// matchParts matches part by part; "**" stands for any number of parts.
func matchParts(pat, parts []string) bool {
	// The greedy match with one place to come back to: linear in practice, and
	// never worse than quadratic, whatever somebody writes into a plan.
	i, j, star, mark := 0, 0, -1, 0
	for j < len(parts) {
		switch {
		case i < len(pat) && pat[i] == "**":
			star, mark = i, j
			i++
		case i < len(pat) && matchPart(pat[i], parts[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(pat) && pat[i] == "**" {
		i++
	}
	return i == len(pat)
}

func matchPart(pat, s string) bool {
	ok, err := path.Match(pat, s)
	return err == nil && ok
}
