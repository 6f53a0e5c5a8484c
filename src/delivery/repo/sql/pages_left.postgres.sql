-- $1 this node, $2 the leases that it holds in memory, $3 the limit. SKIP LOCKED, because several nodes do this at
-- once.
SELECT p.id FROM page p
WHERE p.mailing_id IS NULL AND (p.node_id IS NULL
    OR (p.node_id = $1 AND NOT p.id = ANY($2))
    OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = p.node_id))
ORDER BY p.id
LIMIT $3
FOR UPDATE OF p SKIP LOCKED
