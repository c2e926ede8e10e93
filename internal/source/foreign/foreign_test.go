package foreign

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/sandbox"
)

// These adapters are shell scripts: each lies in its own way.

// boxes makes real sandboxes.
func boxes(t *testing.T) func(context.Context) (Box, func() error, error) {
	return func(ctx context.Context) (Box, func() error, error) {
		s, err := sandbox.New(ctx, sandbox.Config{Network: true})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	}
}

func box(t *testing.T) Box {
	t.Helper()
	b, release, err := boxes(t)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return b
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// script is an adapter that runs a shell script.
func script(t *testing.T, text string) *Adapter {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf-adapter-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	path := filepath.Join(dir, "adapter")
	if err == nil {
		err = os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &Adapter{Argv: []string{path}, Store: "db", Kind: "postgres", Clock: func() time.Time { return noon }}
}

const point = `{"type":"point","id":"a","kind":"continuous","from":"2026-02-22T12:00:00Z","until":"2026-03-01T11:58:00Z"}`

func TestList(t *testing.T) {
	a := script(t, `read -r req; case "$req" in *'"protocol":"holdfast-adapter/1"'*'"store":"db"'*) ;; *) exit 9;; esac
echo '{"type":"progress","stage":"asking"}'
echo '{"type":"point","id":"b","kind":"snapshot","until":"2026-03-01T06:00:00+01:00","encrypted":true,"new_field":1}'
echo '`+point+`'
echo '{"type":"result","ok":true,"points":2}'
exit 7`)
	ps, err := a.List(t.Context(), box(t))
	if err != nil {
		t.Fatal("an exit status is no verdict:", err)
	}
	if len(ps) != 2 || ps[0].ID != "b" || ps[0].Encrypted == nil || !*ps[0].Encrypted || !ps[1].Until.Equal(noon.Add(-2*time.Minute)) {
		t.Errorf("got %+v", ps)
	}
	if !ps[1].Fits(noon.Add(-time.Hour)) || ps[1].Fits(noon) || ps[0].Fits(noon.Add(-time.Hour)) {
		t.Error("a point fits where it does not reach, or not where it does")
	}
}

// Whatever an adapter does wrong is an error that says so, and never a list.
func TestHostileAnswers(t *testing.T) {
	const done = `; echo '{"type":"result","ok":true,"points":1}'`
	for _, tt := range []struct{ name, script, says string }{
		{"nothing", `exit 0`, "without a result"},
		{"no result", `echo '` + point + `'`, "without a result"},
		{"no result and a status", `echo no token >&2; exit 3`, "exit status 3 without a result.*no token"},
		{"cut off in a line", `printf '{"type":"resu'`, "no JSON object"},
		{"cut off between lines", `echo '` + point + `'; echo '{"type":"result","ok":true,"points":2}'`, "may be cut off"},
		{"no count", `echo '{"type":"result","ok":true}'`, "may be cut off"},
		{"not ok and no word", `echo '{"type":"result","ok":false}'`, "unknown code"},
		{"neither", `echo '{"type":"result"}'`, "does not say whether it is ok"},
		{"two results", `echo '{"type":"result","ok":true,"points":0}'; echo '{"type":"result","ok":false}'`, "behind its result"},
		{"chatter", `echo starting up; echo '` + point + `'` + done, "no JSON object"},
		{"an array", `echo '[1]'`, "no JSON object"},
		{"not UTF-8", `printf '{"type":"point","id":"\377"}\n'`, "not UTF-8"},
		{"another event", `echo '{"type":"deleted"}'` + done, `type "deleted"`},
		{"no type", `echo '{"id":"a"}'` + done, "no type"},
		{"twice", `echo '` + point + `'; echo '` + point + `'; echo '{"type":"result","ok":true,"points":2}'`, "twice"},
		{"no id", `echo '{"type":"point","kind":"snapshot","until":"2026-03-01T11:58:00Z"}'` + done, "no name"},
		{"the future", `echo '{"type":"point","id":"a","kind":"snapshot","until":"2026-03-01T13:00:00Z"}'` + done, "in the future"},
		{"backwards", `echo '{"type":"point","id":"a","kind":"continuous","from":"2026-03-01T11:00:00Z","until":"2026-03-01T10:00:00Z"}'` + done, "ends before it begins"},
		{"no zone", `echo '{"type":"point","id":"a","kind":"snapshot","until":"2026-03-01T11:58:00"}'` + done, "parsing time"},
		{"a text for a number", `echo '{"type":"point","id":"a","kind":"snapshot","until":"2026-03-01T11:58:00Z","bytes":"many"}'` + done, "cannot unmarshal"},
		{"another kind", `echo '{"type":"point","id":"a","kind":"maybe","until":"2026-03-01T11:58:00Z"}'` + done, `kind "maybe"`},
		{"a long line", `head -c 3000000 /dev/zero | tr '\0' 'x'`, "a line has more than"},
		{"too much", `i=0; while [ $i -lt 40 ]; do printf '{"type":"progress","stage":"'; head -c 900000 /dev/zero | tr '\0' 'x'; printf '"}\n'; i=$((i+1)); done`, "more than 16777216 bytes"},
		{"too many", `yes '` + point + `' | awk '{sub("\"a\"", "\"" NR "\""); print} NR>10001 {exit}'`, "more than 10000 points"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := script(t, tt.script).List(t.Context(), box(t))
			if err == nil || !errors.Is(err, ErrBreach) || !matches(err.Error(), tt.says) {
				t.Errorf("want %q, got %v", tt.says, err)
			}
			if holdfast.Hint(err) == "" {
				t.Error("it does not say what to do")
			}
		})
	}
}

func matches(text, parts string) bool {
	for part := range strings.SplitSeq(parts, ".*") {
		_, after, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = after
	}
	return true
}

// An adapter that hangs is ended with everything that it started.
func TestHang(t *testing.T) {
	b := box(t)
	a := script(t, `sleep 600 & echo '{"type":"progress","stage":"began"}'; wait`)
	ctx, cancel := context.WithCancelCause(t.Context())
	began := func(holdfast.Progress) { cancel(errors.New("that was too long")) }
	if _, err := a.Restore(ctx, b, Point{ID: "a", Kind: Snapshot}, noon, 0, began); err == nil || !strings.Contains(err.Error(), "that was too long") {
		t.Errorf("got %v", err)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if at, err := os.Readlink(p); err == nil && strings.HasPrefix(at, b.Dir()) {
			t.Errorf("%s is still there", p)
		}
	}
}

// A secret reaches the adapter in a file, and nobody else through what it says.
func TestSecrets(t *testing.T) {
	a := script(t, `env >&2; ls -ld secrets secrets/token >&2; echo "the token is $(cat secrets/token)" >&2
printf '{"type":"result","ok":false,"code":"auth","message":"token %s is refused"}\n' "$(cat secrets/token)"`)
	a.Secrets = map[string]string{"token": "s3cr3t-value\n"}
	b := box(t)
	_, err := a.List(t.Context(), b)
	var r *Refusal
	if !errors.As(err, &r) || r.Code != CodeAuth || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "[secret token] is refused") {
		t.Errorf("got %v", err)
	}
	info, err := os.Stat(filepath.Join(b.Dir(), "secrets", "token"))
	if err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the secret's file: %v, %v", info, err)
	}
	loud := script(t, `echo "the token is $(cat secrets/token)" >&2; exit 1`)
	loud.Secrets = a.Secrets
	if _, err := loud.List(t.Context(), box(t)); err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "[secret token]") {
		t.Errorf("got %v", err)
	}
	bad := script(t, `exit 0`)
	bad.Secrets = map[string]string{"../token": "x"}
	if _, err := bad.List(t.Context(), box(t)); err == nil || !strings.Contains(err.Error(), "no file's name") {
		t.Errorf("got %v", err)
	}
}

func TestRestore(t *testing.T) {
	p := Point{ID: "a", Kind: Continuous, From: noon.Add(-time.Hour), Until: noon}
	a := script(t, `read -r req; dir=$(printf %s "$req" | sed 's/.*"dir":"\([^"]*\)".*/\1/')
case "$1 $req" in
restore*'"point":"a","at":"2026-03-01T11:30:00Z"'*) printf abc > "$dir/x"; printf secret > "$dir/pw"; echo '{"type":"result","ok":true,"handle":"h1","files":2,"bytes":9,"password_file":"pw","reached":"2026-03-01T11:30:00Z"}' ;;
cleanup*'"handle":"h1"'*) echo '{"type":"result","ok":true}' ;;
*) echo '{"type":"result","ok":false,"code":"invalid","message":"what?"}' ;;
esac`)
	b := box(t)
	got, err := a.Restore(t.Context(), b, p, noon.Add(-30*time.Minute), 0, nil)
	if err != nil || got.Handle != "h1" {
		t.Fatal(got, err)
	}
	if files, bytes, _, err := a.Count(b); err != nil || files != 2 || bytes != 9 {
		t.Errorf("%d files, %d bytes, %v", files, bytes, err)
	}
	if pw, err := a.Password(b, got); err != nil || pw != "secret" {
		t.Errorf("password %q, %v", pw, err)
	}
	if err := a.Cleanup(t.Context(), b, got.Handle); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ result, says string }{
		{`{"type":"result","ok":true}`, "neither an engine nor a file"},
		{`{"type":"result","ok":true,"files":-1}`, "below zero"},
		{`{"type":"result","ok":true,"files":1,"password_file":"../../etc/shadow"}`, "not the name of a file"},
	} {
		if _, err := script(t, "echo '"+tt.result+"'").Restore(t.Context(), box(t), p, noon, 0, nil); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.result, err)
		}
	}
	// A link out of the folder is not followed: we may read what the adapter may not.
	link := script(t, `ln -s /etc/shadow restored/pw; echo '{"type":"result","ok":true,"files":1,"password_file":"pw"}'`)
	b = box(t)
	got, err = link.Restore(t.Context(), b, p, noon, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if pw, err := link.Password(b, got); err == nil {
		t.Errorf("read %d bytes through a link", len(pw))
	}
}

// good keeps the contract.
const good = `read -r req || req=
fail() { printf '{"type":"result","ok":false,"code":"%s","message":"%s"}\n' "$1" "$2"; exit 1; }
case "$req" in *}) ;; *) fail invalid "no request" ;; esac
case "$req" in *'"protocol":"holdfast-adapter/1"'*) ;; *) fail unsupported "another protocol" ;; esac
case $1 in
describe) echo '{"type":"result","ok":true,"protocol":"holdfast-adapter/1","name":"good","version":"1","verbs":["describe","list","restore","cleanup"],"secrets":["token"]}'; exit ;;
list|restore|cleanup) ;;
*) fail unsupported "no such verb" ;;
esac
[ -s secrets/token ] || fail auth "no token"
case $1 in
list) echo '` + point + `'; echo '{"type":"result","ok":true,"points":1}' ;;
restore) case "$req" in *'"point":"a"'*) ;; *) fail not-found "no such point" ;; esac
  printf abc > restored/x; echo '{"type":"result","ok":true,"files":1,"bytes":3}' ;;
cleanup) echo '{"type":"result","ok":true}' ;;
esac`

func TestExamine(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong []string // replaced in the good one, in pairs
		fails string   // the trials that must fail
	}{
		{"good", nil, ""},
		{"empty instead of refused", []string{`[ -s secrets/token ] || fail auth "no token"`, `[ -s secrets/token ] || { echo '{"type":"result","ok":true,"points":0}'; exit; }`}, "without its secrets it says so"},
		{"any verb", []string{`*) fail unsupported "no such verb"`, `*) echo '{"type":"result","ok":true}'; exit`}, "a verb that it does not know is refused"},
		{"any protocol", []string{`fail unsupported "another protocol"`, `:`}, "another protocol is refused"},
		{"acts on nothing", []string{`fail invalid "no request"`, `req='"protocol":"holdfast-adapter/1"'`}, "a request that was cut off is refused, no request at all is refused"},
		{"any point", []string{`fail not-found "no such point"`, `:`}, "a point that is not there is not restored"},
		{"counts wrongly", []string{`"files":1,"bytes":3`, `"files":1,"bytes":4`}, "a restore"},
		{"leaves things", []string{`cleanup) echo '{"type":"result","ok":true}'`, `cleanup) fail internal "cannot"`}, "what it made is cleaned up, cleaning up again is no error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := good
			for i := 0; i < len(tt.wrong); i += 2 {
				if !strings.Contains(text, tt.wrong[i]) {
					t.Fatalf("nothing is made wrong by %q", tt.wrong[i])
				}
				text = strings.Replace(text, tt.wrong[i], tt.wrong[i+1], 1)
			}
			a := script(t, text)
			a.Secrets = map[string]string{"token": "s3cr3t-value"}
			e, err := Examiner{Box: boxes(t), Restore: true}.Examine(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, x := range e.Trials {
				if x.Outcome == holdfast.Failed {
					failed = append(failed, x.Name)
					if x.So == "" || x.Detail == "" {
						t.Errorf("%s: it does not say what and so what", x.Name)
					}
				}
			}
			if got := strings.Join(failed, ", "); got != tt.fails || e.Kept() != (tt.fails == "") {
				t.Errorf("failed: %q, want %q: %+v", got, tt.fails, e.Trials)
			}
		})
	}
}

func FuzzEvents(f *testing.F) {
	for _, s := range []string{point, `{"type":"result","ok":true,"points":1}`, "{}\n\n", `{"type":"progress","total":1e99}`, "\xff", `{"type":"result"}` + "\n" + `{"type":"result"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		result, err := readEvents(strings.NewReader(s), func(kind string, line []byte) error {
			var p Point
			n++
			if kind == "result" || kind == "progress" {
				t.Error("an event that is ours was handed on")
			}
			_ = p.check(noon)
			return nil
		})
		if err != nil && result != nil {
			t.Error("a result beside an error")
		}
		if n > strings.Count(s, "\n")+1 {
			t.Error(fmt.Sprint(n, " events in fewer lines"))
		}
	})
}
