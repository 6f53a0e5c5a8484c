-- Clients without a phone number cannot stay: this fails while there are any.
CREATE TABLE client_anew (
    id                   BLOB    NOT NULL PRIMARY KEY,
    phone_number         INTEGER NOT NULL UNIQUE,
    mobile_operator_code TEXT,
    tag                  TEXT,
    timezone             TEXT,
    email                TEXT,
    push_token           TEXT,
    external_id          TEXT UNIQUE,
    attributes           TEXT    NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    locale               TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO client_anew (id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
                         attributes, created_at, updated_at, locale)
SELECT id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
       attributes, created_at, updated_at, locale
FROM client;
DROP TABLE client;
ALTER TABLE client_anew RENAME TO client;
CREATE INDEX client_by_operator ON client (mobile_operator_code, id);
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);
CREATE INDEX client_by_email ON client (email, id) WHERE email IS NOT NULL;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client
WHEN OLD.mobile_operator_code IS NOT NEW.mobile_operator_code OR OLD.tag IS NOT NEW.tag
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
END;
