-- SKIP LOCKED lets several nodes claim at once without waiting for each other. Deleting the row is the claim.
-- By ctid, because the rows were just found and locked, and rows of due are never updated. By message_id the planner
-- joins, and reads the whole table up to some ten thousand rows.
DELETE FROM due
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM due
    WHERE channel = $1 AND priority = $2 AND due_at <= $3
    ORDER BY due_at
    LIMIT $4
    FOR UPDATE SKIP LOCKED
))
RETURNING message_id, mailing_id
