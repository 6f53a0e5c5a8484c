-- Clients whose operator or tag changed: a mailing that was being walked by operators or tags meanwhile may have passed
-- them by on both sides. A trigger, so that every way of changing a client is noted.
CREATE TABLE client_move (
    client_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client
WHEN OLD.mobile_operator_code IS NOT NEW.mobile_operator_code OR OLD.tag IS NOT NEW.tag
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
END;
