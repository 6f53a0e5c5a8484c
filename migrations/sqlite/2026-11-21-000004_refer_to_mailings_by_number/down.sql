CREATE TABLE message_by_id (
    id          BLOB    NOT NULL PRIMARY KEY,
    mailing_id  BLOB,
    client_id   BLOB,
    recipient   TEXT    NOT NULL,
    channel     INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    due_at      INTEGER,
    expires_at  INTEGER,
    finished_at INTEGER,
    status_code INTEGER,
    duration_ms INTEGER,
    provider_id TEXT,
    error       TEXT
) STRICT, WITHOUT ROWID;
-- A UUIDv7 begins with its millisecond: twelve hexadecimal digits, for which SQLite has no function.
INSERT INTO message_by_id (id, mailing_id, client_id, recipient, channel, priority, status, attempts, revision,
    created_at, due_at, expires_at, finished_at, status_code, duration_ms, provider_id, error)
SELECT m.id, mailing.id, m.client_id, CAST(m.recipient AS TEXT), m.channel, m.priority, iif(m.status = 1, 2, m.status),
    m.attempts, m.revision,
    1000 * (SELECT sum((instr('0123456789ABCDEF', substr(hex(m.id), value, 1)) - 1) << (4 * (12 - value)))
        FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]')),
    m.due_at, coalesce(m.expires_at, mailing.ends_at), m.finished_at, m.status_code, m.duration_ms, m.provider_id, m.error
FROM message m LEFT JOIN mailing ON mailing.number = m.mailing_number
ORDER BY m.id;
DROP TABLE message;
ALTER TABLE message_by_id RENAME TO message;
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_id, client_id);
DROP INDEX mailing_by_number;
ALTER TABLE mailing DROP COLUMN number;
