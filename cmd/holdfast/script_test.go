package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestScripts plays one script for each command: a success, a misuse with its
// hint, and a proof that a refusal wrote nothing.
func TestScripts(t *testing.T) {
	all, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range all {
		if filepath.Base(f) != "location-test.txt" { // TestLocation plays it against real servers
			files = append(files, f)
		}
	}
	if len(files) < 8 {
		t.Fatalf("only %d scripts were found", len(files))
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(e *testscript.Env) error {
			// Sockets have short paths only, and the sandbox's account walks here.
			dir, err := os.MkdirTemp("", "hf")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("WS", filepath.Join(dir, "ws"))
			return os.Chmod(dir, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// status N ARGS... plays one command line and expects its exit status.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				if got := run(args[1:], ts.Stdout(), ts.Stderr()); got != want {
					ts.Fatalf("holdfast %s ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
				}
			},
			// sub FILE OLD NEW changes a file that must hold OLD.
			"sub": func(ts *testscript.TestScript, _ bool, args []string) {
				path := args[0]
				b, err := os.ReadFile(path)
				ts.Check(err)
				if !strings.Contains(string(b), args[1]) {
					ts.Fatalf("%s does not hold %q", path, args[1])
				}
				ts.Check(os.WriteFile(path, []byte(strings.Replace(string(b), args[1], args[2], 1)), 0o644))
			},
		},
	})
}

// Every command says what it does, with an example; groups show their verbs.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Short == "" {
			t.Errorf("%s does not say what it does", c.CommandPath())
		}
		if !c.HasSubCommands() && !strings.Contains(c.Example, "$ holdfast") {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&cli{}).root())
}
