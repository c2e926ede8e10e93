package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"holdfast"
)

// Load reads the plan at path: a file, or a folder whose *.yaml and *.yml files
// together are the plan. Names of people may lie beside it: see [PeopleFile]. What is
// wrong with the text is reported as a *SyntaxError.
func Load(path string) (*Plan, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, holdfast.WithHint(fmt.Errorf("there is no plan at %q: %w", path, holdfast.ErrUsage), "\"holdfast init\" writes a first plan")
	}
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if !info.IsDir() {
		b, err := readFile(path)
		if err != nil {
			return nil, err
		}
		return introduced(parse(path, filepath.Dir(abs), b))
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	var parts []part
	total := 0
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if e.IsDir() || e.Name() == PeopleFile || strings.HasPrefix(e.Name(), ".") || (ext != ".yaml" && ext != ".yml") {
			continue
		}
		if len(parts) == MaxFiles {
			return nil, fmt.Errorf("plan %q: more than %d files: %w", path, MaxFiles, holdfast.ErrUsage)
		}
		b, err := readFile(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		if total += len(b); total > MaxBytes {
			return nil, holdfast.WithHint(fmt.Errorf("plan %q: more than %d MiB: %w", path, MaxBytes>>20, holdfast.ErrUsage), "keep only the plan's own files in its folder")
		}
		parts = append(parts, part{e.Name(), b})
	}
	if len(parts) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("the folder %q holds no plan: %w", path, holdfast.ErrUsage),
			"a plan is one or more files that end in .yaml; \"holdfast init\" writes a first one")
	}
	source, err := pack(parts)
	if err != nil {
		return nil, err
	}
	return introduced(parse(path, abs, source))
}

// introduced is a plan that was read, with the names of the file beside it.
func introduced(p *Plan, err error) (*Plan, error) {
	if err == nil {
		err = p.introduce()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	defer f.Close()
	// One byte more than allowed, so that Parse sees that the file is too large.
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("plan %q: %w", path, err)
	}
	return b, nil
}

// part is one file of a folder.
type part struct {
	name string
	text []byte
}

// A folder becomes one text: before each file stands a line with its name. No plan
// file may hold such a line itself, so the text can be taken apart again.
var partLine = regexp.MustCompile(`(?m)^#=== file: (.*) ===$`)

func pack(parts []part) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range parts {
		if partLine.Match(p.text) {
			return nil, fmt.Errorf("plan file %q: the comment \"#=== file: … ===\" is reserved: %w", p.name, holdfast.ErrUsage)
		}
		fmt.Fprintf(&b, "#=== file: %s ===\n", p.name)
		b.Write(p.text)
		if n := len(p.text); n > 0 && p.text[n-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

func unpack(b []byte) ([]part, bool) {
	if !bytes.HasPrefix(b, []byte("#=== file: ")) {
		return nil, false
	}
	marks := partLine.FindAllSubmatchIndex(b, MaxFiles+1)
	if len(marks) == 0 || marks[0][0] != 0 || len(marks) > MaxFiles {
		return nil, false
	}
	var parts []part
	for i, m := range marks {
		end := len(b)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		parts = append(parts, part{string(b[m[2]:m[3]]), b[min(m[1]+1, end):end]})
	}
	return parts, true
}

// Parse reads a plan from its text. The name stands in findings, and paths are
// relative to its folder; for the text of a folder, name is the folder. The error is
// a *SyntaxError with every complaint.
func Parse(name string, b []byte) (*Plan, error) {
	dir := filepath.Dir(name)
	if _, folder := unpack(b); folder {
		dir = name
	}
	return parse(name, dir, b)
}

// parse reads a plan whose paths are relative to dir.
func parse(name, dir string, b []byte) (*Plan, error) {
	if len(b) > MaxBytes {
		d := &decoder{file: name}
		d.complain(codeLimit, &yaml.Node{Line: 1, Column: 1}, "", "split the plan, or see whether this is one", "the plan is larger than %d MiB", MaxBytes>>20)
		return nil, (&SyntaxError{d.findings}).hinted()
	}
	sum := sha256.Sum256(b)
	p := &Plan{
		digest: "sha256:" + hex.EncodeToString(sum[:]),
		source: slices.Clone(b),
		pos:    map[string]Position{},
		dir:    dir,
	}
	d := &decoder{pos: p.pos, continued: map[string]Position{}, expressions: map[string]expressionAt{}, dir: dir}
	p.expressions = d.expressions
	parts, folder := unpack(b)
	if !folder {
		parts = []part{{name, b}}
	}
	for _, part := range parts {
		d.file = part.name
		if folder {
			d.file = filepath.Join(name, part.name)
		}
		p.files = append(p.files, d.file)
		if d.readable(part.text) {
			d.document(part.text, reflect.ValueOf(p).Elem())
		}
	}
	d.file = p.files[0]
	if len(d.findings) == 0 {
		d.required(&yaml.Node{Line: 1, Column: 1}, reflect.ValueOf(p).Elem(), "")
	}
	d.whole(p)
	d.shape(p)
	p.index()
	if len(d.findings) > 0 {
		holdfast.SortFindings(d.findings)
		return nil, (&SyntaxError{d.findings}).hinted()
	}
	return p, nil
}

// readable reports whether a file is small enough, and text.
func (d *decoder) readable(text []byte) bool {
	switch {
	case len(text) > MaxFileBytes:
		d.complain(codeLimit, &yaml.Node{Line: 1, Column: 1}, "", "split the plan into several files of one folder", "the file is larger than %d MiB", MaxFileBytes>>20)
	case !utf8.Valid(text):
		line, column := placeOf(text, validPrefix(text))
		d.complain(codeSyntax, &yaml.Node{Line: line, Column: column}, "", "save the file as UTF-8", "the text is not valid UTF-8")
	default:
		return true
	}
	return false
}

// complained reports whether something below path was complained about.
func (d *decoder) complained(path string) bool {
	return slices.ContainsFunc(d.findings, func(f holdfast.Finding) bool { return strings.HasPrefix(f.Subject, path+".") })
}

func validPrefix(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return i
}

// whole checks what one field alone does not show, and what no plan may contain.
func (d *decoder) whole(p *Plan) {
	complain := d.complainAt
	if p.APIVersion != "" && p.APIVersion != APIVersion {
		complain(codeValue, "apiVersion", "write apiVersion: "+APIVersion, "the plan is written for %q, and this version reads %q", p.APIVersion, APIVersion)
	}
	if tz := p.Org.Timezone; tz != "" {
		if _, err := time.LoadLocation(tz); err != nil || tz == "Local" {
			complain(codeValue, "org.timezone", "write an IANA name such as Europe/Stockholm or UTC", "the time zone %q is not known", tz)
		}
	}
	for id, s := range p.Stores {
		path := "stores." + id
		// Who protects a store otherwise need not say how to reach it.
		ours := s.Protect != "" || s.Delegated == nil && s.NotProtected == ""
		for _, k := range s.Kind.words() {
			kind, set := StoreKind(k), s.connection(StoreKind(k))
			switch {
			case s.Kind == kind && !set && ours:
				complain(codeEmpty, path, fmt.Sprintf("add \"%s:\" with its fields", kind), "%q is of kind %s and lacks %q", path, kind, k)
			case s.Kind != "" && s.Kind != kind && set:
				complain(codeField, path+"."+k, "remove it, or change the kind", "%q is of kind %s and has fields for %s", path, s.Kind, kind)
			}
		}
		if s.Protect != "" && s.NotProtected != "" {
			complain(codeValue, path+".not_protected", "keep one of the two", "%q says how it is protected, and why it is not", path)
		}
		if s.MySQL != nil && passwordIn("mysql://"+strings.TrimPrefix(s.MySQL.DSN, "mysql://")) {
			complain(codeSecret, path+".mysql.dsn", "write the password alone into a file that only its owner can read, and name it by password_file",
				"%q holds a password; secrets are never in a plan", path+".mysql.dsn")
		}
		if s.Git != nil && passwordIn(s.Git.URL) {
			complain(codeSecret, path+".git.url", "write the token alone into a file that only its owner can read, and name it by token_file",
				"%q holds a login; secrets are never in a plan", path+".git.url")
		}
		if s.Postgres != nil && passwordIn(s.Postgres.DSN) {
			complain(codeSecret, path+".postgres.dsn", "write the password alone into a file that only its owner can read, and name it by password_file",
				"%q holds a password; secrets are never in a plan", path+".postgres.dsn")
		}
		if s.Recover != nil && s.Recover.Start != nil {
			if port := s.Recover.Start.Port; port < 0 || port > 65535 {
				complain(codeValue, path+".recover.start.port", "write a port from 1 to 65535", "%d is not a port", port)
			}
		}
	}
	for id, s := range p.Services {
		path := "services." + id + ".probe"
		if s.Probe != nil && (s.Probe.URL == "") == (len(s.Probe.Command) == 0) {
			complain(codeValue, path, "write url or command", "%q needs either a url or a command", path)
		}
		if s.Probe != nil {
			if n, every := s.Probe.Questions(); n < 1 || n > MaxQuestions {
				complain(codeValue, path, fmt.Sprintf("write a window that holds from 1 to %d questions", MaxQuestions), "%q asks every %s, and its window does not hold a number of questions that can be asked", path, every)
			}
		}
		if s.Probe != nil && s.Probe.URL != "" {
			u, err := url.Parse(s.Probe.URL)
			switch {
			case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
				complain(codeValue, path+".url", "write a URL such as https://api.example.com/healthz", "%q is not a web address", path+".url")
			case u.User != nil:
				complain(codeSecret, path+".url", "give the probe an address that needs no password", "%q holds a login; secrets are never in a plan", path+".url")
			}
		}
	}
	d.transport(complain, p.Repository)
	for id, l := range p.Locations {
		d.place(complain, "locations."+id, l)
	}
	if p.Messages != nil {
		d.messages(complain, p.Messages)
	}
	for id, dr := range p.Drills {
		if dr.Rung != nil && (*dr.Rung < int(holdfast.L0) || *dr.Rung > int(holdfast.L8)) {
			complain(codeValue, "drills."+id+".rung", "write a rung from 0 to 8", "%d is not a rung", *dr.Rung)
		}
	}
	for id, r := range p.Runbooks {
		for _, st := range r.Steps {
			path := "runbooks." + id + ".steps." + st.ID
			if kinds := st.kinds(); len(kinds) != 1 && !(len(kinds) == 0 && d.complained(path)) { // a misspelt act is one complaint
				what := "nothing"
				if len(kinds) > 1 {
					what = strings.Join(kinds, " and ")
				}
				complain(codeValue, path, "write exactly one of restore, start, check, human, approve and run", "the step %q does %s", st.ID, what)
			}
		}
	}
}

// passwordWord finds password= in a key-value connection string and in the query of
// a URL, quoted or with spaces around the sign.
var passwordWord = regexp.MustCompile(`(?i)(^|[\s?&'])(ssl)?password\s*=`)

// passwordIn reports whether a connection string carries a password.
func passwordIn(dsn string) bool {
	if passwordWord.MatchString(dsn) {
		return true
	}
	_, rest, ok := strings.Cut(dsn, "://")
	if !ok {
		return false
	}
	// By hand, since url.Parse gives up on passwords with odd characters.
	authority, _, _ := strings.Cut(rest, "/")
	i := strings.LastIndexByte(authority, '@')
	if i < 0 {
		i = strings.LastIndexByte(rest, '@')
		authority = rest
	}
	if i < 0 {
		return false
	}
	_, password, has := strings.Cut(authority[:i], ":")
	return has && password != ""
}
