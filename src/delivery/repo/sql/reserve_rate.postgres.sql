-- $1 the schedule, $2 the length of a block in seconds. It uses the server's clock, which all nodes share. A schedule
-- that lies more than 64 blocks ahead is left from a slower rate, because at most 64 nodes wait for their turn.
INSERT INTO rate AS r (name, next_at) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE SET next_at = make_interval(secs => $2)
    + least(greatest(r.next_at, clock_timestamp()), clock_timestamp() + make_interval(secs => 64 * $2))
RETURNING (extract(epoch FROM r.next_at - clock_timestamp()) - $2)::float8 AS delay
