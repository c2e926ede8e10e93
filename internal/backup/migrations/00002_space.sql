-- +goose Up
CREATE TABLE backup_space (
    location   TEXT NOT NULL,
    day        BIGINT NOT NULL, -- days since 1970, UTC: the first look of each day is kept
    at         BIGINT NOT NULL,
    total      BIGINT NOT NULL, -- bytes
    free       BIGINT NOT NULL,
    PRIMARY KEY (location, day)
);

-- +goose Down
DROP TABLE backup_space;
