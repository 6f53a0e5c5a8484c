-- Tags are compared without case, by a key beside the first one. Of tags with other letters than ASCII's the program makes it at
-- its start.
ALTER TABLE client ADD COLUMN tag_key TEXT;
-- The tags after the first one: [[key, tag], …] in JSON.
ALTER TABLE client ADD COLUMN more_tags TEXT;
DROP TRIGGER client_moves;
UPDATE client SET tag_key = lower(tag) WHERE tag NOT GLOB '*[^ -~]*';
DROP INDEX client_by_tag;
DROP INDEX client_by_operator_and_tag;
CREATE INDEX client_by_tag ON client (tag_key, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag_key, id);
CREATE INDEX client_without_tag_key ON client (id) WHERE tag IS NOT NULL AND tag_key IS NULL;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag_key, more_tags ON client
WHEN OLD.mobile_operator_code IS NOT NEW.mobile_operator_code OR OLD.tag_key IS NOT NEW.tag_key
    OR OLD.more_tags IS NOT NEW.more_tags
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
END;
-- An index of more_tags: most clients have one tag, and are found by the indexes of their own table. Triggers keep it, so
-- that every way of changing a client does.
CREATE TABLE client_tag (
    key                  TEXT NOT NULL,
    client_id            BLOB NOT NULL,
    mobile_operator_code TEXT,
    PRIMARY KEY (key, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tag_by_client ON client_tag (client_id);
CREATE INDEX client_tag_by_operator ON client_tag (mobile_operator_code, key, client_id);
CREATE TRIGGER client_tags_come AFTER INSERT ON client WHEN NEW.more_tags IS NOT NULL
BEGIN
    INSERT INTO client_tag (key, client_id, mobile_operator_code)
    SELECT json_extract(value, '$[0]'), NEW.id, NEW.mobile_operator_code FROM json_each(NEW.more_tags);
END;
CREATE TRIGGER client_tags_change AFTER UPDATE OF mobile_operator_code, more_tags ON client
WHEN OLD.more_tags IS NOT NEW.more_tags
    OR (NEW.more_tags IS NOT NULL AND OLD.mobile_operator_code IS NOT NEW.mobile_operator_code)
BEGIN
    DELETE FROM client_tag WHERE client_id = OLD.id;
    INSERT INTO client_tag (key, client_id, mobile_operator_code)
    SELECT json_extract(value, '$[0]'), NEW.id, NEW.mobile_operator_code FROM json_each(NEW.more_tags);
END;
CREATE TRIGGER client_tags_go AFTER DELETE ON client WHEN OLD.more_tags IS NOT NULL
BEGIN
    DELETE FROM client_tag WHERE client_id = OLD.id;
END;
