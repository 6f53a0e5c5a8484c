-- What happened in the user's business, as it came in; the messages that it caused are notifications.
CREATE TABLE event (
    id          BLOB        NOT NULL PRIMARY KEY,
    -- the sender's own id for it, by which it is known again
    key         TEXT,
    name        TEXT        NOT NULL,
    user_target TEXT,
    -- JSON: the other targets, by their roles
    targets     TEXT,
    -- JSON
    payload     TEXT        NOT NULL,
    occurred_at INTEGER,
    received_at INTEGER     NOT NULL,
    -- 1 the API, 2 the broker
    source      INTEGER     NOT NULL,
    -- JSON: what its routes asked for and was not made, each with the reason
    skipped     TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX event_of_key ON event (key) WHERE key IS NOT NULL;
CREATE INDEX event_of_name ON event (name, id);

-- Which messages an event causes.
CREATE TABLE route (
    id               BLOB        NOT NULL PRIMARY KEY,
    -- an event's name, or a pattern such as order.*
    event            TEXT        NOT NULL UNIQUE,
    description      TEXT,
    -- what clients may opt out of; none: the event's first word
    event_group      TEXT,
    -- nobody may opt out of it
    is_transactional INTEGER     NOT NULL,
    is_enabled       INTEGER     NOT NULL,
    -- JSON: channel, target, template and the rest of each message
    deliveries       TEXT        NOT NULL,
    created_at       INTEGER     NOT NULL,
    updated_at       INTEGER     NOT NULL
) STRICT, WITHOUT ROWID;

-- The event that caused it.
ALTER TABLE notification ADD COLUMN event_id BLOB;
CREATE INDEX notification_of_event ON notification (event_id, message_id) WHERE event_id IS NOT NULL;
-- Events name clients by their e-mail addresses too.
CREATE INDEX client_by_email ON client (email, id) WHERE email IS NOT NULL;
