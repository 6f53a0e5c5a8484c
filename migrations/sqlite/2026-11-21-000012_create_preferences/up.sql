-- What a client does not want, and when; who never said anything has no row.
CREATE TABLE preference (
    client_id      BLOB     NOT NULL PRIMARY KEY,
    -- a bit for each channel that it opted out of, at the place of the channel's number
    channels       INTEGER  NOT NULL,
    -- JSON: the groups that it opted out of
    message_groups TEXT,
    -- minutes of the day, by the client's clock
    quiet_from     INTEGER,
    quiet_until    INTEGER,
    updated_at     INTEGER  NOT NULL
) STRICT, WITHOUT ROWID;

-- Addresses that opted out and are no client's.
CREATE TABLE opt_out_address (
    channel        INTEGER  NOT NULL,
    recipient      TEXT     NOT NULL,
    -- '' for everything
    message_group  TEXT     NOT NULL,
    created_at     INTEGER  NOT NULL,
    PRIMARY KEY (channel, recipient, message_group)
) STRICT, WITHOUT ROWID;

-- What its recipients may opt out of, or that they may not.
ALTER TABLE notification ADD COLUMN message_group TEXT;
ALTER TABLE notification ADD COLUMN is_transactional INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailing ADD COLUMN message_group TEXT;
ALTER TABLE mailing ADD COLUMN is_transactional INTEGER NOT NULL DEFAULT 0;
