// Package foreign speaks with programs that know what somebody else protects: a
// managed database with recovery to an instant, a hosted repository, another tool.
//
// Such a program is called an adapter. It is one process for each call, with one
// request on its standard input and events, a JSON object a line, on its standard
// output; docs/format/adapter.md is the contract.
//
// # Invariants
//
//   - Only the result event says how a call ended. An exit status is not looked at,
//     and a call without a result has failed.
//   - What an adapter says is bounded in time, in bytes and in number, and a list that
//     was cut off is an error, never a short list.
//   - A secret goes to an adapter in a file of its scratch folder, and what it says
//     is searched for it before anybody else sees it.
//   - There is no verb that deletes a supplier's copies, or makes one.
//
// # What it does not do
//
// It believes no more than that the words are well formed. How old a point is, and
// whether what was restored is what was promised, the caller finds out by itself.
package foreign

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"holdfast"
)

// Protocol is the version of the contract that is spoken here.
const Protocol = "holdfast-adapter/1"

// Bounds of a call. Times are from the start of the process to its end.
const (
	describeWithin = 10 * time.Second
	listWithin     = 2 * time.Minute
	cleanupWithin  = 30 * time.Minute
	RestoreWithin  = 6 * time.Hour // where the plan says nothing

	MaxPoints  = 10_000
	maxLine    = 1 << 20
	maxOutput  = 16 << 20
	maxSaid    = 4 << 10 // of standard error, and of each text of a result
	maxSecrets = 32
	maxSecret  = 64 << 10 // bytes in one

	// ahead is how far a supplier's clock may run ahead of ours.
	ahead = 5 * time.Minute
)

// Verbs of the contract.
const (
	VerbDescribe = "describe"
	VerbList     = "list"
	VerbRestore  = "restore"
	VerbCleanup  = "cleanup"
)

// A Box is where an adapter runs: unprivileged, with the network, in a scratch folder
// that is gone with it. One box is for one call, or for a restore and its cleanup.
type Box interface {
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
	Dir() string
	Own(path string) error
}

// An Adapter is a program and what it may know.
type Adapter struct {
	Argv    []string          // the program, absolute or found in the sandbox's PATH, and its first arguments
	Store   string            // id in the plan
	Kind    string            // kind of store in the plan
	Secrets map[string]string // by the name of the file
	Clock   func() time.Time
}

// A Point is what a supplier says that it can give back.
type Point struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	From      time.Time `json:"from,omitzero"`
	Until     time.Time `json:"until"`
	Observed  time.Time `json:"observed,omitzero"`
	Bytes     int64     `json:"bytes,omitempty"`
	Encrypted *bool     `json:"encrypted,omitempty"`
	Location  string    `json:"location,omitempty"`
}

// Kinds of point.
const (
	Continuous = "continuous" // every instant from From to Until
	Snapshot   = "snapshot"   // Until alone
)

// A Description is what an adapter says of itself.
type Description struct {
	Protocol string   `json:"protocol"`
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Verbs    []string `json:"verbs"`
	Secrets  []string `json:"secrets,omitempty"`
	Effects  []string `json:"effects,omitempty"`
}

// A Restored is what an adapter says came back.
type Restored struct {
	Handle       string    `json:"handle,omitempty"`
	Reached      time.Time `json:"reached,omitzero"`
	Files        int64     `json:"files,omitempty"`
	Bytes        int64     `json:"bytes,omitempty"`
	DSN          string    `json:"dsn,omitempty"`
	PasswordFile string    `json:"password_file,omitempty"`
}

// request is what an adapter is told.
type request struct {
	Protocol string    `json:"protocol"`
	Store    string    `json:"store,omitempty"`
	Kind     string    `json:"kind,omitempty"`
	Point    string    `json:"point,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Dir      string    `json:"dir,omitempty"`
	Handle   string    `json:"handle,omitempty"`
}

func (a *Adapter) request() request {
	return request{Protocol: Protocol, Store: a.Store, Kind: a.Kind}
}

// Describe asks an adapter what it is.
func (a *Adapter) Describe(ctx context.Context, box Box) (Description, error) {
	var d Description
	err := a.call(ctx, box, VerbDescribe, describeWithin, a.request(), nil, &d)
	switch {
	case err != nil:
	case d.Protocol != Protocol:
		err = a.breach(VerbDescribe, "it speaks %q, and %q is spoken here", bounded(d.Protocol), Protocol)
	case d.Name == "" || d.Version == "":
		err = a.breach(VerbDescribe, "it says neither name nor version")
	case !slices.Contains(d.Verbs, VerbList):
		err = a.breach(VerbDescribe, "it cannot list recovery points")
	}
	return d, err
}

// List asks which recovery points there are, the oldest first. None is an answer, too.
func (a *Adapter) List(ctx context.Context, box Box) ([]Point, error) {
	var out []Point
	seen := map[string]bool{}
	var end struct {
		Points *int `json:"points"`
	}
	err := a.call(ctx, box, VerbList, listWithin, a.request(), func(kind string, line []byte) error {
		if kind != "point" {
			return fmt.Errorf("events of type %q have no place in a list", bounded(kind))
		}
		var p Point
		if err := json.Unmarshal(line, &p); err != nil {
			return err
		}
		if err := p.check(a.Clock()); err != nil {
			return err
		}
		if seen[p.ID] {
			return fmt.Errorf("point %q is there twice", p.ID)
		}
		if len(out) == MaxPoints {
			return fmt.Errorf("more than %d points", MaxPoints)
		}
		seen[p.ID] = true
		out = append(out, p)
		return nil
	}, &end)
	if err != nil {
		return nil, err
	}
	if end.Points == nil || *end.Points != len(out) {
		return nil, a.breach(VerbList, "it sent %d points, and its result does not say so: the list may be cut off", len(out))
	}
	slices.SortStableFunc(out, func(x, y Point) int { return x.Until.Compare(y.Until) })
	return out, nil
}

// check refuses what cannot be true.
func (p Point) check(now time.Time) error {
	switch {
	case p.ID == "" || len(p.ID) > 512:
		return fmt.Errorf("a point has no name, or one of more than 512 bytes")
	case p.Kind != Continuous && p.Kind != Snapshot:
		return fmt.Errorf("point %q is of kind %q, neither %q nor %q", p.ID, bounded(p.Kind), Continuous, Snapshot)
	case p.Until.IsZero() || p.Kind == Continuous && p.From.IsZero():
		return fmt.Errorf("point %q does not say from when until when it reaches", p.ID)
	case p.From.After(p.Until):
		return fmt.Errorf("point %q ends before it begins", p.ID)
	case p.Until.After(now.Add(ahead)):
		return fmt.Errorf("point %q reaches to %s, which is in the future", p.ID, p.Until.UTC().Format(time.RFC3339))
	case p.Bytes < 0:
		return fmt.Errorf("point %q has %d bytes", p.ID, p.Bytes)
	}
	return nil
}

// Fits reports whether a point gives the instant back.
func (p Point) Fits(at time.Time) bool {
	if p.Kind == Snapshot {
		return p.Until.Equal(at)
	}
	return !at.Before(p.From) && !at.After(p.Until)
}

// Restore asks for a point, or for an instant of it. within bounds the call; 0 is
// [RestoreWithin]. Whatever comes of it, [Adapter.Cleanup] must follow in the same box,
// with the handle if there is one: the adapter may have made something that costs.
func (a *Adapter) Restore(ctx context.Context, box Box, p Point, at time.Time, within time.Duration, progress func(holdfast.Progress)) (Restored, error) {
	var r Restored
	if within <= 0 {
		within = RestoreWithin
	}
	req := a.request()
	req.Point, req.Dir = p.ID, a.dir(box)
	if p.Kind == Continuous {
		req.At = at.UTC()
	}
	if err := makeOwned(box, req.Dir); err != nil {
		return r, a.fail(VerbRestore, err)
	}
	err := a.call(ctx, box, VerbRestore, within, req, nil, &r, progress)
	switch {
	case err != nil:
	case r.Files < 0 || r.Bytes < 0 || len(r.Handle) > maxSaid || len(r.DSN) > maxSaid:
		err = a.breach(VerbRestore, "its result has numbers below zero or texts of more than %d bytes", maxSaid)
	case r.PasswordFile != "" && !plainName.MatchString(r.PasswordFile):
		err = a.breach(VerbRestore, "password_file %q is not the name of a file in dir", bounded(r.PasswordFile))
	case r.DSN == "" && r.Files == 0:
		err = a.breach(VerbRestore, "it says that it is done, and names neither an engine nor a file that came back")
	}
	return r, err
}

// Cleanup ends what a restore made. It may be asked twice.
func (a *Adapter) Cleanup(ctx context.Context, box Box, handle string) error {
	req := a.request()
	req.Handle = handle
	return a.call(ctx, box, VerbCleanup, cleanupWithin, req, nil, nil)
}

// dir is where an adapter puts files.
func (a *Adapter) dir(box Box) string { return filepath.Join(box.Dir(), "restored") }

// plainName is a file's name that leads nowhere else.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)

// makeOwned makes a folder that belongs to the account of the box.
func makeOwned(box Box, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return box.Own(path)
}

// Password reads the password that an adapter left beside what it restored.
func (a *Adapter) Password(box Box, r Restored) (string, error) {
	if r.PasswordFile == "" {
		return "", nil
	}
	b, err := readBounded(filepath.Join(a.dir(box), r.PasswordFile))
	if err != nil {
		return "", a.fail(VerbRestore, fmt.Errorf("password_file: %w", err))
	}
	return b, nil
}

// Count says what lies in the folder to which files were restored. Links are counted
// and not followed.
func (a *Adapter) Count(box Box) (files, bytes int64, newest time.Time, err error) {
	err = filepath.WalkDir(a.dir(box), func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		if info.Mode().IsRegular() {
			bytes += info.Size()
			if info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
		return nil
	})
	return files, bytes, newest, err
}
