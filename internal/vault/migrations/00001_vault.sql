-- +goose Up
CREATE TABLE vault_plans (
    digest   TEXT NOT NULL PRIMARY KEY,
    source   TEXT NOT NULL,
    adopted  BIGINT NOT NULL,
    seq      BIGINT NOT NULL, -- the highest is held
    proof    TEXT NOT NULL    -- the vault's signature
);
CREATE TABLE vault_requests (
    id       TEXT NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL, -- open, approved, used, rejected, expired
    asked    BIGINT NOT NULL,
    body     TEXT NOT NULL -- Request as JSON
);
CREATE TABLE vault_clock (
    one      INTEGER NOT NULL PRIMARY KEY,
    seen     BIGINT NOT NULL,
    steady   BIGINT NOT NULL
);
CREATE TABLE vault_reads (
    location TEXT NOT NULL,
    store    TEXT NOT NULL,
    object   TEXT NOT NULL, -- name of a pack, a piece of log or a manifest
    size     BIGINT NOT NULL,
    at       BIGINT NOT NULL, -- of the last whole read
    damage   TEXT NOT NULL,   -- empty: whole
    found    BIGINT NOT NULL, -- when the damage was found; 0: none
    PRIMARY KEY (location, object)
);

-- +goose Down
DROP TABLE vault_reads;
DROP TABLE vault_clock;
DROP TABLE vault_requests;
DROP TABLE vault_plans;
