-- One statement for many rows; SQLite runs a prepared INSERT for each row instead.
INSERT INTO due (message_id, mailing_id, channel, priority, due_at, expires_at)
SELECT * FROM unnest($columns)
