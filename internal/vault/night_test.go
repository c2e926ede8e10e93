package vault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/db"
	"holdfast/internal/repo"
	"holdfast/internal/repo/repotest"
	"holdfast/internal/seal"
)

// envNight asks for a night over so many snapshots, and prints what it costs; a test
// makes do with fewer.
const envNight = "HOLDFAST_NIGHT_SNAPSHOTS"

// A backlog is a place that has held a snapshot for every quarter of an hour for long:
// nobody wrote them, and each is made when it is read. Each names packs that the ones
// before it named, and a new one.
type backlog struct {
	*repotest.Memory
	from   time.Time
	packs  int // named by each
	hashes []string
	made   [][]byte // manifests
	source seal.SigningKey
	vault  seal.SigningKey
	place  string
}

const backlogStep = 15 * time.Minute

func (b *backlog) at(i int) time.Time { return b.from.Add(time.Duration(i) * backlogStep) }
func (b *backlog) id(i int) string {
	return fmt.Sprintf("%s-%08x", b.at(i).Format("20060102T150405Z"), i)
}

func (b *backlog) index(id string) int {
	i, err := strconv.ParseInt(id[max(0, len(id)-8):], 16, 64)
	if err != nil || int(i) >= len(b.hashes) || b.id(int(i)) != id {
		return -1
	}
	return int(i)
}

func (b *backlog) pack(i int) repo.PackRef {
	return repo.PackRef{ID: fmt.Sprintf("%02x%030x", i%256, i), Size: 1 << 20, Hash: fmt.Sprintf("%064x", i)}
}

func (b *backlog) manifest(i int) []byte {
	if i < len(b.made) {
		return b.made[i]
	}
	previous := ""
	if i > 0 {
		previous = b.hashes[i-1]
	}
	packs := make([]repo.PackRef, b.packs)
	for n := range packs {
		packs[n] = b.pack(i + n)
	}
	return repotest.Manifest("test-repository", "db", b.id(i), previous, b.at(i), packs, b.source)
}

// grow lets snapshots come.
func (b *backlog) grow(n int) {
	for range n {
		b.hashes = append(b.hashes, "")
		raw := b.manifest(len(b.hashes) - 1)
		b.made = append(b.made, raw)
		h := seal.Hash(raw)
		b.hashes[len(b.hashes)-1] = fmt.Sprintf("%x", h[:])
	}
}

func (b *backlog) receipt(i int) []byte {
	line := fmt.Sprintf(`{"format":1,"type":"receipt","repository":"test-repository","scope":"db","snapshot":%q,"manifest":%q,"place":%q,"received":%q,"vault":"vault","signer":"vault"}`,
		b.id(i), b.hashes[i], b.place, b.at(i).Format(time.RFC3339))
	return repotest.Signed([]byte(line), "receipt", b.vault)
}

func (b *backlog) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, error) {
	kind, id, _ := strings.Cut(name, "/db/")
	i := -1
	if id != "" {
		i = b.index(id)
	}
	switch {
	case kind == "snapshots" && i >= 0:
		return io.NopCloser(bytes.NewReader(b.manifest(i)[off:])), nil
	case kind == "receipts" && i >= 0:
		return io.NopCloser(bytes.NewReader(b.receipt(i)[off:])), nil
	case strings.HasPrefix(name, "packs/"):
		return nil, fs.ErrNotExist
	}
	return b.Memory.Get(ctx, name, off, n)
}

func (b *backlog) List(ctx context.Context, prefix string, fn func(repo.Object) error) error {
	var all []repo.Object
	add := func(name string, size int64, at time.Time) {
		if strings.HasPrefix(name, prefix) {
			all = append(all, repo.Object{Name: name, Size: size, Modified: at})
		}
	}
	if size := int64(0); len(b.hashes) > 0 {
		size = int64(len(b.manifest(len(b.hashes) - 1)))
		for i := range b.hashes {
			add("snapshots/db/"+b.id(i), size, b.at(i))
			add("receipts/db/"+b.id(i), 500, b.at(i))
		}
		for i := range len(b.hashes) + b.packs - 1 {
			p := b.pack(i)
			add("packs/"+p.ID[:2]+"/"+p.ID, p.Size, b.at(0))
		}
	}
	if err := b.Memory.List(ctx, prefix, func(o repo.Object) error { all = append(all, o); return nil }); err != nil {
		return err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	for _, o := range all {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

// A night over a place with many snapshots asks for what is new, and for a share of what
// is old: not for every manifest and every receipt, again and again.
func TestNightReadsWhatIsNew(t *testing.T) {
	n := 400
	if s := os.Getenv(envNight); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			t.Fatalf("%s=%q: want a number from 1", envNight, s)
		}
	}
	r := oneRig(t, "keep: 30d", "keep: 3650d")
	*r.us += (time.Duration(n+200) * backlogStep).Microseconds()
	logs := map[string]*backlog{}
	stores := map[string]*repotest.Counted{}
	r.stores = map[string]repo.Store{}
	for _, l := range []string{"near", "far"} {
		b := &backlog{Memory: r.places[l], from: noon, packs: 30, source: r.keys.Signer, vault: r.vault, place: l}
		b.grow(n)
		logs[l], stores[l] = b, &repotest.Counted{Store: b}
		r.stores[l] = stores[l]
	}
	r.m.cfg.Copies = func(context.Context, string) (out []Copy, err error) {
		for l, b := range logs {
			for i := range b.hashes {
				out = append(out, Copy{Snapshot: b.id(i), Location: l, Complete: true, Received: b.at(i)})
			}
		}
		return out, nil
	}
	day := int(24 * time.Hour / backlogStep)
	night := func(what string) (gets int) {
		t.Helper()
		for l := range stores {
			stores[l].Asked()
		}
		began := time.Now()
		rep := r.prune(PruneRequest{Apply: true})
		for _, s := range rep.Shelves {
			if s.Err != "" || s.Going() > 0 || len(s.Decided) != len(logs[s.Location].hashes) {
				t.Fatalf("%s: %d of %d snapshots at %s, %d would go: %s", what, len(s.Decided), len(logs[s.Location].hashes), s.Location, s.Going(), s.Err)
			}
		}
		if len(rep.Findings) > 0 {
			t.Fatalf("%s: %+v", what, rep.Findings)
		}
		report := func(part string) {
			for _, l := range []string{"near", "far"} {
				g, lists, other, bytes := stores[l].Asked()
				gets += g
				if os.Getenv(envNight) != "" {
					t.Logf("%s: %s at %s: %d reads of %.1f MB, %d pages of listings, %d others, %s", what, part, l, g, float64(bytes)/1e6, lists, other, time.Since(began).Round(time.Millisecond))
				}
			}
			began = time.Now()
		}
		report("prune")
		for _, l := range []string{"near", "far"} {
			repository, err := r.m.place(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			targets, lacks, err := r.m.targets(t.Context(), l, repository)
			if err != nil || len(lacks) > 0 {
				t.Fatalf("%s: %+v, %v", what, lacks, err)
			}
			// Packs are not there to be read; what they cost is in proportion to them.
			targets = slices.DeleteFunc(targets, func(x *target) bool { return strings.HasPrefix(x.object, "packs/") })
			for _, x := range dueNow(targets, false, r.m.cfg.Within, r.now()) {
				if object, err := x.read(t.Context()); err != nil {
					t.Fatalf("%s: %s: %v", what, object, err)
				}
				x.at = r.now()
			}
			if err := r.m.conclude(t.Context(), l, targets, nil, &Verified{}); err != nil {
				t.Fatal(err)
			}
		}
		report("verify")
		for range day {
			for _, b := range logs {
				b.grow(1)
			}
		}
		r.pass(24 * time.Hour)
		return gets
	}
	r.m.cfg.Damaged = func(context.Context, *db.Tx, Damage) error { return nil }
	first := night("the first night")
	second := night("the second night")
	if os.Getenv(envNight) != "" {
		for i := range 3 {
			night(fmt.Sprintf("night %d", i+3))
		}
		r.m.cfg.Seen = ""
		night("a night without memory")
		return
	}
	// New are a day's manifests and receipts; each is read once at each of both places for
	// pruning and once, with the head of its pack, for verification.
	if limit := 2*day*6 + 50; first < 4*n || second > limit {
		t.Errorf("%d objects were read in the first night, %d in the second, want at most %d", first, second, limit)
	}
	// What a place forgets to list is missed all the same.
	logs["far"].hashes = logs["far"].hashes[:n/2]
	if v, err := r.m.verifyAt(t.Context(), "far", false, func(holdfast.Progress) {}); err != nil || len(v.Damage) < n/2 {
		t.Errorf("half of the snapshots are not listed, and %d are missed: %v", len(v.Damage), err)
	}
}

// A manifest that was exchanged behind an unchanged listing keeps nothing from being done:
// the vault works by what was signed. Reading back names it.
func TestExchangedBehindTheListing(t *testing.T) {
	r := oneRig(t)
	ms := r.days(2)
	r.prune(PruneRequest{Apply: true})
	old, far := ms[0], r.places["far"]
	name := "snapshots/db/" + old.ID
	raw := far.Bytes(name)
	// The writer's own key signs another content of the same length under the same name.
	packs := slices.Clone(old.Packs)
	packs[0].Hash = strings.Repeat("0", 64)
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	far.Set(name, repotest.Signed(bytes.ReplaceAll(line, []byte(old.Packs[0].Hash), []byte(packs[0].Hash)), "manifest", r.keys.Signer))
	if len(far.Bytes(name)) != len(raw) {
		t.Fatal("the listing would show it")
	}
	if rep := r.prune(PruneRequest{Apply: true}); len(rep.Findings) > 0 {
		t.Errorf("%+v", rep.Findings)
	}
	v, err := r.m.verifyAt(t.Context(), "far", true, func(holdfast.Progress) {})
	if err != nil || len(v.Damage) != 1 || v.Damage[0].Object != name {
		t.Errorf("%v: %+v", err, v.Damage)
	}
	// A receipt that was spoiled in the same way is named too.
	far.Set(name, raw)
	receipt := far.Bytes("receipts/db/" + old.ID)
	receipt[len(receipt)-10] ^= 1
	far.Set("receipts/db/"+old.ID, receipt)
	v, err = r.m.verifyAt(t.Context(), "far", true, func(holdfast.Progress) {})
	if err != nil || len(v.Damage) != 1 || v.Damage[0].Object != "receipts/db/"+old.ID {
		t.Errorf("%v: %+v", err, v.Damage)
	}
}

// What was read in one night does not come due in one night again.
func TestShareOfANight(t *testing.T) {
	var targets []*target
	for i := range 100_000 {
		targets = append(targets, &target{object: fmt.Sprint(i), size: 100, at: noon})
	}
	day, within := 24*time.Hour, 30*24*time.Hour
	most := 0
	for n := 15; n < 60; n++ {
		now := noon.Add(time.Duration(n) * day)
		due := dueNow(targets, false, within, now)
		most = max(most, len(due))
		for _, x := range due {
			x.at = now
		}
	}
	if most > len(targets)/15 {
		t.Errorf("%d of %d were read in one night", most, len(targets))
	}
	for _, x := range targets {
		if noon.Add(60*day).Sub(x.at) > within+day {
			t.Fatalf("%s was not read for %s", x.object, noon.Add(60*day).Sub(x.at))
		}
	}
	if due := dueNow(targets, true, within, noon); len(due) != len(targets) {
		t.Errorf("of all, %d are due", len(due))
	}
}

// Anchors that a lock still holds are not asked to go.
func TestAnchorsBehindTheLock(t *testing.T) {
	r := oneRig(t, "far: {kind: dir, path: /far, domain: far}", "far: {kind: s3, s3: {endpoint: \"https://127.0.0.1:1\", bucket: far, lock: 30d}, domain: far}")
	r.stores = map[string]repo.Store{"far": &lockable{Memory: r.places["far"], until: map[string]time.Time{}}}
	var before []time.Time
	r.m.cfg.Anchors = func(_ context.Context, _ *repo.Repository, b time.Time) (int, error) {
		before = append(before, b)
		return 7, nil
	}
	if r.prune(PruneRequest{Apply: true}); len(before) > 0 {
		t.Error("anchors were asked to go before the clock was seen to run steadily")
	}
	r.days(3)
	rep := r.prune(PruneRequest{Apply: true})
	want := r.now().Add(-repo.GarbageWait)
	if len(before) != 2 || !before[0].Equal(want.Add(-30*24*time.Hour)) || !before[1].Equal(want) || rep.Garbage["near"].Tidied < 7 {
		t.Errorf("before %s, want %s and a month earlier: %+v", before, want, rep.Garbage)
	}
}
