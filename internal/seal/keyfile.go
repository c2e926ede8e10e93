package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"holdfast"
)

// WriteKeyFile writes text to a new file that only its owner can read. A file
// that is there already is never touched: the error wraps os.ErrExist.
//
// The text is written and synced under another name and then linked into place.
// A crash before the link leaves nothing under path, and one after it leaves the
// whole key; what may stay behind is a temporary file with mode 0600. Where the
// file system knows no links, as on most USB sticks, the file is made in place,
// and a crash can leave a short one, which ReadKeyFile's caller refuses to parse.
func WriteKeyFile(path, text string) (err error) {
	defer func() {
		if errors.Is(err, fs.ErrExist) {
			err = holdfast.WithHint(err, "a key is never overwritten: move the old file away, or choose another name")
		}
	}()
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if len(text) > MaxKeyFile {
		return fmt.Errorf("key file %q: %d bytes, at most %d", path, len(text), MaxKeyFile)
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("key file %q: %w", path, fs.ErrExist)
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".holdfast-key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("key file %q: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if err := writeAndClose(tmp, text); err != nil {
		return fmt.Errorf("key file %q: %w", path, err)
	}
	// Link fails if path exists, even when two processes come here at once.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("key file %q: %w", path, fs.ErrExist)
	} else if err != nil {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("key file %q: %w", path, err)
		}
		if err := writeAndClose(f, text); err != nil {
			return errors.Join(fmt.Errorf("key file %q: %w", path, err), os.Remove(path))
		}
	}
	if err := syncDir(dir); err != nil {
		return fmt.Errorf("key file %q: %w", path, err)
	}
	return nil
}

func writeAndClose(f *os.File, text string) error {
	_, err := f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be opened there; NTFS journals the entry
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadKeyFile returns the lines of a key file without comments ("# …") and blank
// lines. It refuses a file that other people on the machine can read: what they
// could have copied is no secret.
func ReadKeyFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("key file %q: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("key file %q: %w: not a regular file", path, ErrKey)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("key file %q: %w", path, err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of the file that is open, not of one swapped in
		return "", fmt.Errorf("key file %q: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", holdfast.WithHint(
			fmt.Errorf("key file %q: others on this machine can read it (mode %04o)", path, mode),
			"run \"chmod 600 %s\", and if somebody may have read it, make a new key", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxKeyFile+1))
	if err != nil {
		return "", fmt.Errorf("key file %q: %w", path, err)
	}
	if len(b) > MaxKeyFile {
		return "", fmt.Errorf("key file %q: %w: longer than %d bytes", path, ErrKey, MaxKeyFile)
	}
	var lines []string
	sc := bufio.NewScanner(strings.NewReader(string(b)))
	sc.Buffer(nil, MaxKeyFile+1)
	for sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("key file %q: %w: it is empty", path, ErrKey)
	}
	return strings.Join(lines, "\n"), nil
}
