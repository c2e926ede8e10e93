-- +goose Up
CREATE TABLE backup_delegated (
    store     TEXT NOT NULL PRIMARY KEY,
    at        BIGINT NOT NULL, -- the last look, whatever came of it
    seen      BIGINT NOT NULL, -- the last look that was answered; 0: none
    failures  BIGINT NOT NULL, -- looks in a row without an answer
    error     TEXT NOT NULL,
    points    TEXT NOT NULL    -- what the last answer named, as JSON
);

-- +goose Down
DROP TABLE backup_delegated;
