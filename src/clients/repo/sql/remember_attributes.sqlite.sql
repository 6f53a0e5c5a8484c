-- As remember_attributes.postgres.sql, but ?1 is a JSON array: SQLite has no arrays.
INSERT INTO client_attribute (name)
SELECT value FROM json_each(?1) WHERE true -- without it SQLite parses ON as a join's
ON CONFLICT (name) DO NOTHING
