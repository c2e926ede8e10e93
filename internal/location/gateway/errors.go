package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"holdfast"
	"holdfast/internal/location"
)

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// explain says which object of which place, sorts the reason into the kinds that people
// act on differently, and adds what to do.
func (s *Store) explain(ctx context.Context, verb, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	what := fmt.Sprintf("location %q: %s", s.address, verb)
	if name != "" && verb != "put" { // who puts says what
		what += fmt.Sprintf(" %q", name)
	}
	kind := func(k error, hint string, args ...any) error {
		return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, k, err), hint, args...)
	}
	var body *location.BodyError
	var op *net.OpError
	switch {
	case errors.As(err, &body), errors.Is(err, location.ErrSize), errors.Is(err, location.ErrName), errors.Is(err, errRange), errors.Is(err, errCut):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, location.ErrWeak):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "nothing was sent. A gateway of Holdfast speaks TLS 1.3: does something else listen there, or stand between?")
	case errors.Is(err, errRole):
		return kind(location.ErrDenied, "the identity file is of a %s; \"holdfast gateway enroll\" on the gateway's machine makes one of another role", s.role)
	case errors.Is(err, errRevoked):
		return kind(location.ErrDenied, "if this machine is to go on, enroll it anew on the gateway's machine: \"holdfast gateway enroll\"")
	case errors.Is(err, errBudget):
		return kind(location.ErrFull, "it begins anew at midnight UTC; a first backup may need a larger --budget for a day")
	case errors.Is(err, location.ErrUnreachable):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "is the disk mounted on the gateway's machine? if this is a new place, initialise it first, with the vault's identity")
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w", what, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case errors.Is(err, location.ErrFull), errors.Is(err, location.ErrReadOnly), errors.Is(err, location.ErrLocked), errors.Is(err, location.ErrDenied), errors.Is(err, location.ErrOverwrites):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "it is the place behind the gateway; the gateway's log says more")
	}
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return kind(location.ErrDenied, "the server there is not the gateway that enrolled this machine (%s): do not go on before you know why", unknown.Cert.Subject.CommonName)
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return kind(location.ErrDenied, "the gateway was made for other names than %q: \"holdfast gateway init\" takes --host for each", host.Host)
	}
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return kind(location.ErrDenied, "the gateway does not know this certificate, or it has ended: enroll anew")
	case errors.As(err, &op):
		return kind(location.ErrUnreachable, "can this machine reach it, and does \"holdfast gateway serve\" run there?")
	}
	return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "the gateway's log says more")
}
