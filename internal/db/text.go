package db

import "strings"

// MaxText bounds what [Text] keeps, in bytes.
const MaxText = 16 << 10

// Text makes words that came from elsewhere (a failing program, a server's answer)
// fit to be stored: PostgreSQL takes neither zero bytes nor broken UTF-8, and an
// incident must not stay unopened for what a program said last. What is longer
// than MaxText is cut.
func Text(s string) string {
	s = strings.ReplaceAll(s[:min(len(s), MaxText)], "\x00", "\uFFFD")
	return strings.ToValidUTF8(s, "\uFFFD")
}
