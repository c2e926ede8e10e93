package test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Who promises that no commit is lost hears of it when the server stops keeping that.
func TestDemoted(t *testing.T) {
	t.Parallel()
	c := shared.get(t)
	w := forCluster(t, c)
	edit(t, w.plan(), func(s string) string {
		return strings.Replace(s, "      slot:", "      synchronous: true\n      slot:", 1)
	})
	slot := regexp.MustCompile(`slot: (\S+)`).FindStringSubmatch(treeOf(t, w.dir)["plan.yaml"])[1]
	wait := func(names string) {
		t.Helper()
		c.sql(t, fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", names))
		c.sql(t, "SELECT pg_reload_conf()")
	}
	t.Cleanup(func() { // before the server goes: nobody would confirm a commit
		for _, q := range []string{"ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"} {
			if _, err := c.query(context.Background(), q); err != nil {
				t.Error(err)
			}
		}
	})
	w.run(t, "location", "init", "--all").want(t, 0)
	serve(t, w.dir)
	w.run(t, "backup", "db").want(t, 0)
	found := func() bool { return strings.Contains(w.run(t, "status").out, "HF-O08") }
	until(t, "an incident: it is promised, and the server never waited", func() bool {
		_, ok := w.incidentOf(t, "not-synchronous", "db")
		return ok && found()
	})
	wait(slot)
	until(t, "the promise to hold", func() bool { return !found() })
	c.sql(t, "CREATE TABLE IF NOT EXISTS promised (n int); DROP TABLE promised") // and commits come back
	wait("ANY 1 (standby, " + slot + ")")
	until(t, "an incident when it need not be us", func() bool { return found() && w.tells(t, "db", "need not be among them") })
	wait(slot)
	until(t, "the promise to hold again", func() bool { return !found() })
	pack := w.pack(t)["log.ndjson"]
	if got := fmt.Sprint(strings.Count(pack, `"store.demoted"`), strings.Count(pack, `"store.promoted"`)); got != "2 2" {
		t.Errorf("the breaches and their ends are %s facts, want 2 of each", got)
	}
}
