DROP INDEX due_by_expiry;
ALTER TABLE due DROP COLUMN expires_at;
DROP INDEX message_to_client;
DROP INDEX message_to_recipient;
DROP TABLE idempotency_key;
DROP TABLE batch;
DROP TABLE notification;
