DROP INDEX message_of_mailing;
ALTER TABLE message RENAME TO message_by_number;
ALTER TABLE message_by_number RENAME CONSTRAINT message_pkey TO message_by_number_pkey;
CREATE TABLE message (
    id          uuid    NOT NULL PRIMARY KEY,
    mailing_id  uuid,
    client_id   uuid,
    recipient   text    NOT NULL,
    channel     smallint NOT NULL,
    priority    smallint NOT NULL,
    status      smallint NOT NULL,
    attempts    smallint NOT NULL,
    revision    smallint NOT NULL,
    created_at  timestamptz NOT NULL,
    due_at      timestamptz,
    expires_at  timestamptz,
    finished_at timestamptz,
    status_code integer,
    duration_ms integer,
    provider_id text,
    error       text
);
-- A UUIDv7 begins with its millisecond: twelve hexadecimal digits, the first eight and the next four.
INSERT INTO message (id, mailing_id, client_id, recipient, channel, priority, status, attempts, revision, created_at,
    due_at, expires_at, finished_at, status_code, duration_ms, provider_id, error)
SELECT m.id, mailing.id, m.client_id, m.recipient, m.channel, m.priority, CASE m.status WHEN 1 THEN 2 ELSE m.status END,
    m.attempts, m.revision,
    to_timestamp(('x' || replace(left(m.id::text, 13), '-', ''))::bit(48)::bigint / 1000.0),
    m.due_at, coalesce(m.expires_at, mailing.ends_at), m.finished_at, m.status_code, m.duration_ms, m.provider_id, m.error
FROM message_by_number m LEFT JOIN mailing ON mailing.number = m.mailing_number
ORDER BY m.id;
DROP TABLE message_by_number;
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_id, client_id);
DROP INDEX mailing_by_number;
ALTER TABLE mailing DROP COLUMN number;
