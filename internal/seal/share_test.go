package seal

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The products are those of FIPS 197, sections 4.2 and 4.2.1; the rest is algebra.
func TestField(t *testing.T) {
	for _, v := range [][3]byte{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0xff, 0, 0}, {1, 0xab, 0xab}} {
		if got := gfMul(v[0], v[1]); got != v[2] {
			t.Errorf("%#x · %#x = %#x, want %#x", v[0], v[1], got, v[2])
		}
	}
	if gfInverse(0x53) != 0xca {
		t.Errorf("the inverse of 0x53 is %#x, want 0xca", gfInverse(0x53))
	}
	for a := 1; a < 256; a++ {
		if gfMul(byte(a), gfInverse(byte(a))) != 1 {
			t.Errorf("%#x times its inverse is not 1", a)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := rapid.Byte().Draw(t, "a"), rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c")
		if gfMul(a, b^c) != gfMul(a, b)^gfMul(a, c) || gfMul(a, gfMul(b, c)) != gfMul(gfMul(a, b), c) || gfMul(a, b) != gfMul(b, a) {
			t.Error("no field")
		}
	})
}

func TestScalarRoundTrips(t *testing.T) {
	for i := range 50 {
		id := identity(t)
		if i%2 == 1 {
			id = postQuantum(t)
		}
		b, err := id.scalar()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := identityOf(b, i%2 == 1); err != nil || back.String() != id.String() {
			t.Fatalf("an identity does not survive its bytes: %v", err)
		}
	}
}

var day = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func split(t testing.TB, k, n int) (Identity, []Share) {
	t.Helper()
	id := identity(t)
	shares, err := Split(id, k, n, nil, day)
	if err != nil {
		t.Fatal(err)
	}
	return id, shares
}

// Every choice of enough shares, in any order, gives the key; every smaller choice an
// error that counts.
func TestJoinEveryChoice(t *testing.T) {
	for _, c := range [][2]int{{2, 2}, {2, 3}, {3, 5}, {5, 5}} {
		id, shares := split(t, c[0], c[1])
		for mask := 1; mask < 1<<c[1]; mask++ {
			var some []Share
			for i, s := range shares {
				if mask>>i&1 == 1 {
					some = append([]Share{s}, some...)
				}
			}
			back, err := Join(some...)
			var few *TooFewError
			switch {
			case len(some) >= c[0] && (err != nil || back.String() != id.String()):
				t.Errorf("%d of %d, choice %b: %v", c[0], c[1], mask, err)
			case len(some) < c[0] && !errors.As(err, &few):
				t.Errorf("%d of %d, choice %b: %v, want a TooFewError", c[0], c[1], mask, err)
			case few != nil && (few.Threshold != c[0] || len(few.Have) != len(some) || few.Set != shares[0].SetText()):
				t.Errorf("choice %b: %+v", mask, few)
			}
		}
	}
	if _, shares := split(t, MaxShares, MaxShares); len(shares) != MaxShares {
		t.Error("the largest set")
	}
}

// One share less than needed fits every key: that is what makes it worth nothing.
func TestTooFewSayNothing(t *testing.T) {
	_, shares := split(t, 3, 3)
	for guess := range 256 {
		var y [32]byte
		y[0] = byte(guess)
		other := Share{Index: 9, value: hide(&y)}
		seen := interpolate([]Share{shares[0], shares[1], other}, 0)
		y[0] ^= 1
		if again := interpolate([]Share{shares[0], shares[1], other}, 0); again[0] == seen[0] || again[1] != seen[1] {
			t.Fatal("the third share does not decide the key")
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	id := identity(t)
	for _, c := range [][2]int{{1, 1}, {1, 3}, {0, 3}, {4, 3}, {2, MaxShares + 1}, {-1, 2}} {
		if _, err := Split(id, c[0], c[1], nil, day); !errors.Is(err, ErrKey) {
			t.Errorf("%d of %d: %v, want ErrKey", c[0], c[1], err)
		}
	}
	if _, err := Split(Identity{}, 2, 3, nil, day); !errors.Is(err, ErrKey) {
		t.Errorf("no identity: %v", err)
	}
	if _, err := Split(id, 2, 3, []string{"mia"}, day); !errors.Is(err, ErrKey) {
		t.Errorf("one holder for three: %v", err)
	}
}

func TestJoinNamesWhatIsWrong(t *testing.T) {
	_, a := split(t, 2, 4)
	_, b := split(t, 2, 4)
	altered := func(s Share) Share {
		v := *s.value.get()
		v[7] ^= 1
		s.value = hide(&v)
		return s
	}
	lying := a[2]
	lying.Threshold = 3
	tests := []struct {
		name   string
		shares []Share
		want   string
	}{
		{"none", nil, "no share"},
		{"empty", []Share{{}}, "empty share"},
		{"mixed sets", []Share{a[0], b[1]}, b[1].SetText()},
		{"twice", []Share{a[0], a[1], a[0]}, "share 1 of set " + a[0].SetText() + " was given twice"},
		{"altered", []Share{a[0], altered(a[1])}, "altered"},
		{"altered among enough", []Share{a[0], a[1], altered(a[2])}, "leave one out"},
		{"another threshold", []Share{a[0], lying}, "contradict"},
	}
	for _, tt := range tests {
		id, err := Join(tt.shares...)
		if !errors.Is(err, ErrShare) || !strings.Contains(err.Error(), tt.want) || !id.IsZero() {
			t.Errorf("%s: %v, want ErrShare with %q", tt.name, err, tt.want)
		}
	}
}

func text(t testing.TB, s Share) string {
	t.Helper()
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func groupsOf(text string) string {
	_, groups, _ := strings.Cut(text, "\n\n")
	return groups
}

func TestSheetsRoundTrip(t *testing.T) {
	t.Run("classic", func(t *testing.T) { sheetsRoundTrip(t, identity(t)) })
	t.Run("post-quantum", func(t *testing.T) { sheetsRoundTrip(t, postQuantum(t)) })
}

func sheetsRoundTrip(t *testing.T, id Identity) {
	shares, err := Split(id, 2, 3, []string{"Mia", "Jon\nwho: x", "Ana"}, day)
	if err != nil {
		t.Fatal(err)
	}
	var back []Share
	for i, s := range shares {
		whole := text(t, s)
		typed := strings.NewReplacer("0", "o", "1", "l", " ", "-").Replace(strings.ToLower(groupsOf(whole)))
		for _, in := range []string{whole, groupsOf(whole), typed, "\ufeff" + strings.ReplaceAll(whole, "\n", "\r\n")} {
			got, err := ParseSheet(in)
			if err != nil || got.Share.Index != i+1 || got.Share.Set != s.Set || *got.Share.value.get() != *s.value.get() {
				t.Fatalf("share %d from %q: %v", i+1, in[:10], err)
			}
		}
		got, _ := ParseSheet(whole)
		if got.Share.Holder != singleLine(s.Holder) || !got.Share.Created.Equal(day) || got.Share.PostQuantum != id.PostQuantum() {
			t.Errorf("holder %q, created %v", got.Share.Holder, got.Share.Created)
		}
		back = append(back, got.Share)
	}
	if got, err := Join(back[1:]...); err != nil || got.String() != id.String() {
		t.Errorf("join from text: %v", err)
	}
	sheet, err := id.Sheet("Mia", day)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{sheet, groupsOf(sheet)} {
		if got, err := ParseSheet(in); err != nil || got.Key.String() != id.String() {
			t.Errorf("key sheet: %v", err)
		}
	}
	if strings.Contains(sheet, id.String()[20:40]) {
		t.Error("the sheet holds the key a second time")
	}
}

// Every single slip of the pen, and every exchange of neighbours or groups, is noticed
// and the right group is named.
func TestSlipsAreNamed(t *testing.T) {
	_, shares := split(t, 2, 2)
	clean := strings.Fields(groupsOf(text(t, shares[0])))
	check := func(what string, groups []string, want ...int) {
		t.Helper()
		_, err := ParseSheet(strings.Join(groups, " "))
		var at *GroupError
		if !errors.As(err, &at) || !errors.Is(err, ErrKey) {
			t.Fatalf("%s: %v, want a GroupError", what, err)
		}
		for _, w := range want {
			if at.Group == w {
				return
			}
		}
		t.Fatalf("%s: group %d was named, want %v", what, at.Group, want)
	}
	edit := func(g int, s string) []string {
		out := append([]string(nil), clean...)
		out[g] = s
		return out
	}
	for g, group := range clean {
		for i := range group {
			for _, c := range writtenLetters {
				if byte(c) != group[i] {
					check("one letter", edit(g, group[:i]+string(c)+group[i+1:]), g+1)
				}
			}
			if i > 0 && group[i] != group[i-1] {
				check("neighbours", edit(g, group[:i-1]+string(group[i])+string(group[i-1])+group[i+1:]), g+1)
			}
			check("a letter less", edit(g, group[:i]+group[i+1:]), g+1)
			check("no letter", edit(g, group[:i]+"u"+group[i+1:]), g+1)
		}
		for other := range clean {
			if other != g {
				out := edit(g, clean[other])
				out[other] = group
				check("groups", out, g+1, other+1)
			}
		}
		if out := append(append([]string(nil), clean[:g]...), clean[g+1:]...); g < len(clean)-1 {
			check("a group less", out, g+1)
		} else if _, err := ParseSheet(strings.Join(out, " ")); !errors.Is(err, ErrKey) {
			t.Fatalf("the last group less: %v", err)
		}
	}
}

func TestSheetRefuses(t *testing.T) {
	_, a := split(t, 2, 2)
	_, b := split(t, 2, 2)
	one, two := text(t, a[0]), text(t, b[0])
	labels, _, _ := strings.Cut(one, "\n\n")
	for name, tc := range map[string]struct {
		in   string
		want error
	}{
		"empty":              {"", ErrKey},
		"comment":            {"# nothing\n", ErrKey},
		"long":               {strings.Repeat("A", MaxSheet+1), ErrKey},
		"many groups":        {strings.Repeat("00000 ", maxGroups+1), ErrKey},
		"labels of another":  {labels + "\n\n" + groupsOf(two), ErrShare},
		"another label":      {"password: x\n" + one, ErrKey},
		"label twice":        {"set: 00\n" + one, ErrKey},
		"two sheets in one":  {groupsOf(one) + groupsOf(two), ErrKey},
		"a day of no month":  {strings.Replace(one, "2026-03-01", "2026-03-61", 1), ErrKey},
		"another kind":       {writeGroups(append([]byte{9}, make([]byte, 49)...)), ErrKey},
		"sum of another one": {writeGroups(append([]byte{writtenKey}, make([]byte, 39)...)), ErrKey},
	} {
		if _, err := ParseSheet(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		} else if secret := strings.Fields(groupsOf(one))[3]; strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows a part of the secret", name)
		}
	}
}

func TestShareIdentity(t *testing.T) {
	id, shares := split(t, 2, 2)
	own, err := shares[0].Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, _ := shares[1].Identity()
	if own.Recipient() == other.Recipient() || own.Recipient() == id.Recipient() {
		t.Error("shares and key open the same challenges")
	}
	back, err := ParseSheet(text(t, shares[0]))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Share.Identity(); err != nil || again.String() != own.String() {
		t.Errorf("the share from its text opens other challenges: %v", err)
	}
}

func TestSharesAreNotPrinted(t *testing.T) {
	_, shares := split(t, 2, 2)
	secret := hex.EncodeToString(shares[0].value.get()[:])
	letters := strings.Fields(groupsOf(text(t, shares[0])))[4]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{shares[0], &shares[0], shares, Sheet{Share: shares[0]}, struct{ s Share }{shares[0]}} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, secret) || strings.Contains(out, letters) || strings.Contains(out, strings.Trim(fmt.Sprint(shares[0].value.get()[:]), "[]")) {
				t.Errorf("%s of %T shows a secret", verb, v)
			}
		}
	}
	if _, err := json.Marshal(shares[0]); err == nil {
		t.Error("a share was marshalled")
	}
}

// The vectors are what another implementation must read; tools/decode/join.py does.
type shareVectors struct {
	Identity     string   `json:"identity"`
	Key          string   `json:"key_sheet"`
	Coefficients []string `json:"coefficients"` // hex; the first is the identity's scalar
	Needed       int      `json:"needed"`
	Shares       []string `json:"shares"`
	Recipients   []string `json:"share_recipients"`
}

func TestShareVectors(t *testing.T) {
	t.Run("classic", func(t *testing.T) { testShareVectors(t, "testdata/shares.json", identity) })
	t.Run("post-quantum", func(t *testing.T) { testShareVectors(t, "testdata/shares-post-quantum.json", postQuantum) })
}

func testShareVectors(t *testing.T, file string, generate func(testing.TB) Identity) {
	if *update {
		writeShareVectors(t, file, generate(t))
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v shareVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var coefficients [][32]byte
	for _, c := range v.Coefficients {
		b, _ := hex.DecodeString(c)
		coefficients = append(coefficients, [32]byte(b))
	}
	var shares []Share
	for i, s := range v.Shares {
		sheet, err := ParseSheet(s)
		if err != nil {
			t.Fatal(err)
		}
		if *sheet.Share.value.get() != *shareOf(coefficients, i+1).value.get() {
			t.Errorf("share %d is not the polynomial at %d", i+1, i+1)
		}
		if own, err := sheet.Share.Identity(); err != nil || own.Recipient().String() != v.Recipients[i] {
			t.Errorf("share %d: recipient, %v", i+1, err)
		}
		if text(t, sheet.Share) != s {
			t.Errorf("share %d is written differently now", i+1)
		}
		shares = append(shares, sheet.Share)
	}
	if id, err := Join(shares[len(shares)-v.Needed:]...); err != nil || id.String() != v.Identity {
		t.Errorf("join: %v", err)
	}
	if sheet, err := ParseSheet(v.Key); err != nil || sheet.Key.String() != v.Identity {
		t.Errorf("key sheet: %v", err)
	}
	// The independent reader, in another language, from the specification.
	dir := t.TempDir()
	join := func(sheets ...string) string {
		args := []string{"../../tools/decode/join.py"}
		for i, s := range sheets {
			p := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, p)
		}
		out, err := exec.Command("python3", args...).CombinedOutput()
		if err != nil {
			t.Errorf("join.py: %v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := join(v.Shares[0], v.Shares[2], groupsOf(v.Shares[3])); got != v.Identity {
		t.Errorf("join.py: %q", got)
	}
	if got := join(v.Key); got != v.Identity {
		t.Errorf("join.py of a key sheet: %q", got)
	}
}

func writeShareVectors(t *testing.T, file string, id Identity) {
	shares, err := Split(id, 3, 5, []string{"Mia", "Jon", "Ana", "Notary", "Bank"}, day)
	if err != nil {
		t.Fatal(err)
	}
	v := shareVectors{Identity: id.String(), Needed: 3}
	// The polynomial is not kept: it follows from three of its values.
	for _, x := range []byte{0} {
		c := interpolate(shares[:3], x)
		v.Coefficients = append(v.Coefficients, hex.EncodeToString(c[:]))
	}
	v.Coefficients = append(v.Coefficients, higherCoefficients(shares[:3])...)
	if v.Key, err = id.Sheet("Mia", day); err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		own, _ := s.Identity()
		v.Shares, v.Recipients = append(v.Shares, text(t, s)), append(v.Recipients, own.Recipient().String())
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// higherCoefficients solves y = c0 + c1·x + c2·x² for c1 and c2 at three points.
func higherCoefficients(s []Share) []string {
	c0 := interpolate(s, 0)
	var c1, c2 [32]byte
	for n := range c0 {
		x, y := byte(s[0].Index), byte(s[1].Index)
		p := gfMul(s[0].value.get()[n]^c0[n], gfInverse(x)) // c1 + c2·x
		q := gfMul(s[1].value.get()[n]^c0[n], gfInverse(y)) // c1 + c2·y
		c2[n] = gfMul(p^q, gfInverse(x^y))
		c1[n] = p ^ gfMul(c2[n], x)
	}
	return []string{hex.EncodeToString(c1[:]), hex.EncodeToString(c2[:])}
}

func FuzzParseSheet(f *testing.F) {
	id, shares := split(f, 2, 2)
	sheet, err := id.Sheet("Mia", day)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{text(f, shares[0]), groupsOf(text(f, shares[1])), sheet, "", "set: x", "00000", "OIL-oil"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := ParseSheet(in)
		if err != nil {
			if !errors.Is(err, ErrKey) && !errors.Is(err, ErrShare) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		if got.Key.IsZero() == got.Share.IsZero() {
			t.Fatal("neither a key nor a share, or both")
		}
		if !got.Share.IsZero() {
			out, err := got.Share.Text()
			if again, perr := ParseSheet(out); err != nil || perr != nil || *again.Share.value.get() != *got.Share.value.get() {
				t.Errorf("a share does not survive its text: %v, %v", err, perr)
			}
		}
	})
}
