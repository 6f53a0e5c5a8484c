-- Ids are UUIDv7, statuses are the codes of src/kinds.rs.

CREATE TABLE client (
    id                   uuid    NOT NULL PRIMARY KEY,
    phone_number         bigint NOT NULL UNIQUE,
    mobile_operator_code text,
    tag                  text,
    timezone             text,
    email                text,
    push_token           text,
    external_id          text UNIQUE,
    attributes           text    NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL
);
-- An audience is walked one (code, tag) range at a time in id order: each kind of range has its index.
CREATE INDEX client_by_operator ON client (mobile_operator_code, id);
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);

-- Names of attributes that some client has had: what a mailing's placeholders may name.
CREATE TABLE client_attribute (
    name text NOT NULL PRIMARY KEY
);

CREATE TABLE mailing (
    id            uuid    NOT NULL PRIMARY KEY,
    text          text    NOT NULL,
    filter        text    NOT NULL,
    channel       smallint NOT NULL,
    priority      smallint NOT NULL,
    status        smallint NOT NULL,
    starts_at     timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    -- the audience: how many, the last id that may belong to it, and how far it has been walked
    total         bigint NOT NULL DEFAULT 0,
    planned       bigint NOT NULL DEFAULT 0,
    upper_bound   uuid,
    cursor_range  integer NOT NULL DEFAULT 0,
    cursor_client uuid,
    walked        boolean NOT NULL DEFAULT false,
    -- the books; queued and sending are derived
    sent          bigint NOT NULL DEFAULT 0,
    failed        bigint NOT NULL DEFAULT 0,
    expired       bigint NOT NULL DEFAULT 0,
    cancelled     bigint NOT NULL DEFAULT 0,
    -- nothing more will change
    settled       boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50); -- room beside each row: its counters change with every group commit
CREATE INDEX mailing_open ON mailing (id) WHERE NOT settled;

-- What makes a mailing due: status 1 created, 2 in work (since taken_at).
CREATE TABLE pending_mailing (
    id         uuid    NOT NULL PRIMARY KEY,
    mailing_id uuid    NOT NULL UNIQUE REFERENCES mailing (id) ON DELETE CASCADE,
    status     integer NOT NULL CHECK (status IN (1, 2)),
    due_at     timestamptz NOT NULL,
    taken_at   timestamptz
);
CREATE INDEX pending_mailing_due ON pending_mailing (due_at);

-- No index names a column that changes. A mailing's message is written with its first outcome.
CREATE TABLE message (
    id          uuid    NOT NULL PRIMARY KEY,
    mailing_id  uuid,
    client_id   uuid,
    recipient   text    NOT NULL,
    channel     smallint NOT NULL,
    priority    smallint NOT NULL,
    status      smallint NOT NULL,
    attempts    smallint NOT NULL,
    -- grows with every recorded outcome: the fence against a page that was overtaken
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
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_id, client_id);

-- Exactly the messages that wait: claiming deletes the row.
CREATE TABLE due (
    message_id uuid    NOT NULL PRIMARY KEY,
    mailing_id uuid,
    channel    smallint NOT NULL,
    priority   smallint NOT NULL,
    due_at     timestamptz NOT NULL
);
CREATE INDEX due_by_time ON due (channel, priority, due_at);
CREATE INDEX due_by_mailing ON due (mailing_id);

CREATE TABLE node (
    id           uuid    NOT NULL PRIMARY KEY,
    name         text    NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

-- What is in flight. The members stand apart: `remaining` changes with every group commit, they never do.
CREATE TABLE page (
    id         uuid    NOT NULL PRIMARY KEY,
    node_id    uuid,
    mailing_id uuid,
    channel    smallint NOT NULL,
    priority   smallint NOT NULL,
    remaining  integer NOT NULL,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE page_members (
    page_id     uuid NOT NULL PRIMARY KEY,
    message_ids bytea NOT NULL,
    client_ids  bytea NOT NULL,
    revisions   bytea NOT NULL
);

CREATE TABLE attempt (
    message_id  uuid    NOT NULL,
    number      smallint NOT NULL,
    at          timestamptz NOT NULL,
    outcome     smallint NOT NULL,
    status_code integer,
    duration_ms integer NOT NULL,
    error       text,
    PRIMARY KEY (message_id, number)
);

CREATE TABLE dead_letter (
    message_id uuid    NOT NULL PRIMARY KEY,
    mailing_id uuid,
    channel    smallint NOT NULL,
    failed_at  timestamptz NOT NULL,
    error      text    NOT NULL
);
CREATE INDEX dead_letter_of_mailing ON dead_letter (mailing_id, message_id);
