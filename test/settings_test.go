package test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/location/locationtest"
)

// encrypting stands before an object store that cannot say how it encrypts, and says it.
// It answers that one question and passes everything else on.
func encrypting(t *testing.T, server *locationtest.S3, bucket string) (address string, algorithm *atomic.Value) {
	t.Helper()
	to, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	algorithm = &atomic.Value{}
	algorithm.Store("AES256")
	pass := httputil.NewSingleHostReverseProxy(to) // keeps the host that the request is signed for
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("encryption") {
			pass.ServeHTTP(w, r)
			return
		}
		if r.Method != http.MethodGet || strings.Trim(r.URL.Path, "/") != bucket || r.Header.Get("Authorization") == "" {
			t.Errorf("unexpected: %s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/xml")
		if a := algorithm.Load().(string); a != "" {
			fmt.Fprintf(w, `<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>%s</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`, a)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<Error><Code>ServerSideEncryptionConfigurationNotFoundError</Code><Message>none</Message></Error>`)
	}))
	t.Cleanup(front.Close)
	return front.URL, algorithm
}

// encryption is the configuration document, a line for each setting.
func (w workspace) encryption(t *testing.T) (out []string) {
	t.Helper()
	var e struct {
		Lines []struct{ Subject, What, Value, Basis string }
	}
	w.run(t, "encryption", "--json").want(t, 0).object(t, &e)
	for _, l := range e.Lines {
		out = append(out, l.Subject+" "+l.What+" ("+l.Basis+"): "+l.Value)
	}
	return out
}

// lacking returns the elements of a that b lacks.
func lacking(a, b []string) (out []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func TestSettingRows(t *testing.T) {
	t.Parallel()
	server := locationtest.StartS3(t)
	prepare := func(t *testing.T, bucket, more string) (workspace, *atomic.Value) {
		t.Helper()
		w := filesOnly(t)
		address, algorithm := encrypting(t, server, bucket)
		secret := filepath.Join(w.root, "bucket")
		write(t, secret, "access_key_id = "+server.Access+"\nsecret_access_key = "+server.Secret+"\n", 0o600)
		w.placeAt(t, fmt.Sprintf("{kind: s3, domain: b, provider: cloud-a, region: eu-1, redundancy: \"3 zones\", owner: founder-b%s, s3: {endpoint: %q, insecure: true, bucket: %s, lock: 1d, credentials_file: %q}}", more, address, bucket, secret))
		edit(t, w.plan(), func(s string) string { return strings.Replace(s, "every: 5m", "every: 1d", 1) })
		w.run(t, "location", "init", "--all").want(t, 0)
		return w, algorithm
	}
	due := func() string { return time.Now().UTC().AddDate(0, 0, 7).Format("2006-01") }
	t.Run("STO-10 what a location is set to is recorded, asked and watched", func(t *testing.T) {
		w, algorithm := prepare(t, "declared", ", encryption: AES256")
		if e := w.run(t, "location", "test", "offsite").want(t, 0); !contains(e.out, "setting: encryption +AES256") || !contains(e.out, "setting: lock +object lock") || !contains(e.out, "setting: versions +enabled") {
			t.Errorf("what the place says of itself: %v", e)
		}
		algorithm.Store("")
		if e := w.run(t, "location", "test", "offsite").want(t, 3); !contains(e.out, `setting: encryption +none, and the plan says AES256 \(HF-L12\)`) || !contains(e.out, "founder-b answers for it, by "+due()) {
			t.Errorf("encryption was turned off: %v", e)
		}
		// Where nothing is declared, what a server has heard first counts.
		w, algorithm = prepare(t, "heard", "")
		deviations := func() (out []string) {
			var v struct{ Findings []finding }
			w.run(t, "check", "--live", "--json").object(t, &v)
			for _, f := range v.Findings {
				if f.Code == "HF-L12" {
					out = append(out, f.Subject+": "+f.Message)
				}
			}
			return out
		}
		s := serve(t, w.dir)
		until(t, "what the locations say to be a fact", func() bool { return len(w.factsOf(t, "location.settings")) > 0 })
		s.stop(t)
		if got := deviations(); len(got) != 0 {
			t.Errorf("nothing was changed: %q", got)
		}
		algorithm.Store("")
		if got := deviations(); len(got) != 1 || !contains(got[0], `^locations.offsite: the encryption of "offsite" is none, and since \d+-\d+-\d+ it was AES256; founder-b answers for it, by \d+-\d+-\d+$`) {
			t.Errorf("encryption was turned off: %q", got)
		}
		algorithm.Store("AES256")
		if got := deviations(); len(got) != 0 {
			t.Errorf("it was turned on again: %q", got)
		}
	})
	t.Run("ENC-09 the encryption configuration says what the probes say, and changes with a setting", func(t *testing.T) {
		w, algorithm := prepare(t, "document", "")
		w.run(t, "backup", "uploads").want(t, 0)
		before := w.encryption(t)
		for _, want := range []string{
			"repository cipher of content (format): AES-256-GCM", "repository oldest TLS (declared): TLS 1.2", "keys.key-a reference (declared): hf:", "keys.key-b reference (declared): hf:",
			"locations.offsite provider (declared): cloud-a", "locations.offsite redundancy (declared): 3 zones", "locations.offsite owner (declared): founder-b", "locations.offsite lock (declared): each object for 1d",
			"locations.offsite encryption (probed): AES256", "locations.offsite lock (probed): object lock", "locations.offsite versions (probed): enabled", "locations.offsite line (negotiated): plain http on this machine",
			"locations.near line (negotiated): none: a folder of this machine", "locations.near redundancy (declared): not declared",
		} {
			if !slices.ContainsFunc(before, func(l string) bool { return strings.HasPrefix(l, want) }) {
				t.Errorf("it does not say %q: %q", want, before)
			}
		}
		if again := w.encryption(t); !slices.Equal(again, before) {
			t.Errorf("nothing was changed, and it is another one: %q", lacking(again, before))
		}
		algorithm.Store("aws:kms")
		after := w.encryption(t)
		if gone, came := lacking(before, after), lacking(after, before); !slices.Equal(gone, []string{"locations.offsite encryption (probed): AES256"}) || !slices.Equal(came, []string{"locations.offsite encryption (probed): aws:kms"}) {
			t.Errorf("a setting was changed: %q became %q", gone, came)
		}
		text := w.run(t, "encryption").want(t, 0).out
		page := words(w.run(t, "encryption", "--format", "html").want(t, 0).out)
		for _, want := range []string{"Encryption configuration", "AES-256-GCM", "aws:kms", "founder-b"} {
			if !strings.Contains(text, want) || !strings.Contains(page, want) {
				t.Errorf("the document lacks %q: %s", want, text)
			}
		}
		if rows := w.pack(t)["populations/encryption.csv"]; !contains(rows, "locations.offsite,encryption,aws:kms,probed") {
			t.Errorf("the evidence does not hold it: %s", rows)
		}
	})
}
