package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestReadmeNamesEveryCommand compares the README's table of commands with the
// commands that there are, both ways.
func TestReadmeNamesEveryCommand(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "| command | does | exit status |\n|---|---|---|\n")
	if !ok {
		t.Fatal("the README has no table of commands")
	}
	var told []string
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cell, _, _ := strings.Cut(strings.ReplaceAll(line[1:], `\|`, "\x00"), "|")
		for _, span := range regexp.MustCompile("`[^`]+`").FindAllString(cell, -1) {
			told = append(told, commandsOf(strings.Trim(span, "`"))...)
		}
	}

	var there []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if !sub.HasSubCommands() || strings.Contains(sub.Use, " ") { // "drill NAME" works and has commands below it
				there = append(there, strings.TrimPrefix(sub.CommandPath(), "holdfast "))
			}
			walk(sub)
		}
	}
	walk((&cli{}).root())

	for _, c := range there {
		if !slices.Contains(told, c) {
			t.Errorf("the README's table does not name %q", c)
		}
	}
	for _, c := range told {
		if !slices.Contains(there, c) {
			t.Errorf("the README's table names %q, and there is no such command", c)
		}
	}
}

// commandsOf reads "key split|join KEY" as "key split" and "key join". In the table a
// bar between words is a zero byte by now.
func commandsOf(span string) []string {
	names := []string{""}
	for _, word := range strings.Fields(span) {
		if !regexp.MustCompile(`^[a-z][a-z\x00-]*$`).MatchString(word) {
			break
		}
		var longer []string
		for _, before := range names {
			for choice := range strings.SplitSeq(word, "\x00") {
				longer = append(longer, strings.TrimSpace(before+" "+choice))
			}
		}
		names = longer
	}
	return names
}
