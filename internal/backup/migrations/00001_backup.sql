-- +goose Up
CREATE TABLE backup_snapshots (
    store      TEXT NOT NULL,
    id         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    manifest   TEXT NOT NULL, -- hash of the manifest's bytes
    created    BIGINT NOT NULL, -- instant the copy stands for, by the writer's clock
    finished   BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    stored     BIGINT NOT NULL,
    files      BIGINT NOT NULL,
    labels     TEXT NOT NULL,
    PRIMARY KEY (store, id)
);
CREATE TABLE backup_copies (
    store      TEXT NOT NULL,
    snapshot   TEXT NOT NULL,
    location   TEXT NOT NULL,
    state      TEXT NOT NULL, -- complete, missing
    detail     TEXT NOT NULL,
    received   BIGINT NOT NULL, -- the vault's time of arrival; 0: no receipt yet
    PRIMARY KEY (store, snapshot, location)
);
CREATE TABLE backup_frontiers (
    store       TEXT NOT NULL,
    location    TEXT NOT NULL,
    lineage     TEXT NOT NULL,
    timeline    BIGINT NOT NULL,
    position    BIGINT NOT NULL,
    last_commit BIGINT NOT NULL,
    caught_up   BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    error       TEXT NOT NULL,
    gap         TEXT NOT NULL,
    gap_at      BIGINT NOT NULL,
    PRIMARY KEY (store, location)
);
CREATE TABLE backup_probes (
    store     TEXT NOT NULL PRIMARY KEY,
    ok        INTEGER NOT NULL,
    at        BIGINT NOT NULL,
    last_ok   BIGINT NOT NULL,
    failures  BIGINT NOT NULL,
    lost      INTEGER NOT NULL, -- 1 once the store was declared lost, until it answers again
    error     TEXT NOT NULL
);

-- +goose Down
DROP TABLE backup_probes;
DROP TABLE backup_frontiers;
DROP TABLE backup_copies;
DROP TABLE backup_snapshots;
