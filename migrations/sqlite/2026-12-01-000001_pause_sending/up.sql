-- Whether the whole installation sends. One row at most; without one it sends.
CREATE TABLE sending (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- null: it sends
    paused_at INTEGER
) STRICT, WITHOUT ROWID;
