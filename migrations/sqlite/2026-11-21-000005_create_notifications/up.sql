-- What a single message says, and how it came in; the message itself is in `message`.
CREATE TABLE notification (
    message_id   BLOB    NOT NULL PRIMARY KEY,
    batch_id     BLOB,
    scheduled_at INTEGER,
    updated_at   INTEGER NOT NULL,
    -- somebody waits for its end, perhaps at another node
    is_awaited   INTEGER NOT NULL,
    text         TEXT    NOT NULL,
    subject      TEXT,
    -- JSON
    data         TEXT,
    metadata     TEXT,
    -- the milliseconds before each further attempt, as a JSON array; none: the service's
    retry        TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_of_batch ON notification (batch_id, message_id) WHERE batch_id IS NOT NULL;

CREATE TABLE batch (
    id    BLOB    NOT NULL PRIMARY KEY,
    total INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a request with an Idempotency-Key was answered. Without an answer it is in work until `locked_until`.
CREATE TABLE idempotency_key (
    key          TEXT    NOT NULL PRIMARY KEY,
    fingerprint  BLOB    NOT NULL,
    -- what was made, for an answer that nobody lived to write
    resource_id  BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    locked_until INTEGER,
    status       INTEGER,
    location     TEXT,
    body         TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_key_by_expiry ON idempotency_key (expires_at);

-- Single messages by whom they are for; a mailing's cost nothing here.
CREATE INDEX message_to_recipient ON message (recipient, id) WHERE mailing_number IS NULL;
CREATE INDEX message_to_client ON message (client_id, id) WHERE mailing_number IS NULL AND client_id IS NOT NULL;

-- A message that waits expires at its time, also while nothing is sent.
ALTER TABLE due ADD COLUMN expires_at INTEGER;
CREATE INDEX due_by_expiry ON due (expires_at) WHERE expires_at IS NOT NULL;
