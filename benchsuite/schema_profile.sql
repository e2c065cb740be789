-- Where one inference's time goes, from a framework's own profiler: a run apart from the timed one.
-- Younger than version 1 of the journal: a journal of an older bench gets this table with its first profile.
CREATE TABLE IF NOT EXISTS profile (
    run       INTEGER NOT NULL REFERENCES run (number),
    model     TEXT NOT NULL,
    device    TEXT NOT NULL,
    threads   INTEGER NOT NULL,
    precision TEXT NOT NULL,
    framework TEXT NOT NULL,
    document  TEXT NOT NULL,
    PRIMARY KEY (run, model, device, threads, precision, framework)
)
