-- What is known of the servers that webhooks go to: those that somebody registered, and those that fail.
CREATE TABLE webhook_endpoint (
    id               BLOB    NOT NULL PRIMARY KEY,
    url              TEXT    NOT NULL,
    description      TEXT,
    -- false: it is here because it failed, and goes when it has recovered
    is_registered    INTEGER NOT NULL,
    -- whsec_…; none: the default one
    secret           TEXT,
    -- signs as well until then
    old_secret       TEXT,
    old_secret_until INTEGER,
    -- 1 by hand, 2 it failed for long, 3 it answered 410
    disabled         INTEGER,
    disabled_at      INTEGER,
    -- since when every attempt failed, and how many there were
    failing_since    INTEGER,
    failures         INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX webhook_endpoint_of_url ON webhook_endpoint (url);
