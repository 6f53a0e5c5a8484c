DROP TRIGGER client_moves;
DROP TABLE client_move;
