-- the earlier version reads the type in the body alone
ALTER TABLE dead_event DROP COLUMN name;
DROP TABLE refused_event;
DROP TABLE broker_position;
