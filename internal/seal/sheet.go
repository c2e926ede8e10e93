package seal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxSheet is the longest text of a share or of a whole key, in bytes.
const MaxSheet = 16 << 10

// What a written secret is. The first byte says it.
const (
	writtenShare       = 1
	writtenKey         = 2
	writtenHybridShare = 3 // of a post-quantum key
	writtenHybridKey   = 4

	shareBody = 1 + 4 + 1 + 1 + 1 + 6 + 32 // kind, set, index, threshold, count, opens, value
	shareSum  = 4
	keyBody   = 1 + 32 // kind, scalar
	keySum    = 7
)

// Text returns the share for a file or a sheet of paper: labels for people, then the
// groups that a person can type. The labels repeat what the groups say, except holder
// and date, which nothing else knows. It is a secret.
func (s Share) Text() (string, error) {
	own, err := s.Identity()
	if err != nil {
		return "", err
	}
	b := make([]byte, 0, shareBody+shareSum)
	b = append(b, writtenKind(s.PostQuantum, writtenShare, writtenHybridShare))
	b = append(b, s.Set[:]...)
	b = append(b, byte(s.Index), byte(s.Threshold), byte(s.Count))
	b = append(b, s.opens[:]...)
	b = append(b, s.value.get()[:]...)
	b = append(b, writtenSum(b, shareSum)...)
	var out strings.Builder
	fmt.Fprintf(&out, "# Holdfast key share. Any %d of the %d shares of this set bring the key back;\n# fewer open nothing. Keep it apart from the others and away from the backups.\n", s.Threshold, s.Count)
	out.WriteString("# holdfast key join --to FILE SHARE...   takes files like this one, or only the groups.\n")
	fmt.Fprintf(&out, "set: %s\nshare: %d of %d\nneeded: %d\nkey: hf:%x\n", s.SetText(), s.Index, s.Count, s.Threshold, s.opens)
	if s.Holder != "" {
		fmt.Fprintf(&out, "holder: %s\n", singleLine(s.Holder))
	}
	if !s.Created.IsZero() {
		fmt.Fprintf(&out, "created: %s\n", s.Created.UTC().Format(time.DateOnly))
	}
	fmt.Fprintf(&out, "recipient: %s\n\n%s\n", own.Recipient(), writeGroups(b))
	return out.String(), nil
}

// Sheet returns a whole read key for paper, as Text does a share.
func (i Identity) Sheet(holder string, created time.Time) (string, error) {
	secret, err := i.scalar()
	if err != nil {
		return "", fmt.Errorf("key sheet: %w", err)
	}
	b := append([]byte{writtenKind(i.PostQuantum(), writtenKey, writtenHybridKey)}, secret[:]...)
	b = append(b, writtenSum(b, keySum)...)
	var out strings.Builder
	out.WriteString("# Holdfast read key. Whoever holds this sheet reads every backup made for it.\n")
	out.WriteString("# holdfast key join --to FILE SHEET   takes a file like this one, or only the groups.\n")
	o := opens(i)
	fmt.Fprintf(&out, "key: hf:%x\n", o)
	if holder != "" {
		fmt.Fprintf(&out, "holder: %s\n", singleLine(holder))
	}
	if !created.IsZero() {
		fmt.Fprintf(&out, "created: %s\n", created.UTC().Format(time.DateOnly))
	}
	if !i.PostQuantum() { // whose recipient is a page of its own
		fmt.Fprintf(&out, "recipient: %s\n", i.Recipient())
	}
	fmt.Fprintf(&out, "\n%s\n", writeGroups(b))
	return out.String(), nil
}

func writtenKind(postQuantum bool, classic, hybrid byte) byte {
	if postQuantum {
		return hybrid
	}
	return classic
}

func writtenSum(b []byte, n int) []byte {
	h := Hash(append([]byte("holdfast written key/1\x00"), b...))
	return h[:n]
}

// A Sheet is what was written: a share of a key, or a whole one. The other is zero.
type Sheet struct {
	Share Share
	Key   Identity
}

// ParseSheet reads what Text and Sheet write. Lines that begin with "#" are passed
// over; labels may be missing, and contradict the groups nowhere.
//
// Errors wrap ErrKey (not the text of a share or key; a *GroupError names the group)
// or ErrShare (labels and groups are of different shares), and show no secret.
func ParseSheet(text string) (Sheet, error) {
	if len(text) > MaxSheet {
		return Sheet{}, fmt.Errorf("sheet of %d bytes: %w: at most %d", len(text), ErrKey, MaxSheet)
	}
	labels := map[string]string{}
	var groups strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			groups.WriteString(line + "\n")
			continue
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := labels[name]; twice || !strings.Contains(" set share needed key holder created recipient ", " "+name+" ") {
			return Sheet{}, fmt.Errorf("sheet: %w: a label that it does not have, or has twice", ErrKey)
		}
		labels[name] = strings.TrimSpace(value)
	}
	b, err := readGroups(groups.String())
	if err != nil {
		return Sheet{}, fmt.Errorf("sheet: %w", err)
	}
	switch {
	case len(b) == shareBody+shareSum && (b[0] == writtenShare || b[0] == writtenHybridShare) && bytes.Equal(writtenSum(b[:shareBody], shareSum), b[shareBody:]):
		s, err := readShare(b, labels)
		return Sheet{Share: s}, err
	case len(b) == keyBody+keySum && (b[0] == writtenKey || b[0] == writtenHybridKey) && bytes.Equal(writtenSum(b[:keyBody], keySum), b[keyBody:]):
		id, err := identityOf([32]byte(b[1:keyBody]), b[0] == writtenHybridKey)
		if err != nil {
			return Sheet{}, fmt.Errorf("sheet: %w", ErrKey)
		}
		o := opens(id)
		if err := agree(labels, map[string]string{"key": "hf:" + hex.EncodeToString(o[:]), "recipient": id.Recipient().String()}); err != nil {
			return Sheet{}, err
		}
		return Sheet{Key: id}, nil
	}
	return Sheet{}, fmt.Errorf("sheet: %w: the groups are whole one by one and not together: some are missing, or come from different sheets", ErrKey)
}

func readShare(b []byte, labels map[string]string) (Share, error) {
	s := Share{Set: [4]byte(b[1:5]), Index: int(b[5]), Threshold: int(b[6]), Count: int(b[7]), opens: [6]byte(b[8:14]), PostQuantum: b[0] == writtenHybridShare}
	value := [32]byte(b[14:shareBody])
	s.value = hide(&value)
	if s.Index < 1 || s.Index > s.Count || s.Threshold < MinThreshold || s.Threshold > s.Count || s.Count > MaxShares {
		return Share{}, fmt.Errorf("sheet: %w: share %d of %d, %d needed", ErrKey, s.Index, s.Count, s.Threshold)
	}
	own, err := s.Identity()
	if err != nil {
		return Share{}, err
	}
	if err := agree(labels, map[string]string{
		"set": s.SetText(), "share": fmt.Sprintf("%d of %d", s.Index, s.Count), "needed": strconv.Itoa(s.Threshold),
		"key": "hf:" + hex.EncodeToString(s.opens[:]), "recipient": own.Recipient().String(),
	}); err != nil {
		return Share{}, fmt.Errorf("share %d of set %s: %w", s.Index, s.SetText(), err)
	}
	s.Holder = labels["holder"]
	if day := labels["created"]; day != "" {
		if s.Created, err = time.Parse(time.DateOnly, day); err != nil {
			return Share{}, fmt.Errorf("share %d of set %s: created: %w: want a day such as 2026-03-01", s.Index, s.SetText(), ErrKey)
		}
	}
	return s, nil
}

// agree compares the labels of a sheet with what its groups say.
func agree(labels, groups map[string]string) error {
	for name, want := range groups {
		if got, ok := labels[name]; ok && singleLine(got) != want {
			return fmt.Errorf("the label %q and the groups are of different sheets: %w", name, ErrShare)
		}
	}
	return nil
}

func singleLine(s string) string { return strings.Join(strings.Fields(s), " ") }
