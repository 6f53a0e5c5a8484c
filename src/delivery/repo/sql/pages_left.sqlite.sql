-- As pages_left.postgres.sql, with a JSON array of hexadecimal ids in place of the array.
SELECT p.id FROM page p
WHERE p.mailing_id IS NULL AND (p.node_id IS NULL
    OR (p.node_id = ?1 AND p.id NOT IN (SELECT unhex(value) FROM json_each(?2)))
    OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = p.node_id))
ORDER BY p.id
LIMIT ?3
