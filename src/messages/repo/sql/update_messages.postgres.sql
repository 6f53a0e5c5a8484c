-- One statement for a whole group; SQLite runs a prepared UPDATE for each row instead. The revision is the fence: a
-- node whose lease was taken over cannot overwrite the outcome. `m.id = ANY($1)` repeats the join for the planner, so
-- that it reads only these rows.
UPDATE message AS m
SET status = o.status, attempts = o.attempts, revision = o.revision, due_at = o.due_at,
    finished_at = o.finished_at, status_code = o.status_code, duration_ms = o.duration_ms,
    provider_id = o.provider_id, error = o.error
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    AS o(id, status, attempts, revision, due_at, finished_at, status_code, duration_ms, provider_id, error)
WHERE m.id = ANY($1) AND m.id = o.id AND m.revision = o.revision - 1
RETURNING m.id
