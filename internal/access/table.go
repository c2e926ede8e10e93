package access

import (
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// An Action is one kind of thing that people and programs do. Every route of the API
// and of the pages names exactly one.
type Action string

// The actions.
const (
	View      Action = "view"      // see what is protected, drills, incidents, recoveries
	Document  Action = "document"  // read the plan as a document
	Run       Action = "run"       // start backups, drills, reading back, repairs
	Respond   Action = "respond"   // confirm drills and steps, end incidents
	Restore   Action = "restore"   // start a recovery; see what restored or damaged data holds
	Configure Action = "configure" // change what is asked of key holders, settings
	Delete    Action = "delete"    // delete backups that may go
	Approve   Action = "approve"   // sign, reject or review what others ask for
	Export    Action = "export"    // take evidence away
	Audit     Action = "audit"     // read who may do what, and who did what
	People    Action = "people"    // invite people, end their access, give tokens
	Self      Action = "self"      // one's own account: everybody who is logged in
)

// Actions lists the actions that roles allow, in the order in which they are shown.
var Actions = []Action{View, Document, Run, Respond, Restore, Configure, Delete, Approve, Export, Audit, People, Self}

// A Role is what somebody is for. A person may hold several.
type Role string

// The roles.
const (
	Viewer        Role = "viewer"
	Operator      Role = "operator"
	Responder     Role = "responder"
	Approver      Role = "approver"
	Administrator Role = "administrator"
	Auditor       Role = "auditor"
)

// Roles lists the roles, in the order in which they are shown.
var Roles = []Role{Viewer, Operator, Responder, Approver, Administrator, Auditor}

// table is the whole of who may do what. Nothing else decides.
//
// An administrator cannot restore: who runs the machine has no business in what the
// data says, unless an emergency grant says why, for how long, and who agreed.
var table = map[Role][]Action{
	Viewer:        {View, Self},
	Operator:      {View, Document, Run, Configure, Self},
	Responder:     {View, Document, Run, Respond, Restore, Self},
	Approver:      {View, Document, Approve, Self},
	Administrator: {View, Document, Run, Configure, Delete, Audit, People, Self},
	Auditor:       {View, Document, Export, Audit, Self},
}

// Allows reports whether a role allows an action.
func (r Role) Allows(a Action) bool { return slices.Contains(table[r], a) }

// ParseRoles reads roles that are separated by commas.
func ParseRoles(texts ...string) ([]Role, error) {
	var out []Role
	for _, t := range texts {
		for _, s := range strings.Split(t, ",") {
			r := Role(strings.TrimSpace(s))
			if _, ok := table[r]; !ok {
				return nil, holdfast.WithHint(fmt.Errorf("role %q does not exist: %w", r, holdfast.ErrUsage), "the roles are %s", join(Roles))
			}
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	if len(out) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("no role is named: %w", holdfast.ErrUsage), "the roles are %s", join(Roles))
	}
	return out, nil
}

// ParseActions reads actions that are separated by commas.
func ParseActions(texts ...string) ([]Action, error) {
	var out []Action
	for _, t := range texts {
		for _, s := range strings.Split(t, ",") {
			a := Action(strings.TrimSpace(s))
			if !slices.Contains(Actions, a) {
				return nil, holdfast.WithHint(fmt.Errorf("action %q does not exist: %w", a, holdfast.ErrUsage), "the actions are %s", join(Actions))
			}
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

func join[T ~string](xs []T) string {
	var out []string
	for _, x := range xs {
		out = append(out, string(x))
	}
	return strings.Join(out, ", ")
}
