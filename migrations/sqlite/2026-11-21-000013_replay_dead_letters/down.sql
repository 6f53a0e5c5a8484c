DROP TABLE replay;
DROP TABLE replayed;
DROP TABLE dead_event;
ALTER TABLE dead_letter RENAME TO dead_letter_after;
DROP INDEX dead_letter_of_mailing;
CREATE TABLE dead_letter (
    message_id BLOB    NOT NULL PRIMARY KEY,
    mailing_id BLOB,
    channel    INTEGER NOT NULL,
    failed_at  INTEGER NOT NULL,
    error      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO dead_letter (message_id, mailing_id, channel, failed_at, error)
SELECT id, mailing_id, channel, failed_at, error FROM dead_letter_after WHERE channel IS NOT NULL ORDER BY id;
DROP TABLE dead_letter_after;
CREATE INDEX dead_letter_of_mailing ON dead_letter (mailing_id, message_id);
