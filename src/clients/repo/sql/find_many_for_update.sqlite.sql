-- As find_many_for_update.postgres.sql, but ?1 and ?2 are JSON arrays, and there is nothing to lock: SQLite has one
-- write transaction at a time.
SELECT * FROM client
WHERE phone_number IN (SELECT value FROM json_each(?1))
   OR external_id IN (SELECT value FROM json_each(?2))
