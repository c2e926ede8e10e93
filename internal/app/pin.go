package app

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/plan"
	"holdfast/internal/seal"
)

// KeyPinned is the file that says, on the machine of a store, to whom backups may be sealed.
const KeyPinned = "recipients.pinned"

// PinNamespace is what people's signatures over other recipients are for.
const PinNamespace = "holdfast-recipients"

// maxPinned bounds a pin, in bytes.
const maxPinned = 256 << 10

// A Pin keeps a source agent from sealing to anybody whom people did not agree to, whatever
// the plan says that it is given: whoever can change that plan, on the server or on its way,
// would else read every backup from then on.
//
// It is written at the agent's first start. Others take its place only when the people whom
// it names, as many as it says, have signed for them.
type Pin struct {
	Repository string
	Recipients []string            // "age1…", in order
	Needed     int                 // people who must sign for others; 0: nobody can
	Signers    map[string][]string // their SSH keys, by person
}

// PinOf is the pin that a plan asks for.
func PinOf(p *plan.Plan) (Pin, error) {
	to, err := recipientsOf(p)
	if err != nil {
		return Pin{}, err
	}
	out := Pin{Repository: p.Repository.ID, Signers: map[string][]string{}}
	for _, r := range to {
		out.Recipients = append(out.Recipients, r.String())
	}
	slices.Sort(out.Recipients)
	a := p.Approval(plan.ActEncryption)
	for _, role := range a.Roles {
		for _, deputy := range []bool{false, true} {
			who := p.Person(role, deputy)
			for _, name := range sortedKeys(p.People[who].SSH) {
				if k := strings.Join(strings.Fields(p.People[who].SSH[name]), " "); !slices.Contains(out.Signers[who], k) {
					out.Signers[who] = append(out.Signers[who], k)
				}
			}
		}
	}
	if out.Needed = a.People; out.Needed > len(out.Signers) {
		out.Needed, out.Signers = 0, map[string][]string{} // so few can never agree
	}
	return out, nil
}

// Text is the pin as it lies in its file and as people sign it. before is the one that it
// replaces: what was signed once cannot be shown again later.
func (n Pin) Text(before string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "holdfast recipients 1\nrepository: %s\n", n.Repository)
	if before != "" {
		fmt.Fprintf(&b, "replaces: %s\n", before)
	}
	for _, r := range n.Recipients {
		fmt.Fprintf(&b, "recipient: %s\n", r)
	}
	fmt.Fprintf(&b, "needed: %d\n", n.Needed)
	for _, who := range sortedKeys(n.Signers) {
		for _, k := range n.Signers[who] {
			fmt.Fprintf(&b, "signer: %s %s\n", who, k)
		}
	}
	return b.String()
}

// ParsePin reads what Text writes.
func ParsePin(text string) (n Pin, err error) {
	bad := func(line int, why string) (Pin, error) {
		return Pin{}, fmt.Errorf("pinned recipients: line %d: %s: %w", line, why, seal.ErrDamaged)
	}
	n.Signers = map[string][]string{}
	sc := bufio.NewScanner(strings.NewReader(text))
	sc.Buffer(nil, maxPinned)
	i := 0
	for sc.Scan() {
		i++
		label, value, _ := strings.Cut(sc.Text(), ": ")
		switch {
		case i == 1:
			if sc.Text() != "holdfast recipients 1" {
				return bad(i, "not a list of recipients")
			}
		case label == "repository":
			n.Repository = value
		case label == "replaces":
		case label == "recipient":
			r, err := seal.ParseRecipient(value)
			if err != nil {
				return bad(i, "not a recipient")
			}
			n.Recipients = append(n.Recipients, r.String())
		case label == "needed":
			if n.Needed, err = strconv.Atoi(value); err != nil || n.Needed < 0 {
				return bad(i, "not a number of people")
			}
		case label == "signer":
			who, key, ok := strings.Cut(value, " ")
			if !ok || who == "" || key == "" {
				return bad(i, "not a signer")
			}
			n.Signers[who] = append(n.Signers[who], key)
		default:
			return bad(i, "an unknown line")
		}
	}
	if err := sc.Err(); err != nil || len(n.Recipients) == 0 || n.Needed > len(n.Signers) {
		return bad(i, "it is not whole")
	}
	return n, nil
}

// ReadPin returns what is pinned in a workspace, with the digest of its file; fs.ErrNotExist
// if nothing is.
func ReadPin(w Workspace) (n Pin, digest string, err error) {
	b, err := durable.ReadFile(durable.OS, w.Key(KeyPinned), maxPinned)
	if err != nil {
		return n, "", err
	}
	if n, err = ParsePin(string(b)); err != nil {
		return n, "", holdfast.WithHint(fmt.Errorf("%s: %w", w.Key(KeyPinned), err), "bring it back from a copy, or remove it and start the agent by hand: it pins anew, which you then compare with what people agreed to")
	}
	sum := sha256.Sum256(b)
	return n, "sha256:" + hex.EncodeToString(sum[:]), nil
}

// writePin is durable when it returns. A crash leaves the old pin or the new one.
func writePin(w Workspace, text string) error {
	return durable.WriteFile(durable.OS, w.Key(KeyPinned), []byte(text), 0o600)
}

// same reports whether a pin lets backups be sealed as another says.
func (n Pin) same(o Pin) bool {
	return n.Repository == o.Repository && slices.Equal(n.Recipients, o.Recipients)
}

// Difference names by fingerprint who is added and who is gone, for people.
func (n Pin) Difference(next Pin) string {
	var out []string
	was, is := n.fingerprints(), next.fingerprints()
	for _, r := range is {
		if !slices.Contains(was, r) {
			out = append(out, r+" is new")
		}
	}
	for _, r := range was {
		if !slices.Contains(is, r) {
			out = append(out, r+" is gone")
		}
	}
	if n.Repository != next.Repository {
		out = append(out, "another repository")
	}
	return strings.Join(out, ", ")
}

// pinned refuses to seal to others than those that are pinned. At the first start it pins
// those of the plan, and says so.
func (a *SourceAgent) pinned() error {
	want, err := PinOf(a.plan)
	if err != nil {
		return err
	}
	have, _, err := ReadPin(a.opt.Workspace)
	if errors.Is(err, fs.ErrNotExist) {
		if err := writePin(a.opt.Workspace, want.Text("")); err != nil {
			return fmt.Errorf("pin the recipients: %w", err)
		}
		for _, r := range a.recipients {
			a.opt.Log.Info("recipient pinned: compare it with what the holders of the keys have", "fingerprint", r.Fingerprint())
		}
		return nil
	}
	if err != nil {
		return err
	}
	if !have.same(want) {
		return holdfast.WithHint(fmt.Errorf("the plan seals to others than those that are pinned on this machine (%s): %w", have.Difference(want), holdfast.ErrRefused),
			"if people agreed to that, \"holdfast agent pin\" shows what they sign; if nobody knows of it, somebody wants to read the backups")
	}
	return nil
}

// Repin replaces what is pinned by what the plan asks for, if enough of the people whom the
// pin names have signed for exactly that. The signatures are by person.
func Repin(w Workspace, signatures map[string][]byte) error {
	have, text, err := pinAsked(w)
	if err != nil {
		return err
	}
	if have.Needed == 0 {
		return holdfast.WithHint(fmt.Errorf("nobody was there to sign when the recipients were pinned: %w", holdfast.ErrRefused),
			"whoever is trusted with this machine compares the fingerprints, removes %s and starts the agent", w.Key(KeyPinned))
	}
	var by []string
	for _, who := range slices.Sorted(maps.Keys(signatures)) {
		ok := slices.ContainsFunc(have.Signers[who], func(k string) bool {
			return seal.VerifySSHKey(k, PinNamespace, []byte(text), signatures[who]) == nil
		})
		if !ok {
			return holdfast.WithHint(fmt.Errorf("the signature of %q is by no key that is pinned for them, or over another text: %w", who, holdfast.ErrRefused),
				"\"holdfast agent pin --text\" prints the text; sign exactly that with \"ssh-keygen -Y sign -n %s -f KEY FILE\"", PinNamespace)
		}
		if !slices.ContainsFunc(by, func(other string) bool { return sharesKey(have.Signers[other], have.Signers[who]) }) {
			by = append(by, who)
		}
	}
	if len(by) < have.Needed {
		return holdfast.WithHint(fmt.Errorf("%d of the %d people who must agree have signed: %w", len(by), have.Needed, holdfast.ErrRefused),
			"these may: %s; --signature PERSON=FILE for each", strings.Join(sortedKeys(have.Signers), ", "))
	}
	return writePin(w, text)
}

// pinAsked returns what is pinned, and what is signed for the plan's pin to take its place.
func pinAsked(w Workspace) (have Pin, text string, err error) {
	have, digest, err := ReadPin(w)
	if err != nil {
		return have, "", err
	}
	p, err := plan.Load(w.Plan())
	if err != nil {
		return have, "", err
	}
	want, err := PinOf(p)
	return have, want.Text(digest), err
}

// A Pinned is what is pinned beside what the plan asks for, by fingerprint.
type Pinned struct {
	Pinned     []string `json:"pinned"`
	Want       []string `json:"want"`
	Difference string   `json:"difference,omitempty"`
	Needed     int      `json:"needed"`
	Signers    []string `json:"signers"`
	Text       string   `json:"text"` // to be signed
}

// PinState says what is pinned in a workspace; fs.ErrNotExist if nothing is.
func PinState(w Workspace) (out Pinned, err error) {
	have, text, err := pinAsked(w)
	if err != nil {
		return out, err
	}
	want, err := ParsePin(text)
	if err != nil {
		return out, err
	}
	return Pinned{have.fingerprints(), want.fingerprints(), have.Difference(want), have.Needed, sortedKeys(have.Signers), text}, nil
}

func (n Pin) fingerprints() (out []string) {
	for _, text := range n.Recipients {
		if r, err := seal.ParseRecipient(text); err == nil { // as they were when it was read
			out = append(out, r.Fingerprint())
		}
	}
	return out
}

// sharesKey reports whether two people have a key in common: then they are one.
func sharesKey(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool {
			f, g := strings.Fields(x), strings.Fields(y)
			return len(f) > 1 && len(g) > 1 && f[1] == g[1]
		})
	})
}
