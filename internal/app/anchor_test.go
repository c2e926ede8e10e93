package app

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast"
	"holdfast/internal/ledger"
)

// olderState runs a company, keeps a copy of its state, lets life go on, anchors it,
// and puts the copy back: what a person does who restores a server from a backup.
func olderState(t *testing.T) *company {
	t.Helper()
	c := newCompany(t, false, nil)
	a := c.start()
	c.backup(a, "uploads", "near", "offsite")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	old := c.stateFiles()
	a = c.start()
	c.backup(a, "uploads", "near", "offsite")
	if err := a.Anchor(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	for name := range c.stateFiles() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range old {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *company) stateFiles() map[string][]byte {
	c.t.Helper()
	names, err := filepath.Glob(c.w.Database() + "*")
	if err != nil {
		c.t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, n := range names {
		if files[n], err = os.ReadFile(n); err != nil {
			c.t.Fatal(err)
		}
	}
	return files
}

func (c *company) move(from, to string) {
	c.t.Helper()
	if err := os.Rename(c.place(from), c.place(to)); err != nil {
		c.t.Fatal(err)
	}
}

// refusesToStart wants the refusal and a ledger in which nothing was written.
func (c *company) refusesToStart() {
	c.t.Helper()
	a := c.open()
	before, err := a.Ledger.Size(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	err = a.Start(c.t.Context())
	if !errors.Is(err, ledger.ErrTruncated) && !errors.Is(err, ledger.ErrRefused) || holdfast.Hint(err) == "" {
		c.t.Errorf("start with an older state: %v (hint %q), want a refusal that says what to do", err, holdfast.Hint(err))
	}
	if after, err := a.Ledger.Size(c.t.Context()); err != nil || after != before {
		c.t.Errorf("the ledger had %d facts and has %d, %v", before, after, err)
	}
	if err := a.Stop(); err != nil {
		c.t.Error(err)
	}
}

// A state that was restored from an older copy would write a second history of
// facts that others hold already. It is refused before the first one.
func TestOlderStateIsRefused(t *testing.T) {
	c := olderState(t)
	c.move("near", "near.away") // one anchor is enough
	c.refusesToStart()
	c.move("offsite", "offsite.away") // it is remembered when nobody can say it
	c.refusesToStart()
}

// With no location within reach nobody can tell. The first that comes back does.
func TestOlderStateIsRefusedLater(t *testing.T) {
	c := olderState(t)
	c.move("near", "near.away")
	c.move("offsite", "offsite.away")
	a := c.start()
	if err := a.Ledger.Refused(t.Context()); err != nil {
		t.Fatalf("refused without a witness: %v", err)
	}
	c.move("offsite.away", "offsite")
	if err := a.Anchor(t.Context()); !errors.Is(err, ledger.ErrTruncated) && !errors.Is(err, ledger.ErrFork) {
		t.Errorf("anchor of an older state: %v, want it refused", err)
	}
	if err := a.Ledger.Refused(t.Context()); err == nil {
		t.Error("facts are still appended")
	}
}

// A person may say that the newer facts are lost. Then the ledger goes on, says so for
// ever, and is anchored again.
func TestAcceptedLossGoesOn(t *testing.T) {
	c := olderState(t)
	c.refusesToStart()
	a := c.open()
	if _, err := a.AcceptLoss(t.Context(), "nobody", "no reason"); !errors.Is(err, holdfast.ErrRefused) {
		t.Errorf("a stranger accepted the loss: %v", err)
	}
	if n, err := a.AcceptLoss(t.Context(), "founder-a", "the disk died"); err != nil || n == 0 {
		t.Fatalf("accept loss: %d, %v", n, err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a = c.start()
	if err := a.Anchor(t.Context()); err != nil {
		t.Fatal(err)
	}
	fs, err := a.Ledger.Find(t.Context(), ledger.Query{Type: "ledger.loss-accepted"})
	if err != nil || len(fs) == 0 || fs[0].Actor != "founder-a" {
		t.Errorf("the accepted loss is not in the ledger: %v %v", fs, err)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	a = c.start()
	if n, err := a.AcceptLoss(t.Context(), "founder-a", "again"); n != 0 || err != nil {
		t.Errorf("a second acceptance: %d, %v; nothing is missing", n, err)
	}
}
