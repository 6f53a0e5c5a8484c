-- Attributes that have a type, and how far the clients that had them before are converted.
CREATE TABLE declared_attribute (
    name         TEXT NOT NULL PRIMARY KEY,
    kind         INTEGER NOT NULL,
    label        TEXT,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    -- whether clients are still to be converted, those after this one
    converting   INTEGER NOT NULL,
    cursor_id    BLOB,
    looked_at    INTEGER NOT NULL,
    converted    INTEGER NOT NULL,
    unconverted  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
