package plan

import (
	"bytes"
	_ "embed"
	"strconv"
	"text/template"
)

// Values fill the template plan. Every empty field has a default, which for keys
// and places is a placeholder that Check complains about until it is replaced.
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
	FolderRPO   string // of the folder; empty: that of "critical"
	FolderEvery string // how often the folder is copied
	ProbeAPI    string // URL that tells whether service "api" is usable
	ProbeWeb    string
	MaxLag      string // of the log stream
	Confirm     string // activation.confirm_after

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
	set(&v.RecipientA, PlaceholderRecipient)
	set(&v.RecipientB, PlaceholderRecipient)
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
	set(&v.FolderEvery, "5m")
	set(&v.MaxLag, "1m")
	set(&v.Confirm, "30s")
	set(&v.InvariantSQL, "select count(*) from information_schema.tables where table_schema = 'public'")
	set(&v.InvariantExpect, "value > 0")
	return v
}

// PlaceholderRecipient stands where a key of the company's own must be.
const PlaceholderRecipient = "age1-replace-with-your-own-public-key"

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
