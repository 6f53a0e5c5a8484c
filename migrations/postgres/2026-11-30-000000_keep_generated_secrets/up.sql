-- Secrets that nobody configured: made once, from the system's random source, so that what was signed with them is worth
-- something after a restart and at every node.
CREATE TABLE generated_secret (
    -- the purpose: inbox, unsubscribe
    name       text        NOT NULL PRIMARY KEY,
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL
);
