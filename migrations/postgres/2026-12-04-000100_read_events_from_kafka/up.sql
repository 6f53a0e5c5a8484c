-- Where the next record is read, of each partition that a consumer group reads. It moves in the transaction that stores the
-- partition's records, and only from the offset that the node had read from: a node that lost the partition moves it no more.
CREATE TABLE broker_position (
    consumer_group text NOT NULL,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    -- the topic of this name; another one has another id, and its offsets begin anew
    topic_id       uuid NOT NULL,
    -- how many topics of this name were read before this one
    incarnation    integer NOT NULL,
    next_offset    bigint NOT NULL,
    moved_at       timestamptz NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
);

-- Records of a broker that could not be taken, and are tried again.
CREATE TABLE refused_event (
    id          uuid NOT NULL PRIMARY KEY,
    -- topic/partition/offset
    subject     text NOT NULL,
    -- the event's id, and its type where a header names it
    key         text NOT NULL,
    name        text,
    body        bytea NOT NULL,
    tries       integer NOT NULL,
    due_at      timestamptz NOT NULL,
    error       text NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX refused_event_due ON refused_event (due_at);

-- its type, where a header named it
ALTER TABLE dead_event ADD COLUMN name text;
