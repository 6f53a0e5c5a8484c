-- As claim.postgres.sql. No SKIP LOCKED: SQLite has one writer at a time, so nothing else can hold these rows.
DELETE FROM due
WHERE message_id IN (
    SELECT message_id FROM due
    WHERE channel = ?1 AND priority = ?2 AND due_at <= ?3
    ORDER BY due_at
    LIMIT ?4
)
RETURNING message_id, mailing_id
