-- One statement for all that came in together; SQLite runs a prepared INSERT for each row instead.
INSERT INTO notification (message_id, batch_id, scheduled_at, updated_at, is_awaited, text, subject, data, metadata, retry)
SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
