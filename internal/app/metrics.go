package app

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/objective"
)

// metricsWithin bounds one scrape.
const metricsWithin = 10 * time.Second

// A collector computes what is scraped when it is asked: nothing is counted beside the
// state, so that a restart resets nothing.
type collector struct{ a *App }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

var (
	descUp       = desc("up", "1 if the overview could be computed.")
	descExposure = desc("store_exposure_seconds", "What would be lost of a store if only this location were left; absent while nobody knows.", "store", "location")
	descReach    = desc("location_reachable", "1 if the location answered when it was looked at last.", "location")
	descRPO      = desc("store_rpo_seconds", "The promised loss of a store; absent without a promise.", "store")
	descDrill    = desc("store_drill_timestamp_seconds", "When the store was last restored in a drill; absent if never.", "store")
	descRung     = desc("store_drill_rung", "How far that drill climbed.", "store")
	descPosture  = desc("service_posture", "1 for the posture that the service has.", "service", "posture")
	descRTO      = desc("service_rto_seconds", "The promised outage of a service; absent without a promise.", "service")
	descOutage   = desc("service_outage_seconds", "The predicted outage of a service; a lower bound where parts are unknown.", "service")
	descFindings = desc("findings", "Open findings.", "severity")
	descOpen     = desc("incidents_open", "Incidents that are not closed.")
	descWaiting  = desc("messages_waiting", "Messages that no channel has taken yet.")
	descUrgent   = desc("messages_urgent_undelivered_timestamp_seconds", "When the oldest urgent message was written that reached nobody yet; absent if there is none.")
	descUnsent   = desc("messages_failed", "Messages of the last 7 days that no channel took.")
	descBuild    = desc("build_info", "1, with the version.", "version")
)

// Describe sends nothing: what there is depends on the plan.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks the overview once.
func (c collector) Collect(out chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), metricsWithin)
	defer stop()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descBuild, 1, holdfast.Version)
	if m, err := c.a.Messages.Counts(ctx, c.a.opt.Clock().Add(-failedShown)); err == nil {
		gauge(descWaiting, float64(m.Waiting))
		gauge(descUnsent, float64(m.Failed))
		if !m.Urgent.IsZero() {
			gauge(descUrgent, float64(m.Urgent.Unix()))
		}
	}
	o, err := c.a.Overview(ctx)
	if err != nil {
		c.a.opt.Log.Warn("metrics are without the overview", "err", err)
		gauge(descUp, 0)
		return
	}
	gauge(descUp, 1)
	for _, l := range o.Locations {
		gauge(descReach, truth(l.Reachable), l.ID)
	}
	for _, s := range o.Stores {
		if d := s.RPO.Limit.Duration(); d > 0 {
			gauge(descRPO, d.Seconds(), s.ID)
		}
		for _, e := range s.Exposures {
			if e.State == objective.LossBounded {
				gauge(descExposure, e.Age.Duration().Seconds(), s.ID, e.Location)
			}
		}
		if d := s.LastDrill; d != nil {
			gauge(descDrill, float64(d.At.Unix()), s.ID)
			gauge(descRung, float64(d.Rung), s.ID)
		}
	}
	for _, s := range o.Services {
		gauge(descPosture, 1, s.ID, string(s.Posture))
		if d := s.RTO.Limit.Duration(); d > 0 {
			gauge(descRTO, d.Seconds(), s.ID)
		}
		if d := s.Outage.Total.Duration(); d > 0 {
			gauge(descOutage, d.Seconds(), s.ID)
		}
	}
	counts := map[holdfast.FindingSeverity]int{holdfast.SeverityError: 0, holdfast.SeverityWarning: 0, holdfast.SeverityNote: 0}
	for _, f := range o.Findings {
		counts[f.Severity]++
	}
	for severity, n := range counts {
		gauge(descFindings, float64(n), string(severity))
	}
	if open, err := c.a.Incidents.List(ctx, true); err == nil {
		gauge(descOpen, float64(len(open)))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metrics answers a scrape of whoever may look.
func (a *App) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 2, Timeout: metricsWithin})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		done, err := a.Access.Enter(req.Context(), access.View, "GET /metrics")
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
			http.Error(w, holdfast.Sentence(err), http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, req)
		done(http.StatusOK)
	})
}

// health says that the process answers; ready, that it can work with its state. Both
// answer strangers, and tell them no more than that.
func (a *App) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // a reader that has gone away needs no answer
}

func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), 5*time.Second)
	defer stop()
	if _, err := a.Ledger.Size(ctx); err != nil {
		a.opt.Log.Warn("not ready: the state does not answer", "err", err)
		http.Error(w, "the state does not answer", http.StatusServiceUnavailable)
		return
	}
	a.health(w, r)
}
