package render

import (
	"html"
	"strings"
	"testing"
	"time"

	"holdfast/internal/plan"
)

// An offline copy says everything that the plan declares, and stands alone.
func TestOfflineSaysEverything(t *testing.T) {
	p, words := planted()
	b, err := MakeOffline(p, Offline{ID: "oc-1", Person: first(p.People), Code: "abcd-efgh", Made: time.Unix(1e9, 0)})
	if err != nil {
		t.Fatal(err)
	}
	text := html.UnescapeString(string(b))
	for w, pattern := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the value of %s is not said", pattern)
		}
	}
	standsAlone(t, "the offline copy", string(b))
}

// Before the policy stands what is asked for first, with what is missing named.
func TestOfflineAtThree(t *testing.T) {
	p, err := plan.Parse("plan.yaml", []byte(`
apiVersion: holdfast/v1
plan: {id: acme, version: "3.1"}
org: {name: "Acme <b>Ltd</b>"}
people:
  mia: {name: "Mia Berg", phone: "+46701740605"}
  jon: {name: "Jon Ek"}
roles: {lead: {holder: mia, deputy: jon}}
suppliers: {host: {name: "Hosting AB", contacts: {emergency: "+4680000000"}}, dns: {name: "Names AB"}}
stores: {files: {kind: files, files: {path: /srv/x}, protect: all}}
keys:
  a: {recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p, holders: [mia]}
  b: {recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p, offline: true, stored: "two safes",
      shares: {needed: 2, holders: {mia: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p, jon: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj}}}
repository: {id: acme-1, encrypt_to: [a, b]}
locations: {offsite: {kind: dir, path: /mnt/offsite}}
backups: {all: {every: 1d, copies: [offsite]}}
activation: {by: [lead]}
`))
	if err != nil {
		t.Fatal(err)
	}
	verified := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	b, err := MakeOffline(p, Offline{ID: "oc-1", Person: "mia", Code: "abcd-efgh", Made: verified, Verified: map[string]time.Time{"host": verified},
		Proven: map[string]string{"files": "restored in 4 minutes"}, Repository: "This place holds"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "<b>Ltd") {
		t.Error("a value of the plan became markup")
	}
	text := strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(string(b), " "))), " ")
	was := 0
	for _, want := range []string{
		"Mia Berg (mia)", "oc-1", p.Digest(), "abcd-efgh", "Read this first", "Write down the time", "Whom to call", "+46701740605", "The plan has no number and no address of jon",
		"Suppliers and emergency contacts", "Names AB", "no contact in the plan", "never", "Hosting AB", "emergency: +4680000000", "2026-03-04", "restored in 4 minutes",
		"Where the copies are", "/mnt/offsite", "two safes, on no computer", "Any 2 of these 2 shares", "Jon Ek (jon) no number in the plan", "holdfast key join", "holdfast restore files --to", "This place holds", "apiVersion: holdfast/v1",
	} {
		i := strings.Index(text[was:], want)
		if i < 0 {
			t.Errorf("after %d letters there is no %q", was, want)
			continue
		}
		was += i
	}
}
