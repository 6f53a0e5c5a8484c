-- One statement for all that came in together; SQLite runs a prepared INSERT for each row instead. Answers which are new.
INSERT INTO inbox (message_id, created_at, expires_at, user_id, subject, text, data)
SELECT * FROM unnest($columns)
ON CONFLICT (message_id) DO NOTHING
RETURNING message_id
