package foreign

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"holdfast"
)

// ErrBreach marks an answer that breaks the contract. It says nothing about the
// supplier's copies, and nothing that such an answer claims is believed.
var ErrBreach = errors.New("the adapter breaks its contract")

// A Refusal is an adapter's own word that a call failed.
type Refusal struct {
	Code    string
	Message string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s (%s)", r.Message, r.Code) }

// Codes of a refusal.
const (
	CodeUnsupported = "unsupported"
	CodeInvalid     = "invalid"
	CodeAuth        = "auth"
	CodeNotFound    = "not-found"
	CodeUnavailable = "unavailable"
	CodeInternal    = "internal"
)

var codes = []string{CodeUnsupported, CodeInvalid, CodeAuth, CodeNotFound, CodeUnavailable, CodeInternal}

func (a *Adapter) name() string {
	if len(a.Argv) == 0 {
		return "adapter"
	}
	return fmt.Sprintf("adapter %q", filepath.Base(a.Argv[0]))
}

func (a *Adapter) fail(verb string, err error) error {
	return fmt.Errorf("%s, %s: %w", a.name(), verb, err)
}

func (a *Adapter) breach(verb, format string, args ...any) error {
	return holdfast.WithHint(a.fail(verb, fmt.Errorf("%w: %s", ErrBreach, a.hush(fmt.Sprintf(format, args...)))),
		"\"holdfast adapter test\" shows what it does otherwise than docs/format/adapter.md says")
}

// call runs one verb. each is told of every event but progress and the result; nil
// takes none. The result's fields go to into, unless it is nil.
func (a *Adapter) call(ctx context.Context, box Box, verb string, within time.Duration, req any, each func(kind string, line []byte) error, into any, progress ...func(holdfast.Progress)) error {
	if len(a.Argv) == 0 {
		return a.fail(verb, errors.New("no program is named"))
	}
	text, err := json.Marshal(req)
	if err != nil {
		return a.fail(verb, err)
	}
	line, err := a.exchange(ctx, box, verb, within, append(text, '\n'), each, progress...)
	if err != nil {
		return err
	}
	var head struct {
		OK                  *bool
		Code, Message, Hint string
	}
	if err := json.Unmarshal(line, &head); err != nil || head.OK == nil {
		return a.breach(verb, "its result does not say whether it is ok")
	}
	if !*head.OK {
		if !slices.Contains(codes, head.Code) || head.Message == "" {
			return a.breach(verb, "its result says that it failed, with the unknown code %q or no message", bounded(head.Code))
		}
		return holdfast.WithHint(a.fail(verb, &Refusal{head.Code, a.hush(bounded(head.Message))}), "%s", a.hush(hintOr(bounded(head.Hint))))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(line, into); err != nil {
		return a.breach(verb, "its result cannot be read: %v", err)
	}
	return nil
}

func hintOr(hint string) string {
	if hint == "" {
		return "the supplier's adapter knows why"
	}
	return hint
}

// exchange starts the process, gives it the request, reads its events and returns the
// line of the result. When it returns, the process has ended.
func (a *Adapter) exchange(parent context.Context, box Box, verb string, within time.Duration, req []byte, each func(string, []byte) error, progress ...func(holdfast.Progress)) ([]byte, error) {
	if err := a.putSecrets(box); err != nil {
		return nil, a.fail(verb, err)
	}
	ctx, cancel := context.WithTimeoutCause(parent, within, fmt.Errorf("it did not end within %s", holdfast.FormatDuration(within)))
	defer cancel()
	cmd := box.Command(ctx, a.Argv[0], append(slices.Clone(a.Argv[1:]), verb)...)
	said := &tail{}
	out, in := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(req), in, said
	if err := cmd.Start(); err != nil {
		return nil, holdfast.WithHint(a.fail(verb, err), "the unprivileged account that sandboxes run as must be able to execute it: give its absolute path, and open the folders on the way (chmod o+x)")
	}
	ended := make(chan error, 1)
	go func() { // ends with the process, which ends with ctx
		err := cmd.Wait()
		_ = in.Close()
		ended <- err
	}()
	result, err := readEvents(out, each, progress...)
	if err != nil {
		cancel() // what it still does is of no use
	}
	_ = out.Close()
	werr := <-ended
	switch cause := context.Cause(ctx); {
	case parent.Err() != nil:
		return nil, a.fail(verb, context.Cause(parent))
	case err != nil:
		return nil, a.breach(verb, "%v%s", err, a.aside(said))
	case result == nil && ctx.Err() != nil:
		return nil, a.fail(verb, fmt.Errorf("%w%s", cause, a.aside(said)))
	case result == nil:
		why := "it ended"
		if werr != nil {
			why = werr.Error()
		}
		return nil, a.breach(verb, "%s without a result%s", why, a.aside(said))
	}
	return result, nil // whatever the exit status is
}

// aside is what a process told people, at the end of an error.
func (a *Adapter) aside(t *tail) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(t.String(), "?")), " ")
	if s == "" {
		return ""
	}
	return "; it said: " + a.hush(bounded(s))
}

// readEvents reads lines until the output ends, and returns the one of the result; nil
// if there is none.
func readEvents(r io.Reader, each func(string, []byte) error, progress ...func(holdfast.Progress)) (result []byte, err error) {
	limited := &io.LimitedReader{R: r, N: maxOutput + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		switch {
		case limited.N <= 0:
			return nil, fmt.Errorf("it says more than %d bytes", maxOutput)
		case len(line) == 0:
			continue
		case result != nil:
			return nil, errors.New("it says something behind its result")
		case !utf8.Valid(line):
			return nil, errors.New("it says something that is not UTF-8")
		}
		var head struct{ Type string }
		if line[0] != '{' || json.Unmarshal(line, &head) != nil {
			return nil, fmt.Errorf("it says something that is no JSON object: %q", bounded(string(line[:min(len(line), 80)])))
		}
		switch head.Type {
		case "result":
			result = bytes.Clone(line)
		case "progress":
			var p holdfast.Progress
			if err := json.Unmarshal(line, &p); err != nil {
				return nil, fmt.Errorf("progress: %w", err)
			}
			for _, f := range progress {
				if f != nil {
					f(p)
				}
			}
		case "":
			return nil, errors.New("an event has no type")
		default:
			if each == nil {
				return nil, fmt.Errorf("an event has the type %q, which has no place here", bounded(head.Type))
			}
			if err := each(head.Type, line); err != nil {
				return nil, err
			}
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("a line has more than %d bytes", maxLine)
	case limited.N <= 0:
		return nil, fmt.Errorf("it says more than %d bytes", maxOutput)
	case err != nil && !errors.Is(err, io.ErrClosedPipe):
		return nil, err
	}
	return result, nil
}

// putSecrets writes the secrets into the box, for its account alone. They go with the
// box.
func (a *Adapter) putSecrets(box Box) error {
	dir := filepath.Join(box.Dir(), "secrets")
	if _, err := os.Lstat(dir); err == nil {
		return nil // an earlier call of the same box
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(a.Secrets) > maxSecrets {
		return fmt.Errorf("more than %d secrets", maxSecrets)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, text := range a.Secrets {
		if !plainName.MatchString(name) || len(text) > maxSecret {
			return fmt.Errorf("secret %q: its name is no file's name, or it has more than %d bytes", name, maxSecret)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o400); err != nil {
			return err
		}
	}
	return box.Own(dir)
}

// shortest is how long a secret must be to be searched for: what is shorter stands in
// any text.
const shortest = 6

// hush takes the secrets out of a text.
func (a *Adapter) hush(s string) string {
	for name, text := range a.Secrets {
		if text = strings.TrimSpace(text); len(text) >= shortest {
			s = strings.ReplaceAll(s, text, "[secret "+name+"]")
		}
	}
	return s
}

// readBounded reads a small file that an adapter wrote. A link is not followed: the
// adapter's account may not read what we may.
func readBounded(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecret {
		return "", fmt.Errorf("%q is no file, or has more than %d bytes", filepath.Base(path), maxSecret)
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

func bounded(s string) string {
	if len(s) <= maxSaid {
		return s
	}
	return strings.ToValidUTF8(s[:maxSaid], "") + " …"
}

// A tail keeps the end of what is written to it, and takes everything.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-maxSaid):]...)
	t.b = slices.Clone(t.b[max(0, len(t.b)-maxSaid):])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
