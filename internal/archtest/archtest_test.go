// Package archtest holds the layers of the project in place. It reads the source
// files with go/parser, so that a cached test result can never hide a new import.
package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "holdfast"

// layers, lowest first. A package may import only packages of lower layers, and
// its own children or parent. Every package under internal stands here.
var layers = [][]string{
	{"."},
	{"internal/calendar", "internal/durable", "internal/seal", "internal/db", "internal/plan", "internal/pace"},
	{"internal/job", "internal/ledger", "internal/repo", "internal/sequence"},
	{"internal/location", "internal/source", "internal/sandbox", "internal/notify", "internal/mount"},
	{"internal/planner"},
	{"internal/backup", "internal/drill", "internal/recovery", "internal/objective", "internal/incident",
		"internal/message", "internal/oncall", "internal/statuspage", "internal/govern", "internal/evidence", "internal/survive", "internal/access", "internal/vault"},
	{"internal/api", "internal/web", "internal/agent"},
	{"internal/app"},
	{"internal/demo"},
	{"cmd/holdfast"},
	{"internal/archtest", "tools", "bench", "test"},
}

// sideways lists the imports within a layer that the design allows, each with its reason.
var sideways = map[string]string{
	"internal/plan -> internal/calendar":          "a plan is made of periods and recurrences",
	"internal/plan/render -> internal/calendar":   "the same periods, in words",
	"internal/plan/importer -> internal/calendar": "and words, as periods",
	"bench -> bench/table":                        "both benchmarks print the same table",
	"bench/repo -> bench/table":                   "both benchmarks print the same table",
}

// freeOfNouns are the engines that could leave the project: they do not even know the root.
var freeOfNouns = []string{"internal/job", "internal/ledger", "internal/repo", "internal/sequence"}

// reserved says which package alone may use a library.
var reserved = map[string][]string{
	"modernc.org/sqlite":                             {"internal/db"},
	"github.com/jackc/pgx/v5/stdlib":                 {"internal/db"},
	"github.com/pressly/goose/v3":                    {"internal/db"},
	"github.com/jackc/pgx/v5/pgconn":                 {"internal/source/postgres", "internal/db"},
	"github.com/minio/minio-go/v7":                   {"internal/location/s3"},
	"github.com/pkg/sftp":                            {"internal/location/sftp"},
	"github.com/hanwen/go-fuse/v2":                   {"internal/mount"},
	"github.com/hanwen/go-fuse/v2/fs":                {"internal/mount"},
	"github.com/a-h/templ":                           {"internal/web"},
	"filippo.io/age":                                 {"internal/seal"},
	"crypto/aes":                                     {"internal/seal"},
	"crypto/cipher":                                  {"internal/seal"},
	"crypto/ed25519":                                 {"internal/seal"},
	"github.com/hiddeco/sshsig":                      {"internal/seal"},
	"github.com/danielgtaylor/huma/v2":               {"internal/api"},
	"github.com/spf13/cobra":                         {"cmd/holdfast"},
	"github.com/prometheus/client_golang/prometheus": {"internal/app"},
	"golang.org/x/crypto/argon2":                     {"internal/seal"},
	"github.com/wneessen/go-mail":                    {"internal/notify/mail"},
	"github.com/pquerna/otp":                         {"internal/access"},
	"github.com/pquerna/otp/hotp":                    {"internal/access"},
	"github.com/go-webauthn/webauthn/webauthn":       {"internal/access"},
	"github.com/go-webauthn/webauthn/protocol":       {"internal/access"},
}

type pkg struct {
	dir     string
	imports []string // of non-test files
	tests   []string // of test files
	doc     bool
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range load(t) {
		own, ok := layerOf(p.dir)
		if !ok {
			t.Errorf("package %s stands in no layer: add it to the design's list", p.dir)
			continue
		}
		for _, imp := range p.imports {
			dir, ours := strings.CutPrefix(imp, module+"/")
			if imp == module {
				dir, ours = ".", true
			}
			if !ours {
				continue
			}
			other, ok := layerOf(dir)
			switch {
			case !ok:
				t.Errorf("%s imports %s, which stands in no layer", p.dir, dir)
			case other > own:
				t.Errorf("%s imports %s: imports point down, never up", p.dir, dir)
			case other == own && !related(p.dir, dir) && sideways[p.dir+" -> "+dir] == "":
				t.Errorf("%s imports %s: modules do not import each other; declare a small interface and let app satisfy it", p.dir, dir)
			case dir == "." && slices.Contains(freeOfNouns, top(p.dir)):
				t.Errorf("%s imports the root: this engine stands alone", p.dir)
			}
		}
	}
}

func TestLibrariesHaveOneHome(t *testing.T) {
	for _, p := range load(t) {
		for _, imp := range p.imports {
			homes, ok := reserved[imp]
			if ok && !slices.ContainsFunc(homes, func(h string) bool { return p.dir == h || strings.HasPrefix(p.dir, h+"/") }) {
				t.Errorf("%s imports %s, which belongs to %s", p.dir, imp, strings.Join(homes, ", "))
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range load(t) {
		if len(p.imports) > 0 && !p.doc {
			t.Errorf("package %s has no doc comment", p.dir)
		}
	}
}

func TestFilesAndNames(t *testing.T) {
	banned := []string{"Manager", "Helper", "Util", "Common"}
	walk(t, func(path string, src []byte, f *ast.File) {
		if n := strings.Count(string(src), "\n"); n > 800 && !generated(path) {
			t.Errorf("%s has %d lines; 800 is the most", path, n)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				ts, ok := s.(*ast.TypeSpec)
				if !ok {
					continue
				}
				for _, b := range banned {
					if strings.Contains(ts.Name.Name, b) {
						t.Errorf("%s: type %s: nothing is called %s", path, ts.Name.Name, b)
					}
				}
			}
		}
	})
}

// A test waits for a condition; a test that sleeps is slow on a fast machine
// and wrong on a slow one.
func TestTestsDoNotSleep(t *testing.T) {
	walk(t, func(path string, src []byte, f *ast.File) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if id, ok := sel.X.(*ast.Ident); ok && id.Name == "time" {
					t.Errorf("%s sleeps", path)
				}
			}
			return true
		})
	})
}

func related(a, b string) bool { return top(a) == top(b) }

// top returns the first two elements of a package directory: its family.
func top(dir string) string {
	parts := strings.Split(dir, "/")
	if len(parts) > 2 {
		parts = parts[:2]
	}
	return strings.Join(parts, "/")
}

func layerOf(dir string) (int, bool) {
	for i, l := range layers {
		for _, d := range l {
			if dir == d || d != "." && strings.HasPrefix(dir, d+"/") {
				return i, true
			}
		}
	}
	return 0, false
}

func generated(path string) bool { return strings.HasSuffix(path, "_templ.go") }

func load(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs := map[string]*pkg{}
	walk(t, func(path string, _ []byte, f *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		p := pkgs[dir]
		if p == nil {
			p = &pkg{dir: dir}
			pkgs[dir] = p
		}
		test := strings.HasSuffix(path, "_test.go")
		if f.Doc != nil && !test {
			p.doc = true
		}
		for _, i := range f.Imports {
			s, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if test {
				p.tests = append(p.tests, s)
			} else {
				p.imports = append(p.imports, s)
			}
		}
	})
	if len(pkgs) < 5 {
		t.Fatalf("only %d packages found: the walk is broken", len(pkgs))
	}
	return pkgs
}

func walk(t *testing.T, fn func(path string, src []byte, f *ast.File)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(rel), src, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
