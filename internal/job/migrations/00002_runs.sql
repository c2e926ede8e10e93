-- +goose Up
CREATE TABLE job_runs (
	job        INTEGER NOT NULL,
	fence      INTEGER NOT NULL, -- of the claim; 0: cancelled before the first
	kind       TEXT    NOT NULL,
	item       TEXT    NOT NULL, -- what the work is about, as its handler says
	attempt    INTEGER NOT NULL,
	slot       INTEGER NOT NULL, -- that the job fulfils, or 0
	owner      TEXT    NOT NULL, -- who ran it
	program    TEXT    NOT NULL, -- the version that ran it
	state      TEXT    NOT NULL, -- running, done, failed, cancelled, lost, stopped
	started_at INTEGER NOT NULL,
	ended_at   INTEGER NOT NULL, -- 0 while it runs
	error      TEXT    NOT NULL,
	args       TEXT    NOT NULL,
	result     TEXT    NOT NULL,
	PRIMARY KEY (job, fence)
);
CREATE INDEX job_runs_started ON job_runs (started_at);
CREATE INDEX job_slots_missed ON job_slots (due) WHERE state = 'missed';
CREATE INDEX job_runs_item ON job_runs (item, started_at);
