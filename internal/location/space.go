package location

import "errors"

// A Space is how much room a place has for this account, in bytes.
type Space struct{ Total, Free int64 }

// ErrUntold is why the room of a place is not known: its kind, or its server, does not say.
var ErrUntold = errors.New("the place does not say how much room it has")
