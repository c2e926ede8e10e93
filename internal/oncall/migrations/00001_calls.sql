-- +goose Up
CREATE TABLE oncall_calls (
    id         {{id}},
    key        TEXT    NOT NULL, -- the same trouble has the same one
    subject    TEXT    NOT NULL,
    title      TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    urgent     INTEGER NOT NULL,
    notice     INTEGER NOT NULL, -- it asks for no answer
    ladder     TEXT    NOT NULL, -- JSON array of people, in the order in which they are called
    within     BIGINT  NOT NULL, -- microseconds that each has to answer
    state      TEXT    NOT NULL, -- open, answered, over, unanswered, told
    step       BIGINT  NOT NULL, -- of the ladder
    round      BIGINT  NOT NULL,
    raised_at  BIGINT  NOT NULL,
    told_at    BIGINT  NOT NULL, -- who stands at this step; 0: not yet
    told       TEXT    NOT NULL, -- JSON array of who was called until now
    cause      TEXT    NOT NULL, -- of the message that told it last
    by_person  TEXT    NOT NULL, -- who answered
    note       TEXT    NOT NULL, -- what they said, or why it is over
    ended_at   BIGINT  NOT NULL,
    news       TEXT    NOT NULL  -- JSON array of who is still to be told that it is over
);
CREATE INDEX oncall_calls_open ON oncall_calls (key) WHERE state IN ('open', 'answered', 'unanswered');
CREATE INDEX oncall_calls_due ON oncall_calls (id) WHERE state = 'open' OR news <> '[]';
CREATE TABLE oncall_people (
    person  TEXT   NOT NULL PRIMARY KEY,
    last_at BIGINT NOT NULL -- when a message was written to them
);

-- +goose Down
DROP TABLE oncall_people;
DROP TABLE oncall_calls;
