package undo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast"
)

// A Config says what to compare. Connection strings are never repeated in errors.
type Config struct {
	Before string // restored, right before the mistake
	After  string // restored, right after it; empty takes every difference for the mistake
	Now    string // production; it is only read
	Tables []string
	// Where limits one table to rows that were so before the mistake: an SQL condition
	// that the restored server evaluates.
	Where string
	Dir   string // of the extract; nothing is written if it is empty
	// Dump returns the definition of a table from the state before the mistake: its
	// parts before the data, or those behind it.
	Dump func(ctx context.Context, tables []string, section string) ([]byte, error)
	// Row is called for every row that was found.
	Row      func(t *Table, r *Row) error
	Progress func(holdfast.Progress)
	Extract  Extract // what is known already: store, purpose and so on
}

// A comparison is one run of Compare.
type comparison struct {
	cfg                Config
	before, after, now *side
	out                *writer
	found              Extract
}

// Compare finds what the mistake did and what of it is still so, and writes the
// extract. Production gives one snapshot of itself for as long as that takes.
func Compare(ctx context.Context, cfg Config) (*Extract, error) {
	if cfg.Where != "" && len(cfg.Tables) != 1 {
		return nil, holdfast.WithHint(fmt.Errorf("a condition needs exactly one table: %w", holdfast.ErrUsage), "give --table once with --where")
	}
	if cfg.Progress == nil {
		cfg.Progress = func(holdfast.Progress) {}
	}
	c := &comparison{cfg: cfg, found: cfg.Extract}
	c.found.Version, c.found.Tables = 1, nil
	var err error
	if c.now, err = open(ctx, cfg.Now, "in production"); err != nil {
		return nil, holdfast.WithHint(err, "%s", cmp.Or(holdfast.Hint(err), "production is compared with: name how to reach it with --connect"))
	}
	defer c.now.close()
	if c.before, err = open(ctx, cfg.Before, "before the mistake"); err != nil {
		return nil, err
	}
	defer c.before.close()
	if cfg.After != "" {
		if c.after, err = open(ctx, cfg.After, "after the mistake"); err != nil {
			return nil, err
		}
		defer c.after.close()
	}
	c.found.System = c.now.system
	if cfg.Dir != "" {
		if c.out, err = newWriter(cfg.Dir); err != nil {
			return nil, err
		}
		defer c.out.close()
	}
	tables, err := c.chosen()
	if err != nil {
		return nil, err
	}
	for i, t := range tables {
		cfg.Progress(holdfast.Progress{Stage: "compare", Done: int64(i), Total: int64(len(tables)), Unit: "tables"})
		if err := c.table(ctx, t); err != nil {
			return nil, fmt.Errorf("compare %s: %w", t.name, err)
		}
	}
	if c.out != nil {
		if err := c.out.finish(&c.found); err != nil {
			return nil, err
		}
	}
	return &c.found, nil
}

// chosen are the tables of before that are compared.
func (c *comparison) chosen() ([]*relation, error) {
	var out []*relation
	if len(c.cfg.Tables) == 0 {
		for _, oid := range slices.Sorted(maps.Keys(c.before.tables)) {
			out = append(out, c.before.tables[oid])
		}
		return out, nil
	}
	for _, name := range c.cfg.Tables {
		t := c.before.byName[name]
		for n, o := range c.before.byName {
			if t == nil && strings.HasSuffix(n, "."+name) {
				t = o
			}
		}
		if t == nil {
			return nil, holdfast.WithHint(fmt.Errorf("there was no table %s before the mistake: %w", name, holdfast.ErrUsage),
				"name it with its schema, as public.orders; without --table all are compared")
		}
		out = append(out, t)
	}
	return out, nil
}

func (c *comparison) skip(t *relation, format string, args ...any) {
	c.found.Skipped = append(c.found.Skipped, t.name+": "+fmt.Sprintf(format, args...))
}

// table compares one table.
func (c *comparison) table(ctx context.Context, b *relation) error {
	n, numbers := c.now.like(c.before, b)
	var a *relation
	var aNumbers bool
	if c.after != nil {
		a, aNumbers = c.after.like(c.before, b)
	}
	switch {
	case n == nil && a != nil:
		c.skip(b, "it was dropped later than the mistake, and stays dropped")
		return nil
	case n == nil && c.cfg.Where != "":
		c.skip(b, "it is gone, and comes back whole or not at all")
		return nil
	case n == nil:
		c.found.Compared++
		return c.gone(ctx, b)
	case !n.readable:
		c.skip(n, "production does not let this role read it")
		return nil
	}
	t := Table{Name: b.name, Now: n.name, Only: n.only, Keyless: len(b.key) == 0}
	if b.name != n.name {
		t.Notes = append(t.Notes, "its name is "+n.name+" now")
	}
	for _, x := range b.columns {
		nc, ok := n.column(x, numbers)
		if !ok {
			if slices.Contains(b.key, x.num) {
				c.skip(b, "its key column %s is gone", x.name)
				return nil
			}
			t.Notes = append(t.Notes, "column "+x.name+" is gone now and was not compared")
			continue
		}
		col := Column{Name: nc.name, Type: nc.typ, Generated: nc.generated, Fixed: nc.identity == "a", Key: slices.Contains(b.key, x.num), number: nc.num, was: x.name}
		if a != nil {
			ac, ok := a.column(x, aNumbers)
			if !ok {
				t.Notes = append(t.Notes, "column "+x.name+" was gone after the mistake and was not compared")
				continue
			}
			col.after = ac.name
		}
		t.Columns = append(t.Columns, col)
	}
	c.found.Compared++
	if t.Keyless {
		t.Notes = append(t.Notes, "it has no key: rows are compared whole")
	}
	m := &merge{c: c, t: &t}
	if err := m.run(ctx, b, a, n); err != nil {
		return err
	}
	if t.total() > 0 || len(t.Notes) > 0 && t.Later+t.Back > 0 {
		if err := c.out.endRows(&t); err != nil {
			return err
		}
		c.found.Tables = append(c.found.Tables, t)
	}
	return nil
}

// A merge walks the three states of one table in the order of its key.
type merge struct {
	c    *comparison
	t    *Table
	a    bool // there is a state after the mistake of its own
	sets map[string]bool
}

func (m *merge) run(ctx context.Context, b, a, n *relation) error {
	names := func(pick func(Column) string) []string {
		var out []string
		for _, c := range m.t.Columns {
			out = append(out, pick(c))
		}
		return out
	}
	was, is := names(func(c Column) string { return c.was }), names(func(c Column) string { return c.Name })
	differ, all, err := m.differ(ctx, b, n, was, is)
	if err != nil || len(differ) == 0 && !all {
		return err
	}
	m.sets = map[string]bool{}
	m.a = m.c.after != nil
	sb, err := m.stream(ctx, m.c.before, b, was, differ, m.c.cfg.Where)
	if err != nil {
		return err
	}
	defer sb.close(ctx)
	sn, err := m.stream(ctx, m.c.now, n, is, differ, "")
	if err != nil {
		return err
	}
	defer sn.close(ctx)
	sa := &stream{done: true}
	if a != nil {
		if sa, err = m.stream(ctx, m.c.after, a, names(func(c Column) string { return c.after }), differ, ""); err != nil {
			return err
		}
		defer sa.close(ctx)
	}
	for {
		var lowest []byte
		for _, s := range []*stream{sb, sa, sn} {
			key, err := s.peek(ctx)
			if err != nil {
				return err
			}
			if key != nil && (lowest == nil || bytes.Compare(key, lowest) < 0) {
				lowest = key
			}
		}
		if lowest == nil {
			return nil
		}
		rb, ra, rn := sb.take(lowest), sa.take(lowest), sn.take(lowest)
		if !m.a {
			ra = rn
		}
		if err := m.row(rb, ra, rn); err != nil {
			return err
		}
	}
}

// row decides about one key: b before the mistake, a after it, n now.
func (m *merge) row(b, a, n *image) error {
	t := m.t
	if t.Keyless {
		return m.copies(b, a, n)
	}
	switch {
	case b == nil && m.c.cfg.Where != "":
		return nil
	case b == nil && a == nil:
		t.Later++
		return nil
	case b == nil: // the mistake added it
		switch {
		case n == nil:
			t.Back++
		case same(a, n) && m.a:
			return m.emit(&Row{Kind: Added, Op: Delete, Now: n.values})
		default:
			t.Later++
		}
		return nil
	case a == nil && n == nil:
		return m.emit(&Row{Kind: Deleted, Op: Insert, Before: b.values})
	case a == nil && same(b, n):
		t.Back++
		return nil
	case a == nil:
		set, _ := m.set(b, n, n)
		if len(set) == 0 {
			t.Back++ // all that differs is computed by the server
			return nil
		}
		return m.emit(&Row{Kind: Conflict, Op: Update, Before: b.values, Now: n.values, Set: set, Why: "it was deleted, and made anew since"})
	case same(a, b):
		if n == nil || !same(b, n) {
			t.Later++
		}
		return nil
	case n == nil:
		return m.emit(&Row{Kind: Conflict, Op: Insert, Before: b.values, Why: "it was changed, and deleted since"})
	}
	set, clash := m.set(b, a, n)
	switch {
	case len(set) == 0 && len(clash) == 0:
		t.Back++
		return nil
	case len(clash) > 0:
		return m.emit(&Row{Kind: Conflict, Op: Update, Before: b.values, Now: n.values, Set: append(set, clash...), Why: "changed since: " + m.names(clash)})
	}
	return m.emit(&Row{Kind: Changed, Op: Update, Before: b.values, Now: n.values, Set: set})
}

// set lists the columns that the mistake changed: those that nobody wrote since, and
// those that somebody did. What is as it was already is in neither.
func (m *merge) set(b, a, n *image) (set, clash []int) {
	for i, c := range m.t.Columns {
		switch {
		case c.Generated || c.Fixed || equal(b.values[i], a.values[i]) || equal(b.values[i], n.values[i]):
		case equal(a.values[i], n.values[i]):
			set = append(set, i)
		default:
			clash = append(clash, i)
		}
	}
	return set, clash
}

func (m *merge) names(cols []int) string {
	var out []string
	for _, i := range cols {
		out = append(out, m.t.Columns[i].Name)
	}
	return strings.Join(out, ", ")
}

// copies decides about a whole row of a table without a key.
func (m *merge) copies(b, a, n *image) error {
	nb, na, nn := b.count(), a.count(), n.count()
	lost, missing := nb-na, nb-nn
	switch {
	case nb == 0 && m.c.cfg.Where != "":
		return nil
	case na > nb && m.a:
		m.t.Added += min(na-nb, nn) // named, and never taken out: which copy is whose nobody can tell
	case lost > 0 && missing > 0:
		return m.emit(&Row{Kind: Deleted, Op: Insert, Before: b.values, Times: min(lost, missing), There: nn})
	case lost > 0:
		m.t.Back++
	case nn != nb:
		m.t.Later++
	}
	return nil
}

func (m *merge) emit(r *Row) error {
	t, n := m.t, max(r.Times, 1)
	switch r.Kind {
	case Deleted:
		t.Deleted += n
	case Changed:
		t.Changed++
	case Conflict:
		t.Conflict++
	case Added:
		t.Added++
	}
	slices.Sort(r.Set)
	if r.Op == Update {
		m.sets[fmt.Sprint(r.Set)] = true
		if len(m.sets) > maxSets {
			return holdfast.WithHint(fmt.Errorf("its rows were changed in more than %d different sets of columns", maxSets), "choose rows with --where, and go on in parts")
		}
	}
	values := r.Before
	if values == nil {
		values = r.Now
	}
	for i, c := range t.Columns {
		if c.Key {
			r.Key = append(r.Key, values[i])
		}
	}
	if m.c.cfg.Row != nil {
		if err := m.c.cfg.Row(t, r); err != nil {
			return err
		}
	}
	return m.c.out.row(t, r)
}

// An image is a row in one state.
type image struct {
	values []*string
	copies int64
}

func (i *image) count() int64 {
	if i == nil {
		return 0
	}
	return i.copies
}

func equal(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func same(a, b *image) bool { return slices.EqualFunc(a.values, b.values, equal) }

// texts writes columns as texts.
func texts(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quote(n) + "::text"
	}
	return strings.Join(out, ", ")
}

// bucketOf and the rest write the same hash on every side.
func (m *merge) bucketOf(names []string) string {
	return "(hashtextextended(" + m.keyOf(names) + ` COLLATE "C", 0) & ` + strconv.Itoa(buckets-1) + ")"
}

// keyOf writes the key as one text: the whole row where there is none.
func (m *merge) keyOf(names []string) string {
	var key []string
	for i, c := range m.t.Columns {
		if c.Key || m.t.Keyless {
			key = append(key, names[i])
		}
	}
	return "ROW(" + texts(key) + ")::text"
}

// differ finds the buckets in which the two states are not the same; all says that it
// is most of them.
func (m *merge) differ(ctx context.Context, b, n *relation, was, is []string) (differ []int, all bool, err error) {
	hash := func(s *side, t *relation, names []string) (map[string]string, error) {
		rows, err := query(ctx, s.conn, fmt.Sprintf(`SELECT %s, count(*), sum(hashtextextended(ROW(%s)::text COLLATE "C", 1)) FROM %s GROUP BY 1`, m.bucketOf(names), texts(names), t.from()))
		out := make(map[string]string, len(rows))
		for _, r := range rows {
			out[*r[0]] = *r[1] + " " + *r[2]
		}
		return out, err
	}
	hb, err := hash(m.c.before, b, was)
	if err != nil {
		return nil, false, fmt.Errorf("before the mistake: %w", err)
	}
	hn, err := hash(m.c.now, n, is)
	if err != nil {
		return nil, false, fmt.Errorf("in production: %w", err)
	}
	for i := range buckets {
		k := strconv.Itoa(i)
		if hb[k] != hn[k] {
			differ = append(differ, i)
		}
	}
	return differ, len(differ) > buckets/2, nil
}

// A stream is a server-side cursor over one state.
type stream struct {
	s     *side
	name  string
	rows  [][]*string
	last  []byte // the decoded key of the first row
	done  bool
	count bool
}

func (m *merge) stream(ctx context.Context, s *side, t *relation, names []string, differ []int, where string) (*stream, error) {
	var conds []string
	if len(differ) <= buckets/2 {
		list := make([]string, len(differ))
		for i, d := range differ {
			list[i] = strconv.Itoa(d)
		}
		conds = append(conds, m.bucketOf(names)+" = ANY('{"+strings.Join(list, ",")+"}')")
	}
	if where != "" {
		conds = append(conds, "("+where+")")
	}
	filter := ""
	if len(conds) > 0 {
		filter = " WHERE " + strings.Join(conds, " AND ")
	}
	key := "convert_to(" + m.keyOf(names) + ", 'UTF8')"
	sql := fmt.Sprintf("SELECT %s AS holdfast_key, %s FROM %s%s ORDER BY 1", key, texts(names), t.from(), filter)
	if m.t.Keyless {
		cols := make([]string, len(names))
		for i, n := range names {
			cols[i] = "min(" + quote(n) + "::text)"
		}
		sql = fmt.Sprintf("SELECT %s AS holdfast_key, %s, count(*) FROM %s%s GROUP BY 1 ORDER BY 1", key, strings.Join(cols, ", "), t.from(), filter)
	}
	st := &stream{s: s, name: "holdfast_undo", count: m.t.Keyless}
	if err := exec(ctx, s.conn, "DECLARE "+st.name+" NO SCROLL CURSOR FOR "+sql); err != nil {
		return nil, fmt.Errorf("%s: %w", s.what, err)
	}
	return st, nil
}

// peek returns the key of the next row; nil at the end.
func (s *stream) peek(ctx context.Context) ([]byte, error) {
	if s.last != nil || s.done {
		return s.last, nil
	}
	if len(s.rows) == 0 {
		rows, err := query(ctx, s.s.conn, fmt.Sprintf("FETCH %d FROM %s", batch, s.name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.s.what, err)
		}
		if s.rows = rows; len(rows) == 0 {
			s.done = true
			return nil, nil
		}
	}
	text := *s.rows[0][0]
	if !strings.HasPrefix(text, `\x`) {
		return nil, errors.New("the server writes bytes in a form that was not asked for")
	}
	key, err := hex.DecodeString(text[2:])
	if err != nil {
		return nil, err
	}
	s.last = key
	return key, nil
}

// take returns the next row if it has that key.
func (s *stream) take(key []byte) *image {
	if s.last == nil || !bytes.Equal(s.last, key) {
		return nil
	}
	values := s.rows[0][1:]
	s.rows, s.last = s.rows[1:], nil
	out := &image{values: values, copies: 1}
	if s.count {
		out.values = values[:len(values)-1]
		out.copies, _ = strconv.ParseInt(*values[len(values)-1], 10, 64) // the server's own count
	}
	return out
}

func (s *stream) close(ctx context.Context) {
	if s.s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = exec(ctx, s.s.conn, "CLOSE "+s.name) // in a failed transaction it is closed
}
