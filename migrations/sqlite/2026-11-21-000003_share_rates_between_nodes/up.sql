-- The schedule of each rate that all nodes keep together. Here there is one node, which keeps it in memory: the table is
-- for the sake of one schema.
CREATE TABLE rate (
    name    TEXT NOT NULL PRIMARY KEY,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
