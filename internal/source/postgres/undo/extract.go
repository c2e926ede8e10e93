package undo

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/durable"
)

// Names in an extract.
const (
	manifestName = "extract.json"
	scriptName   = "undo.sql"
)

// A writer writes an extract. extract.json comes last: a folder without it is what an
// interrupted comparison left, and nothing is written back from it. A nil writer
// writes nothing.
type writer struct {
	dir    string
	n      int // of tables
	files  []File
	script *file
	rows   *file // of the table that is being compared
	csv    *file
}

// A file hashes what goes through it.
type file struct {
	f    *os.File
	w    *bufio.Writer
	sum  hash.Hash
	size int64
}

func (f *file) Write(b []byte) (int, error) {
	f.sum.Write(b) // a hash never fails
	f.size += int64(len(b))
	return f.w.Write(b)
}

func newWriter(dir string) (*writer, error) {
	es, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, holdfast.WithHint(err, "name an empty or absent directory")
	}
	if len(es) > 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%s is not empty: %w", dir, holdfast.ErrRefused), "an extract never overwrites: name an empty or absent directory")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	w := &writer{dir: dir}
	if w.script, err = w.open(scriptName); err != nil {
		return nil, err
	}
	_, err = io.WriteString(w.script, `-- Takes back what a mistake did. Read it before you run it: psql -v ON_ERROR_STOP=1 -f undo.sql
-- Rows that somebody wrote since are left as they are; conflicts stand in the CSV files only.
BEGIN;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC';
SET LOCAL lc_monetary = 'C';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
`)
	return w, err
}

func (w *writer) open(name string) (*file, error) {
	f, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // rows of production
	if err != nil {
		return nil, err
	}
	return &file{f: f, w: bufio.NewWriterSize(f, 1<<16), sum: sha256.New()}, nil
}

// create opens a file of a table.
func (w *writer) create(t *Table, what string) (*file, error) {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, t.Name)
	if len(name) > 100 {
		name = name[:100]
	}
	return w.open(fmt.Sprintf("%04d-%s.%s", w.n, name, what))
}

// done makes a file durable and lists it.
func (w *writer) done(f *file) (string, error) {
	name := filepath.Base(f.f.Name())
	err := f.w.Flush()
	if err == nil {
		err = f.f.Sync()
	}
	if err = errors.Join(err, f.f.Close()); err != nil {
		return "", fmt.Errorf("extract %s: %w", f.f.Name(), err)
	}
	w.files = append(w.files, File{Name: name, Size: f.size, SHA256: hex.EncodeToString(f.sum.Sum(nil))})
	return name, nil
}

func (w *writer) file(t *Table, what string, content []byte) (string, error) {
	f, err := w.create(t, what)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(content); err != nil {
		return "", err
	}
	return w.done(f)
}

// row adds a row of the table that is being compared.
func (w *writer) row(t *Table, r *Row) error {
	if w == nil {
		return nil
	}
	if w.rows == nil {
		var err error
		if w.rows, err = w.create(t, "rows.jsonl"); err != nil {
			return err
		}
		if w.csv, err = w.create(t, "csv"); err != nil {
			return err
		}
		head := []string{"holdfast_kind", "holdfast_why"}
		for _, c := range t.Columns {
			head = append(head, c.Name)
		}
		if _, err := io.WriteString(w.csv, strings.Join(quoteAll(head), ",")+"\n"); err != nil {
			return err
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := w.rows.Write(append(line, '\n')); err != nil {
		return err
	}
	kind, why := string(r.Kind), r.Why
	values := r.Before
	if values == nil {
		values = r.Now
	}
	if _, err := io.WriteString(w.csv, csvLine(append([]*string{&kind, &why}, values...))); err != nil {
		return err
	}
	return w.scriptRow(t, r)
}

// endRows closes the files of a table.
func (w *writer) endRows(t *Table) (err error) {
	if w == nil || w.rows == nil {
		return nil
	}
	if t.Rows, err = w.done(w.rows); err != nil {
		return err
	}
	t.CSV, err = w.done(w.csv)
	w.rows, w.csv = nil, nil
	w.n++
	return err
}

func (w *writer) close() {
	for _, f := range []*file{w.script, w.rows, w.csv} {
		if f != nil {
			_ = f.f.Close() // of an extract that is not finished
		}
	}
}

// finish writes extract.json.
func (w *writer) finish(e *Extract) error {
	if _, err := io.WriteString(w.script, "COMMIT;\n"); err != nil {
		return err
	}
	if _, err := w.done(w.script); err != nil {
		return err
	}
	w.script = nil
	e.Files = w.files
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if err := durable.WriteFile(durable.OS, filepath.Join(w.dir, manifestName), b, 0o600); err != nil {
		return err
	}
	e.Dir, e.Digest = w.dir, digest(b)
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// csvLine writes values as PostgreSQL reads them: null is nothing, and all else is
// quoted.
func csvLine(values []*string) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		if v != nil {
			b.WriteString(quote(*v))
		}
	}
	b.WriteByte('\n')
	return b.String()
}

func quoteAll(names []string) []string {
	out := slices.Clone(names)
	for i, n := range out {
		out[i] = quote(n)
	}
	return out
}

// scriptRow writes the statement for one row: what Write does, for people with psql.
func (w *writer) scriptRow(t *Table, r *Row) error {
	var b strings.Builder
	switch {
	case r.Kind == Deleted:
		var values []string
		for i, c := range t.Columns {
			if !c.Generated {
				values = append(values, literal(r.Before[i])+"::"+c.Type)
			}
		}
		for range max(r.Times, 1) {
			fmt.Fprintf(&b, "INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE VALUES (%s) ON CONFLICT DO NOTHING;\n", t.Now, t.columnNames(), strings.Join(values, ", "))
		}
	case r.Kind == Changed:
		var set, cond []string
		for _, i := range r.Set {
			c := t.Columns[i]
			set = append(set, quote(c.Name)+" = "+literal(r.Before[i])+"::"+c.Type)
			cond = append(cond, quote(c.Name)+"::text IS NOT DISTINCT FROM "+literal(r.Now[i]))
		}
		for i, c := range t.Columns {
			if c.Key {
				cond = append(cond, quote(c.Name)+" = "+literal(r.Now[i])+"::"+c.Type)
			}
		}
		fmt.Fprintf(&b, "UPDATE %s SET %s WHERE %s;\n", t.onlyNow(), strings.Join(set, ", "), strings.Join(cond, " AND "))
	default:
		return nil
	}
	_, err := io.WriteString(w.script, b.String())
	return err
}

// onlyNow names the table in a statement that changes or deletes rows.
func (t *Table) onlyNow() string {
	if t.Only {
		return "ONLY " + t.Now
	}
	return t.Now
}

// scriptGone refers to the files of a table that comes back whole.
func (w *writer) scriptGone(t *Table) error {
	w.n++
	_, err := fmt.Fprintf(w.script, "\\ir %s\n\\copy %s (%s) FROM '%s' (FORMAT csv)\n\\ir %s\nRESET search_path;\n", t.Define, t.Name, t.columnNames(), t.CSV, t.Complete)
	for _, s := range t.Sequences {
		if err == nil {
			_, err = fmt.Fprintf(w.script, "SELECT setval(%s, %d, %t);\n", literal(&s.Name), s.Last, s.Called)
		}
	}
	return err
}

// Read reads an extract and holds every file against its hash.
func Read(dir string) (*Extract, error) {
	b, err := durable.ReadFile(durable.OS, filepath.Join(dir, manifestName), maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil, holdfast.WithHint(fmt.Errorf("%s is no extract: it has no %s", dir, manifestName), "\"holdfast undo look STORE --out DIR\" makes one; one that was interrupted is made again")
	}
	if err != nil {
		return nil, err
	}
	e, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), err)
	}
	e.Dir = dir
	for _, f := range e.Files {
		if err := check(dir, f); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("extract %s: %w", dir, err), "it is not what was found: make it again with \"holdfast undo look\"")
		}
	}
	return e, nil
}

// parse reads extract.json.
func parse(b []byte) (*Extract, error) {
	var e Extract
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return nil, err
	}
	if e.Version != 1 {
		return nil, holdfast.WithHint(fmt.Errorf("its version is %d", e.Version), "this program reads version 1")
	}
	listed := map[string]bool{"": true}
	for _, f := range e.Files {
		if f.Name != filepath.Base(f.Name) || f.Name == "." || f.Name == ".." || f.Name == "" || f.Size < 0 {
			return nil, fmt.Errorf("file name %q", f.Name)
		}
		listed[f.Name] = true
	}
	for _, t := range e.Tables {
		for _, name := range []string{t.Rows, t.CSV, t.Define, t.Complete} {
			if !listed[name] {
				return nil, fmt.Errorf("file %q of table %s is not listed", name, t.Name)
			}
		}
	}
	e.Digest = digest(b)
	return &e, nil
}

func check(dir string, f File) error {
	in, err := os.Open(filepath.Join(dir, f.Name))
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, in)
	if err != nil {
		return err
	}
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s was changed", f.Name)
	}
	return nil
}

// decodeRow reads one line of a file of rows. Its values fit the table's columns.
func decodeRow(t *Table, line []byte) (*Row, error) {
	var r Row
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	whole := func(vs []*string) bool { return len(vs) == len(t.Columns) }
	ok := false
	switch r.Op {
	case Insert:
		ok = whole(r.Before) && (r.Kind == Deleted || r.Kind == Conflict)
	case Update:
		ok = whole(r.Before) && whole(r.Now) && len(r.Set) > 0 && (r.Kind == Changed || r.Kind == Conflict) && !t.Keyless
	case Delete:
		ok = whole(r.Now) && r.Kind == Added && !t.Keyless
	}
	if !ok || r.Times < 0 || r.There < 0 {
		return nil, fmt.Errorf("a row %s %s does not fit its table", r.Kind, r.Op)
	}
	for i, s := range r.Set {
		if s < 0 || s >= len(t.Columns) || i > 0 && s <= r.Set[i-1] {
			return nil, fmt.Errorf("column %d of a row does not fit its table", s)
		}
	}
	return &r, nil
}
