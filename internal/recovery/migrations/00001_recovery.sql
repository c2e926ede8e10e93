-- +goose Up
CREATE TABLE recovery_runs (
    id          TEXT NOT NULL PRIMARY KEY,
    incident    BIGINT NOT NULL,
    plan        TEXT NOT NULL, -- the immutable plan as JSON
    state       TEXT NOT NULL, -- running, done, failed
    activated   BIGINT NOT NULL,
    finished    BIGINT NOT NULL
);
CREATE TABLE recovery_steps (
    run         TEXT NOT NULL,
    id          TEXT NOT NULL,
    position    BIGINT NOT NULL,
    state       TEXT NOT NULL, -- waiting, ready, running, awaiting, done, failed
    started     BIGINT NOT NULL,
    finished    BIGINT NOT NULL,
    actor       TEXT NOT NULL,
    detail      TEXT NOT NULL,
    outcome     TEXT NOT NULL, -- JSON
    PRIMARY KEY (run, id)
);

-- +goose Down
DROP TABLE recovery_steps;
DROP TABLE recovery_runs;
