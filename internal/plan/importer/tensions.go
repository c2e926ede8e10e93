package importer

// An edition is a line of the document's own history.
type edition struct {
	line                      int
	version, date, what, whom string
}

// A signature is a line of the document's block of signatures.
type signature struct {
	line   int
	role   string
	signed bool
}

func (r *reader) tensions() {}
