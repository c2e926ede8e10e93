-- +goose Up
CREATE TABLE oncall_links (
    hash    TEXT   NOT NULL PRIMARY KEY, -- of the secret in the link, which is kept nowhere
    person  TEXT   NOT NULL, -- to whom it was sent
    calls   TEXT   NOT NULL, -- JSON array of the calls that it answers
    expires BIGINT NOT NULL,
    used_at BIGINT NOT NULL  -- 0: not yet
);
CREATE INDEX oncall_links_expires ON oncall_links (expires);

-- +goose Down
DROP TABLE oncall_links;
