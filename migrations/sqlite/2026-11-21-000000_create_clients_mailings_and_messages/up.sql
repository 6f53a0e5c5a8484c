-- Ids are UUIDv7 as 16 bytes, times are microseconds since the epoch, statuses are the codes of src/kinds.rs.
-- WITHOUT ROWID: rows are read and written in id order, and every other index already ends in the id.

CREATE TABLE client (
    id                   BLOB    NOT NULL PRIMARY KEY,
    phone_number         INTEGER NOT NULL UNIQUE,
    mobile_operator_code TEXT,
    tag                  TEXT,
    timezone             TEXT,
    email                TEXT,
    push_token           TEXT,
    external_id          TEXT UNIQUE,
    attributes           TEXT    NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- An audience is walked one (code, tag) range at a time in id order: each kind of range has its index.
CREATE INDEX client_by_operator ON client (mobile_operator_code, id);
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);

-- Names of attributes that some client has had: what a mailing's placeholders may name.
CREATE TABLE client_attribute (
    name TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE mailing (
    id            BLOB    NOT NULL PRIMARY KEY,
    text          TEXT    NOT NULL,
    filter        TEXT    NOT NULL,
    channel       INTEGER NOT NULL,
    priority      INTEGER NOT NULL,
    status        INTEGER NOT NULL,
    starts_at     INTEGER NOT NULL,
    ends_at       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    -- the audience: how many, the last id that may belong to it, and how far it has been walked
    total         INTEGER NOT NULL DEFAULT 0,
    planned       INTEGER NOT NULL DEFAULT 0,
    upper_bound   BLOB,
    cursor_range  INTEGER NOT NULL DEFAULT 0,
    cursor_client BLOB,
    walked        INTEGER NOT NULL DEFAULT 0,
    -- the books; queued and sending are derived
    sent          INTEGER NOT NULL DEFAULT 0,
    failed        INTEGER NOT NULL DEFAULT 0,
    expired       INTEGER NOT NULL DEFAULT 0,
    cancelled     INTEGER NOT NULL DEFAULT 0,
    -- nothing more will change
    settled       INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mailing_open ON mailing (id) WHERE settled = 0;

-- What makes a mailing due: status 1 created, 2 in work (since taken_at).
CREATE TABLE pending_mailing (
    id         BLOB    NOT NULL PRIMARY KEY,
    mailing_id BLOB    NOT NULL UNIQUE REFERENCES mailing (id) ON DELETE CASCADE,
    status     INTEGER NOT NULL CHECK (status IN (1, 2)),
    due_at     INTEGER NOT NULL,
    taken_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_mailing_due ON pending_mailing (due_at);

-- No index names a column that changes. A mailing's message is written with its first outcome.
CREATE TABLE message (
    id          BLOB    NOT NULL PRIMARY KEY,
    mailing_id  BLOB,
    client_id   BLOB,
    recipient   TEXT    NOT NULL,
    channel     INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    -- grows with every recorded outcome: the fence against a page that was overtaken
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
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_id, client_id);

-- Exactly the messages that wait: claiming deletes the row.
CREATE TABLE due (
    message_id BLOB    NOT NULL PRIMARY KEY,
    mailing_id BLOB,
    channel    INTEGER NOT NULL,
    priority   INTEGER NOT NULL,
    due_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX due_by_time ON due (channel, priority, due_at);
CREATE INDEX due_by_mailing ON due (mailing_id);

CREATE TABLE node (
    id           BLOB    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is in flight. The members stand apart: `remaining` changes with every group commit, they never do.
CREATE TABLE page (
    id         BLOB    NOT NULL PRIMARY KEY,
    node_id    BLOB,
    mailing_id BLOB,
    channel    INTEGER NOT NULL,
    priority   INTEGER NOT NULL,
    remaining  INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE page_members (
    page_id     BLOB NOT NULL PRIMARY KEY,
    message_ids BLOB NOT NULL,
    client_ids  BLOB NOT NULL,
    revisions   BLOB NOT NULL
) STRICT;

CREATE TABLE attempt (
    message_id  BLOB    NOT NULL,
    number      INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    status_code INTEGER,
    duration_ms INTEGER NOT NULL,
    error       TEXT,
    PRIMARY KEY (message_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    message_id BLOB    NOT NULL PRIMARY KEY,
    mailing_id BLOB,
    channel    INTEGER NOT NULL,
    failed_at  INTEGER NOT NULL,
    error      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letter_of_mailing ON dead_letter (mailing_id, message_id);
