-- Texts that are kept under a name, for a channel, in one or more languages.
CREATE TABLE template (
    id         uuid        NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    channel    smallint    NOT NULL,
    -- a BCP 47 tag; '' for the texts of all whose language has none
    locale     text        NOT NULL,
    -- the version in use
    version    integer     NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (name, channel, locale)
);

-- What a template says and said; a row never changes.
CREATE TABLE template_version (
    template_id  uuid        NOT NULL,
    version      integer     NOT NULL,
    subject      text,
    text         text        NOT NULL,
    html         text,
    -- JSON: the names of what is filled in
    placeholders text        NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (template_id, version)
);

-- The language that a client is written to in, a BCP 47 tag.
ALTER TABLE client ADD COLUMN locale text;

-- The template that a mailing's texts were copied from.
ALTER TABLE mailing ADD COLUMN template text;
-- JSON: its versions by locale, with the texts of all but the one without a locale, which stand in the mailing's own columns
ALTER TABLE mailing ADD COLUMN variants text;

-- The template that a notification's texts were filled from, and which version of it.
ALTER TABLE notification ADD COLUMN template text;
