-- Why it failed (1 unreachable, 2 template, 3 rejected, 4 gone, 5 exhausted, 6 poison: an event, which has no channel), of
-- which event it is, and since when nobody can replay it (1 dropped, 2 too old). It stays as the index of what failed.
ALTER TABLE dead_letter RENAME COLUMN message_id TO id;
ALTER TABLE dead_letter ALTER COLUMN channel DROP NOT NULL;
ALTER TABLE dead_letter ADD COLUMN class smallint;
UPDATE dead_letter SET class = CASE WHEN error LIKE '% attempts were used' THEN 5 ELSE 3 END;
ALTER TABLE dead_letter ALTER COLUMN class SET NOT NULL;
ALTER TABLE dead_letter ADD COLUMN event_id uuid;
ALTER TABLE dead_letter ADD COLUMN closed_at timestamptz;
ALTER TABLE dead_letter ADD COLUMN closed smallint;
-- Those that are open, in the order in which they failed: a list or a replay by any filter is a walk along one of these,
-- and a range of time is a part of it. Those of a channel, or of a class, are a walk for each pair of both.
CREATE INDEX dead_letter_open ON dead_letter (failed_at, id) WHERE closed_at IS NULL;
CREATE INDEX dead_letter_open_of_kind ON dead_letter (channel, class, failed_at, id) WHERE closed_at IS NULL;
CREATE INDEX dead_letter_open_of_mailing ON dead_letter (mailing_id, failed_at, id)
    WHERE mailing_id IS NOT NULL AND closed_at IS NULL;
CREATE INDEX dead_letter_open_of_event ON dead_letter (event_id, failed_at, id)
    WHERE event_id IS NOT NULL AND closed_at IS NULL;
DROP INDEX dead_letter_of_mailing;
CREATE INDEX dead_letter_of_mailing ON dead_letter (mailing_id, id) WHERE mailing_id IS NOT NULL;

-- What a dead letter of an event said; its error is in `dead_letter`.
CREATE TABLE dead_event (
    id          uuid        NOT NULL PRIMARY KEY,
    -- 2 the broker
    source      smallint    NOT NULL,
    subject     text        NOT NULL,
    -- the sender's own id for it
    key         text,
    body        bytea       NOT NULL,
    tries       integer     NOT NULL,
    received_at timestamptz NOT NULL
);

-- Each time that a message was replayed. Its attempts go on counting; its schedule of further attempts begins anew behind
-- those that were made before.
CREATE TABLE replayed (
    message_id uuid        NOT NULL,
    number     smallint    NOT NULL,
    at         timestamptz NOT NULL,
    attempts   smallint    NOT NULL,
    -- the replay of many that it was a part of
    replay_id  uuid,
    PRIMARY KEY (message_id, number)
);

-- Replays of many: all that a filter lets through and that had failed before.
CREATE TABLE replay (
    id              uuid             NOT NULL PRIMARY KEY,
    -- JSON
    filter          text             NOT NULL,
    rate_per_second double precision NOT NULL,
    -- 1 running, 2 finished, 3 cancelled
    status          smallint         NOT NULL,
    created_at      timestamptz      NOT NULL,
    finished_at     timestamptz,
    -- the last letter that it came to
    cursor_at       timestamptz,
    cursor_id       uuid,
    replayed        bigint           NOT NULL,
    -- JSON: how many could not be, by the reason
    refused         text             NOT NULL,
    -- the node that is at it, until then
    taken_by        uuid,
    taken_until     timestamptz
);
CREATE INDEX replay_running ON replay (id) WHERE status = 1;
