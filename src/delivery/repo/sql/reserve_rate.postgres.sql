-- $1 the schedule, $2 the length of a block in seconds. The server's clock, which all nodes share. A schedule that lies
-- far ahead is left from a slower rate: more than 64 nodes do not wait for their turn.
INSERT INTO rate AS r (name, next_at) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE SET next_at = make_interval(secs => $2)
    + least(greatest(r.next_at, clock_timestamp()), clock_timestamp() + make_interval(secs => 64 * $2))
RETURNING (extract(epoch FROM r.next_at - clock_timestamp()) - $2)::float8 AS delay
