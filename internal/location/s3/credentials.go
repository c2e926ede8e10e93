package s3

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"holdfast"
	"holdfast/internal/location"
	"holdfast/internal/seal"
)

// errCredentials is a lack of credentials; it never shows them.
var errCredentials = errors.New("no usable credentials")

// Environment variables that hold the credentials where no file does.
const (
	EnvAccessKey = "AWS_ACCESS_KEY_ID"
	EnvSecretKey = "AWS_SECRET_ACCESS_KEY"
	EnvToken     = "AWS_SESSION_TOKEN"
)

// Credentials reads an access key. The file has one "name = value" in a line, with
// the names aws_access_key_id, aws_secret_access_key and aws_session_token, as other
// tools write them, or the same without "aws_"; lines in brackets and comments are
// skipped. A file that others on the machine can read is refused.
func Credentials(file string) (access, secret, token string, err error) {
	if file == "" {
		access, secret, token = os.Getenv(EnvAccessKey), os.Getenv(EnvSecretKey), os.Getenv(EnvToken)
		if access == "" || secret == "" {
			return "", "", "", holdfast.WithHint(fmt.Errorf("%w: no credentials_file, and %s or %s is not set", errCredentials, EnvAccessKey, EnvSecretKey),
				"write the access key into a file that only its owner can read, and name it by \"credentials_file\"")
		}
		return access, secret, token, nil
	}
	text, err := seal.ReadKeyFile(file)
	if err != nil {
		return "", "", "", fmt.Errorf("%w: %w", errCredentials, location.Opaque(err))
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") || strings.HasPrefix(line, ";") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		var to *string
		switch strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "aws_") {
		case "access_key_id":
			to = &access
		case "secret_access_key":
			to = &secret
		case "session_token":
			to = &token
		default:
			if !ok {
				return "", "", "", holdfast.WithHint(fmt.Errorf("%w: a line of %q is not name = value", errCredentials, file), "%s", credentialsHint)
			}
			continue // a setting of another tool
		}
		if *to != "" {
			return "", "", "", holdfast.WithHint(fmt.Errorf("%w: %q holds more than one access key", errCredentials, file), "give Holdfast a file and a key of its own")
		}
		*to = strings.TrimSpace(value)
	}
	if access == "" || secret == "" {
		return "", "", "", holdfast.WithHint(fmt.Errorf("%w: %q lacks access_key_id or secret_access_key", errCredentials, file), "%s", credentialsHint)
	}
	return access, secret, token, nil
}

const credentialsHint = "write two lines, \"access_key_id = …\" and \"secret_access_key = …\", and chmod 600"

// keys gives the client its credentials, and reads the file again when it was
// replaced: a rotated key needs no restart.
type keys struct {
	file string

	mu      sync.Mutex
	read    bool
	size    int64
	changed time.Time
}

func (k *keys) Retrieve() (credentials.Value, error) { return k.RetrieveWithCredContext(nil) }

func (k *keys) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.size, k.changed = k.look()
	access, secret, token, err := Credentials(k.file)
	if err != nil {
		k.read = false
		return credentials.Value{}, fmt.Errorf("%w: %w", location.ErrDenied, err)
	}
	k.read = true
	return credentials.Value{AccessKeyID: access, SecretAccessKey: secret, SessionToken: token, SignerType: credentials.SignatureV4}, nil
}

func (k *keys) look() (int64, time.Time) {
	if k.file == "" {
		return 0, time.Time{}
	}
	info, err := os.Stat(k.file)
	if err != nil {
		return -1, time.Time{}
	}
	return info.Size(), info.ModTime()
}

func (k *keys) IsExpired() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	size, changed := k.look()
	return !k.read || size != k.size || !changed.Equal(k.changed)
}
