DROP INDEX client_by_email;
DROP INDEX notification_of_event;
ALTER TABLE notification DROP COLUMN event_id;
DROP TABLE route;
DROP TABLE event;
