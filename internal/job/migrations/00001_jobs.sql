-- +goose Up
CREATE TABLE job_jobs (
	id           {{id}},
	kind         TEXT    NOT NULL,
	key          TEXT    NOT NULL, -- at most one unfinished job per kind and non-empty key
	queue        TEXT    NOT NULL,
	priority     INTEGER NOT NULL, -- larger first
	args         TEXT    NOT NULL,
	state        TEXT    NOT NULL, -- waiting, running, done, failed, cancelled
	attempt      INTEGER NOT NULL, -- attempts that ended or run; lost and released ones do not count
	max_attempts INTEGER NOT NULL, -- 0: what the handler says
	losses       INTEGER NOT NULL, -- times in a row that the worker was lost
	run_at       INTEGER NOT NULL, -- while waiting: not before
	created_at   INTEGER NOT NULL,
	started_at   INTEGER NOT NULL, -- of the last attempt
	finished_at  INTEGER NOT NULL,
	owner        TEXT    NOT NULL, -- who runs it
	fence        INTEGER NOT NULL, -- grows with each claim; who holds an older one has lost the job
	lease_until  INTEGER NOT NULL, -- while running: without a heartbeat until then, it is taken away
	cancel       INTEGER NOT NULL, -- while running: somebody asked for its end
	error        TEXT    NOT NULL, -- of the last attempt
	result       TEXT    NOT NULL,
	progress     TEXT    NOT NULL,
	slot         INTEGER NOT NULL  -- that it fulfils, or 0
);
CREATE UNIQUE INDEX job_jobs_key ON job_jobs (kind, key) WHERE key <> '' AND state IN ('waiting', 'running');
CREATE INDEX job_jobs_waiting ON job_jobs (run_at) WHERE state = 'waiting';
CREATE INDEX job_jobs_running ON job_jobs (lease_until) WHERE state = 'running';
CREATE INDEX job_jobs_finished ON job_jobs (finished_at) WHERE finished_at <> 0;

CREATE TABLE job_schedules (
	name      TEXT    PRIMARY KEY,
	kind      TEXT    NOT NULL,
	key       TEXT    NOT NULL, -- of its jobs
	queue     TEXT    NOT NULL,
	args      TEXT    NOT NULL,
	every     TEXT    NOT NULL,
	location  TEXT    NOT NULL,
	deadline  INTEGER NOT NULL, -- microseconds after the slot; 0: until the next slot
	missed    TEXT    NOT NULL, -- policy: once, skip
	active    INTEGER NOT NULL, -- 0: no longer declared, kept because its slots are history
	cursor_at INTEGER NOT NULL, -- slots up to here are written
	refill_at INTEGER NOT NULL, -- when to write more
	ticked_at INTEGER NOT NULL  -- when slots were last written or started; later than now: the clock went back
);

CREATE TABLE job_slots (
	id          {{id}},
	schedule    TEXT    NOT NULL,
	due         INTEGER NOT NULL,
	deadline    INTEGER NOT NULL,
	state       TEXT    NOT NULL, -- expected, started, done, failed, missed
	job         INTEGER NOT NULL, -- that was started for it, or 0
	closed      INTEGER NOT NULL, -- 1: no job will be started for it any more
	finished_at INTEGER NOT NULL,
	note        TEXT    NOT NULL,
	UNIQUE (schedule, due)
);
CREATE INDEX job_slots_open ON job_slots (schedule, due) WHERE job = 0 AND closed = 0;
CREATE INDEX job_slots_unfinished ON job_slots (deadline) WHERE state IN ('expected', 'started');
CREATE INDEX job_slots_job ON job_slots (job) WHERE job <> 0;
