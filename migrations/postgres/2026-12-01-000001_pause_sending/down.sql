DROP TABLE sending;
