package test

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast/internal/location/locationtest"
)

// A readBack is one location of what "verify --json" prints.
type readBack struct {
	Location string
	Damage   []struct{ What, Code, Object, Store, Detail, Hint string }
}

// named is what reading back names at each location, as "code object".
func (w workspace) named(t *testing.T, status int, args ...string) map[string][]string {
	t.Helper()
	var at []readBack
	e := w.run(t, append([]string{"verify", "--json"}, args...)...).want(t, status)
	if err := json.Unmarshal([]byte(e.out), &at); err != nil {
		t.Fatalf("%v: %v", err, e)
	}
	out := map[string][]string{}
	for _, l := range at {
		for _, d := range l.Damage {
			if d.Hint == "" || d.Detail == "" {
				t.Errorf("%+v says neither why nor what to do", d)
			}
			out[l.Location] = append(out[l.Location], d.Code+" "+d.Object)
		}
		slices.Sort(out[l.Location])
	}
	return out
}

// beside is a folder and a bucket with backups for three keys, and who can write into both
// without us.
func beside(t *testing.T) (w workspace, put func(name, text string)) {
	t.Helper()
	server := locationtest.StartS3(t)
	w, _ = vaultWorkspace(t)
	secret := filepath.Join(w.root, "bucket-key")
	write(t, secret, "aws_access_key_id = "+server.Access+"\naws_secret_access_key = "+server.Secret+"\n", 0o600)
	third := newRecipient(t)
	edit(t, w.plan(), func(s string) string {
		s = strings.Replace(s, "encrypt_to: [key-a, key-b]", "encrypt_to: [key-a, key-b, key-c]", 1)
		s = strings.Replace(s, "\nkeys:\n", "\nkeys:\n  key-c: {recipient: "+third+", holders: [ana]}\n", 1)
		return regexp.MustCompile(`(?m)^  offsite: .*$`).ReplaceAllString(s, fmt.Sprintf("  offsite: {kind: s3, domain: bucket, s3: {endpoint: %q, insecure: true, bucket: mixed, prefix: firm, credentials_file: %q}}", server.URL, secret))
	})
	w.run(t, "location", "init", "--all").want(t, 0)
	w.backup(t)
	w.backup(t)
	w.run(t, "verify", "--all").want(t, 0)
	owner, err := minio.New(strings.TrimPrefix(server.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4(server.Access, server.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	return w, func(name, text string) {
		t.Helper()
		write(t, filepath.Join(w.near, name), text, 0o600)
		if _, err := owner.PutObject(t.Context(), "mixed", "firm/"+name, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForeignObjects(t *testing.T) {
	t.Parallel()
	w, put := beside(t)
	t.Run("ENC-06 a file that is not encrypted is named, in a folder and in a bucket", func(t *testing.T) {
		var want []string
		for _, name := range []string{"customers.csv", "Customers of May.csv", ".export/all.sql", "packs/ab/" + strings.Repeat("ab", 16), "logs/uploads/1/dump.sql", "anchors/copy"} {
			put(name, "name,card\nAda,4111111111111111\n")
			want = append(want, "HF-V14 "+name)
		}
		slices.Sort(want)
		folder := slices.Clone(want)
		folder[slices.Index(folder, "HF-V14 .export/all.sql")] = "HF-V14 .export/"
		slices.Sort(folder)
		got := w.named(t, 3) // what a night reads: what is new comes first
		if !slices.Equal(got["near"], folder) {
			t.Errorf("in the folder are named %q, and not %q", got["near"], folder)
		}
		if !slices.Equal(got["offsite"], want) {
			t.Errorf("in the bucket are named %q, and not %q", got["offsite"], want)
		}
		if e := w.run(t, "verify", "--location", "near").want(t, 3); !strings.Contains(e.out, "foreign customers.csv") || !strings.Contains(e.out, "hint: ") {
			t.Errorf("people are not told: %v", e)
		}
		if e := w.run(t, "repair", "--apply", "--location", "near").want(t, 3); strings.Contains(e.out, "brought back") || !strings.Contains(e.out, "nothing to bring back") {
			t.Errorf("a foreign file is repaired: %v", e)
		}
		if e := w.run(t, "incident", "list"); !strings.Contains(e.out, "not sealed as the plan says") {
			t.Errorf("nobody is called: %v", e)
		}
		w.run(t, "restore", "uploads", "--to", filepath.Join(w.root, "back")).want(t, 0)
	})
}

// newRecipient is the public half of a key that only this test has.
func newRecipient(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(hf(t, "key", "create", filepath.Join(place(t), "own.age")).want(t, 0).out)
}

// misled is a writer with the keys of a workspace and a plan of its own, which seals to two
// keys: to those of others, if there are any, and else to two of the three. It knows nothing
// of what was before.
func (w workspace) misled(t *testing.T, others ...string) workspace {
	t.Helper()
	out := copied(t, w)
	if err := os.RemoveAll(filepath.Join(out.dir, "state")); err != nil {
		t.Fatal(err)
	}
	edit(t, out.plan(), func(s string) string {
		for i, to := range others {
			s = regexp.MustCompile(fmt.Sprintf(`(?m)^  key-%c: \{recipient: [^,]*,`, 'a'+i)).ReplaceAllString(s, fmt.Sprintf("  key-%c: {recipient: %s,", 'a'+i, to))
		}
		return strings.Replace(s, "encrypt_to: [key-a, key-b, key-c]", "encrypt_to: [key-a, key-b]", 1)
	})
	return out
}

// writes are the objects of some kinds that a writer adds to the folder of a workspace.
func (w workspace) writes(t *testing.T, by workspace, kinds ...string) (names []string) {
	t.Helper()
	before := treeOf(t, w.near)
	by.backup(t)
	for name, b := range treeOf(t, w.near) {
		kind, _, _ := strings.Cut(name, "/")
		if _, had := before[name]; !had && b != "dir" && slices.Contains(kinds, kind) {
			names = append(names, name)
		}
	}
	if len(names) < len(kinds) {
		t.Fatalf("only %q are new", names)
	}
	return names
}

func TestWronglySealedObjects(t *testing.T) {
	t.Parallel()
	t.Run("ENC-06 what is sealed to a stranger, or to fewer keys than declared, is named, in a folder and in a bucket", func(t *testing.T) {
		w, put := beside(t)
		var points struct{ Windows []window }
		w.run(t, "points", "uploads", "--json").object(t, &points)
		good := treeOf(t, w.uploads)
		serve(t, w.dir)
		var want []string
		// One that lost what it held, and costs nothing else.
		for _, name := range w.writes(t, w, "packs") {
			b := []byte(treeOf(t, w.near)[name])
			b[len(b)/2] ^= 1
			put(name, string(b))
			want = append(want, "HF-V13 "+name)
		}
		put("customers.csv", "name,card\nAda,4111111111111111\n")
		want = append(want, "HF-V14 customers.csv")
		for _, by := range []workspace{w.misled(t, newRecipient(t), newRecipient(t)), w.misled(t)} {
			for _, name := range w.writes(t, by, "packs", "snapshots") {
				want = append(want, "HF-V15 "+name)
			}
		}
		slices.Sort(want)
		got := w.named(t, 3, "--all")
		for _, location := range []string{"near", "offsite"} {
			if !slices.Equal(got[location], want) {
				t.Errorf("at %s are named\n%s\nand not\n%s", location, strings.Join(got[location], "\n"), strings.Join(want, "\n"))
			}
		}
		var open []struct{ ID int }
		if e := w.run(t, "incident", "list", "--json").want(t, 0); json.Unmarshal([]byte(e.out), &open) != nil {
			t.Fatal(e)
		}
		called := ""
		for _, i := range open {
			called += w.run(t, "incident", "show", fmt.Sprintf("INC-%d", i.ID)).want(t, 0).out
		}
		for _, say := range []string{"Copies of uploads at near are damaged", "Copies of uploads at offsite are damaged", "Something at near is not sealed as the plan says", "Something at offsite is not sealed as the plan says", "HF-V14 foreign: customers.csv", "HF-V15 wrongly sealed: "} {
			if !strings.Contains(called, say) {
				t.Errorf("nobody is told %q:\n%s", say, called)
			}
		}
		for _, p := range points.Windows {
			to := filepath.Join(place(t), "back")
			w.run(t, "restore", "uploads", "--to", to, "--location", p.Location, "--at", at(p.To)).want(t, 0)
			back := treeOf(t, to)
			if p == points.Windows[len(points.Windows)-1] {
				good.unchanged(t, to)
			} else if back["a.txt"] != good["a.txt"] {
				t.Errorf("%s at %s came back as %v", p.To, p.Location, back)
			}
		}
	})
}

func TestNothingReadableIsStored(t *testing.T) {
	t.Parallel()
	t.Run("ENC-01 what a table and files hold is in no stored object, and each header names the cipher", func(t *testing.T) {
		f := protect(t)
		noise := make([]byte, 64)
		rand.Read(noise)
		marks := [][]byte{[]byte("Ada-Lovelace-4111111111111111"), []byte(hex.EncodeToString(noise)), noise}
		f.cluster.sql(t, fmt.Sprintf("CREATE TABLE card AS SELECT n, '%s' AS holder FROM generate_series(1, 2000) n", marks[0]))
		f.cluster.sql(t, fmt.Sprintf("CREATE TABLE token AS SELECT '%s' AS value", marks[1]))
		defer f.cluster.sql(t, "DROP TABLE card, token")
		write(t, filepath.Join(f.uploads, "cards.txt"), strings.Repeat(string(marks[0])+"\n", 5000), 0o600)
		write(t, filepath.Join(f.uploads, "noise.bin"), string(noise), 0o600)
		if live := treeOf(t, f.uploads); !strings.Contains(live["cards.txt"], string(marks[0])) || !strings.Contains(live["noise.bin"], string(marks[2])) {
			t.Fatal("the plain text would not be found")
		}
		f.reaches(t, f.cluster.clock(t), 2) // the log has it
		for _, store := range []string{"db", "uploads"} {
			f.run(t, "backup", store).want(t, 0)
		}
		for name, dir := range map[string]string{"near": f.near, "offsite": f.offsite} {
			heads := map[string]int{}
			for path, text := range treeOf(t, dir) {
				if text == "dir" {
					continue
				}
				for i, m := range marks {
					if strings.Contains(text, string(m)) {
						t.Errorf("%s at %s holds the plain text %d", path, name, i)
					}
				}
				kind, _, _ := strings.Cut(path, "/")
				if kind == "packs" || kind == "logs" {
					if !strings.Contains(text[:min(len(text), 4096)], "age-encryption.org/v1") || !strings.Contains(text[:min(len(text), 4096)], "\n-> holdfast-cipher AES-256-GCM\n") {
						t.Errorf("%s at %s does not say how its key is sealed, or with what its content is", path, name)
					}
					heads[kind]++
				}
			}
			if heads["packs"] == 0 || heads["logs"] == 0 {
				t.Errorf("at %s are %v", name, heads)
			}
			if note := treeOf(t, dir)["RECOVERY.txt"]; !strings.Contains(note, "AES-256-GCM") {
				t.Errorf("the note at %s does not name the cipher:\n%s", name, note)
			}
		}
		f.run(t, "verify", "--all").want(t, 0)
	})
}
