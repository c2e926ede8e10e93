package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// An assetFile is served under a name that carries its content, so that a browser
// may keep it for ever and never shows a page with yesterday's style.
type assetFile struct {
	url, kind string
	body      []byte
}

var assetKinds = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".svg": "image/svg+xml", ".woff2": "font/woff2", ".LICENSE": "text/plain; charset=utf-8",
}

// assets by file name, and by the URL under which they are served.
var assetsByName, assetsByURL = loadAssets()

// loadAssets reads what is part of the binary; a failure is a broken build. The
// style names the typeface, so it is read last and gets the hashed name.
func loadAssets() (byName, byURL map[string]assetFile) {
	byName, byURL = map[string]assetFile{}, map[string]assetFile{}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err)
	}
	add := func(name string, body []byte) {
		sum := sha256.Sum256(body)
		ext := path.Ext(name)
		f := assetFile{body: body, kind: assetKinds[ext],
			url: "/assets/" + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext}
		byName[name], byURL[f.url] = f, f
	}
	var styles []string
	for _, e := range entries {
		if path.Ext(e.Name()) == ".css" {
			styles = append(styles, e.Name())
			continue
		}
		body, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		add(e.Name(), body)
	}
	for _, name := range styles {
		body, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err)
		}
		add(name, bytes.ReplaceAll(body, []byte("inter.woff2"), []byte(byName["inter.woff2"].url)))
	}
	return byName, byURL
}

// asset is the URL of an embedded file.
func asset(name string) string { return assetsByName[name].url }

func serveAsset(w http.ResponseWriter, r *http.Request) {
	f, ok := assetsByURL[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.body) // a reader that has gone away needs no answer
}
