-- Messages delivered into users' inboxes: a message that is delivered twice after a crash stands once.
CREATE TABLE inbox (
    message_id  BLOB    NOT NULL PRIMARY KEY,
    -- when it was delivered
    created_at  INTEGER NOT NULL,
    read_at     INTEGER,
    archived_at INTEGER,
    -- not shown from then on, and swept away soon after
    expires_at  INTEGER NOT NULL,
    user_id     TEXT    NOT NULL,
    subject     TEXT,
    text        TEXT    NOT NULL,
    -- JSON
    data        TEXT
) STRICT, WITHOUT ROWID;
-- A list shows what is unread, then what is read, each the newest first. So each row stands in exactly one of three indexes,
-- by its state, and a page of a list is a walk along one of them or two, however long the inbox is.
CREATE INDEX inbox_unread ON inbox (user_id, created_at, message_id) WHERE read_at IS NULL AND archived_at IS NULL;
CREATE INDEX inbox_read ON inbox (user_id, created_at, message_id) WHERE read_at IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_archived ON inbox (user_id, created_at, message_id) WHERE archived_at IS NOT NULL;
CREATE INDEX inbox_by_expiry ON inbox (expires_at);
