-- +goose Up
CREATE TABLE vault_locks (
    location TEXT NOT NULL,
    object   TEXT NOT NULL,
    until    BIGINT NOT NULL, -- no earlier than this the place lets it be deleted
    PRIMARY KEY (location, object)
);

-- +goose Down
DROP TABLE vault_locks;
