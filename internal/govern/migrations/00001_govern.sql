-- +goose Up
CREATE TABLE govern_duties (
    id     TEXT NOT NULL PRIMARY KEY,
    name   TEXT NOT NULL,    -- the same thing again has the same one
    open   INTEGER NOT NULL, -- 1 until it has an outcome
    due    BIGINT NOT NULL,
    body   TEXT NOT NULL     -- Duty as JSON
);
CREATE INDEX govern_duties_name ON govern_duties (name, due);
CREATE TABLE govern_items (
    kind   TEXT NOT NULL,    -- risk, exception, live
    id     TEXT NOT NULL,
    open   INTEGER NOT NULL,
    at     BIGINT NOT NULL,  -- when it was first written
    body   TEXT NOT NULL,    -- JSON
    PRIMARY KEY (kind, id)
);
CREATE TABLE govern_seen (
    what   TEXT NOT NULL PRIMARY KEY,
    value  TEXT NOT NULL,
    at     BIGINT NOT NULL
);

-- +goose Down
DROP TABLE govern_seen;
DROP TABLE govern_items;
DROP TABLE govern_duties;
