-- Tags after the first one are lost.
DROP TRIGGER client_tags_come;
DROP TRIGGER client_tags_change;
DROP TRIGGER client_tags_go;
DROP TABLE client_tag;
DROP TRIGGER client_moves;
DROP INDEX client_by_tag;
DROP INDEX client_by_operator_and_tag;
DROP INDEX client_without_tag_key;
ALTER TABLE client DROP COLUMN more_tags;
ALTER TABLE client DROP COLUMN tag_key;
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client
WHEN OLD.mobile_operator_code IS NOT NEW.mobile_operator_code OR OLD.tag IS NOT NEW.tag
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
END;
