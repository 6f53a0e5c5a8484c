-- What a mailing says besides its text, on the channels that show it.
ALTER TABLE mailing ADD COLUMN subject text;
ALTER TABLE mailing ADD COLUMN html text;
-- The text of an e-mail as HTML.
ALTER TABLE notification ADD COLUMN html text;
