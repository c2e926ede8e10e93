package seal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The example of the Standard Webhooks specification.
func TestHookSignatureIsThatOfTheSpecification(t *testing.T) {
	k, err := ParseHookSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1614265330, 0)
	const body, want = `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := k.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(body)); got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
	for name, tt := range map[string]struct {
		id, at, sig, body string
		now               time.Time
		ok                bool
	}{
		"whole":           {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", want, body, at, true},
		"one of several":  {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,AAAA v2,x " + want, body, at.Add(HookSlack), true},
		"another body":    {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", want, body + " ", at, false},
		"another id":      {"msg_x", "1614265330", want, body, at, false},
		"another time":    {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265331", want, body, at, false},
		"played again":    {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", want, body, at.Add(HookSlack + time.Second), false},
		"of the future":   {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", want, body, at.Add(-HookSlack - time.Second), false},
		"no time":         {"msg_p5jXN8AQM9LWM0D4loKWxJek", "", want, body, at, false},
		"no signature":    {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "", body, at, false},
		"another version": {"msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", strings.Replace(want, "v1", "v2", 1), body, at, false},
	} {
		if err := k.Verify(tt.id, tt.at, tt.sig, []byte(tt.body), tt.now); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (HookSecret{}).Verify("a", "1614265330", want, nil, at); err == nil {
		t.Error("no secret verifies something")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, &k); strings.Contains(s, "MfKQ") || !strings.Contains(s, "redacted") {
		t.Errorf("printed as %s", s)
	}
	for _, bad := range []string{"", "short", "whsec_%%%", "whsec_AAAA", strings.Repeat("x", MinHookSecret-1)} {
		if _, err := ParseHookSecret(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
