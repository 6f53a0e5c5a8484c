-- Where the next record is read, of each partition that a consumer group reads. It moves in the transaction that stores the
-- partition's records, and only from the offset that the node had read from: a node that lost the partition moves it no more.
CREATE TABLE broker_position (
    consumer_group TEXT    NOT NULL,
    topic          TEXT    NOT NULL,
    partition      INTEGER NOT NULL,
    -- the topic of this name; another one has another id, and its offsets begin anew
    topic_id       BLOB    NOT NULL,
    -- how many topics of this name were read before this one
    incarnation    INTEGER NOT NULL,
    next_offset    INTEGER NOT NULL,
    moved_at       INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) STRICT, WITHOUT ROWID;

-- Records of a broker that could not be taken, and are tried again.
CREATE TABLE refused_event (
    id          BLOB    NOT NULL PRIMARY KEY,
    -- topic/partition/offset
    subject     TEXT    NOT NULL,
    -- the event's id, and its type where a header names it
    key         TEXT    NOT NULL,
    name        TEXT,
    body        BLOB    NOT NULL,
    tries       INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    error       TEXT    NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX refused_event_due ON refused_event (due_at);

-- its type, where a header named it
ALTER TABLE dead_event ADD COLUMN name TEXT;
