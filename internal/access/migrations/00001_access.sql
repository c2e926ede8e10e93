-- +goose Up
CREATE TABLE access_people (
    id           TEXT NOT NULL PRIMARY KEY,
    roles        TEXT NOT NULL, -- JSON array
    state        TEXT NOT NULL, -- invited, active, left
    until        BIGINT NOT NULL, -- 0: no end
    password     TEXT NOT NULL, -- salted hash
    totp         BLOB,          -- sealed seed of one-time codes
    totp_step    BIGINT NOT NULL, -- newest step that was used: a code admits once
    failures     BIGINT NOT NULL, -- since the last success
    locked_until BIGINT NOT NULL,
    invited_by   TEXT NOT NULL,
    created      BIGINT NOT NULL,
    enrolled     BIGINT NOT NULL,
    last_login   BIGINT NOT NULL,
    left_at      BIGINT NOT NULL
);
CREATE TABLE access_links (
    hash    TEXT NOT NULL PRIMARY KEY,
    person  TEXT NOT NULL, -- empty: the first administrator, who says who it is
    totp    BLOB,          -- sealed seed that is being set up
    pending TEXT NOT NULL, -- hash of the password that is being set up
    chosen  TEXT NOT NULL, -- the person that the first administrator is
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE TABLE access_codes (
    hash   TEXT NOT NULL PRIMARY KEY,
    person TEXT NOT NULL
);
CREATE TABLE access_passkeys (
    id         TEXT NOT NULL PRIMARY KEY, -- base64 of the credential's id
    person     TEXT NOT NULL,
    host       TEXT NOT NULL, -- the name that it is bound to
    name       TEXT NOT NULL,
    credential TEXT NOT NULL, -- JSON; public
    created    BIGINT NOT NULL,
    used       BIGINT NOT NULL
);
CREATE TABLE access_ceremonies (
    hash    TEXT NOT NULL PRIMARY KEY,
    data    TEXT NOT NULL, -- JSON: challenge and what it is for
    expires BIGINT NOT NULL
);
CREATE TABLE access_sessions (
    hash    TEXT NOT NULL PRIMARY KEY,
    id      TEXT NOT NULL, -- what it is called in lists
    person  TEXT NOT NULL,
    factor  TEXT NOT NULL,
    address TEXT NOT NULL,
    agent   TEXT NOT NULL,
    created BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE TABLE access_tokens (
    hash    TEXT NOT NULL PRIMARY KEY,
    id      TEXT NOT NULL,
    person  TEXT NOT NULL, -- who answers for it
    name    TEXT NOT NULL,
    actions TEXT NOT NULL, -- JSON array
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL
);
CREATE TABLE access_grants (
    id         {{id}},
    person     TEXT NOT NULL,
    actions    TEXT NOT NULL, -- JSON array
    reason     TEXT NOT NULL,
    minutes    BIGINT NOT NULL,
    state      TEXT NOT NULL, -- asked, given, refused, ended, reviewed
    glass      BIGINT NOT NULL, -- 1: taken without approval
    asked      BIGINT NOT NULL,
    approver   TEXT NOT NULL,
    given      BIGINT NOT NULL,
    until      BIGINT NOT NULL,
    review_due BIGINT NOT NULL,
    reviewer   TEXT NOT NULL,
    verdict    TEXT NOT NULL,
    reviewed   BIGINT NOT NULL
);
CREATE TABLE access_reviews (
    id       {{id}},
    opened   BIGINT NOT NULL,
    due      BIGINT NOT NULL,
    person   TEXT NOT NULL,
    roles    TEXT NOT NULL, -- JSON array, as they were
    reviewer TEXT NOT NULL,
    decision TEXT NOT NULL, -- empty, keep, remove
    note     TEXT NOT NULL,
    decided  BIGINT NOT NULL
);
CREATE INDEX access_sessions_person ON access_sessions (person);
CREATE INDEX access_tokens_person ON access_tokens (person);
CREATE INDEX access_passkeys_person ON access_passkeys (person);

-- +goose Down
DROP TABLE access_reviews;
DROP TABLE access_grants;
DROP TABLE access_tokens;
DROP TABLE access_sessions;
DROP TABLE access_ceremonies;
DROP TABLE access_passkeys;
DROP TABLE access_codes;
DROP TABLE access_links;
DROP TABLE access_people;
