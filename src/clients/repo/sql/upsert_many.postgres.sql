-- $1 to $15: the columns as arrays.
-- The conflict is on the id, not on the phone number: an existing id was read and locked, whereas a phone number
-- that exists now and did not then is another writer's, and must fail instead of being overwritten.
-- Ordered by number and external id, so that two imports of the same new clients lock in the same order.
INSERT INTO client (id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
                    attributes, created_at, updated_at, locale, email_key, tag_key, more_tags)
SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    AS row (id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id)
ORDER BY row.phone_number, row.external_id
ON CONFLICT (id) DO UPDATE SET
    phone_number = excluded.phone_number, mobile_operator_code = excluded.mobile_operator_code,
    tag = excluded.tag, timezone = excluded.timezone, email = excluded.email, push_token = excluded.push_token,
    external_id = excluded.external_id, attributes = excluded.attributes, updated_at = excluded.updated_at,
    locale = excluded.locale, email_key = excluded.email_key, tag_key = excluded.tag_key,
    more_tags = excluded.more_tags
