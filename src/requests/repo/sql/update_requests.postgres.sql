-- One statement for a whole group; SQLite runs a prepared UPDATE for each row instead. An attempt without a response
-- keeps the response of an earlier one. `r.message_id = ANY($1)` repeats the join for the planner.
UPDATE request AS r
SET executed_at = o.executed_at, updated_at = o.at, response = coalesce(o.response, r.response),
    response_body = CASE WHEN o.response IS NULL THEN r.response_body ELSE o.body END
FROM unnest($1, $2, $3, $4, $5) AS o(id, executed_at, at, response, body)
WHERE r.message_id = ANY($1) AND r.message_id = o.id
