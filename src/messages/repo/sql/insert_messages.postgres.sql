-- One statement for a whole group of outcomes; SQLite runs a prepared INSERT for each row instead, since it has no
-- round trip to save. A message that is there already (a commit whose answer was lost) is left as it is and not
-- answered, so that it is counted once.
INSERT INTO message (id, client_id, due_at, expires_at, finished_at, mailing_number, duration_ms, status_code, channel,
    priority, status, attempts, revision, recipient, provider_id, error)
SELECT * FROM unnest($columns)
ON CONFLICT DO NOTHING
RETURNING id
