// Package web is what people see in a browser: the overview that answers "if it
// burned down now, what would we lose, and how long would it take", and a page
// for each store, drill, incident and recovery.
//
// Pages are rendered on the server from plain structs (view.go). They work
// without JavaScript; with it, the part of a page that shows the present is
// fetched again every few seconds and laid over the old one. A page and its
// fragment are the same component. A browser that no longer gets an answer says
// so in words: a page that has gone stale must not go on looking green.
//
// # Invariants
//
//   - The package decides no verdict. Postures, exposures and outcomes arrive in
//     the views; here they only get words, an icon and a place.
//   - Unknown is shown as unknown. The zero Measure is "not known", never "0 s",
//     and a check that did not run is "not proven".
//   - No page contacts another host. Scripts, styles and the typeface are part of
//     the binary, and the content security policy allows nothing else.
//   - Nothing that a Source returns is trusted to be harmless text.
//   - Only a POST changes something, and only from a page of this origin.
//   - Every page but the log-in, the enrolment and the assets is an action of package
//     access. A route that names none does not compile.
//
// # What it does not do
//
// It decides nothing about people either: who somebody is and what they may do is said
// by package access. Without it (Config.Access nil) whoever reaches the handler may read
// and may start drills and backups.
package web
