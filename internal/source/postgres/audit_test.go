package postgres

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// objectsOf lists the pieces of log in a place, in order.
func (m *memStore) pieces() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects {
		if strings.HasPrefix(name, "logs/") && strings.Count(name, "/") == 4 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// A piece that is gone comes back from the spool, or is a gap; one that was stored
// wrongly is a gap.
func TestStreamAudit(t *testing.T) {
	c := streamCluster(t)
	r := newStreamRig(t, c, "near", "far")
	r.start()
	for range 3 {
		r.reaches("near", "far")
		c.sql("INSERT INTO tick SELECT generate_series(1, 2000); SELECT pg_switch_wal()")
	}
	end := r.reaches("near", "far")
	near := r.stores["near"]
	look := func() {
		for _, sh := range r.src.running.Load().shippers {
			sh.look <- struct{}{}
		}
	}
	take := func(name string) {
		near.mu.Lock()
		defer near.mu.Unlock()
		delete(near.objects, name)
	}
	all := near.pieces()
	newest := all[len(all)-1]
	take(newest)
	look()
	eventually(t, "the newest piece comes back from the spool", func() error {
		if !slices.Contains(near.pieces(), newest) {
			return fmt.Errorf("%s is not there", newest)
		}
		if g := r.at("near").Gap; g != nil {
			return fmt.Errorf("a gap: %s", g)
		}
		return nil
	})
	r.check("near", 1, end)

	take(all[1]) // of a segment that the spool let go of
	look()
	eventually(t, "the piece that nobody has is a gap", func() error {
		if g := r.at("near").Gap; g == nil || !strings.Contains(g.Cause, "is gone") {
			return fmt.Errorf("near has the gap %v", g)
		}
		return nil
	})
	if g := r.at("far").Gap; g != nil {
		t.Errorf("far has all, and a gap: %s", g)
	}

	far := r.stores["far"]
	r.reaches("near", "far")
	pieces := far.pieces()
	far.mu.Lock()
	last := pieces[len(pieces)-1]
	far.objects[last] = bytes.Replace(far.objects[last], []byte(`"type":"piece"`), []byte(`"type":"pieca"`), 1)
	far.mu.Unlock()
	look()
	eventually(t, "the piece that is not what was sent is a gap", func() error {
		if g := r.at("far").Gap; g == nil || !strings.Contains(g.Cause, "not what was sent") {
			return fmt.Errorf("far has the gap %v", g)
		}
		return nil
	})
}

func TestCoverageWithout(t *testing.T) {
	c := coverage{}
	c.add(1, 0, 100)
	c.add(2, 100, 200)
	o := coverage{}
	o.add(1, 0, 40)
	o.add(1, 60, 100)
	o.add(2, 0, 300)
	if got := fmt.Sprint(c.without(o)); got != "map[1:[{40 60}]]" {
		t.Errorf("missing is %s", got)
	}
	if got := fmt.Sprint(c); got != "map[1:[{0 100}] 2:[{100 200}]]" {
		t.Errorf("it changed: %s", got)
	}
}
