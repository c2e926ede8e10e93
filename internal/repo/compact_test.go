package repo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// A keeper is a vault that takes the oldest snapshots away each day, for years.
type keeper struct {
	*shelf
	vault seal.SigningKey
	now   time.Time
	last  string // hash of the newest snapshot
	ids   []string
	all   []repo.Removed // every snapshot that ever was, as its removal says it
	known map[string]bool
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{shelf: newShelf(t, 9), now: start, known: map[string]bool{}}
	var err error
	if k.vault, err = seal.GenerateSigningKey("vault"); err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *keeper) at(s repo.Store) *repo.Repository {
	k.t.Helper()
	r, err := repo.Open(k.t.Context(), s)
	if err != nil {
		k.t.Fatal(err)
	}
	r.Trust(k.key.Public(), k.vault.Public())
	return r
}

// snapshot makes one with a pack of its own, and its receipt.
func (k *keeper) snapshot() {
	k.t.Helper()
	k.made++
	id := k.now.Format("20060102T150405Z") + fmt.Sprintf("-%08x", k.made)
	p := repo.PackRef{ID: fmt.Sprintf("%02x%030x", k.made%256, k.made), Size: 4096, Hash: fmt.Sprintf("%064x", k.made)}
	raw := repotest.Manifest("r1", "files", id, k.last, k.now, []repo.PackRef{p}, k.key)
	h := seal.Hash(raw)
	k.last = fmt.Sprintf("%x", h[:])
	k.mem.Set("packs/"+p.ID[:2]+"/"+p.ID, make([]byte, 16))
	k.mem.Set("snapshots/files/"+id, raw)
	if err := k.at(k.mem).PutReceipt(k.t.Context(), repo.Receipt{Scope: "files", Snapshot: id, Manifest: k.last, Place: "here", Received: k.now, Vault: "vault"}, k.vault); err != nil {
		k.t.Fatal(err)
	}
	previous := ""
	if n := len(k.all); n > 0 {
		previous = k.all[n-1].Manifest
	}
	k.all = append(k.all, repo.Removed{Snapshot: id, Manifest: k.last, Previous: previous, Log: "1", Why: "its time is over"})
	k.ids, k.known[id] = append(k.ids, id), true
}

// remove takes away what keep does not want.
func (k *keeper) remove(r *repo.Repository) {
	k.t.Helper()
	c := repo.Removal{Scope: "files", Place: "here", At: k.now, Vault: "vault"}
	for n, m := range k.all {
		if k.known[m.Snapshot] && !monthly(time.Duration(len(k.all)-n-1), n) {
			c.Snapshots = append(c.Snapshots, m)
		}
	}
	if len(c.Snapshots) == 0 {
		return
	}
	gone, err := r.Remove(k.t.Context(), c, k.vault)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, id := range gone {
		delete(k.known, id)
	}
}

// monthly keeps thirty days, and one of thirty for a year.
func monthly(days time.Duration, n int) bool { return days <= 30 || n%30 == 0 && days <= 365 }

func (k *keeper) collector(r *repo.Repository) repo.Collector {
	c := repo.Collector{Place: "here", At: r, Signer: k.vault, Trust: []seal.VerifyKey{k.vault.Public()}, Now: k.now, Known: map[string][]string{}}
	for id := range k.known {
		c.Known["files"] = append(c.Known["files"], id)
	}
	return c
}

func (k *keeper) collect(r *repo.Repository) repo.Collected {
	k.t.Helper()
	out, err := k.collector(r).Collect(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

// days passes some, each with a snapshot and a removal, and some with a night.
func (k *keeper) days(n int) {
	k.t.Helper()
	r := k.at(k.mem)
	for i := range n {
		k.snapshot()
		k.remove(r)
		if i%12 == 0 {
			k.collect(r)
		}
		k.now = k.now.Add(24 * time.Hour)
	}
}

func (k *keeper) count(prefix string) (n int) {
	for _, name := range k.mem.Names() {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// omitted is what somebody misses who knows all that should be here.
func (k *keeper) omitted(known ...string) []repo.Missed {
	k.t.Helper()
	r := k.at(k.mem)
	var links []repo.Link
	ms, err := r.Manifests(k.t.Context(), "files")
	if err != nil {
		k.t.Fatal(err)
	}
	for _, m := range ms {
		links = append(links, m.Link())
	}
	receipts, err1 := r.Receipts(k.t.Context(), "files")
	removals, err2 := r.Removals(k.t.Context(), "files")
	if err1 != nil || err2 != nil {
		k.t.Fatal(err1, err2)
	}
	return repo.Omitted("files", links, receipts, removals, known)
}

// What the vault writes of its own work stays bounded over the years, and says all the
// same of each snapshot that ever was that it was removed.
func TestRecordsStayBounded(t *testing.T) {
	k := newKeeper(t)
	k.days(600)
	for prefix, most := range map[string]int{"tombstones/removed/": 100 + 30 + 12 + 1, "tombstones/garbage/": 90/12 + 6, "receipts/": 30 + 13 + 3*12} {
		if n := k.count(prefix); n > most {
			t.Errorf("%d objects of %s after %d days, want at most %d", n, prefix, len(k.ids), most)
		}
	}
	// Nobody misses anything: not the chain, and not who remembers every snapshot ever.
	if missed := k.omitted(k.ids...); len(missed) > 0 {
		t.Errorf("%d snapshots are missed, the first: %s", len(missed), missed[0])
	}
	// Who was not told that it goes is missed, wherever it lies in the chain.
	names := k.names("snapshots")
	for i := 0; i < len(names); i += 3 {
		name := names[i]
		raw := k.mem.Bytes(name)
		k.mem.Set(name, nil)
		id := name[strings.LastIndexByte(name, '/')+1:]
		if missed := k.omitted(); len(missed) == 0 {
			t.Errorf("%s was taken, and nobody misses it", id)
		}
		receipt := "receipts/files/" + id
		rc := k.mem.Bytes(receipt)
		k.mem.Set(receipt, nil) // and its receipt: then its neighbours tell, but for the first and the last
		if missed := k.omitted(); len(missed) == 0 && i > 0 && i < len(names)-1 {
			t.Errorf("%s was taken with its receipt, and nobody misses it", id)
		}
		if missed := k.omitted(id); len(missed) == 0 {
			t.Errorf("%s was taken, and who remembers it does not miss it", id)
		}
		k.mem.Set(name, raw)
		k.mem.Set(receipt, rc)
	}
	// The fold is what an auditor computes from copies of the records: see the golden one.
	removals, err := k.at(k.mem).Removals(t.Context(), "files")
	if err != nil {
		t.Fatal(err)
	}
	folds := 0
	for _, r := range removals {
		if r.Folded != nil {
			folds++
		}
	}
	if folds != 1 {
		t.Errorf("%d folds, want one", folds)
	}
}

// Wherever the folding breaks off, all that was said is said still, and the next night
// brings it to its end; and a place that refuses to delete keeps saying it twice.
func TestFoldAtEveryFault(t *testing.T) {
	k := newKeeper(t)
	r := k.at(k.mem)
	// A history that is about to be folded: everything but the last night.
	for range 170 {
		k.snapshot()
		k.remove(r)
		k.now = k.now.Add(24 * time.Hour)
	}
	before := k.mem.Clone()
	// Of all calls, those that write and delete around the fold.
	var calls []int
	k.mem = before.Clone()
	counted := &repotest.Unruly{Store: k.mem}
	folding := k.at(counted)
	first := counted.Calls()
	counted.Before = func(call int, _, name string) {
		if strings.HasPrefix(name, "tombstones/") && !strings.HasSuffix(name, "/") && call > 100 {
			calls = append(calls, call-first)
		}
	}
	k.collect(folding)
	if len(calls) < 30 || k.count("tombstones/removed/") > 105 {
		t.Fatalf("%d calls, %d records: nothing was folded", len(calls), k.count("tombstones/removed/"))
	}
	calls = append(calls[:4], calls[len(calls)-40], calls[len(calls)-20], calls[len(calls)-1])
	for _, n := range calls {
		for _, landed := range []bool{false, true} {
			k.mem = before.Clone()
			f := &repotest.Faulty{Store: k.mem, Landed: landed}
			at := k.at(f)
			f.N = f.Calls() + n
			_, _ = k.collector(at).Collect(t.Context()) // loud or not: a deletion that is refused waits
			if !f.Tripped() {
				t.Fatalf("call %d was not broken", n)
			}
			k.collect(k.at(k.mem)) // it stops where it misses a snapshot
			k.collect(k.at(k.mem))
			if missed := k.omitted(); len(missed) > 0 {
				t.Fatalf("call %d, landed %t: %s", n, landed, missed[0])
			}
			if left := k.count("tombstones/removed/"); left > 105 {
				t.Fatalf("call %d, landed %t: %d records are left", n, landed, left)
			}
		}
	}
	k.mem = before.Clone()
	keeps := &repotest.Unruly{Store: k.mem, Keeps: func(name string) bool { return strings.HasPrefix(name, "tombstones/") }}
	for range 3 {
		k.collect(k.at(keeps))
		k.now = k.now.Add(24 * time.Hour)
	}
	if n := k.count("tombstones/removed/"); n > 145 {
		t.Errorf("%d records where none can be deleted: it was folded again and again", n)
	}
	if missed := k.omitted(); len(missed) > 0 {
		t.Errorf("where nothing can be deleted: %s", missed[0])
	}
}

// A place that was added later has never held what came before: the oldest snapshot that
// is listed may name one that nobody knows, and none behind it.
func TestOneLooseEnd(t *testing.T) {
	link := func(n int) repo.Link {
		return repo.Link{ID: fmt.Sprintf("20261122T10%02d00Z-00000000", n), Hash: fmt.Sprint("h", n), Previous: fmt.Sprint("h", n-1)}
	}
	gone := func(n int) repo.Removal {
		l := link(n)
		return repo.Removal{Snapshots: []repo.Removed{{Snapshot: l.ID, Manifest: l.Hash, Previous: l.Previous}}}
	}
	for _, tt := range []struct {
		name     string
		listed   []repo.Link
		removals []repo.Removal
		missed   int
	}{
		{"the end of a chain", []repo.Link{link(5), link(6), link(7)}, nil, 0},
		{"a hole", []repo.Link{link(5), link(7)}, nil, 1},
		{"two holes", []repo.Link{link(3), link(5), link(7)}, nil, 2},
		{"a hole that was made on record", []repo.Link{link(5), link(7)}, []repo.Removal{gone(6)}, 0},
		{"removed before the oldest", []repo.Link{link(5), link(6)}, []repo.Removal{gone(3)}, 0},
		{"a hole before what was removed", []repo.Link{link(4), link(7)}, []repo.Removal{gone(6)}, 1},
	} {
		if missed := repo.Omitted("files", tt.listed, nil, tt.removals, nil); len(missed) != tt.missed {
			t.Errorf("%s: %v, want %d", tt.name, missed, tt.missed)
		}
	}
}

// The receipt of a snapshot that was removed on record and that the place still lists,
// because it does not delete, stays: the snapshot is one like any other.
func TestReceiptOfWhatIsStillListed(t *testing.T) {
	k := newKeeper(t)
	for range 3 {
		k.snapshot()
		k.now = k.now.Add(24 * time.Hour)
	}
	keeps := &repotest.Unruly{Store: k.mem, Keeps: func(name string) bool { return strings.HasPrefix(name, "snapshots/") }}
	c := repo.Removal{Scope: "files", Place: "here", At: k.now, Vault: "vault", Snapshots: k.all[:1]}
	if _, err := k.at(keeps).Remove(t.Context(), c, k.vault); err == nil {
		t.Fatal("it was removed")
	}
	receipt := "receipts/files/" + k.all[0].Snapshot
	for range 3 {
		k.collect(k.at(k.mem))
		k.now = k.now.Add(repo.GarbageWait + time.Hour)
	}
	if k.mem.Bytes(receipt) == nil {
		t.Error("the receipt of a listed snapshot is gone")
	}
	if _, err := k.at(k.mem).Remove(t.Context(), c, k.vault); err != nil {
		t.Fatal(err)
	}
	delete(k.known, k.all[0].Snapshot)
	for range 3 {
		k.collect(k.at(k.mem))
		k.now = k.now.Add(repo.GarbageWait + time.Hour)
	}
	if k.mem.Bytes(receipt) != nil {
		t.Error("the receipt of a removed snapshot stays")
	}
}
