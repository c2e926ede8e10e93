-- +goose Up
ALTER TABLE vault_reads ADD COLUMN held BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vault_reads DROP COLUMN held;
