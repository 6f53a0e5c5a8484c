-- What is known of the servers that webhooks go to: those that somebody registered, and those that fail.
CREATE TABLE webhook_endpoint (
    id               uuid        NOT NULL PRIMARY KEY,
    url              text        NOT NULL,
    description      text,
    -- false: it is here because it failed, and goes when it has recovered
    is_registered    boolean     NOT NULL,
    -- whsec_…; none: the default one
    secret           text,
    -- signs as well until then
    old_secret       text,
    old_secret_until timestamptz,
    -- 1 by hand, 2 it failed for long, 3 it answered 410
    disabled         smallint,
    disabled_at      timestamptz,
    -- since when every attempt failed, and how many there were
    failing_since    timestamptz,
    failures         integer     NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);
CREATE UNIQUE INDEX webhook_endpoint_of_url ON webhook_endpoint (url);
