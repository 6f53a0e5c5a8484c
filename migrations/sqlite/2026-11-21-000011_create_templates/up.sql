-- Texts that are kept under a name, for a channel, in one or more languages.
CREATE TABLE template (
    id         BLOB    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    channel    INTEGER NOT NULL,
    -- a BCP 47 tag; '' for the texts of all whose language has none
    locale     TEXT    NOT NULL,
    -- the version in use
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (name, channel, locale)
) STRICT, WITHOUT ROWID;

-- What a template says and said; a row never changes.
CREATE TABLE template_version (
    template_id  BLOB    NOT NULL,
    version      INTEGER NOT NULL,
    subject      TEXT,
    text         TEXT    NOT NULL,
    html         TEXT,
    -- JSON: the names of what is filled in
    placeholders TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (template_id, version)
) STRICT;

-- The language that a client is written to in, a BCP 47 tag.
ALTER TABLE client ADD COLUMN locale TEXT;

-- The template that a mailing's texts were copied from.
ALTER TABLE mailing ADD COLUMN template TEXT;
-- JSON: its versions by locale, with the texts of all but the one without a locale, which stand in the mailing's own columns
ALTER TABLE mailing ADD COLUMN variants TEXT;

-- The template that a notification's texts were filled from, and which version of it.
ALTER TABLE notification ADD COLUMN template TEXT;
