package plan

import (
	"testing"
)

func TestTemplateParses(t *testing.T) {
	for _, v := range []Values{{}, {Unattended: true, PasswordFile: "secrets/pw", BinDir: "/usr/lib/postgresql/15/bin", Organisation: `A "quoted" name: ltd # x`}} {
		p, err := Parse("plan.yaml", Template(v))
		if err != nil {
			for _, f := range FindingsOf(err) {
				t.Errorf("%s:%d:%d %s %s (%s)", f.File, f.Line, f.Column, f.Code, f.Message, f.Hint)
			}
			t.Fatal(err)
		}
		if p.Stores["db"].Postgres.DSN == "" || p.Stores["db"].Recover.Start.Port == 0 || len(p.Locations) != 2 || len(p.Keys) != 2 {
			t.Errorf("the template is not complete: %+v", p.Stores["db"])
		}
	}
}
