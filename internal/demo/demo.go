// Package demo plays the whole story on one machine, on real parts: a company's
// database and folder are protected, destroyed, noticed, recovered and drilled,
// and the evidence of it is exported and verified.
//
// Nothing is staged. The database is a real PostgreSQL that is killed with
// SIGKILL; the product that notices and recovers it is the one that "holdfast
// serve" runs, asked only through its API; every number is measured in the run.
// What the demo itself does is what people and the world do around the product: it
// writes rows and files and remembers which were acknowledged, breaks things, and
// says what the owner and the commander say.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/api"
	"holdfast/internal/app"
	"holdfast/internal/drill"
	"holdfast/internal/evidence"
	"holdfast/internal/incident"
	"holdfast/internal/plan"
	"holdfast/internal/recovery"
)

// Options of one run.
type Options struct {
	Dir  string // empty or absent; "" makes one that is removed at the end
	Keep bool   // leave everything running at the end, until ctx ends
	Tell io.Writer
	// Break makes a part fail, to see that the story fails with it: "flip" changes
	// one byte of every pack in every location, "log" stops the stream of the log.
	Break string
	Log   *slog.Logger
}

// A Result is what one run measured.
type Result struct {
	RowsAcknowledged  int            `json:"rows_acknowledged"`
	RowsRecovered     int            `json:"rows_recovered"`
	RowsLost          int            `json:"rows_lost"`
	FilesAcknowledged int            `json:"files_acknowledged"`
	FilesLost         int            `json:"files_lost"`
	RPO               float64        `json:"rpo_seconds"`
	RTO               float64        `json:"rto_seconds"`
	ObjectiveRPO      float64        `json:"objective_rpo_seconds"`
	ObjectiveRTO      float64        `json:"objective_rto_seconds"`
	FilesRPO          float64        `json:"files_rpo_seconds"`
	ObjectiveFilesRPO float64        `json:"objective_files_rpo_seconds"`
	Location          string         `json:"recovered_from_location"`
	DrillID           string         `json:"drill_id"`
	DrillRung         string         `json:"drill_rung"`
	DrillTarget       time.Time      `json:"drill_target"`
	Incident          string         `json:"incident_id"`
	Recovery          string         `json:"recovery_id"`
	Pack              string         `json:"evidence_pack"`
	Verified          bool           `json:"evidence_verified"`
	TamperNoticed     bool           `json:"tamper_noticed"`
	URL               string         `json:"url,omitempty"`
	Parts             holdfast.Parts `json:"rto_parts"`
	Missed            []string       `json:"missed,omitempty"`
}

// Limits of one run: what takes longer has failed.
const (
	protectWithin = 3 * time.Minute
	recoverWithin = 5 * time.Minute
	drillWithin   = 5 * time.Minute
	lookEvery     = 100 * time.Millisecond
)

// The objectives of the demo's plan.
const (
	objectiveRTO = "10m"
	objectiveRPO = "15s"
	folderRPO    = "1m"
	folderEvery  = "15s"
)

// A story is one run in progress.
type story struct {
	opt    Options
	say    *narrator
	dir    string
	w      app.Workspace
	plan   *plan.Plan
	world  *world
	server *app.Server
	app    *app.App
	api    *api.Client
	res    Result
	began  time.Time
	killed time.Time // the disaster
	moment time.Time // an instant of the past to which the drill goes
	rows   int       // acknowledged by then
}

// Run plays the story. Its error is an ErrMissed if all was done and something was
// not as promised.
func Run(ctx context.Context, opt Options) (res Result, err error) {
	if !slices.Contains([]string{"", "flip", "log"}, opt.Break) {
		return res, holdfast.WithHint(fmt.Errorf("there is no breakage %q: %w", opt.Break, holdfast.ErrUsage), "break flip or log")
	}
	if opt.Tell == nil {
		opt.Tell = io.Discard
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &story{opt: opt, say: &narrator{w: opt.Tell, began: time.Now()}, began: time.Now()}
	defer func() {
		if cerr := s.end(ctx, err); cerr != nil {
			err = errors.Join(err, cerr)
		}
		res = s.res // with what has moved at the end
	}()
	for _, chapter := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"A plan for a small company", s.prepare},
		{"A database and a folder, in use", s.live},
		{"Protect: base backup, log stream, snapshot, two locations", s.protect},
		{"Disaster: database, folder and the near location are gone", s.destroy},
		{"Recover: noticed, planned and carried out by itself", s.recover},
		{"Prove: a drill to an instant of the past", s.drill},
		{"Evidence: exported, verified, tampered with", s.evidence},
	} {
		s.say.chapter(chapter.title)
		if err := chapter.do(ctx); err != nil {
			return s.res, err
		}
	}
	s.judge()
	s.say.table(s.res)
	if opt.Keep {
		s.say.line("everything is still running; the page is at %s (Ctrl-C ends it)", s.server.URL())
		<-ctx.Done()
	}
	if len(s.res.Missed) > 0 {
		return s.res, fmt.Errorf("%w: %s", holdfast.ErrMissed, s.res.Missed[0])
	}
	return s.res, nil
}

// prepare makes the workspace and checks its plan.
func (s *story) prepare(ctx context.Context) error {
	if err := s.makeDir(); err != nil {
		return err
	}
	w, err := newWorld(ctx, s.dir)
	if err != nil {
		return err
	}
	s.world = w
	s.w, err = app.Init(filepath.Join(s.dir, "acme"), app.InitOptions{Values: plan.Values{
		ID: "acme", Organisation: "Acme SaaS", Near: filepath.Join(s.dir, "near"), Offsite: filepath.Join(s.dir, "offsite"),
		NearDomain: "this-host", OffsiteDomain: "other-building", DSN: w.dsn(), PasswordFile: w.passwordFile(), BinDir: w.binDir, Uploads: w.uploads(),
		RecoverDB: w.dataDir(), RecoverUploads: w.uploads(), RecoverPort: w.port, RTO: objectiveRTO, RPO: objectiveRPO, FolderRPO: folderRPO, FolderEvery: folderEvery,
		MaxLag: "5s", Confirm: "2s", InvariantSQL: "select count(*) from orders", InvariantExpect: "value > 0 && (last == null || value > 0)",
		Unattended: true, ProbeAPI: w.url("/api/healthz"), ProbeWeb: w.url("/web/healthz"),
	}})
	if err != nil {
		return err
	}
	if s.plan, err = plan.Load(s.w.Plan()); err != nil {
		return err
	}
	s.say.line("plan %s: %d services, %d stores, %d locations, %d keys", s.w.Plan(), len(s.plan.Services), len(s.plan.Stores), len(s.plan.Locations), len(s.plan.Keys))
	fs := plan.Check(s.plan, time.Now())
	for _, f := range fs {
		s.say.line("check: %s %s: %s: %s", f.Severity, f.Code, f.Subject, f.Message)
	}
	if len(fs) == 0 {
		s.say.line("check: nothing found")
	}
	if holdfast.AnyErrors(fs) {
		return errors.New("the demo's own plan has findings of severity error")
	}
	s.res.ObjectiveRTO, s.res.ObjectiveRPO = s.promise("api").RTO.Seconds(), s.promise("db").RPO.Seconds()
	s.res.ObjectiveFilesRPO = s.promise("uploads").RPO.Seconds()
	return nil
}

func (s *story) promise(node string) holdfast.Objective { return s.plan.Promise(node) }

func (s *story) makeDir() error {
	if s.opt.Dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-demo-")
		if err != nil {
			return err
		}
		s.dir = dir
		return os.Chmod(dir, 0o755) // the database runs as another user and walks through it
	}
	abs, err := filepath.Abs(s.opt.Dir)
	if err != nil {
		return err
	}
	es, err := os.ReadDir(abs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(es) > 0 {
		return holdfast.WithHint(fmt.Errorf("%s is not empty: %w", abs, holdfast.ErrRefused), "name an empty or absent directory")
	}
	s.dir = abs
	return os.MkdirAll(abs, 0o755)
}

// live starts the company: database, writer, folder, services.
func (s *story) live(ctx context.Context) error {
	if err := s.world.start(ctx); err != nil {
		return err
	}
	s.say.line("PostgreSQL %s on port %d as user %s; a writer commits numbered rows; %s changes", s.world.version(), s.world.port, s.world.account.User(), s.world.uploads())
	return s.world.wait(ctx, "the first rows and files", protectWithin, func() bool { r, f := s.world.acknowledged(); return len(r) > 20 && len(f) > 3 })
}

// protect starts the product and waits until both locations could bring all back.
func (s *story) protect(ctx context.Context) error {
	places := app.NewPlaces(s.plan)
	for name := range s.plan.Locations {
		if err := places.Init(ctx, name, time.Now()); err != nil {
			return err
		}
	}
	a, err := app.Open(ctx, app.Options{Workspace: s.w, Log: s.opt.Log})
	if err != nil {
		return err
	}
	s.app = a
	if s.server, err = a.Serve(ctx, app.Listen{Socket: true, Address: "127.0.0.1:0"}); err != nil {
		return err
	}
	s.res.URL = s.server.URL()
	s.api = api.NewClient(s.w.Socket())
	for _, store := range []string{"db", "uploads"} {
		if err := s.backup(ctx, store); err != nil {
			return err
		}
	}
	if err := s.world.wait(ctx, "the log to reach both locations", protectWithin, func() bool {
		p, err := s.api.Points(ctx, "db")
		n := 0
		for _, f := range p.Frontiers {
			if f.Err == "" && time.Since(f.CaughtUp) < 5*time.Second {
				n++
			}
		}
		return err == nil && n == len(s.plan.Locations)
	}); err != nil {
		return err
	}
	s.say.line("the log of db flows to both locations")
	if err := s.remember(ctx); err != nil {
		return err
	}
	return s.sabotage(ctx)
}

// backup takes one backup and waits for the vault's receipts from both locations.
func (s *story) backup(ctx context.Context, store string) error {
	asked, err := s.api.Backup(ctx, store, "first backup of the demo")
	if err != nil {
		return err
	}
	var last error
	err = s.world.wait(ctx, "the backup of "+store, protectWithin, func() bool {
		j, err := s.api.Job(ctx, asked.Job)
		if err != nil || j.State == "failed" {
			last = errors.Join(err, errors.New(j.Error))
			return true
		}
		p, err := s.api.Points(ctx, store)
		n := map[string]bool{}
		for _, c := range p.Copies {
			if !c.Received.IsZero() {
				n[c.Location] = true
			}
		}
		return err == nil && len(n) == len(s.plan.Locations)
	})
	if err = errors.Join(err, last); err != nil {
		return err
	}
	p, err := s.api.Points(ctx, store)
	if err != nil {
		return err
	}
	for _, c := range p.Copies {
		s.say.line("%s: snapshot %s complete at %q, receipt %s, %d files, %d bytes", store, c.Snapshot, c.Location, c.Received.UTC().Format("15:04:05.000Z"), c.Files, c.Bytes)
	}
	return nil
}

// remember picks the instant to which the drill will go: now, with what was
// acknowledged by now, after which life goes on for a while.
func (s *story) remember(ctx context.Context) error {
	rows, _ := s.world.acknowledged()
	s.moment, s.rows = time.Now(), len(rows)
	return s.world.wait(ctx, "life to go on", protectWithin, func() bool { r, _ := s.world.acknowledged(); return len(r) >= s.rows+50 })
}

// destroy loses the machine's data and the near location at once.
func (s *story) destroy(ctx context.Context) error {
	rows, files := s.world.acknowledged()
	s.say.line("%d rows and %d files are acknowledged; kill -9 …", len(rows), len(files))
	at, err := s.world.destroy(filepath.Join(s.dir, "near"))
	s.killed = at
	return err
}

// recover waits for what the product does by itself, and counts what came back.
func (s *story) recover(ctx context.Context) error {
	inc, err := s.incident(ctx)
	if err != nil {
		return err
	}
	run, err := s.run(ctx, inc.ID)
	if err != nil {
		return err
	}
	if err := s.world.count(ctx, s.killed, &s.res); err != nil {
		return err
	}
	usable := run.UsableAt("api")
	s.res.RTO = usable.Sub(s.killed).Seconds()
	s.res.Parts = run.Parts("api", inc.OccurredAt, inc.DetectedAt)
	for _, st := range run.Steps {
		if st.Kind == recovery.StepRestore && st.Store == "db" {
			s.res.Location = st.Location
		}
	}
	s.say.line("%d of %d acknowledged rows are back; api was usable %.1f s after the kill", s.res.RowsRecovered, s.res.RowsAcknowledged, s.res.RTO)
	s.say.line("in parts: %s", s.res.Parts)
	return s.close(ctx, inc.ID)
}

func (s *story) incident(ctx context.Context) (inc incident.Incident, err error) {
	err = s.world.wait(ctx, "the loss to be noticed", recoverWithin, func() bool {
		is, err := s.api.Incidents(ctx, true)
		if err == nil && len(is) > 0 {
			inc = is[len(is)-1]
		}
		return inc.ID != 0
	})
	if err == nil {
		s.res.Incident = inc.Name()
		s.say.line("noticed %.1f s after the kill: %s %s: %s", inc.DetectedAt.Sub(s.killed).Seconds(), inc.Name(), inc.Severity, inc.Title)
	}
	return inc, err
}

// run follows the recovery until its services are usable.
func (s *story) run(ctx context.Context, incidentID int64) (run recovery.Run, err error) {
	told := map[string]string{}
	var failed error
	err = s.world.wait(ctx, "the recovery", recoverWithin, func() bool {
		rs, err := s.api.Recoveries(ctx)
		if err != nil || len(rs) == 0 {
			return false
		}
		run = rs[0]
		if s.res.Recovery != run.ID {
			s.res.Recovery = run.ID
			s.say.line("plan activated: recovery %s, predicted %s", run.ID, holdfast.FormatDuration(run.Plan.Time))
			for _, n := range run.Plan.Notes {
				s.say.line("  %s", n)
			}
		}
		for _, st := range run.Steps {
			if st.State != told[st.ID] && (st.State == recovery.StateDone || st.State == recovery.StateFailed) {
				told[st.ID] = st.State
				s.say.line("  %-7s %s: %s", st.State, st.Title, st.Detail)
			}
			if st.State == recovery.StateFailed && failed == nil {
				failed = s.broken(fmt.Errorf("recovery: %s: %s", st.Title, st.Detail))
			}
		}
		return failed != nil || !run.UsableAt("api").IsZero() && !run.UsableAt("web").IsZero()
	})
	if err != nil {
		err = errors.Join(err, s.why(ctx, incidentID))
	}
	return run, errors.Join(failed, err)
}

// broken adds to a failure that it was asked for.
func (s *story) broken(err error) error {
	if s.opt.Break == "" {
		return holdfast.WithHint(err, "\"holdfast demo --verbose\" shows the server's log")
	}
	return holdfast.WithHint(err, "a part was broken on request (--break %s): without it the story ends well", s.opt.Break)
}

// why reads from the incident what kept a recovery from happening.
func (s *story) why(ctx context.Context, id int64) error {
	l, err := s.api.Incident(context.WithoutCancel(ctx), id)
	if err != nil || len(l.Events) == 0 {
		return err
	}
	return fmt.Errorf("the incident's log ends with: %s", l.Events[len(l.Events)-1].Text)
}

// close ends the incident: refused while backups do not run, then allowed.
func (s *story) close(ctx context.Context, id int64) error {
	outcome := "The machine was lost. Recovery worked from the other location. founder-b replaces the near location by Friday."
	inc, err := s.api.CloseIncident(ctx, id, "founder-a", outcome)
	if errors.Is(err, holdfast.ErrRefused) {
		s.say.line("the commander wants to close it: %v", err)
		err = s.world.wait(ctx, "backups to run again", protectWithin, func() bool {
			inc, err = s.api.CloseIncident(ctx, id, "founder-a", outcome)
			return err == nil || !errors.Is(err, holdfast.ErrRefused)
		})
	}
	if err != nil {
		return err
	}
	s.say.line("backups run again; %s was closed with its review", inc.Name())
	return nil
}

// drill goes back to the remembered instant, which is before the disaster.
func (s *story) drill(ctx context.Context) error {
	s.res.DrillTarget = s.moment.UTC()
	id, job, err := s.api.StartDrill(ctx, api.DrillRequest{Store: "db", By: "founder-b", Goal: holdfast.L6, Location: "offsite",
		Target: holdfast.Target{Kind: holdfast.TargetTime, Time: s.moment}})
	if err != nil {
		return err
	}
	if err := s.world.wait(ctx, "the drill", drillWithin, func() bool {
		j, err := s.api.Job(ctx, job)
		return err == nil && j.State.Finished()
	}); err != nil {
		return err
	}
	d, err := s.api.Drill(ctx, id)
	if err != nil {
		return err
	}
	defer func() { s.tellDrill(d) }()
	if d.Awaits() {
		answer := fmt.Sprint(d.Answers["data-is-there"])
		s.say.line("the machine's part is done at %s; at that instant %d rows were acknowledged, the drill found %s", d.Rung, s.rows, answer)
		if answer != fmt.Sprint(s.rows) && answer != fmt.Sprint(s.rows+1) { // one commit may have been on its way to the writer
			return fmt.Errorf("the drill went to %s and found %s rows; %d were acknowledged then", s.moment.UTC().Format(time.RFC3339Nano), answer, s.rows)
		}
		if d, err = s.api.ConfirmDrill(ctx, id, "founder-b", "the number of orders is what it was at that instant"); err != nil {
			return err
		}
	}
	s.res.DrillID, s.res.DrillRung = d.ID, d.Rung.String()
	return nil
}

func (s *story) tellDrill(d drill.Drill) {
	for _, c := range d.Checks {
		s.say.line("  %s %-10s %-8s %s: %s", c.Rung, c.Outcome, c.Grade, c.Name, c.Detail)
	}
	if d.Error != "" {
		s.say.line("  the drill failed: %s", d.Error)
	}
	s.say.line("reached %s of %s (%s) in %s", d.Rung, d.Goal, d.Rung.Proves(), holdfast.FormatDuration(d.Parts.Sum()))
}

// evidence exports a pack, verifies it, and sees that a removed fact is noticed.
func (s *story) evidence(ctx context.Context) error {
	b, err := s.api.Evidence(ctx, api.Export{From: s.began.Add(-time.Second), To: time.Now()})
	if err != nil {
		return err
	}
	trusted, err := app.ReadTrusted(s.w.Key(app.KeyTrusted))
	if err != nil {
		return err
	}
	s.res.Pack = filepath.Join(s.w.Evidence(), "demo.zip")
	if err := os.WriteFile(s.res.Pack, b, 0o644); err != nil {
		return err
	}
	rep, err := evidence.Verify(s.res.Pack, trusted)
	if err != nil {
		return err
	}
	s.res.Verified = rep.Authentic()
	s.say.line("%s: %d facts, verified: %t", s.res.Pack, rep.Facts, rep.Authentic())
	forged, what, err := removeFact(b)
	if err != nil {
		return err
	}
	bad := evidence.VerifyBytes(forged, trusted)
	s.res.TamperNoticed = !bad.Authentic()
	s.say.line("without fact %s: verified: %t", what, bad.Authentic())
	for i, f := range bad.Findings {
		if i == 2 {
			break
		}
		s.say.line("  %s %s: %s", f.Severity, f.Code, f.Message)
	}
	return nil
}

// judge compares what was measured with what was promised.
func (s *story) judge() {
	miss := func(bad bool, format string, args ...any) {
		if bad {
			s.res.Missed = append(s.res.Missed, fmt.Sprintf(format, args...))
		}
	}
	r := &s.res
	miss(r.RPO > r.ObjectiveRPO, "RPO: %.1f s of acknowledged rows were lost (%d rows), promised %.0f s", r.RPO, r.RowsLost, r.ObjectiveRPO)
	miss(r.FilesRPO > r.ObjectiveFilesRPO, "RPO: %.1f s of files were lost (%d files), promised %.0f s", r.FilesRPO, r.FilesLost, r.ObjectiveFilesRPO)
	miss(r.RTO > r.ObjectiveRTO, "RTO: usable after %.1f s, promised %.0f s", r.RTO, r.ObjectiveRTO)
	miss(r.DrillRung != holdfast.L6.String(), "drill: reached %s, wanted L6", r.DrillRung)
	miss(!r.Verified, "evidence: the pack does not verify")
	miss(!r.TamperNoticed, "evidence: a removed fact was not noticed")
}

// end stops everything that the story started. With an error that nobody asked for
// the directory stays, so that one can look; else only the evidence does.
func (s *story) end(ctx context.Context, err error) error {
	interrupted := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	if s.app != nil {
		errs = append(errs, s.app.Stop())
	}
	if s.world != nil {
		errs = append(errs, s.world.stop(ctx))
	}
	if s.opt.Dir == "" && s.dir != "" {
		if err != nil && !errors.Is(err, holdfast.ErrMissed) && s.opt.Break == "" && !interrupted {
			s.say.line("what is left to look at: %s", s.dir)
		} else {
			errs = append(errs, s.clear())
		}
	}
	return errors.Join(errs...)
}

// clear removes what the story made, except for what a person may want to verify
// afterwards: the evidence pack, and the public keys to do it with.
func (s *story) clear() error {
	if s.res.Pack == "" {
		return os.RemoveAll(s.dir)
	}
	kept := map[string]bool{"evidence.zip": true, "trusted.keys": true}
	pack, keys := filepath.Join(s.dir, "evidence.zip"), filepath.Join(s.dir, "trusted.keys")
	if err := errors.Join(os.Rename(s.res.Pack, pack), os.Rename(s.w.Key(app.KeyTrusted), keys)); err != nil {
		return errors.Join(err, os.RemoveAll(s.dir))
	}
	s.res.Pack = pack
	es, err := os.ReadDir(s.dir)
	errs := []error{err}
	for _, e := range es {
		if !kept[e.Name()] {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	s.say.line("all of it is gone again, except for the evidence: holdfast evidence verify %s --keys %s", pack, keys)
	return errors.Join(errs...)
}
