-- +goose Up
ALTER TABLE vault_reads ADD COLUMN snapshots TEXT NOT NULL DEFAULT ''; -- that need a damaged object, the newest first, with spaces between them

-- +goose Down
ALTER TABLE vault_reads DROP COLUMN snapshots;
