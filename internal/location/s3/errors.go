package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"

	"holdfast"
	"holdfast/internal/location"
)

func answer(err error) (minio.ErrorResponse, bool) {
	var e minio.ErrorResponse
	ok := errors.As(err, &e)
	return e, ok
}

// absent reports that the server knows no such object. A bucket that is not there is
// something else: nobody knows then what is stored.
func absent(err error) bool {
	e, ok := answer(err)
	return ok && e.Code != minio.NoSuchBucket && (e.StatusCode == http.StatusNotFound || e.Code == minio.NoSuchKey)
}

// exists reports that a conditional put met an object.
func exists(err error) bool {
	e, ok := answer(err)
	return ok && (e.StatusCode == http.StatusPreconditionFailed || e.Code == "PreconditionFailed")
}

// refused reports that the same request would be answered in the same way again, and
// that it took no effect.
func refused(err error) bool {
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errCredentials), errors.As(err, &cert), errors.Is(err, fs.ErrInvalid), errors.Is(err, location.ErrWeak):
		return true
	}
	e, ok := answer(err)
	if !ok {
		return false
	}
	switch e.StatusCode {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return false // a conflict is two writers at the same moment; the next answer is a plain one
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return true
	}
	return e.StatusCode >= 400 && e.StatusCode < 500
}

// wants5 reports that the server locks only what comes with its MD5.
func wants5(err error) bool {
	e, ok := answer(err)
	return ok && e.StatusCode == http.StatusBadRequest && strings.Contains(strings.ToLower(e.Message), "content-md5")
}

var (
	fullCodes = []string{"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull", "InsufficientStorage", "InsufficientCapacity",
		"NoSpaceLeft", "StorageQuotaExceeded", "OverQuota", "UserQuotaExceeded"}
	keyCodes = []string{"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "ExpiredTokenException", "TokenRefreshRequired",
		"AuthorizationHeaderMalformed"}
)

// explain says which object of which place, sorts the reason into the kinds that
// people act on differently, and adds what to do. No secret is in it.
func (s *Store) explain(verb, name string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	what := fmt.Sprintf("location %q: %s", s.String(), verb)
	if name != "" {
		what += fmt.Sprintf(" %q", name)
	}
	kind := func(k error, cause error, hint string, args ...any) error {
		return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, k, cause), hint, args...)
	}
	var body *location.BodyError
	var ca *caError
	var cert *tls.CertificateVerificationError
	var unknownCA x509.UnknownAuthorityError
	e, answered := answer(err)
	switch {
	case errors.As(err, &body), errors.Is(err, location.ErrSize), errors.Is(err, location.ErrName):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, fs.ErrExist), answered && exists(err):
		return fmt.Errorf("%s: %w", what, fs.ErrExist)
	case errors.Is(err, location.ErrOverwrites):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "update the object store, or use another: without conditional puts two writers can destroy each other's backups")
	case errors.Is(err, location.ErrWeak):
		if holdfast.Hint(err) != "" {
			return err
		}
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, cause(err)), "%s", location.WeakHint)
	case errors.Is(err, location.ErrUnreachable):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "are bucket and prefix right? if this is a new place, initialise it first")
	case errors.Is(err, errCredentials):
		if holdfast.Hint(err) != "" {
			return fmt.Errorf("%s: %w", what, err)
		}
		return holdfast.WithHint(fmt.Errorf("%s: %w: %w", what, location.ErrDenied, err), "%s", credentialsHint)
	case errors.As(err, &ca):
		return holdfast.WithHint(fmt.Errorf("%s: %w", what, err), "\"ca_file\" of the plan names a PEM file with the certificates of the authority")
	case errors.As(err, &unknownCA):
		return kind(location.ErrUnreachable, cause(err), "the server's certificate is signed by an authority that is not known here: name its certificate by \"ca_file\", if it is yours")
	case errors.As(err, &cert):
		return kind(location.ErrUnreachable, cause(err), "the server's certificate is not for this address or not valid now; do not go on before you know why")
	case errors.Is(err, errStalled):
		return kind(location.ErrUnreachable, err, "the place took the connection and did not answer; try again, then ask its operator")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, fs.ErrInvalid):
		return fmt.Errorf("%s: %w", what, err)
	case !answered:
		return kind(location.ErrUnreachable, cause(err), "can this machine reach %s? look at the network, the name and the port", s.cfg.Endpoint)
	}
	said := fmt.Errorf("%s (%s, status %d)", strings.TrimSuffix(e.Message, "."), e.Code, e.StatusCode)
	switch {
	case e.Code == minio.NoSuchBucket:
		return kind(location.ErrUnreachable, said, "create the bucket %q, with object lock and versioning if it shall be immutable, or correct its name", s.cfg.Bucket)
	case absent(err):
		return fmt.Errorf("%s: %w", what, fs.ErrNotExist)
	case slices.Contains(fullCodes, e.Code), e.StatusCode == http.StatusInsufficientStorage:
		return kind(location.ErrFull, said, "raise the quota or add space, or shorten what is kept there")
	case e.Code == "RequestTimeTooSkewed":
		return kind(location.ErrDenied, said, "the clocks of this machine and of the place differ: set the right one")
	case slices.Contains(keyCodes, e.Code):
		return kind(location.ErrDenied, said, "are access key, secret and region those of this place? the key may have been revoked")
	case verb == "delete" && (e.StatusCode == http.StatusForbidden || e.Code == "ObjectLocked" || strings.Contains(strings.ToLower(e.Message), "lock") || strings.Contains(strings.ToLower(e.Message), "worm")):
		if strings.Contains(strings.ToLower(e.Message+e.Code), "lock") || strings.Contains(strings.ToLower(e.Message), "worm") {
			return kind(location.ErrLocked, said, "nobody can delete it before its retention ends; that is what the lock is for")
		}
		return kind(location.ErrDenied, said, "the credentials may not delete here, or the object is locked; a writer should not be able to")
	case strings.Contains(strings.ToLower(e.Message), "object lock"):
		return kind(location.ErrDenied, said, "\"lock\" of the plan needs a bucket that was created with object lock; make one, or remove it from the plan")
	case e.StatusCode == http.StatusForbidden, e.StatusCode == http.StatusUnauthorized:
		return kind(location.ErrDenied, said, "give the credentials the rights to put, get and list objects of this bucket; \"holdfast location test\" says which are missing")
	case e.StatusCode == http.StatusNotImplemented:
		return kind(location.ErrOverwrites, said, "the object store cannot do what is needed; \"holdfast location test\" says what is missing")
	case e.StatusCode >= 500, e.StatusCode == http.StatusTooManyRequests, e.StatusCode == http.StatusRequestTimeout:
		return kind(location.ErrUnreachable, said, "the place is busy or ill; Holdfast tries again by itself")
	}
	return fmt.Errorf("%s: %w", what, said)
}

// cause drops the address around a network error: the message names the place once.
func cause(err error) error {
	var u *url.Error
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op
	case errors.As(err, &u):
		return u.Err
	}
	return err
}
