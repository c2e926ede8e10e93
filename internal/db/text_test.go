package db

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzText(f *testing.F) {
	f.Add("plain")
	f.Add("a\x00b\xff")
	f.Add(strings.Repeat("é", MaxText))
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if strings.Contains(got, "\x00") || !utf8.ValidString(got) {
			t.Errorf("Text(%q) = %q", s, got)
		}
		if len(s) <= MaxText && utf8.ValidString(s) && !strings.Contains(s, "\x00") && got != s {
			t.Errorf("Text changes %q to %q", s, got)
		}
	})
}
