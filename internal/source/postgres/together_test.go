package postgres

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/repo"
)

// The stream and the restore fit: what Stream ships is what Plan, Fetch and Replay
// bring back, with segments of the usual size and while the source goes on writing.
func TestStreamThenRestore(t *testing.T) {
	st := &story{box: newSandbox(t), vault: newVault(t)}
	st.server = newCluster(t, st.box, "source", nil, with(quick, "autovacuum", "off", "max_slot_wal_keep_size", "1GB"))
	var err error
	if st.source, err = New(Config{Store: "db", ConnString: st.server.ConnString(), SpoolDir: filepath.Join(t.TempDir(), "spool")}); err != nil {
		t.Fatal(err)
	}
	mustQuery(t, st.server, "CREATE TABLE t (id bigserial PRIMARY KEY, v text)")

	frontiers := make(chan Frontier, 1)
	ctx, cancel := context.WithCancel(t.Context())
	streaming := make(chan error, 1)
	go func() {
		streaming <- st.source.Stream(ctx, StreamConfig{
			Places: []repo.Place{{Name: "here", Repo: st.vault.repo}}, Keys: st.vault.keys, PieceEvery: 50 * time.Millisecond,
			Report: func(f Frontier) {
				if f.Place != "here" {
					return
				}
				select { // only the newest matters
				case <-frontiers:
				default:
				}
				select {
				case frontiers <- f:
				default:
				}
			},
		})
	}()
	defer func() {
		cancel()
		<-streaming
	}()
	waitFor := func(lsn uint64) {
		t.Helper()
		for {
			select {
			case f := <-frontiers:
				if f.LSN >= lsn {
					return
				}
			case err := <-streaming:
				streaming <- err
				t.Fatalf("the stream ended: %v", err)
			case <-t.Context().Done():
				t.Fatal("the test was ended")
			}
		}
	}
	waitFor(1)
	insert(t, st.server, 50)
	st.base = st.vault.snapshot(t, st.source)
	for range 5 {
		insert(t, st.server, 40)
	}
	st.last = momentOf(t, st.server)
	lsn, err := ParseLSN(st.last.lsn)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(lsn)
	at := st.last
	insert(t, st.server, 1) // an instant can be reached once something later was shipped
	st.last = momentOf(t, st.server)
	if lsn, err = ParseLSN(st.last.lsn); err != nil {
		t.Fatal(err)
	}
	waitFor(lsn)
	_, s, stats := st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetLatest}))
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != st.last.rows {
		t.Errorf("%s rows came back of %s; %+v", got, st.last.rows, stats)
	}
	_, s, _ = st.run(t, st.restore(st.vault, holdfast.Target{Kind: holdfast.TargetTime, Time: at.time}))
	if got := mustValue(t, s, "SELECT count(*) FROM t"); got != at.rows {
		t.Errorf("at %s: %s rows came back of %s", at.time, got, at.rows)
	}
}
