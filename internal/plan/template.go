package plan

import (
	"bytes"
	_ "embed"
	"strconv"
	"text/template"
	"time"

	"holdfast/internal/calendar"
)

// Values fill the template plan. Every empty field has a default: for places one that
// stands for the company's own, for keys two that nobody can open.
type Values struct {
	ID           string // of the plan, e.g. "example"
	Organisation string
	Timezone     string
	RepositoryID string

	RecipientA, RecipientB string // public keys of two independent holders

	Near, Offsite             string // folders of the two locations
	NearDomain, OffsiteDomain string // what fails together with each of them

	DSN          string // of the database, without a password
	PasswordFile string // empty: none is needed
	BinDir       string // empty: found by version
	Uploads      string // the folder that the services write to

	RecoverDB, RecoverUploads string // where a real recovery puts the data
	RecoverPort               int

	RTO, RPO    string // of tier "critical"
	FolderRPO   string // of the folder and of the services that need it; empty: as RPO
	FolderEvery string // between two snapshots of the folder
	MaxLag      string // of the log stream
	// How long it takes to notice, to point the services at what was recovered, and to
	// hand over. Empty: a minute, 15 and 10 minutes, or less for a short RTO.
	Detect, Reconnect, HandOver string
	Confirm                     string // activation.confirm_after

	ProbeAPI, ProbeWeb string // addresses that tell whether a service is usable; empty: none

	InvariantSQL, InvariantExpect string

	// Unattended leaves out the steps that wait for a person: the recovery then ends
	// by itself.
	Unattended bool
}

// Defaults returns v with its empty fields filled.
func (v Values) Defaults() Values {
	set := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	set(&v.ID, "example")
	set(&v.Organisation, "Example Ltd")
	set(&v.Timezone, "UTC")
	set(&v.RepositoryID, "example-1")
	set(&v.RecipientA, exampleRecipientA)
	set(&v.RecipientB, exampleRecipientB)
	set(&v.Near, "backups/near")
	set(&v.Offsite, "/mnt/offsite/holdfast")
	set(&v.NearDomain, "this-host")
	set(&v.OffsiteDomain, "offsite-disk")
	set(&v.DSN, "host=127.0.0.1 port=5432 user=holdfast dbname=app")
	set(&v.Uploads, "/srv/app/uploads")
	set(&v.RecoverDB, "recovered/db")
	set(&v.RecoverUploads, "recovered/uploads")
	if v.RecoverPort == 0 {
		v.RecoverPort = 5433
	}
	set(&v.RTO, "4h")
	set(&v.RPO, "15m")
	if v.FolderRPO == v.RPO {
		v.FolderRPO = "" // one tier says it
	}
	set(&v.FolderEvery, "5m")
	set(&v.MaxLag, "1m")
	set(&v.Detect, v.atMost(time.Minute, 10))
	set(&v.Reconnect, v.atMost(15*time.Minute, 4))
	set(&v.HandOver, v.atMost(10*time.Minute, 10))
	set(&v.Confirm, "30s")
	set(&v.InvariantSQL, "select count(*) from information_schema.tables where table_schema = 'public'")
	set(&v.InvariantExpect, "value > 0")
	return v
}

// atMost is d, or for a short RTO its given fraction.
func (v Values) atMost(d time.Duration, fraction time.Duration) string {
	if rto, err := calendar.ParsePeriod(v.RTO); err == nil {
		d = min(d, max(rto.Approx()/fraction, time.Second))
	}
	return edit(d)
}

// The recipients of the example are real public keys whose private halves were thrown
// away, so that it checks clean: nobody can read what is sealed to them. The text says
// so; "holdfast init" always gives keys of its own.
const (
	exampleRecipientA = "age1qs9xar3zfzmprcuw57fthgh5y738h9cpmzgyxk5mjsgl2agah58s4002sn"
	exampleRecipientB = "age1sq5vfa7hwjqt5vmaaxcxg8vgvwug4m6zu48exn67r9eg4c6fl9xqaz6j8j"
)

// NobodysKeys reports whether a recipient is still one of the example's, with which
// nobody could read a backup.
func (v Values) NobodysKeys() bool {
	return v.RecipientA == exampleRecipientA || v.RecipientB == exampleRecipientB
}

//go:embed template.yaml.tmpl
var templateText string

var planTemplate = template.Must(template.New("plan").Funcs(template.FuncMap{
	// Go's quoting of ordinary text is valid YAML in double quotes.
	"q": strconv.Quote,
}).Parse(templateText))

// Template returns the commented plan that a company starts from.
func Template(v Values) []byte {
	var b bytes.Buffer
	if err := planTemplate.Execute(&b, v.Defaults()); err != nil {
		panic("plan: the template does not fit its values: " + err.Error())
	}
	return b.Bytes()
}
