ALTER TABLE notification DROP COLUMN html;
ALTER TABLE mailing DROP COLUMN html;
ALTER TABLE mailing DROP COLUMN subject;
