-- A digest of what the event says, so that another event with the same id is told from a repetition; none for one that was
-- taken before there were digests.
ALTER TABLE event ADD COLUMN fingerprint BLOB;
-- Whose ids the key is one of: 1 events, 2 actions.
ALTER TABLE event ADD COLUMN namespace INTEGER NOT NULL DEFAULT 1;
DROP INDEX event_of_key;
CREATE UNIQUE INDEX event_of_key ON event (key, namespace) WHERE key IS NOT NULL;
