-- A client needs one address, which may be another than a phone number.
ALTER TABLE client ALTER COLUMN phone_number DROP NOT NULL;
-- The normal form of the e-mail address, by which it is found in any spelling. Of addresses with other letters than ASCII's
-- the program makes it at its start.
ALTER TABLE client ADD COLUMN email_key text;
UPDATE client SET email_key = lower(email COLLATE "C") WHERE email COLLATE "C" ~ '^[!-~]+$';
DROP INDEX client_by_email;
CREATE INDEX client_by_email ON client (email_key, id) WHERE email_key IS NOT NULL;
CREATE INDEX client_without_email_key ON client (id) WHERE email IS NOT NULL AND email_key IS NULL;
