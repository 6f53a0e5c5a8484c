-- As take_over.postgres.sql, with JSON arrays of hexadecimal ids in place of arrays.
UPDATE page SET node_id = ?1
WHERE id IN (
    SELECT p.id FROM page p
    WHERE p.mailing_id IS NOT NULL AND p.channel = ?6 AND p.priority = ?7
      AND (?8 IS NULL OR p.mailing_id IN (SELECT unhex(value) FROM json_each(?8)))
      AND (p.node_id IS NULL
        OR (p.node_id = ?1 AND p.id NOT IN (SELECT unhex(value) FROM json_each(?2)))
        OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = p.node_id))
      AND NOT EXISTS (
        SELECT 1 FROM mailing m WHERE m.id = p.mailing_id AND m.status = ?3 AND m.ends_at > ?4)
    ORDER BY p.id
    LIMIT ?5
)
RETURNING id
