-- $1 this node, $2 the leases that it holds in memory, $3 the status paused, $4 now, $5 the limit, $6 and $7 the lane,
-- $8 the only mailings. SKIP LOCKED, because several nodes take over at once, each its own leases.
UPDATE page SET node_id = $1
WHERE id IN (
    SELECT p.id FROM page p
    WHERE p.mailing_id IS NOT NULL AND p.channel = $6 AND p.priority = $7 AND ($8::uuid[] IS NULL OR p.mailing_id = ANY($8)) AND (p.node_id IS NULL
        OR (p.node_id = $1 AND NOT p.id = ANY($2))
        OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = p.node_id))
      AND NOT EXISTS (
        SELECT 1 FROM mailing m WHERE m.id = p.mailing_id AND m.status = $3 AND m.ends_at > $4)
    ORDER BY p.id
    LIMIT $5
    FOR UPDATE SKIP LOCKED
)
RETURNING id
