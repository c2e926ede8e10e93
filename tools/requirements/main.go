// Command requirements says which rows of the requirement catalogue are proved.
//
// It runs the black-box acceptance tests below test/, or reads the output of such
// a run ("go test -json"), and looks for tests that name rows: t.Run("BKP-21 ...").
// A row is proved if at least one test that names it passed and none that names it
// failed, was skipped or did not end. A name that is not in the catalogue is an
// error, so that a slip of the finger does not pass for a proof.
//
// Its last line is for machines: "N proved, N failing, N untested of N". It exits 1
// if a row fails, a name is unknown, or a package of tests failed for any reason.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// options of one run. Paths are relative to the repository's root.
type options struct {
	catalogue string
	results   string // "" runs the tests, "-" is standard input
	write     bool
	quiet     bool
	run       string
}

func main() {
	var o options
	flag.StringVar(&o.catalogue, "catalogue", "docs/requirements/catalogue.md", "the catalogue")
	flag.StringVar(&o.results, "json", "", "read the output of \"go test -json\" from this file (\"-\": standard input) instead of running the tests")
	flag.StringVar(&o.run, "run", "", "run only tests that match, as \"go test -run\"; the rest counts as untested")
	flag.BoolVar(&o.write, "write", false, "keep the answer in status.md beside the catalogue")
	flag.BoolVar(&o.quiet, "quiet", false, "print only what fails, and the last line")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "requirements: %q: it takes flags only\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := report(o, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "requirements:", err)
		os.Exit(1)
	}
}

var errFailing = errors.New("not everything that is tested holds")

func report(o options, stdin io.Reader, stdout, stderr io.Writer) error {
	f, err := os.Open(o.catalogue)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := ReadCatalogue(f)
	if err != nil {
		return fmt.Errorf("%s: %w", o.catalogue, err)
	}
	res, err := results(o, stdin, stderr)
	if err != nil {
		return err
	}
	rep := Judge(c, res)
	complain(stderr, res, rep)
	if !o.quiet {
		rep.Text(stdout)
	}
	if o.write && o.run == "" {
		var b bytes.Buffer
		rep.Markdown(&b)
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.catalogue), "status.md"), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintln(stdout, rep.Summary())
	switch {
	case o.write && o.run != "":
		return errors.New("status.md is not written after a run of some tests only")
	case len(rep.Unknown) > 0:
		return fmt.Errorf("%d tests name rows that are not in the catalogue", len(rep.Unknown))
	case rep.Count(Failing) > 0 || len(res.Broken) > 0:
		return errFailing
	}
	return nil
}

// results runs the acceptance tests, or reads what they did.
func results(o options, stdin io.Reader, stderr io.Writer) (*Results, error) {
	switch o.results {
	case "-":
		return ReadResults(stdin)
	case "":
	default:
		f, err := os.Open(o.results)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return ReadResults(f)
	}
	args := []string{"test", "-json", "-count=1", "-p=2", "-parallel=4", "-timeout=40m"}
	if o.run != "" {
		args = append(args, "-run", o.run)
	}
	cmd := exec.Command("go", append(args, "./test/...")...)
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return nil, err
	}
	// Tests that fail are in the output. A run that fails without saying which
	// proves nothing either.
	res, perr := ReadResults(bytes.NewReader(out))
	if perr == nil && err != nil && len(res.Broken) == 0 {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return res, perr
}

// complain tells what went wrong, with what the tests said about it.
func complain(w io.Writer, res *Results, rep *Report) {
	for _, t := range res.Tests {
		if t.Outcome == Failed || t.Outcome == Unfinished {
			fmt.Fprintf(w, "%s: %s %s\n%s", t.Outcome, t.Package, t.Name, t.Output)
		}
	}
	for _, b := range res.Broken {
		fmt.Fprintf(w, "failed: package %s\n", b)
	}
	for _, u := range rep.Unknown {
		fmt.Fprintf(w, "not in the catalogue: %s\n", u)
	}
}
