-- Why it failed (1 unreachable, 2 template, 3 rejected, 4 gone, 5 exhausted, 6 poison: an event, which has no channel), of
-- which event it is, and since when nobody can replay it (1 dropped, 2 too old). It stays as the index of what failed.
DROP INDEX dead_letter_of_mailing;
ALTER TABLE dead_letter RENAME TO dead_letter_before;
CREATE TABLE dead_letter (
    id         BLOB    NOT NULL PRIMARY KEY,
    mailing_id BLOB,
    channel    INTEGER,
    class      INTEGER NOT NULL,
    failed_at  INTEGER NOT NULL,
    event_id   BLOB,
    closed_at  INTEGER,
    closed     INTEGER,
    error      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO dead_letter (id, mailing_id, channel, class, failed_at, error)
SELECT message_id, mailing_id, channel, CASE WHEN error LIKE '% attempts were used' THEN 5 ELSE 3 END, failed_at, error
FROM dead_letter_before ORDER BY message_id;
DROP TABLE dead_letter_before;
-- Those that are open, in the order in which they failed: a list or a replay by any filter is a walk along one of these,
-- and a range of time is a part of it. Those of a channel, or of a class, are a walk for each pair of both.
CREATE INDEX dead_letter_open ON dead_letter (failed_at, id) WHERE closed_at IS NULL;
CREATE INDEX dead_letter_open_of_kind ON dead_letter (channel, class, failed_at, id) WHERE closed_at IS NULL;
CREATE INDEX dead_letter_open_of_mailing ON dead_letter (mailing_id, failed_at, id)
    WHERE mailing_id IS NOT NULL AND closed_at IS NULL;
CREATE INDEX dead_letter_open_of_event ON dead_letter (event_id, failed_at, id)
    WHERE event_id IS NOT NULL AND closed_at IS NULL;
CREATE INDEX dead_letter_of_mailing ON dead_letter (mailing_id, id) WHERE mailing_id IS NOT NULL;

-- What a dead letter of an event said; its error is in `dead_letter`.
CREATE TABLE dead_event (
    id          BLOB    NOT NULL PRIMARY KEY,
    -- 2 the broker
    source      INTEGER NOT NULL,
    subject     TEXT    NOT NULL,
    -- the sender's own id for it
    key         TEXT,
    body        BLOB    NOT NULL,
    tries       INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Each time that a message was replayed. Its attempts go on counting; its schedule of further attempts begins anew behind
-- those that were made before.
CREATE TABLE replayed (
    message_id BLOB    NOT NULL,
    number     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    -- the replay of many that it was a part of
    replay_id  BLOB,
    PRIMARY KEY (message_id, number)
) STRICT, WITHOUT ROWID;

-- Replays of many: all that a filter lets through and that had failed before.
CREATE TABLE replay (
    id              BLOB    NOT NULL PRIMARY KEY,
    -- JSON
    filter          TEXT    NOT NULL,
    rate_per_second REAL    NOT NULL,
    -- 1 running, 2 finished, 3 cancelled
    status          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    -- the last letter that it came to
    cursor_at       INTEGER,
    cursor_id       BLOB,
    replayed        INTEGER NOT NULL,
    -- JSON: how many could not be, by the reason
    refused         TEXT    NOT NULL,
    -- the node that is at it, until then
    taken_by        BLOB,
    taken_until     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX replay_running ON replay (id) WHERE status = 1;
