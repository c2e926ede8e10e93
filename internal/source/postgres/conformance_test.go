package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/repo"
	"holdfast/internal/source"
	"holdfast/internal/source/sourcetest"
)

func TestConformance(t *testing.T) {
	box := newSandbox(t)
	s := newCluster(t, box, "source", []string{"--wal-segsize=1"}, with(quick, "autovacuum", "off", "max_slot_wal_keep_size", "1GB"))
	const content = "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(v, ',' ORDER BY id)), '') || ', ' || (SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE oid >= 16384) FROM t"
	mustQuery(t, s, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")
	sourcetest.Run(t, func(t *testing.T, p sourcetest.Place) sourcetest.Bed {
		store, err := Open(StoreConfig{Config: Config{Store: "db", ConnString: s.ConnString(), SpoolDir: filepath.Join(t.TempDir(), "spool")}})
		if err != nil {
			t.Fatal(err)
		}
		gone, err := Open(StoreConfig{Config: Config{Store: "db", ConnString: "host=" + box.Dir() + " port=1 user=nobody"}})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var at uint64
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- store.Stream(ctx, source.StreamConfig{Places: []repo.Place{{Name: "here", Repo: p.Repo}}, Recipients: p.Keys.Recipients(), Signer: p.Keys.Signer,
				Report: func(f source.Frontier) {
					if f.Place == "here" {
						mu.Lock()
						at = f.Position
						mu.Unlock()
					}
				}})
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		shipped := func(t *testing.T) {
			t.Helper()
			lsn, err := ParseLSN(mustValue(t, s, "SELECT pg_current_wal_flush_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the log is shipped", func() error {
				mu.Lock()
				defer mu.Unlock()
				if at < lsn {
					return fmt.Errorf("it is at %s", FormatLSN(at))
				}
				return nil
			})
		}
		var folders int
		var mine sync.Mutex
		return sourcetest.Bed{
			Store: store, Gone: gone, Scope: "db", Kind: Kind, Runner: box,
			Write: func(t *testing.T) {
				t.Helper()
				mustQuery(t, s, "INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 50) i")
				shipped(t)
			},
			State: func(t *testing.T) string { return mustValue(t, s, content) },
			Restored: func(t *testing.T, r source.Restored, _ string) string {
				t.Helper()
				v, err := r.Value(t.Context(), content)
				if err != nil {
					t.Error(err)
				}
				return fmt.Sprint(v)
			},
			Folder: func(*testing.T) string {
				mine.Lock()
				defer mine.Unlock()
				folders++
				return filepath.Join(box.Dir(), fmt.Sprintf("restored%d", folders))
			},
			Running: func(t *testing.T) []string {
				t.Helper()
				return serversUnder(t, box.Dir(), s.DataDir)
			},
		}
	})
}

// serversUnder lists servers whose data directory lies under top, except one.
func serversUnder(t *testing.T, top, except string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		line := strings.ReplaceAll(string(b), "\x00", " ")
		if strings.Contains(line, "-D "+top) && !strings.Contains(line, "-D "+except+" ") {
			found = append(found, line)
		}
	}
	return found
}
