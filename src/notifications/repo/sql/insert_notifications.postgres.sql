-- One statement for all that came in together; SQLite runs a prepared INSERT for each row instead.
INSERT INTO notification (message_id, batch_id, scheduled_at, updated_at, is_awaited, text, subject, html, data, metadata,
    retry, event_id, message_group, is_transactional, template)
SELECT * FROM unnest($columns)
