-- Clients whose operator or tag changed: a mailing that was being walked by operators or tags meanwhile may have passed
-- them by on both sides. A trigger, so that every way of changing a client is noted.
CREATE TABLE client_move (
    client_id uuid NOT NULL PRIMARY KEY
);
CREATE FUNCTION note_client_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO client_move (client_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER client_moves AFTER UPDATE OF mobile_operator_code, tag ON client FOR EACH ROW
WHEN (OLD.mobile_operator_code IS DISTINCT FROM NEW.mobile_operator_code OR OLD.tag IS DISTINCT FROM NEW.tag)
EXECUTE FUNCTION note_client_move();
