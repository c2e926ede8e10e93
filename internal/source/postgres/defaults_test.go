package postgres

import "testing"

func TestIsPassword(t *testing.T) {
	c := newTestCluster(t)
	c.start()
	stored := func(encryption, password string) string {
		c.sql("SET password_encryption = '" + encryption + "'; DROP ROLE IF EXISTS r; CREATE ROLE r LOGIN PASSWORD '" + password + "'")
		return c.one("SELECT rolpassword FROM pg_authid WHERE rolname = 'r'")
	}
	for _, encryption := range []string{"md5", "scram-sha-256"} {
		s := stored(encryption, "changeme")
		if !isPassword(s, "r", "changeme") {
			t.Errorf("%s: %s is not known again", encryption, s)
		}
		if isPassword(s, "r", "Changeme") || isPassword(s, "r", "") {
			t.Errorf("%s: another password fits", encryption)
		}
	}
}

func FuzzIsPassword(f *testing.F) {
	for _, s := range []string{"md5", "md500", "SCRAM-SHA-256$4096:AAAA$BBBB:CCCC", "SCRAM-SHA-256$", "SCRAM-SHA-256$1:$:", "SCRAM-SHA-256$999999999:AA==$AA==:AA==", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, stored string) { isPassword(stored, "r", "x") })
}
