-- What a client does not want, and when; who never said anything has no row.
CREATE TABLE preference (
    client_id      uuid        NOT NULL PRIMARY KEY,
    -- a bit for each channel that it opted out of, at the place of the channel's number
    channels       smallint    NOT NULL,
    -- JSON: the groups that it opted out of
    message_groups text,
    -- minutes of the day, by the client's clock
    quiet_from     smallint,
    quiet_until    smallint,
    updated_at     timestamptz NOT NULL
);

-- Addresses that opted out and are no client's.
CREATE TABLE opt_out_address (
    channel        smallint    NOT NULL,
    recipient      text        NOT NULL,
    -- '' for everything
    message_group  text        NOT NULL,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (channel, recipient, message_group)
);

-- What its recipients may opt out of, or that they may not.
ALTER TABLE notification ADD COLUMN message_group text;
ALTER TABLE notification ADD COLUMN is_transactional boolean NOT NULL DEFAULT false;
ALTER TABLE mailing ADD COLUMN message_group text;
ALTER TABLE mailing ADD COLUMN is_transactional boolean NOT NULL DEFAULT false;
