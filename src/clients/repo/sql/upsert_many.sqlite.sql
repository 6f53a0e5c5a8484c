-- As upsert_many.postgres.sql, but ?1 is a JSON array of rows, the ids in it as hex digits, and their order does
-- not matter: there is one writer.
INSERT INTO client (id, phone_number, mobile_operator_code, tag, timezone, email, push_token, external_id,
                    attributes, created_at, updated_at)
SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
       value ->> 8, value ->> 9, value ->> 10
FROM json_each(?1) WHERE true -- without it ON would be taken for a join's
ON CONFLICT (id) DO UPDATE SET
    phone_number = excluded.phone_number, mobile_operator_code = excluded.mobile_operator_code,
    tag = excluded.tag, timezone = excluded.timezone, email = excluded.email, push_token = excluded.push_token,
    external_id = excluded.external_id, attributes = excluded.attributes, updated_at = excluded.updated_at
