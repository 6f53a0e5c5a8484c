-- SKIP LOCKED lets several nodes claim at once without waiting for each other. Deleting the row is the claim.
DELETE FROM due
WHERE message_id IN (
    SELECT message_id FROM due
    WHERE channel = $1 AND priority = $2 AND due_at <= $3
    ORDER BY due_at
    LIMIT $4
    FOR UPDATE SKIP LOCKED
)
RETURNING message_id
