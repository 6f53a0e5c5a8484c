-- A message names its mailing by a small number, in its row and in its index, where an id takes 16 bytes each time.
ALTER TABLE mailing ADD COLUMN number INTEGER NOT NULL DEFAULT 0; -- set with the next statement of the same transaction
UPDATE mailing SET number = o.number
FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM mailing) o WHERE o.id = mailing.id;
CREATE UNIQUE INDEX mailing_by_number ON mailing (number);

-- When a message was made is read from its id, when a mailing's message expires from the mailing.
CREATE TABLE message_by_number (
    id             BLOB    NOT NULL PRIMARY KEY,
    client_id      BLOB,
    due_at         INTEGER,
    -- the end of a window of its own; of a mailing's message it is the mailing's
    expires_at     INTEGER,
    finished_at    INTEGER,
    mailing_number INTEGER,
    duration_ms    INTEGER,
    status_code    INTEGER,
    channel        INTEGER NOT NULL,
    priority       INTEGER NOT NULL,
    status         INTEGER NOT NULL,
    attempts       INTEGER NOT NULL,
    -- grows with every recorded outcome: the fence against a page that was overtaken
    revision       INTEGER NOT NULL,
    -- a text; one that is an integer is stored as such: a phone number takes half the bytes
    recipient      ANY     NOT NULL,
    provider_id    TEXT,
    error          TEXT
) STRICT, WITHOUT ROWID;
-- The code of *sent*, which nearly all become, is 1 now: SQLite stores 0 and 1 in no byte. 1 was *sending*, never stored.
INSERT INTO message_by_number (id, client_id, due_at, finished_at, mailing_number, duration_ms, status_code, channel,
    priority, status, attempts, revision, recipient, provider_id, error)
SELECT m.id, m.client_id, m.due_at, m.finished_at, mailing.number, m.duration_ms, m.status_code, m.channel, m.priority,
    iif(m.status = 2, 1, m.status), m.attempts, m.revision,
    iif(CAST(CAST(m.recipient AS INTEGER) AS TEXT) = m.recipient, CAST(m.recipient AS INTEGER), m.recipient),
    m.provider_id, m.error
FROM message m LEFT JOIN mailing ON mailing.id = m.mailing_id
ORDER BY m.id;
DROP TABLE message;
ALTER TABLE message_by_number RENAME TO message;
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_number, client_id);
