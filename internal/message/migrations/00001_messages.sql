-- +goose Up
CREATE TABLE message_messages (
    id         TEXT    NOT NULL PRIMARY KEY, -- made of the cause and the receiver
    cause      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    person     TEXT    NOT NULL, -- empty: the channel is the receiver
    channel    TEXT    NOT NULL,
    otherwise  TEXT    NOT NULL, -- JSON array: channels that are left for the person
    urgent     INTEGER NOT NULL,
    subject    TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    data       TEXT    NOT NULL,
    state      TEXT    NOT NULL, -- waiting, handed, failed, withdrawn
    tries      BIGINT  NOT NULL,
    said       TEXT    NOT NULL, -- by the other side, or the error, at the last attempt
    created_at BIGINT  NOT NULL,
    patient    BIGINT  NOT NULL, -- from when on nobody goes on trying
    tried_at   BIGINT  NOT NULL,
    settled_at BIGINT  NOT NULL
);
CREATE INDEX message_messages_cause ON message_messages (cause);
CREATE INDEX message_messages_state ON message_messages (state, created_at);

-- +goose Down
DROP TABLE message_messages;
