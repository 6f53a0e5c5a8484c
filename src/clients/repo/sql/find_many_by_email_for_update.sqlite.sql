-- As find_many_by_email_for_update.postgres.sql, but ?1 to ?3 are JSON arrays, and there is nothing to lock.
-- IS NOT NULL lets SQLite use the partial index; PostgreSQL infers it.
SELECT * FROM client
WHERE phone_number IN (SELECT value FROM json_each(?1))
   OR external_id IN (SELECT value FROM json_each(?2))
   OR (email_key IS NOT NULL AND email_key IN (SELECT value FROM json_each(?3)))
