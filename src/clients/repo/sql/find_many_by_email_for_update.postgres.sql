-- As find_many_for_update.postgres.sql, and $3: normal forms of addresses as text[].
SELECT * FROM client
WHERE phone_number = ANY ($1) OR external_id = ANY ($2) OR email_key = ANY ($3)
ORDER BY id
FOR UPDATE
