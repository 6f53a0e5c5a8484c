-- A client needs one address, which may be another than a phone number. SQLite changes a column by a new table.
CREATE TABLE client_anew (
    id                   BLOB    NOT NULL PRIMARY KEY,
    phone_number         INTEGER UNIQUE,
    mobile_operator_code TEXT,
    tag                  TEXT,
    timezone             TEXT,
    email                TEXT,
    push_token           TEXT,
    external_id          TEXT UNIQUE,
    attributes           TEXT    NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    locale               TEXT,
    -- the normal form of the e-mail address, by which it is found in any spelling
    email_key            TEXT
) STRICT, WITHOUT ROWID;
-- Of addresses with other letters than ASCII's the program makes the normal form at its start.
INSERT INTO client_anew (id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
                         attributes, created_at, updated_at, locale, email_key)
SELECT id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
       attributes, created_at, updated_at, locale, CASE WHEN email NOT GLOB '*[^!-~]*' THEN lower(email) END
FROM client;
DROP TABLE client;
ALTER TABLE client_anew RENAME TO client;
CREATE INDEX client_by_operator ON client (mobile_operator_code, id);
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);
CREATE INDEX client_by_email ON client (email_key, id) WHERE email_key IS NOT NULL;
CREATE INDEX client_without_email_key ON client (id) WHERE email IS NOT NULL AND email_key IS NULL;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client
WHEN OLD.mobile_operator_code IS NOT NEW.mobile_operator_code OR OLD.tag IS NOT NEW.tag
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
END;
