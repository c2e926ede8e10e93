package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// An agent seals to those whom people agreed to. A server in other hands gives it a plan with
// one reader more: it makes nothing, until two people have signed for exactly that.
func TestAgentPinsRecipients(t *testing.T) {
	t.Parallel()
	s := splitDuties(t)
	people := ""
	keys := map[string]string{}
	for _, who := range []string{"founder-a", "founder-b"} {
		keys[who] = filepath.Join(s.host.root, "ssh-"+who)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", keys[who]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		pub, err := os.ReadFile(keys[who] + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		people += "  " + who + ": {name: \"" + who + "\", ssh: {own: \"" + strings.TrimSpace(string(pub)) + "\"}}\n"
	}
	edit(t, s.host.plan(), func(p string) string {
		return strings.Replace(p, "  founder-a: {name: \"Founder A\"}\n  founder-b: {name: \"Founder B\"}\n", people, 1)
	})
	s.host.run(t, "agent", "pin").refuses(t, 1, "nothing is pinned", "agent source")
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	s.host.run(t, "agent", "pin").want(t, 0)
	before := treeOf(t, s.disk)

	_, thief := s.server.newKey(t, "thief.age")
	edit(t, s.host.plan(), func(p string) string {
		p = strings.Replace(p, "\nkeys:\n", "\nkeys:\n  thief: {recipient: "+thief+", holders: [founder-a]}\n", 1)
		return strings.Replace(p, "encrypt_to: [key-a, key-b]", "encrypt_to: [key-a, key-b, thief]", 1)
	})
	s.host.run(t, "agent", "source", "--once").refuses(t, 4, `seals to others than those that are pinned .*hf:[0-9a-f]{16} is new`, "agent pin")
	before.unchanged(t, s.disk)
	if e := s.host.run(t, "agent", "pin").want(t, 3); !strings.Contains(e.out, "is new") || !strings.Contains(e.out, "2 must sign of: founder-a, founder-b") {
		t.Errorf("the difference is not shown: %v", e)
	}
	sign := func(who, text string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "pin.txt")
		write(t, file, text, 0o600)
		if out, err := exec.Command("ssh-keygen", "-q", "-Y", "sign", "-n", "holdfast-recipients", "-f", keys[who], file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return file + ".sig"
	}
	text := s.host.run(t, "agent", "pin", "--text").want(t, 0).out
	a, b := sign("founder-a", text), sign("founder-b", text)
	pinned := filepath.Join(s.host.dir, "keys", "recipients.pinned")
	was := treeOf(t, s.host.dir)["keys/recipients.pinned"]
	s.host.run(t, "agent", "pin", "--apply").refuses(t, 4, "0 of the 2 people", "--signature")
	s.host.run(t, "agent", "pin", "--apply", "--signature", "founder-a="+a).refuses(t, 4, "1 of the 2 people", "founder-b")
	s.host.run(t, "agent", "pin", "--apply", "--signature", "founder-a="+a, "--signature", "founder-b="+a).refuses(t, 4, `"founder-b" is by no key`, "--text")
	s.host.run(t, "agent", "pin", "--apply", "--signature", "founder-a="+a, "--signature", "founder-b="+sign("founder-b", text+" ")).refuses(t, 4, "over another text", "--text")
	if treeOf(t, s.host.dir)["keys/recipients.pinned"] != was {
		t.Fatal("a refusal changed the pin")
	}
	s.host.run(t, "agent", "pin", "--apply", "--signature", "founder-a="+a, "--signature", "founder-b="+b).want(t, 0)
	s.host.run(t, "agent", "source", "--once").want(t, 0)
	// What was signed once does not count again: it names the pin that it replaced.
	edit(t, s.host.plan(), func(p string) string {
		return strings.Replace(p, "encrypt_to: [key-a, key-b, thief]", "encrypt_to: [key-a, key-b]", 1)
	})
	s.host.run(t, "agent", "pin", "--apply", "--signature", "founder-a="+a, "--signature", "founder-b="+b).refuses(t, 4, "over another text", "--text")
	write(t, pinned, "holdfast recipients 1\nrecipient: nonsense\n", 0o600)
	s.host.run(t, "agent", "source", "--once").refuses(t, 1, "not a recipient", "pins anew")
}
