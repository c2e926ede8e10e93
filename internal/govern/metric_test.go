package govern

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/db"
	"holdfast/internal/ledger"
)

// A metric is written down before its time, computed once, and late if nobody does.
func TestMetricIsRecordedOnceForEachPeriod(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		counted := map[string]float64{"backups.expected": 10, "backups.done": 9}
		var asked [][2]time.Time
		waits := map[string]time.Time{}
		r.m.cfg.Count = func(_ context.Context, from, until time.Time) (Counted, error) {
			asked = append(asked, [2]time.Time{from, until})
			return Counted{Counts: counted, Until: waits}, nil
		}
		const risks = "risks:\n"
		with := func(lines string) { r.declare(risks, "metrics:\n"+lines+risks) }
		with("  ok: {every: 1mo, owner: lead, formula: backup-success, target: \">= 99%\", to: [cid]}\n")
		list := func() []Metric {
			t.Helper()
			ms, err := r.m.Metrics(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			return ms
		}
		begin := r.now
		ms := list()
		if len(ms) != 1 || ms[0].State != MetricOpen || *ms[0].Value != 90 || ms[0].N != 10 || !ms[0].Until.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
			t.Fatalf("%+v", ms)
		}
		// Nobody looks: it is late, by the clock alone.
		r.now = time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC)
		if ms, err := r.m.KnownMetrics(t.Context()); err != nil || ms[0].State != MetricLate {
			t.Fatalf("%+v, %v", ms, err)
		}
		// What can still be met is waited for, and that is not late.
		waits["backups"] = r.now.AddDate(0, 0, 2)
		if ms = list(); len(ms) != 1 || ms[0].State != MetricOpen {
			t.Fatalf("%+v", ms)
		}
		delete(waits, "backups")
		waits["drills"] = r.now.AddDate(1, 0, 0) // the formula does not read them
		asked = nil
		if ms = list(); len(ms) != 2 || ms[0].State != MetricRecorded || *ms[0].Value != 90 || *ms[0].Met || ms[1].State != MetricOpen || ms[0].Recipients[0] != "cid" {
			t.Fatalf("%+v", ms)
		}
		if !asked[0][0].Equal(begin) || !asked[0][1].Equal(ms[0].Until) || !ms[1].From.Equal(ms[0].Until) {
			t.Fatalf("the period: %v", asked)
		}
		// What is counted otherwise later changes nothing that was recorded.
		counted["backups.done"] = 10
		if ms = list(); *ms[0].Value != 90 || *ms[1].Value != 100 || len(r.facts(FactMetricRecorded)) != 1 {
			t.Fatalf("%+v", ms)
		}
		// After a year in which nobody looked, each period has its value.
		r.now = r.now.AddDate(1, 0, 0)
		if ms = list(); len(ms) != 14 || len(r.facts(FactMetricRecorded)) != 13 {
			t.Fatalf("%d values, %d facts", len(ms), len(r.facts(FactMetricRecorded)))
		}
		// A formula that gives nothing is unknown, and never green; one that goes is withdrawn.
		with("  none: {every: 1mo, formula: restore-success, target: \"100%\"}\n")
		list()
		r.now = r.now.AddDate(0, 1, 0)
		for _, x := range list() {
			if x.Name == "none" && x.State != MetricOpen && (x.State != MetricUnknown || x.Met != nil || !strings.Contains(x.Why, "not known")) {
				t.Fatalf("%+v", x)
			}
		}
		if n := len(r.facts(FactMetricWithdrawn)); n != 1 {
			t.Fatalf("%d withdrawn", n)
		}
		if _, err := r.m.Metrics(t.Context(), "nne"); err == nil {
			t.Fatal("a metric that nobody asked for")
		}
	})
}

// A look that ends between recording a value and expecting the next one goes on.
func TestMetricAfterACrash(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.m.cfg.Count = func(context.Context, time.Time, time.Time) (Counted, error) {
			return Counted{Counts: map[string]float64{"incidents.opened": 2}}, nil
		}
		r.declare("risks:\n", "metrics:\n  opened: {every: 1mo, formula: incidents.opened}\nrisks:\n")
		log := &dying{Log: r.log}
		r.m.cfg.Ledger = log
		for n := 1; n < 8; n++ {
			r.now = r.now.AddDate(0, 1, 0)
			log.left = n % 2
			_ = r.m.SettleMetrics(t.Context()) // it dies, or not
			log.left = -1
			if err := r.m.SettleMetrics(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ms, err := r.m.KnownMetrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(ms); i++ {
			if !ms[i].From.Equal(ms[i-1].Until) {
				t.Errorf("a hole or an overlap: %+v then %+v", ms[i-1], ms[i])
			}
		}
		if want := 7; len(ms) != want || len(r.facts(FactMetricRecorded)) != want-1 {
			t.Errorf("%d values, %d facts", len(ms), len(r.facts(FactMetricRecorded)))
		}
	})
}

// dying is a ledger that refuses after some facts: the transaction is lost.
type dying struct {
	*ledger.Log
	left int // facts that it still takes; negative: all
}

func (d *dying) Append(ctx context.Context, tx *db.Tx, f ledger.Fact) (int64, error) {
	if d.left == 0 {
		return 0, errors.New("the ledger is away")
	}
	d.left--
	return d.Log.Append(ctx, tx, f)
}
