DROP INDEX event_of_key;
-- of an event and an action with one id the event keeps it
UPDATE event SET key = NULL WHERE namespace = 2 AND key IN (SELECT key FROM event WHERE namespace = 1 AND key IS NOT NULL);
ALTER TABLE event DROP COLUMN namespace;
ALTER TABLE event DROP COLUMN fingerprint;
CREATE UNIQUE INDEX event_of_key ON event (key) WHERE key IS NOT NULL;
