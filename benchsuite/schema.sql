-- The journal: one file, committed after every block. Version 1; `bench` refuses a newer one.
-- IF NOT EXISTS: two processes may create the same file at the same time.
-- Times are nanoseconds in little-endian int64 blobs; facts and options are JSON.

CREATE TABLE IF NOT EXISTS run (
    number      INTEGER PRIMARY KEY,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    status      TEXT NOT NULL CHECK (status IN ('running', 'complete', 'incomplete', 'interrupted')),
    command     TEXT NOT NULL,
    options     TEXT NOT NULL,
    facts       TEXT NOT NULL
);

-- One start or resume of a run, with where its wall time went.
CREATE TABLE IF NOT EXISTS session (
    run        INTEGER NOT NULL REFERENCES run (number),
    number     INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    facts      TEXT NOT NULL,
    spent      TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, number)
);

CREATE TABLE IF NOT EXISTS cell (
    id                INTEGER PRIMARY KEY,
    run               INTEGER NOT NULL REFERENCES run (number),
    model             TEXT NOT NULL,
    framework         TEXT NOT NULL,
    device            TEXT NOT NULL,
    threads           INTEGER NOT NULL,
    precision         TEXT NOT NULL,
    model_digest      TEXT NOT NULL,
    status            TEXT CHECK (status IN ('ok', 'refused', 'failed', 'crashed', 'timeout', 'oom', 'wrong')),
    reason            TEXT NOT NULL DEFAULT '',
    log_tail          TEXT NOT NULL DEFAULT '',
    error             REAL,
    loading           TEXT,
    memory_peak_bytes INTEGER,
    restarts          INTEGER NOT NULL DEFAULT 0,
    notes             TEXT NOT NULL DEFAULT '[]',
    UNIQUE (run, model, framework, device, threads, precision)
);

CREATE TABLE IF NOT EXISTS block (
    id        INTEGER PRIMARY KEY,
    run       INTEGER NOT NULL REFERENCES run (number),
    model     TEXT NOT NULL,
    device    TEXT NOT NULL,
    threads   INTEGER NOT NULL,
    precision TEXT NOT NULL,
    number    INTEGER NOT NULL,
    session   INTEGER NOT NULL,
    before    TEXT NOT NULL,
    after     TEXT NOT NULL,
    UNIQUE (run, model, device, threads, precision, number)
);

CREATE TABLE IF NOT EXISTS turn (
    block    INTEGER NOT NULL REFERENCES block (id),
    cell     INTEGER NOT NULL REFERENCES cell (id),
    position INTEGER NOT NULL,
    run_ns   BLOB NOT NULL,
    input_ns BLOB NOT NULL,
    cpu_ns   INTEGER NOT NULL,
    PRIMARY KEY (block, cell)
) WITHOUT ROWID;
