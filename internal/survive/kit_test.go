package survive

import (
	"archive/tar"
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"holdfast/internal/seal"
)

var kitDay = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func kitKey(t testing.TB) seal.Identity {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestKitRoundTrips(t *testing.T) {
	id := kitKey(t)
	files := map[string][]byte{"plan.yaml": []byte("plan: x\n"), "plan.html": bytes.Repeat([]byte("page "), 50_000), "empty.txt": {}}
	sealed, err := SealKit(files, kitDay, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenKit(sealed, id)
	if err != nil {
		t.Fatal(err)
	}
	delete(got, kitManifest)
	if !maps.EqualFunc(got, files, bytes.Equal) {
		t.Errorf("came back with %d files", len(got))
	}
	if _, err := OpenKit(sealed, kitKey(t)); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("another key: %v", err)
	}
	for at := 0; at < len(sealed); at += 4999 {
		bad := bytes.Clone(sealed)
		bad[at] ^= 0x10
		if got, err := OpenKit(bad, id); err == nil || got != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

// Whoever has the public half can seal an archive of their own: it must not write outside
// its folder, and must be what its list says.
func TestForeignKitsAreRefused(t *testing.T) {
	id := kitKey(t)
	const list = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0  a\n" // of "aaa"
	for name, put := range map[string]func(add func(name string, kind byte, content string)){
		"no list": func(add func(string, byte, string)) { add("a", tar.TypeReg, "aaa") },
		"altered": func(add func(string, byte, string)) {
			add("a", tar.TypeReg, "aab")
			add(kitManifest, tar.TypeReg, list)
		},
		"one too many": func(add func(string, byte, string)) {
			add("a", tar.TypeReg, "aaa")
			add("b", tar.TypeReg, "b")
			add(kitManifest, tar.TypeReg, list)
		},
		"one missing": func(add func(string, byte, string)) { add(kitManifest, tar.TypeReg, list) },
		"twice": func(add func(string, byte, string)) {
			add("a", tar.TypeReg, "aaa")
			add("a", tar.TypeReg, "aaa")
			add(kitManifest, tar.TypeReg, list)
		},
		"out of folder": func(add func(string, byte, string)) { add("../a", tar.TypeReg, "aaa") },
		"absolute":      func(add func(string, byte, string)) { add("/etc/passwd", tar.TypeReg, "aaa") },
		"link":          func(add func(string, byte, string)) { add("a", tar.TypeSymlink, "") },
		"hidden":        func(add func(string, byte, string)) { add(".bashrc", tar.TypeReg, "aaa") },
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		put(func(name string, kind byte, content string) {
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Linkname: map[bool]string{true: "/etc/passwd"}[kind == tar.TypeSymlink], Size: int64(len(content)), Mode: 0o600}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		sealed, err := seal.SealFile(b.Bytes(), id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if files, err := OpenKit(sealed, id); !errors.Is(err, seal.ErrDamaged) || files != nil {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
}

func FuzzOpenKit(f *testing.F) {
	id := kitKey(f)
	f.Add([]byte("not a tar"))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "a", Size: 1, Mode: 0o600}), w.Close()); err == nil {
		f.Fatal("a short file was closed")
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, archive []byte) {
		sealed, err := seal.SealFile(archive, id.Recipient())
		if err != nil {
			return // longer than a kit
		}
		files, err := OpenKit(sealed, id)
		if (err == nil) == (files == nil) || err != nil && !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%d files, %v", len(files), err)
		}
		for name := range files {
			if strings.ContainsAny(name, "/\\") || name[0] == '.' {
				t.Errorf("%q leads out of the folder", name)
			}
		}
	})
}

func TestKitFindings(t *testing.T) {
	want := KitWanted{Key: "kit", Recipient: "age1a", Needed: 2, Plan: "sha256:1"}
	good := Kit{Recipient: "age1a", Plan: "sha256:1", Made: kitDay}
	for _, c := range []struct {
		name   string
		kit    Kit
		made   bool
		whole  string
		shares []string
		after  time.Duration
		want   string
	}{
		{name: "it counts", kit: good, made: true},
		{name: "never made", want: "HF-K8 warning never made"},
		{name: "another key", kit: Kit{Recipient: "age1b", Plan: "sha256:1", Made: kitDay}, made: true, want: "HF-K8 error another key"},
		{name: "another plan", kit: Kit{Recipient: "age1a", Plan: "sha256:2", Made: kitDay}, made: true, want: "HF-K8 warning another plan"},
		{name: "old", kit: good, made: true, after: DefaultKitEvery + 1, want: "HF-K8 error older than"},
		{name: "just not old", kit: good, made: true, after: DefaultKitEvery},
		{name: "a share lies on the server", kit: good, made: true, shares: []string{"a"}, want: "HF-K9 warning 1 of the 2"},
		{name: "enough lie there", kit: good, made: true, shares: []string{"a", "b"}, want: "HF-K9 error opens the recovery kit alone"},
		{name: "the key lies there", kit: good, made: true, whole: "keys/kit.age", want: "HF-K9 error keys/kit.age"},
	} {
		fs := KitFindings(want, c.kit, c.made, c.whole, c.shares, kitDay.Add(c.after))
		got := ""
		for _, f := range fs {
			got += f.Code + " " + string(f.Severity) + " " + f.Message
			if f.Hint == "" {
				t.Errorf("%s: no way out", c.name)
			}
		}
		words := strings.SplitN(c.want, " ", 3)
		if c.want == "" && got != "" || c.want != "" && (!strings.HasPrefix(got, words[0]+" "+words[1]) || !strings.Contains(got, words[2])) || len(fs) > 1 {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
