package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/job"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
)

func TestBackupGoesToEveryLocationAndGetsReceipts(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received]" {
			t.Fatal(got)
		}
		for _, l := range []string{"near", "offsite"} {
			p, err := r.place(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			rs, err := p.Receipts(t.Context(), "db")
			if err != nil || len(rs) != 1 || rs[0].Verify(r.vault.Public()) != nil || rs[0].Manifest != r.manifests(l)[0].Hash() || !rs[0].Received.Equal(r.copies()[0].Received) {
				t.Errorf("%s: %+v, %v", l, rs, err)
			}
		}
		fs := r.facts(FactSnapshot)
		var f SnapshotFact
		if len(fs) != 1 || json.Unmarshal(fs[0].Data, &f) != nil || f.Reason != "test" || fmt.Sprint(f.Locations) != "map[near:complete offsite:complete]" || f.Bytes < 100_000 || f.Snapshot != r.copies()[0].Snapshot {
			t.Errorf("%d facts, %+v", len(fs), f)
		}
		if n := len(r.facts(FactReceipt)); n != 2 {
			t.Errorf("%d receipts on record", n)
		}
	})
}

func TestLocationThatWasAwayIsCaughtUp(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.away["offsite"] = errAway
		r.backup()
		r.backup()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=missing near=received offsite=missing]" {
			t.Fatal(got)
		}
		if c := r.copies()[1]; c.Detail != errAway.Error() {
			t.Errorf("why it is missing: %q", c.Detail)
		}
		var f SnapshotFact
		if err := json.Unmarshal(r.facts(FactSnapshot)[0].Data, &f); err != nil || f.Locations["offsite"] != errAway.Error() {
			t.Errorf("%+v, %v", f, err)
		}
		r.pass(time.Hour)
		r.due()
		if n := len(r.facts(FactCopied)); n != 0 {
			t.Errorf("copied to a place that is away: %d", n)
		}
		delete(r.away, "offsite")
		r.pass(time.Hour)
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received near=received offsite=received]" {
			t.Fatal(got)
		}
		if n := len(r.facts(FactCopied)); n != 2 {
			t.Errorf("%d copies on record", n)
		}
		// It is complete by itself: all others are gone.
		near, off := r.manifests("near"), r.manifests("offsite")
		if len(off) != 2 || off[1].Hash() != near[1].Hash() || off[1].Previous != off[0].Hash() {
			t.Errorf("%d manifests, %v", len(off), off)
		}
		p, err := r.place(t.Context(), "offsite")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range off {
			snap, err := p.Snapshot(t.Context(), m, r.keys.Identity)
			if err != nil {
				t.Fatal(err)
			}
			if damage, err := snap.Verify(t.Context(), nil); err != nil || len(damage) > 0 {
				t.Errorf("%v, %v", damage, err)
			}
		}
	})
}

func TestNoLocationWithinReachIsAFailureOnRecord(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.away["near"], r.away["offsite"] = errAway, errors.New("connection refused")
		r.backup()
		fs := r.facts(FactFailed)
		if len(fs) != 1 || !strings.Contains(string(fs[0].Data), "not mounted") || !strings.Contains(string(fs[0].Data), "connection refused") || !strings.Contains(string(fs[0].Data), "holdfast backup db") {
			t.Errorf("%d facts: %+v", len(fs), fs)
		}
		if len(r.copies()) != 0 || len(r.facts(FactSnapshot)) != 0 {
			t.Error("a backup that did not happen is listed")
		}
	})
}

func TestFailuresOfTheSourceAreOnRecord(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.src.shoot = func(context.Context, *repo.Writer) error {
			return holdfast.WithHint(errors.New("no replication slot left"), "raise max_replication_slots")
		}
		r.backup()
		r.src.shoot = nil
		r.src.check = []holdfast.Finding{{Code: "HF-X", Severity: holdfast.SeverityError, Message: "wal_level is minimal", Hint: "set it"}}
		r.pass(time.Hour)
		r.due()
		fs := r.facts(FactFailed)
		if len(fs) != 2 || !strings.Contains(string(fs[0].Data), "max_replication_slots") || !strings.Contains(string(fs[1].Data), "wal_level is minimal") {
			t.Errorf("%d facts: %+v", len(fs), fs)
		}
		if n := len(r.manifests("near")); n != 0 {
			t.Errorf("%d manifests of a backup that failed", n)
		}
		r.src.check = nil
		r.pass(time.Hour)
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received]" {
			t.Error(got)
		}
	})
}

// A stop of the server is no failed backup.
func TestStopIsNoFailure(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		ctx, stop := context.WithCancel(t.Context())
		r.src.shoot = func(ctx context.Context, _ *repo.Writer) error { stop(); <-ctx.Done(); return ctx.Err() }
		r.enqueue(SnapshotJob("db", "test"))
		if _, err := r.jobs.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(r.facts(FactFailed)); n != 0 {
			t.Errorf("%d failures on record", n)
		}
		r.src.shoot = nil
		r = r.start()
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received]" {
			t.Error(got)
		}
	})
}

// A place that fails in the middle does not fail the others.
func TestPlaceThatBreaksIsCaughtUp(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		for n := 1; ; n++ {
			f := &repotest.Faulty{Store: r.places["offsite"], N: n, Forever: true}
			r.faulty["offsite"] = f
			r.pass(time.Minute)
			r.write()
			r.enqueue(SnapshotJob("db", "test"))
			r.once() // the snapshot alone
			broke := f.Tripped()
			delete(r.faulty, "offsite")
			for range 4 {
				r.pass(time.Hour)
				r.due()
			}
			for i, line := range r.table() {
				if line != "near=received offsite=received" {
					t.Fatalf("broken at call %d: snapshot %d: %s", n, i+1, line)
				}
			}
			if got := len(r.table()); got != n {
				t.Fatalf("broken at call %d: %d snapshots, want %d", n, got, n)
			}
			if !broke {
				return
			}
		}
	})
}

// The process ends after the repository finished the snapshot and before we wrote
// that down.
func TestReconcileFindsWhatACrashLeft(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		r.away["offsite"] = errAway
		r.forget() // near has it, offsite does not
		if got := len(r.table()); got != 1 {
			t.Fatalf("%d snapshots are known", got)
		}
		r.reconcile()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received near=received offsite=missing]" {
			t.Fatal(got)
		}
		if c := r.copies()[2]; c.Created != r.manifests("near")[1].Created || c.Bytes < 100_000 {
			t.Errorf("%+v", c)
		}
		// The location that missed it gets it, though nobody had asked for that.
		delete(r.away, "offsite")
		r.pass(time.Hour)
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received near=received offsite=received]" {
			t.Error(got)
		}
		// Again changes nothing.
		facts := len(r.facts(""))
		r.reconcile()
		if n := len(r.facts("")); n != facts {
			t.Errorf("%d new facts", n-facts)
		}
	})
}

// forget makes a snapshot of which the state knows nothing afterwards.
func (r rig) forget() {
	r.t.Helper()
	r.pass(time.Minute)
	r.write()
	p, err := r.place(r.t.Context(), "near")
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := repo.NewWriter(r.t.Context(), repo.WriterConfig{Places: []repo.Place{{Name: "near", Repo: p}}, Scope: "db", Kind: "files", Recipients: r.keys.Recipients(),
		Signer: r.keys.Signer, MAC: r.keys.MAC, CacheDir: r.cache, Clock: r.now})
	if err == nil {
		err = r.src.Store.Snapshot(r.t.Context(), w, nil)
	}
	if err == nil {
		_, _, err = w.Finish(r.t.Context())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestReconcileRebuildsALostState(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		r.backup()
		received := r.copies()[0].Received
		for _, table := range []string{"backup_snapshots", "backup_copies"} {
			if err := r.d.Tx(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(t.Context(), "DELETE FROM "+table); return err }); err != nil {
				t.Fatal(err)
			}
		}
		r.pass(24 * time.Hour)
		r.reconcile()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received near=received offsite=received]" {
			t.Fatal(got)
		}
		if c := r.copies()[0]; !c.Received.Equal(received) {
			t.Errorf("received at %s, the receipt says %s", c.Received, received)
		}
	})
}

func TestReconcileFillsANewLocation(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		r.backup()
		r.policy.Locations = append(r.policy.Locations, "third")
		r.reconcile()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received third=received near=received offsite=received third=received]" {
			t.Error(got)
		}
	})
}

func TestReconcilePassesOverWhatIsNotOurs(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		own := r.keys.Signer
		r.keys.Signer = repotest.NewKeys(t).Signer
		r.forget()
		r.keys.Signer = own
		r.places["offsite"].Set(r.manifests("offsite")[0].Object(), []byte("x"))
		if err := r.d.Tx(t.Context(), func(tx *db.Tx) error { _, err := tx.Exec(t.Context(), "DELETE FROM backup_copies"); return err }); err != nil {
			t.Fatal(err)
		}
		r.reconcile()
		if got := r.table(); len(got) != 1 || !strings.HasPrefix(got[0], "near=received") || strings.Contains(got[0], "offsite=received") {
			t.Error(got)
		}
		// Nor is it a parent, or a reason not to back up.
		r.backup()
		if got := r.table(); len(got) != 2 || got[1] != "near=received offsite=received" {
			t.Error(got)
		}
	})
}

// A crash after the receipt was put and before it was written down.
func TestReceiptThatIsThereKeepsItsTime(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.backup()
		first := r.copies()[0]
		if err := r.d.Tx(t.Context(), func(tx *db.Tx) error {
			_, err := tx.Exec(t.Context(), "UPDATE backup_copies SET received = 0")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r.pass(time.Hour)
		r.reconcile()
		if got := r.copies()[0]; !got.Received.Equal(first.Received) {
			t.Errorf("received at %s, then at %s", first.Received, got.Received)
		}
	})
}

// A host that writes the backups puts receipts of its own, before the vault does.
func TestReceiptThatIsNotTheVaultsDoesNotCount(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.enqueue(SnapshotJob("db", "test"))
		r.once()
		m := r.manifests("near")[0]
		p, err := r.place(t.Context(), "near")
		if err != nil {
			t.Fatal(err)
		}
		forged := repo.Receipt{Scope: "db", Snapshot: m.ID, Manifest: m.Hash(), Place: "near", Received: noon.AddDate(-1, 0, 0), Vault: r.vault.Name()}
		if err := p.PutReceipt(t.Context(), forged, r.keys.Signer); err != nil {
			t.Fatal(err)
		}
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=complete offsite=received]" {
			t.Error(got)
		}
		js, err := r.jobs.List(t.Context(), job.Filter{Kind: KindReceive, State: job.Failed})
		if err != nil || len(js) != 1 || !strings.Contains(js[0].Error, "not ours") {
			t.Errorf("%+v, %v", js, err)
		}
	})
}

func TestIncompleteCopyGetsNoReceipt(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		r.enqueue(SnapshotJob("db", "test"))
		r.once()
		m := r.manifests("near")[0]
		name := "packs/" + m.Packs[0].ID[:2] + "/" + m.Packs[0].ID
		b := r.places["near"].Bytes(name)
		r.places["near"].Set(name, nil)
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=complete offsite=received]" {
			t.Error(got)
		}
		r.places["near"].Set(name, b)
		r.pass(time.Hour)
		r.due()
		if got := fmt.Sprint(r.table()); got != "[near=received offsite=received]" {
			t.Error(got)
		}
	})
}

func TestParentIsTheNewestThatEveryPlaceHolds(t *testing.T) {
	eachRig(t, func(t *testing.T, r rig) {
		parent := func(names ...string) string {
			var ps []repo.Place
			for _, l := range names {
				p, err := r.place(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				ps = append(ps, repo.Place{Name: l, Repo: p})
			}
			if m := r.m.parent(t.Context(), ps, "db"); m != nil {
				return m.ID
			}
			return ""
		}
		if p := parent("near", "offsite"); p != "" {
			t.Errorf("a parent of nothing: %s", p)
		}
		r.backup() // 0: everywhere
		r.away["offsite"] = errAway
		r.backup() // 1: near
		delete(r.away, "offsite")
		near := r.manifests("near")
		for _, tt := range []struct {
			places string
			want   string
		}{
			{"near offsite", near[0].ID},
			{"offsite near", near[0].ID},
			{"near", near[1].ID},
			{"offsite", near[0].ID},
			{"near third", ""},
			{"third near", ""},
		} {
			if got := parent(strings.Fields(tt.places)...); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.places, got, tt.want)
			}
		}
		// One that cannot be listed is not asked.
		r.faulty["offsite"] = brokenList{r.places["offsite"]}
		for _, places := range []string{"near offsite", "offsite near"} {
			if got := parent(strings.Fields(places)...); got != near[1].ID {
				t.Errorf("%s: %q, want %q", places, got, near[1].ID)
			}
		}
		// And keeps nothing from being backed up.
		r.backup()
		if got := r.table(); !strings.HasPrefix(got[2], "near=received offsite=missing") {
			t.Error(got)
		}
	})
}

// A place that can be opened and not listed.
type brokenList struct{ *repotest.Memory }

func (brokenList) List(context.Context, string, func(repo.Object) error) error {
	return errors.New("listing timed out")
}
