package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/access"
)

var update = flag.Bool("update", false, "rewrite the published document")

// published is the document as clients get it, indented for people.
func published(t *testing.T) []byte {
	t.Helper()
	_, a := build(Config{})
	a.OpenAPI().Info.Version = "1"
	b, err := json.Marshal(a.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", " "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

// The committed document is what the server says: a change of the interface is seen as
// one. "go test ./internal/api -update" writes it anew.
func TestPublishedDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "api", "openapi.json")
	got := published(t)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/api/openapi.json is not what the server publishes: go test ./internal/api -update")
	}
}

// Every operation is one action, and says so to its readers; none is open to strangers.
func TestEveryOperationIsAnAction(t *testing.T) {
	mux, a := build(Config{Access: access.New(access.Config{})})
	n := 0
	for path, item := range a.OpenAPI().Paths {
		for method, op := range map[string]any{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "DELETE": item.Delete, "PATCH": item.Patch} {
			switch method {
			case "GET":
				if item.Get == nil {
					continue
				}
			case "POST":
				if item.Post == nil {
					continue
				}
			default:
				if b, _ := json.Marshal(op); string(b) != "null" {
					t.Errorf("%s %s: a method that nobody expects", method, path)
				}
				continue
			}
			o := item.Get
			if method == "POST" {
				o = item.Post
			}
			act, _ := o.Metadata[actionKey].(access.Action)
			if !slices.Contains(access.Actions, act) || o.Extensions["x-holdfast-action"] != string(act) {
				t.Errorf("%s %s is no action: %q", method, path, act)
			}
			n++
			// A stranger is refused before anything is read.
			for _, body := range []string{"{}", "{", strings.Repeat("[", 2000), ""} {
				r := httptest.NewRequest(method, strings.NewReplacer("{id}", "1", "{step}", "1").Replace(path), strings.NewReader(body))
				w := httptest.NewRecorder()
				ours(mux).ServeHTTP(w, r)
				if w.Code != http.StatusUnauthorized || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s: a stranger gets %d %s", method, path, w.Code, w.Body)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d operations were looked at", n)
	}
}

// Whatever is sent to whatever address: what is not understood is answered by a problem
// document with a code.
func FuzzRequests(f *testing.F) {
	mux, a := build(Config{Access: access.New(access.Config{})})
	h := http.MaxBytesHandler(ours(mux), MaxBody)
	for path := range a.OpenAPI().Paths {
		f.Add("POST", path, []byte(`{"by":"anna","note":"x"}`), "application/json")
	}
	f.Add("GET", "/api/v1/access/log?limit=x", []byte(nil), "")
	f.Add("PUT", "/api/v1/overview", bytes.Repeat([]byte("["), 1000), "application/cbor")
	f.Fuzz(func(t *testing.T, method, target string, body []byte, kind string) {
		r, err := http.NewRequestWithContext(access.With(t.Context(), access.Local("root")), method, "http://localhost/", bytes.NewReader(body))
		if err != nil {
			return // no method of HTTP
		}
		path, query, _ := strings.Cut(target, "?")
		if !strings.HasPrefix(path, "/api/") || strings.Contains(path, "openapi") || strings.Contains(path, "schemas") {
			return
		}
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header["Content-Type"] = []string{kind}
		w := httptest.NewRecorder()
		defer func() {
			// There is no product behind the operations here: who gets as far as it was
			// understood.
			if recover() != nil && w.Code < 300 {
				return
			}
			if w.Code < 300 {
				return
			}
			var p Problem
			if w.Code >= 400 && (json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Code == "" || p.Status != w.Code) {
				t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
