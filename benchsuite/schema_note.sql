-- What people and commands said about runs and about the machine: a kind, what it is about, plain JSON.
-- Younger than version 1 of the journal: a journal of an older bench gets this table with its first note.
CREATE TABLE IF NOT EXISTS note (
    kind     TEXT NOT NULL,
    about    TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, about)
)
