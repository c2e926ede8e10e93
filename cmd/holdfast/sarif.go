package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"

	"holdfast"
	"holdfast/internal/plan"
)

// The parts of SARIF 2.1.0 (OASIS Standard, 27 March 2020) that findings need. The
// numbers are its sections. Code review shows a result beside its line, and tells by
// the fingerprint whether it saw it before.
type (
	sarifLog struct { // 3.13
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct { // 3.14
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct { // 3.18
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct { // 3.19
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct { // 3.49
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
		Full  sarifText `json:"fullDescription"`
		Help  sarifText `json:"help"`
	}
	sarifInvocation struct { // 3.20
		Successful bool `json:"executionSuccessful"`
		ExitCode   int  `json:"exitCode"`
	}
	sarifResult struct { // 3.27
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct { // 3.28
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct { // 3.29
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifArtifact struct { // 3.4
		URI string `json:"uri"`
	}
	sarifRegion struct { // 3.30
		Line   int `json:"startLine"`
		Column int `json:"startColumn"`
	}
	sarifLogical struct { // 3.33
		Name string `json:"fullyQualifiedName"`
	}
	sarifText struct { // 3.11, 3.12
		Text string `json:"text"`
	}
)

// fingerprintName is the version of how fingerprints are made; a change needs a new one.
const fingerprintName = "holdfast/v1"

// writeSARIF prints findings for code review. Paths below dir are relative to it, as
// reviewers want them.
func writeSARIF(w io.Writer, fs []holdfast.Finding, exit int, dir string) error {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "holdfast", Version: holdfast.Version, Rules: []sarifRule{}}},
		Invocations: []sarifInvocation{{Successful: exit != holdfast.ExitError, ExitCode: exit}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []sarifResult{},
	}
	index := map[string]int{}
	seen := map[string]int{}
	for _, f := range fs {
		i, ok := index[f.Code]
		if !ok {
			i = len(index)
			index[f.Code] = i
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, ruleSARIF(f))
		}
		// Not of the line, which moves with every edit above it, nor of the message,
		// whose numbers change.
		key := f.Code + "\x00" + f.Subject
		seen[key]++
		sum := sha256.Sum256(append([]byte(key), byte(seen[key]), byte(seen[key]>>8)))
		text := f.Subject + ": " + f.Message
		if f.Hint != "" {
			text += ". Way out: " + f.Hint
		}
		loc := sarifLocation{Logical: []sarifLogical{{f.Subject}}}
		if f.File != "" {
			loc.Physical = &sarifPhysical{
				Artifact: sarifArtifact{uri(relative(dir, f.File))},
				Region:   sarifRegion{Line: max(f.Line, 1), Column: max(f.Column, 1)},
			}
		}
		run.Results = append(run.Results, sarifResult{RuleID: f.Code, RuleIndex: i, Level: string(f.Severity), Message: sarifText{text},
			Locations: []sarifLocation{loc}, Fingerprints: map[string]string{fingerprintName: hex.EncodeToString(sum[:16])}})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}})
}

// ruleSARIF describes the rule of a finding. What stores and locations found has no
// rule of the plan, and its first finding speaks for it.
func ruleSARIF(f holdfast.Finding) sarifRule {
	r, ok := plan.RuleOf(f.Code)
	if !ok {
		return sarifRule{ID: f.Code, Short: sarifText{f.Message}, Full: sarifText{f.Message}, Help: sarifText{f.Hint}}
	}
	return sarifRule{ID: r.Code, Short: sarifText{r.Meaning}, Full: sarifText{r.Meaning + ". " + r.Why}, Help: sarifText{r.Out}}
}

// uri writes a path as a URI reference (RFC 3986).
func uri(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
