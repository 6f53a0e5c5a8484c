DROP TRIGGER client_moves ON client;
DROP FUNCTION note_client_move();
DROP TABLE client_move;
