-- +goose Up

-- One row. Whoever appends changes it, so appends stand in line.
CREATE TABLE ledger_head (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    origin  TEXT NOT NULL,
    size    INTEGER NOT NULL,
    refused TEXT NOT NULL DEFAULT '', -- why nothing may be appended; '' is allowed
    lacking TEXT NOT NULL DEFAULT ''  -- the checkpoint text that the log does not extend
);

CREATE TABLE ledger_leaf (
    idx     INTEGER PRIMARY KEY,
    type    TEXT NOT NULL,
    subject TEXT NOT NULL,
    at      INTEGER NOT NULL,
    bytes   BLOB NOT NULL -- exactly what was hashed
);
CREATE INDEX ledger_leaf_subject ON ledger_leaf (subject, type, idx);
CREATE INDEX ledger_leaf_type ON ledger_leaf (type, idx);
CREATE INDEX ledger_leaf_at ON ledger_leaf (at, idx);

-- The hashes of all complete subtrees, numbered as in golang.org/x/mod/sumdb/tlog.
CREATE TABLE ledger_hash (
    id    INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    hash  BLOB NOT NULL
);

CREATE TABLE ledger_checkpoint (
    size   INTEGER PRIMARY KEY,
    signed TEXT NOT NULL,
    at     INTEGER NOT NULL
);

-- Stretches of an earlier life of the log whose loss a person has accepted.
CREATE TABLE ledger_loss (
    kept   INTEGER NOT NULL, -- facts below this index are in both
    lost   INTEGER NOT NULL, -- the earlier life reached at least this size
    anchor TEXT NOT NULL,    -- the signed checkpoint that told of it
    PRIMARY KEY (kept, lost)
);
