-- $1: the names, sorted, as text[].
INSERT INTO client_attribute (name)
SELECT * FROM unnest($1)
ON CONFLICT (name) DO NOTHING
