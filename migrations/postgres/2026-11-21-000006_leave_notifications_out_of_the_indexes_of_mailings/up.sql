-- A notification is of no mailing: in the indexes that mailings are looked up by it would cost as much to write as a row.
DROP INDEX message_of_mailing;
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_number, client_id) WHERE mailing_number IS NOT NULL;
DROP INDEX due_by_mailing;
CREATE INDEX due_by_mailing ON due (mailing_id) WHERE mailing_id IS NOT NULL;
