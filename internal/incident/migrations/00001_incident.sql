-- +goose Up
CREATE TABLE incident_incidents (
    id              {{id}},
    title           TEXT NOT NULL,
    kind            TEXT NOT NULL,
    services        TEXT NOT NULL, -- JSON array
    stores          TEXT NOT NULL, -- JSON array
    severity        TEXT NOT NULL,
    phase           TEXT NOT NULL,
    commander       TEXT NOT NULL,
    declared_by     TEXT NOT NULL,
    occurred_at     BIGINT NOT NULL,
    detected_at     BIGINT NOT NULL,
    acknowledged_at BIGINT NOT NULL,
    assessed_at     BIGINT NOT NULL,
    contained_at    BIGINT NOT NULL,
    recovered_at    BIGINT NOT NULL,
    closed_at       BIGINT NOT NULL,
    activation      TEXT NOT NULL, -- who activated the plan and why; empty: not activated
    recovery        TEXT NOT NULL,
    outcome         TEXT NOT NULL
);
CREATE TABLE incident_events (
    incident  BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    actor     TEXT NOT NULL,
    type      TEXT NOT NULL,
    text      TEXT NOT NULL,
    payload   TEXT NOT NULL,
    PRIMARY KEY (incident, seq)
);
CREATE TABLE incident_signals (
    dedup      TEXT NOT NULL PRIMARY KEY,
    source     TEXT NOT NULL,
    store      TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    count      BIGINT NOT NULL,
    state      TEXT NOT NULL, -- open, cleared
    incident   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE incident_signals;
DROP TABLE incident_events;
DROP TABLE incident_incidents;
