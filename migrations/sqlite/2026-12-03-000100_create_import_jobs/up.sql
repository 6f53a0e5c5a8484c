-- Imports that run as jobs. The file is in the node's own temporary folder and goes with the node; the row says what came of it.
CREATE TABLE import_job (
    id             BLOB NOT NULL PRIMARY KEY,
    status         INTEGER NOT NULL,
    -- while it is queued or running: the node that has the file, and until when that is believed without a word from it
    node_id        BLOB,
    held_until     INTEGER,
    size           INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    row_count      INTEGER NOT NULL,
    line           INTEGER NOT NULL,
    created        INTEGER NOT NULL,
    updated        INTEGER NOT NULL,
    rejected_count INTEGER NOT NULL,
    -- once it has ended: the first rejections and warnings and what was found out of the file, as JSON
    findings       TEXT,
    error          TEXT,
    created_at     INTEGER NOT NULL,
    started_at     INTEGER,
    finished_at    INTEGER
) STRICT;
CREATE INDEX import_job_held ON import_job (held_until) WHERE held_until IS NOT NULL;
