package ledger_test

import (
	"testing/fstest"

	"holdfast/internal/db"
)

// dbtestModule is a table of a caller, whose rows the facts tell of.
var dbtestModule = db.Module{Name: "told", Migrations: fstest.MapFS{"00001_told.sql": &fstest.MapFile{
	Data: []byte("-- +goose Up\nCREATE TABLE told (id INTEGER PRIMARY KEY);\n")}}}
