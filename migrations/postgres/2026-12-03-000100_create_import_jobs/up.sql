-- Imports that run as jobs. The file is in the node's own temporary folder and goes with the node; the row says what came of it.
CREATE TABLE import_job (
    id             uuid NOT NULL PRIMARY KEY,
    status         smallint NOT NULL,
    -- while it is queued or running: the node that has the file, and until when that is believed without a word from it
    node_id        uuid,
    held_until     timestamptz,
    size           bigint NOT NULL,
    bytes          bigint NOT NULL,
    row_count      bigint NOT NULL,
    line           bigint NOT NULL,
    created        bigint NOT NULL,
    updated        bigint NOT NULL,
    rejected_count bigint NOT NULL,
    -- once it has ended: the first rejections and warnings and what was found out of the file, as JSON
    findings       text,
    error          text,
    created_at     timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz
);
CREATE INDEX import_job_held ON import_job (held_until) WHERE held_until IS NOT NULL;
