-- +goose Up
ALTER TABLE backup_copies ADD COLUMN line TEXT NOT NULL DEFAULT ''; -- how its bytes travelled, in words; empty: not seen by this server

-- +goose Down
ALTER TABLE backup_copies DROP COLUMN line;
