-- Tags after the first one are lost.
DROP TRIGGER client_tags_come ON client;
DROP TRIGGER client_tags_change ON client;
DROP TRIGGER client_tags_go ON client;
DROP FUNCTION keep_client_tags();
DROP TABLE client_tag;
DROP TRIGGER client_moves ON client;
DROP INDEX client_by_tag;
DROP INDEX client_by_operator_and_tag;
DROP INDEX client_without_tag_key;
ALTER TABLE client DROP COLUMN more_tags;
ALTER TABLE client DROP COLUMN tag_key;
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_and_tag ON client (mobile_operator_code, tag, id);
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client FOR EACH ROW
WHEN (OLD.mobile_operator_code IS DISTINCT FROM NEW.mobile_operator_code OR OLD.tag IS DISTINCT FROM NEW.tag)
EXECUTE FUNCTION note_client_move();
