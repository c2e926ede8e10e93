package undo

import (
	"strings"
	"testing"
)

// Whatever stands in a row's line, it fits the table or is refused.
func FuzzRow(f *testing.F) {
	for _, s := range []string{
		`{"kind":"deleted","op":"insert","key":["1"],"before":["1",null]}`, `{"kind":"changed","op":"update","key":["1"],"before":["1","a"],"now":["1","b"],"set":[1]}`,
		`{"kind":"added","op":"delete","key":["1"],"now":["1","a"]}`, `{"kind":"conflict","op":"update","before":["1","a"],"now":["1","b"],"set":[1,1]}`, `{"kind":"deleted","op":"insert","before":["1"],"times":-1}`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	t := &Table{Columns: []Column{{Name: "a", Key: true}, {Name: "b"}}}
	f.Fuzz(func(tt *testing.T, line []byte) {
		r, err := decodeRow(t, line)
		if err != nil {
			return
		}
		for _, i := range r.Set {
			_, _ = r.Before[i], r.Now[i]
		}
		if r.Op == Insert && len(r.Before) != 2 || r.Op == Delete && len(r.Now) != 2 {
			tt.Errorf("%s does not fit", line)
		}
	})
}

// Whatever stands in extract.json, no file outside of its folder is opened.
func FuzzManifest(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"tables":[{"name":"public.x","columns":[],"deleted":0,"changed":0,"conflicts":0,"added":0,"later":0,"back":0,"rows":"a"}],"files":[{"name":"a","size":1,"sha256":"x"}]}`,
		`{"version":1,"files":[{"name":"../../etc/passwd"}]}`, `{"version":2}`, `{"version":1,"tables":[{"rows":"b"}]}`, `{"unknown":1}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parse(b)
		if err != nil {
			return
		}
		for _, file := range e.Files {
			if strings.ContainsRune(file.Name, '/') || file.Name == ".." || file.Name == "" {
				t.Errorf("file %q", file.Name)
			}
		}
		for _, tab := range e.Tables {
			for _, name := range []string{tab.Rows, tab.CSV, tab.Define, tab.Complete} {
				if strings.ContainsRune(name, '/') {
					t.Errorf("file %q", name)
				}
			}
		}
	})
}
