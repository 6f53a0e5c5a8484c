-- The schedule of each rate that all nodes keep together: until when it has been given out, in blocks.
CREATE TABLE rate (
    name    text NOT NULL PRIMARY KEY,
    next_at timestamptz NOT NULL
) WITH (fillfactor = 50);
