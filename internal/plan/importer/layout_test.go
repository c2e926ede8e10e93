package importer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What is drawn as a table is read as one, and every row keeps its line.
func TestLayouts(t *testing.T) {
	const want = "services.mail.rpo = 1h:%d services.mail.rto = 4h:%d services.web-shop.rpo = 5m:%d services.web-shop.rto = 2h:%d"
	for name, tt := range map[string]struct {
		text string
		mail int
		shop int
	}{
		"markdown":      {"| System | RTO | RPO |\n|---|---|---|\n| Web shop | 2 h | 5 min |\n| Mail | 4 h | 1 h |", 4, 3},
		"html":          {"<table>\n<tr><th>System</th><th>RTO</th><th>RPO</th></tr>\n<tr><td>Web shop</td><td>2 h</td>\n<td>5 min</td></tr>\n<tr><td><b>Mail</b></td><td>4&nbsp;h</td><td>1 h</td></tr></table>", 5, 3},
		"html one line": {"<table><tr><td>System</td><td>RTO</td><td>RPO</td></tr><tr><td>Web shop</td><td>2 h</td><td>5 min</td></tr><tr><td>Mail</td><td>4 h</td><td>1 h</td></tr></table>", 1, 1},
		"html cells":    {"<TABLE border=1>\n<THEAD>\n<TR>\n<TH>System\n<TH>RTO\n<TH>RPO\n</THEAD>\n<TR>\n<TD>Web shop\n<TD>2 h\n<TD>5 min\n<TR>\n<TD>Mail\n<TD>4 h\n<TD>1 h\n</TABLE>", 12, 8},
		"grid":          {"+-----------+-----+-------+\n| System    | RTO | RPO   |\n+-----------+-----+-------+\n| Web shop  | 2 h | 5 min |\n| Mail      | 4 h | 1 h   |\n+-----------+-----+-------+", 5, 4},
		"ruled grid":    {"+---------+-----+-------+\n| System  | RTO | RPO   |\n+=========+=====+=======+\n| Web     | 2 h | 5 min |\n| shop    |     |       |\n+---------+-----+-------+\n| Mail    | 4 h | 1 h   |\n+---------+-----+-------+\n| Nothing |     |       |\n+---------+-----+-------+", 7, 4},
		"columns":       {"System     RTO    RPO\n---------  -----  ------\nWeb shop   2 h    5 min\nMail       4 h    1 h", 4, 3},
		"gaps":          {"System     RTO    RPO\nWeb shop   2 h    5 min\nMail       4 h    1 h", 3, 2},
		"tabs":          {"System\tRTO\tRPO\nWeb shop\t2 h\t5 min\nMail\t4 h\t1 h", 3, 2},
		"clauses":       {"1.1 **Web shop.** The RTO is 2 hours. The RPO is 5 minutes.\n1.2 **Mail.** The RTO is four (4) hours. The RPO is one (1) hour.", 2, 1},
	} {
		p, err := Import(name, []byte("# Policy\n\n"+tt.text+"\n"), today)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range p.Values {
			got = append(got, fmt.Sprintf("%s = %s:%d", v.Path, v.Value, v.Line-2))
		}
		slices.Sort(got)
		if s, w := strings.Join(got, " "), fmt.Sprintf(want, tt.mail, tt.mail, tt.shop, tt.shop); s != w {
			t.Errorf("%s: %s\nwant %s", name, s, w)
		}
	}
}

// Fields of control data are read wherever they stand: on a line of their own, several
// on one, in a table without heads, in HTML.
func TestControlData(t *testing.T) {
	for name, text := range map[string]string{
		"lines":  "Policy owner: Head of IT\nVersion: 2.1\nLast updated: 3 May 2026",
		"dots":   "Policy owner: Head of IT · Version: 2.1 · last updated 2026-05-03",
		"quote":  "> Owner: Head of IT | Version: 2.1 | Last updated: 2026-05-03",
		"table":  "| | |\n|---|---|\n| Policy owner | Head of IT |\n| Version | 2.1 |\n| Last updated | 03.05.2026 |",
		"fields": "| Field | Entry |\n|---|---|\n| Policy owner | Head of IT |\n| Version | 2.1 |\n| Last updated | May 3, 2026 |",
		"html":   "<p><b>Policy owner:</b> Head of IT<br><b>Version:</b> 2.1<br/>Last updated: 2026-05-03</p>",
		"rows":   "<table><tr><td>Policy owner</td><td>Head of IT</td></tr><tr><td>Version</td><td>2.1</td></tr><tr><td>Last updated</td><td>3 May 2026</td></tr></table>",
	} {
		p, err := Import(name, []byte("# Backup policy\n\n"+text+"\n"), today)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range p.Values {
			got = append(got, v.Path+" = "+v.Value)
		}
		slices.Sort(got)
		if s := strings.Join(got, ", "); s != "plan.owner = head_of_it, plan.updated = 2026-05-03, plan.version = 2.1" {
			t.Errorf("%s: %s", name, s)
		}
	}
}

// Text that only looks like HTML stays as it is, and markup without an end hides
// nothing for ever but a comment, which is said to be one.
func TestMarkup(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"generic": {"Write to <ops@example.com> if x < 3 & y > 2.", "Write to <ops@example.com> if x < 3 & y > 2."},
		"open":    {"<p>The RTO is 4 hours.\n<p>The RPO is 1 hour.", "The RTO is 4 hours.|The RPO is 1 hour."},
		"script":  {"<p>One.</p><script>The RTO is 1 hour.</script><p>Two.</p>", "One.|Two."},
		"endless": {"<p>One.</p><!-- two\n<p>The RTO is 1 hour.</p><style>\n<p>Three.</p>", "One.|two|The RTO is 1 hour.|Three."},
		"comment": {"<p>One. <!-- not\nthis --> Two.</p>", "One.|Two."},
		"entity":  {"<p>A &amp; B &lt;4&nbsp;hours</p>", "A & B <4 hours"},
	} {
		var got []string
		for _, s := range newDocument(name, []byte(tt.text)).sentences {
			got = append(got, s.text)
		}
		if s := strings.Join(got, "|"); s != tt.want {
			t.Errorf("%s: %q, want %q", name, s, tt.want)
		}
	}
}
