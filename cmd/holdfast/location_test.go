package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/internal/location/locationtest"
)

// TestLocation plays the scripts about locations against real servers.
func TestLocation(t *testing.T) {
	bucket, machine := locationtest.StartS3(t), locationtest.StartSFTP(t)
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte("access_key_id = "+bucket.Access+"\nsecret_access_key = "+bucket.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	offsite := regexp.MustCompile(`(?m)^  offsite: .*$`)
	testscript.Run(t, testscript.Params{
		Files: []string{filepath.Join("testdata", "location-test.txt")},
		Setup: func(e *testscript.Env) error {
			e.Setenv("S3_DIR", bucket.Dir)
			e.Setenv("SFTP_DIR", machine.Dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// holdfast ARGS... plays one command line.
			"holdfast": func(ts *testscript.TestScript, neg bool, args []string) {
				status := run(append([]string{"--dir", ts.MkAbs("ws")}, args...), ts.Stdout(), ts.Stderr())
				if (status != 0) != neg {
					ts.Fatalf("holdfast %s ended with status %d", strings.Join(args, " "), status)
				}
			},
			// status N ARGS... expects one exit status.
			"status": func(ts *testscript.TestScript, neg bool, args []string) {
				status := run(append([]string{"--dir", ts.MkAbs("ws")}, args[1:]...), ts.Stdout(), ts.Stderr())
				if got := string(rune('0' + status)); got != args[0] {
					ts.Fatalf("holdfast %s ended with status %s", strings.Join(args[1:], " "), got)
				}
			},
			// empty DIR expects nothing in a folder, hidden or not.
			"empty": func(ts *testscript.TestScript, neg bool, args []string) {
				found, err := os.ReadDir(ts.MkAbs(args[0]))
				ts.Check(err)
				if len(found) > 0 {
					ts.Fatalf("%s holds %v", args[0], found)
				}
			},
			// glob PATTERN expects files.
			"glob": func(ts *testscript.TestScript, neg bool, args []string) {
				found, err := filepath.Glob(ts.MkAbs(args[0]))
				ts.Check(err)
				if (len(found) > 0) == neg {
					ts.Fatalf("%s: %v", args[0], found)
				}
			},
			// offsite FIELDS makes the offsite location another one. $BUCKET, $MACHINE and
			// their like stand for the servers.
			"offsite": func(ts *testscript.TestScript, neg bool, args []string) {
				plan := filepath.Join(ts.MkAbs("ws"), "plan.yaml")
				text := strings.NewReplacer("@HOSTKEY", machine.HostKey, "@S3", bucket.URL, "@CREDENTIALS", credentials, "@HOST", machine.Addr, "@USER", machine.User, "@DIR", machine.Dir, "@KEYFILE", machine.KeyFile).Replace(strings.Join(args, " "))
				ts.Check(os.WriteFile(plan, offsite.ReplaceAll([]byte(ts.ReadFile(plan)), []byte("  offsite: "+text)), 0o600))
			},
		},
	})
}
