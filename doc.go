// Package holdfast holds the nouns that every part of Holdfast shares: findings,
// recovery targets and windows, rungs, evidence grades, postures, objectives and
// errors with a next step.
//
// It imports only the standard library and knows nothing of storage, databases or
// the network. A type lives here when three packages need it; until then it lives
// with its owner.
package holdfast

// Version is the product version, set at link time by the Makefile.
var Version = "dev"
