-- Tags are compared without case, by a key beside the first one. Of tags with other letters than ASCII's the program makes it at
-- its start.
ALTER TABLE client ADD COLUMN tag_key text;
-- The tags after the first one: [[key, tag], …] in JSON.
ALTER TABLE client ADD COLUMN more_tags text;
DROP TRIGGER client_moves ON client;
UPDATE client SET tag_key = lower(tag COLLATE "C") WHERE tag COLLATE "C" ~ '^[ -~]+$';
DROP INDEX client_by_tag;
DROP INDEX client_by_operator_and_tag;
CREATE INDEX client_by_tag ON client (tag_key, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag_key, id);
CREATE INDEX client_without_tag_key ON client (id) WHERE tag IS NOT NULL AND tag_key IS NULL;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag_key, more_tags ON client FOR EACH ROW
WHEN (OLD.mobile_operator_code IS DISTINCT FROM NEW.mobile_operator_code OR OLD.tag_key IS DISTINCT FROM NEW.tag_key
    OR OLD.more_tags IS DISTINCT FROM NEW.more_tags)
EXECUTE FUNCTION note_client_move();
-- An index of more_tags: most clients have one tag, and are found by the indexes of their own table. Triggers keep it, so
-- that every way of changing a client does.
CREATE TABLE client_tag (
    key                  text NOT NULL,
    client_id            uuid NOT NULL,
    mobile_operator_code text,
    PRIMARY KEY (key, client_id)
);
CREATE INDEX client_tag_by_client ON client_tag (client_id);
CREATE INDEX client_tag_by_operator ON client_tag (mobile_operator_code, key, client_id);
CREATE FUNCTION keep_client_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM client_tag WHERE client_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO client_tag (key, client_id, mobile_operator_code)
        SELECT pair ->> 0, NEW.id, NEW.mobile_operator_code FROM json_array_elements(NEW.more_tags::json) AS pair;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER client_tags_come AFTER INSERT ON client FOR EACH ROW
WHEN (NEW.more_tags IS NOT NULL)
EXECUTE FUNCTION keep_client_tags();
CREATE TRIGGER client_tags_change AFTER UPDATE OF mobile_operator_code, more_tags ON client FOR EACH ROW
WHEN (OLD.more_tags IS DISTINCT FROM NEW.more_tags
    OR (NEW.more_tags IS NOT NULL AND OLD.mobile_operator_code IS DISTINCT FROM NEW.mobile_operator_code))
EXECUTE FUNCTION keep_client_tags();
CREATE TRIGGER client_tags_go AFTER DELETE ON client FOR EACH ROW
WHEN (OLD.more_tags IS NOT NULL)
EXECUTE FUNCTION keep_client_tags();
