-- Attributes that have a type, and how far the clients that had them before are converted.
CREATE TABLE declared_attribute (
    name         text NOT NULL PRIMARY KEY,
    kind         smallint NOT NULL,
    label        text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    -- whether clients are still to be converted, those after this one
    converting   smallint NOT NULL,
    cursor_id    uuid,
    looked_at    bigint NOT NULL,
    converted    bigint NOT NULL,
    unconverted  bigint NOT NULL
);
