ALTER TABLE mailing DROP COLUMN rate_per_second;
