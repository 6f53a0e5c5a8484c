-- HTTP requests to be run at a time; the message of each, in `message`, has its state and its attempts.
CREATE TABLE request (
    message_id    uuid        NOT NULL PRIMARY KEY,
    -- 1 asked for by itself, 2 a run of a recurring one, 3 reports the result of another
    kind          smallint    NOT NULL,
    -- the recurring one of a run; the request whose result it reports
    parent_id     uuid,
    scheduled_at  timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    -- JSON: method, URL, headers, body, credential, time, and what is tried again
    spec          text        NOT NULL,
    -- the milliseconds before each further attempt, as a JSON array; none: the service's
    retry         text,
    -- JSON: where its result is reported to
    notify        text,
    -- when the last attempt began, and what it was answered: status and headers as JSON, and the body
    executed_at   timestamptz,
    response      text,
    response_body bytea
);
CREATE INDEX request_of_parent ON request (parent_id, message_id) WHERE parent_id IS NOT NULL;

-- What makes a request at each of its times.
CREATE TABLE recurring_request (
    id         uuid        NOT NULL PRIMARY KEY,
    -- 1 scheduled, 2 paused, 3 cancelled
    status     smallint    NOT NULL,
    cron       text        NOT NULL,
    -- IANA
    timezone   text        NOT NULL,
    -- what becomes of runs that were missed: 1 once, 2 skip
    catch_up   smallint    NOT NULL,
    -- of the next run; none: no run is planned
    next_at    timestamptz,
    last_at    timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- none of its runs is planned before this time
    starts_at  timestamptz,
    -- none of its runs begins at this time or after it
    ends_at    timestamptz,
    -- as in `request`
    spec       text        NOT NULL,
    retry      text,
    notify     text
);
CREATE INDEX recurring_request_by_next ON recurring_request (next_at, id) WHERE next_at IS NOT NULL;
