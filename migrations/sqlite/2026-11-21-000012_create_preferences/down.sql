ALTER TABLE mailing DROP COLUMN is_transactional;
ALTER TABLE mailing DROP COLUMN message_group;
ALTER TABLE notification DROP COLUMN is_transactional;
ALTER TABLE notification DROP COLUMN message_group;
DROP TABLE opt_out_address;
DROP TABLE preference;
