-- $1: phone numbers as bigint[], $2: external ids as text[].
-- Locks in one order, so that two imports of the same clients cannot deadlock.
SELECT * FROM client
WHERE phone_number = ANY ($1) OR external_id = ANY ($2)
ORDER BY id
FOR UPDATE
