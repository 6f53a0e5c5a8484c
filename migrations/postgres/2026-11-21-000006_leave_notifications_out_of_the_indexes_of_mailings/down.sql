DROP INDEX message_of_mailing;
CREATE UNIQUE INDEX message_of_mailing ON message (mailing_number, client_id);
DROP INDEX due_by_mailing;
CREATE INDEX due_by_mailing ON due (mailing_id);
