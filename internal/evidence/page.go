package evidence

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"holdfast"
)

//go:embed index.html.tmpl
var indexText string

//go:embed verify.py
var verifyScript string

// maxShown is how many rows of a table the page shows; the CSV file has them all.
const maxShown = 200

var indexTemplate = template.Must(template.New("index").Parse(indexText))

// page is what the template shows. Everything is text by now.
type page struct {
	Title   string
	Info    info
	Period  string
	Made    string
	Root    string
	Key     string
	Counts  []count
	Lacking []lack
	Tables  []shown
}

type count struct {
	State string
	N     int
	Class string
}

type lack struct{ Subject, What string }

type shown struct {
	Title, Lead, File string
	Columns           []string
	Rows              [][]cell
	More              int
}

type cell struct{ Text, Class string }

func (b *builder) index() ([]byte, error) {
	p := page{
		Info: b.info, Title: "Evidence of " + b.info.Company, Made: stamp(b.info.Made),
		Period: stamp(b.info.From) + " to " + stamp(b.info.To),
		Root:   strings.Split(b.tree.String(), "\n")[2], Key: b.sign.Evidence.Public().AuthorizedKey(),
	}
	states := map[State]int{}
	lacking := map[string]int{}
	var order []string
	for _, s := range b.slots {
		states[s.State]++
		if s.State == Failed || s.State == Missed || s.State == Missing {
			key := s.Schedule + "\x00" + string(s.State)
			if lacking[key]++; lacking[key] == 1 {
				order = append(order, key)
			}
		}
	}
	for _, s := range []State{Done, Failed, Missed, Missing, Started, Expected} {
		c := count{string(s), states[s], class(string(s))}
		if c.N == 0 {
			c.Class = "quiet"
		}
		p.Counts = append(p.Counts, c)
	}
	for _, key := range order {
		schedule, state, _ := strings.Cut(key, "\x00")
		p.Lacking = append(p.Lacking, lack{schedule, fmt.Sprintf("%d slots %s", lacking[key], state)})
	}
	for _, f := range b.in.Findings {
		if f.Severity != holdfast.SeverityNote {
			p.Lacking = append(p.Lacking, lack{f.Subject, f.Code + ": " + f.Message})
		}
	}
	for _, c := range b.in.Controls {
		p.doubt(c.Framework+" "+c.ID, c.Posture, c.Title, c.Facts)
	}
	for _, q := range b.in.Posture {
		p.doubt(q.Subject+" "+q.What, q.Posture, q.Detail, q.Facts)
	}
	if len(b.slots) == 0 {
		p.Lacking = append(p.Lacking, lack{"the plan", "no work was expected in this period, so nothing is proved by it"})
	}
	facts := factsTable(b.facts, b.info.From, b.info.To)
	p.Tables = []shown{
		show("Controls", "What stands for each control.", fileControls, controlsTable(b.in.Controls)),
		show("Posture", "Computed when the pack was made. Each state rests on the facts that it names.", filePosture, postureTable(b.in.Posture)),
		show("Expected work", "Every slot that the plans expected in the period, with what came of it.", fileSlots, slotsTable(b.slots)),
		show("Findings", "What was not as promised when the pack was made.", fileFindings, findingsTable(b.in.Findings)),
		show("Populations", "Complete lists to draw a sample from.", filePopulations, populationsTable(b.in.Populations, b.files)),
		show("Facts", "Facts whose event lies in the period, whenever they were logged.", fileFacts, facts),
	}
	var out bytes.Buffer
	if err := indexTemplate.Execute(&out, p); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// doubt adds what is not proved, and what is called proved and rests on nothing.
func (p *page) doubt(subject string, posture holdfast.Posture, detail string, facts []int64) {
	switch posture = known(posture); {
	case posture == holdfast.PostureNA, posture == holdfast.PostureProved && len(facts) > 0:
		return
	case posture == holdfast.PostureProved:
		detail = "it names no fact on which it rests"
	}
	p.Lacking = append(p.Lacking, lack{subject, strings.TrimSuffix(string(posture)+": "+detail, ": ")})
}

func show(title, lead, file string, t table) shown {
	s := shown{Title: title, Lead: lead, File: file, Columns: t.columns}
	for i, r := range t.rows {
		if i == maxShown {
			s.More = len(t.rows) - maxShown
			break
		}
		row := make([]cell, len(r))
		for j, text := range r {
			row[j] = cell{Text: text}
			if t.columns[j] == "state" || t.columns[j] == "posture" || t.columns[j] == "severity" {
				row[j].Class = class(text)
			}
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

// class is how a state looks. What is not known to be good does not look good.
func class(state string) string {
	switch state {
	case string(Done), string(holdfast.PostureProved):
		return "good"
	case string(Failed), string(Missed), string(Missing), string(holdfast.PostureOverdue), string(holdfast.SeverityError):
		return "bad"
	case string(Expected), string(Started), string(holdfast.PostureNA), string(holdfast.SeverityNote):
		return "quiet"
	}
	return "doubt"
}

// instructions say how to verify the pack without Holdfast. The lines that begin
// with a dollar sign can be typed as they stand.
func (b *builder) instructions() string {
	previous := ""
	if b.info.Previous > 0 {
		previous = fmt.Sprintf(`
   If you hold the previous pack, its checkpoint must be the file previous-checkpoint
   of this one, %d facts. Step 4 then shows that nothing before it was changed.
`, b.info.Previous)
	}
	return fmt.Sprintf(`How to verify this evidence pack without Holdfast
=================================================

Nothing in this pack can prove itself: whoever changes a file can change this one
too. What proves it is what you hold already and did not get with the pack:

    allowed_signers   one line with the public evidence key of the company
    log.pem           the public key of the log
    held-checkpoint   a checkpoint that you kept from before, if you have one

The company hands out the first two once, by another way than its packs. Put them into a
folder called "trusted" beside the one into which you unpacked this pack, and type
the lines below, without the dollar sign, in the folder of the pack.

1. The company made this pack (ssh-keygen answers: Good "%[2]s" signature):

   $ ssh-keygen -Y verify -f ../trusted/allowed_signers -I %[1]s -n %[2]s -s manifest.sha256.sig < manifest.sha256

2. No file was changed since, none is missing, none was added:

   $ sha256sum --check --strict --quiet manifest.sha256
   $ test "$(find . -type f | wc -l)" -eq "$(($(wc -l < manifest.sha256) + 2))"

3. The log signed the checkpoint, three lines with its name, size and root hash
   (openssl answers: Signature Verified Successfully):

   $ openssl pkeyutl -verify -rawin -pubin -inkey ../trusted/log.pem -in checkpoint.txt -sigfile checkpoint.ed25519

4. The facts are those of the log, none left out. verify.py is short: read it first,
   it needs only Python 3. Name the checkpoints that you hold, and it shows that the
   log still contains them:

   $ python3 verify.py . ../trusted/held-checkpoint*
%[3]s
Then read index.html, and draw your samples from the folder populations. In
log.ndjson line 1 is fact %[4]d; "at" is when something happened and decides the period,
"logged" is when it was written down.
`, b.sign.Evidence.Name(), Namespace, previous, b.info.First)
}
