-- +goose Up
CREATE TABLE drill_drills (
    id        TEXT NOT NULL PRIMARY KEY,
    name      TEXT NOT NULL, -- the plan's drill, or empty when a person asked
    store     TEXT NOT NULL,
    state     TEXT NOT NULL, -- planned, running, passed, failed
    planned   BIGINT NOT NULL,
    started   BIGINT NOT NULL,
    finished  BIGINT NOT NULL,
    rung      BIGINT NOT NULL,
    result    TEXT NOT NULL, -- Drill as JSON
    fact      BIGINT NOT NULL -- index of the closing fact in the ledger; -1: none yet
);
CREATE INDEX drill_drills_store ON drill_drills (store, planned);
CREATE TABLE drill_reads (
    location TEXT NOT NULL,
    pack     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (location, pack)
);

-- +goose Down
DROP TABLE drill_reads;
DROP TABLE drill_drills;
