-- Messages delivered into users' inboxes: a message that is delivered twice after a crash stands once.
CREATE TABLE inbox (
    message_id  uuid        NOT NULL PRIMARY KEY,
    -- when it was delivered
    created_at  timestamptz NOT NULL,
    read_at     timestamptz,
    archived_at timestamptz,
    -- not shown from then on, and swept away soon after
    expires_at  timestamptz NOT NULL,
    user_id     text        NOT NULL,
    subject     text,
    text        text        NOT NULL,
    -- JSON
    data        text
);
-- A list shows what is unread, then what is read, each the newest first. So each row stands in exactly one of three indexes,
-- by its state, and a page of a list is a walk along one of them or two, however long the inbox is. Reading a message
-- moves its row from one to another, which costs an update that is not HOT: other than `message`, a row here changes once
-- or twice in its life, by a person's hand. One index over (user_id, read_at IS NOT NULL, …) would cost the same and count
-- the unread among all that was ever read.
CREATE INDEX inbox_unread ON inbox (user_id, created_at, message_id) WHERE read_at IS NULL AND archived_at IS NULL;
CREATE INDEX inbox_read ON inbox (user_id, created_at, message_id) WHERE read_at IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_archived ON inbox (user_id, created_at, message_id) WHERE archived_at IS NOT NULL;
CREATE INDEX inbox_by_expiry ON inbox (expires_at);
