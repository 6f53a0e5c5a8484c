-- One statement for all that came in together; SQLite runs a prepared INSERT for each row instead. Unlike outcomes these
-- are never written a second time, so there is no ON CONFLICT: it would look every row up in both unique indexes first,
-- and write it in two steps.
INSERT INTO message (id, client_id, due_at, expires_at, channel, priority, status, revision, recipient, attempts)
SELECT *, 0 FROM unnest($columns)
