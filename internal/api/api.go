// Package api is the product's face for machines: JSON over HTTP with a published
// schema. The command line and the web page have no other way in.
//
// A handler parses, calls one method of a module, and answers. What an operation
// means is said by the module. Errors are problem documents (RFC 9457) with two
// fields more: the hint, and the exit status that a command ends with.
//
// Every operation names the action of package access that it is: one that names none
// does not compile, and who may not do it gets a refusal that is recorded. Where a
// request names whose word something is, a person who is logged in speaks for nobody
// else.
package api

import (
	"context"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"holdfast"
	"holdfast/internal/access"
	"holdfast/internal/backup"
	"holdfast/internal/drill"
	"holdfast/internal/incident"
	"holdfast/internal/job"
	"holdfast/internal/message"
	"holdfast/internal/objective"
	"holdfast/internal/oncall"
	"holdfast/internal/recovery"
)

// Points is what is known of a store's recovery points.
type Points struct {
	Store     string            `json:"store"`
	Windows   []holdfast.Window `json:"windows"`
	Copies    []backup.Copy     `json:"copies"`
	Frontiers []backup.Frontier `json:"frontiers"`
	Away      map[string]string `json:"away,omitempty"` // locations that could not be asked, and why
}

// An IncidentLog is an incident with its log.
type IncidentLog struct {
	Incident incident.Incident `json:"incident"`
	Events   []incident.Event  `json:"events"`
}

// Export asks for an evidence pack.
type Export struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Framework string    `json:"framework,omitempty" required:"false"`
}

// A Core is what the API stands on: the running product.
type Core interface {
	Overview(ctx context.Context) (objective.Overview, error)
	Simulate(ctx context.Context, r Simulation) (objective.Simulation, error)
	Enumerate(ctx context.Context, at time.Time) (objective.Enumeration, error)
	Explain(ctx context.Context, selector string) (objective.Explanation, error)
	Objectives(ctx context.Context) ([]objective.Declared, error)
	Controls(ctx context.Context) ([]objective.ControlState, error)
	Points(ctx context.Context, store string) (Points, error)
	Coverage(ctx context.Context, from, to time.Time) (drill.Coverage, error)
	Backup(ctx context.Context, store, reason string) (Asked, error)
	Evidence(ctx context.Context, e Export) (pack []byte, err error)
}

// A Simulation asks what would happen if some things were lost.
type Simulation struct {
	Lose     []string  `json:"lose" doc:"what is lost: region:eu-1, person:anna, ..." maxItems:"100" required:"false"`
	Scenario string    `json:"scenario,omitempty" doc:"a scenario of the plan: what it loses, and the objectives that hold then"`
	At       time.Time `json:"at,omitzero" doc:"the instant of the loss; now without it" required:"false"`
	Runs     int       `json:"runs,omitempty" doc:"how often chance is played" minimum:"0" maximum:"100000"`
	Seed     uint64    `json:"seed,omitempty" doc:"of the chance"`
}

// People is what a person may do to what runs. by is the person.
type People interface {
	ConfirmDrill(ctx context.Context, id, by, note string) (drill.Drill, error)
	ConfirmStep(ctx context.Context, run, step, by, note string) (recovery.Run, error)
	CloseIncident(ctx context.Context, id int64, by, outcome string) (incident.Incident, error)
	Recover(ctx context.Context, incident int64, by, reason string) (jobID int64, err error)
}

// Config is what the handler calls.
type Config struct {
	Access     *access.Module
	Core       Core
	People     People
	Custody    Custody
	Offline    Offline
	Kit        RecoveryKit
	Jobs       *job.Engine
	Drills     *drill.Module
	Incidents  *incident.Module
	Recoveries *recovery.Module
	Vault      Vault
	Governance Governance
	WritesBack WritesBack
	Messages   *message.Module
	Calls      *oncall.Module
	Callers    Callers
	Runner     Runner
	Reporter   Reporter
}

type body[T any] struct{ Body T }

// Asked is a piece of work that was asked for.
type Asked struct {
	Job int64 `json:"job"`
	// After is the number of attempts that the job had before: it may have been
	// waiting to try again, and how those ended is no answer to this request.
	After int    `json:"after"`
	Drill string `json:"drill,omitempty"`
}

type byID[T any] struct {
	ID T `path:"id"`
}

type word struct {
	By   string `json:"by" doc:"who says so: a person of the plan; a person who is logged in may leave it out" required:"false" maxLength:"200"`
	Note string `json:"note" doc:"what they say" maxLength:"4000" required:"false"`
}

// MaxBody bounds every request.
const MaxBody = 1 << 20

// New returns the handler. The schema is at /api/openapi.json.
func New(cfg Config) http.Handler {
	mux, _ := build(cfg)
	return http.MaxBytesHandler(ours(mux), MaxBody)
}

func build(cfg Config) (*http.ServeMux, huma.API) {
	problems()
	mux := http.NewServeMux()
	hc := huma.DefaultConfig("Holdfast", holdfast.Version)
	hc.OpenAPIPath, hc.DocsPath, hc.SchemasPath = "/api/openapi", "", "/api/schemas"
	hc.CreateHooks = nil // no $schema links in bodies: clients compare them
	hc.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	a := humago.New(mux, hc)
	a.UseMiddleware(gate(cfg.Access))
	readOnly(a, cfg)
	acts(a, cfg)
	custody(a, cfg.Custody)
	offline(a, cfg.Offline)
	recoveryKit(a, cfg.Kit)
	vaultOperations(a, cfg)
	governance(a, cfg.Governance)
	undoOperations(a, cfg.WritesBack)
	people(a, cfg.Access)
	messages(a, cfg)
	runs(a, cfg.Runner)
	reports(a, cfg.Reporter)
	return mux, a
}

// schemaName names a schema after its package too: an outcome of a check and one of
// a recovery step are different things.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if pkg := path.Base(t.PkgPath()); t.Name() != "" && pkg != "." && pkg != "api" {
		return strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	return name
}

func readOnly(a huma.API, cfg Config) {
	get(a, access.View, "overview", "/api/v1/overview", "What would be lost now, and how long it would take", func(ctx context.Context, _ *struct{}) (*body[objective.Overview], error) {
		return answer(cfg.Core.Overview(ctx))
	})
	get(a, access.View, "objectives", "/api/v1/objectives", "Every RTO and RPO that the plan declares, and how each stands", func(ctx context.Context, _ *struct{}) (*body[[]objective.Declared], error) {
		return answer(cfg.Core.Objectives(ctx))
	})
	get(a, access.View, "controls", "/api/v1/controls", "What stands for each clause of each framework, and its posture", func(ctx context.Context, _ *struct{}) (*body[[]objective.ControlState], error) {
		return answer(cfg.Core.Controls(ctx))
	})
	get(a, access.View, "explain", "/api/v1/explanations", "Why a value, a verdict or an order is what it is", func(ctx context.Context, in *struct {
		Of string `query:"of" doc:"services.api.rto, stores.db.rpo, or a finding: HF-L2 stores.db" required:"true" maxLength:"300"`
	}) (*body[objective.Explanation], error) {
		return answer(cfg.Core.Explain(ctx, in.Of))
	})
	post(a, access.View, "simulate", "/api/v1/simulations", "What would happen if some things were lost", func(ctx context.Context, in *struct{ Body Simulation }) (*body[objective.Simulation], error) {
		return answer(cfg.Core.Simulate(ctx, in.Body))
	})
	get(a, access.View, "simulations", "/api/v1/simulations", "What every single loss and every pair of losses would do", func(ctx context.Context, in *struct {
		At time.Time `query:"at" doc:"the instant of the loss; now without it"`
	}) (*body[objective.Enumeration], error) {
		return answer(cfg.Core.Enumerate(ctx, in.At))
	})
	get(a, access.View, "points", "/api/v1/stores/{id}/points", "Recovery points of a store", func(ctx context.Context, in *byID[string]) (*body[Points], error) {
		return answer(cfg.Core.Points(ctx, in.ID))
	})
	get(a, access.View, "job", "/api/v1/jobs/{id}", "A piece of work", func(ctx context.Context, in *byID[int64]) (*body[job.Job], error) {
		return answer(cfg.Jobs.Get(ctx, in.ID))
	})
	get(a, access.View, "drills", "/api/v1/drills", "Drills, newest first", func(ctx context.Context, in *struct {
		Store string `query:"store"`
	}) (*body[[]drill.Drill], error) {
		return answer(cfg.Drills.List(ctx, in.Store))
	})
	get(a, access.View, "coverage", "/api/v1/coverage", "Which locations, kinds and ages restore tests reached in a period", func(ctx context.Context, in *struct {
		From time.Time `query:"from" doc:"the quarter of now without it"`
		To   time.Time `query:"to" doc:"its end, which is not in it"`
	}) (*body[drill.Coverage], error) {
		return answer(cfg.Core.Coverage(ctx, in.From, in.To))
	})
	get(a, access.View, "drill", "/api/v1/drills/{id}", "One drill", func(ctx context.Context, in *byID[string]) (*body[drill.Drill], error) {
		return answer(cfg.Drills.Get(ctx, in.ID))
	})
	get(a, access.View, "incidents", "/api/v1/incidents", "Incidents, newest first", func(ctx context.Context, in *struct {
		Open bool `query:"open"`
	}) (*body[[]incident.Incident], error) {
		return answer(cfg.Incidents.List(ctx, in.Open))
	})
	get(a, access.View, "incident", "/api/v1/incidents/{id}", "One incident with its log", func(ctx context.Context, in *byID[int64]) (*body[IncidentLog], error) {
		inc, err := cfg.Incidents.Get(ctx, in.ID)
		if err != nil {
			return nil, problem(err)
		}
		events, err := cfg.Incidents.Events(ctx, in.ID)
		return answer(IncidentLog{inc, events}, err)
	})
	get(a, access.View, "recoveries", "/api/v1/recoveries", "Recoveries, newest first", func(ctx context.Context, _ *struct{}) (*body[[]recovery.Run], error) {
		return answer(cfg.Recoveries.List(ctx))
	})
	get(a, access.View, "recovery", "/api/v1/recoveries/{id}", "One recovery with its steps", func(ctx context.Context, in *byID[string]) (*body[recovery.Run], error) {
		return answer(cfg.Recoveries.Get(ctx, in.ID))
	})
}

func acts(a huma.API, cfg Config) {
	post(a, access.Run, "backup", "/api/v1/stores/{id}/backups", "Back a store up now", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body struct {
			Reason string `json:"reason" maxLength:"1000" required:"false"`
		}
	}) (*body[Asked], error) {
		return answer(cfg.Core.Backup(ctx, in.ID, in.Body.Reason))
	})
	post(a, access.Run, "start-drill", "/api/v1/drills", "Start a drill", func(ctx context.Context, in *body[DrillRequest]) (*body[Asked], error) {
		d, id, err := cfg.Drills.Start(ctx, in.Body.request())
		return answer(Asked{Job: id, Drill: d.ID}, err)
	})
	post(a, access.Respond, "confirm-drill", "/api/v1/drills/{id}/confirm", "The owner confirms a drill", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Body word
	}) (*body[drill.Drill], error) {
		return answer(cfg.People.ConfirmDrill(ctx, in.ID, in.Body.By, in.Body.Note))
	})
	post(a, access.Respond, "close-incident", "/api/v1/incidents/{id}/close", "End an incident with its review", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body word
	}) (*body[incident.Incident], error) {
		return answer(cfg.People.CloseIncident(ctx, in.ID, in.Body.By, in.Body.Note))
	})
	post(a, access.Restore, "recover", "/api/v1/incidents/{id}/recover", "A person activates the recovery of an incident", func(ctx context.Context, in *struct {
		ID   int64 `path:"id"`
		Body word
	}) (*body[Asked], error) {
		id, err := cfg.People.Recover(ctx, in.ID, in.Body.By, in.Body.Note)
		return answer(Asked{Job: id}, err)
	})
	post(a, access.Respond, "confirm-step", "/api/v1/recoveries/{id}/steps/{step}/confirm", "A person did a step", func(ctx context.Context, in *struct {
		ID   string `path:"id"`
		Step string `path:"step"`
		Body word
	}) (*body[recovery.Run], error) {
		return answer(cfg.People.ConfirmStep(ctx, in.ID, in.Step, in.Body.By, in.Body.Note))
	})
	op := operation(access.Export, http.MethodPost, "evidence", "/api/v1/evidence", "Export an evidence pack (zip)")
	op.Responses = map[string]*huma.Response{"200": {Description: "The pack", Content: map[string]*huma.MediaType{"application/zip": {}}}}
	huma.Register(a, op,
		func(ctx context.Context, in *body[Export]) (*huma.StreamResponse, error) {
			pack, err := cfg.Core.Evidence(ctx, in.Body)
			if err != nil {
				return nil, problem(err)
			}
			return &huma.StreamResponse{Body: func(c huma.Context) {
				c.SetHeader("Content-Type", "application/zip")
				_, _ = c.BodyWriter().Write(pack) // the reader went away: it has no pack and knows
			}}, nil
		})
}

// DrillRequest asks for a drill; what is left out is drawn.
type DrillRequest struct {
	Name     string          `json:"name,omitempty" required:"false"`
	Store    string          `json:"store"`
	By       string          `json:"by,omitempty" required:"false"`
	Goal     holdfast.Rung   `json:"goal" minimum:"0" maximum:"6"`
	Pick     string          `json:"pick,omitempty" required:"false" enum:"random,latest,oldest"`
	Location string          `json:"location,omitempty" required:"false"`
	Target   holdfast.Target `json:"target,omitzero" required:"false"`
}

func (r DrillRequest) request() drill.Request {
	by := r.By
	if by == "" {
		by = "operator"
	}
	return drill.Request{Name: r.Name, Store: r.Store, By: by, Reason: "asked for", Goal: r.Goal, Pick: r.Pick, Location: r.Location, Target: r.Target}
}

func get[I, O any](a huma.API, act access.Action, id, path, summary string, h func(context.Context, *I) (*O, error)) {
	huma.Register(a, operation(act, http.MethodGet, id, path, summary), h)
}

func post[I, O any](a huma.API, act access.Action, id, path, summary string, h func(context.Context, *I) (*O, error)) {
	huma.Register(a, operation(act, http.MethodPost, id, path, summary), func(ctx context.Context, in *I) (*O, error) {
		if err := settleBy(ctx, in); err != nil {
			return nil, problem(err)
		}
		return h(ctx, in)
	})
}

// settleBy lets the field By of a request, where there is one, name who is logged in:
// nobody speaks for somebody else, in no operation.
func settleBy(ctx context.Context, in any) error {
	body := reflect.ValueOf(in).Elem().FieldByName("Body")
	if !body.IsValid() || body.Kind() != reflect.Struct {
		return nil
	}
	f := body.FieldByName("By")
	if !f.IsValid() || f.Kind() != reflect.String {
		return nil
	}
	by, err := access.By(ctx, f.String())
	if err == nil {
		f.SetString(by)
	}
	return err
}

func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, problem(err)
	}
	return &body[T]{v}, nil
}
