-- What happened in the user's business, as it came in; the messages that it caused are notifications.
CREATE TABLE event (
    id          uuid        NOT NULL PRIMARY KEY,
    -- the sender's own id for it, by which it is known again
    key         text,
    name        text        NOT NULL,
    user_target text,
    -- JSON: the other targets, by their roles
    targets     text,
    -- JSON
    payload     text        NOT NULL,
    occurred_at timestamptz,
    received_at timestamptz NOT NULL,
    -- 1 the API, 2 the broker
    source      smallint    NOT NULL,
    -- JSON: what its routes asked for and was not made, each with the reason
    skipped     text
);
CREATE UNIQUE INDEX event_of_key ON event (key) WHERE key IS NOT NULL;
CREATE INDEX event_of_name ON event (name, id);

-- Which messages an event causes.
CREATE TABLE route (
    id               uuid        NOT NULL PRIMARY KEY,
    -- an event's name, or a pattern such as order.*
    event            text        NOT NULL UNIQUE,
    description      text,
    -- what clients may opt out of; none: the event's first word
    event_group      text,
    -- nobody may opt out of it
    is_transactional boolean     NOT NULL,
    is_enabled       boolean     NOT NULL,
    -- JSON: channel, target, template and the rest of each message
    deliveries       text        NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);

-- The event that caused it.
ALTER TABLE notification ADD COLUMN event_id uuid;
CREATE INDEX notification_of_event ON notification (event_id, message_id) WHERE event_id IS NOT NULL;
-- Events name clients by their e-mail addresses too.
CREATE INDEX client_by_email ON client (email, id) WHERE email IS NOT NULL;
