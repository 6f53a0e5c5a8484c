-- Clients without a phone number cannot stay: this fails while there are any.
ALTER TABLE client ALTER COLUMN phone_number SET NOT NULL;
DROP INDEX client_without_email_key;
DROP INDEX client_by_email;
ALTER TABLE client DROP COLUMN email_key;
CREATE INDEX client_by_email ON client (email, id) WHERE email IS NOT NULL;
